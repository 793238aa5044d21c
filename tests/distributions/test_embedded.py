"""Laws on subspaces: against singular Gaussian laws, and against spheres in ball arithmetic with the normal Gaussian added by hand."""

import math

import flint
import numpy as np
import pytest
import torch
from ball_sphere import exact

from kss.distributions import Circle, Embedded, Empirical, FlatTorus, Gaussian, Manifold, Sphere
from kss.theory.heat import burgers_residual

pytestmark = pytest.mark.slow  # the core, which `make quick` tests, has the circle

RNG = np.random.default_rng(1)
SQUARE = np.linalg.qr(RNG.standard_normal((5, 5)))[0]
ROTATIONS = {"axes": None, "square": SQUARE, "columns": SQUARE[:, :3], "permutation": np.eye(5)[:, [3, 1, 4, 0, 2]]}
every_rotation = pytest.mark.parametrize("rotation", ROTATIONS.values(), ids=ROTATIONS.keys())


@pytest.fixture(autouse=True)
def bits():
    flint.ctx.prec = 600
    yield
    flint.ctx.prec = 53


def basis(rotation: np.ndarray | None, d: int = 3) -> np.ndarray:
    return np.eye(5)[:, :d] if rotation is None else rotation[:, :d]


@every_rotation
@pytest.mark.parametrize("t", [1e-8, 1e-3, 0.3, 20.0, 1e8])
def test_sphere_with_the_normal_gaussian_added_by_hand(rotation, t):
    law, b = Embedded(Sphere(2), 5, rotation), basis(rotation)
    normal = np.eye(5) - b @ b.T
    for x in [*RNG.standard_normal((4, 5)), b @ [0.6, 0.0, 0.8], np.zeros(5), 1e4 * RNG.standard_normal(5)]:
        y, n = b.T @ x, normal @ x
        inner, posterior = exact(1.0, y, t), law.posterior(x, t)
        # B^T x and n are known to a few eps |x|.
        moved = 16 * 2.3e-16 * np.linalg.norm(x)
        curved = np.linalg.norm(inner.jacobian, 2)
        np.testing.assert_allclose(
            law.score(x, t).numpy(), b @ inner.score - n / t, rtol=0, atol=1e-12 * np.linalg.norm(inner.score) + moved * (1 / t + curved)
        )
        np.testing.assert_allclose(posterior.mean.numpy(), b @ inner.mean, rtol=0, atol=1e-14 + moved * (1 + t * curved))
        want = inner.log_density - n @ n / (2 * t) - math.log(2 * math.pi * t)
        slope = np.linalg.norm(inner.score) + np.linalg.norm(n) / t
        assert abs(float(posterior.log_evidence) - want) <= 1e-13 * abs(want) + moved * slope + 1e-13
        np.testing.assert_allclose(
            law.score_jacobian(x, t).numpy(), b @ inner.jacobian @ b.T - normal / t, rtol=0, atol=1e-12 * (curved + 1 / t) + moved / t**1.5
        )
        np.testing.assert_allclose(
            posterior.covariance().numpy(), b @ inner.covariance @ b.T, rtol=0, atol=1e-12 * np.abs(inner.covariance).max()
        )
        assert float(posterior.covariance_trace) == pytest.approx(np.trace(inner.covariance), rel=1e-12)
        torch.testing.assert_close(
            posterior.mean, torch.from_numpy(x) + posterior.displacement, rtol=0, atol=1e-15 * (1 + np.linalg.norm(x))
        )


