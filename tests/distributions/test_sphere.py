"""Spheres of every dimension against Bessel functions in ball arithmetic."""

import math
import sys

import flint
import numpy as np
import pytest
import torch
from ball_sphere import exact, moments
from flint import arb

from kss.distributions import Circle, Manifold, Sphere
from kss.distributions.sphere import CHUNK, _von_mises, von_mises
from kss.theory.heat import burgers_residual

pytestmark = pytest.mark.slow  # the core, which `make quick` tests, has the circle

EPSILON = sys.float_info.epsilon
DIMENSIONS = [1, 2, 3, 5, 8, 64]
every_dimension = pytest.mark.parametrize("k", DIMENSIONS)


@pytest.fixture(autouse=True)
def bits():
    flint.ctx.prec = 600
    yield
    flint.ctx.prec = 53


def directions(d: int) -> list[np.ndarray]:
    slanted = np.cos(np.arange(1.0, d + 1))
    return [-np.eye(d)[0], slanted / np.linalg.norm(slanted)]


@pytest.mark.parametrize("k", [*DIMENSIONS, 4, 13, 200])
def test_moments_of_the_angle(k):
    # A sixth of a decade apart where the window of the quadrature moves, and both ends.
    kappas = [0.0, 5e-324, 1e-300, 1e-100, *10.0 ** np.arange(-12, -2), *10 ** np.arange(-2, 5, 1 / 6), *10.0 ** np.arange(5, 17), 1e100]
    found = von_mises(torch.tensor(kappas, dtype=torch.float64), k)
    for i, kappa in enumerate(kappas):
        # As many bits cancel in A' as kappa^2 has.
        flint.ctx.prec = 3000 if kappa < 1e-16 or kappa > 1e20 else 600
        want = moments(arb(float(kappa)), k)
        for name in ("one_minus_cos", "sin_square", "cos_variance"):
            # Positive terms: the rounding of (sin theta)^{k-1} grows with k, that of the rest does not.
            assert float(getattr(found, name)[i]) == pytest.approx(float(getattr(want, name)), rel=1e-14 + 2e-16 * k, abs=0), (name, kappa)
        assert float(found.log_laplace[i]) == pytest.approx(float(want.log_laplace), rel=4 * EPSILON, abs=(64 + k) * EPSILON), kappa


@pytest.mark.parametrize(("k", "radius"), [(1, 1.0), (2, 1e-3), (3, 1.0), (5, 1e3), (8, 1.0), (64, 1.0)])
def test_score_density_and_mean_everywhere(k, radius):
    law = Sphere(k, radius)
    for t in [10.0**e * radius**2 for e in (-12, -8, -4, -2, -1, 0, 1, 8)]:
        for factor in (0.0, 1e-3, 0.3, 1 - 1e-9, 1.0, 1.1, 3.0, 1e4):
            for direction in directions(k + 1)[k > 2 :]:
                x = radius * factor * direction
                want, posterior = exact(radius, x, t), law.posterior(x, t)
                assert np.linalg.norm(law.score(x, t).numpy() - want.score) <= want.score_allowed, (t, factor)
                assert np.linalg.norm(posterior.displacement.numpy() - want.displacement) <= want.score_allowed * t, (t, factor)
                assert abs(float(posterior.log_evidence) - want.log_density) <= want.log_density_allowed, (t, factor)
                # d(R A) = slope dr and -slope r dt/t, with slope r <= R max kappa A' < R (k + 1)/2.
                assert np.linalg.norm(posterior.mean.numpy() - want.mean) <= max(
                    1e-12 * np.linalg.norm(want.mean), 8 * EPSILON * radius * (k + 1)
                ), (t, factor)


@every_dimension
@pytest.mark.parametrize("t", [1e-300, 1e-100, 1e-12, 1e-6, 1e-2, 1.0, 1e2])
def test_on_the_sphere_the_displacement_keeps_every_digit(k, t):
    flint.ctx.prec = 2600
    # |x| = R exactly, so nothing is lost in r - R: the score is the curvature drift -(k/2) x/R^2 (1 + ...).
    x = np.zeros(k + 1)
    x[:2] = [3.0, -4.0]
    want, law = exact(5.0, x, t), Sphere(k, 5.0)
    np.testing.assert_allclose(law.score(x, t).numpy(), want.score, rtol=2e-13, atol=0)
    if t <= 1e-6:
        np.testing.assert_allclose(law.score(x, t).numpy(), -k / 50 * x, rtol=1e-5)
    # Across x, grad s = s/r, of order 1 where C/t - I cancels.
    across = np.eye(k + 1)[-1] if k > 1 else np.array([0.8, 0.6])
    curved = across @ law.score_jacobian(x, t).numpy() @ across
    if k > 1:
        assert curved == pytest.approx(float(want.score[0] / x[0]), rel=1e-12)


