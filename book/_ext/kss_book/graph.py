"""Which claim rests on which, drawn while the book is built: no script, and every box is a link."""

from collections.abc import Mapping
from html import escape
from itertools import pairwise

import networkx as nx
from docutils import nodes

from kss.claims.evidence import Status
from kss.claims.registry import Registry
from kss_book.markup import SHAPES, element, link_to_claim

HEIGHT, GAP_X, GAP_Y, MARGIN = 34, 70, 14, 8
LETTER = 7.85
"""Width of a letter of the fixed-width font at 13 px, with a little to spare."""


Slot = str | tuple[str, str, int]
"""A claim, or the place where a long edge passes a layer."""


def layers(registry: Registry) -> tuple[list[list[Slot]], list[list[Slot]]]:
    """Claims by depth, those that rest on nothing first, in each layer near what they rest on; and the way of each edge.

    Claims without any edge are left out: the text lists them.
    """
    graph = nx.DiGraph((above, entry.id) for entry in registry.claims.values() for above in entry.uses if above in registry.claims)
    order = {name: i for i, name in enumerate(registry.claims)}
    columns: list[list[Slot]] = [sorted(layer, key=order.__getitem__) for layer in nx.topological_generations(graph)]
    depth = {slot: i for i, column in enumerate(columns) for slot in column}
    ways: list[list[Slot]] = []
    for above, name in graph.edges:
        between: list[Slot] = [(above, name, i) for i in range(depth[above] + 1, depth[name])]
        for slot, column in zip(between, columns[depth[above] + 1 :], strict=False):
            column.append(slot)
        ways.append([above, *between, name])
    before: dict[Slot, list[Slot]] = {}
    for way in ways:
        for left, right in pairwise(way):
            before.setdefault(right, []).append(left)
    for previous, column in pairwise(columns):
        height = {slot: i for i, slot in enumerate(previous)}
        column.sort(key=lambda slot: sum(height[left] for left in before[slot]) / len(before[slot]))
    return columns, ways


def svg(registry: Registry, states: Mapping[str, Status], urls: Mapping[str, str]) -> str:
    """The drawing: arrows point from what is used to what uses it."""
    columns, ways = layers(registry)
    if not columns:
        return "<p>No claim rests on another.</p>"
    wide = 46 + LETTER * max(len(slot) for column in columns for slot in column if isinstance(slot, str))
    tallest = max(map(len, columns))
    place: dict[Slot, tuple[float, float]] = {
        slot: (MARGIN + i * (wide + GAP_X), MARGIN + (j + (tallest - len(column)) / 2) * (HEIGHT + GAP_Y))
        for i, column in enumerate(columns)
        for j, slot in enumerate(column)
    }
    names = [slot for slot in place if isinstance(slot, str)]
    width = 2 * MARGIN + len(columns) * wide + (len(columns) - 1) * GAP_X
    height = 2 * MARGIN + tallest * (HEIGHT + GAP_Y) - GAP_Y
    arrow = '<marker id="kss-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    parts = [f'<defs>{arrow}<path d="M0 0L8 4L0 8z" class="kss-tip"/></marker></defs>']
    parts += [_edge([place[slot] for slot in way], wide) for way in ways]
    parts += [_node(name, registry.claims[name].title, states[name], place[name], wide, urls.get(name)) for name in names]
    label = f"Dependency graph of {len(names)} claims and {len(ways)} uses; the same as text stands below"
    return (
        f'<div class="kss-scroll kss-graph" role="region" tabindex="0" aria-label="{label}">'
        f'<svg width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" role="group" aria-label="{label}">'
        f"{''.join(parts)}</svg></div>"
    )


def _edge(way: list[tuple[float, float]], wide: float) -> str:
    path = ""
    for (x, y), (x_next, y_next) in pairwise(way):
        x0, y0, x1, y1 = x + wide, y + HEIGHT / 2, x_next, y_next + HEIGHT / 2
        middle = (x0 + x1) / 2
        path += f"{'L' if path else 'M'}{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
    return f'<path class="kss-edge" d="{path}" marker-end="url(#kss-arrow)"/>'


def _node(name: str, title: str, status: Status, place: tuple[float, float], wide: float, url: str | None) -> str:
    x, y = place
    plain = escape(title.replace("$", ""))
    shape = (
        f'<g transform="translate({x + 10:g} {y + HEIGHT / 2 - 8:g})" class="kss-status-{status.replace(" ", "-")}">{SHAPES[status]}</g>'
    )
    drawn = (
        f"<title>{plain}: {status}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{HEIGHT}" rx="3"/>{shape}'
        f'<text x="{x + 34:g}" y="{y + HEIGHT / 2 + 4.5:g}">{escape(name)}</text>'
    )
    return f'<a href="{escape(url)}" aria-label="{plain}: {status}">{drawn}</a>' if url else f"<g>{drawn}</g>"


def as_text(registry: Registry) -> list[nodes.Node]:
    """The same as a list, for readers who do not see the drawing."""
    items = []
    for entry in registry.claims.values():
        item = element("li", link_to_claim(entry.id))
        for i, above in enumerate(entry.uses):
            item += [nodes.Text("; " if i else " rests on: "), link_to_claim(above)]
        item += nodes.Text("" if entry.uses else " rests on no other claim")
        items.append(item)
    return [element("details", element("summary", "The same as text"), element("ul", *items), classes="kss-checks")]
