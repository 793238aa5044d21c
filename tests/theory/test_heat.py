"""Formulas of the heat flow against hand computations; their derivations are checked by the ledger."""

import pytest
import torch

from kss.distributions import Circle, Empirical, Gaussian, GaussianMixture
from kss.theory import heat

POINT = torch.tensor([[0.7, -1.3], [2.0, 0.1], [-0.4, 0.5]], dtype=torch.float64)


def test_the_formulas_on_a_standard_gaussian_in_closed_form():
    # p_t = N(0, (1 + t) I) at t = 3: s = -x/4, m = x/4, C = 3/4 I, Lap log p = -d/4.
    x, t = POINT, 3.0
    score = -x / 4
    torch.testing.assert_close(heat.score_from_mean(x / 4, x, t), score)
    eye = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(heat.jacobian_from_covariance(0.75 * eye, t, eye), -eye / 4)
    assert heat.hessian_bound(4.0) == -0.25
    # d_t log p = -d/2/(1 + t) + |x|^2/2/(1 + t)^2.
    rate = heat.log_density_rate(-2 / 4, (score**2).sum(-1))
    torch.testing.assert_close(rate, -1 / 4 + (x**2).sum(-1) / 32)
    # d_t s = x/(1 + t)^2, Lap s = 0, (grad s) s = x/16.
    torch.testing.assert_close(heat.burgers_rate(0 * x, -score / 4), x / 16)
    assert heat.density_rate(3.0) == 1.5


@pytest.mark.parametrize(
    "law",
    [
        Gaussian([0.0, 1.0], [[2.0, 0.3], [0.3, 0.5]]),
        GaussianMixture([[0.0, 0.0], [1.0, 1.0]], [[0.2, 0.0], [0.0, 0.1]]),
        Empirical([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        Circle(1.5),
    ],
    ids=repr,
)
def test_the_residual_vanishes_on_scores_and_keeps_the_shape(law):
    x = POINT.reshape(1, 3, 2)
    residual = heat.burgers_residual(law, x, 0.4)
    assert residual.shape == x.shape
    assert float(residual.abs().max()) < 1e-12


def test_the_residual_of_a_field_that_is_no_score():
    # s = -x |x|^2, constant in t: Lap s = -2 (d + 2) x, (grad s) s = 3 |x|^4 x.
    x = POINT
    square = (x**2).sum(-1, keepdim=True)
    expected = (x.shape[-1] + 2) * x - 3 * square**2 * x
    residual = heat.burgers_residual(lambda y, t: -y * (y**2).sum(-1, keepdim=True) + 0 * t.reshape(-1, 1), x, 0.4)
    torch.testing.assert_close(residual, expected)


def test_the_residual_of_a_field_that_moves_at_the_wrong_rate_is_exact_in_double_precision():
    # -x/(1 + 2 t) has the residual x/(1 + 2 t)^2; 0.4 is not a number of single precision.
    residual = heat.burgers_residual(lambda y, t: -y / (1 + 2 * t).reshape(-1, 1), POINT, 0.4)
    assert residual.dtype == torch.float64
    torch.testing.assert_close(residual, POINT / 1.8**2, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("t", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_noise_variance_is_named(t):
    with pytest.raises(ValueError, match="t ="):
        heat.burgers_residual(Circle(), POINT, t)
    with pytest.raises(ValueError, match="x = "):
        heat.burgers_residual(Circle(), [[float("nan"), 0.0]], 0.4)
