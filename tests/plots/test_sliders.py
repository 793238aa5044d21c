import base64
import io
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from kss import plots
from kss.plots import sliders

X = np.linspace(-3, 3, 150)
T = np.geomspace(2, 0.01, 40)
WAVES = np.stack([np.exp(-(X**2) / (2 * (t + 0.05))) for t in T])
NOISE = torch.rand(40, 24, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def curves(**change):
    options = {
        "x": X,
        "curves": {"density": {"smoothed": WAVES, "target": WAVES[0]}, "score": {"smoothed": np.gradient(WAVES, axis=1)}},
        "values": T,
        "value_label": "noise variance t",
        "alt": "A bump sharpens as t falls.",
        "x_label": "x",
    }
    return plots.CurveSlider(**(options | change))


def images(**change):
    options = {"frames": NOISE, "values": T, "value_label": "noise variance t", "alt": "Twenty-four sheets of noise.", "columns": 8}
    return plots.ImageSlider(**(options | change))


# --- what is in the HTML


def test_sizes():
    single = curves(curves={"a": np.sin(np.outer(np.arange(40), X))})
    assert len(single._repr_html_()) < 30_000
    four = {name: {"a": WAVES, "b": WAVES * np.sin(40 * X)} for name in ("upper", "lower")}
    assert len(curves(curves=four)._repr_html_()) < 100_000
    assert len(images()._repr_html_()) < 100_000
    # Curves that leave their panel by far cost no more.
    assert len(curves(curves={"a": 1e300 * WAVES}, y_limits=(0, 1))._repr_html_()) < 30_000


def test_nothing_is_fetched():
    for figure in (curves(), images()):
        text = figure._repr_html_()
        assert not re.search(r"https?:|//|@import|url\(", re.sub(r"base64,[^\"]*|\"png\":\[[^]]*\]|[A-Za-z0-9+/]{40,}", "", text))


@pytest.mark.parametrize("make", [curves, images])
def test_texts_are_escaped(make):
    nasty = "</script><b>\"&'$x$"
    text = make(alt=nasty, value_label=nasty, values=[nasty] * 40)._repr_html_()
    assert text.count("</script>") == 1
    assert "<b>" not in text
    assert "mathjax_ignore" in text


def test_labels_of_curves_are_escaped():
    text = curves(curves={"<i>&": {"<u>": WAVES}}, x_label="<s>")._repr_html_()
    assert not re.search("<i>|<u>|<s>", text)
    assert "&lt;i&gt;&amp;" in text


def test_jupyterlab_leaves_the_arrow_keys_to_the_slider():
    # On the input itself: JupyterLab looks at the element with the focus first, and takes the arrows of any other.
    assert re.search(r'<input [^>]*data-lm-suppress-shortcuts="true"', curves()._repr_html_())


def test_equal_figures_are_equal_text():
    assert curves()._repr_html_() == curves()._repr_html_()
    assert images()._repr_html_() == images()._repr_html_()


def test_tensors_and_arrays_give_the_same():
    assert images(frames=NOISE.numpy(), values=list(T))._repr_html_() == images(values=torch.as_tensor(T))._repr_html_()


def test_a_label_keeps_its_look_across_panels():
    strokes = re.findall(r'class="kss-curve" (stroke="[^"]*" stroke-dasharray="[^"]*")', curves()._repr_html_())
    legend, drawn = strokes[:2], strokes[2:]
    assert drawn == [legend[0], legend[1], legend[0]]
    assert len(set(strokes)) == 2


def test_the_first_picture_is_the_frame_start():
    row = np.zeros((3, 2))
    row[1] = (0, 1)
    text = plots.CurveSlider([0, 1], {"a": row}, "abc", "phase", "a line", "x", "y", y_limits=(0, 1), start=1)._repr_html_()
    assert re.search(r'd="M0,2300 \d+,0"', text)
    assert '<output aria-live="off">b</output>' in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (-0.5, "−0.5"), (1e-5, "1e−5"), (1e12, "1e12"), (0.0123456, "0.01235"), (1e-10, "1e−10")]
)
def test_numbers_are_short(value, text):
    assert sliders._number(value) == text


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1e-9, 1e-9), (1e6, 1e6 + 1), (-3.0, 40.0)])
def test_ticks_lie_inside_and_are_few(limits):
    ticks = sliders._ticks(*limits)
    assert 2 <= len(ticks) <= 6
    assert all(limits[0] - 1e-9 <= tick <= limits[1] + 1e-9 for tick in ticks)


