"""Each check in the browser fires on a planted defect, and is silent without it."""

import check_browser
import pytest

BROWSER = check_browser.find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium found"),
]
PAGE = """<!DOCTYPE html><html lang="en"><head><title>T</title><meta name="viewport" content="width=device-width"></head>
<body><main><article><h1>T</h1>%s</article></main></body></html>"""
RESULTS = '<ul id="search-results">%s</ul>'
FOUND = RESULTS % '<li><a href="index.html">score</a></li>'


@pytest.fixture(scope="module")
def page():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=list(check_browser.ARGUMENTS))
        yield browser.new_page()
        browser.close()


def look(page, body: str, *, width: int = 390, narrow: bool = True) -> list[str]:
    page.set_viewport_size({"width": width, "height": 800})
    page.set_content(PAGE % body)
    return list(check_browser.look(page, narrow=narrow))


def test_a_good_page_is_clean(page):
    body = (
        '<p>One dollar, $5.</p><div style="overflow-x: auto" tabindex="0"><div style="width: 900px">wide</div></div><pre>\\frac{1}{2}</pre>'
    )
    assert look(page, body) == []
    assert look(page, body, width=1280, narrow=False) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<p>and so \\(x^2\\) holds</p>", "raw LaTeX"),
        ("<p>and so $x_1$ holds</p>", "raw LaTeX"),
        ("<p>and so \\frac{1}{2} holds</p>", "raw LaTeX"),
        ("<mjx-merror title='Missing brace'>x</mjx-merror>", "error: Missing brace"),
        ('<div style="width: 900px">wide</div>', "px wide in a window of 390"),
        ('<div style="overflow-x: hidden"><div style="width: 900px">cut</div></div>', "ends at"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "axe image-alt (critical)"),
    ],
)
def test_a_planted_defect_is_found(page, body, message):
    assert any(message in found for found in look(page, body))


def test_a_formula_that_is_not_rendered_is_found(page):
    page.set_content(PAGE % '<span class="math">x</span>')
    assert page.evaluate(check_browser.FORMULAS) == ["not rendered: x"]


def test_a_dollar_sign_beside_a_formula_is_found(page):
    page.set_content(PAGE % '<p>so $<span class="math"><mjx-container>x</mjx-container></span>.$</p>')
    assert page.evaluate(check_browser.FORMULAS) == ["a dollar sign beside a formula: so $", "a dollar sign beside a formula: .$"]


def test_text_in_the_color_of_its_background_is_found(page):
    found = look(page, '<p style="color: #fff; background: #fff">unseen</p>', width=1280, narrow=False)
    assert len(found) == 2
    assert "axe color-contrast" in found[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_low_contrast_is_found_in_both_themes(page, theme):
    style = f"<style>html[data-theme={theme}] p {{ color: #ccc; background: #fff }}</style>"
    found = look(page, style + "<p>hardly visible</p>", width=1280, narrow=False)
    assert len(found) == 1
    assert found[0].startswith(f"{theme}: axe color-contrast")


def test_a_single_text_of_low_contrast_among_many_alike_is_found(page):
    alike = "<p>good</p>" * 9
    for odd in (
        '<p style="color: #ccc">pale</p>',
        '<div style="background: #333"><p>dark</p></div>',
        '<div style="opacity: .3"><p>faint</p></div>',
    ):
        found = look(page, alike + odd + alike, width=1280, narrow=False)
        assert any("light: axe color-contrast (serious): 1 elements" in line for line in found), odd


def test_requests_console_and_search_are_watched(tmp_path):
    # The address is reserved for documentation and leads nowhere.
    bad = "<script>console.error('oh no'); throw new Error('broken')</script><img alt='x' src='http://192.0.2.1/x.png'>"
    (tmp_path / "index.html").write_text(PAGE % bad)
    (tmp_path / "search.html").write_text(PAGE % FOUND)
    found = check_browser.check(tmp_path, BROWSER)
    for message in ("asks the network for http://192.0.2.1/x.png", "console: oh no", "script error: broken"):
        assert any(message in line for line in found)
    assert not any("search" in line for line in found)


def test_a_search_without_results_is_found(page, tmp_path):
    (tmp_path / "search.html").write_text(PAGE % RESULTS % "")
    assert list(check_browser._search(page, tmp_path / "search.html", "score", patience=300)) == ["a search for 'score' finds nothing"]
