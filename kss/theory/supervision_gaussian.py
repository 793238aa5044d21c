r"""The shells of independent Gaussian data: how many a noisy point meets, and when one datum takes all the weight.

Data `x_1..x_n` and a clean point c are independent draws from `N(0, v I_d)`, `x = c + sqrt(t) Z`. Given `|x|^2 = (v + t) s`, with
`s ~ chi^2_d`, the squared distances to the data are independent, and noncentral chi-squared:

    |x - x_j|^2 = v chi^2_d((v + t) s/v)                    for a datum that has nothing to do with x,
    |x - c|^2   = (v t/(v + t)) chi^2_d(t s/v)              for the point that x came from.

So everything about the nearest datum is one integral over s. Averaged over s, `x - x_j ~ N(0, (2 v + t) I)`. For large d the two
averages differ: the mean number of shells is carried by x that are untypically near 0, and typical x see their first foreign
shell later, at the noise variance

    t_c = v/(n^{2/d} - 1),        at which  log n = (d/2) log(1 + v/t_c) = I(X_0; X_t)

(`kss.theory.collapse.condensation_time`).

The logarithm of the weight of the datum that x came from, over the mean total weight of a stranger, is the information density
`i = (d/2) log(1 + v/t) + sqrt(v/(v + t)) S`, with S a sum of d products of two independent standard normals; so `S ~ N(0, chi^2_d)`.

Source of `t_c`: Biroli, Bonnaire, de Bortoli, Mezard, arXiv 2402.18491, in another time. The rest is derived here.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special

from kss._validation import as_count, as_positive, reject
from kss.theory.collapse import gaussian_information
from kss.theory.supervision import length_probability

REACH = 9.0
"""A chi variable is farther from sqrt(d) than this with probability below 1e-17."""


def ratio_survival(ratio: float, n: int, dim: int, t: float, variance: float = 1.0, *, fresh: bool) -> float:
    """`P(min_i |x - x_i|/sqrt(d t) > ratio)`, exactly, over data, clean point and noise.

    `fresh`: x comes from a point that is not among the `n` data; else from one of them. `ratio` >= 0, the other numbers > 0. The
    absolute error is about 1e-12.
    """
    n, d, t, v = as_count("n", n), as_count("dim", dim), as_positive("t", t), as_positive("variance", variance)
    r = _nonnegative("ratio", ratio)
    noise, step = math.sqrt(t / v), math.sqrt(t / (v + t))
    s, weight = _chi_nodes(d, (r * step,), math.sqrt(v / (v + t)))
    farther = 1 - length_probability(r * math.sqrt(d) * noise, d, s * math.sqrt(1 + t / v))
    if fresh:
        return float(weight @ farther**n)
    own = 1 - length_probability(r * math.sqrt(d) * math.sqrt(1 + t / v), d, s * noise)
    return float(weight @ (own * farther ** (n - 1)))


def mean_ratio(n: int, dim: int, t: float, variance: float = 1.0, *, fresh: bool) -> float:
    """The mean of `min_i |x - x_i|/sqrt(d t)`: the integral of `ratio_survival`, to about 1e-8."""
    d, t, v = as_count("dim", dim), as_positive("t", t), as_positive("variance", variance)
    # The nearest is nearer than any one: the ratio to that is a chi variable over sqrt(d), times sqrt(1 + 2v/t) for a stranger.
    unit = math.sqrt(1 + 2 * v / t) if fresh else 1.0
    ends = unit * np.linspace(max(0.0, 1 - REACH / math.sqrt(d)) * (not fresh), 1 + REACH / math.sqrt(d), math.ceil(9 + math.sqrt(d) / 2))
    x, w = special.roots_legendre(16)
    place = ends[:-1, None] + np.diff(ends)[:, None] * (1 + x) / 2
    tail = np.array([[ratio_survival(float(r), n, d, t, v, fresh=fresh) for r in row] for row in place])
    return float(ends[0] + (np.diff(ends) / 2) @ tail @ w)


def foreign_hits(others: int, dim: int, t: float, delta: float, variance: float = 1.0) -> float:
    r"""The mean number of shells of half-width `delta` about `others` data that x meets, x having come from none of them.

    `others * (F(d t (1 + delta)^2/(2v + t)) - F(d t (1 - delta)^2/(2v + t)))`, F the central chi-squared distribution function.
    """
    m, d, t, v = as_count("others", others, minimum=0), as_count("dim", dim), as_positive("t", t), as_positive("variance", variance)
    width = _nonnegative("delta", delta)
    scale = d * t / (2 * v + t) / 2
    return m * float(special.gammainc(d / 2, scale * (1 + width) ** 2) - special.gammainc(d / 2, scale * max(0.0, 1 - width) ** 2))


def outside_probability(others: int, dim: int, t: float, delta: float, variance: float = 1.0) -> float:
    r"""The probability that x meets none of the shells about `others` data that it did not come from, exactly.

    With `others = n` it is that of a fresh point to be outside of the supervision region, with `n - 1` that of a training input to
    be in no shell but its own.
    """
    m, d, t, v = as_count("others", others, minimum=0), as_count("dim", dim), as_positive("t", t), as_positive("variance", variance)
    width = _nonnegative("delta", delta)
    noise, step = math.sqrt(d) * math.sqrt(t / v), math.sqrt(t / (v + t))
    outer, inner = 1 + width, max(0.0, 1 - width)
    s, weight = _chi_nodes(d, (outer * step, inner * step), math.sqrt(v / (v + t)))
    shift = s * math.sqrt(1 + t / v)
    inside = length_probability(outer * noise, d, shift) - length_probability(inner * noise, d, shift)
    return float(weight @ np.exp(m * np.log1p(-np.clip(inside, 0.0, 1.0 - 1e-16))))


def hit_exponent(t: float, delta: float = 0.0, variance: float = 1.0, *, typical: bool = True) -> float:
    r"""`-(1/d) log P(|x - x_j| <= (1 + delta) sqrt(d t))` for a datum `x_j` that x did not come from, as d grows.

    `typical`: given `|x|^2 = d (v + t)`, its typical value. Then with `tau = (1 + delta)^2 t`, `P = v + t` and `w` the root in (0, 1] of
    `P w^2 + v w = tau` it is `((1 - w)^2 P/v + w - 1 - log w)/2`, and `log(1 + v/t)/2` for `delta = 0`. Otherwise, averaged over x,
    `(a - 1 - log a)/2` with `a = tau/(2v + t)`. Zero where the event is not rare.
    """
    t, v = as_positive("t", t), as_positive("variance", variance)
    tau, total = (1 + _nonnegative("delta", delta)) ** 2 * t, v + t
    if not typical:
        a = min(1.0, tau / (2 * v + t))
        return (a - 1 - math.log(a)) / 2
    w = min(1.0, 2 * tau / (v + math.hypot(v, 2 * math.sqrt(tau) * math.sqrt(total))))
    return ((1 - w) ** 2 * total / v + w - 1 - math.log(w)) / 2


def least_error(dim: int, t: float, variance: float = 1.0) -> float:
    r"""`d v t/(v + t)`, the mean square error of the true denoiser: the mean of `|m_t(X_t) - X_0|^2`, and what no denoiser can go below.

    It is the mean of `|m - m^N|^2 + tr C^N` over training inputs and data sets, whatever n.
    """
    t, v = as_positive("t", t), as_positive("variance", variance)
    return as_count("dim", dim) * (v / (1 + v / t) if t > v else t / (1 + t / v))


def strangers_weight_bound(n: int, dim: int, t: float, variance: float = 1.0) -> float:
    r"""`E min(1, (n - 1) e^{-i})`: at least the mean weight `E[1 - w_i(x)]` of all data but the one that x came from.

    i is the information density of `X_0` and `X_t`; see the top of the module. To about 1e-10.
    """
    n, d, t, v = as_count("n", n), as_count("dim", dim), as_positive("t", t), as_positive("variance", variance)
    if n == 1:
        return 0.0
    s, weight = _chi_nodes(d)
    information = d * float(gaussian_information([v], t))
    mean, spread = math.log(n - 1) - information, math.sqrt(v / (v + t)) * s
    # E min(1, e^Y) for Y ~ N(mean, spread^2).
    above = special.ndtr(mean / spread)
    below = np.exp(mean + spread**2 / 2 + special.log_ndtr(-mean / spread - spread))
    return float(weight @ (above + below))


@lru_cache(maxsize=64)
def _chi_nodes(dim: int, steps: tuple[float, ...] = (), width: float = 1.0) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Nodes and weights for means over the chi law (the root of chi^2_d): panels of 16 Gauss points, finer by `steps sqrt(d)`.

    There the integrand steps from 0 to 1 within about `width`.
    """
    root = math.sqrt(dim)
    low, high = max(0.0, root - REACH), root + REACH
    edges = [np.linspace(low, high, math.ceil(20 + 2 * root) + 1)]
    edges += [np.clip(step * root + width * np.linspace(-12, 12, 25), low, high) for step in steps]
    ends = np.unique(np.concatenate(edges))
    x, w = special.roots_legendre(16)
    r = (ends[:-1, None] + np.diff(ends)[:, None] * (1 + x) / 2).ravel()
    weight = (np.diff(ends)[:, None] * w / 2).ravel()
    log_density = (dim - 1) * np.log(r) - r**2 / 2 - (dim / 2 - 1) * math.log(2) - special.gammaln(dim / 2)
    weight = weight * np.exp(log_density)
    return r, weight / weight.sum()


def _nonnegative(name: str, value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise reject(name, value, "a finite number >= 0")
    return number
