"""Figures that a reader can move without a kernel: one string of HTML with every frame in it, and a few lines of script."""

import base64
import hashlib
import html
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_tensor, reject
from kss.plots.common import COLORS, DASHES, as_alt, as_array, opening_tag, tile

Values = Sequence | np.ndarray | Tensor


class _Slider:
    """A figure with frames: its HTML, and the values its frames stand for."""

    def __init__(self, frames: int, values: Values, value_label: str, alt: str, start: int) -> None:
        self.texts = [value if isinstance(value, str) else _number(float(value), 3) for value in values]
        if len(self.texts) != frames:
            raise reject("values", self.texts, f"{frames} values, one for each frame")
        if not value_label.strip():
            raise reject("value_label", value_label, "a name for what the slider changes")
        self.alt, self.value_label = as_alt(alt), value_label
        self.start = as_count("start", start, minimum=0)
        if self.start >= frames:
            raise reject("start", start, f"the number of a frame, below {frames}")
        self._html = ""

    def _assemble(self, picture: str, data: Mapping[str, object], draw: str, width: int) -> None:
        # One identity for equal figures, so that pages come out the same from build to build; `data-ready` keeps two copies apart.
        content = json.dumps({"text": self.texts, **data}, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
        identity = hashlib.sha256((picture + content).encode()).hexdigest()[:12]
        first = html.escape(self.texts[self.start])
        # The lm attribute keeps JupyterLab from taking the arrow keys for its own commands.
        self._html = (
            f"{opening_tag(identity, width)}<style>{_CSS}</style>{picture}"
            f'<div class="kss-control"><label><span>{html.escape(self.value_label)}</span>'
            f'<input type="range" min="0" max="{len(self.texts) - 1}" step="1" value="{self.start}" '
            f'autocomplete="off" aria-valuetext="{first}" data-lm-suppress-shortcuts="true" hidden></label>'
            f'<output aria-live="off">{first}</output></div>'
            f"<script>{_SCRIPT % {'identity': identity, 'data': content, 'draw': draw}}</script></div>"
        )

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.alt!r}, {self.value_label} = {self.texts[0]}..{self.texts[-1]})"


