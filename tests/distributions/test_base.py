"""What every law has in common, in one loop over all of them."""

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

from kss.distributions import Circle, Distribution, Embedded, Empirical, FlatTorus, Gaussian, GaussianMixture, Sphere, SwissRoll

RNG = np.random.default_rng(0)
LAWS = {
    "gaussian": Gaussian([0.5, -0.5], [[1.0, 0.3], [0.3, 0.5]]),
    "gaussian on a line": Gaussian([0.0, 0.0, 1.0], np.outer([1.0, 2.0, 0.0], [1.0, 2.0, 0.0])),
    "gaussian in one dimension": Gaussian([1.0], 0.3),
    "point mass": Gaussian([0.2, 0.1], 0.0),
    "mixture": GaussianMixture(RNG.standard_normal((3, 4)), np.stack([np.diag(RNG.random(4)) for _ in range(3)]), [0.2, 0.3, 0.5]),
    "mixture with a weight of zero": GaussianMixture([[0.0], [1.0]], [[0.5]], [1.0, 0.0]),
    "circle": Circle(1.5),
    "sphere": Sphere(2, 0.7),
    "sphere of dimension seven": Sphere(7),
    "torus": FlatTorus(2, [1.0, 0.6]),
    "swiss roll": SwissRoll(),
    "swiss sheet": SwissRoll(2, scale=0.1, height=1.0),
    "circle in space": Embedded(Circle(1.0), 3),
    "sphere on tilted axes": Embedded(Sphere(2), 5, np.linalg.qr(RNG.standard_normal((5, 3)))[0]),
    "turned mixture": Embedded(GaussianMixture([[0.0, 1.0], [1.0, 0.5]], [[0.3, 0.0], [0.0, 0.0]]), 2, [[0.6, -0.8], [0.8, 0.6]]),
    "empirical": Empirical(RNG.standard_normal((20, 3))),
    "one point": Empirical([[0.3, -0.7]]),
    "duplicates": Empirical([[0.0, 1.0]] * 3 + [[1.0, 0.0]]),
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
every_time = pytest.mark.parametrize("t", [0.05, 1.0, 30.0])


def queries(law: Distribution, t: float) -> torch.Tensor:
    return law.diffuse(6, t, generator=1).double()


@every_law
@every_time
def test_score_is_the_gradient_of_the_log_density(law, t):
    x = queries(law, t).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_density(x, t).sum(), x)
    # Scores are at most a few 1/sqrt(t) at draws of p_t; rounding enters the exponents, which are at most 20/t.
    torch.testing.assert_close(law.score(x, t).detach(), gradient, rtol=1e-10, atol=1e-11 / t)


@every_law
@every_time
def test_jacobian_is_the_derivative_of_the_score_and_symmetric(law, t):
    x = queries(law, t)
    found = law.score_jacobian(x, t)
    torch.testing.assert_close(found, found.mT, rtol=0, atol=1e-13 / t**2)
    for k, point in enumerate(x):
        torch.testing.assert_close(found[k], jacobian(lambda y: law.score(y, t), point), rtol=0, atol=1e-10 * (1 / t + 1 / t**2))
    # Hess log p_t >= -I/t, with equality for a point mass.
    assert float(torch.linalg.eigvalsh((found + found.mT) / 2).min()) >= -(1 + 1e-10) / t


