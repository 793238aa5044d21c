"""Each detector fires on a planted defect, and is silent without it."""

import json

import check_site
import pytest

GOOD = """<html><head><link rel="stylesheet" href="a.css"></head>
<body><h1 id="top">T<a class="headerlink" href="#top">#</a></h1>%s</body></html>"""


def problems(site, body: str, **files: str) -> list[str]:
    html = site(index_dot_html=GOOD % body, a_dot_css="p { color: black }", **files)
    return check_site.check(html, html.parent / "root")


def test_a_good_page_is_clean(site):
    assert problems(site, '<a href="#top">up</a> <a href="https://example.org/paper.pdf">prose may link</a> <a href="a.css">file</a>') == []


def test_an_empty_site_is_a_problem(tmp_path):
    assert check_site.check(tmp_path, tmp_path) == [f"no page in {tmp_path}"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<a href="missing.html">x</a>', "leads nowhere"),
        ('<a href="../outside.html">x</a>', "leads nowhere"),
        ('<a href="#missing">x</a>', "anchor that is not there"),
        ('<a href="file:///etc/hosts">x</a>', "leaves the site"),
        ('<img src="missing.png">', "leads nowhere"),
        ('<script src="https://cdn.example.org/x.js"></script>', "loads https://cdn"),
        ('<script src="//cdn.example.org/x.js"></script>', "loads //cdn"),
        ('<img src="https://example.org/x.png">', "loads https://example"),
        ('<img srcset="https://example.org/x.png 2x">', "loads https://example"),
        ('<link rel="preload stylesheet" href="https://example.org/x.css">', "loads https://example"),
        ('<iframe src="https://example.org/"></iframe>', "loads https://example"),
        ("<script>import('https://cdn.example.org/x.mjs')</script>", "a script names"),
        ("<style>@import 'https://example.org/x.css';</style>", "a style names"),
        ('<p style="background: url(https://example.org/x.png)">x</p>', "a style names"),
        ('<div class="output traceback">x</div>', "a traceback"),
        ("<pre>Traceback (most recent call last)</pre>", "a traceback"),
        ('<h1>Second<a class="headerlink" href="#top">#</a></h1>', "2 titles"),
    ],
)
def test_a_planted_defect_is_found(site, body, message):
    found = problems(site, body)
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b_dot_css", "@font-face { src: url('https://example.org/x.woff2') }"),
        ("b_dot_js", "fetch(`https://example.org/x.json`)"),
    ],
)
def test_a_remote_address_in_a_style_sheet_or_script_is_found(site, name, text):
    assert len(problems(site, "", **{name: text})) == 1


def test_a_license_in_a_script_is_not_an_asset(site):
    assert problems(site, "", b_dot_js="// see https://example.org/library.js\n/* MIT, https://example.org/license */") == []


def test_a_failed_cell_in_a_notebook_is_found(site):
    notebook = {"cells": [{"cell_type": "code", "outputs": [{"output_type": "error"}]}]}
    assert problems(site, "", _sources__x_dot_ipynb=json.dumps(notebook)) == ["_sources/x.ipynb: a cell ended in an error"]


def test_the_folder_of_the_build_is_found(site, tmp_path):
    assert problems(site, f"<p>{tmp_path / 'root'}/kss/x.py:3: UserWarning</p>") == ["index.html: shows the folder it was built in"]