class CurveSlider(_Slider):
    """Curves over one axis that change with a parameter: an SVG redrawn as the reader moves the slider.

    The arguments, in order:

    - `x` (n,), increasing: the grid all curves share;
    - `curves`, label -> (frames, n), or (n,) for a curve that stays; at most 5 labels. For panels, one above the other: label of
      the vertical axis -> {label -> array}; a label that comes again has the same look;
    - `values` (frames,), numbers or texts: what the slider shows at each frame;
    - `value_label`, what `values` are, "noise variance t" say;
    - `alt`, the text alternative: what the figure shows and how it changes;
    - `x_label`, `y_label`, of the axes (`y_label` for a single panel);
    - `y_limits`, (low, high), or label of the panel -> (low, high); by default all frames fit. Curves are cut off outside;
    - `rug`, positions of short marks on the horizontal axis, data points say;
    - `start`, the number of the frame shown at first, and on paper.

    About 10 kB for a smooth curve of 40 frames with 150 points: heights are kept to a tenth of a pixel, as differences.
    """

    def __init__(
        self,
        x: ArrayLike,
        curves: Mapping[str, ArrayLike] | Mapping[str, Mapping[str, ArrayLike]],
        values: Values,
        value_label: str,
        alt: str,
        x_label: str,
        y_label: str = "",
        *,
        y_limits: Sequence[float | int] | Mapping[str, Sequence[float | int]] | None = None,
        rug: ArrayLike | None = None,
        start: int = 0,
    ) -> None:
        grid = as_array("x", x, 1)
        if len(grid) < 2 or not (np.diff(grid) > 0).all():
            raise reject("x", grid, "at least two increasing numbers")
        panels = _panels(curves, y_label, y_limits, grid, len(values))
        labels = list(dict.fromkeys(label for panel in panels for label in panel.curves))
        if len(labels) > len(COLORS):
            raise reject("curves", labels, f"at most {len(COLORS)} labels: more lines than that cannot be told apart")
        super().__init__(len(values), values, value_label, alt, start)

        width, height = 440, 230 if len(panels) == 1 else 165
        left = 14 + 8 * max(len(_number(tick)) for panel in panels for tick in _ticks(*panel.limits))
        inner, top, step = width - left - 20, 24, height + 36
        x_range = (float(grid[0]), float(grid[-1]))
        marks = [] if rug is None else [left + inner * _unit(at, x_range) for at in as_array("rug", rug, 1).tolist()]
        columns = np.rint(10 * inner * (grid - grid[0]) / (grid[-1] - grid[0])).astype(int)
        parts, codes = [], []
        for number, panel in enumerate(panels):
            y = top + number * step
            parts.append(f'<text x="2" y="{y - 9}">{html.escape(panel.label)}</text>')
            for tick in _ticks(*panel.limits):
                at = y + height * (1 - _unit(tick, panel.limits))
                parts.append(f'<path class="kss-grid" d="M{left} {at:.1f}h{inner}"/>')
                parts.append(f'<text x="{left - 6}" y="{at + 4.5:.1f}" text-anchor="end">{_number(tick)}</text>')
            for tick in _ticks(*x_range, 7):
                parts.append(f'<path class="kss-axis" d="M{left + inner * _unit(tick, x_range):.1f} {y + height}v5"/>')
            parts.append(f'<path class="kss-axis" d="M{left} {y}v{height}h{inner}"/>')
            parts.append("".join(f'<path class="kss-axis" d="M{at:.1f} {y + height}v-9"/>' for at in marks if left <= at <= left + inner))
            # A nested svg has coordinates of its own, here tenths, and cuts off what is outside.
            size = f'x="{left}" y="{y}" width="{inner}" height="{height}" viewBox="0 0 {10 * inner} {10 * height}"'
            parts.append(f'<svg {size} preserveAspectRatio="none" overflow="hidden">')
            for label, frames in panel.curves.items():
                low, high = panel.limits
                rows = np.rint(np.clip(10 * height * (high - frames) / (high - low), -10 * height, 20 * height)).astype(int)
                codes.append([_encode(row) for row in rows])
                look = _look(labels.index(label))
                shown = rows[self.start if len(rows) > 1 else 0]
                path = "M" + " ".join(f"{a},{b}" for a, b in zip(columns.tolist(), shown.tolist(), strict=True))
                parts.append(f'<path class="kss-curve" {look} d="{path}"/>')
            parts.append("</svg>")
        bottom = top + (len(panels) - 1) * step + height
        for tick in _ticks(*x_range, 7):
            parts.append(
                f'<text x="{left + inner * _unit(tick, x_range):.1f}" y="{bottom + 20}" text-anchor="middle">{_number(tick)}</text>'
            )
        parts.append(f'<text x="{left + inner / 2:.1f}" y="{bottom + 40}" text-anchor="middle">{html.escape(x_label)}</text>')
        picture = (
            '<div class="kss-legend">'
            + "".join(f"<span>{_swatch(i)} {html.escape(label)}</span>" for i, label in enumerate(labels))
            + f'</div><svg class="kss-plot" role="img" aria-label="{html.escape(self.alt)}" viewBox="0 0 {width} {bottom + 48}">'
            + "".join(parts)
            + "</svg>"
        )
        self._assemble(picture, {"x": _encode(columns), "y": codes}, _DRAW_CURVES, 560)


