r"""Normal data: clone probability and information averaged over data sets, exactly, by quadrature - for any N, also e^100.

Let `x_1..x_N` be independent draws of `N(0, v I_k)` and `X = x_1 + sqrt(t) Z`; by scaling, v = 1. Write `E_i = |X - x_i|^2/2t` and
`S = sum_i e^{-E_i}`, so that `w_i = e^{-E_i}/S`. By symmetry, and because `w` is the posterior of the index,

    E sum_i w_i^2 = E w_1,        E I^N = log N + E log w_1.

Given X the terms of S are independent, and two integrals make products of them (`s = e^u`):

    1/S = int_0^oo e^{-s S} ds,        log S = int_0^oo (e^{-s} - e^{-s S}) ds/s.

With `g(u) = E[1 - exp(-e^{u - E_2}) | X]` therefore

    E w_1           = E int exp(u - E_1 - e^{u - E_1}) (1 - g(u))^{N-1} du,
    E[e^{-e^u S}]   = E exp(-e^{u - E_1}) (1 - g(u))^{N-1}.

Given X the distances `r_2 = |X - x_2|` have the density of a noncentral chi law, and those of `x_1` the same times
`e^{-E}/E[e^{-E_2} | X]`, its posterior; all depend on `|X|` alone, and `|X|^2/(1 + t)` has the law chi^2_k. That leaves three sums:
Gauss-Laguerre over `|X|^2`, Gauss-Legendre over r, and the trapezoidal rule over u, each exponentially accurate.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize, special

from kss._validation import as_count, as_positive, reject

RADII = 24
"""Nodes over `|X|^2`. Their error is the largest: 2e-7 at most in a scan over 1 to 20 dimensions and up to e^60 data."""
PANEL, WIDTH = 12, 4.0
"""Nodes over r for each step of WIDTH in E, at least."""
STANDARD = 1.5
"""The same in standard deviations of r given |X|."""
NARROW = 100.0
"""For larger t the nodes of |X| get a grid over r each."""
SERIES = 200
"""Terms of the power series of a Bessel function, where it underflows."""
STEP = 0.3
"""In u; the error of the trapezoidal rule is `e^{-pi^2/STEP}`."""
TAIL = 25.0
"""`e^{-TAIL}` is left out."""


class _Averages(NamedTuple):
    """On the grid `u`, for every node of `|X|`: what the data do to the two integrals."""

    u: np.ndarray
    ring: np.ndarray
    """`E exp(u - E_1 - e^{u - E_1})`, (u, X)."""
    silent: np.ndarray
    """`E exp(-e^{u - E_1})`, (u, X)."""
    g: np.ndarray
    """(u, X)."""
    energy: np.ndarray
    """`E E_1`, (X,)."""
    weights: np.ndarray
    """Of the nodes of `|X|`."""


def gaussian_clone_probability(dim: int, t: float, *, log_n: float, variance: float = 1.0) -> float:
    """`E sum_i w_i^2`, the mean over data sets and noise of the probability that two clones of a noisy data point agree.

    Data: `e^log_n` >= 1 independent draws of `N(0, variance I)` on R^dim; noise of variance `t`. As clones are posterior draws, it is also
    the probability that one run ends at the very point the noise was added to. The error is below 1e-6, and far smaller but for many data
    in few dimensions.

    >>> round(gaussian_clone_probability(4, 1e-3, log_n=2.0), 3)
    1.0
    """
    averages = _averages(dim, t, log_n, variance)
    survival = _power(averages.g, log_n)
    return min(1.0, float((averages.ring * survival).sum(0) @ averages.weights * STEP))


def gaussian_mean_information(dim: int, t: float, *, log_n: float, variance: float = 1.0) -> float:
    """`E I^N(t)` in nats: the mean over data sets of the information in a noisy data point about which point it was.

    Arguments and error as for `gaussian_clone_probability`.
    """
    averages = _averages(dim, t, log_n, variance)
    laplace = averages.silent * _power(averages.g, log_n)
    center = float(averages.energy @ averages.weights)
    # log S = int (exp(-e^{u - c}) - exp(-e^u S)) du - c
    log_sum = (np.exp(-np.exp(np.minimum(averages.u - center, 700.0)))[:, None] - laplace).sum(0) @ averages.weights * STEP - center
    return min(max(0.0, float(log_n - center - log_sum)), float(log_n))


def gaussian_collapse_time(dim: int, *, log_n: float, variance: float = 1.0, level: float = 0.5) -> float:
    """The t at which `gaussian_clone_probability` is `level`, between `1/n` and 1: where clones begin to agree."""
    level = as_positive("level", level)
    if not math.exp(-log_n) < level < 1:
        raise reject("level", level, "a probability between 1/n and 1")

    def excess(log_t: float) -> float:
        return gaussian_clone_probability(dim, math.exp(log_t), log_n=log_n, variance=variance) - level

    low = high = math.log(variance) - 2 * log_n / dim
    while excess(low) < 0:
        low -= 1.0
    while excess(high) > 0:
        high += 1.0
    return math.exp(float(optimize.brentq(excess, low, high, xtol=1e-9)))


def finite_size_constant(rate: float) -> float:
    r"""`C` in `t_{1/2}/t_c = 1 + C/k + ...`, for `e^{rate k}` normal data in k -> oo dimensions, by a heuristic argument.

    With `q = 1/(1 + t_c) = 1 - e^{-2 rate}` for unit variance and `Z` standard normal, `C = (2/q) E[-log Phi(sqrt(q/2) Z)]`. The argument,
    no proof: at `t_c` about half of the sum S that competes with the datum's own weight is missing, because the points that would make it
    up do not exist: given `X_t` all but the part `Phi(-mu)`, `mu = (E[i | X_t] - log n)/sd(i | X_t)`, and where i is close to log n, mu is
    normal with variance q/2. Then also the clone probability at `t_c` is `1/2 + (q C/2)/sqrt(2 pi q k) + ...`. Checked for rates from 0.2
    to 1; for a small rate it takes `rate k >> 1`.
    """
    q = -math.expm1(-2 * as_positive("rate", rate))
    z = np.linspace(-12, 12, 481)
    mean = float((-special.log_ndtr(math.sqrt(q / 2) * z) * np.exp(-(z**2) / 2)).sum() * (z[1] - z[0]) / math.sqrt(2 * math.pi))
    return 2 / q * mean


def _power(g: np.ndarray, log_n: float) -> np.ndarray:
    """`(1 - g)^{n - 1}`."""
    others = math.expm1(log_n)
    with np.errstate(divide="ignore"):
        return np.exp(others * np.log1p(-np.minimum(g, 1.0))) if others > 0 else np.ones_like(g)


def _averages(dim: int, t: float, log_n: float, variance: float) -> _Averages:
    dim, t = as_count("dim", dim), as_positive("t", t) / as_positive("variance", variance)
    if not 0 <= log_n < 700:
        raise reject("log_n", log_n, "the logarithm of a number of data, from 0 to 700")
    halves, weights = _laguerre(dim / 2 - 1)
    radius = np.sqrt(2 * (1 + t) * halves)  # |X|
    # Given X, x_1 is N(X/(1 + t), t/(1 + t) I): r_1, in units of the root of t/(1 + t), is the length of a normal vector of mean `mean`.
    unit = math.sqrt(t / (1 + t))
    mean, reach = radius * unit, math.sqrt(2 * TAIL)
    far = mean.max() + math.sqrt(dim) + reach
    near = np.maximum(0.0, np.sqrt(mean**2 + dim) - reach)
    u = np.arange(near.min() ** 2 / (2 * (1 + t)) - TAIL - log_n, far**2 / (2 * (1 + t)) + 5, STEP)
    if t <= NARROW:
        last = math.sqrt(2 * t * (u[-1] + TAIL))
        r, measure = _panels(near.min() * unit, last, min(WIDTH * t / last, STANDARD))
        parts = [_sums(u, t, dim, radius, r[:, None], measure)]
    else:  # r is close to |X|, nearly the same for all data: a grid for each |X|
        half = math.sqrt(dim) + reach
        parts = []
        for size in radius:
            offset, measure = _panels(max(-size, -half), half, STANDARD)
            parts.append(_sums(u, t, dim, np.array([size]), (size + offset)[:, None], measure, offset[:, None]))
    ring, silent, g, energy = (np.concatenate(columns, -1) for columns in zip(*parts, strict=True))
    return _Averages(u, ring, silent, g, energy, weights)


def _laguerre(order: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the gamma law of parameter `order + 1` (Golub and Welsch): scipy's overflow from order 170 on."""
    i = np.arange(RADII)
    nodes, vectors = linalg.eigh_tridiagonal(2 * i + 1 + order, np.sqrt(i[1:] * (i[1:] + order)))
    return nodes, vectors[0] ** 2


