r"""Independent energies at one temperature, by plain sums: a reference for softmax weights that shares no formula with `kss`.

For N independent points with the energies `e_i = |x - x_i|^2/2` and weights `w_i = u_i/Z`, `u_i = e^{-e_i/t}`, averages over all
data sets are integrals over one number, because `1/Z = int_0^oo e^{-sZ} ds` and the points are independent:

    E sum_i w_i v_i   = N int E[v u e^{-su}]   phi(s)^{N-1} ds,
    E sum_i w_i^2 v_i = N int s E[v u^2 e^{-su}] phi(s)^{N-1} ds,       phi(s) = E e^{-su}.

Inner means are sums over a grid in log e, outer integrals sums over a grid in log s. Both integrands are analytic and die out at both ends,
so the sums converge faster than any power of the step.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import interpolate, special, stats

GRID = 5000
"""Nodes in log e."""
STEP = 0.25
"""In log s: the error is about exp(-pi^2/STEP), relative."""
LOG_NEGLIGIBLE = -42.0
Grid = Float[np.ndarray, " m"]


class Energies(NamedTuple):
    """The law of one energy, on a grid that reaches from the lowest of N to the upper tail."""

    e: Grid
    mass: Grid
    """Density times the step, so that means are sums."""
    n: float


class Averages(NamedTuple):
    """Averages over data sets."""

    total: float
    """Of `sum_i w_i`: 1 up to the error of the sums."""
    squares: float
    """Of `sum_i w_i^2`."""
    first: float
    """Of `sum_i w_i v(e_i)`."""
    second: float
    """Of `sum_i w_i^2 v(e_i)`."""


def isotropic(dim: int, variance: float, n: float, squared_distance: float = 0.0) -> Energies:
    """N = `n` points from `N(0, variance I)` in R^dim, seen from a point at this squared distance from the mean."""
    if squared_distance == 0:
        return on_grid(lambda e: stats.gamma.logpdf(e, dim / 2, scale=variance), n, variance)
    law = stats.ncx2(dim, squared_distance / variance, scale=variance / 2)
    return on_grid(law.logpdf, n, variance)


def on_grid(log_density: Callable[[Grid], Grid], n: float, scale: float) -> Energies:
    """From the density of one energy, which is of the order of `scale`."""
    coarse = np.linspace(math.log(scale) - 80, math.log(scale) + 9, 8901)
    with np.errstate(all="ignore"):
        height = np.nan_to_num(log_density(np.exp(coarse)) + coarse, nan=-np.inf)
    kept = np.flatnonzero(height > LOG_NEGLIGIBLE - math.log(n))
    top = np.flatnonzero(height > LOG_NEGLIGIBLE)
    s, step = np.linspace(coarse[kept[0]], coarse[top[-1]], GRID, retstep=True)
    e = np.exp(s)
    return Energies(e, np.exp(log_density(e) + s) * step, n)


def averages(energies: Energies, t: float, values: Grid | float = 1.0) -> Averages:
    """The averages above at the temperature t, for `v(e)` on the grid of the energies.

    The grid resolves temperatures down to about a hundredth of the lowest energies.
    """
    e, mass, n = energies

    def lowered(log_s: Grid) -> Grid:
        """`N (1 - phi(s))`."""
        return n * (-np.expm1(-np.exp(np.clip(log_s[:, None] - e / t, -745, 60))) @ mass)

    def solve(level: float) -> float:
        low, high = e[0] / t - 50.0 - math.log(n), e[-1] / t + 60.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if lowered(np.array([middle]))[0] < level else (low, middle)
        return high

    log_s = np.arange(solve(1e-13), solve(50.0), STEP)
    scaled, before = e / t, np.concatenate(([0.0], np.cumsum(mass)))
    weighted, sums = mass * values, np.zeros(4)
    for rows in np.array_split(log_s, max(1, len(log_s) // 32)):
        # Further left e^{-su} is 0 to all digits, further right N u is.
        first, last = np.searchsorted(scaled, (rows[0] - 5.0, rows[-1] + 46.0 + math.log(n)))
        u = np.exp(rows[:, None] - scaled[first:last])
        left = np.exp(-u)
        survival = np.exp(special.xlog1py(n - 1, np.maximum(-before[first] - (-np.expm1(-u)) @ mass[first:last], -1.0)))
        for k, kernel in enumerate((u * left, u * u * left)):
            row = survival @ kernel
            sums[2 * k] += row @ mass[first:last]
            sums[2 * k + 1] += row @ weighted[first:last]
    total, average, squares, second = n * STEP * sums
    return Averages(total=float(total), squares=float(squares), first=float(average), second=float(second))


def least(energies: Energies, values: Grid | float) -> float:
    """The average of `v` at the lowest of the N energies."""
    _, mass, n = energies
    return float(n * (_above(energies, n - 1) @ (mass * values)))


def density_of_the_gap_at_zero(energies: Energies) -> float:
    """`N(N - 1) int f^2 (1 - F)^{N-2} de`: of the difference of the two lowest energies."""
    e, mass, n = energies
    step = math.log(e[1] / e[0])
    return float(n * (n - 1) * (_above(energies, n - 2) @ (mass**2 / (e * step))))


def share_of_gaps_below(energies: Energies, gap: float) -> float:
    """`P(E_(2) - E_(1) < gap)`, from `N int f(e) (1 - F(e + gap))^{N-1} de`."""
    e, mass, n = energies
    below = interpolate.make_interp_spline(e, _below(energies), k=3)
    later = np.clip(np.where(e + gap < e[-1], below(np.minimum(e + gap, e[-1])), 1.0), 0.0, 1.0)
    return 1 - float(n * (np.exp(special.xlog1py(n - 1, -later)) @ mass))


def _below(energies: Energies) -> Grid:
    """The distribution function on the grid."""
    s = np.log(energies.e)
    antiderivative = interpolate.CubicSpline(s, energies.mass / (s[1] - s[0])).antiderivative()
    return np.clip(antiderivative(s), 0.0, 1.0)


def _above(energies: Energies, power: float) -> Grid:
    """`(1 - F)^power`."""
    return np.exp(special.xlog1py(power, -_below(energies)))


@lru_cache(maxsize=64)
def two_blocks(dims: tuple[int, int], variances: tuple[float, float], n: float) -> tuple[Energies, Grid, Grid]:
    """Two blocks of directions, seen from the mean; and the mean square of one coordinate of each at given energy.

    With the part `y = sin^2 z` of the energy in the second block, for m and k directions of variances a and b,
    `f(e) ~ e^{(m + k)/2 - 1} int cos^{m-1} z sin^{k-1} z e^{-e((1 - y)/a + y/b)} dz`.
    """
    (m, k), (a, b) = dims, variances
    z, weight = special.roots_legendre(400)
    z, weight = (z + 1) * math.pi / 4, weight * math.pi / 4
    y = np.sin(z) ** 2
    constant = math.log(2) - (m * math.log(a) + k * math.log(b)) / 2 - math.lgamma(m / 2) - math.lgamma(k / 2)
    shape = (m - 1) * np.log(np.cos(z)) + (k - 1) * np.log(np.sin(z)) + np.log(weight) + constant

    def terms(e: Grid) -> np.ndarray:
        return shape - e[:, None] * ((1 - y) / a + y / b) + ((m + k) / 2 - 1) * np.log(e[:, None])

    law = on_grid(lambda e: special.logsumexp(terms(e), axis=1), n, max(a, b))
    share = np.exp(special.log_softmax(terms(law.e), axis=1)) @ y
    return law, 2 * law.e * (1 - share) / m, 2 * law.e * share / k
