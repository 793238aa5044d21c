"""Bandwidths of every order: against those of order 1, by brute force, their limits, and what is refused."""

import math

import numpy as np
import pytest
import torch

from kss.kernels import GaussianKernel
from kss.theory.bias_variance import leading_bandwidth, optimal_bandwidth
from kss.theory.kernels import size

CIRCLE = {"k": 1, "density": 1 / (2 * math.pi)}


@pytest.mark.parametrize("problem", ["path", "pointwise"])
@pytest.mark.parametrize(("k", "t", "N"), [(1, 1e-3, 400), (2, 1e-2, 30), (5, 1e-6, 1e8), (1, 0.1, 1e9)])
def test_order_one_is_the_bandwidth_of_the_plain_kernel(problem, k, t, N) -> None:
    case = {"k": k, "density": 0.3, "problem": problem}
    ours = size.best_bandwidth(t, N, order=1, bias_square=0.5, **case)
    assert ours == pytest.approx(optimal_bandwidth(t, N, curvature_square=2.0, **case), rel=1e-10)
    leading = size.leading_bandwidth(t, N, order=1, bias_square=0.5, **case)
    assert leading == pytest.approx(leading_bandwidth(t, N, curvature_square=2.0, **case), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("problem", ["path", "pointwise"])
def test_no_neighbor_is_better(order, problem) -> None:
    case = {"order": order, "k": 2, "bias_square": 3.0, "density": 0.1, "problem": problem}
    for t, N in ((1e-3, 100.0), (1e-2, 1e4)):
        h = size.best_bandwidth(t, N, **case)
        errors = size.corrected_error(h * np.exp(np.linspace(-0.2, 0.2, 401)), t, N, **case)
        assert abs(int(errors.argmin()) - 200) <= 1


def test_extreme_arguments() -> None:
    for t, N in ((1e-300, 1.0), (1e-12, 1e30), (1e3, 1e30), (1e10, 1e-5)):
        h = size.best_bandwidth(t, N, order=2, bias_square=1.0, problem="pointwise", **CIRCLE)
        assert 0 < h < math.inf


def test_exponents_are_those_of_the_leading_form() -> None:
    for order, k, problem in ((1, 1, "path"), (2, 3, "pointwise"), (3, 2, "path")):
        case = {"order": order, "k": k, "bias_square": 1.0, "density": 1.0, "problem": problem}
        ratio = size.leading_bandwidth(1e-9, 10.0, **case) / size.leading_bandwidth(1e-9, 1000.0, **case)
        assert math.log(ratio) / math.log(100) == pytest.approx(size.bandwidth_exponent(order, k, problem), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_the_changing_bandwidth_is_the_pointwise_one(order) -> None:
    case = {"order": order, "bias_square": 0.4, **CIRCLE}
    h = size.bandwidth_in_time(300, **case)
    times = torch.logspace(-12, 4, 33, dtype=torch.float64)
    direct = [size.best_bandwidth(float(u), 300, problem="pointwise", **case) for u in times]
    np.testing.assert_allclose(h(times), direct, rtol=1e-5)
    assert h(times.reshape(3, 11)).shape == (3, 11)
    assert float(GaussianKernel(h).covariance(1e-3, 1)[0, 0]) == pytest.approx(float(h(torch.tensor(1e-3))), rel=1e-6)


@pytest.mark.slow
def test_the_divergence_in_time() -> None:
    case = {"order": 1, "bias_square": 0.25, **CIRCLE}
    whole, early = size.divergence_in_time(1e-3, 400, **case), size.divergence_in_time(1e-2, 400, **case)
    assert size.divergence_in_time(1e-3, 400, end=1e-2, **case) == pytest.approx(whole - early, rel=1e-6)
    bound = size.bounded_divergence(400, curvature_square=1.0, volume=2 * math.pi)
    small = size.divergence_in_time(1e-24, 400, **case)
    assert whole < small < bound
    # What is left is of the order t^{1/7}: (1e-24)^{1/7} = 4e-4.
    assert small == pytest.approx(bound, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 0}, r"^order = 0"),
        ({"k": 0}, r"^k = 0"),
        ({"bias_square": 0.0}, r"^bias_square = 0\.0"),
        ({"density": -1.0}, r"^density = -1\.0"),
        ({"problem": "both"}, r"^problem = .both."),
    ],
)
def test_what_is_refused(change, message) -> None:
    case = {"order": 2, "bias_square": 1.0, "problem": "path", **CIRCLE} | change
    with pytest.raises(ValueError, match=message):
        size.best_bandwidth(0.1, 100, **case)
    with pytest.raises(ValueError, match=r"^end = 0\.01"):
        size.divergence_in_time(0.1, 100, order=1, bias_square=1.0, end=0.01, **CIRCLE)
