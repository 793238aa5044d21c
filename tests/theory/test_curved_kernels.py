"""Kernels of rotations, and formulas for spheres."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Circle, Empirical, Sphere
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.theory import curved_kernels, mollification


def test_no_rotation_is_no_smoothing():
    law, x = Empirical([[-1.0, 0.0], [0.4, 1.0]]), [[0.2, 0.3], [1.0, -1.0]]
    torch.testing.assert_close(curved_kernels.turned_score(law, x, 0.4, np.eye(2)[None]), law.score(x, 0.4))
    torch.testing.assert_close(curved_kernels.turned_log_density(law, x, 0.4, np.eye(2)[None]), law.log_density(x, 0.4))


def test_the_turned_score_is_the_gradient_of_the_turned_log_density():
    law, (turns, weights) = Empirical([[-1.0, 0.0], [0.4, 1.0], [0.9, -0.2]]), curved_kernels.circle_kernel(0.3, nodes=9)
    x = torch.tensor([[0.2, 0.3], [1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    curved_kernels.turned_log_density(law, x, 0.4, turns, weights).sum().backward()
    torch.testing.assert_close(curved_kernels.turned_score(law, x.detach(), 0.4, turns, weights), x.grad)


def test_a_half_turn_exchanges_two_opposite_points():
    law = Empirical([[1.0, 0.0]])
    half = -np.eye(2)[None]
    torch.testing.assert_close(curved_kernels.turned_score(law, [[0.3, 0.1]], 0.5, half), Empirical([[-1.0, 0.0]]).score([[0.3, 0.1]], 0.5))


def test_the_shift_is_that_of_the_mollified_score_and_the_turned_one_has_none():
    t, h = 2e-3, 3e-3
    for law, k in ((Circle(), 1), (Sphere(2), 2)):
        r = 1 + mollification.ridge_offset(k, 1.0, t, 0.0) + curved_kernels.ridge_shift(k, 1.0, h)
        x = torch.zeros(1, k + 1, dtype=torch.float64)
        x[0, 0] = r
        score = Mollified(law, GaussianKernel(h), accuracy=1e-5).score(x, t)
        assert abs(float(score[0, 0])) < 0.02 * k * h / (2 * t)
    plain = Circle().score([[0.97, 0.1]], 0.01)
    torch.testing.assert_close(curved_kernels.turned_score(Circle(), [[0.97, 0.1]], 0.01, *curved_kernels.circle_kernel(0.3)), plain)


def test_values_and_shapes():
    assert curved_kernels.ridge_shift(2, 4.0, 0.5) == -0.125
    assert curved_kernels.marginal_mode_offset(2, 4.0, 0.5, 0.25) == 0.0625
    assert curved_kernels.curvature_divergence(2, 2.0, 0.1, 0.2, order=3) == pytest.approx(3 * 4 * 0.04 / (8 * 4 * 0.1))
    assert curved_kernels.curvature_divergence_correction(2, 2.0, 0.1, 0.2) == pytest.approx((1 * 0.1 + 2 * 0.2) / 4)
    assert curved_kernels.reported_bound(4, 2.0, 0.1, 0.25) == pytest.approx(1.0 / 0.2)
    turns, weights = curved_kernels.circle_kernel(1.0, nodes=1)
    assert torch.equal(turns, torch.eye(2, dtype=torch.float64)[None])
    assert weights.tolist() == [1.0]
    x = torch.zeros(1, 2, dtype=torch.float32)
    flat = curved_kernels.turned_score(Empirical(torch.ones(1, 2, dtype=torch.float32)), x, 1.0, torch.eye(2, dtype=torch.float32)[None])
    assert flat.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: curved_kernels.turned_score(Circle(), [[0.0, 1.0]], 0.1, np.eye(3)[None]),
            r"^rotations = .*expected matrices of shape \(J, 2, 2\)",
        ),
        (
            lambda: curved_kernels.turned_score(Circle(), [[0.0, 1.0]], 0.1, 2 * np.eye(2)[None]),
            r"^rotations = .*expected orthogonal matrices",
        ),
        (lambda: curved_kernels.turned_score(Circle(), [[0.0, 1.0]], 0.1, np.eye(2)[None], [1.0, 1.0]), r"^weights = .*expected 1 numbers"),
        (lambda: curved_kernels.turned_score(Circle(), [[0.0, 1.0]], 0.0, np.eye(2)[None]), r"^t = 0\.0: expected"),
        (lambda: curved_kernels.circle_kernel(0.0), r"^h = 0\.0: expected"),
        (lambda: curved_kernels.circle_kernel(1.0, radius=-1.0), r"^radius = -1\.0: expected"),
        (lambda: curved_kernels.reported_bound(0, 1.0, 0.1, 0.1), r"^codimension = 0: expected"),
        (lambda: curved_kernels.reported_bound(1, math.inf, 0.1, 0.1), r"^reach = inf: expected"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
