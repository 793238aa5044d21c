"""Highlighted pages of the package's source, in the site, so that links to code work from disk."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import kss


def modules() -> dict[str, Path]:
    """Every module of the package with its file."""
    root = Path(kss.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = ("kss", *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    if app.builder.format != "html":
        return
    for name, path in app.kss_source_modules.items():  # type: ignore[attr-defined] # set by _collect
        code = app.builder.highlighter.highlight_block(
            path.read_text(encoding="utf-8"), "python", linenos="inline", lineanchors="L", anchorlinenos=True
        )
        body = f'<h1>Source of <code>{name}</code></h1><div class="kss-source">{code}</div>'
        yield "source/" + name.replace(".", "/"), {"title": f"Source of {name}", "body": body}, "page.html"


def _link_objects(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A link to the source beside each documented object."""
    if app.builder.format != "html" or not app.config.kss_source_pages:
        return
    for entry in doctree.findall(addnodes.desc):
        for signature in entry.findall(addnodes.desc_signature):
            if signature.parent is entry and (line := _line_of(signature.get("module"), signature.get("fullname", ""))):
                page = app.builder.get_relative_uri(docname, "source/" + line[0].replace(".", "/"))
                link = nodes.reference(
                    "", "", nodes.inline("", "[source]"), internal=True, refuri=f"{page}#L-{line[1]}", classes=["kss-to-source"]
                )
                signature += link


def _line_of(module: str | None, name: str) -> tuple[str, int] | None:
    """Module and line where an object is defined, which may be another module than the one it is documented in."""
    import importlib
    import inspect

    if not module or not name:
        return None
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    found = inspect.unwrap(found.fget) if isinstance(found, property) and found.fget else found
    try:
        found = inspect.unwrap(found)
        home = found.__module__
        return (home, inspect.getsourcelines(found)[1]) if home.split(".")[0] == "kss" else None
    except (AttributeError, TypeError, OSError, ValueError):
        return None


def _to_rst(app: Sphinx, what: str, name: str, object: Any, options: Any, lines: list[str]) -> None:
    """The house's docstrings set formulas as indented blocks; reST takes those for quotations unless told otherwise."""
    result: list[str] = []
    for i, line in enumerate(lines):
        opens = line.startswith("    ") and i >= 2 and not lines[i - 1].strip() and lines[i - 2][:1] not in ("", " ", "-", "*", ".", ">")
        if opens and not result[-2].endswith("::"):
            result += ["::", ""]
        result.append(re.sub(r"(?<![`$\\\w])\$([^$`]+)\$", r":math:`\1`", line))
    lines[:] = result


def _collect(app: Sphinx) -> None:
    app.kss_source_modules = modules() if app.config.kss_source_pages else {}  # type: ignore[attr-defined] # set by _collect


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_config_value("kss_source_pages", True, "html")
    app.connect("autodoc-process-docstring", _to_rst, priority=100)
    app.connect("builder-inited", _collect)
    app.connect("html-collect-pages", _pages)
    app.connect("doctree-resolved", _link_objects)
