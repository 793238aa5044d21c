r"""Scores that are not told the noise level: which level a point stands for, and what is left when all levels are possible.

With a log-uniform standard deviation sigma, a noisy point at distance r from its data point has `r^2/sigma^2 ~ chi^2_d`: the level is
known to a relative accuracy of `1/sqrt(2d)`, and is about `r/sqrt(d)` ("sigma dominance"). Integrated over all levels the density
is proportional to `sum_j r_j^(-c)`, with c = d for the density itself and `c = d - a` for a training loss weighted by `sigma^a`.
Formulas between a few numbers use arithmetic only, unless they say otherwise.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject

TERMS = 500
"""Of expansions of incomplete gamma functions: needed for x far from a on the scale of `sqrt a`, and converging there up to a = 1e5."""


def dominant_variance(squared_distance: Any, exponent: Any) -> Any:
    """`r^2/c`: the noise variance at which `sigma^(-c) exp(-r^2/2 sigma^2)` is largest."""
    return squared_distance / exponent


def level_penalty(log_ratio: ArrayLike, exponent: float) -> Float[Tensor, "*batch"]:
    """`c (y + (e^(-2y) - 1)/2)`: by how much the logarithm is lower at `sigma = e^y sigma*` than at its maximum; about `c y^2`."""
    y = as_tensor("log_ratio", log_ratio).double()
    # y + expm1(-2y)/2 = y^2 - (2/3) y^3 + ...: the series where the sum would cancel, its next term is below 1e-17 of the first.
    small = y.abs() < 1e-3
    near = torch.where(small, y, 0.0)
    series = near**2 * (1 - 2 / 3 * near + near**2 / 3 - 2 / 15 * near**3 + 2 / 45 * near**4)
    return as_positive("exponent", exponent) * torch.where(small, series, y + torch.expm1(-2 * y) / 2)


def leading_level_penalty(log_ratio: Any, exponent: Any) -> Any:
    """`c y^2`: the same to leading order, a normal law of variance `1/2c` in `log sigma`."""
    return exponent * log_ratio**2


def log_mixture(distance: ArrayLike, dim: int, low: float = 0.0, high: float = math.inf) -> Float[Tensor, "*batch"]:
    r"""`log int_low^high N(r; 0, sigma^2 I_d) dsigma/sigma` at distance r > 0, for levels (standard deviations) from `low` to `high`.

    Over all levels it is `Gamma(d/2)/(2 pi^(d/2)) r^(-d)`: one over the area of the sphere through the point, times 1/r. Otherwise times
    the probability that `r^2/chi^2_d` lies between `low^2` and `high^2`: from SciPy's incomplete gamma functions, and from their
    logarithms where they underflow.
    """
    r, d = as_tensor("distance", distance).double(), as_count("dim", dim)
    if not bool((r > 0).all()):
        raise reject("distance", distance, "distances > 0")
    if not 0 <= low < high:
        raise reject("low, high", (low, high), "levels 0 <= low < high")
    whole = special.gammaln(d / 2) - math.log(2) - d / 2 * math.log(math.pi) - d * r.log()
    most = (r / low).square() / 2 if low > 0 else torch.full_like(r, math.inf)
    least = (r / high).square() / 2
    # Of two differences of tails the one that does not cancel.
    lower = special.gammainc(d / 2, most.numpy()) - special.gammainc(d / 2, least.numpy())
    upper = special.gammaincc(d / 2, least.numpy()) - special.gammaincc(d / 2, most.numpy())
    close = least < d / 2
    inside = torch.where(close, torch.as_tensor(lower), torch.as_tensor(upper))
    tiny = inside < 1e-290
    if not bool(tiny.any()):
        return whole + inside.log()
    log_most = 2 * (r.log() - math.log(low)) - math.log(2) if low > 0 else most
    log_least = 2 * (r.log() - math.log(high)) - math.log(2)
    more = torch.where(close, _log_lower(d / 2, most, log_most), _log_upper(d / 2, least, log_least))
    less = torch.where(close, _log_lower(d / 2, least, log_least), _log_upper(d / 2, most, log_most))
    fall = torch.where(tiny & more.isfinite(), (less - more).clamp_max(0.0), -1.0)
    return whole + torch.where(tiny, more + torch.log1p(-fall.exp()), inside.log())


def _log_lower(a: float, x: Tensor, log_x: Tensor) -> Tensor:
    """`log P(a, x)` for x well below a (x may underflow): `x^a e^(-x)/Gamma(a + 1)` times `1 + x/(a + 1) + x^2/(a + 1)(a + 2) + ...`."""
    total = torch.ones_like(x)
    for n in range(TERMS, 0, -1):
        total = 1 + x / (a + n) * total
    return a * log_x - x - math.lgamma(a + 1) + total.log()


def _log_upper(a: float, x: Tensor, log_x: Tensor) -> Tensor:
    """`log Q(a, x)` for x well above a: `x^a e^(-x)/Gamma(a)` over `x + 1 - a - 1 (1 - a)/(x + 3 - a - 2 (2 - a)/(x + 5 - a - ...))`."""
    below = x + 2 * TERMS + 1 - a
    for n in range(TERMS, 0, -1):
        below = x + (2 * n - 1) - a - n * (n - a) / below
    return torch.where(x.isinf(), -math.inf, a * log_x - x - math.lgamma(a) - below.log())


def log_weight(excess: ArrayLike, dim: float) -> Float[Tensor, "*batch"]:
    """`log(w_j/w_1) = -(d/2) log(1 + u)` without the level, `u = r_j^2/r_1^2 - 1 >= 0`. (At the matching level: `-(d/2) u`, less.)"""
    u = as_tensor("excess", excess).double()
    if not bool((u >= 0).all()):
        raise reject("excess", excess, "r_j^2/r_1^2 - 1 >= 0")
    return -as_positive("dim", dim) / 2 * torch.log1p(u)


def matching_log_weight(log_weight: ArrayLike, dim: float) -> Float[Tensor, "*batch"]:
    """What `log(w_j/w_1) = -z` without the level becomes at the matching one: `-(d/2)(e^(2z/d) - 1)`, about `-z - z^2/d`."""
    z = -as_tensor("log_weight", log_weight).double()
    if not bool((z >= 0).all()):
        raise reject("log_weight", log_weight, "logarithms <= 0")
    half = as_positive("dim", dim) / 2
    return -half * torch.expm1(z / half)


def largest_gain(dim: Any) -> Any:
    """`4/(e^2 d)`: how far a weight relative to the largest rises at most when the level is withheld; nearly attained for large d."""
    return 4 * math.exp(-2) / dim


def laplacian(distance: Any, dim: Any, exponent: Any) -> Any:
    """`c (c + 2 - d) r^(-c-2)`: the Laplacian of `r^(-c)`, positive for c > d - 2."""
    return exponent * (exponent + 2 - dim) * distance ** (-exponent - 2)