class ImageSlider(_Slider):
    """A sheet of gray images that changes with a parameter: samples along reverse time, say.

    The arguments, in order:

    - `frames` (frames, n, height, width) in [-1, 1], from -1 white to +1 black, what lies outside drawn as the nearest;
    - `values`, `value_label`, `alt` and `start` as for `CurveSlider`;
    - `columns`, images in a row, at most 8 unless given.

    Each frame is a PNG inside the page: at most 90 kB for 40 frames of 24 noise images of 8 x 8 pixels.
    """

    def __init__(
        self, frames: ArrayLike, values: Values, value_label: str, alt: str, columns: int | None = None, *, start: int = 0
    ) -> None:
        pictures = as_array("frames", frames, 4)
        super().__init__(len(pictures), values, value_label, alt, start)
        columns = min(pictures.shape[1], 8) if columns is None else as_count("columns", columns)
        sheets = [_png(tile(frame, columns, 1, 1)) for frame in pictures]
        codes = [base64.b64encode(sheet).decode() for sheet in sheets]
        width = struct.unpack(">I", sheets[0][16:20])[0]
        # The theme of the book gives every image a light background and a margin in its dark mode: not here.
        plain = "background:none;padding:0;border-radius:0"
        picture = f'<img class="kss-sheet" alt="{html.escape(self.alt)}" style="{plain}" src="data:image/png;base64,{codes[self.start]}">'
        self._assemble(picture, {"png": codes}, _DRAW_IMAGES, width * max(1, min(8, 560 // width)))


class _Panel(NamedTuple):
    label: str
    curves: dict[str, Float[np.ndarray, "frames n"]]
    limits: tuple[float, float]


def _panels(curves: Mapping, y_label: str, y_limits: object, grid: Float[np.ndarray, " n"], frames: int) -> list[_Panel]:
    nested = [isinstance(value, Mapping) for value in curves.values()]
    if not nested or (any(nested) and not all(nested)):
        raise reject("curves", curves, "label -> array, or panel -> (label -> array)")
    groups = curves if nested[0] else {y_label: curves}
    if isinstance(y_limits, Mapping) and not set(y_limits) <= set(groups):
        raise reject("y_limits", dict(y_limits), f"limits of panels out of {list(groups)}")
    panels = []
    for name, group in groups.items():
        arrays = {}
        for label, value in group.items():
            rows = as_tensor(f"curves[{label!r}]", value).detach().cpu().double().numpy()
            if rows.shape not in ((len(grid),), (frames, len(grid))):
                raise reject(f"curves[{label!r}]", rows, f"shape ({frames}, {len(grid)}), or ({len(grid)},) if it stays")
            arrays[label] = np.atleast_2d(rows)
        if not arrays:
            raise reject("curves", curves, "at least one curve in each panel")
        wanted = y_limits.get(name) if isinstance(y_limits, Mapping) else y_limits
        if wanted is None:
            low, high = min(float(a.min()) for a in arrays.values()), max(float(a.max()) for a in arrays.values())
            margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
            wanted = (low - margin, high + margin)
        limits = as_array("y_limits", wanted, 1)  # type: ignore[arg-type] # a pair by now, or as_array says so
        if limits.shape != (2,) or not limits[0] < limits[1]:
            raise reject("y_limits", wanted, "(low, high) with low < high")
        panels.append(_Panel(name, arrays, (float(limits[0]), float(limits[1]))))
    return panels


def _number(value: float, digits: int = 4) -> str:
    text = f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return text.replace("-", "−")


def _unit(value: float, limits: tuple[float, float]) -> float:
    return (value - limits[0]) / (limits[1] - limits[0])


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    ticks = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return [0.0 if abs(tick) < slack else float(tick) for tick in ticks if low - slack <= tick <= high + slack]


def _look(index: int) -> str:
    return f'stroke="{COLORS[index]}" stroke-dasharray="{DASHES[index] or "none"}"'


def _swatch(index: int) -> str:
    return f'<svg aria-hidden="true" width="34" height="10"><path class="kss-curve" {_look(index)} d="M0 5h34"/></svg>'


_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _encode(numbers: Int[np.ndarray, " n"]) -> str:
    """Differences in base64 VLQ, the code of source maps: sign in the lowest bit, then 5 bits a letter, lowest first."""
    letters = []
    for difference in np.diff(numbers, prepend=0).tolist():
        rest = (abs(difference) << 1) | (difference < 0)
        while True:
            rest, low = rest >> 5, rest & 31
            letters.append(_DIGITS[low | (32 if rest else 0)])
            if not rest:
                break
    return "".join(letters)


_CLEAR = 1  # a gray that pixels never take, declared transparent


def _png(sheet: Float[np.ndarray, "H W"]) -> bytes:
    """A gray PNG in 64 levels: -1 white, +1 black, NaN transparent."""
    levels = np.rint(31.5 - 31.5 * np.clip(np.nan_to_num(sheet), -1, 1))
    gray: UInt8[np.ndarray, "H W"] = np.where(np.isnan(sheet), _CLEAR, np.rint(levels * (255 / 63))).astype(np.uint8)
    rows = np.pad(gray, ((0, 0), (1, 0)))  # each row starts with its filter, 0 for none
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", gray.shape[1], gray.shape[0], 8, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", _CLEAR),
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    packed = (struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


# Everything is drawn in the color of the text around it, so that it can be read on light and dark pages. The rule for the dark
# theme of the book undoes the light box that theme draws around the HTML of a cell.
_CSS = """
.kss-figure{margin:1rem 0;font-size:.95rem}
html[data-theme=dark] .bd-content div.cell_output .text_html:has(div.kss-figure){background:none;color:inherit;padding:0}
.kss-figure .kss-plot{display:block;width:100%;height:auto}
.kss-figure .kss-plot text{font:14px sans-serif;fill:currentColor}
.kss-figure path{fill:none}
.kss-figure .kss-axis{stroke:currentColor}
.kss-figure .kss-grid{stroke:currentColor;stroke-opacity:.18}
.kss-figure .kss-curve{stroke-width:2.2;stroke-linejoin:round;vector-effect:non-scaling-stroke}
.kss-figure .kss-legend{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;margin-bottom:.4rem}
.kss-figure .kss-legend svg{display:inline;vertical-align:middle}
.kss-figure img.kss-sheet{display:block;width:100%;height:auto;image-rendering:pixelated}
.kss-figure .kss-control{display:flex;align-items:center;gap:.8rem;margin-top:.5rem}
.kss-figure label{display:flex;flex:1;flex-wrap:wrap;align-items:center;gap:.2rem .8rem;margin:0;min-width:0}
.kss-figure input{flex:1;min-width:8rem;accent-color:#0072B2}
.kss-figure output{min-width:4.5em;font-variant-numeric:tabular-nums}
@media print{.kss-figure{break-inside:avoid}.kss-figure input{display:none}.kss-figure label{flex:none}}
"""

# `hidden` goes only when the script runs: without it there is no slider that does nothing.
_SCRIPT = """(function(id,data){
function decode(code){const numbers=[];let value=0,shift=0,last=0;
for(const letter of code){const bits="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".indexOf(letter);
value|=(bits&31)<<shift;shift+=5;
if(bits<32){last+=value&1?-(value>>1):value>>1;numbers.push(last);value=shift=0}}return numbers}
for(const root of document.querySelectorAll('.kss-figure[data-kss="'+id+'"]:not([data-ready])')){
root.dataset.ready="";
const input=root.querySelector("input"),output=root.querySelector("output");
const show=function(){const frame=+input.value;%(draw)s
output.textContent=data.text[frame];input.setAttribute("aria-valuetext",data.text[frame])};
input.hidden=false;input.addEventListener("input",show);show()}
})("%(identity)s",%(data)s);"""

_DRAW_CURVES = """const x=decode(data.x);
root.querySelectorAll(".kss-plot .kss-curve").forEach(function(path,i){const codes=data.y[i];
const y=decode(codes[codes.length>1?frame:0]);path.setAttribute("d","M"+x.map((a,k)=>a+","+y[k]).join(" "))});"""

_DRAW_IMAGES = """root.querySelector("img").src="data:image/png;base64,"+data.png[frame];"""
