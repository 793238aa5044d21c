"""Smoothing against waiting, in closed form by hand; the general statements are checked by the ledger."""

import cmath
import math
import re

import pytest
import torch

from kss.distributions import Circle, Gaussian, GaussianMixture
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.theory import time_shift

POINT = torch.tensor([[0.7, -1.3], [2.0, 0.1], [-0.4, 0.5]], dtype=torch.float64)


def test_first_order_gaps_of_a_gaussian():
    # N(0, (1 + t) I) at t = 1: s = -x/2, (grad s) s = x/4; s_{t+h} + x/2 = x/4 h + O(h^2).
    torch.testing.assert_close(time_shift.first_order_gap(POINT / 4, 0.1), 0.025 * POINT)
    torch.testing.assert_close(time_shift.compensating_point(POINT, -POINT / 2, 0.2), 1.1 * POINT)


def test_second_order_gaps_of_a_cubic_potential():
    # s' = 2, s'' = 3 on the line: -h^2 s' s'' and half of it.
    assert time_shift.explicit_gap(6.0, 6.0, 0.1) == pytest.approx(-0.06)
    assert time_shift.implicit_gap(6.0, 0.1) == pytest.approx(-0.03)
    # The two terms are not interchangeable: the second alone is what the implicit version has.
    assert time_shift.explicit_gap(0.0, 6.0, 0.1) == time_shift.implicit_gap(6.0, 0.1)


@pytest.mark.parametrize("h", [0.0, 0.3, 100.0])
def test_the_moved_score_of_a_gaussian_is_its_smoothed_score(h):
    law = Gaussian([0.5, -1.0], [[2.0, 0.3], [0.3, 0.5]])
    expected = law.score(POINT, 0.4)
    torch.testing.assert_close(time_shift.moved_score(law, POINT, 0.4, h), expected)
    torch.testing.assert_close(time_shift.moved_score(law, POINT, 0.4, h, along=Mollified(law, GaussianKernel(h))), expected)


def test_without_shift_nothing_moves_and_shapes_are_kept():
    law = GaussianMixture([[0.0, 0.0], [1.0, 1.0]], [[0.2, 0.0], [0.0, 0.1]])
    x = POINT.reshape(3, 1, 2)
    assert torch.equal(time_shift.moved_score(law, x, 0.4, 0.0), law.score(x, 0.4))
    assert time_shift.moved_score(law, [0.7, -1.3], 0.4, 0.1).shape == (2,)


def test_a_callable_is_a_score():
    def score(x, t):
        return -x / (1 + t)

    torch.testing.assert_close(time_shift.moved_score(score, POINT, 1.0, 0.5), -POINT / 2)
    # Along zero: the later score, here.
    torch.testing.assert_close(time_shift.moved_score(score, POINT, 1.0, 0.5, along=lambda x, t: 0 * x), -POINT / 2.5)


def test_along_is_asked_at_the_point_and_time_of_the_query():
    asked = []

    def along(x, t):
        asked.append((x, t))
        return torch.ones_like(x)

    moved = time_shift.moved_score(lambda x, t: x * t, POINT, 0.25, 0.5, along=along)
    torch.testing.assert_close(moved, (POINT - 0.5) * 0.75)
    assert torch.equal(asked[0][0], POINT)
    assert asked[0][1] == 0.25


def test_the_gap_on_a_manifold_is_the_difference_of_its_two_limits():
    h, t = 0.3, 0.1
    smoothed, moved = -(1 + h / t) / 2, -(1 + h / (t + h)) / 2  # unit circle, H = -1
    assert time_shift.explicit_gap_on_manifold(-1.0, t, h) == pytest.approx(smoothed - moved)
    torch.testing.assert_close(time_shift.explicit_gap_on_manifold(-POINT, t, h), POINT * (smoothed - moved))


def test_a_mode_of_the_noise_by_hand():
    points, xi, t = [[0.1, 0.7], [0.4, 0.2]], [2 * math.pi, 4 * math.pi], 0.01
    phases = [2 * math.pi * 0.1 + 4 * math.pi * 0.7, 2 * math.pi * 0.4 + 4 * math.pi * 0.2]
    expected = math.exp(-20 * math.pi**2 * t / 2) * sum(cmath.exp(-1j * phase) for phase in phases) / 2
    assert complex(time_shift.linear_noise_mode(points, xi, t)) == pytest.approx(expected)
    single = time_shift.linear_noise_mode(torch.tensor(points), torch.tensor(xi), t)
    assert single.dtype == torch.complex128


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: time_shift.moved_score(Circle(), POINT, 0.0, 0.1), "t = 0.0: expected a noise variance t > 0"),
        (lambda: time_shift.moved_score(Circle(), POINT, 0.4, -0.1), "h = -0.1: expected a number >= 0"),
        (lambda: time_shift.moved_score(Circle(), POINT, 0.4, float("nan")), "h = nan: expected finite numbers"),
        (lambda: time_shift.moved_score(Circle(), [[float("nan"), 0.0]], 0.4, 0.1), "x = [[nan, 0.0]]: expected finite numbers"),
        (lambda: time_shift.linear_noise_mode([[0.5]], [1.0, 2.0], 0.1), "wave_vector = [1.0, 2.0]: expected a vector of length 1"),
        (lambda: time_shift.linear_noise_mode([[0.5]], [1.0], -1.0), "t = -1.0: expected a finite number > 0"),
        (lambda: time_shift.linear_noise_mode([0.5], [1.0], 1.0), "points = Tensor of shape (1,)"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()
