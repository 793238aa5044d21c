"""Products of circles against Bessel functions in ball arithmetic."""

import math

import flint
import numpy as np
import pytest
import torch
from ball_sphere import exact

from kss.distributions import Circle, FlatTorus, Manifold
from kss.theory.heat import burgers_residual

pytestmark = pytest.mark.slow  # the core, which `make quick` tests, has the circle

LAWS = [(1, 2.0), (2, [1.0, 0.25]), (3, [0.5, 1.0, 3.0])]
every_law = pytest.mark.parametrize(("k", "radius"), LAWS)


@pytest.fixture(autouse=True)
def bits():
    flint.ctx.prec = 600
    yield
    flint.ctx.prec = 53


def points(k: int) -> np.ndarray:
    rng = np.random.default_rng(k)
    on = np.stack([np.cos(rng.uniform(0, 7, (4, k))), np.sin(rng.uniform(0, 7, (4, k)))], -1)
    return np.concatenate(
        [on.reshape(4, -1), 3 * rng.standard_normal((4, 2 * k)), np.zeros((1, 2 * k)), 1e4 * rng.standard_normal((1, 2 * k))]
    )


@every_law
@pytest.mark.parametrize("t", [1e-8, 1e-4, 1e-2, 0.5, 30.0, 1e8])
def test_everything_is_that_of_the_circles(k, radius, t):
    law, radii = FlatTorus(k, radius), np.broadcast_to(radius, k)
    for x in points(k):
        parts = [exact(float(r), pair, t) for r, pair in zip(radii, x.reshape(k, 2), strict=True)]
        posterior, score, jacobian = law.posterior(x, t), law.score(x, t).numpy(), law.score_jacobian(x, t).numpy()
        covariance = posterior.covariance().numpy()
        for i, part in enumerate(parts):
            two = slice(2 * i, 2 * i + 2)
            assert np.linalg.norm(score[two] - part.score) <= part.score_allowed
            assert np.linalg.norm(posterior.displacement[two].numpy() - part.displacement) <= part.score_allowed * t
            np.testing.assert_allclose(posterior.mean[two].numpy(), part.mean, rtol=0, atol=2e-14 * float(radii[i]))
            np.testing.assert_allclose(jacobian[two, two], part.jacobian, rtol=0, atol=2e-13 * np.abs(part.jacobian).max() + 1e-14 / t)
            np.testing.assert_allclose(covariance[two, two], part.covariance, rtol=0, atol=1e-13 * np.abs(part.covariance).max())
            jacobian[two, two] = covariance[two, two] = 0
        assert not jacobian.any()
        assert not covariance.any()
        want = sum(part.log_density for part in parts)
        assert abs(float(posterior.log_evidence) - want) <= sum(part.log_density_allowed for part in parts)


