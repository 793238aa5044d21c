"""The circle against Bessel functions in ball arithmetic."""

import math
import sys
from typing import NamedTuple

import flint
import numpy as np
import pytest
import torch
from flint import arb

from kss.distributions import Circle
from kss.distributions.sphere import von_mises

EPSILON = sys.float_info.epsilon
KAPPAS = [
    0.0,
    5e-324,
    1e-300,
    1e-100,
    1e-16,
    1e-8,
    1e-3,
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    19.0,
    21.0,
    25.0,
    40.0,
    1e2,
    1e3,
    1e8,
    1e16,
    1e100,
    1e300,
]
KAPPAS += [math.nextafter(22.5625, 0), 22.5625, 30.0]


class Moments(NamedTuple):
    log_laplace: arb
    a: arb
    one_minus_cos: arb
    sin_square: arb
    cos_variance: arb


def moments(kappa: arb) -> Moments:
    """From the definitions; 1 - A/kappa - A^2 cancels 2000 bits at kappa = 1e300, and A itself 1000 at 1e-300."""
    if kappa == 0:
        return Moments(arb(0), arb(0), arb(1), arb(1) / 2, arb(1) / 2)
    i0, i1 = kappa.bessel_i(0, scaled=True), kappa.bessel_i(1, scaled=True)
    a = i1 / i0
    return Moments(i0.log(), a, 1 - a, a / kappa, 1 - a / kappa - a * a)


@pytest.fixture(autouse=True)
def bits():
    flint.ctx.prec = 4400  # 2000 bits cancel in A' at kappa = 1e300, and as many in r - R
    yield
    flint.ctx.prec = 53


@pytest.mark.parametrize("kappa", KAPPAS)
def test_moments_of_the_von_mises_law(kappa):
    found, exact = von_mises(torch.tensor(kappa, dtype=torch.float64)), moments(arb(kappa))
    for name in ("one_minus_cos", "sin_square", "cos_variance"):
        # 33 positive terms, or a series whose 26th term at kappa = 30 is 26!/60^26 < 1e-19.
        assert float(getattr(found, name)) == pytest.approx(float(getattr(exact, name)), rel=2e-14, abs=1e-320), name
    # The logarithm of a number right to 64 eps.
    assert float(found.log_laplace) == pytest.approx(float(exact.log_laplace), rel=2 * EPSILON, abs=64 * EPSILON)


class Exact(NamedTuple):
    score: np.ndarray
    log_density: float
    jacobian: np.ndarray
    score_allowed: float
    log_density_allowed: float


def exact(radius: float, x: tuple[float, float], t: float, ulps: float = 8.0) -> Exact:
    """The definitions; allowed is 1e-12, or what `ulps` relative changes by eps of x, t and the radius could cause."""
    big, time = arb(radius), arb(t)
    point = [arb(v) for v in x]
    r = (point[0] ** 2 + point[1] ** 2).sqrt()
    m = moments(r * big / time)
    displacement = big * m.a - r
    stretch = displacement / r if r > 0 else big**2 / time * m.sin_square - 1
    score = np.array([float(stretch * v / time) for v in point])
    log_density = m.log_laplace - (r - big) ** 2 / (2 * time) - (2 * arb.pi() * time).log()
    slope = big**2 / time * m.cos_variance  # d(R A)/dr
    along, across = (slope - 1) / time, stretch / time
    unit = np.array([float(v / r) if r > 0 else 0.0 for v in point])
    with np.errstate(invalid="ignore"):
        jacobian = float(across) * np.eye(2) + float(along - across) * np.outer(unit, unit)
    by_r, by_t = abs(slope - 1) * r, r * slope  # R A depends on t through kappa: t d(R A)/dt = -r slope
    by_radius = big * m.a + r * slope
    moved = ulps * EPSILON * float((by_r + by_t + by_radius + abs(displacement)) / time)
    by_r, by_t = abs(displacement) / time * r, abs((r - big) ** 2 / (2 * time) - 1)
    by_radius = abs(r * m.a - big) / time * big
    log_moved = ulps * EPSILON * float(by_r + by_t + by_radius + abs(r * displacement / time))
    size = float(abs(displacement / time))
    return Exact(score, float(log_density), jacobian, max(1e-12 * size, moved), max(1e-12 * abs(float(log_density)), log_moved))


@pytest.mark.parametrize("radius", [1e-3, 1.0, 1e3])
def test_score_and_density_everywhere(radius):
    flint.ctx.prec = 600
    law = Circle(radius)
    directions = [(-1.0, 0.0), (math.cos(2.0), math.sin(2.0))]
    for t in [10.0**k * radius**2 for k in range(-12, 13, 3)]:
        for factor in (0.0, 1e-3, 0.3, 1 - 1e-9, 1.0, 1.1, 3.0, 1e4):
            for c, s in directions:
                x = (radius * factor * c, radius * factor * s)
                want, found = exact(radius, x, t), law.score([x], t)[0].numpy()
                assert np.linalg.norm(found - want.score) <= want.score_allowed, (t, factor)
                assert abs(float(law.log_density([x], t)[0]) - want.log_density) <= want.log_density_allowed, (t, factor)


