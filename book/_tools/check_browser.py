"""Checks of the built site in headless Chromium, over file:// and at two widths and in both themes.

No request to a network, no console error, every formula rendered, no page wider than the window and nothing cut off,
no serious finding of axe, a search that finds something. Each page is loaded once per width; the theme is switched in it.

axe takes most of the time, which grows with the elements it has to know and with the texts whose contrast it computes.
So formulas and code, which it is not to examine, are emptied before it looks, and of texts that look alike it gets two.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
WORKERS = 2
WIDTHS = (1280, 390)
THEMES = ("light", "dark")

UPSTREAM_AXE: dict[tuple[str, str], str] = {
    ("aria-required-children", ".citation-list"): "docutils gives its list of citations a role, and not its entries",
}
"""Findings that are not ours: (rule, part of the element's selector) and why."""

READY = """async () => {
  document.querySelectorAll('details').forEach(part => part.open = true);
  if (!document.querySelector('.math')) return;
  for (let i = 0; i < 200 && !window.MathJax?.startup?.promise; i++) await new Promise(go => setTimeout(go, 50));
  await window.MathJax?.startup?.promise;
}"""

FORMULAS = r"""() => {
  const found = [];
  for (const math of document.querySelectorAll('.math')) {
    if (!math.querySelector('mjx-container')) found.push('not rendered: ' + math.textContent.slice(0, 60));
  }
  for (const error of document.querySelectorAll('mjx-merror')) found.push('error: ' + (error.title || error.textContent).slice(0, 60));
  const walker = document.createTreeWalker(document.querySelector('article') ?? document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest('pre, code, script, style, textarea, mjx-container, svg, .output')) continue;
    const raw = node.data.match(/\\\(|\\\[|\\[a-zA-Z]+\{|\$\$|\$[^$\n]*[\\^_][^$\n]*\$/);
    if (raw) found.push('raw LaTeX: ' + node.data.trim().slice(0, 60));
    const beside = (part, dollar) => dollar && part?.classList?.contains('math');
    if (beside(node.nextSibling, node.data.endsWith('$')) || beside(node.previousSibling, /^[.,;:]?\$/.test(node.data))) {
      found.push('a dollar sign beside a formula: ' + node.data.trim().slice(0, 60));
    }
  }
  return found;
}"""

GEOMETRY = """() => {
  const found = [], wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) found.push(`the page is ${wide} px wide in a window of ${innerWidth}`);
  const scrolls = part => {
    for (let up = part; up && up.tagName !== 'ARTICLE'; up = up.parentElement) {
      if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX)) return true;
    }
    return false;
  };
  for (const part of document.querySelectorAll('article *')) {
    const box = part.getBoundingClientRect();
    if (!box.width || box.right <= innerWidth + 1 || scrolls(part) || part.closest('mjx-assistive-mml')) continue;
    const name = `<${part.tagName.toLowerCase()} class="${part.getAttribute('class') ?? ''}">`;
    found.push(`${name} ends at ${Math.round(box.right)} px of ${innerWidth}`);
    if (found.length > 3) break;
  }
  return found;
}"""

EMPTIED = "mjx-container, .cell_input .highlight, dl.py dt"
"""What axe does not examine: formulas have the color of the text around them; highlighted code is examined on the page of source."""

EMPTY = f"""() => {{
  const parts = [...document.querySelectorAll('{EMPTIED}')], boxes = parts.map(part => part.getBoundingClientRect());
  parts.forEach((part, i) => {{
    part.replaceChildren();
    if (part.localName === 'mjx-container') part.setAttribute('role', 'img'), part.setAttribute('aria-label', 'formula');
    if (getComputedStyle(part).display === 'inline') part.style.display = 'inline-block';
    part.style.boxSizing = 'border-box';
    part.style.width = boxes[i].width + 'px';
    part.style.height = boxes[i].height + 'px';
  }});
}}"""
"""Empty those parts, and keep their places."""

ALIKE = """() => {
  document.querySelectorAll('[data-contrast]').forEach(part => part.removeAttribute('data-contrast'));
  const behind = new Map(), seen = new Map();
  const under = part => {
    if (!part) return '';
    if (!behind.has(part)) {
      const style = getComputedStyle(part);
      const own = [style.backgroundColor, style.backgroundImage, style.opacity, style.filter, style.mixBlendMode].join();
      behind.set(part, under(part.parentElement) + (own === 'rgba(0, 0, 0, 0),none,1,none,normal' ? '' : own + '|'));
    }
    return behind.get(part);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), parts = new Set();
  while (texts.nextNode()) if (texts.currentNode.data.trim()) parts.add(texts.currentNode.parentElement);
  document.querySelectorAll('input, select, textarea').forEach(part => parts.add(part));
  for (const part of parts) {
    if (!part.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const style = getComputedStyle(part), name = part => part.localName + '.' + part.getAttribute('class');
    const own = [style.color, style.fontSize, style.fontWeight, style.textShadow], kind = [name(part), name(part.parentElement)];
    const look = [...own, ...kind, under(part)].join();
    seen.set(look, (seen.get(look) ?? 0) + 1);
    if (seen.get(look) <= 2) part.setAttribute('data-contrast', '');
  }
}"""
"""Mark two of all texts of one kind, color, size and weight on the same backgrounds: contrast depends on nothing else."""


def find_browser() -> str | None:
    """A Chromium on this machine."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def check(html: Path, browser: str, *, search: str = "score") -> list[str]:
    """Everything that is wrong with the site in `html`, one line each."""
    html = html.resolve()
    names = [path for path in sorted(html.rglob("*.html")) if "_static" not in path.relative_to(html).parts]
    # Pages of source differ in their text alone, and are slow to examine: a short one stands for all.
    sources = [path for path in names if path.relative_to(html).parts[0] == "source"]
    pages = [path for path in names if path not in sources and 'http-equiv="Refresh"' not in path.read_text(encoding="utf-8")]
    pages += sorted(sources, key=lambda path: path.stat().st_size)[len(sources) // 4 :][:1]
    pages.sort(key=lambda path: -path.stat().st_size)
    done, waiting = count(1), SimpleQueue[Path]()
    for path in pages:
        waiting.put(path)

    def visit(_: int) -> list[str]:
        from playwright.sync_api import sync_playwright

        problems: list[str] = []
        where = ""
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=list(ARGUMENTS))
            page = chromium.new_page()
            page.on("console", lambda message: problems.append(f"{where}: console: {message.text}") if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(f"{where}: script error: {error}"))
            page.on("request", lambda request: problems.extend(_remote(where, request.url)))
            while (path := _next(waiting)) is not None:
                name = path.relative_to(html).as_posix()
                for width in WIDTHS:
                    where = f"{name} at {width} px"
                    page.set_viewport_size({"width": width, "height": 900})
                    page.goto(path.as_uri())
                    problems += [f"{where}: {found}" for found in look(page, narrow=width == min(WIDTHS))]
                if name == "search.html":
                    problems += [f"{where}: {found}" for found in _search(page, path, search)]
                print(f"  {next(done)} of {len(pages)} {name}", flush=True)
            chromium.close()
        return problems

    with ThreadPoolExecutor(WORKERS) as pool:
        found = [problem for part in pool.map(visit, range(WORKERS)) for problem in part]
    return sorted(set(found))


def look(page: Any, *, narrow: bool) -> Iterator[str]:
    """What is wrong with the page that is open, in both themes."""
    page.evaluate(READY)
    # A change of theme fades in; axe would measure colors on their way.
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important; }")
    yield from page.evaluate(FORMULAS)
    for theme in THEMES:
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        yield from (f"{theme}: {found}" for found in page.evaluate(GEOMETRY))
    page.evaluate(EMPTY)
    # Contrast depends on the theme and not on the width, everything else the other way round.
    for theme in THEMES[:1] if narrow else THEMES:
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.evaluate(ALIKE)
        rules = ALL_BUT_CONTRAST if narrow else ALL_RULES if theme == "light" else ONLY_CONTRAST
        yield from (f"{theme}: {found}" for found in accessibility(page, rules))


ALL_RULES = "{}"
ONLY_CONTRAST = "{runOnly: ['color-contrast']}"
ALL_BUT_CONTRAST = "{rules: {'color-contrast': {enabled: false}}}"


def accessibility(page: Any, rules: str) -> Iterator[str]:
    """Serious and critical findings of axe that are ours."""
    from axe_playwright_python.base import AXE_SCRIPT

    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE_SCRIPT)
        page.evaluate("axe.configure({rules: [{id: 'color-contrast', selector: '[data-contrast]'}]})")
    common = "{resultTypes: ['violations', 'incomplete'], iframes: false, preload: false}"
    results = page.evaluate(f"() => axe.run(document, {{...{common}, ...{rules}}})")
    # Text in the very color of its background is hidden on purpose, axe supposes; here it is not.
    unseen = [
        {
            **finding,
            "nodes": [
                node for node in finding["nodes"] if any((why["data"] or {}).get("messageKey") == "equalRatio" for why in node["any"])
            ],
        }
        for finding in results["incomplete"]
        if finding["id"] == "color-contrast"
    ]
    for finding in results["violations"] + unseen:
        if finding["impact"] not in ("serious", "critical"):
            continue
        targets = [" ".join(map(str, node["target"])) for node in finding["nodes"]]
        ours = [target for target in targets if not any(finding["id"] == rule and part in target for rule, part in UPSTREAM_AXE)]
        if ours:
            yield f"axe {finding['id']} ({finding['impact']}): {len(ours)} elements, {'; '.join(ours[:3])}"


def _next(waiting: SimpleQueue[Path]) -> Path | None:
    try:
        return waiting.get_nowait()
    except Empty:
        return None


def _remote(where: str, url: str) -> Iterator[str]:
    if not url.startswith(("file:", "data:", "blob:", "about:")):
        yield f"{where}: asks the network for {url}"


def _search(page: Any, path: Path, word: str, patience: float = 8000) -> Iterator[str]:
    from playwright.sync_api import TimeoutError as NothingInTime

    page.goto(f"{path.as_uri()}?q={word}")
    try:
        page.wait_for_selector("#search-results li a", timeout=patience)
    except NothingInTime:
        yield f"a search for {word!r} finds nothing"