@every_law
def test_gradients_agree_with_the_formulas(k, radius):
    law, t = FlatTorus(k, radius), 0.2
    x = law.diffuse(3, t, generator=5)
    for point in x:
        torch.testing.assert_close(torch.func.grad(lambda y: law.log_density(y, t))(point), law.score(point, t), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(
            torch.func.jacfwd(lambda y: law.score(y, t))(point), law.score_jacobian(point, t), rtol=1e-11, atol=1e-11
        )
    assert float(burgers_residual(law, x, t).abs().max()) <= 1e-11


@pytest.mark.parametrize("t", [1e-300, 1e-30, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("far", [0.0, 1.0, 1e150, -1e200])
def test_is_never_nan(t, far):
    law = FlatTorus(2, [1.0, 1e-3])
    x = np.array([far, 0.0, 1.0, far])
    posterior = law.posterior(x, t)
    for value in (posterior.displacement, posterior.mean, posterior.log_evidence, posterior.covariance(), law.score_jacobian(x, t)):
        assert not value.isnan().any()
    assert float(posterior.mean[:2].norm()) <= 1 + 1e-15
    assert float(posterior.mean[2:].norm()) <= 1e-3 * (1 + 1e-15)


def test_one_circle_is_the_circle():
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(FlatTorus(1, 1.3).score(x, 0.2), Circle(1.3).score(x, 0.2))
    assert torch.equal(FlatTorus(1, 1.3).score_jacobian(x, 0.2), Circle(1.3).score_jacobian(x, 0.2))
    assert repr(FlatTorus(2, 0.5)) == "FlatTorus(2, [0.5, 0.5])"


def test_scaling():
    law, x, t = FlatTorus(2, [1.0, 0.5]), torch.tensor([0.3, 1.0, -0.2, 0.4], dtype=torch.float64), 0.1
    torch.testing.assert_close(FlatTorus(2, [4.0, 2.0]).score(4 * x, 16 * t), law.score(x, t) / 4, rtol=1e-14, atol=0)


@every_law
def test_draws_are_uniform(k, radius):
    n, law, radii = 40_000, FlatTorus(k, radius), torch.as_tensor(np.broadcast_to(radius, k).copy())
    planes = law.sample(n, generator=4).unflatten(-1, (k, 2))
    torch.testing.assert_close(planes.norm(dim=-1), radii.expand(n, k), rtol=1e-14, atol=0)
    flat = (planes / radii.unsqueeze(-1)).flatten(-2)
    # Hoeffding, entries and products bounded by 1: P(|mean error| > e) <= 2 exp(-n e^2/2) = 1e-12.
    bound = math.sqrt(2 * math.log(2e12) / n)
    assert float(flat.mean(0).abs().max()) < bound
    assert float((flat.T @ flat / n - torch.eye(2 * k) / 2).abs().max()) < bound


@every_law
def test_geometry(k, radius):
    law, radii, step = FlatTorus(k, radius), torch.as_tensor(np.broadcast_to(radius, k).copy(), dtype=torch.float64), 1e-4
    assert isinstance(law, Manifold)
    angle = torch.arange(1.0, k + 1, dtype=torch.float64)

    def chart(phi: torch.Tensor) -> torch.Tensor:
        return (radii.unsqueeze(-1) * torch.stack((phi.cos(), phi.sin()), -1)).flatten(-2)

    y = chart(angle)
    x = (y.unflatten(-1, (k, 2)) * torch.linspace(0.5, 2, k, dtype=torch.float64).unsqueeze(-1)).flatten(-2)
    torch.testing.assert_close(law.project(x), y, rtol=0, atol=1e-14)
    columns = torch.func.jacfwd(chart)(angle)
    gram = columns.T @ columns
    torch.testing.assert_close(law.tangent_projector(x), columns @ torch.linalg.inv(gram) @ columns.T, rtol=0, atol=1e-14)
    # The arc-length parameters of the circles are flat coordinates: H is the sum of their second derivatives.
    moves = torch.diag(step / radii)
    bend = sum((chart(angle + move) - 2 * y + chart(angle - move)) / step**2 for move in moves)
    torch.testing.assert_close(law.mean_curvature(x), bend, rtol=0, atol=1e-5)
    torch.testing.assert_close(law.mean_curvature(x).square().sum(), (1 / radii**2).sum())
    # The volume element is sqrt(det gram), constant, over [0, 2 pi]^k.
    assert law.volume == pytest.approx((2 * math.pi) ** k * math.sqrt(float(torch.linalg.det(gram))), rel=1e-13)
    assert float(law.manifold_density(x)) == pytest.approx(1 / law.volume, rel=1e-15)
    for method in (law.project, law.tangent_projector, law.mean_curvature, law.manifold_density):
        with pytest.raises(ValueError, match=r"^x = .*center"):
            method(torch.zeros(2 * k))


@pytest.mark.parametrize(
    ("k", "radius", "name"),
    [(0, 1.0, "k"), (2, 0.0, "radius"), (2, [1.0, -1.0], "radius"), (2, [1.0] * 3, "radius"), (1, math.nan, "radius")],
)
def test_bad_parameters_are_refused(k, radius, name):
    with pytest.raises(ValueError, match=rf"^{name} = .*expected"):
        FlatTorus(k, radius)
