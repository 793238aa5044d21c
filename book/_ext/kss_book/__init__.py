"""The Sphinx extension of this book.

- `ledger`: the `{claim}` box, the `claim` role, the pages of the ledger; `box`, `table`, `graph` and `samples` draw them.
- `source`: highlighted pages of the package, which boxes and API pages link to.
- `site`: what makes the site self-contained: formulas without a network, notebooks to download, the footer.
"""

from sphinx.application import Sphinx

from kss_book import ledger, site, source


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    ledger.setup(app)
    source.setup(app)
    site.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
