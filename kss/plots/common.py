"""What still and movable figures share: colors, sheets of images, text alternatives.

Colors are those of Okabe and Ito that keep a contrast of 3 : 1, or nearly so, on white and on black, in an order where
neighbors differ for every kind of color vision; lines differ by dashes as well.
"""

import math

import numpy as np
from jaxtyping import Float

from kss._validation import ArrayLike, as_tensor, reject

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#808080")
"""Blue, vermilion, green and purple of Okabe and Ito, and a gray, in the order in which curves take them."""

DASHES = ("", "8 4", "2 3", "9 3 2 3", "14 3")


def as_array(name: str, value: ArrayLike, ndim: int) -> Float[np.ndarray, "..."]:
    """`value` as a finite, non-empty NumPy array with `ndim` axes, in float64."""
    array = as_tensor(name, value).detach().cpu().double().numpy()
    if array.ndim != ndim or array.size == 0:
        raise reject(name, array, f"a non-empty array with {ndim} ax{'is' if ndim == 1 else 'es'}")
    return array


def as_alt(alt: str) -> str:
    """A text alternative that says something."""
    if not alt.strip():
        raise reject("alt", alt, "a text alternative: what the figure shows, in words")
    return alt


def opening_tag(identity: str | None, width: int = 0) -> str:
    """Of the element around every figure; `identity` is what the script of a movable figure finds it by."""
    # The two "ignore" classes keep MathJax away, in the book as in JupyterLab.
    name = "" if identity is None else f' data-kss="{identity}" style="max-width:{width}px"'
    return f'<div class="kss-figure tex2jax_ignore mathjax_ignore"{name}>'


def tile(images: Float[np.ndarray, "n h w"], columns: int, gap_x: int, gap_y: int) -> Float[np.ndarray, "H W"]:
    """Images on one sheet, row by row; the gaps between them, and cells without image, are NaN."""
    n, height, width = images.shape
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + gap_y) - gap_y, columns * (width + gap_x) - gap_x), np.nan)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap_y), (i % columns) * (width + gap_x)
        sheet[y : y + height, x : x + width] = image
    return sheet
