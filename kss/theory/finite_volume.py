r"""Densities that diffuse and are driven by a score: the Fokker-Planck equation of the reverse SDE, on a box in R or R^2.

The law q of `dY = b_t(Y) dtau + dB`, with `t = t_max - tau`, solves

    d_tau q = -div(q b_t) + (1/2) Lap q - r_t q.

Nothing crosses the walls. The drift b is a score, or the drift of any other reverse process; the rate r >= 0, at which paths are killed, is
zero unless it is given. The box is cut into cells of width e along each axis. Mass hops between neighbors i, j at the rates

    i -> j: (1/2e^2) B(-2 e b),    j -> i: (1/2e^2) B(2 e b),     B(z) = z/(exp(z) - 1),

with b the drift from i to j at the middle of their face (Scharfetter and Gummel, IEEE Trans. Electron Devices 16 (1969), 64; Chang and
Cooper, J. Comput. Phys. 6 (1970), 1). They are positive, and their ratio is `exp(2 e b)`: on the line a drift that does not change has the
law at rest with `log q_j - log q_i = 2 e b`, so a drift `grad log pi` has the law `pi^2`, by the midpoint rule.

In time, each step takes the drift of its middle and solves the hopping process exactly, by *uniformization* (Jensen, Skand.
Aktuarietidskr. 36 (1953), 87): with A the matrix of rates and lambda the largest rate of leaving,

    exp(A s) = sum_k e^{-lambda s} (lambda s)^k/k! P^k,       P = I + A/lambda,

a sum of products of numbers >= 0. So masses stay non-negative, the total is kept, a law at rest stays what it is, and the error is of
second order in the cells and in the steps. (Rational functions of A cannot replace the exponential: beyond first order none is positive
for all steps; Bolley and Crouzeix, RAIRO Anal. numer. 12 (1978), 237.) The work is about `s/e^2` multiplications by a sparse matrix.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse, special, stats
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.dynamics import geometric_times, reverse_sde_drift
from kss.scores.protocol import Score, score_function


@dataclass(frozen=True)
class Box:
    """`cells` equal cells along each axis, between the corners `low` and `high`, in one or two dimensions.

    Cells are numbered row by row, the last axis fastest, as `torch.cartesian_prod` does.

    >>> Box(low=[0.0], high=[1.0], cells=[4]).centers()[:, 0]
    tensor([0.1250, 0.3750, 0.6250, 0.8750], dtype=torch.float64)
    """

    low: Sequence[float]
    high: Sequence[float]
    cells: Sequence[int]

    def __post_init__(self) -> None:
        low, high = as_tensor("low", self.low), as_tensor("high", self.high)
        if low.ndim != 1 or len(low) not in (1, 2):
            raise reject("low", self.low, "one or two numbers, a corner of the box")
        if high.shape != low.shape or not bool((high > low).all()):
            raise reject("high", self.high, f"{len(low)} number(s), each above that of low")
        if len(self.cells) != len(low):
            raise reject("cells", self.cells, f"{len(low)} number(s), one for each axis")
        for n in self.cells:
            as_count("cells", n, minimum=2)

    @property
    def widths(self) -> list[float]:
        """Width of a cell along each axis."""
        return [(float(b) - float(a)) / n for a, b, n in zip(self.low, self.high, self.cells, strict=True)]

    @property
    def volume(self) -> float:
        """Volume of a cell."""
        return math.prod(self.widths)

    def edges(self, axis: int) -> Float[Tensor, " edges"]:
        """Where the cells of an axis begin and end."""
        return torch.linspace(float(self.low[axis]), float(self.high[axis]), self.cells[axis] + 1, dtype=torch.float64)

    def centers(self) -> Float[Tensor, "cells d"]:
        """Centers of the cells."""
        return _product([_middles(self.edges(axis)) for axis in range(len(self.cells))])

    def faces(self, axis: int) -> Float[Tensor, "faces d"]:
        """Middles of the faces between neighbors along an axis; the walls are not among them."""
        return _product([self.edges(a)[1:-1] if a == axis else _middles(self.edges(a)) for a in range(len(self.cells))])

    def cumulative(self, density: ArrayLike) -> Float[Tensor, " edges"]:
        """On the line: the mass to the left of each edge."""
        if len(self.cells) != 1:
            raise reject("density", density, "a density on the line: in the plane nothing is to the left")
        values = self.density("density", density)
        return torch.cat((torch.zeros(1, dtype=torch.float64), values.cumsum(0) * self.volume))

    def density(self, name: str, value: ArrayLike) -> Float[Tensor, " cells"]:
        """`value` as finite numbers >= 0 in float64, one for each cell."""
        values = as_tensor(name, value).double()
        if values.shape != (math.prod(self.cells),) or not bool((values >= 0).all()):
            raise reject(name, value, f"{math.prod(self.cells)} numbers >= 0, one for each cell")
        return values


def hopping_rates(box: Box, drift: Sequence[ArrayLike]) -> sparse.csr_matrix:
    """The matrix A of `d_tau q = A q` for a drift that does not change: one array of its normal component on `box.faces(axis)` per axis.

    Off the diagonal it is >= 0, its columns sum to zero, and `A_ji/A_ij = exp(2 e b)` for neighbors i, j.
    """
    count, number = math.prod(box.cells), np.arange(math.prod(box.cells)).reshape(tuple(box.cells))
    if len(drift) != len(box.cells):
        raise reject("drift", drift, f"{len(box.cells)} array(s), one for each axis")
    rows, columns, rates = [], [], []
    for axis, width in enumerate(box.widths):
        b = as_tensor("drift", drift[axis]).double().cpu().numpy()
        before = np.delete(number, -1, axis).ravel()
        after = np.delete(number, 0, axis).ravel()
        if b.shape != before.shape:
            raise reject("drift", b, f"{len(before)} numbers along axis {axis}, one for each face between cells")
        forth, back = _bernoulli(-2 * width * b) / (2 * width**2), _bernoulli(2 * width * b) / (2 * width**2)
        rows += [after, before, before, after]
        columns += [before, after, before, after]
        rates += [forth, back, -forth, -back]
    return sparse.csr_matrix((np.concatenate(rates), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count))


def hop(rates: sparse.csr_matrix, density: ArrayLike, duration: float) -> Float[Tensor, " cells"]:
    """`exp(A duration) q` by uniformization; all terms of the sum are >= 0."""
    q, duration = as_tensor("density", density).double().cpu().numpy(), as_positive("duration", duration)
    fastest = float(max(-rates.diagonal().min(), np.finfo(np.float64).tiny))
    step = (sparse.identity(len(q), format="csr") + rates / fastest).tocsr()
    # The diagonal of the fastest cell is 0 up to rounding, which could be negative.
    step.data = np.maximum(step.data, 0.0)
    mean = fastest * duration
    weights = stats.poisson.pmf(np.arange(int(mean + 10 * math.sqrt(mean) + 30)), mean)  # what follows weighs less than 1e-17
    weights = weights / weights.sum()
    total = weights[0] * q
    for weight in weights[1:]:
        q = step @ q
        if weight:
            total = total + weight * q
    return torch.from_numpy(total)


def reverse_densities(
    score: Score,
    start: ArrayLike,
    box: Box,
    *,
    t_max: float,
    t_min: float,
    steps: int,
    killing: Callable[[Tensor, float], Tensor] | None = None,
) -> Float[Tensor, "times cells"]:
    """Densities of the reverse SDE driven by `score`, at `geometric_times(t_max, t_min, steps)`, one for each cell.

    Arguments: `score`, anything with a score, in the dimension of the box; `start` (cells,), the density at `t_max`, whose total mass is
    kept; `box`,
    wide enough that nothing would leave it; `killing(x, t)`, the rate r at the centers x (cells, d), >= 0 (then the mass falls).
    Raises `ValueError` for a start that is negative or of another length.
    """
    q, s = box.density("start", start), score_function(score)
    times = geometric_times(t_max, t_min, steps).tolist()
    faces, centers = [box.faces(axis) for axis in range(len(box.cells))], box.centers()
    densities = [q]
    for t, u in itertools.pairwise(times):
        middle = (t + u) / 2
        rates = hopping_rates(box, [reverse_sde_drift(s(at, middle))[:, axis] for axis, at in enumerate(faces)])
        if killing is not None:
            lost = as_tensor("killing", killing(centers, middle)).double()
            rates = rates - sparse.diags_array(box.density("killing", lost).numpy(), format="csr")
        q = hop(rates, q, t - u)
        densities.append(q)
    return torch.stack(densities)


def divergence(q: ArrayLike, p: ArrayLike, box: Box) -> float:
    """`KL(q || p)` of two densities on the cells of a box, each divided by its total mass."""
    a, b = (box.density(name, value).numpy() for name, value in (("q", q), ("p", p)))
    return float(special.rel_entr(a / a.sum(), b / b.sum()).sum())


def _bernoulli(z: np.ndarray) -> np.ndarray:
    """`z/(exp(z) - 1)`, 1 at z = 0, without overflow."""
    return np.asarray(np.where(z > 0, np.exp(-np.abs(z)), 1.0) / special.exprel(-np.abs(z)))


def _middles(edges: Tensor) -> Tensor:
    return (edges[1:] + edges[:-1]) / 2


def _product(axes: list[Tensor]) -> Any:
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))
