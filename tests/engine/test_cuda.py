"""The same numbers where the data live on a graphics card; skipped, and said so, where there is none."""

import pytest
import torch
from criterion import data_set

from kss.distributions import Empirical
from kss.engine import reduce
from kss.kernels import GaussianKernel
from kss.scores import (
    EDM,
    AdaptivelyMollified,
    BiasCorrected,
    DiscreteVariancePreserving,
    InProcess,
    Mollified,
    OrnsteinUhlenbeck,
    SpaceTime,
    VariancePreserving,
    exponential_delays,
    from_denoiser,
    to_denoiser,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("method", reduce.METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["plain", "duplicates", "shifted"])
@pytest.mark.parametrize("dim", [2, 64])
def test_the_numbers_are_those_of_the_processor(dim, kind, dtype, method):
    points = torch.from_numpy(data_set(kind, 2000, dim)).to(dtype)
    there, exact = Empirical(points.cuda(), method=method), Empirical(points.double(), method="difference")
    for t in (1e-4, 1e-2, 1.0, 1e2):
        x = exact.diffuse(200, t, generator=0).to(dtype)
        found, expected = there.posterior(x.cuda(), t), exact.posterior(x.double(), t)
        assert found.displacement.is_cuda
        # Twice the tolerance, for both may use it; and rounding of the answer.
        allowed = 2 * (reduce.TOLERANCE if dtype == torch.float64 else reduce.NARROW_TOLERANCE)
        size = expected.displacement.norm(dim=-1) + torch.finfo(torch.float64).eps * points.double().abs().max() / allowed
        error = (found.displacement.cpu().double() - expected.displacement).norm(dim=-1)
        assert (error <= allowed * size).all()
        error = (found.log_evidence.cpu().double() - expected.log_evidence).abs()
        assert (error <= allowed * (1 + expected.log_evidence.abs())).all()


def test_gradients_and_samples_stay_there():
    law = Empirical(torch.from_numpy(data_set("plain", 100, 3)).cuda())
    x = law.sample(5, generator=0).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_density(x, 0.5).sum(), x)
    torch.testing.assert_close(gradient, law.score(x, 0.5).detach(), rtol=1e-10, atol=1e-10)


def test_a_mollified_score_is_that_of_the_processor():
    points = torch.from_numpy(data_set("plain", 300, 8))
    x = Empirical(points).diffuse(50, 0.3, generator=0)
    here, there = (Mollified(Empirical(data), GaussianKernel(0.2)) for data in (points, points.cuda()))
    torch.testing.assert_close(there.score(x.cuda(), 0.3).cpu(), here.score(x, 0.3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("prediction", "schedule"),
    [("score", OrnsteinUhlenbeck()), ("v", VariancePreserving()), ("F", EDM()), ("eps", DiscreteVariancePreserving.linear())],
)
def test_other_processes_and_back_stay_there(prediction, schedule):
    law = Empirical(torch.from_numpy(data_set("plain", 300, 3)).cuda())
    x = law.diffuse(50, 0.3, generator=0)
    network = to_denoiser(law, schedule=schedule, prediction=prediction)
    found = from_denoiser(network, schedule=schedule, prediction=prediction).score(x, 0.3)
    torch.testing.assert_close(found, law.score(x, 0.3), rtol=1e-9, atol=1e-9)
    seen = InProcess(law, schedule)
    label = float(schedule.label(torch.tensor(0.3, dtype=torch.float64)))
    assert seen.score(x, label).is_cuda
    assert seen.log_density(x, label).is_cuda
    assert seen.posterior_covariance(x, label).is_cuda


def test_kernels_that_follow_the_data_and_delays_are_those_of_the_processor():
    points = torch.from_numpy(data_set("plain", 300, 2))
    x = Empirical(points).diffuse(20, 0.3, generator=0)
    for make in (
        lambda law: BiasCorrected(law, GaussianKernel(0.1), 3),
        lambda law: AdaptivelyMollified(law, law, 0.1),
        lambda law: SpaceTime(law, GaussianKernel(0.1), *exponential_delays(0.05)),
    ):
        here, there = (make(Empirical(data)) for data in (points, points.cuda()))
        torch.testing.assert_close(there.score(x.cuda(), 0.3).cpu(), here.score(x, 0.3), rtol=1e-9, atol=1e-9)
