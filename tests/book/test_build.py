"""The build is strict, on the first try and on the second; and it never shows outputs of other code."""

import shutil
from pathlib import Path

import build
import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Page

"""
GOOD = """```{prf:theorem} First
:label: first
Text.
```

```{claim} heat.tweedie
```

See {prf:ref}`claim-heat-tweedie` and {prf:ref}`first`.

```{code-cell} ipython3
print(6 * 7)
```
"""


@pytest.fixture
def book(tmp_path):
    """The book's settings and extension around a single page."""
    shutil.copytree(ROOT / "book/_ext", tmp_path / "book/_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book/_static", tmp_path / "book/_static")
    config = (ROOT / "_config.yml").read_text()
    assert config.count("  config:\n") == 1
    # The pages of source would take most of the time.
    (tmp_path / "_config.yml").write_text(config.replace("  config:\n", "  config:\n    kss_source_pages: false\n"))
    (tmp_path / "book/references.bib").touch()
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n  - numbered: true\n    chapters:\n      - file: book/page\n"
    )
    (tmp_path / "book/index.md").write_text("# Start\n")

    def write(text: str) -> Path:
        (tmp_path / "book/page.md").write_text(HEADER + text)
        return tmp_path

    return write


@pytest.mark.slow
def test_a_good_page_builds_and_counts_claims_with_theorems(book):
    root = book(GOOD.replace("print(6 * 7)", "print('x', file=open('runs', 'a'))\nprint(6 * 7)"))
    build.execute_pages(root)
    build.execute_pages(root)
    assert build.build(root) == 0
    assert (root / "book/runs").read_text() == "x\n"  # the build took what was run before
    html = (root / "_build/html/book/page.html").read_text()
    for text in ("Theorem 1.1", "Claim 1.2", "42", "page.ipynb", "Version ", "commit unknown"):
        assert text in html
    assert (root / "_build/html/_sources/book/page.ipynb").is_file()
    assert (root / "_build/html/_static/mathjax/tex-mml-chtml.js").is_file()
    assert "thebe@" not in html


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defects", "messages"),
    [
        pytest.param("```{code-cell} ipython3\n1 / 0\n```\n", ["ZeroDivisionError"], id="failing cell"),
        pytest.param(
            "{ref}`gone1`, {prf:ref}`gone2`, [x](#gone3), {cite}`gone1900`, {claim}`no.such1`\n\n```{claim} no.such2\n```\n",
            ["gone1", "gone2", "gone3", "gone1900", "unknown claim id: no.such1", "unknown claim id: no.such2"],
            id="broken references and unknown claims",
        ),
    ],
)
def test_a_defect_fails_the_first_build_and_the_second(book, defects, messages, capfd):
    root = book(defects)
    for _ in range(2):
        assert build.build(root) != 0
        output = "".join(capfd.readouterr())
        for message in messages:
            assert message in output


def test_cached_outputs_go_when_the_package_changes_and_stay_when_it_does_not(tmp_path):
    (tmp_path / "kss/data").mkdir(parents=True)
    for name in ("constraints.txt", "pyproject.toml", "kss/a.py", "kss/data/table.csv"):
        (tmp_path / name).write_text("1")
    cache = tmp_path / "_build/.jupyter_cache"

    def survives() -> bool:
        cache.mkdir(parents=True, exist_ok=True)
        build.drop_stale_cache(tmp_path)
        return cache.exists()

    assert not survives()
    assert survives()
    for name in ("constraints.txt", "pyproject.toml", "kss/a.py", "kss/data/table.csv"):
        (tmp_path / name).write_text("2")
        assert not survives(), name
        assert survives(), name
    (tmp_path / "kss/a.py").rename(tmp_path / "kss/b.py")
    assert not survives()


def test_without_a_browser_the_build_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(build.check_browser, "find_browser", lambda: None)
    monkeypatch.delenv("KSS_REQUIRE_BROWSER", raising=False)
    assert build.browser_problems(tmp_path) == []
    assert "browser checks: not run (no Chromium found)" in capsys.readouterr().out
    monkeypatch.setenv("KSS_REQUIRE_BROWSER", "1")
    assert build.browser_problems(tmp_path) != []
