r"""The mean of `KL(p_t || p_t^N)` over data sets of N points, exactly: three nested integrals and no simulation.

At a fixed point x the density of the blurred data is a mean of independent variables, `p_t^N(x)/p_t(x) = (xi_1 + ... + xi_N)/N` with
`xi_i = G_t(x - X_i)/p_t(x)` and `E xi = 1`. The mean of a logarithm follows from a Laplace transform, `phi_x(a) = E exp(-a xi)`, by
Frullani's integral `log m = int_0^inf (e^{-s} - e^{-s m}) ds/s`:

    E log(p_t/p_t^N)(x) = J(x) = int_0^inf (phi_x(s/N)^N - e^{-s}) ds/s,        E KL(p_t || p_t^N) = int p_t(x) J(x) dx,

whatever N. With `s = e^tau` the integrand is analytic in the strip `|Im tau| < pi/2`, and a plain sum over tau errs by `exp(-pi^2/step)`;
far out, where only distances between data matter, it varies slowly, and the steps grow (`tau = A sinh(sigma/A)`).
Where the law has a symmetry, `xi` depends on the distance `rho = |x - X|` alone, `phi_x` is an integral over rho and J one over |x|.
The uniform law on a periodic box is in `kss.theory.periodic.exact_kl`.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from scipy import special, stats

from kss._validation import as_count, as_positive, reject
from kss.distributions import Gaussian, Sphere
from kss.distributions.base import Distribution

STEP = 0.4
"""Of the sum over sigma: an error of 2e-11."""
STRETCH = 10.0
"""The constant A."""
NODES = 2000
"""Distances rho at each x."""
RADII = 32
"""Values of |x|; twice as many where the mean over data sets varies by powers of ten between center and tail, for a Gaussian law."""
REACH = 7.5
"""Standard deviations in every direction."""
NEGLIGIBLE = 1e-14
ALL = 1 - 1e-16

Table = Iterator[tuple[float, Float[np.ndarray, " m"], Float[np.ndarray, " m"]]]
"""For each x its weight in `int p_t dx`, the values `log xi` and their probabilities."""


def expected_kl_exact(law: Distribution, t: float, N: int) -> float:
    """The mean of `KL(p_t || p_t^N)` over data sets of N points, for any N >= 1: uniform laws on spheres, and Gaussian laws `N(m, v I)`.

    The relative error is below 1e-6 (doubling every rule changes less); `t` must be at least 1e-5 of `R^2` or v. Other laws raise
    `ValueError`.

    >>> from kss.distributions import Circle
    >>> round(expected_kl_exact(Circle(), t=0.01, N=1000), 5)
    0.00847
    """
    t, N = as_positive("t", t), as_count("N", N)
    if isinstance(law, Sphere):
        return _average(_sphere(law, t), N)
    if isinstance(law, Gaussian):
        covariance = law.covariances[0].double()
        variance = float(covariance[0, 0])
        if variance == 0 and not covariance.any():
            return 0.0
        if torch.equal(covariance, variance * torch.eye(law.dim, dtype=torch.float64)):
            return _average(_gaussian(law.dim, variance, t), N)
    raise reject("law", law, "a Sphere, a Circle, or a Gaussian with covariance v I")


def mean_log_ratio(log_xi: Float[np.ndarray, " m"], probability: Float[np.ndarray, " m"], n: int) -> float:
    """`-E log((xi_1 + ... + xi_n)/n)` for independent variables with `E xi = 1`, given by values of `log xi` and their probabilities."""
    tau = math.log(1e-8) + min(0.0, math.log(n) - float(log_xi.max()))
    sigma, total = STRETCH * math.asinh(tau / STRETCH), 0.0
    while True:
        batch = sigma + STEP * np.arange(16)
        tau = STRETCH * np.sinh(batch / STRETCH)
        # 1 - phi(s/n), as a sum of positive terms.
        missing = -np.expm1(-np.exp(np.minimum(tau[:, None] - math.log(n) + log_xi, 50.0))) @ probability
        power = np.exp(n * np.log1p(-np.minimum(missing, ALL)))
        total += float(np.cosh(batch / STRETCH) @ (power - np.exp(-np.exp(np.minimum(tau, 50.0)))))
        sigma += 16 * STEP
        # At N = 1 what is left may be the rounding of the probabilities: then every node has had its turn.
        if tau[-1] > 5 and (power[-1] < NEGLIGIBLE or tau[-1] - math.log(n) + float(log_xi.min()) > 4):
            return STEP * total


def _dense_at_zero() -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Points in (0, 1), dense at both ends, and the weights with which a sum over them is an integral, exact beyond all powers
    of the step.
    """
    u = (np.arange(NODES) + 0.5) / NODES
    return u - np.sin(2 * math.pi * u) / (2 * math.pi), (1 - np.cos(2 * math.pi * u)) / NODES


def _average(table: Table, n: int) -> float:
    return float(sum(weight * mean_log_ratio(log_xi, probability, n) for weight, log_xi, probability in table))


def _sphere(law: Sphere, t: float) -> Table:
    k, radius = law.intrinsic_dim, law.radius
    _require_resolved("t", t, radius**2)
    low, high = max(0.0, radius - REACH * math.sqrt(t)), radius + (REACH + math.sqrt(k)) * math.sqrt(t)
    nodes, gauss = np.polynomial.legendre.leggauss(RADII)
    r = (low + high) / 2 + (high - low) / 2 * nodes
    x = torch.zeros(len(r), law.dim, dtype=torch.float64)
    x[:, 0] = torch.from_numpy(r)
    log_density = law.log_density(x, t).numpy()
    area = math.log(law.volume) - k * math.log(radius)
    weight = (high - low) / 2 * gauss * np.exp(log_density + k * np.log(r) + area)
    place, step = _dense_at_zero()
    angle = math.pi * place
    probability = step * np.sin(angle) ** (k - 1)
    probability /= probability.sum()
    for size, mass, value in zip(r, weight, log_density, strict=True):
        square = (size - radius) ** 2 + 4 * size * radius * np.sin(angle / 2) ** 2
        yield float(mass), -square / (2 * t) - law.dim / 2 * math.log(2 * math.pi * t) - value, probability


def _gaussian(d: int, v: float, t: float) -> Table:
    _require_resolved("t", t, v)
    w = v + t
    nodes, gauss = np.polynomial.legendre.leggauss(2 * RADII)
    high = math.sqrt(w) * (REACH + math.sqrt(d))
    r = high / 2 * (1 + nodes)
    weight = high / 2 * gauss * stats.chi.pdf(r / math.sqrt(w), d) / math.sqrt(w)
    place, step = _dense_at_zero()
    nu = d / 2 - 1
    for size, mass in zip(r, weight, strict=True):
        low, top = max(0.0, size - REACH * math.sqrt(v)), size + (REACH + math.sqrt(d)) * math.sqrt(v)
        rho = low + (top - low) * place
        # The density of rho: a non-central chi law.
        log_density = (nu + 1) * np.log(rho) - nu * math.log(size) - (rho - size) ** 2 / (2 * v) + np.log(special.ive(nu, rho * size / v))
        probability = step * np.exp(log_density - log_density.max())
        log_xi = -(rho**2) / (2 * t) + size**2 / (2 * w) + d / 2 * math.log(w / t)
        yield float(mass), log_xi, probability / probability.sum()


def _require_resolved(name: str, t: float, square: float) -> None:
    if t < 1e-5 * square:
        raise reject(name, t, f"a noise variance >= {1e-5 * square:g}: the rules resolve no less")
