"""Checks of the built site that need no browser; each detector returns what it found, one line each.

Links and anchors resolve; nothing a page loads is remote; no cell ended in a traceback; no path of the building machine.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "icon", "shortcut", "manifest", "preconnect", "dns-prefetch"}
"""`rel` of the <link>s that make a browser load something."""
# In a script: a quoted address of something that is loaded. Licenses and documentation are linked in comments, and are not.
_SCRIPT_URL = re.compile(r"""["'`](?:https?:)?//[^"'`\s]+\.(?:m?js|css|woff2?|ttf|json|wasm)\b""")
_STYLE_URL = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')]+)""")

UPSTREAM = {
    ("_static/mathjax/tex-mml-chtml.js", "wicked-good-xpath"): "asked for by browsers without document.evaluate only, which is none",
}
"""Addresses in other people's scripts that no page loads: (file, part of the address) and why."""


class Page(HTMLParser):
    """What one HTML file links to, loads and offers as anchors."""

    def __init__(self, site: Path, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.site, self.path, self.name = site, path, path.relative_to(site).as_posix()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._inside = tag
        for name in ("id", "name"):
            if name in given and (name == "id" or tag == "a"):
                self.anchors.add(given[name])
        if tag in ("a", "area"):
            self.links.append(given.get("href", ""))
        elif tag == "link":
            (self.loads if LOADING_LINKS & set(given.get("rel", "").split()) else self.links).append(given.get("href", ""))
        else:
            self.loads += [given[name] for name in ("src", "poster", "data") if given.get(name)]
            self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
            if tag in ("image", "use"):
                self.loads.append(given.get("href", given.get("xlink:href", "")))
        if "style" in given:
            self.styles.append(given["style"])
        if tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            self.links.append(given.get("content", "").partition("url=")[2])

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside == "style":
            self.styles.append(data)


class Site:
    """The pages of a built site, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @cached_property
    def pages(self) -> dict[Path, Page]:
        """Every page; `_static` holds fragments that the theme leaves there."""
        found = [path for path in sorted(self.root.rglob("*.html")) if "_static" not in path.relative_to(self.root).parts]
        return {path: Page(self.root, path) for path in found}


def is_remote(url: str) -> bool:
    """Whether a browser would ask a network for it."""
    return urlsplit(url.strip()).scheme in ("http", "https", "ftp", "ws", "wss") or url.strip().startswith("//")


def broken_links(site: Site) -> Iterator[str]:
    """Links to files or anchors of the site that are not there."""
    for page in site.pages.values():
        for url in dict.fromkeys(page.links + page.loads):
            parts = urlsplit(url.strip())
            if is_remote(url) or parts.scheme in ("mailto", "data", "javascript", "blob"):
                continue
            if parts.scheme:
                yield f"{page.name}: {url!r} has an address that leaves the site"
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file() or not target.is_relative_to(site.root):
                yield f"{page.name}: {url!r} leads nowhere"
            elif parts.fragment and target in site.pages and unquote(parts.fragment) not in site.pages[target].anchors:
                yield f"{page.name}: {url!r} leads to an anchor that is not there"


def remote_assets(site: Site) -> Iterator[str]:
    """Anything a page would load from a network: in its markup, its scripts and its style sheets."""
    for page in site.pages.values():
        for url in page.loads:
            if is_remote(url):
                yield f"{page.name}: loads {url}"
        for script in page.scripts:
            yield from (f"{page.name}: a script names {found.group()[1:]}" for found in _SCRIPT_URL.finditer(script))
        for style in page.styles:
            yield from (f"{page.name}: a style names {found.group(1)}" for found in _STYLE_URL.finditer(style))
    for path in sorted(site.root.rglob("*")):
        name = path.relative_to(site.root).as_posix()
        if path.suffix not in (".css", ".js"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for found in (_STYLE_URL if path.suffix == ".css" else _SCRIPT_URL).finditer(text):
            if not any(name == file and part in found.group() for file, part in UPSTREAM):
                yield f"{name}: names {found.group()[:100]}"


def tracebacks(site: Site) -> Iterator[str]:
    """Cells that ended in an error, in the pages and in the notebooks beside them."""
    for page in site.pages.values():
        if "output traceback" in page.text or ("Traceback (most recent call last)" in page.text and not page.name.startswith("source/")):
            yield f"{page.name}: a traceback"
    for path in sorted(site.root.rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if any(output["output_type"] == "error" for output in cell.get("outputs", ())):
                yield f"{path.relative_to(site.root).as_posix()}: a cell ended in an error"


def machine_paths(site: Site, root: Path) -> Iterator[str]:
    """Pages and notebooks that show where they were built."""
    for path in sorted([*site.pages, *site.root.rglob("*.ipynb")]):
        if f"{root.resolve()}/" in path.read_text(encoding="utf-8"):
            yield f"{path.relative_to(site.root).as_posix()}: shows the folder it was built in"


def repeated_titles(site: Site) -> Iterator[str]:
    """Pages with more than one title, which break numbering and contents."""
    for page in site.pages.values():
        if (n := len(re.findall(r"<h1\b[^>]*>(?:(?!</h1>).)*headerlink", page.text))) > 1:
            yield f"{page.name}: {n} titles"


def check(html: Path, root: Path) -> list[str]:
    """Everything wrong with the site in `html`, built in `root`."""
    site = Site(html)
    if not site.pages:
        return [f"no page in {html}"]
    return [*broken_links(site), *remote_assets(site), *tracebacks(site), *machine_paths(site, root), *repeated_titles(site)]