@every_law
@every_time
def test_posterior_holds_together(law, t):
    x = queries(law, t)
    posterior = law.posterior(x, t)
    torch.testing.assert_close(posterior.mean, x + posterior.displacement, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(law.denoise(x, t), posterior.mean, rtol=0, atol=0)
    torch.testing.assert_close(law.score(x, t), posterior.displacement / t, rtol=1e-15, atol=0)
    covariance = posterior.covariance()
    torch.testing.assert_close(covariance, covariance.mT, rtol=0, atol=1e-14)
    torch.testing.assert_close(posterior.covariance_trace, covariance.diagonal(dim1=-2, dim2=-1).sum(-1), rtol=1e-12, atol=1e-14)
    assert float(torch.linalg.eigvalsh((covariance + covariance.mT) / 2).min()) >= -1e-14
    # Second-order Tweedie, with what cancels in it as the tolerance.
    eye = torch.eye(law.dim, dtype=torch.float64)
    torch.testing.assert_close(covariance, t**2 * law.score_jacobian(x, t) + t * eye, rtol=0, atol=1e-12 * (1 + t))


@every_law
def test_density_solves_the_heat_equation(law):
    t = 0.7
    x = queries(law, t)
    time = torch.full((len(x),), t, dtype=torch.float64, requires_grad=True)
    # as_query keeps the graph of a tensor t, so d/dt log p is exact too.
    (rate,) = torch.autograd.grad(law.log_density(x, time).sum(), time)
    trace = law.score_jacobian(x, t).diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(rate, (trace + law.score(x, t).square().sum(-1)) / 2, rtol=1e-10, atol=1e-10)


@every_law
def test_shapes_and_types_of_what_comes_back(law):
    d = law.dim
    x = torch.zeros(2, 1, d) + 0.25
    t = torch.tensor([0.5, 1.0, 2.0])
    assert law.log_density(x, t).shape == law.posterior(x, t).covariance_trace.shape == (2, 3)
    assert law.score(x, t).shape == law.denoise(x, t).shape == (2, 3, d)
    assert law.score_jacobian(x, t).shape == law.posterior(x, t).covariance().shape == (2, 3, d, d)
    for name in ("score", "denoise", "log_density", "score_jacobian"):
        method = getattr(law, name)
        assert method(x, t).dtype == torch.float64  # the parameters are float64
        assert method(x.double(), 0.5).device == x.device
        assert method(x.numpy(), t.numpy()).shape == method(x, t).shape
        torch.testing.assert_close(method(x, t)[1, 2], method(x[1, 0].double(), 2.0), rtol=1e-12, atol=1e-12)
    drawn = law.sample(5, generator=0)
    assert drawn.shape == (5, d)
    assert torch.equal(drawn, law.sample(5, generator=torch.Generator().manual_seed(0)))
    assert 0 <= law.intrinsic_dim <= d


@every_law
def test_draws_lie_in_the_box(law):
    low, high = law.bounds()
    drawn = law.sample(500, generator=2)
    assert low.shape == high.shape == (law.dim,)
    assert bool(((drawn >= low - 1e-14) & (drawn <= high + 1e-14)).all())


@every_law
@pytest.mark.parametrize("t", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("far", [0.0, 1.0, -1e200])
def test_nothing_is_ever_nan(law, t, far):
    x = torch.full((law.dim,), far, dtype=torch.float64)
    posterior = law.posterior(x, t)
    values = [posterior.displacement, posterior.mean, posterior.log_evidence, posterior.covariance(), posterior.covariance_trace]
    for value in (*values, law.score(x, t), law.score_jacobian(x, t)):
        assert not value.isnan().any()
    # The log-density is finite wherever |x|^2/t is, and so is the score; the posterior mean always is.
    assert posterior.mean.isfinite().all()
    if far != -1e200:
        assert posterior.log_evidence.isfinite().all() or t < 1e-299
        assert law.score(x, t).isfinite().all()


@every_law
@pytest.mark.parametrize(
    ("x", "t", "name"), [(None, 0.0, "t"), (None, -1.0, "t"), (None, float("nan"), "t"), ("wide", 1.0, "x"), ("nan", 1.0, "x")]
)
def test_bad_input_is_refused_by_every_method(law, x, t, name):
    point = torch.zeros(law.dim + (x == "wide"), dtype=torch.float64)
    if x == "nan":
        point[0] = torch.nan
    for method in (law.score, law.log_density, law.denoise, law.score_jacobian, law.posterior):
        with pytest.raises(ValueError, match=rf"^{name} = .*expected"):
            method(point, t)


def test_float32_laws_answer_in_float32_from_float64_arithmetic():
    narrow = Gaussian(torch.zeros(2), torch.eye(2))
    assert narrow.score(torch.ones(2), 1e-60).tolist() == [-1.0, -1.0]
    assert narrow.score(torch.ones(2), 1.0).dtype == narrow.score_jacobian(torch.ones(2), 1.0).dtype == torch.float32
    assert Empirical(torch.zeros(1, 2)).score_jacobian(torch.zeros(2), 1.0).dtype == torch.float32
    drawn = narrow.diffuse(4, 1.0, generator=0)
    assert drawn.dtype == torch.float32