@every_rotation
def test_gaussian_is_the_singular_gaussian(rotation):
    b, t = basis(rotation), 0.4
    factor = RNG.standard_normal((3, 3))
    mean, covariance = RNG.standard_normal(3), factor @ factor.T
    law, other = Embedded(Gaussian(mean, covariance), 5, rotation), Gaussian(b @ mean, b @ covariance @ b.T)
    x = torch.from_numpy(RNG.standard_normal((6, 5)))
    for name in ("score", "log_density", "denoise", "score_jacobian"):
        torch.testing.assert_close(getattr(law, name)(x, t), getattr(other, name)(x, t), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(law.posterior(x, t).covariance(), other.posterior(x, t).covariance(), rtol=1e-11, atol=1e-12)


@every_rotation
def test_gradients_agree_with_the_formulas(rotation):
    law, t = Embedded(FlatTorus(1, 0.8), 5, None if rotation is None else rotation[:, : 5 if rotation.shape[1] == 5 else 2]), 0.2
    x = law.diffuse(3, t, generator=5)
    for point in x:
        torch.testing.assert_close(torch.func.grad(lambda y: law.log_density(y, t))(point), law.score(point, t), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(
            torch.func.jacfwd(lambda y: law.score(y, t))(point), law.score_jacobian(point, t), rtol=1e-11, atol=1e-11
        )
    assert float(burgers_residual(law, x, t).abs().max()) <= 1e-11


def test_in_its_own_space_the_law_is_what_it_was():
    x = torch.from_numpy(RNG.standard_normal((5, 2)))
    assert torch.equal(Embedded(Circle(), 2).score(x, 0.1), Circle().score(x, 0.1))
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert torch.equal(Embedded(Empirical([[1.0, 2.0]]), 2, turn).sample(1, 0), torch.tensor([[-2.0, 1.0]], dtype=torch.float64))
    twice = Embedded(Embedded(Circle(), 3), 4)
    y = torch.from_numpy(RNG.standard_normal((5, 4)))
    torch.testing.assert_close(twice.score(y, 0.1), Embedded(Circle(), 4).score(y, 0.1), rtol=1e-15, atol=0)


@pytest.mark.parametrize("t", [1e-300, 1e-30, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("far", [0.0, 1.0, 1e150, -1e200])
@every_rotation
def test_is_never_nan(t, far, rotation):
    law, x = Embedded(Sphere(2), 5, rotation), np.full(5, far)
    posterior = law.posterior(x, t)
    for value in (posterior.displacement, posterior.mean, posterior.log_evidence, posterior.covariance(), law.score_jacobian(x, t)):
        assert not value.isnan().any()
    assert float(posterior.mean.norm()) <= 1 + 1e-14


@every_rotation
def test_draws_are_those_of_the_law(rotation):
    b, inner = basis(rotation), Sphere(2)
    drawn = Embedded(inner, 5, rotation).sample(100, generator=3)
    torch.testing.assert_close(drawn, inner.sample(100, generator=3) @ torch.from_numpy(b).T, rtol=0, atol=1e-15)


def test_types_promote():
    narrow = Empirical(torch.zeros(1, 2))
    assert Embedded(narrow, 3).score(torch.ones(3), 1.0).dtype == Embedded(narrow, 3).sample(1, 0).dtype == torch.float32
    assert Embedded(narrow, 3, torch.eye(3)).score(torch.ones(3), 1.0).dtype == torch.float32
    assert Embedded(narrow, 3, np.eye(3)).score(torch.ones(3), 1.0).dtype == torch.float64
    assert Embedded(narrow, 3).score(torch.ones(3), 1e-60).tolist() != [0.0, 0.0, 0.0]
    # A rotation in float32 is orthogonal to 1e-7 only; the law it stands for is the one of the nearest orthogonal matrix.
    rounded = Embedded(Circle(), 5, torch.from_numpy(SQUARE).float())
    torch.testing.assert_close(rounded.sample(9, 0).norm(dim=-1), torch.ones(9, dtype=torch.float64), rtol=1e-13, atol=0)


@every_rotation
def test_geometry(rotation):
    inner, b = Sphere(2, 2.0), basis(rotation)
    law, x = Embedded(inner, 5, rotation), RNG.standard_normal((4, 5))
    assert isinstance(law, Manifold)
    y, b = torch.from_numpy(x @ b), torch.from_numpy(b)
    assert law.intrinsic_dim == 2
    assert law.volume == inner.volume
    torch.testing.assert_close(law.project(x), inner.project(y) @ b.T, rtol=0, atol=1e-14)
    torch.testing.assert_close(law.mean_curvature(x), inner.mean_curvature(y) @ b.T, rtol=0, atol=1e-14)
    torch.testing.assert_close(law.tangent_projector(x), b @ inner.tangent_projector(y) @ b.T, rtol=0, atol=1e-14)
    torch.testing.assert_close(law.manifold_density(x), inner.manifold_density(y), rtol=0, atol=0)


def test_a_law_without_geometry_says_so():
    law = Embedded(Gaussian([0.0], 1.0), 2)
    for ask in (law.project, law.tangent_projector, law.mean_curvature, law.manifold_density):
        with pytest.raises(ValueError, match=r"^distribution = Gaussian.*expected a law with a density on a manifold"):
            ask([0.0, 1.0])
    with pytest.raises(ValueError, match=r"^distribution = "):
        _ = law.volume


@pytest.mark.parametrize(
    ("ambient", "rotation", "name"),
    [
        (1, None, "ambient_dim"),
        (3, np.eye(2), "rotation"),
        (3, np.eye(3)[:, :1], "rotation"),
        (3, 1.0001 * np.eye(3), "rotation"),
        (3, [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]], "rotation"),
        (3, np.full((3, 3), np.nan), "rotation"),
    ],
)
def test_bad_parameters_are_refused(ambient, rotation, name):
    with pytest.raises(ValueError, match=rf"^{name} = .*expected"):
        Embedded(Circle(), ambient, rotation)


def test_repr():
    assert repr(Embedded(Circle(), 3)) == "Embedded(Circle(1.0), 3)"
    assert repr(Embedded(Circle(), 5, SQUARE)) == "Embedded(Circle(1.0), 5, rotation=<(5, 5)>)"
