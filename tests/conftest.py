"""While testing, every annotated shape and type in `kss` is enforced; in production the annotations cost nothing."""

from jaxtyping import install_import_hook

install_import_hook("kss", "beartype.beartype")