def _panels(first: float, last: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss-Legendre rule on panels of about this width."""
    edges = np.linspace(first, last, math.ceil((last - first) / width) + 1)
    node, weight = np.polynomial.legendre.leggauss(PANEL)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    return (edges[:-1, None] + half * (1 + node)).ravel(), (half * weight).ravel()


def _sums(
    u: np.ndarray, t: float, dim: int, radius: np.ndarray, r: np.ndarray, measure: np.ndarray, offset: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """`ring`, `silent`, `g` and `energy` for distances r (r, 1), the same for all `radius` (X,); `offset` = r - radius, if known better."""
    order, energy = dim / 2 - 1, (r[:, 0] / math.sqrt(2 * t)) ** 2
    offset = r - radius if offset is None else offset
    # The density of |X - x_2| given |X|, noncentral chi.
    log_density = np.log(r) + order * np.log(r / radius) - offset**2 / 2 + _log_ive(order, r * radius)
    fresh = measure[:, None] * np.exp(log_density)
    tilted = log_density - energy[:, None]
    own = measure[:, None] * np.exp(tilted - tilted.max(0))
    own = own / own.sum(0)
    gap = np.exp(np.minimum(u[:, None] - energy, 700.0))  # e^{u - E}
    heard = -np.expm1(-gap)
    gap *= 1 - heard
    return gap @ own, 1 - heard @ own, heard @ fresh, energy @ own


def _log_ive(order: float, z: np.ndarray) -> np.ndarray:
    """`log(e^{-z} I_order(z))`: of scipy's function; by the power series where that underflows, by Hankel's where it gives up."""
    large = z > max(1e6, 100 * order**2)
    value = special.ive(order, np.where(large, 1.0, z))
    small = ~large & (value < 1e-280)
    result = np.log(np.where(small | large, 1.0, value))
    if small.any():
        m, log_half = np.arange(SERIES)[:, None], np.log(z[small] / 2)
        terms = 2 * m * log_half - special.gammaln(m + 1) - special.gammaln(order + m + 1)
        result[small] = order * log_half - z[small] + special.logsumexp(terms, axis=0)
    if large.any():
        far, term = z[large], np.ones(int(large.sum()))
        total = term
        for k in range(1, 10):
            term = -term * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k * far)
            total = total + term
        result[large] = np.log(total) - np.log(2 * math.pi * far) / 2
    return result
