r"""Smoothing with a few fixed displacements: scores that split, and flows that end in barycenters.

Averages over M displacements `xi_1 .. xi_M` (draws of a kernel, kept fixed) with equal or other weights:

    s~_t(x) = sum_m w_m s_t(x + xi_m) = (sum_m w_m m_t(x + xi_m) - x - sum_m w_m xi_m)/t.

On data in a flat subspace every such average splits (`split_score`), whatever the displacements. As `t -> 0` the denoiser becomes the
nearest data point, and with equal weights and `c = mean xi`

    t s~_t(x) -> F(x) - x,     F(x) = (1/M) sum_m x_nn(x + xi_m) - c,

which is constant on the cells of M overlaid, displaced Voronoi diagrams. `F(x) - x = -grad U` with

    U(x) = (1/2M) sum_m dist^2(x + xi_m, data):

a minimum of paraboloids with the same Hessian. The flow `dx/d(log t) = (x - F(x))/2` runs straight to `F`, cell by cell, and ends where
`F(x) = x`: at the barycenter of an M-tuple of data (less c), in the interior of a cell.
(Smoothing the closed-form score with a few draws, and its barycenters: Scarvelis, Borde and Solomon, arXiv 2310.12395.)
"""

import itertools
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kss._validation import ArrayLike, as_points, as_positive, as_tensor, reject
from kss.scores.protocol import Score, score_function

MOST_TUPLES = 10**6
MOST_NUMBERS = 2**22
"""In one block of intermediate results: 32 MiB."""
MOST_CELLS = 10**5
"""Cells that one path may cross; far above what the number of tuples suggests."""


def drawn_score(base: Score, x: ArrayLike, t: float, draws: ArrayLike, weights: ArrayLike | None = None) -> Float[Tensor, "n d"]:
    """`sum_m w_m s_t(x + xi_m)`: the score of `base` averaged over given displacements, at points `x` (n, d) and one noise variance t.

    `draws` (M, d), the same for all points, or (n, M, d), a kernel that depends on the place; they need not be centered. `weights`
    (M,) or (n, M) are nonnegative and are divided by their sum; equal if omitted.

    >>> from kss.distributions import Gaussian
    >>> drawn_score(Gaussian([0.0], 1.0), [[3.0]], t=0.5, draws=[[-1.0], [2.0]])
    tensor([[-2.3333]], dtype=torch.float64)
    """
    places, offsets, shares = _kernel(x, draws, weights)
    moved = (places.unsqueeze(-2) + offsets).flatten(0, 1)
    values = score_function(base)(moved, as_positive("t", t)).unflatten(0, offsets.shape[:2])
    return (values * shares.unsqueeze(-1)).sum(-2)


def split_score(base: Score, x: ArrayLike, t: float, draws: ArrayLike, weights: ArrayLike | None = None) -> Float[Tensor, "n d"]:
    """The same for data on `R^k x {0}`, from a `base` on R^k alone: it splits.

    Tangential part: the k-dimensional score averaged over the tangential parts of the displacements. Normal part:
    `-(n + mean normal displacement)/t`. Arguments as in `drawn_score`, with `x` and `draws` of dimension d >= k; k is that of
    `base`, which has an attribute `dim`.

    >>> from kss.distributions import Gaussian
    >>> split_score(Gaussian([0.0], 1.0), [[3.0, 0.1]], t=0.5, draws=[[-1.0, 5.0], [2.0, -5.0]])
    tensor([[-2.3333, -0.2000]], dtype=torch.float64)
    """
    places, offsets, shares = _kernel(x, draws, weights)
    k = getattr(base, "dim", None)
    if not isinstance(k, int) or k > places.shape[-1]:
        raise reject("base", base, f"a law with a dimension `dim` of at most {places.shape[-1]}")
    along = drawn_score(base, places[:, :k], t, offsets[..., :k], shares)
    mean = (offsets[..., k:] * shares.unsqueeze(-1)).sum(-2)
    return torch.cat((along, -(places[:, k:] + mean) / as_positive("t", t)), -1)


