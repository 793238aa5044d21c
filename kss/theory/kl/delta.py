r"""How far the blurred data are from the blurred law, on average over data sets: chi-square exactly, KL to first order in 1/N.

Setting. `p_t = G_t * p_*` and `p_t^N = G_t * p_0^N` for N independent draws from `p_*`. Write `p_t^N/p_t = 1 + delta`; then `E delta = 0`,

    E chi^2(p_t^N || p_t) = E int delta^2 p_t = B/N           exactly, for every N,
    E KL(p_t || p_t^N)    = E int (delta - log(1 + delta)) p_t = B/(2N) + ...      (delta method: delta - log(1 + delta) ~ delta^2/2),

with one number for both, the **bracket**: the chi-square information between `X_0` and `X_t`,

    B = E int (G_t(x - X)/p_t(x) - 1)^2 p_t(x) dx = (4 pi t)^{-d/2} int p_{t/2}(x)/p_t(x) dx - 1,     because G_t^2 = (4 pi
    t)^{-d/2} G_{t/2}.

    N(m, S)                        B = prod_i (1 + v_i/t) - 1,        v_i the eigenvalues of S
    uniform, periodic box          B = prod_i theta_i - 1,            theta_i = sum_n exp(-(2 pi n/L_i)^2 t)
    product of laws                B = prod_i (1 + B_i) - 1
    uniform, 2-sphere              B = R^2/t
    uniform, k-sphere              B = vol(M) (4 pi t)^{-k/2} (1 + k(9k - 10)/16 t/R^2 + O(t^2)) - 1

and for any law on a closed k-dimensional manifold with a continuous density that is nowhere zero `B ~ vol(M) (4 pi t)^{-k/2}`,
whatever that
density. For the box B is `kss.theory.spectral.excess_trace`.
Every function here takes the noise variance t and no random numbers, except `sampled_bracket`.
"""

import math
from typing import Any

import torch

from kss._validation import ArrayLike, Seed, as_count, as_positive, reject
from kss.distributions import Embedded, FlatTorus, Gaussian, Sphere
from kss.distributions.base import Distribution
from kss.distributions.sphere import rule
from kss.theory.kl.path import Estimate
from kss.theory.spectral import as_lengths, excess_trace

NODES = 192
"""Of the Gauss-Legendre rule over the radius."""
REACH = 12.0
"""Half-width of its window in standard deviations: beyond lies 4e-33 of the integral."""


def expected_kl(law: Distribution, t: float, N: int) -> float:
    """`B/(2N)`: the mean of `KL(p_t || p_t^N)` over data sets of N points, to first order in 1/N (delta method).

    Good where B/N is far below 1 and the law has compact support; `expected_kl_exact` says how good. Laws as for `bracket`.

    >>> from kss.distributions import Circle
    >>> round(expected_kl(Circle(), t=0.01, N=1000), 6)
    0.008357
    """
    return first_order(bracket(law, t), as_count("N", N))


def expected_chi_square(law: Distribution, t: float, N: int) -> float:
    """`B/N`: the mean of the chi-square divergence `int (p_t^N - p_t)^2/p_t dx` over data sets of N points, exactly, for every N >= 1."""
    return bracket(law, t) / as_count("N", N)


def first_order(bracket: Any, N: Any) -> Any:
    """`B/(2N)`."""
    return bracket / (2 * N)


def second_order(bracket: Any, N: Any, third_moment: Any) -> Any:
    """`(3 B^2/4 - M/3)/N^2`, what comes after `B/(2N)` if `E delta^2 = B/N` at every point, as on a periodic box.

    `M = E xi^3` is the third moment of `xi = G_t(x - X)/p_t(x) - 1`: by Taylor's formula
    `E[delta - log(1 + delta)] = E delta^2/2 - E delta^3/3 + E delta^4/4 - ...`, where `E delta^3 = M/N^2` and
    `E delta^4 = 3 B^2/N^2 + ...`.
    """
    return (3 * bracket**2 / 4 - third_moment / 3) / N**2


def bracket(law: Distribution, t: float) -> float:
    """`B = (4 pi t)^{-d/2} int p_{t/2}/p_t dx - 1`, for `Gaussian`, `Sphere`, `Circle`, `FlatTorus`, and these `Embedded`.

    The error is below 1e-12 of 1 + B. Any other law is a `ValueError`: see `sampled_bracket`. Infinite beyond the range of doubles.

    >>> from kss.distributions import Sphere
    >>> round(bracket(Sphere(2), t=0.01), 9)
    100.0
    """
    t = as_positive("t", t)
    logarithm = _log_bracket(law, t)
    return math.expm1(logarithm) if logarithm < 709 else math.inf


