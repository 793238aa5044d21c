r"""The empirical score that is not told the noise level.

A network that sees `x` but not `t` learns the score of a mixture over noise levels. With the standard deviation log-uniform on
(0, oo) the level integrates out,

    int_0^oo sigma^(-d) exp(-r^2/2 sigma^2) dsigma/sigma  =  const r^(-d),

so that the density is proportional to `sum_j r_j^(-d)` with `r_j = |x - x_j|`, and its score is that of inverse-distance
(Shepard's) weights,

    s(x) = -d sum_j w_j (x - x_j)/r_j^2,        w_j proportional to r_j^(-d).

A training loss with the weight `sigma^a` at level sigma changes the exponent d to `c = d - a`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, as_positive, as_query, reject
from kss.distributions import Empirical

BLOCK = 2**19
"""Numbers in an array of differences: 4 MiB."""
EXTREME = 1e307
"""From this size on coordinates are scaled down, lest their differences overflow."""


class NoiseUnconditioned:
    """The score of `sum_j |x - x_j|^(-c)` for the points of an `Empirical`, with `exponent` c > 0, by default the dimension d.

    Every method accepts `t` and ignores it, so that the score can stand wherever one is expected; results have the shape of `x`.
    The density is improper: it cannot be normalized, neither at the data nor far away. Memory is bounded whatever N and the number
    of points `x` (when no gradient is asked for).

    **At a data point** the density is infinite and the score has no value: next to it, it is `-c (x - x_i)/|x - x_i|^2`, of any size
    and every direction. Returned is 0, the limit of its mean over small spheres around the data point: a place where ascent rests.

    (Zhou, Zhang and Wright, arXiv 2601.19285, describe noise unconditioning; the integral over all levels is this project's.)

    >>> pair = NoiseUnconditioned(Empirical([[0.0], [1.0]]))
    >>> pair.score([[0.5], [2.0], [1.0]])  # at 2: the weights are 1/3 and 2/3
    tensor([[ 0.0000],
            [-0.8333],
            [ 0.0000]], dtype=torch.float64)
    """

    def __init__(self, empirical: Empirical, *, exponent: float | None = None) -> None:
        if not isinstance(empirical, Empirical):
            raise reject("empirical", empirical, "an Empirical: the law of a data set")
        self.base = empirical
        self.exponent = float(empirical.dim) if exponent is None else as_positive("exponent", exponent)

    def __repr__(self) -> str:
        return f"NoiseUnconditioned({self.base!r}" + (")" if self.exponent == self.base.dim else f", exponent={self.exponent})")

    def score(self, x: ArrayLike, t: object = None) -> Float[Tensor, "*batch d"]:
        """`-c sum_j w_j (x - x_j)/r_j^2`, of the shape of `x` (..., d); 0 at a data point."""
        query = as_query(x, 1.0, like=self.base.points)
        nearest, _, pull = self._sums(query)
        # Divided by the distance last: a component that is 0 stays 0, and the others overflow only if their value does.
        value = torch.where(nearest > 0, self.exponent * pull / torch.where(nearest > 0, nearest, 1.0), 0.0)
        return self._shaped(value * self._unit(query), query)

    def unnormalized_log_density(self, x: ArrayLike, t: object = None) -> Float[Tensor, "*batch"]:
        """`log((1/N) sum_j r_j^(-c))`, of shape (...); infinite at a data point. Its gradient is the score."""
        query = as_query(x, 1.0, like=self.base.points)
        nearest, total, _ = self._sums(query)
        level = self.exponent * (nearest.log() - math.log(self._unit(query)))
        return self._shaped(((total / len(self.base)).log() - level).squeeze(-1), query, scalar=True)

    def dominant_variance(self, x: ArrayLike, t: object = None) -> Float[Tensor, "*batch"]:
        """`r_1^2/c`, r_1 the distance to the nearest point: the noise variance at which that point is likeliest to have become x."""
        query = as_query(x, 1.0, like=self.base.points)
        nearest, _, _ = self._sums(query)
        root = nearest / self.exponent**0.5 / self._unit(query)
        return self._shaped((root * root).squeeze(-1), query, scalar=True)

    def ascend(self, x: ArrayLike, size: float = 1.0) -> Float[Tensor, "*batch d"]:
        """One step of ascent, `x + size r_1^2/c s(x)`, from `x` (..., d): with the dominant variance as the unit of length squared."""
        size, query = as_positive("size", size), as_query(x, 1.0, like=self.base.points)
        nearest, _, pull = self._sums(query)
        return self._shaped(query.x.reshape(-1, self.base.dim) + size * nearest * pull / self._unit(query), query)

    def denoise(self, x: ArrayLike, t: object = None) -> Float[Tensor, "*batch d"]:
        """`sum_j w_j x_j` with `w_j` proportional to `r_j^(-c)`, of the shape of `x` (..., d): the mean of the clean point, t unknown.

        With all levels allowed, the clean point given x is `x_j` with probability `w_j`: the best guess, in mean square, of a denoiser
        that is not told t. Unlike the score it is bounded: in the convex hull of the data, and at a data point that point.

        >>> NoiseUnconditioned(Empirical([[0.0], [1.0]])).denoise([[0.5], [2.0], [1.0]]).flatten()
        tensor([0.5000, 0.6667, 1.0000], dtype=torch.float64)
        """
        query = as_query(x, 1.0, like=self.base.points)
        largest = max([1e-300, *(float(part.detach().abs().max()) for part in (self.base.points, query.x) if part.numel())])
        unit = 1 / largest  # squared distances of any points stay in range
        points = self.base.points.double() * unit
        parts = []
        for rows in (query.x.reshape(-1, self.base.dim) * unit).split(256):
            distance = torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist")
            weights = _ratio(distance.amin(1, keepdim=True), distance) ** self.exponent
            parts.append(weights @ points / weights.sum(1, keepdim=True))
        return self._shaped(torch.cat(parts) * largest, query)

    def _unit(self, query: Query) -> float:
        """What lengths are multiplied by before anything is computed."""
        largest = float(self.base.points.abs().max())
        if query.x.numel():
            largest = max(largest, float(query.x.detach().abs().max()))
        return 2.0**-10 if largest > EXTREME else 1.0

    def _shaped(self, flat: Tensor, query: Query, scalar: bool = False) -> Tensor:
        return flat.reshape(query.x.shape[:-1] if scalar else query.x.shape).to(query.dtype)

    def _sums(self, query: Query) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B 1"], Float[Tensor, "B d"]]:
        """`r_1`, `sum_j (r_1/r_j)^c`, and the weighted mean of `(r_1/r_j) (x_j - x)/r_j`, lengths in the unit of `_unit`."""
        unit = self._unit(query)
        points, flat = self.base.points.double() * unit, query.x.reshape(-1, self.base.dim) * unit
        height = max(1, min(len(flat), 256, BLOCK // self.base.dim))
        parts = [self._of_rows(points, rows) for rows in flat.split(height)]
        nearest, total, pull = (torch.cat(fields) for fields in zip(*parts, strict=True))
        return nearest, total, pull

    def _of_rows(self, points: Float[Tensor, "N d"], x: Float[Tensor, "b d"]) -> tuple[Tensor, Tensor, Tensor]:
        nearest = x.new_full((len(x), 1), torch.inf)
        total, pull = torch.zeros_like(nearest), torch.zeros_like(x)
        for some in points.split(max(1, BLOCK // max(1, x.numel()))):
            away = some - x.unsqueeze(1)
            largest = away.detach().abs().amax(-1, keepdim=True)
            apart = largest > 0
            # Divided before it is squared; where x is a data point the distance is 0, without a gradient.
            relative = torch.where(apart, away / torch.where(apart, largest, 1.0), 1.0)
            distance = torch.where(apart, largest * relative.norm(dim=-1, keepdim=True), 0.0)
            closest = torch.minimum(nearest, distance.amin(1))
            ratio = _ratio(closest.unsqueeze(1), distance)
            weight = ratio**self.exponent
            toward = torch.where(apart, away / torch.where(apart, distance, 1.0), 0.0)
            rescale = torch.where(nearest.isinf(), 0.0, _ratio(closest, nearest))
            total = rescale**self.exponent * total + weight.sum(1)
            pull = rescale ** (self.exponent + 1) * pull + (weight * ratio * toward).sum(1)
            nearest = closest
        return nearest, total, pull / total


def _ratio(smaller: Tensor, larger: Tensor) -> Tensor:
    """`smaller/larger`, with 0/0 = 1: equal is equal."""
    some = larger > 0
    return torch.where(some, smaller / torch.where(some, larger, 1.0), 1.0)
