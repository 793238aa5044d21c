r"""Compact kernels: the LED-KDE as a morphological operation.

Put a disc of radius a on each data point (`p^N = (1/N) sum_i` of the uniform laws) and smooth the logarithm with a disc of radius b. The
logarithm is minus infinity off the discs, so the LED-KDE is positive exactly where the disc of radius b about x lies inside the union of
the discs of radius a about the data:

    support = (data dilated by a) eroded by b = {x : max_{|y - x| <= b} dist(y, data) <= a},

up to boundaries. For `a > b` this is the closing by b of the data dilated by `a - b`; for `a = b` the closing of the data themselves, the
complement of all open discs of radius b that miss them (the alpha-hull of Edelsbrunner, Kirkpatrick & Seidel, IEEE Trans. Inf. Theory
29, 1983); for `a < b` often nothing is left.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_positive
from kss.kernels import BallKernel

BLOCK = 2**21
"""Numbers in the largest temporary array."""


def emptiness(points: ArrayLike, x: ArrayLike, b: float) -> Float[Tensor, " n"]:
    """`max_{|y - x| <= b} dist(y, data)` for data `points` (N, 2) and places `x` (n, 2), exactly.

    Within the disc the distance to the data is largest at a point equally far from three of them, or on the circle at a
    point equally far from two, or on the circle opposite to one. All these are tried, N^3 of them: for small N.
    """
    data, places, b = as_points("points", points, dim=2).double(), as_points("x", x, dim=2).double(), as_positive("b", b)
    data = torch.unique(data, dim=0)
    pairs = torch.combinations(torch.arange(len(data)), 2)
    centers = _circumcenters(data)
    depth = torch.cat([_distance(part, data) for part in centers.split(max(1, BLOCK // (2 * len(data))))])
    height = max(1, BLOCK // (2 * (len(data) * (2 * len(pairs) + len(data) + 1) + len(centers))))
    parts = []
    for place in places.split(height):
        away = place.unsqueeze(1) - data
        length = away.norm(dim=-1, keepdim=True)
        opposite = place.unsqueeze(1) + b * torch.where(length > 0, away / length, torch.tensor([1.0, 0.0], dtype=torch.float64))
        on_circle = _bisectors_on_circle(data, pairs, place, b)
        largest = _distance(torch.cat((opposite, on_circle, place.unsqueeze(1)), 1), data).amax(-1)
        inside = (centers - place.unsqueeze(1)).norm(dim=-1) <= b
        within = torch.where(inside, depth, 0.0)
        parts.append(torch.maximum(largest, within.amax(-1)) if len(centers) else largest)
    return torch.cat(parts)


def in_support(points: ArrayLike, x: ArrayLike, a: float, b: float) -> Bool[Tensor, " n"]:
    """Whether the LED-KDE with discs of radii `a` (on the data) and `b` (in the logarithm) is positive at `x` (n, 2)."""
    return emptiness(points, x, b) <= as_positive("a", a)


def unnormalized_log_density(points: ArrayLike, x: ArrayLike, a: float, b: float, nodes: int = 64) -> Float[Tensor, " n"]:
    """`log` of the LED-KDE with discs of radii `a` and `b` up to a constant, at `x` (n, 2); minus infinity off the support, exactly.

    On the support it is the mean over the disc about x of `log (number of data within a)`: a sum over about `nodes^2/4` nodes of a
    function with jumps, good to a few percent.
    """
    data, places = as_points("points", points, dim=2).double(), as_points("x", x, dim=2).double()
    rule = BallKernel(as_positive("b", b)).grid(2, as_count("nodes", nodes, minimum=4))
    parts = []
    for place in places.split(max(1, BLOCK // (rule.size * len(data)))):
        count = (_pairwise(place.unsqueeze(1) + b * rule.nodes[0], data) <= as_positive("a", a)).sum(-1)
        # A node on the rim may miss the discs where the support, decided below, does not.
        parts.append((count.clamp_min(1).double().log() * rule.weights).sum(-1))
    return torch.where(in_support(data, places, a, b), torch.cat(parts), -torch.inf)


def _pairwise(y: Float[Tensor, "*batch 2"], data: Float[Tensor, "N 2"]) -> Float[Tensor, "*batch N"]:
    return (y.unsqueeze(-2) - data).norm(dim=-1)


def _distance(y: Float[Tensor, "*batch 2"], data: Float[Tensor, "N 2"]) -> Float[Tensor, "*batch"]:
    return _pairwise(y, data).amin(-1)


def _circumcenters(data: Float[Tensor, "N 2"]) -> Float[Tensor, "m 2"]:
    triples = torch.combinations(torch.arange(len(data)), 3)
    first, u, v = data[triples[:, 0]], data[triples[:, 1]] - data[triples[:, 0]], data[triples[:, 2]] - data[triples[:, 0]]
    cross = 2 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    flat = cross == 0
    uu, vv = (u**2).sum(-1), (v**2).sum(-1)
    offset = torch.stack((v[:, 1] * uu - u[:, 1] * vv, u[:, 0] * vv - v[:, 0] * uu), -1)
    return (first + offset / torch.where(flat, 1.0, cross).unsqueeze(-1))[~flat]


def _bisectors_on_circle(
    data: Float[Tensor, "N 2"], pairs: Int[Tensor, "m 2"], place: Float[Tensor, "n 2"], b: float
) -> Float[Tensor, "n q 2"]:
    """Where the line of points equally far from two data meets the circle of radius b about each place; the place itself if nowhere."""
    p, q = data[pairs[:, 0]], data[pairs[:, 1]]
    normal = (q - p) / (q - p).norm(dim=-1, keepdim=True)
    distance = (((p + q) / 2 - place.unsqueeze(1)) * normal).sum(-1, keepdim=True)
    along = torch.stack((-normal[:, 1], normal[:, 0]), -1) * (b**2 - distance**2).clamp_min(0.0).sqrt()
    foot = place.unsqueeze(1) + distance * normal
    both = torch.cat((foot + along, foot - along), 1)
    return torch.where((distance.abs() <= b).repeat(1, 2, 1), both, place.unsqueeze(1))
