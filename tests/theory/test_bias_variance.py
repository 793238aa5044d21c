"""Bias, variance and bandwidths: shapes, limits, errors; and the exact quantities against each other."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Circle, Empirical, FlatTorus, Gaussian, GaussianMixture, Sphere
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.theory import bias_variance as bv
from kss.theory import clt, sparse

SETTING = {"k": 1, "curvature_square": 1.0, "density": 1 / (2 * math.pi)}


def test_decomposition_adds_up_and_keeps_shapes() -> None:
    estimates = torch.randn(7, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    truth = np.ones((3, 2))
    parts = bv.decompose(estimates, truth)
    assert parts.squared_bias.shape == parts.variance.shape == (3,)
    error = (estimates - torch.from_numpy(truth)).square().sum(-1).mean(0)
    torch.testing.assert_close(parts.mean_square_error, error)
    for wrong in (estimates[:0], estimates[..., :1], [1.0, 2.0]):
        with pytest.raises(ValueError, match="estimates"):
            bv.decompose(wrong, truth)


def test_bias_is_the_difference_of_scores_with_its_error() -> None:
    law, x, h = GaussianMixture([[-1.0], [1.0]], [[0.1]]), torch.tensor([[0.4], [2.0]], dtype=torch.float64), 0.05
    found = bv.bias(law, x, 0.2, h)
    assert found.value.shape == (2, 1)
    assert found.error.shape == (2,)
    torch.testing.assert_close(found.value, Mollified(law, GaussianKernel(h)).score(x, 0.2) - law.score(x, 0.2), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(bv.bias(law, x, 0.2, 0.0).value, torch.zeros(2, 1, dtype=torch.float64), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    "law", [Circle(), Sphere(2, 2.0), FlatTorus(2, [1.0, 2.0]), GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], np.stack([0.2 * np.eye(2)] * 2))]
)
def test_first_order_bias_is_the_limit_of_the_exact_one(law) -> None:
    x = torch.linspace(0.5, 1.2, law.dim, dtype=torch.float64)
    h = 1e-4
    exact, leading = bv.bias(law, x, 0.3, h, accuracy=1e-4 if law.dim > 3 else 1e-10), bv.first_order_bias(law, x, 0.3, h)
    torch.testing.assert_close(exact.value, leading, rtol=1e-2, atol=float(exact.error))


def test_a_normal_law_has_no_bias() -> None:
    law, x = Gaussian([0.0, 1.0], 0.5), torch.tensor([3.0, -1.0], dtype=torch.float64)
    assert float(bv.bias(law, x, 0.1, 0.7).value.norm()) < 1e-10
    assert float(bv.first_order_bias(law, x, 0.1, 0.7).norm()) == 0


@pytest.mark.parametrize("law", [Circle(), Sphere(2), Sphere(3), Gaussian([0.5], 1.0), Empirical([[0.0, 0.0], [1.0, 0.5], [0.2, -0.4]])])
def test_variance_without_smoothing_is_the_trace_of_the_covariance(law) -> None:
    x = torch.linspace(0.2, 0.9, law.dim, dtype=torch.float64)
    found = bv.variance(law, x, 0.2, 0.0, 10.0)
    expected = clt.covariance(law, x, x, 0.2).trace() / (10 * 0.2**2)
    torch.testing.assert_close(found.value, expected, rtol=1e-10, atol=0.0)


@pytest.mark.slow
def test_variance_against_a_plain_sum_of_covariances() -> None:
    law, x, t, h = Circle(), torch.tensor([0.9, 0.2], dtype=torch.float64), 0.05, 0.03
    rule = GaussianKernel(h).grid(2, 17)
    nodes = x + math.sqrt(h) * rule.nodes[0]
    trace = clt.covariance(law, nodes[:, None], nodes, t).diagonal(dim1=-2, dim2=-1).sum(-1)
    expected = rule.weights @ trace @ rule.weights / (5 * t**2)
    torch.testing.assert_close(bv.variance(law, x, t, h, 5.0).value, expected, rtol=1e-5, atol=0.0)
    many = bv.variance(law, torch.stack((x, -x)).unsqueeze(0), t, np.diag([h, h]), 5.0)
    assert many.value.shape == many.error.shape == (1, 2)
    torch.testing.assert_close(many.value[0], expected.expand(2), rtol=1e-5, atol=0.0)


def test_variance_by_sobol_points_agrees_with_the_product_of_circles() -> None:
    t, h = 0.02, 0.02
    torus = bv.variance(FlatTorus(2), [1.0, 0.0, 1.0, 0.0], t, h, 1.0)
    # k = 2: twice one circle's noise in the score, times the other's in the density, by the definition of both.
    angle = 2 * math.pi * torch.arange(256, dtype=torch.float64) / 256
    data, rule, x = (
        torch.stack((angle.cos(), angle.sin()), -1),
        GaussianKernel(h).grid(2, 33),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
    )
    nodes = x + math.sqrt(h) * rule.nodes[0]
    posterior = torch.softmax(nodes @ data.T / t, -1)
    smoothed = rule.weights @ posterior
    pulled = data * smoothed[:, None] - posterior.T @ (rule.weights[:, None] * (posterior @ data))
    expected = 2 * float(256 * (pulled**2).sum() / t**2) * float(256 * (smoothed**2).sum())
    assert abs(float(torus.value) - expected) < float(torus.error) + 0.005 * expected
    assert float(torus.error) < 0.03 * expected


def test_a_divergent_variance_says_so() -> None:
    law = Gaussian([0.0], 1.0)
    assert float(bv.variance(law, [0.0], 1.0, 3.0, 1.0).error) < 1e-5
    beyond = bv.variance(law, [0.0], 1.0, 9.0, 1.0, most_pairs=2**20)  # (t + v)(t + 2 v)/v = 6
    assert not float(beyond.error) < 0.5 * float(beyond.value)


def test_small_time_forms_agree_with_each_other() -> None:
    for k in (1, 2, 3):
        noise = bv.small_time_noise(0.01, 0.03 * torch.eye(k, dtype=torch.float64), 50.0, 0.2)
        assert float(noise.trace()) == pytest.approx(bv.small_time_variance(k, 0.01, 0.03, 50.0, 0.2), rel=1e-12)
    assert bv.sample_size_gain(2, 0.01, 0.03) == pytest.approx(16.0)
    assert bv.small_time_squared_bias(4.0, 0.1, 0.2) == pytest.approx(4.0)
    assert bv.sphere_mean_squared_bias(1, 2.0, 1e-3, 1e-3) == pytest.approx(0.25 / 4 * (1 + (8e-3 + 1.5e-3) / 4))
    with pytest.raises(ValueError, match="tangential"):
        bv.small_time_noise(0.01, [[1.0, 0.5], [0.2, 1.0]], 50.0, 0.2)
    with pytest.raises(ValueError, match="tangential"):
        bv.small_time_noise(0.01, [[-1.0]], 50.0, 0.2)


@pytest.mark.parametrize("problem", ["path", "pointwise"])
@pytest.mark.parametrize("regular", [False, True])
def test_the_optimum_is_least_and_tends_to_the_closed_form(problem, regular) -> None:
    kw = {**SETTING, "problem": problem, "regular": regular}
    h = bv.optimal_bandwidth(1e-3, 400, **kw)
    best = bv.two_term_error(h, 1e-3, 400, **kw)
    assert all(bv.two_term_error(factor * h, 1e-3, 400, **kw) > best for factor in (0.99, 1.01))
    assert bv.optimal_bandwidth(1e-20, 4.0, **kw) == pytest.approx(bv.leading_bandwidth(1e-20, 4.0, **kw), rel=1e-3)


def test_numbers_of_the_theory_sheet() -> None:
    path = [round(bv.optimal_bandwidth(t, n, problem="path", **SETTING), 4) for t, n in ((1e-3, 100), (1e-3, 1600), (1e-2, 100))]
    assert path == [0.0120, 0.0036, 0.0260]
    assert bv.leading_bandwidth(1.0, 1.0, problem="path", **SETTING) == pytest.approx(math.pi**0.2)
    assert bv.optimal_bandwidth(0.004, 1000 * math.pi, problem="pointwise", **SETTING) == pytest.approx(0.0031, abs=5e-5)


def test_degenerate_and_extreme_bandwidths() -> None:
    assert bv.optimal_bandwidth(0.1, 10, k=0, curvature_square=1.0, density=1.0, problem="path") == 0.0
    for function in (bv.optimal_bandwidth, bv.leading_bandwidth):
        assert function(0.1, 10, k=2, curvature_square=0.0, density=1.0, problem="pointwise") == math.inf
    tiny = bv.optimal_bandwidth(1e-250, 1e9, problem="pointwise", **SETTING)
    assert 0 < tiny < 1e-100
    for wrong in ({"problem": "both"}, {"problem": "path", "density": 0.0}, {"problem": "path", "curvature_square": -1.0}):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            bv.optimal_bandwidth(0.1, 10, **{**SETTING, **wrong})
    with pytest.raises(ValueError, match="problem"):
        bv.two_term_error(0.1, 0.1, 10, problem="both", **SETTING)


def test_normal_law_averages() -> None:
    raw = bv.gaussian_mean_variance(2.0, 0.5, 0.0, 10, 3)
    # Minus twice the derivative in t of ((1 + v/t)^d - 1)/(2 N), the expected KL.
    assert raw == pytest.approx(3 * 2.0 / 0.25 * 5.0**2 / 10)
    assert bv.gaussian_mean_variance(2.0, 0.5, 0.1, 10, 3) > raw


def test_sparse_variance_is_continuous_and_has_its_limits() -> None:
    t, n, p = 1e-8, 40.0, 2.5
    assert sparse.sparse_variance(t, 0.0, n, p) == pytest.approx(1 / (2 * 100**2 * t**2))
    assert sparse.sparse_variance(t, 1e-14, n, p) == pytest.approx(sparse.sparse_variance(t, 0.0, n, p), rel=1e-4)
    below, above = (sparse.sparse_variance(t, (1 + e) / 100**2, n, p) for e in (-1e-9, 1e-9))
    assert below == pytest.approx(above, rel=1e-8)
    assert sparse.sparse_variance(t, 1.0, n, p) == pytest.approx(sparse.sparse_leading_variance(t, 1.0, n, p), rel=2e-4)
    assert sparse.sparse_log_variance(t, 0.0, n, p) == pytest.approx(5 / 16 / 100**4 / t**2)
    assert sparse.sparse_log_variance(t, 1.0, n, p) == pytest.approx(sparse.sparse_leading_log_variance(t, 1.0, n, p), rel=2e-4)
    with pytest.raises(ValueError, match="h = -1"):
        sparse.sparse_variance(t, -1.0, n, p)
    with pytest.raises(ValueError, match="h = "):
        sparse.sparse_leading_variance(t, 0.0, n, p)
