r"""One house style, and the figures that chapters share; the only part of the package that imports matplotlib.

Still figures are matplotlib's. `accessible(figure, alt)`, as the last line of a cell, shows one with a text alternative.

Figures that a reader can move, `CurveSlider` and `ImageSlider`, need no kernel, no library and no network: every frame is
computed beforehand and travels inside the page, with a range input (mouse, touch or arrow keys) that picks one. They work in
JupyterLab and in the built book, opened from disk too; without JavaScript, and on paper, they show the frame `start`. Labels
are plain text: Unicode is welcome, LaTeX is not typeset.
"""

from kss.plots.common import COLORS
from kss.plots.sliders import CurveSlider, ImageSlider
from kss.plots.still import AccessibleFigure, accessible, image_grid, use_house_style

__all__ = ["COLORS", "AccessibleFigure", "CurveSlider", "ImageSlider", "accessible", "image_grid", "use_house_style"]