def curl(slope: Any, second: Any) -> Any:
    """`h'(n) (G_h * s)''(y)/2`: what a Gaussian kernel of tangential variance h(n), n the normal coordinate, puts off the diagonal.

    It is `d/dn` of the tangential component of the averaged score, next to a line; `d/dy` of the normal component is 0, so the field is a
    gradient only where this vanishes. `slope` is `h'`, `second` the second derivative of the smoothed score. Arithmetic only.
    """
    return slope * second / 2


def barycenter(points: ArrayLike, x: ArrayLike, draws: ArrayLike) -> Float[Tensor, "n d"]:
    """`F(x) = (1/M) sum_m x_nn(x + xi_m) - mean xi` at `x` (n, d), for data `points` (N, d) and `draws` (M, d)."""
    data, places, offsets = _finite(points, x, draws)
    return data[_cell(data, places, offsets)].mean(-2) - offsets.mean(0)


class RestPoints(NamedTuple):
    """Where the flow can end: the points with `F(x) = x` inside a cell."""

    x: Float[Tensor, "r d"]
    data: Int[Tensor, "r M"]
    """Which data point each displacement leads to; x is their barycenter less the mean displacement."""
    margin: Float[Tensor, " r"]
    """The distance from x to the rim of its cell; infinite if there is no other cell."""


def rest_points(points: ArrayLike, draws: ArrayLike) -> RestPoints:
    """All rest points of the flow that are inside a cell: every N^M tuples are tried, a million at most.

    Copies of a data point count once.

    >>> rest_points([[-1.0], [1.0]], draws=[[-0.5], [0.5]]).x.squeeze(-1)
    tensor([-1.,  0.,  1.], dtype=torch.float64)
    """
    data, _, offsets = _finite(points, None, draws)
    data = torch.unique(data, dim=0)
    if len(data) ** len(offsets) > MOST_TUPLES:
        raise reject("draws", draws, f"few enough that the {len(data)}^M tuples are at most {MOST_TUPLES}")
    tuples = torch.tensor(list(itertools.product(range(len(data)), repeat=len(offsets))))
    candidates = data[tuples].mean(-2) - offsets.mean(0)
    height = _margins(data, candidates, offsets, tuples)
    kept = height > 0
    original = _original(as_points("points", points).double(), data)
    return RestPoints(candidates[kept], original[tuples[kept]], height[kept])


class EndPoints(NamedTuple):
    """Where paths end."""

    x: Float[Tensor, "n d"]
    data: Int[Tensor, "n M"]
    crossings: Int[Tensor, " n"]
    """Walls between cells that were crossed on the way."""


