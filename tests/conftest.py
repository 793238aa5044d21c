"""While testing, every annotated shape and type in `kss` is enforced; in production the annotations cost nothing."""

from jaxtyping import install_import_hook

install_import_hook("kss", "beartype.beartype")


def pytest_collection_modifyitems(items):
    # Longest first, so that no worker is left with an installation when the others are done.
    items.sort(key=lambda item: ("test_packaging" not in item.nodeid, item.get_closest_marker("slow") is None))
