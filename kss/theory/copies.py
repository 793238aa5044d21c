r"""How near is too near: laws of the distances from a point that is no copy to its nearest data.

Setting. N data are drawn from a law on a k-dimensional manifold in R^d, with density p at the place in question; `D_1 <= D_2 <= ...` are
the distances from a fresh point y, a further draw of the same law, to the data in order, and `V_k` is the volume of the unit ball of R^k.
Where p is constant as far as these distances reach, one datum lies within r of y with probability `F(r) = p V_k r^k`, and

    P(D_1 < r)       = 1 - (1 - F(r))^N  ~  1 - exp(-N p V_k r^k),
    P(D_1/D_K < c)   = 1 - (1 - c^k)^{K-1}          for every N >= K, and whatever p:    D_1^k/D_K^k ~ Beta(1, K - 1).

The second needs no density, because given `D_K = r` the K - 1 nearer data are independent draws from F/F(r). For any F

    P(D_1/D_K < c) = E [1 - (1 - F(c r)/F(r))^{K-1}],    r = F^{-1}(U),    U ~ Beta(K, N - K + 1):

exact at finite N, and one integral. On the unit k-sphere the chord has `D^2/4 ~ Beta(k/2, k/2)`; for k = 2 that is `F(r) = r^2/4`, a pure
power up to the largest distance, and the law of the ratio is exact for every N.

Noise. Samplers that stop at t > 0 leave noise of variance t in every one of the d coordinates. On a flat manifold the d - k of them that
are normal to it add `t chi^2_{d-k}` to all squared distances; along the manifold a copy is `sqrt(t chi^2_k)` away from its original.
"""

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy import integrate, optimize, special, stats
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_probability, as_tensor, reject

Number = float | int


def ratio_false_alarm(c: ArrayLike, k: Number, neighbors: int = 2) -> Float[Tensor, "*batch"]:
    """`1 - (1 - c^k)^{K-1}`: the probability of `D_1/D_K < c` for a point that is no copy, K = `neighbors`; `c^k` for K = 2.

    `c` (...) in [0, 1]; `k` > 0, an estimated dimension need not be an integer. The law is that of a constant density at the scale of
    `D_K`; it depends on neither N nor that density. As a function of an observed ratio it is that sample's p-value.

    >>> ratio_false_alarm([1 / 3, 0.1], k=2)
    tensor([0.1111, 0.0100], dtype=torch.float64)
    """
    ratio, k, nearer = as_tensor("c", c).double(), as_positive("k", float(k)), as_count("neighbors", neighbors, minimum=2) - 1
    if not bool(((ratio >= 0) & (ratio <= 1)).all()):
        raise reject("c", c, "ratios in [0, 1]")
    return -torch.expm1(nearer * torch.log1p(-(ratio**k)))


def ratio_threshold(alpha: Number, k: Number, neighbors: int = 2) -> float:
    """The c at which `ratio_false_alarm` is `alpha`: `alpha^{1/k}` for two neighbors.

    >>> f"{ratio_threshold(0.01, k=1):.2f} {ratio_threshold(0.01, k=2):.2f} {ratio_threshold(0.01, k=10):.2f}"
    '0.01 0.10 0.63'
    """
    k, nearer = as_positive("k", float(k)), as_count("neighbors", neighbors, minimum=2) - 1
    return float((-math.expm1(math.log1p(-as_probability("alpha", alpha)) / nearer)) ** (1 / k))


def finite_ratio_false_alarm(
    c: Number, N: int, cdf: Callable[[float], float], quantile: Callable[[float], float], neighbors: int = 2
) -> float:
    """`P(D_1/D_K < c)` for N data whose distances from the point have the distribution function `cdf`, with inverse `quantile`; exact.

    >>> finite_ratio_false_alarm(0.5, 10, lambda r: r**3, lambda u: u ** (1 / 3))  # a ball, seen from its center: c^k
    0.125
    """
    K = as_count("neighbors", neighbors, minimum=2)
    count = as_count("N", N, minimum=K)
    if not 0 <= c <= 1:
        raise reject("c", c, "a ratio in [0, 1]")
    order = stats.beta(K, count - K + 1)

    def given(v: float) -> float:
        u = float(order.ppf(v))
        return 1 - (1 - cdf(c * quantile(u)) / u) ** (K - 1)

    return float(integrate.quad(given, 0, 1, epsabs=1e-13, epsrel=1e-11, limit=200)[0])


def sphere_distance_cdf(r: Number, k: int, radius: Number = 1.0) -> float:
    """`P(|y - X| < r)`, X uniform on the k-sphere of that radius and y on it: the area of a cap, `I_{r^2/4R^2}(k/2, k/2)`."""
    k, radius = as_count("k", k), as_positive("radius", float(radius))
    return float(special.betainc(k / 2, k / 2, min(1.0, max(0.0, float(r) / (2 * radius)) ** 2)))


def sphere_distance_quantile(u: Number, k: int, radius: Number = 1.0) -> float:
    """The inverse of `sphere_distance_cdf`."""
    k, radius = as_count("k", k), as_positive("radius", float(radius))
    if not 0 <= u <= 1:
        raise reject("u", u, "a probability")
    return float(2 * radius * math.sqrt(special.betaincinv(k / 2, k / 2, float(u))))


