"""Nodes that the pages of the ledger are made of, and how they become HTML."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from kss.claims import LEDGER
from kss.claims.evidence import Status


class html_element(nodes.General, nodes.TextElement):  # noqa: N801 - docutils names nodes in lower case
    """An HTML element with its attributes; other builders see only what is in it."""


class claim_box(nodes.General, nodes.Element):  # noqa: N801
    """A claim. It counts with the theorems of sphinx-proof, so that a chapter has one numbering."""


class claim_title(nodes.General, nodes.Element):  # noqa: N801
    """The title of a claim, first in its box."""


class ledger_link(nodes.General, nodes.Inline, nodes.Element):  # noqa: N801
    """A link that can be resolved only when every page is read: to a `claim`, or to a line of the `source` of a module."""


class claim_number(nodes.General, nodes.Inline, nodes.Element):  # noqa: N801
    """The number of a claim's box, known when every page is read."""


class graph_place(nodes.General, nodes.Element):  # noqa: N801
    """Where the dependency graph goes when every page is read."""


def element(tag: str, *children: nodes.Node | str, classes: str = "", **attributes: Any) -> html_element:
    """An HTML element; text among the children may hold `code` and $formulas$."""
    node = html_element("", tag=tag, attributes=attributes, classes=classes.split())
    for child in children:
        node.extend(inline(child) if isinstance(child, str) else [child])
    return node


def inline(text: str) -> list[nodes.Node]:
    """Text with `code` and $formulas$, for titles and docstrings, which also stand where MyST is not at hand."""
    found: list[nodes.Node] = []
    for part in re.split(r"(\$[^$]+\$|``[^`]+``|`[^`]+`)", text):
        if part.startswith("$") and len(part) > 2:
            found.append(nodes.math("", part[1:-1]))
        elif part.startswith("`"):
            found.append(nodes.literal("", part.strip("`")))
        elif part:
            found.append(nodes.Text(part))
    return found


def anchor(claim_id: str) -> str:
    """The anchor of a claim's box."""
    return "claim-" + claim_id.replace(".", "-")


def link_to_claim(claim_id: str) -> ledger_link:
    """A link to a claim's box, with its title as text."""
    link = ledger_link("", kind="claim", target=claim_id)
    link.extend(inline(LEDGER.claims[claim_id].title))
    return link


# One shape for each status, so that color is never alone; the words stand beside them.
SHAPES: dict[Status, str] = {
    "checked": '<circle cx="8" cy="8" r="7" fill="currentColor"/><path d="M4.5 8.3l2.4 2.4 4.6-5" class="kss-cut"/>',
    "quick lane only": '<circle cx="8" cy="8" r="6.2" class="kss-line"/><path d="M8 1.8a6.2 6.2 0 0 0 0 12.4z" fill="currentColor"/>',
    "not run here": '<circle cx="8" cy="8" r="6.2" class="kss-line"/>',
    "stale": '<circle cx="8" cy="8" r="6.2" class="kss-line" stroke-dasharray="2.6 2.2"/><path d="M8 4.4V8l2.4 1.6" class="kss-line"/>',
    "failing": '<rect x="1.2" y="1.2" width="13.6" height="13.6" fill="currentColor"/><path d="M5 5l6 6M11 5l-6 6" class="kss-cut"/>',
    "open": '<path d="M8 1.2L14.8 8 8 14.8 1.2 8z" class="kss-line"/>',
}


def status_word(status: Status) -> html_element:
    """A status: shape, color and word."""
    shape = f'<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">{SHAPES[status]}</svg>'
    name = status.replace(" ", "-")
    return element("span", nodes.raw("", shape, format="html"), nodes.Text(status), classes=f"kss-status kss-status-{name}")


def number_of(translator: Any, node: claim_box) -> str:
    """The number of a box by chapter, or nothing on a page without numbers."""
    key = f"{translator.docnames[-1]}/theorem" if translator.builder.name == "singlehtml" else "theorem"
    return ".".join(map(str, translator.builder.fignumbers.get(key, {}).get(node["ids"][0], ())))


def _visit_element(translator: Any, node: html_element) -> None:
    translator.body.append(translator.starttag(node, node["tag"], "", **node["attributes"]))


def _depart_element(translator: Any, node: html_element) -> None:
    translator.body.append(f"</{node['tag']}>")


def _visit_box(translator: Any, node: claim_box) -> None:
    translator.body.append(translator.starttag(node, "div", role="group", **{"aria-label": f"Claim {node['claim']}"}))


def _depart_box(translator: Any, node: claim_box) -> None:
    translator.body.append("</div>")


def _visit_title(translator: Any, node: claim_title) -> None:
    box = node.parent
    number = f"Claim {number_of(translator, box)}".strip() if box["numbered"] else "Sample claim"
    translator.body.append(f'<p class="kss-claim-title"><span class="kss-claim-number">{number}</span> ')


def _depart_title(translator: Any, node: claim_title) -> None:
    translator.body.append(f' <a class="headerlink" href="#{node.parent["ids"][0]}" title="Link to this claim">¶</a></p>\n')


def _nothing(translator: Any, node: nodes.Node) -> None:
    """For builders without HTML, and for nodes that are replaced before they are written."""


def setup(app: Sphinx) -> None:
    """Register the nodes."""
    others = dict.fromkeys(("latex", "text", "man", "texinfo"), (_nothing, _nothing))
    app.add_node(html_element, html=(_visit_element, _depart_element), **others)
    app.add_node(claim_title, html=(_visit_title, _depart_title), **others)
    app.add_enumerable_node(claim_box, "theorem", None, html=(_visit_box, _depart_box), **others)
    for node in (ledger_link, claim_number, graph_place):
        app.add_node(node, html=(_nothing, _nothing), **others)
