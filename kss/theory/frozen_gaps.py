r"""The mean gaps of an empirical score at the origin below freezing: exactly, by the random energy model, and the difference.

Setting of `kss.theory.geometric_memorization`, at x = 0. With the energies `E_i = |x_i|^2/2`, independent, of density f and
distribution function F, the weights are `e^{-E_i/t}/Z`. As t -> 0, at any fixed N,

    E[1 - C_aa/t]    ->  E[(x_nn)_a^2] / lambda_a           x_nn the datum nearest to the origin,
    E[1 - sum w^2]/t ->  N(N - 1) int f^2 (1 - F)^{N-2} de   the density of the gap E_(2) - E_(1) at 0.

The random energy model puts the nearest datum where the posterior of the law would be at the freezing time `t_*`, and so gives
`t_*/(lambda_a + t_*)` and `1/t_*`. That is right as `d -> infinity` with `log N` of order d; the next order is here as well, and what
remains in a fixed dimension as `N -> infinity`.

The law of a sum of squares with different variances is expanded in chi-squared laws (Ruben, Annals of Mathematical Statistics 33, 1962).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import special, stats
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_variances, reject
from kss.theory.geometric_memorization import as_size, condensation_time_at, population_gap

NODES = 480
"""Of the trapezoidal rule in log e. The integrands are analytic and die out doubly exponentially: rounding is reached at about 200."""
MOST_TERMS = 20000
"""Of the expansion in chi-squared laws."""


def frozen_gap(variances: ArrayLike, n: float | int) -> Float[Tensor, " d"]:
    """The frozen law `t_*/(lambda_a + t_*)`: the mean gap at the origin for `t < t_*`, in the random energy model.

    `t_*` is `condensation_time_at` the origin. `n = 1` gives 1.
    """
    lam = as_variances(variances)
    if as_size(n) == 1:
        return torch.ones_like(lam)
    return population_gap(lam, condensation_time_at(torch.zeros_like(lam), lam, n))


def corrected_frozen_gap(variances: ArrayLike, n: float | int) -> Float[Tensor, " d"]:
    r"""The frozen law with its next order, for `t -> 0`. With `v = lambda t_*/(lambda + t_*)`, `V = (1/2) sum v^2`, `W = sum v^3`,

        (v_a/lambda_a) [1 + (v_a t_*/V) (log(2 pi V/t_*^2)/2 - gamma) - v_a^2/V + v_a W/(2 V^2)],      gamma = 0.5772...

    The nearest of N data is not at the energy `e_*` where `N F = 1` to exponential accuracy, but `t_* [log(2 pi V/t_*^2)/2 - gamma]`
    above it on average; the last two terms turn the tilted law of x into the law at fixed energy. Relative error `O((log d/d)^2)`.
    """
    lam = as_variances(variances)
    if as_size(n) == 1:
        return torch.ones_like(lam)
    t = condensation_time_at(torch.zeros_like(lam), lam, n)
    v = lam * t / (lam + t)
    second, third = (v**2).sum() / 2, (v**3).sum()
    shift = torch.log(2 * math.pi * second / t**2) / 2 - np.euler_gamma
    correction = v * t / second * shift - v**2 / second + v * third / (2 * second**2)
    return t / (lam + t) * (1 + correction)


def fixed_dimension_factor(dim: int) -> float:
    r"""`lim E[(x_nn)_a^2]/t_*` as `N -> infinity` in a fixed dimension d = `dim`: `(2e/d) Gamma(1 + 2/d) Gamma(1 + d/2)^{2/d}`.

    1.98 for d = 3. It tends to 1 as d grows, like `1 + (log(pi d) - 2 gamma)/d`, slowly: 1.3 at d = 10, 1.04 at d = 125.

    >>> round(fixed_dimension_factor(2), 4) == round(math.e, 4)
    True
    """
    d = as_count("dim", dim)
    return 2 / d * math.exp(1 + math.lgamma(1 + 2 / d) + 2 / d * math.lgamma(1 + d / 2))


def nearest_gap(variances: ArrayLike, n: float | int) -> Float[Tensor, " d"]:
    """`E[(x_nn)_a^2]/lambda_a` for the nearest to the origin of N = `n` draws from `N(0, diag(variances))`: exact, by quadrature.

    It is the mean gap at the origin as `t -> 0`. A direction without variance has 1. `ValueError` if the variances are too far apart
    (largest over least positive, times dimension: about 10^4).
    """
    lam, size = as_variances(variances), as_size(n)
    positive = lam[lam > 0].numpy()
    gaps = torch.ones_like(lam)
    if size == 1 or len(positive) == 0:
        return gaps
    base = _law(positive)
    e, weight = _nodes(base, positive, size)
    survival = np.exp(special.xlog1py(size - 1, -np.minimum(base.cdf(e), 1.0)))
    for value in np.unique(positive):
        tilted = _law(np.append(positive, [value, value]), base.scale)  # x_a^2 times a normal density: two degrees of freedom more
        gaps[lam == value] = size * float((weight * survival * tilted.density(e)).sum())
    return gaps


def near_tie_rate(variances: ArrayLike, n: float | int) -> float:
    """`lim E[1 - sum_i w_i^2]/t` at the origin as `t -> 0`: the density at 0 of the gap between the two least `|x_i|^2/2`.

    Exact, by quadrature. Infinite in one dimension, where the limit is reached like `log(1/t)`; 0 for n = 1.
    """
    lam, size = as_variances(variances), as_size(n)
    positive = lam[lam > 0].numpy()
    if size == 1:
        return 0.0
    if len(positive) < 2:
        return math.inf
    base = _law(positive)
    e, weight = _nodes(base, positive, size)
    survival = np.exp(special.xlog1py(size - 2, -np.minimum(base.cdf(e), 1.0)))
    return size * (size - 1) * float((weight * survival * base.density(e) ** 2).sum())


class _Law(NamedTuple):
    """The law of `(1/2) sum_a lambda_a z_a^2` as a mixture of gamma laws, of shapes d/2 + k and one scale."""

    coefficients: np.ndarray
    half: float
    scale: float

    def _terms(self, e: np.ndarray) -> np.ndarray:
        # Beyond these a gamma law has nothing to the left of e.
        u = float(e.max()) / self.scale
        return np.arange(min(len(self.coefficients), int(u + 14 * math.sqrt(u + self.half) + 60)))

    def cdf(self, e: np.ndarray) -> np.ndarray:
        k = self._terms(e)
        return special.gammainc(self.half + k, e[:, None] / self.scale) @ self.coefficients[k]

    def density(self, e: np.ndarray) -> np.ndarray:
        k, u = self._terms(e), e[:, None] / self.scale
        log_density = (self.half + k - 1) * np.log(u) - u - special.gammaln(self.half + k)
        return np.exp(log_density) @ self.coefficients[k] / self.scale


def _law(variances: np.ndarray, scale: float | None = None) -> _Law:
    """Ruben's expansion about the least variance: all coefficients are positive, and they sum to 1."""
    least = float(variances.min()) if scale is None else scale
    log_first = 0.5 * float(np.log(least / variances).sum())
    ratio = float(variances.max()) / least
    count = 1 if ratio == 1 else int(ratio * (len(variances) / 2 + 50) + 14 * math.sqrt(ratio * len(variances)) + 60)
    if count > MOST_TERMS or log_first < -690:
        raise reject("variances", variances.tolist() if len(variances) < 10 else variances, "variances that are less far apart")
    contrast = 1 - least / variances
    power = (contrast[None, :] ** np.arange(1, count)[:, None]).sum(1) if count > 1 else np.zeros(0)
    coefficients = np.zeros(count)
    coefficients[0] = math.exp(log_first)
    for k in range(1, count):
        coefficients[k] = power[:k][::-1] @ coefficients[:k] / (2 * k)
    return _Law(coefficients, len(variances) / 2, least)


def _nodes(law: _Law, variances: np.ndarray, n: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights in e, from where `N F(e)` is 1e-20 to where nothing is left: `(1 - F)^N`, or the law's own tail."""
    largest = float(variances.max())
    low, high = math.log(law.scale) - 500.0, math.log(largest / 2 * float(stats.chi2.isf(1e-22, len(variances) + 2)))

    def solve(level: float) -> float:
        left, right = low, high
        for _ in range(60):
            middle = (left + right) / 2
            if n * float(law.cdf(np.array([math.exp(middle)]))[0]) < level:
                left = middle
            else:
                right = middle
        return right

    start, stop = solve(1e-20), solve(min(50.0, 2 * n))
    s, step = np.linspace(start, stop, NODES, retstep=True)
    return np.exp(s), np.exp(s) * step
