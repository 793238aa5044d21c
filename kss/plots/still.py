"""Still figures: the look of matplotlib, images side by side, and a text alternative for any figure."""

import base64
import html
import io
import math
import sys
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure

from kss._validation import ArrayLike, as_count, reject
from kss.plots.common import COLORS, as_alt, as_array, opening_tag, tile

_STYLE: Any = {
    "figure.figsize": (6.4, 3.6),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",  # not transparent: black labels must be readable on a dark page
    "savefig.facecolor": "white",
    "font.size": 11.0,
    "axes.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=["-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (9, 2))]),
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.interpolation": "none",
    "svg.hashsalt": "kss",  # equal figures are equal files
}


def use_house_style() -> None:
    """Give matplotlib the look of the book, for the rest of the process; in a notebook, draw figures as SVG.

    White background, readable labels, and lines told apart by color-blind-safe colors and by dashes.
    """
    mpl.rcParams.update(_STYLE)
    ipython = sys.modules.get("IPython")  # not imported here: outside a notebook there is nothing to set
    if ipython is not None and ipython.get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})


def image_grid(images: ArrayLike, titles: Sequence[str] | None = None, columns: int | None = None) -> Figure:
    """Gray images side by side, filled row by row.

    Arguments: `images` (n, height, width) in [-1, 1], from -1 white to +1 black, what lies outside drawn as the nearest;
    `titles`, one above each image; `columns`, at most 10 unless given.
    """
    pictures = as_array("images", images, 3)
    if titles is not None and len(titles) != len(pictures):
        raise reject("titles", list(titles), f"{len(pictures)} titles, one for each image")
    columns = min(len(pictures), 10) if columns is None else as_count("columns", columns)
    height, width = pictures.shape[1:]
    gap = max(1, round(width / 10))
    inches = 6.4 / (columns * (width + gap))  # of a pixel
    heading = 0 if titles is None else math.ceil(12 / 72 / inches)  # pixels that a line of text needs
    sheet = tile(pictures, columns, gap, gap + heading)
    rows, cells = sheet.shape
    figure = Figure(figsize=(cells * inches, (rows + heading) * inches), facecolor="white")
    figure.set_layout_engine("none")  # the axes are placed by hand
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(sheet, cmap="gray_r", vmin=-1, vmax=1, interpolation="none", extent=(0, cells, rows, 0), aspect="auto")
    axes.set(xlim=(0, cells), ylim=(rows, -heading))
    for i, title in enumerate(titles or ()):
        row, column = divmod(i, columns)
        x, y = column * (width + gap) + width / 2, row * (height + gap + heading) - gap / 4
        axes.text(x, y, title, ha="center", va="bottom", fontsize=9)
    return figure


class AccessibleFigure:
    """A matplotlib figure as an image with a text alternative; made by `accessible`."""

    def __init__(self, figure: Figure, alt: str) -> None:
        self.alt = as_alt(alt)
        kind, content = "svg+xml", _render(figure, "svg")
        if len(content) > 200_000:  # many points: drawn as pixels they are smaller
            kind, content = "png", _render(figure, "png")
        plt.close(figure)  # otherwise the notebook would show it a second time
        source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        style = "max-width:100%;height:auto;background:white;padding:0"
        width = round(figure.get_size_inches()[0] * 96)
        self._html = f'{opening_tag(None)}<img alt="{html.escape(self.alt)}" width="{width}" style="{style}" src="{source}"></div>'

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return f"AccessibleFigure({self.alt!r})"


def accessible(figure: Figure, alt: str) -> AccessibleFigure:
    """Show `figure` with the text alternative `alt`: what a reader who cannot see it should know of it, in a sentence or two.

    The last expression of a notebook cell, or what `glue` is given. The figure is drawn now, as SVG (as PNG where an SVG
    would be large), and closed.
    """
    return AccessibleFigure(figure, alt)


def _render(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "kss"}):
        figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
