"""Velocities, rates and the defect, against what the package knows otherwise."""

import math

import pytest
import torch

from kss.distributions import Empirical, Gaussian, GaussianMixture
from kss.kernels import BallKernel, GaussianKernel
from kss.scores import Mollified
from kss.theory import gradient_flow


def test_velocities_add_up_to_the_drift_less_half_the_score() -> None:
    assert gradient_flow.descent_velocity(3.0, 3.0) == 0
    assert gradient_flow.descent_velocity(1.0, 3.0) + gradient_flow.push_velocity(3.0) == 3.0 - 1.0 / 2


def test_rates_without_defect_are_those_of_the_heat_flow() -> None:
    assert gradient_flow.led_log_rate(2.0, 4.0, 0.0) == 3.0
    assert gradient_flow.kl_rate(2.0, 0.7, 0.7) == -1.0
    assert gradient_flow.ratio_rate(2.0, 0.5, 4.0) == 3.0
    assert gradient_flow.frozen_log_density(-1.0) == -2.0
    assert gradient_flow.decay(2.0, 0.5) == pytest.approx(math.exp(-1))
    assert gradient_flow.static_over_path(0.5, 0.1) == pytest.approx(10.0)


def test_defect_of_affine_scores() -> None:
    """For a normal law r is the same everywhere: half the variance of A V, A the slope of the score."""
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    t, x = 0.4, torch.tensor([[0.0, 0.0], [2.0, -1.0]], dtype=torch.float64)
    slope = torch.linalg.inv(covariance + t * torch.eye(2, dtype=torch.float64))
    for kernel, variance in ((GaussianKernel(0.3), 0.3), (BallKernel(1.2), 1.44 / 4)):
        got = gradient_flow.defect(Mollified(Gaussian([0.5, 0.0], covariance), kernel), x, t)
        expected = variance * float((slope @ slope).trace()) / 2
        torch.testing.assert_close(got, torch.full((2,), expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_defect_of_a_callable_and_in_three_dimensions() -> None:
    law = Empirical([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.5]])
    x = torch.tensor([[0.2, 0.0, 0.1]], dtype=torch.float64)
    kernel = GaussianKernel(0.2)
    direct = gradient_flow.defect(Mollified(law, kernel), x, 0.5)
    called = gradient_flow.defect(Mollified(lambda y, t: law.score(y, t), kernel), x, 0.5)
    torch.testing.assert_close(direct, called, rtol=1e-3, atol=0.0)
    # The expansion for small h: (h/2) |grad s|^2.
    small = gradient_flow.defect(Mollified(law, GaussianKernel(1e-4), accuracy=1e-9), x, 0.5)
    torch.testing.assert_close(small, 0.5e-4 * (law.score_jacobian(x, 0.5) ** 2).sum((-2, -1)), rtol=1e-2, atol=0.0)


def test_leading_log_ratio_of_a_normal_law_is_constant_in_space() -> None:
    """|grad s_u|^2 = d/(v + u)^2, whose integral is d/(v + t) - d/(v + t_max)."""
    x = torch.tensor([[0.0, 0.0], [1.0, -3.0]], dtype=torch.float64)
    got = gradient_flow.leading_log_ratio(Gaussian([0.0, 0.0], 0.5), x, 0.1, 2.0, 0.3)
    torch.testing.assert_close(got, torch.full((2,), 0.15 * 2 * (1 / 0.6 - 1 / 2.5), dtype=torch.float64), rtol=1e-6, atol=0.0)


@pytest.mark.slow
def test_leading_log_ratio_is_resolved() -> None:
    law, x = GaussianMixture([[-1.0], [1.0]], [[0.05]]), torch.tensor([[-1.0], [0.4]], dtype=torch.float64)
    coarse, fine = (gradient_flow.leading_log_ratio(law, x, 0.2, 2.0, 1.0, nodes=n) for n in (12, 24))
    torch.testing.assert_close(coarse, fine, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: gradient_flow.defect(Mollified(Gaussian([0.0], 1.0), GaussianKernel(0.1)), [[0.0]], -1.0), "t"),
        (lambda: gradient_flow.defect(Mollified(Gaussian([0.0], 1.0), GaussianKernel(0.1)), [0.0], 1.0), "x"),
        (lambda: gradient_flow.leading_log_ratio(Gaussian([0.0], 1.0), [[0.0]], 1.0, 1.0, 0.1), "t"),
        (lambda: gradient_flow.leading_log_ratio(Gaussian([0.0], 1.0), [[0.0]], 0.5, 1.0, 0.0), "h"),
    ],
)
def test_what_is_refused(make, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} = "):
        make()
