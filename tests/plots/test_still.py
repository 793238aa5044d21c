import base64
import re
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from kss import data, plots


@pytest.fixture(autouse=True)
def own_settings():
    with mpl.rc_context():
        yield
    plt.close("all")


def content(figure):
    kind, text = re.search(r'src="data:image/([a-z+]*);base64,([^"]*)"', figure._repr_html_()).groups()
    return kind, base64.b64decode(text)


def test_house_style():
    plots.use_house_style()
    assert mpl.rcParams["figure.facecolor"] == "white"
    figure, axes = plt.subplots()
    lines = [axes.plot([0, 1], [0, k])[0] for k in range(5)]
    assert len({line.get_color() for line in lines}) == 5
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 5
    plt.close(figure)


def test_the_house_style_needs_no_notebook():
    # It must not start an IPython of its own where there is none.
    code = "import sys; from kss import plots; plots.use_house_style(); sys.exit('IPython.core.interactiveshell' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_figures_are_svg_in_a_notebook():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        plots.use_house_style()
        bundle, _ = shell.display_formatter.format(plots.image_grid(np.zeros((2, 3, 3))))
        assert "image/svg+xml" in bundle
    finally:
        InteractiveShell.clear_instance()


def test_image_grid():
    images = data.digits().images()[:12]
    figure = plots.image_grid(images, titles=[f"number {k}" for k in range(12)], columns=5)
    (axes,) = figure.axes
    sheet = axes.images[0].get_array()
    gap = round((sheet.shape[1] - 5 * 8) / 4)
    assert gap == 1
    assert np.array_equal(sheet[:8, 9:17], images[1])
    assert np.array_equal(sheet[-8:, 9:17], images[11])
    assert sheet.mask[:, 8].all()
    assert sheet.mask[-8:, 18:].all()
    assert [text.get_text() for text in axes.texts] == [f"number {k}" for k in range(12)]
    assert not plt.get_fignums()  # outside pyplot: nothing to close, nothing shown twice


def test_pixels_of_an_image_grid_stay_sharp():
    kind, svg = content(plots.accessible(plots.image_grid(torch.rand(3, 8, 8)), "noise"))
    assert kind == "svg+xml"
    assert b"pixelated" in svg


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": np.zeros((8, 8))}, "images = .*3 axes"),
        ({"images": np.zeros((0, 8, 8))}, "images = "),
        ({"images": np.full((1, 8, 8), np.nan)}, "images = .*finite"),
        ({"images": np.zeros((2, 8, 8)), "titles": ["one"]}, "titles = .*expected 2 titles"),
        ({"images": np.zeros((2, 8, 8)), "columns": 0}, "columns = 0"),
    ],
)
def test_image_grid_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.image_grid(**arguments)


def test_accessible():
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    shown = plots.accessible(figure, 'a "line" <b> & more')
    text = shown._repr_html_()
    assert 'alt="a &quot;line&quot; &lt;b&gt; &amp; more"' in text
    assert not plt.get_fignums()
    assert repr(shown) == "AccessibleFigure('a \"line\" <b> & more')"
    assert content(shown)[0] == "svg+xml"


def test_equal_figures_are_equal_text():
    def draw():
        figure, axes = plt.subplots()
        axes.plot([0, 1], label="$x$")
        axes.legend()
        return plots.accessible(figure, "a line")._repr_html_()

    assert draw() == draw()


def test_a_figure_of_many_points_is_a_png():
    figure, axes = plt.subplots()
    axes.plot(*torch.rand(2, 20000, generator=torch.Generator().manual_seed(0)).numpy(), ".", markersize=1)
    kind, png = content(plots.accessible(figure, "noise"))
    assert kind == "png"
    assert png.startswith(b"\x89PNG")
    assert len(png) < 400_000


def test_accessible_needs_a_text():
    with pytest.raises(ValueError, match=r"alt = ' '.*text alternative"):
        plots.accessible(plt.figure(), " ")