def decode(code):
    """Base64 VLQ, written from its definition."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    numbers, bits = [], []
    for letter in code:
        value = alphabet.index(letter)
        bits += [value >> k & 1 for k in range(5)]
        if not value & 32:
            size = sum(bit << k for k, bit in enumerate(bits[1:]))
            numbers.append(-size if bits[0] else size)
            bits = []
    return np.cumsum(numbers).tolist()


def test_the_code_of_the_curves():
    numbers = torch.randint(-5000, 5000, (500,), generator=torch.Generator().manual_seed(0)).numpy()
    assert decode(sliders._encode(numbers)) == numbers.tolist()
    assert decode(sliders._encode(np.array([0, 0, 15, 16, -16, 1000000]))) == [0, 0, 15, 16, -16, 1000000]


def test_pictures_are_what_they_were():
    text = images(frames=NOISE[:1, :3], values=[0], columns=2)._repr_html_()
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r'src="data:image/png;base64,([^"]*)"', text)[1])))
    assert picture.size == (17, 17)
    pixels = np.asarray(picture.convert("RGBA")).astype(float)
    opaque = pixels[..., 3] == 255
    assert opaque[:8, :8].all()
    assert not opaque[8].any()
    assert not opaque[9:, 9:].any()
    shown = 1 - pixels[9:, :8, 0] / 127.5
    assert np.abs(shown - NOISE[0, 2].numpy()).max() <= 1 / 63 + 1 / 255


def test_pixels_outside_the_range_are_the_nearest():
    extreme = torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2)
    near, far = (images(frames=scale * extreme, values=[0])._repr_html_() for scale in (1, 1000))
    assert near == far


# --- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X[::-1].copy()}, "x = .*increasing"),
        ({"x": X[:1]}, "x = .*increasing"),
        ({"x": X[:-1]}, r"curves\['smoothed'\] = .*expected shape \(40, 149\), or \(149,\)"),
        ({"curves": {}}, "curves = "),
        ({"curves": {"a": {}}}, "curves = .*at least one curve"),
        ({"curves": {"a": WAVES, "b": {"c": WAVES}}}, "curves = "),
        ({"curves": {"a": np.where(X > 0, np.nan, WAVES)}}, r"curves\['a'\] = .*finite"),
        ({"curves": {str(k): WAVES for k in range(6)}}, "curves = .*at most 5"),
        ({"values": T[:-1]}, r"expected shape \(39, 150\)"),
        ({"value_label": " "}, "value_label = "),
        ({"alt": ""}, "alt = ''.*text alternative"),
        ({"start": 40}, "start = 40"),
        ({"start": -1}, "start = -1"),
        ({"y_limits": (1.0, 1.0)}, "y_limits = .*low < high"),
        ({"y_limits": {"score": (2.0, 1.0)}}, "y_limits = .*low < high"),
        ({"y_limits": {"scores": (0.0, 1.0)}}, "y_limits = .*expected limits of panels"),
        ({"rug": [[1.0]]}, "rug = "),
    ],
)
def test_curve_slider_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        curves(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": NOISE[0]}, "frames = .*4 axes"),
        ({"frames": NOISE[:0]}, "frames = "),
        ({"frames": NOISE * torch.nan}, "frames = .*finite"),
        ({"values": T[:3]}, "values = .*expected 40 values"),
        ({"columns": 0}, "columns = 0"),
        ({"alt": "  "}, "alt = "),
        ({"start": 99}, "start = 99"),
    ],
)
def test_image_slider_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        images(**change)


def contrast(color, other):
    """The ratio of the Web Content Accessibility Guidelines 2.1."""

    def luminance(text):
        channels = [int(text[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(color), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("color", plots.COLORS)
@pytest.mark.parametrize("background", ["#ffffff", "#14181e"])
def test_curves_stand_out_on_light_and_dark_pages(color, background):
    assert contrast(color, background) >= 3


# --- in a browser


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: movable figures were not moved")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>figures</title></head><body>%s</body></html>"""


@pytest.fixture
def page(browser, tmp_path):
    """A page from disk with three figures, one of them twice; it must log nothing and ask for nothing else."""
    path = tmp_path / "figures.html"
    path.write_text(PAGE % "<p>and</p>".join(figure._repr_html_() for figure in (curves(), images(), curves())), encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page, noise = context.new_page(), []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("request", lambda request: request.url.startswith("data:") or noise.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert noise == [path.as_uri()]
    context.close()


def test_arrow_keys_move_one_figure_and_leave_the_others(page):
    sliders = page.get_by_label("noise variance t")
    assert sliders.count() == 3
    outputs = page.locator("output")
    paths = page.locator("svg.kss-plot path.kss-curve")
    start = [paths.nth(k).get_attribute("d") for k in range(6)]
    sliders.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert outputs.nth(0).inner_text() == sliders.nth(0).get_attribute("aria-valuetext") == f"{T[2]:.3g}"
    moved = [paths.nth(k).get_attribute("d") for k in range(6)]
    assert [a != b for a, b in zip(start, moved, strict=True)] == [True, False, True, False, False, False]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    # The picture drawn by the script is the picture drawn without it.
    assert [paths.nth(k).get_attribute("d") for k in range(6)] == start
    assert outputs.nth(2).inner_text() == "2"


def test_images_follow_the_slider(page):
    slider, sheet = page.get_by_label("noise variance t").nth(1), page.get_by_role("img", name="Twenty-four sheets of noise.")
    start = sheet.get_attribute("src")
    slider.focus()
    page.keyboard.press("End")
    assert page.locator("output").nth(1).inner_text() == "0.01"
    assert sheet.get_attribute("src") != start
    assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") == 71
    page.keyboard.press("Home")
    assert sheet.get_attribute("src") == start


def test_figures_have_names_and_fit_a_telephone(page):
    assert page.get_by_role("img", name="A bump sharpens as t falls.").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_paper_shows_the_frame_without_the_slider(page):
    page.emulate_media(media="print")
    assert page.locator("input:visible").count() == 0
    assert page.locator("output:visible").count() == 3


def test_without_javascript_the_first_frame_stands(browser, tmp_path):
    path = tmp_path / "still.html"
    path.write_text(PAGE % (curves()._repr_html_() + images()._repr_html_()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("input:visible").count() == 0
    assert page.locator("output").all_inner_texts() == ["2", "2"]
    assert page.get_by_role("img", name="A bump sharpens as t falls.").is_visible()
    context.close()


def test_figures_satisfy_axe(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert [(item["id"], [node["html"][:80] for node in item["nodes"]]) for item in found] == []