def ball_volume(k: int) -> float:
    """`V_k = pi^{k/2}/Gamma(k/2 + 1)`, the volume of the unit ball of R^k.

    >>> [round(ball_volume(k) / math.pi, 6) for k in (2, 3, 4)]
    [1.0, 1.333333, 1.570796]
    """
    return math.exp(k / 2 * math.log(math.pi) - math.lgamma(as_count("k", k) / 2 + 1))


def nearest_false_alarm(r: Number, N: Number, density: Number, k: int) -> float:
    """`1 - exp(-N p V_k r^k)`: the probability that one of N data lies within r of a fresh point, where they have the density p."""
    if not (math.isfinite(r) and r >= 0):
        raise reject("r", r, "a distance >= 0")
    return -math.expm1(-_crowd(N, density, k) * r**k)


def geometric_threshold(alpha: Number, N: Number, density: Number, k: int) -> float:
    """`r_N(alpha) = (-log(1 - alpha)/(N p V_k))^{1/k}`: within it lies a datum with probability alpha; proportional to `N^{-1/k}`.

    >>> f"{geometric_threshold(0.01, N=10**4, density=1 / (4 * math.pi), k=2) * 10**2:.4f}"  # the unit 2-sphere
    '0.2005'
    """
    alpha = as_probability("alpha", alpha)
    return float((-math.log1p(-alpha) / _crowd(N, density, k)) ** (1 / k))


def noisy_false_alarm(r: Number, N: Number, density: Number, k: int, d: int, t: Number) -> float:
    """`P(D_1 < r)` for a fresh point with noise of variance t in all d coordinates, near a flat k-dimensional manifold."""
    return _over_normal_part(r, d - k, d, k, t, lambda square: -math.expm1(-_crowd(N, density, k) * square ** (k / 2)))


def noisy_power(r: Number, N: Number, density: Number, k: int, d: int, t: Number) -> float:
    """`P(D_1 < r)` for a copy: a datum with noise of variance t in all d coordinates. Other data may be nearer, and count.

    With `d = k` it is the power after the normal coordinates have been removed.
    """
    crowd = _crowd(N, density, k)

    def given(square: float) -> float:
        return 1 - math.exp(-crowd * square ** (k / 2)) * float(special.gammaincc(k / 2, square / (2 * t)))

    return _over_normal_part(r, d - k, d, k, t, given)


def noisy_threshold(alpha: Number, N: Number, density: Number, k: int, d: int, t: Number) -> float:
    """The distance at which `noisy_false_alarm` is `alpha`: what held-out points show that have been given the same noise."""
    alpha = as_probability("alpha", alpha)
    clean = geometric_threshold(alpha, N, density, k)
    # (D_1^2)^{1/2} is at least clean's quantile, and at most that of both parts.
    high = math.sqrt(geometric_threshold(math.sqrt(alpha), N, density, k) ** 2 + t * float(stats.chi2.ppf(math.sqrt(alpha), max(d - k, 1))))
    return float(optimize.brentq(lambda r: noisy_false_alarm(r, N, density, k, d, t) - alpha, clean / 2, 2 * high, xtol=1e-14, rtol=1e-12))


def copy_share(fraction: Number, false_alarm: Number) -> float:
    """The share of copies when a test that finds every copy calls `fraction` of the samples copies: `(f - a)/(1 - a)`, not below 0.

    `false_alarm` is the test's rate on samples that are no copies, in [0, 1).
    """
    if not 0 <= fraction <= 1:
        raise reject("fraction", fraction, "a number in [0, 1]")
    if not 0 <= false_alarm < 1:
        raise reject("false_alarm", false_alarm, "a probability in [0, 1)")
    return max(0.0, (fraction - false_alarm) / (1 - false_alarm))


def _over_normal_part(r: Number, normal: int, d: int, k: int, t: Number, given: Callable[[float], float]) -> float:
    """The mean of `given(r^2 - t q)` over `q ~ chi^2` with `normal` degrees of freedom, where that is positive."""
    if as_count("d", d) < as_count("k", k):
        raise reject("d", d, f"a dimension of at least k = {k}")
    t, r = as_positive("t", float(t)), as_positive("r", float(r))
    if normal == 0:
        return given(r * r)
    # q = (r^2/t) cos^2: roots at both ends, of the density for d - k = 1 and of the distance for k = 1, become smooth.
    end, law = r * r / t, stats.chi2(normal)

    def integrand(angle: float) -> float:
        sine, cosine = math.sin(angle), math.cos(angle)
        return given(r * r * sine * sine) * float(law.pdf(end * cosine * cosine)) * 2 * end * sine * cosine

    quantiles = [float(law.ppf(p)) for p in (1e-13, 1e-6, 0.01, 0.5, 0.99)] + [float(law.isf(p)) for p in (1e-6, 1e-13)]
    places = {math.acos(math.sqrt(q / end)) for q in quantiles if q < end}
    # Along the manifold: where a copy, and where the first other datum is.
    places |= {math.asin(math.sqrt(a * k * t) / r) for a in (0.1, 1.0, 10.0, 40.0) if a * k * t < r * r}
    pieces = sorted({0.0, math.pi / 2} | places)
    return sum(integrate.quad(integrand, p, q, epsabs=1e-15, epsrel=1e-10, limit=100)[0] for p, q in itertools.pairwise(pieces))


def _crowd(N: Number, density: Number, k: int) -> float:
    """`N p V_k`."""
    return as_positive("N", float(N)) * as_positive("density", float(density)) * ball_volume(k)