def end_points(points: ArrayLike, x: ArrayLike, draws: ArrayLike) -> EndPoints:
    """Follow `dx/d(log t) = (x - F(x))/2` from `x` (n, d) to t = 0, exactly: straight to `F`, from wall to wall.

    A path that meets a wall crosses it, because F jumps away from walls. Starts on a wall go to one side of it.

    >>> end_points([[-1.0], [1.0]], [[-0.7], [0.2]], draws=[[-0.5], [0.5]]).x.squeeze(-1)
    tensor([-1.,  0.], dtype=torch.float64)
    """
    data, places, offsets = _finite(points, x, draws)
    place, mean = places.clone(), offsets.mean(0)
    which = _cell(data, place, offsets)
    square = (data**2).sum(-1)
    crossings = torch.zeros(len(place), dtype=torch.long)
    running = torch.arange(len(place))
    for _ in range(MOST_CELLS):
        now, here = which[running], place[running]
        step = data[now].mean(-2) - mean - here
        away = data[now].unsqueeze(-2) - data  # (r, M, N, d): from every other point to the one that is nearest now
        gap = 2 * ((here.unsqueeze(-2) + offsets).unsqueeze(-2) * away).sum(-1) + square - square[now].unsqueeze(-1)
        slope = 2 * (step[:, None, None] * away).sum(-1)
        length = torch.where(slope < 0, gap.clamp(min=0.0) / torch.where(slope < 0, -slope, 1.0), torch.inf).flatten(1)
        first, wall = length.min(-1)
        crossing = first < 1
        place[running] = here + torch.where(crossing, first, 1.0).unsqueeze(-1) * step
        rows = running[crossing]
        wall = wall[crossing]
        which[rows, wall // len(data)] = wall % len(data)
        crossings[rows] += 1
        running = rows
        if len(running) == 0:
            return EndPoints(place, which, crossings)
    raise ArithmeticError(f"{len(running)} paths crossed {MOST_CELLS} cells and have not ended")


def _kernel(x: ArrayLike, draws: ArrayLike, weights: ArrayLike | None) -> tuple[Tensor, Tensor, Tensor]:
    """Points (n, d), displacements (n, M, d) and weights (n, M) that sum to 1."""
    places = as_points("x", x)
    offsets = as_tensor("draws", draws, like=places).to(torch.promote_types(places.dtype, as_tensor("draws", draws).dtype))
    fits = offsets.ndim in (2, 3) and offsets.shape[-1] == places.shape[-1] and offsets.numel() > 0
    if not fits or (offsets.ndim == 3 and len(offsets) != len(places)):
        n, d = places.shape
        raise reject("draws", draws, f"displacements of shape (M, {d}) or ({n}, M, {d})")
    offsets = offsets.expand(len(places), *offsets.shape[-2:])
    shares = torch.ones_like(offsets[0, :, 0]) if weights is None else as_tensor("weights", weights, like=places).to(offsets.dtype)
    if shares.ndim not in (1, 2) or shares.shape[-1] != offsets.shape[1] or (shares.ndim == 2 and len(shares) != len(places)):
        raise reject("weights", weights, f"{offsets.shape[1]} weights, or so many for each of {len(places)} points")
    if bool((shares < 0).any()) or bool((shares.sum(-1) == 0).any()):
        raise reject("weights", weights, "numbers >= 0, not all 0")
    return places, offsets, (shares / shares.sum(-1, keepdim=True)).expand(offsets.shape[:-1])


def _finite(points: ArrayLike, x: ArrayLike | None, draws: ArrayLike) -> tuple[Tensor, Tensor, Tensor]:
    data = as_points("points", points).double()
    places = data if x is None else as_points("x", x, dim=data.shape[1]).double()
    return data, places, as_points("draws", draws, dim=data.shape[1]).double()


def _cell(data: Float[Tensor, "N d"], x: Float[Tensor, "n d"], draws: Float[Tensor, "M d"]) -> Int[Tensor, "n M"]:
    moved = (x.unsqueeze(-2) + draws).flatten(0, 1)
    distance = torch.cdist(moved, data, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.argmin(-1).unflatten(0, (len(x), len(draws)))


def _margins(
    data: Float[Tensor, "N d"], x: Float[Tensor, "n d"], draws: Float[Tensor, "M d"], cell: Int[Tensor, "n M"]
) -> Float[Tensor, " n"]:
    """The distance from x to the nearest wall of the cell with the given indices, negative outside of it; rounding counts as outside."""
    size = data.abs().max() + draws.abs().max()
    rows = max(1, MOST_NUMBERS // data.numel())
    if len(x) > rows:
        return torch.cat([_margins(data, x[i : i + rows], draws, cell[i : i + rows]) for i in range(0, len(x), rows)])
    smallest = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for m, draw in enumerate(draws):
        nearest = data[cell[:, m]]
        between = nearest.unsqueeze(1) - data  # (n, N, d)
        length = between.norm(dim=-1)
        middle = (nearest.unsqueeze(1) + data) / 2
        height = ((x + draw).unsqueeze(1) - middle).mul(between).sum(-1) / torch.where(length > 0, length, 1.0)
        smallest = torch.minimum(smallest, torch.where(length > 0, height, torch.inf).amin(-1))
    return torch.where(smallest > 64 * torch.finfo(torch.float64).eps * size, smallest, -smallest.abs())


def _original(points: Float[Tensor, "N d"], unique: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    same: Bool[Tensor, "n N"] = (unique.unsqueeze(1) == points).all(-1)
    return same.long().argmax(-1)
