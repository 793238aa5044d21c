"""Sphinx extension: the ledger of claims in the pages of the book."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from kss.claims import LEDGER, evidence

ROOT = Path(__file__).resolve().parents[2]


class ClaimDirective(SphinxDirective):
    """A claim with its live status."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        try:
            entry = LEDGER.select([self.arguments[0]])[0]
        except ValueError as error:
            raise self.error(str(error)) from error
        records = evidence.load(ROOT / evidence.DEFAULT_PATH)
        text = f"{entry.title}: {evidence.status(entry, LEDGER, records)}"
        return [nodes.paragraph(text, text)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("claim", ClaimDirective)
    return {"parallel_read_safe": True}
