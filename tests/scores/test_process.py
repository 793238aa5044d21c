"""Scores seen in other processes: shapes, types, degenerate input; what they are equal to is in the ledger."""

import math

import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.kernels import GaussianKernel
from kss.scores import (
    EDM,
    BrownianMotion,
    InProcess,
    Mollified,
    OrnsteinUhlenbeck,
    VarianceExploding,
    VariancePreserving,
    from_denoiser,
    to_denoiser,
)

LAW = Gaussian([0.5, -1.0], [[2.0, 0.3], [0.3, 0.5]])
POINTS = torch.tensor([[0.7, -1.3], [2.0, 0.1], [-0.4, 0.5]], dtype=torch.float64)


def test_brownian_motion_changes_nothing():
    seen = InProcess(LAW, BrownianMotion())
    assert torch.equal(seen.score(POINTS, 0.3), LAW.score(POINTS, 0.3))
    assert torch.equal(seen.log_density(POINTS, 0.3), LAW.log_density(POINTS, 0.3))
    assert torch.equal(seen.posterior_covariance(POINTS, 0.3), LAW.posterior(POINTS, 0.3).covariance())


def test_a_normal_law_under_ornstein_uhlenbeck():
    # N(1, 2) after s = log 2: mean 1/2, variance 2/4 + 3/4.
    seen, y = InProcess(Gaussian([1.0], 2.0), OrnsteinUhlenbeck()), torch.tensor([[2.0]], dtype=torch.float64)
    s = math.log(2)
    assert float(seen.score(y, s)) == pytest.approx(-1.5 / 1.25)
    assert float(seen.denoise(y, s)) == pytest.approx(1 + (2 * 0.5 / 1.25) * 1.5)
    assert float(seen.posterior_covariance(y, s)) == pytest.approx(2 - 1 / 1.25)
    assert float(seen.log_density(y, s)) == pytest.approx(-(1.5**2) / 2.5 - 0.5 * math.log(2 * math.pi * 1.25))
    mean, covariance, log_density = seen.moments(y, s)
    assert (float(mean), float(covariance), float(log_density)) == pytest.approx(
        (float(seen.denoise(y, s)), float(seen.posterior_covariance(y, s)), float(seen.log_density(y, s)))
    )


def test_one_label_for_each_point_shapes_and_dtypes():
    seen, labels = InProcess(LAW, VariancePreserving()), torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
    whole = seen.score(POINTS, labels)
    for i in range(3):
        torch.testing.assert_close(whole[i], seen.score(POINTS[i], labels[i]))
    assert seen.score(POINTS[:, None], labels).shape == (3, 3, 2)
    assert seen.log_density(POINTS[:, None], labels).shape == (3, 3)
    assert seen.score(POINTS.float(), 0.5).dtype == torch.float32
    assert seen.score(POINTS.numpy(), 0.5).dtype == torch.float64
    for prediction in ("x0", "eps", "v", "score"):
        assert seen.predict(POINTS, labels, prediction).shape == (3, 2)


@pytest.mark.parametrize("prediction", ["x0", "eps", "v", "score", "F"])
@pytest.mark.parametrize("t", [1e-12, 1e12])
def test_both_forms_of_every_prediction_keep_their_digits(prediction, t):
    # One datum at c: X_0 = c, Z = (x - c)/sqrt(t), exactly.
    c, z = torch.tensor([[0.3, -0.2]], dtype=torch.float64), torch.tensor([[0.8, -1.1]], dtype=torch.float64)
    x, data = c + math.sqrt(t) * z, 0.5
    schedule = EDM(data) if prediction == "F" else OrnsteinUhlenbeck()
    model = to_denoiser(Empirical(c), schedule=schedule, prediction=prediction)
    if prediction == "F":
        r = math.sqrt(t + data**2)
        got = model(x / r, math.log(t) / 8)
        expected = (c * t - data**2 * math.sqrt(t) * z) / (r * data * math.sqrt(t))
    else:
        a = (1 + t) ** -0.5
        got = model(a * x, schedule.label(torch.tensor(t, dtype=torch.float64)))
        expected = {"x0": c, "eps": z, "v": a * z - a * math.sqrt(t) * c, "score": -z / (a * math.sqrt(t))}[prediction]
    # x itself is rounded, which moves Z by 1e-16/sqrt(t).
    size = float(expected.abs().max())
    assert float((got - expected).abs().max()) < (1e-13 + 1e-15 / math.sqrt(t)) * (size + (prediction in ("v", "F")) * 1.0)


def test_a_smoothed_score_and_a_function_are_seen_as_well():
    smoothed = Mollified(LAW, GaussianKernel(0.3))
    torch.testing.assert_close(
        InProcess(smoothed, OrnsteinUhlenbeck()).score(POINTS, 0.5), InProcess(LAW, OrnsteinUhlenbeck()).score(POINTS, 0.5)
    )
    bare = InProcess(lambda x, t: -x / (1 + t), VarianceExploding())
    torch.testing.assert_close(bare.denoise(POINTS, 1.0), POINTS / 2)


def test_gradients_flow_there_and_back():
    y = POINTS.clone().requires_grad_()
    back = from_denoiser(to_denoiser(LAW, schedule=VariancePreserving(), prediction="v"), schedule=VariancePreserving(), prediction="v")
    (gradient,) = torch.autograd.grad(back.score(y, 0.7).sum(), y)
    (expected,) = torch.autograd.grad(LAW.score(y, 0.7).sum(), y)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: InProcess(LAW, EDM()).score(1.0, 1.0),
            "y = Tensor of shape () and dtype torch.float64: expected points of shape (..., d)",
        ),
        (lambda: InProcess(LAW, EDM()).score(POINTS, [1.0, 2.0]), "label = Tensor of shape (2,)"),
        (lambda: InProcess(LAW, EDM()).score(POINTS, 0.0), "label = 0.0: expected standard deviations"),
        (lambda: InProcess(LAW, OrnsteinUhlenbeck()).score(POINTS, 0.0), "label = 0.0: expected labels of noise variances in (0, 1e308)"),
        (lambda: InProcess(LAW, OrnsteinUhlenbeck()).score(POINTS, 500.0), "label = 500.0: expected labels of noise variances"),
        (lambda: InProcess(lambda x, t: x, EDM()).log_density(POINTS, 1.0), "expected a Distribution: only a law has a density"),
        (lambda: to_denoiser(LAW, schedule=EDM(), prediction="v"), "v is defined where a^2 + sigma^2 = 1"),
        (lambda: to_denoiser(LAW, schedule=VariancePreserving(), prediction="F"), "the schedule EDM"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below, as text and not as a pattern
        call()
    assert message in str(caught.value)


def test_what_they_are_called():
    assert repr(InProcess(LAW, OrnsteinUhlenbeck(1.0, 2.0))).endswith("OrnsteinUhlenbeck(rate=1.0, noise=2.0))")
