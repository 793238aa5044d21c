"""Formulas for small bandwidths, against the exact averages of the package."""

import pytest
import torch

from kss.distributions import Circle, GaussianMixture, Sphere
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.theory import gradient_flow, mollification


def test_normal_bias_is_that_of_the_package() -> None:
    law, t, h = Sphere(2, radius=2.0), 4e-3, 4e-3
    x = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64)
    bias = Mollified(law, GaussianKernel(h)).score(x, t) - law.score(x, t)
    torch.testing.assert_close(bias, mollification.normal_bias(law.mean_curvature(x), h, t), rtol=0.01, atol=1e-6)


def test_ridge_offset_is_where_the_score_vanishes() -> None:
    t, h = 2e-3, 3e-3
    radius = 1 + mollification.ridge_offset(1, 1.0, t, h)
    score = Mollified(Circle(), GaussianKernel(h)).score([[radius, 0.0]], t)
    assert abs(float(score[0, 0])) < 0.02 * abs(mollification.ridge_offset(1, 1.0, t, h)) / t


def test_leading_bias_and_jensen_gap() -> None:
    law, x, t, h = GaussianMixture([[-1.0], [1.0]], [[0.1]]), torch.tensor([[0.4]], dtype=torch.float64), 0.5, 1e-4
    smoothed, step = Mollified(law, GaussianKernel(h), accuracy=1e-10), 1e-2
    laplacian = (law.score(x + step, t) - 2 * law.score(x, t) + law.score(x - step, t)) / step**2
    torch.testing.assert_close(smoothed.score(x, t) - law.score(x, t), mollification.leading_bias(laplacian, h), rtol=1e-2, atol=0.0)
    gap = law.log_density(x, t + h) - smoothed.unnormalized_log_density(x, t)
    torch.testing.assert_close(gap, mollification.jensen_gap(law.score(x, t).squeeze(-1) ** 2, h), rtol=1e-2, atol=0.0)


def test_variances_across_and_velocities() -> None:
    assert mollification.led_normal_variance(0.1, 0.5) == 0.1
    assert mollification.kde_normal_variance(0.1, 0.5) == 0.6
    assert mollification.tangential_bias(2.0, 3.0, 0.1, 0.2, 0.5) == pytest.approx(0.2 * 0.1 * 3 / 1.0 + 0.04 * 6 / 2.0)
    # With q = pi only the push is left, half the score; together they are the drift minus half the score of q.
    assert gradient_flow.descent_velocity(3.0, 3.0) == 0
    assert gradient_flow.descent_velocity(1.0, 3.0) + gradient_flow.push_velocity(3.0) == 3.0 - 1.0 / 2
