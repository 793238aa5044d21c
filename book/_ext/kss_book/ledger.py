"""The `{claim}` box, the `claim` role, and the pages of the ledger.

Boxes are made while a page is read, and links to them, their numbers and the graph when all pages are: a claim may be
mentioned before its chapter is read. Status is computed by `kss.claims.evidence` at each build; nothing of it is stored.
"""

import functools
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.nodes import make_refnode

from kss.claims import LEDGER, evidence
from kss_book import graph, markup, table
from kss_book.box import Records, box
from kss_book.markup import anchor, claim_number, element, graph_place, ledger_link, link_to_claim, status_word
from kss_book.samples import samples

logger = logging.getLogger(__name__)


def records_of(app: Sphinx) -> Records:
    """The evidence beside the site that is being built."""
    path = Path(app.srcdir) / app.config.kss_evidence
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> Records:
    return evidence.load(path)


class ClaimDirective(SphinxDirective):
    """`{claim} ID`: the box of a claim."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        claim_id = self.arguments[0]
        if claim_id not in LEDGER.claims:
            raise self.error(f"unknown claim id: {claim_id}")
        places = places_of(self.env)
        if places.get(claim_id, self.env.docname) != self.env.docname:
            raise self.error(f"the claim {claim_id} has its box on {places[claim_id]} already")
        places[claim_id] = self.env.docname
        node = box(LEDGER.claims[claim_id], LEDGER, records_of(self.env.app), self.parse_text_to_nodes)
        self.set_source_info(node)
        self._note_for_prf_ref(anchor(claim_id))
        return [node]

    def _note_for_prf_ref(self, label: str) -> None:
        # So that {prf:ref}`claim-...` gives "Claim 1.2", as it does for theorems.
        if not hasattr(self.env, "proof_list"):
            self.env.proof_list = {}
        entry = {"countertype": "theorem", "realtype": "claim", "ids": [label], "label": label, "prio": 0, "nonumber": False}
        self.env.proof_list[label] = {"docname": self.env.docname, **entry}


class ClaimRole(SphinxRole):
    """A link to a claim's box, with its title and status; in docstrings too."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        claim_id = self.text.strip()
        if claim_id not in LEDGER.claims:
            # Logged rather than returned: a message in the text alone would not fail every kind of page.
            logger.warning("unknown claim id: %s", claim_id, location=self.get_location())
            return [nodes.literal("", claim_id)], []
        status = evidence.status(LEDGER.claims[claim_id], LEDGER, dict(records_of(self.env.app)))
        return [element("span", link_to_claim(claim_id), nodes.Text(" ["), status_word(status), nodes.Text("]"), classes="kss-mention")], []


class LedgerDirective(SphinxDirective):
    """`{ledger}`: every claim in a table, after the totals."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.app.srcdir) / self.env.config.kss_evidence
        return table.ledger(LEDGER, records_of(self.env.app), path)


class FindingsDirective(SphinxDirective):
    """`{findings}`: some claims, one id on a line, with what the ledger says of each."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        ids = [line.strip() for line in self.content if line.strip()]
        if not ids or (unknown := sorted(set(ids) - set(LEDGER.claims))):
            raise self.error(f"unknown claim id: {', '.join(unknown)}" if ids else "expected ids of claims, one on a line")
        return [table.findings([LEDGER.claims[claim_id] for claim_id in ids], LEDGER, records_of(self.env.app))]


class GraphDirective(SphinxDirective):
    """`{claim-graph}`: which claim rests on which."""

    def run(self) -> list[nodes.Node]:
        return [graph_place(""), *graph.as_text(LEDGER)]


class StatesDirective(SphinxDirective):
    """`{claim-states}`: the box in every state, from made-up claims."""

    def run(self) -> list[nodes.Node]:
        registry, records = samples()
        return [box(entry, registry, records, self.parse_text_to_nodes, sample=True) for entry in registry.claims.values()]


def places_of(env: BuildEnvironment) -> dict[str, str]:
    """The page of each claim that has a box."""
    if not hasattr(env, "kss_claims"):
        env.kss_claims = {}
    places: dict[str, str] = env.kss_claims
    return places


def _purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    env.kss_claims = {claim_id: page for claim_id, page in places_of(env).items() if page != docname}


def _merge(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:
    places_of(env).update({claim_id: page for claim_id, page in places_of(other).items() if page in docnames})


def _resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put in what depends on other pages."""
    places = places_of(app.env)
    for link in list(doctree.findall(ledger_link)):
        link.replace_self(_claim_reference(app, docname, link) if link["kind"] == "claim" else _source_reference(app, docname, link))
    rows: list[tuple[tuple[int, ...], nodes.Element]] = []
    for place in list(doctree.findall(claim_number)):
        page, label = places.get(place["target"], ""), anchor(place["target"])
        number = app.env.toc_fignumbers.get(page, {}).get("theorem", {}).get(label, ())
        rows.append((number, place.parent.parent))
        place.replace_self(nodes.Text(".".join(map(str, number))))
    if rows:
        # In the order of the book, which is not that in which the modules of the ledger are imported.
        rows[0][1].parent.children = [row for _, row in sorted(rows, key=lambda entry: entry[0])]
    for drawing in list(doctree.findall(graph_place)):
        urls = {name: _uri(app, docname, page) + "#" + anchor(name) for name, page in places.items()}
        records = dict(records_of(app))
        states = {entry.id: evidence.status(entry, LEDGER, records) for entry in LEDGER.claims.values()}
        drawing.replace_self(nodes.raw("", graph.svg(LEDGER, states, urls), format="html"))


def _claim_reference(app: Sphinx, docname: str, link: ledger_link) -> nodes.Node:
    target = link["target"]
    page = places_of(app.env).get(target)
    if page is None:
        logger.warning("the claim %s has no box on any page", target, location=link, once=True)
        return nodes.inline("", "", *link.children)
    inner = nodes.inline("", "", *link.children)
    return make_refnode(app.builder, docname, page, anchor(target), inner, LEDGER.claims[target].id)


def _source_reference(app: Sphinx, docname: str, link: ledger_link) -> nodes.Node:
    inner = nodes.inline("", "", *link.children)
    if app.builder.format != "html" or link["target"] not in app.kss_source_modules:  # type: ignore[attr-defined] # set by _collect
        return inner
    page = "source/" + link["target"].replace(".", "/")
    return make_refnode(app.builder, docname, page, f"L-{link['line']}", inner)


def _uri(app: Sphinx, docname: str, page: str) -> str:
    return app.builder.get_relative_uri(docname, page) if page != docname else ""


def _add_script(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if doctree is not None and any("kss-ledger" in node["classes"] for node in doctree.findall(markup.html_element)):
        app.add_js_file("kss-ledger.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    markup.setup(app)
    app.add_config_value("kss_evidence", "_build/evidence.json", "env")
    app.add_directive("claim", ClaimDirective)
    app.add_directive("ledger", LedgerDirective)
    app.add_directive("findings", FindingsDirective)
    app.add_directive("claim-graph", GraphDirective)
    app.add_directive("claim-states", StatesDirective)
    app.add_role("claim", ClaimRole())
    app.connect("env-purge-doc", _purge)
    app.connect("env-merge-info", _merge)
    app.connect("doctree-resolved", _resolve)
    app.connect("html-page-context", _add_script)
