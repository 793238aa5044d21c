"""Formulas in a process's units, by hand and in limits; what they say of data is in the ledger."""

import math

import pytest
import torch

from kss.distributions import Circle, Gaussian
from kss.kernels import GaussianKernel
from kss.scores import EDM, BrownianMotion, Coefficients, OrnsteinUhlenbeck, VariancePreserving
from kss.theory import bias_variance, clt, processes
from kss.theory.kl import critical_sample_size, mollified_path_kl

OU = OrnsteinUhlenbeck()
HALF = math.log(2)
"""The label at which a = 1/2 and t = 3."""


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def test_bandwidths_are_carried_there_and_back():
    t = torch.tensor([3.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(processes.bandwidth_in_variance_time(0.1, OU)(t), torch.tensor([0.4, 0.2], dtype=torch.float64))
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    carried = processes.bandwidth_in_variance_time(matrix, OU)
    assert carried(t).shape == (2, 2, 2)
    torch.testing.assert_close(GaussianKernel(carried).covariance(3.0, 2), 4 * matrix)
    # Functions: of the label one way, of t the other way.
    back = processes.bandwidth_in_process(carried, OU)
    torch.testing.assert_close(back(OU.label(t)), matrix.expand(2, 2, 2))
    there = processes.bandwidth_in_variance_time(lambda label: 0.1 * label, OU)
    torch.testing.assert_close(there(t), 0.1 * OU.label(t) * (1 + t))
    assert float(processes.bandwidth_in_process(0.4, OU)(HALF)) == pytest.approx(0.1)
    assert float(there(3.0)) == pytest.approx(0.4 * HALF)
    with pytest.raises(ValueError, match="bandwidth = -1"):
        processes.bandwidth_in_variance_time(-1.0, OU)


def test_noise_and_its_small_time_form():
    law, y = Circle(2.0), torch.tensor([[1.0, 0.2], [0.0, -1.1]], dtype=torch.float64)
    expected = clt.score_covariance(law, 2 * y, 2 * y, 3.0, 10) * 4
    torch.testing.assert_close(processes.score_covariance(law, y, HALF, 10, schedule=OU), expected)
    small = processes.small_time_score_covariance(law, y, HALF, 10, schedule=OU)
    torch.testing.assert_close(small, clt.small_time_covariance(law, 2 * y, 3.0) * 4 / 90)
    both = torch.tensor([HALF, 0.1], dtype=torch.float64)
    assert processes.score_covariance(law, y, both, 10, schedule=OU).shape == (2, 2, 2)
    torch.testing.assert_close(processes.score_covariance(law, y, both, 10, schedule=OU)[0], expected[0])
    with pytest.raises(ValueError, match=r"y = Tensor of shape \(\)"):
        processes.score_covariance(law, 1.0, HALF, 10, schedule=OU)


def test_bias_of_a_normal_law_is_zero_and_that_of_a_circle_is_carried():
    y = torch.tensor([0.3, -0.4], dtype=torch.float64)
    value, error = processes.score_bias(Gaussian([0.0, 1.0], 1.0), y, HALF, 0.2, schedule=OU)
    assert float(value.norm()) < 1e-9
    assert error.shape == ()
    expected = 2 * bias_variance.bias(Circle(), 2 * y, 3.0, 0.8).value
    torch.testing.assert_close(processes.score_bias(Circle(), y, HALF, 0.2, schedule=OU).value, expected)
    with pytest.raises(ValueError, match="bandwidth = 0"):
        processes.score_bias(Circle(), y, HALF, 0.0, schedule=OU)


def test_rates_bandwidths_and_sizes():
    assert float(processes.girsanov_rate(3.0, 0.5, EDM())) == pytest.approx(1.5)
    law = {"k": 1, "curvature_square": 1.0, "density": 0.2}
    for problem in ("path", "pointwise"):
        best = bias_variance.optimal_bandwidth(3.0, 50, problem=problem, **law)
        assert processes.optimal_bandwidth(HALF, 50, schedule=OU, problem=problem, **law) == pytest.approx(best / 4)
    size = critical_sample_size(0.01, k=2, volume=3.0, formula="raw")
    label = float(VariancePreserving().label(scalar(0.01)))
    assert processes.critical_sample_size(label, schedule=VariancePreserving(), k=2, volume=3.0, formula="raw") == pytest.approx(size)
    assert processes.critical_sample_size(0.01, schedule=BrownianMotion(), k=2, volume=3.0, formula="raw") == size
    with pytest.raises(ValueError, match=r"label = \[0.1, 0.2\]: expected one number"):
        processes.score_bias(Circle(), [[1.0, 0.0]], [0.1, 0.2], 0.1, schedule=EDM())


def test_drifts_by_hand():
    at = Coefficients(scalar(-0.5), scalar(3.0))
    assert float(processes.reverse_sde_drift(2.0, scalar(-1.0), at)) == -2.0
    assert float(processes.probability_flow_drift(2.0, scalar(-1.0), at)) == -0.5


def test_affine_bandwidths():
    law = {"k": 2, "volume": 5.0, "curvature_square": 0.7}
    plain = processes.affine_path_kl(0.02, 0.0, 1e-3, 100, t_max=1e12, **law)
    assert plain == pytest.approx(mollified_path_kl(1e-3, 0.02, 100, **law), rel=1e-9)
    # Down to u and from there to t is down to t.
    whole = processes.affine_path_kl(0.02, 3.0, 1e-3, 100, t_max=0.5, **law)
    parts = processes.affine_path_kl(0.02, 3.0, 1e-3, 100, t_max=0.05, **law) + processes.affine_path_kl(
        0.02, 3.0, 0.05, 100, t_max=0.5, **law
    )
    assert whole == pytest.approx(parts, rel=1e-12)
    assert processes.constant_bandwidth_gain(0.1, 0.0, 1e-3, k=1, t_max=1.0) == 0
    assert processes.constant_bandwidth_gain(1.0, 0.01, 1e-12, k=2, t_max=1.0) == pytest.approx(0.01 / 1.5, rel=1e-9)
    assert processes.small_time_excess(2.0, 2.0) == 0
    assert processes.small_time_excess(0.0, 2.0, 0.5) == pytest.approx(0.25)