@pytest.mark.parametrize("t", [1e-300, 1e-100, 1e-12, 1e-6, 1e-2])
@pytest.mark.parametrize(("radius", "x"), [(5.0, (3.0, 4.0)), (1.0, (0.0, -1.0)), (2.0, (2.0, 0.0))])
def test_on_the_circle_the_displacement_keeps_every_digit(radius, x, t):
    # |x| = R exactly, so nothing is lost in r - R: the score is the curvature drift -x/(2 R^2) (1 + ...).
    want = exact(radius, x, t)
    np.testing.assert_allclose(Circle(radius).score([x], t)[0].numpy(), want.score, rtol=1e-13, atol=0)
    # Tangentially grad s = s/r; radially (slope - 1)/t, where slope is t/(2 R^2).
    np.testing.assert_allclose(
        Circle(radius).score_jacobian([x], t)[0].numpy(), want.jacobian, rtol=1e-12, atol=1e-12 / t * EPSILON + 1e-13
    )


@pytest.mark.parametrize("t", [1e-4, 1e-2, 1.0, 1e4])
@pytest.mark.parametrize("x", [(0.0, 0.0), (1e-200, 0.0), (0.3, -0.4), (0.6, 0.8), (0.0, 3.0)])
def test_jacobian_and_covariance(x, t):
    law, want = Circle(1.0), exact(1.0, x, t).jacobian
    size = 1 / t + float(law.posterior([x], t).covariance_trace[0]) / t**2
    np.testing.assert_allclose(law.score_jacobian([x], t)[0].numpy(), want, rtol=0, atol=1e-14 * size)
    # C_t = t^2 grad s + t I, with what cancels there as the tolerance.
    np.testing.assert_allclose(
        law.posterior([x], t).covariance()[0].numpy(), t**2 * want + t * np.eye(2), rtol=0, atol=4 * EPSILON * t + 1e-14
    )


@pytest.mark.parametrize("radius", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("t", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_is_never_nan_and_infinite_only_where_the_truth_is(radius, t):
    law = Circle(radius)
    for x in [(0.0, 0.0), (1e-300, 0.0), (0.0, radius), (radius / 2, radius), (1e200, -1e200), (3.0, 4.0)]:
        posterior, want = law.posterior([x], t), exact(radius, x, t)
        for value in (posterior.displacement, posterior.mean, posterior.log_evidence, posterior.covariance(), law.score_jacobian([x], t)):
            assert not value.isnan().any(), x
        found = law.score([x], t)[0].numpy()
        assert np.isfinite(found).all() == np.isfinite(want.score).all(), x
        if np.isfinite(want.score).all() and np.isfinite(want.score_allowed):
            assert np.abs(found - want.score).max() <= want.score_allowed + 1e-300, x
        assert np.isfinite(float(posterior.log_evidence[0])) == np.isfinite(want.log_density), x
        # Inside the disc, also where x is far outside.
        assert float(posterior.mean.abs().max()) <= radius * (1 + 4 * EPSILON), x


def test_gradients_at_the_center_are_finite():
    x = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    law = Circle(1.0)
    (slope,) = torch.autograd.grad(law.score(x, 0.25)[0, 0], x)
    # s = (R^2/(2 t) - 1) x/t to first order in x.
    torch.testing.assert_close(slope, torch.tensor([[4.0, 0.0]], dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_draws_are_uniform_on_the_circle():
    n = 100_000
    drawn = Circle(3.0).sample(n, generator=11)
    torch.testing.assert_close(drawn.norm(dim=-1), torch.full((n,), 3.0, dtype=torch.float64), rtol=4 * EPSILON, atol=0)
    level = (torch.atan2(drawn[:, 1], drawn[:, 0]) / (2 * math.pi) + 0.5).sort().values
    ranks = torch.arange(n + 1, dtype=torch.float64) / n
    distance = float(torch.maximum(ranks[1:] - level, level - ranks[:-1]).max())
    # Dvoretzky-Kiefer-Wolfowitz: P(distance > e) <= 2 exp(-2 n e^2) = 1e-9.
    assert distance < math.sqrt(math.log(2e9) / (2 * n))


@pytest.mark.parametrize("radius", [0.0, -1.0, math.inf, math.nan])
def test_the_radius_is_positive(radius):
    with pytest.raises(ValueError, match=r"^radius = .*expected a finite number > 0"):
        Circle(radius)
