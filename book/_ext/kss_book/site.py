"""What makes the site self-contained: formulas without a network, notebooks to download, the footer."""

import re
import shutil
import subprocess
from html import escape
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from kss_book.markup import element

NAME = "kernel-smoothed-scores"
MATHJAX_PARTS = ("tex-mml-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")
"""What pages load; the whole of MathJax is twelve times as large."""


def _copy_static(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("sphinx-mathjax-offline is not installed: formulas would need a network")
    source, target = Path(spec.origin).parent / "static" / "mathjax", Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / part, target / part)


def _drop_font_preloads(app: Sphinx, error: Exception | None) -> None:
    # The theme asks for its icon fonts with `crossorigin`, which browsers refuse for files on disk; the style sheet loads them anyway.
    if error is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            page.write_text(re.sub(r'<link rel="preload" as="font"[^>]*>\n?', "", text), encoding="utf-8")


def _is_notebook(app: Sphinx, docname: str) -> bool:
    return "kernelspec" in app.env.metadata.get(docname, {})


def _offer_notebook(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A line under the title of each executed page, which works without a script."""
    if app.builder.format != "html" or not _is_notebook(app, docname):
        return
    url = app.builder.get_relative_uri(docname, "").removesuffix(".html") + f"_sources/{docname}.ipynb"
    link = nodes.reference("", "Download this chapter as a notebook (.ipynb)", internal=True, refuri=url)
    for title in doctree.findall(nodes.title):
        title.parent.insert(title.parent.index(title) + 1, element("p", link, classes="kss-download"))
        return


def _page_context(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if doctree is not None and _is_notebook(app, pagename):
        executed = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
        target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(executed, target)
        context["ipynb_source"] = f"{pagename}.ipynb"  # the theme's download menu shows it
    report = context["pathto"]("book/report_error") if "book/report_error" in app.env.all_docs else ""
    link = f'<a href="{report}">Report an error of mathematics</a>' if report else ""
    context["theme_extra_footer"] = f'<p class="kss-version">{escape(version_line(Path(app.srcdir)))}</p><p>{link}</p>'


def _drop_remote_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    # Jupyter Book always loads sphinx-thebe, whose script comes from a network; nothing here uses it.
    for key in ("script_files", "css_files"):
        context[key] = [
            file
            for file in context[key]
            if "thebe" not in f"{getattr(file, 'filename', file)}{getattr(file, 'attributes', {}).get('body', '')}"
        ]


def version_line(root: Path) -> str:
    """Version, commit and date of what the pages show."""
    commit, date = _git(root, "rev-parse", "--short=10", "HEAD"), _git(root, "log", "-1", "--format=%cs")
    changed = " with local changes" if commit and _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"Version {metadata.version(NAME)}, commit {commit or 'unknown'}{changed}, {date or 'date unknown'}"


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class WhereToReport(SphinxDirective):
    """`{where-to-report}`: the address from pyproject's `project.urls`, if there is one."""

    def run(self) -> list[nodes.Node]:
        for entry in metadata.metadata(NAME).get_all("Project-URL") or []:
            name, _, url = entry.partition(",")
            if name.strip().lower() in ("issues", "bug tracker", "tracker"):
                url = url.strip()
                return [nodes.paragraph("", "", nodes.Text("Send it to "), nodes.reference("", url, refuri=url), nodes.Text("."))]
        return [
            nodes.paragraph("", "Send it where you got this book from: the issue tracker of that repository, or whoever gave you the copy.")
        ]


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.add_css_file("kss.css", priority=900)
    app.add_directive("where-to-report", WhereToReport)
    app.connect("doctree-resolved", _offer_notebook)
    app.connect("html-page-context", _page_context, priority=100)
    app.connect("html-page-context", _drop_remote_scripts, priority=900)
    app.connect("build-finished", _copy_static)
    app.connect("build-finished", _drop_font_preloads)
