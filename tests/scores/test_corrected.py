"""Richardson's extrapolation of the kernel against integrals on the line, and its order by slope."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from kss.distributions import Empirical, Gaussian
from kss.kernels import BallKernel, GaussianKernel
from kss.scores import BiasCorrected, richardson_weights

PAIR = Empirical([[-1.0], [1.0]])


def smoothed(function, variance, shape):
    """`E f(V)` for a centered variable of this variance: normal, or uniform on an interval."""
    if shape == "normal":
        return integrate.quad(
            lambda u: function(math.sqrt(variance) * u) * math.exp(-(u**2) / 2) / math.sqrt(2 * math.pi), -10, 10, epsabs=1e-13
        )[0]
    return integrate.quad(lambda u: function(math.sqrt(3 * variance) * u) / 2, -1, 1, epsabs=1e-13)[0]


KERNELS = {"normal": GaussianKernel, "uniform": lambda h: BallKernel(math.sqrt(3 * h))}


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize(("x", "t", "h"), [(0.4, 0.5, 0.2), (-1.3, 0.3, 1.0), (2.0, 2.0, 0.01)])
def test_it_is_twice_the_narrow_minus_the_wide(shape, x, t, h):
    corrected = BiasCorrected(PAIR, KERNELS[shape](h))

    def score(v):
        return (math.tanh((x + v) / t) - (x + v)) / t

    def log_density(v):
        return -((x + v) ** 2 + 1) / (2 * t) + math.log(math.cosh((x + v) / t)) - math.log(2 * math.pi * t) / 2

    exact = 2 * smoothed(score, h, shape) - smoothed(score, 2 * h, shape)
    found, error = corrected.score_with_error([[x]], t)
    assert abs(float(found) - exact) <= min(float(error), 1e-6 * (1 + abs(exact)))
    assert float(corrected.score([[x]], t)) == float(found)
    assert float(corrected.denoise([[x]], t)) == pytest.approx(x + t * exact, abs=1e-6)
    exact = 2 * smoothed(log_density, h, shape) - smoothed(log_density, 2 * h, shape)
    assert float(corrected.unnormalized_log_density([[x]], t)) == pytest.approx(exact, abs=1e-6)


def test_the_bias_is_of_second_order():
    x, t, widths = 0.4, 0.5, [0.02, 0.01, 0.005]
    exact = (math.tanh(x / t) - x) / t
    errors = [abs(float(BiasCorrected(PAIR, GaussianKernel(h), accuracy=1e-10).score([x], t)) - exact) for h in widths]
    # The next term is h/t = 4 % here; order 1, of plain smoothing, is far.
    assert float(np.polyfit(np.log(widths), np.log(errors), 1)[0]) == pytest.approx(2.0, abs=0.2)


def test_the_error_is_that_of_both_averages():
    corrected = BiasCorrected(Empirical(np.eye(5)), GaussianKernel(lambda t: t), accuracy=1e-2, most_nodes=512, scrambling=3)
    x = np.zeros((2, 5))
    narrow, wide = corrected.narrow.score_with_error(x, 0.2), corrected.wide.score_with_error(x, 0.2)
    value, error = corrected.score_with_error(x, 0.2)
    torch.testing.assert_close(value, 2 * narrow.value - wide.value)
    torch.testing.assert_close(error, 2 * narrow.error + wide.error)
    assert (corrected.wide.accuracy, corrected.wide.most_nodes, corrected.wide.scrambling) == (1e-2, 512, 3)
    assert (corrected.narrow.accuracy, corrected.narrow.most_nodes, corrected.narrow.scrambling) == (1e-2, 512, 3)
    assert float(corrected.wide.kernel.covariance(0.2, 5)[0, 0]) == pytest.approx(0.4)


def test_a_gaussian_is_not_changed_and_the_contract():
    law, x = Gaussian([1.0, 0.0], 2.0), torch.tensor([[0.3, 0.4], [2.0, -1.0]], dtype=torch.float64)
    corrected = BiasCorrected(law, GaussianKernel(0.7))
    torch.testing.assert_close(corrected.score(x, 0.3), -(x - torch.tensor([1.0, 0.0])) / 2.3, rtol=1e-12, atol=1e-12)
    assert corrected.unnormalized_log_density(x, 0.3).shape == (2,)
    assert corrected.score(torch.zeros(0, 2), 0.3).shape == (0, 2)
    narrow = BiasCorrected(Empirical(torch.zeros(1, 2)), GaussianKernel(0.7))
    assert narrow.score(torch.ones(2), 0.5).dtype == narrow.denoise(torch.ones(2), 0.5).dtype == torch.float32
    assert repr(BiasCorrected(PAIR, GaussianKernel(0.5))) == "BiasCorrected(Empirical([[-1.0], [1.0]]), GaussianKernel(0.5))"
    with pytest.raises(ValueError, match=r"^most_nodes = 3"):
        BiasCorrected(law, GaussianKernel(0.7), most_nodes=3)
    with pytest.raises(ValueError, match=r"^t = 0\.0: expected a noise variance t > 0"):
        corrected.denoise(x, 0.0)
    with pytest.raises(ValueError, match=r"^x = .*expected points"):
        corrected.denoise(0.0, 1.0)


def test_higher_orders_combine_more_averages():
    assert [int(w) for w in richardson_weights(4)] == [4, -6, 4, -1]
    third = BiasCorrected(PAIR, GaussianKernel(0.2), order=3)
    x, t = [[0.4]], 0.5
    parts = [average.score_with_error(x, t) for average in third.averages]
    value, error = third.score_with_error(x, t)
    torch.testing.assert_close(value, 3 * parts[0].value - 3 * parts[1].value + parts[2].value)
    torch.testing.assert_close(error, 3 * parts[0].error + 3 * parts[1].error + parts[2].error)
    assert [float(average.kernel.covariance(t, 1)) for average in third.averages] == pytest.approx([0.2, 0.4, 0.6])
    assert repr(third).endswith("GaussianKernel(0.2), order=3)")
    with pytest.raises(ValueError, match=r"^order = 0"):
        BiasCorrected(PAIR, GaussianKernel(0.2), order=0)


@pytest.mark.parametrize(("order", "weights"), [(1, [1]), (3, [3, -3, 1])])
def test_other_orders_against_integrals(order, weights):
    x, t, h = 0.4, 0.5, 0.2
    exact = sum(w * smoothed(lambda v: (math.tanh((x + v) / t) - (x + v)) / t, j * h, "normal") for j, w in enumerate(weights, start=1))
    found, error = BiasCorrected(PAIR, GaussianKernel(h), order).score_with_error([[x]], t)
    assert abs(float(found) - exact) <= min(float(error), 3e-6)


def test_a_bandwidth_that_depends_on_time():
    moving = BiasCorrected(PAIR, GaussianKernel(lambda t: t / 2))
    x, t = [[0.4], [-1.0]], torch.tensor([0.2, 0.6], dtype=torch.float64)
    for row in range(2):
        fixed = BiasCorrected(PAIR, GaussianKernel(float(t[row]) / 2)).score(x[row], float(t[row]))
        torch.testing.assert_close(moving.score(x, t)[row], fixed, rtol=1e-6, atol=1e-9)