@every_dimension
@pytest.mark.parametrize("t", [1e-8, 1e-4, 1e-2, 1.0, 1e4, 1e8])
def test_jacobian_and_covariance(k, t):
    law = Sphere(k)
    for factor in (0.0, 1e-200, 0.5, 1.0, 3.0):
        x = factor * directions(k + 1)[1]
        want, found = exact(1.0, x, t), law.posterior(x, t)
        # kappa is known to a few eps, and A' and A/kappa are powers of it at worst: relative errors, in norm.
        size = np.abs(want.covariance).max()
        np.testing.assert_allclose(found.covariance().numpy(), want.covariance, rtol=0, atol=1e-13 * size + 1e-320)
        size = np.abs(want.jacobian).max()
        np.testing.assert_allclose(law.score_jacobian(x, t).numpy(), want.jacobian, rtol=0, atol=(1e-13 + 1e-15 * k) * size)
        # The trace of a matrix whose parts across x are k times R^2 A/kappa: nothing to lose.
        assert float(found.covariance_trace) == pytest.approx(np.trace(want.covariance), rel=1e-12, abs=1e-320)


@pytest.mark.parametrize("k", [2, 64])
@pytest.mark.parametrize("radius", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("t", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_is_never_nan_and_infinite_only_where_the_truth_is(k, radius, t):
    flint.ctx.prec = 4400
    law = Sphere(k, radius)
    for pair in [(0.0, 0.0), (1e-300, 0.0), (0.0, radius), (radius / 2, radius), (1e150, -1e150), (1e200, -1e200), (3.0, 4.0)]:
        x = np.zeros(k + 1)
        x[[0, -1]] = pair
        posterior, want = law.posterior(x, t), exact(radius, x, t)
        for value in (posterior.displacement, posterior.mean, posterior.log_evidence, posterior.covariance(), law.score_jacobian(x, t)):
            assert not value.isnan().any(), pair
        found = law.score(x, t).numpy()
        assert np.isfinite(found).all() == np.isfinite(want.score).all(), pair
        if np.isfinite(want.score).all() and np.isfinite(want.score_allowed):
            assert np.abs(found - want.score).max() <= want.score_allowed + 1e-300, pair
        assert np.isfinite(float(posterior.log_evidence)) == np.isfinite(want.log_density), pair
        # Inside the ball, also where x is far outside.
        assert float(posterior.mean.norm()) <= radius * (1 + 4 * EPSILON), pair


@pytest.mark.parametrize(("k", "t"), [(1, 1e-4), (1, 0.05), (2, 0.05), (2, 1.0), (3, 30.0), (5, 0.05), (8, 0.3), (64, 0.02)])
def test_gradients_agree_with_the_formulas(k, t):
    law = Sphere(k)
    x = law.diffuse(3 if k < 64 else 1, t, generator=5)
    scale = 1 / t + 1 / t**0.5
    for point in x:
        torch.testing.assert_close(
            torch.func.grad(lambda y: law.log_density(y, t))(point), law.score(point, t), rtol=1e-11, atol=1e-12 * scale
        )
        for transform in (torch.func.jacrev, torch.func.jacfwd):
            found = transform(lambda y: law.score(y, t))(point)
            torch.testing.assert_close(found, law.score_jacobian(point, t), rtol=1e-11, atol=1e-11 / t)
    # Third derivatives of log p_t: rounding in the moments, amplified by 1/t for each derivative.
    residual = burgers_residual(law, x, t) if k < 64 else torch.zeros(1)  # there it takes seconds
    assert float(residual.abs().max()) <= 1e-13 * (k + 1) * scale**3


def test_gradients_at_the_center_are_finite():
    law = Sphere(3)
    found = torch.func.jacrev(lambda y: law.score(y, 0.25))(torch.zeros(4, dtype=torch.float64))
    # s = (R^2/((k + 1) t) - 1) x/t to first order in x: zero here.
    torch.testing.assert_close(found, torch.zeros(4, 4, dtype=torch.float64), rtol=0, atol=1e-13)


def test_the_circle_is_the_sphere_of_dimension_one():
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Circle(1.3).score(x, 0.2), Sphere(1, 1.3).score(x, 0.2))
    assert issubclass(Circle, Sphere)
    assert (repr(Circle(1.3)), repr(Sphere(2, 1.3))) == ("Circle(1.3)", "Sphere(2, 1.3)")


def test_long_batches_are_the_short_ones():
    kappa = torch.linspace(0, 100, CHUNK + 7, dtype=torch.float64).reshape(-1, 1)
    for whole, part in zip(von_mises(kappa, 3), _von_mises(kappa[-7:, 0], 3), strict=True):
        assert torch.equal(whole[-7:, 0], part)
    assert Sphere(2).score(torch.zeros(0, 3), 1.0).shape == (0, 3)


@every_dimension
def test_scaling_rotation_and_reflection(k):
    law, a, t = Sphere(k, 1.5), 4.0, 0.3
    x = law.diffuse(5, t, generator=3)
    # x -> a x: t -> a^2 t, s -> s/a; a is a power of two, so the radius and x are exact.
    torch.testing.assert_close(Sphere(k, a * 1.5).score(a * x, a**2 * t), law.score(x, t) / a, rtol=1e-13, atol=1e-14)
    turn = torch.linalg.qr(torch.randn(k + 1, k + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    torch.testing.assert_close(law.score(x @ turn, t), law.score(x, t) @ turn, rtol=0, atol=1e-13)


@every_dimension
def test_draws_are_uniform(k):
    n, law = 40_000, Sphere(k, 3.0)
    drawn = law.sample(n, generator=11)
    torch.testing.assert_close(drawn.norm(dim=-1), torch.full((n,), 3.0, dtype=torch.float64), rtol=1e-14, atol=0)
    # Hoeffding, each coordinate and each product bounded by R and R^2: P(|mean error| > e) <= 2 exp(-n e^2/(2 b^2)) = 1e-12.
    bound = math.sqrt(2 * math.log(2e12) / n)
    assert float((drawn.mean(0) / 3).abs().max()) < bound
    second = drawn.T @ drawn / n / 9
    assert float((second - torch.eye(k + 1, dtype=torch.float64) / (k + 1)).abs().max()) < bound


@every_dimension
def test_volume_is_the_integral_of_the_parallels(k):
    # The k-sphere is swept by (k-1)-spheres of radius R sin theta: V_k = V_{k-1} R int sin^{k-1}.
    theta = np.linspace(0, math.pi, 20001)
    inner = Sphere(k - 1).volume if k > 1 else 2.0
    assert Sphere(k).volume == pytest.approx(inner * np.trapezoid(np.sin(theta) ** (k - 1), theta), rel=1e-7)
    assert Sphere(k, 2.0).volume == pytest.approx(2**k * Sphere(k).volume, rel=1e-14)
    assert float(Sphere(k).manifold_density(np.ones(k + 1))) == pytest.approx(1 / Sphere(k).volume, rel=1e-15)


def test_known_volumes_and_types():
    assert Circle(2.0).volume == pytest.approx(4 * math.pi)
    assert Sphere(2, 2.0).volume == pytest.approx(16 * math.pi)
    assert Sphere(3).volume == pytest.approx(2 * math.pi**2)
    assert isinstance(Circle(), Manifold)
    assert Sphere(3, 1e200).volume == math.inf


@every_dimension
def test_geometry_by_difference_quotients(k):
    law, d, step = Sphere(k, 2.0), k + 1, 1e-4
    x = 3.0 * directions(d)[1] + 0.1
    y, p, h = law.project(x), law.tangent_projector(x), law.mean_curvature(x)
    assert float(y.norm()) == pytest.approx(2.0, rel=1e-14)
    # Nearest: x - y is normal, and every tangent curve through y starts in the range of P.
    torch.testing.assert_close(p @ (torch.from_numpy(x) - y), torch.zeros(d, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(p @ p, p, rtol=0, atol=1e-14)
    assert float(p.trace()) == pytest.approx(k, rel=1e-13)
    # H = sum of the second derivatives along geodesics, which are the projections of straight tangent lines to second order.
    frame = torch.linalg.eigh(p).eigenvectors[:, -k:].T
    bend = sum((law.project(y + step * e) - 2 * y + law.project(y - step * e)) / step**2 for e in frame)
    torch.testing.assert_close(bend, h, rtol=0, atol=1e-6 * k)
    torch.testing.assert_close(h.norm(), torch.tensor(k / 2.0, dtype=torch.float64))
    assert float(h @ y) < 0


@pytest.mark.parametrize("method", ["project", "tangent_projector", "mean_curvature", "manifold_density"])
def test_the_center_has_no_nearest_point(method):
    with pytest.raises(ValueError, match=r"^x = .*expected no point at the center"):
        getattr(Sphere(2), method)([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_small_time_score_is_half_the_mean_curvature():
    law = Sphere(4, 2.0)
    x = law.sample(5, generator=0)
    # On the sphere s_t -> H/2 as t -> 0; |x| is off R by rounding, which costs eps R/t.
    torch.testing.assert_close(law.score(x, 1e-8), law.mean_curvature(x) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("k", "radius", "name"), [(0, 1.0, "k"), (1.5, 1.0, "k"), (True, 1.0, "k"), (2, 0.0, "radius"), (2, math.nan, "radius")]
)
def test_bad_parameters_are_refused(k, radius, name):
    with pytest.raises((ValueError, TypeError), match=rf"^{name} = .*expected|parameter"):
        Sphere(k, radius)