def _log_bracket(law: Distribution, t: float) -> float:
    """`log(1 + B)`."""
    if isinstance(law, Embedded):  # the flat directions contribute a factor 1
        return _log_bracket(law.distribution, t)
    if isinstance(law, Gaussian):
        variances = torch.linalg.eigvalsh(law.covariances[0].double()).clamp_min(0.0)
        return float(torch.log1p(variances / t).sum())
    if isinstance(law, Sphere):
        return _sphere(law.intrinsic_dim, t / law.radius**2)
    if isinstance(law, FlatTorus):
        return sum(_sphere(1, t / radius**2) for radius in law.radii.tolist())
    raise reject("law", law, "a Gaussian, Sphere, Circle or FlatTorus, or one of them Embedded (for others, sampled_bracket)")


def _sphere(k: int, t: float) -> float:
    """`log(1 + B)` of the unit k-sphere: an integral over the radius of a function with one peak of width about `sqrt(t/2)` to
    `sqrt(t)`.
    """
    if k == 2:
        return math.log1p(1 / t)
    law, d = Sphere(k), k + 1
    low, high = max(0.0, 1 - REACH * math.sqrt(t)), 1 + (REACH + math.sqrt(k)) * math.sqrt(t)
    points, weights = rule(NODES)
    r = low + (high - low) * points
    x = torch.zeros(NODES, d, dtype=torch.float64)
    x[:, 0] = r
    log_ratio = law.log_density(x, t / 2) - law.log_density(x, t) + k * r.log()
    log_integral = torch.logsumexp(log_ratio + weights.log(), 0) + math.log(high - low)
    return float(log_integral) + math.log(law.volume) - d / 2 * math.log(4 * math.pi * t)


def box_third_moment(lengths: ArrayLike, t: float) -> float:
    """`M = E xi^3` of `second_order` for the periodic box, up to exponentially small terms: `vol^2 (2 pi t)^{-k} 3^{-k/2} - 3 B - 1`."""
    sides, t = as_lengths(lengths), as_positive("t", t)
    k, volume = len(sides), math.prod(sides.tolist())
    return volume**2 * (2 * math.pi * t) ** -k * 3 ** (-k / 2) - 3 * excess_trace(t, sides) - 1


def leading_bracket(volume: Any, k: Any, t: Any) -> Any:
    """`vol(M) (4 pi t)^{-k/2}`: B to leading order as t -> 0, for a density on a closed k-dimensional manifold that is nowhere zero."""
    return volume * (4 * math.pi * t) ** (-k / 2)


def sphere_correction(k: Any, t: Any, radius: Any) -> Any:
    """`k (9k - 10)/16 t/R^2`: by how much, relative to `leading_bracket`, the uniform law on a k-sphere has a larger `1 + B`,
    to first order.

    `k(k - 1)/2` of it comes from the volume of neighboring spheres, `k(k - 2)/16` from the density between them.
    """
    return k * (9 * k - 10) / 16 * t / radius**2


def gaussian_shortfall_exponent(variance: Any, t: Any) -> Any:
    """`t/(2v)`, for `t <= 2v`: for `N(m, v I)` the mean KL falls short of `B/(2N)` by a fraction that decays like `N^{-t/2v}` only.

    Up to powers of log N. Where `p_{t/2}/(N p_t^2) > 1`, at `|x|^2 > 2 log N (v + t)(v + t/2)/v`, the delta method counts more than there
    is, and beyond that radius lies the fraction `N^{-t/2v}` of the bracket.
    """
    return t / (2 * variance)


def sampled_bracket(law: Distribution, t: float, *, samples: int, generator: Seed) -> Estimate:
    """B for any law, by Monte Carlo over `x ~ p_t`: the mean of `(4 pi t)^{-d/2} p_{t/2}(x)/p_t(x)^2`, minus 1.

    Near a manifold the terms hardly depend on the distance from it, and the error is small. For a law with full support they may have an
    infinite variance (a Gaussian with v > t/2: `int p_{t/2}^2/p_t^3` diverges), and then the standard error means nothing.
    """
    x = law.diffuse(as_count("samples", samples, minimum=2), as_positive("t", t), generator)
    log_term = law.log_density(x, t / 2).double() - 2 * law.log_density(x, t).double() - law.dim / 2 * math.log(4 * math.pi * t)
    terms = log_term.exp()
    return Estimate(float(terms.mean()) - 1, float(terms.std() / len(terms) ** 0.5))
