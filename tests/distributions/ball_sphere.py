"""Uniform laws on spheres in ball arithmetic, and how far a few units in the last place of the inputs could move them.

An independent reference: the definitions with Bessel functions; nothing here comes from `kss`.
"""

import sys
from typing import NamedTuple

import numpy as np
from flint import arb

EPSILON = sys.float_info.epsilon


class Moments(NamedTuple):
    """Of c = cos theta under exp(kappa c) (1 - c^2)^{(k-2)/2}."""

    log_laplace: arb
    a: arb
    one_minus_cos: arb
    sin_square: arb
    cos_variance: arb


def moments(kappa: arb, k: int) -> Moments:
    """With nu = (k-1)/2: E exp(kappa c) = Gamma(nu+1) (2/kappa)^nu I_nu(kappa), whose logarithm has the derivative A = I_{nu+1}/I_nu."""
    if kappa == 0:
        return Moments(arb(0), arb(0), arb(1), arb(1) / (k + 1), arb(1) / (k + 1))
    nu = arb(k - 1) / 2
    bessel, following = kappa.bessel_i(nu, scaled=True), kappa.bessel_i(nu + 1, scaled=True)
    a = following / bessel
    log_laplace = bessel.log() + (nu + 1).gamma().log() + nu * (2 / kappa).log()
    return Moments(log_laplace, a, 1 - a, a / kappa, 1 - k * a / kappa - a * a)


class Exact(NamedTuple):
    displacement: np.ndarray
    mean: np.ndarray
    score: np.ndarray
    log_density: float
    jacobian: np.ndarray
    covariance: np.ndarray
    score_allowed: float
    log_density_allowed: float


def exact(radius: float, x: np.ndarray, t: float, ulps: float = 8.0) -> Exact:
    """The definitions; allowed is 1e-12, or what `ulps` relative changes by eps of x, t and the radius could cause."""
    d, big, time = len(x), arb(radius), arb(t)
    point = [arb(float(v)) for v in x]
    r = sum((v * v for v in point), arb(0)).sqrt()
    m = moments(r * big / time, d - 1)
    displacement = big * m.a - r
    pull = big**2 / time * m.sin_square  # R A/r
    slope = big**2 / time * m.cos_variance  # d(R A)/dr
    unit = np.array([float(v / r) if r > 0 else 0.0 for v in point])
    outer, eye = np.outer(unit, unit), np.eye(d)
    # R A depends on t through kappa: t d(R A)/dt = -r slope.
    moved = abs(slope - 1) * r + r * slope + big * m.a + r * slope + abs(displacement)
    form = (r - big) ** 2 / (2 * time)
    log_moved = abs(displacement) / time * r + form + r * big / time * m.one_minus_cos + d + abs(r * m.a - big) / time * big
    log_density = m.log_laplace - form - arb(d) / 2 * (2 * arb.pi() * time).log()
    # Balls are wide where they cancel; their size is what matters.
    size = float(abs(displacement / time))
    with np.errstate(invalid="ignore"):  # infinite eigenvalues
        jacobian = float((pull - 1) / time) * (eye - outer) + float((slope - 1) / time) * outer
    return Exact(
        displacement=np.array([float((pull - 1) * v) for v in point]),
        mean=np.array([float(pull * v) for v in point]),
        score=np.array([float((pull - 1) * v / time) for v in point]),
        log_density=float(log_density),
        jacobian=jacobian,
        covariance=float(big**2 * m.sin_square) * (eye - outer) + float(big**2 * m.cos_variance) * outer,
        score_allowed=max(1e-12 * size, ulps * EPSILON * float(moved / time)),
        log_density_allowed=max(1e-12 * abs(float(log_density)), ulps * EPSILON * float(log_moved)),
    )
