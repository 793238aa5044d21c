"""Hermite coefficients by hand; the general statements are checked by the ledger."""

import math

import pytest
import torch

from kss.theory import hermite


def test_noise_of_the_first_orders():
    assert hermite.noise_variance(1, 2.0, 1.0, 10) == pytest.approx(2 / 30)
    assert hermite.noise_variance(3, 1.0, 1.0, 1) == pytest.approx(1 / 8)
    assert hermite.noise_variance(2, 0.0, 1.0, 5) == 0.0
    assert hermite.total_noise(1.0, 0.5, 2, 4) == pytest.approx(2.0)
    orders = torch.arange(1.0, 200.0, dtype=torch.float64)
    assert float(hermite.noise_variance(orders, 1.0, 0.5, 4).sum()) == pytest.approx(hermite.total_noise(1.0, 0.5, 1, 4))


def test_convolved_polynomials_of_low_order():
    assert hermite.convolve(0, 0.3) == {0: 1.0}
    assert hermite.convolve(1, 0.3) == {1: 1.0}
    assert hermite.convolve(2, 0.3) == pytest.approx({2: 1.0, 0: 0.3})
    assert hermite.convolve(4, 0.5) == pytest.approx({4: 1.0, 2: 3.0, 0: 0.75})  # 6 eta, 3 eta^2


def test_norms_grow_with_the_bandwidth():
    assert hermite.convolved_norm_square(1, 5.0) == 1.0
    assert hermite.convolved_norm_square(2, 0.5) == pytest.approx(1 + 0.25 / 2)
    assert hermite.convolved_norm_square(3, 0.1) == pytest.approx(1 + 9 * 0.01 / 6)


def test_smoothed_noise_and_its_limit():
    assert hermite.smoothed_total_noise(1.0, 1.0, 0.0, 3, 2) == pytest.approx(hermite.total_noise(1.0, 1.0, 3, 2))
    assert hermite.smoothed_total_noise(1.0, 1.0, 1.0, 1, 1) == pytest.approx(2 / math.sqrt(0.75) - 1)
    assert hermite.smoothed_total_noise(1.0, 1.0, 2.0, 1, 1) == math.inf
    assert hermite.smoothed_total_noise(1.0, 1.0, 3.0, 1, 1) == math.inf
    assert hermite.smoothed_total_noise(0.0, 1.0, 30.0, 2, 1) == 0.0  # a single point: no noise


def test_mehler_step_of_waiting():
    assert hermite.mehler_factor(3, 0.5) == 0.125
    assert hermite.waiting_contraction_square(1.0, 1.0, 2.0) == 0.5
    # One step carries the variances of t to those of t + h.
    c2 = hermite.waiting_contraction_square(1.5, 0.5, 0.7)
    later = hermite.noise_variance(4, 1.5, 0.5, 9) * hermite.mehler_factor(4, c2)
    assert later == pytest.approx(hermite.noise_variance(4, 1.5, 1.2, 9))


def test_a_negative_order_is_refused():
    with pytest.raises(ValueError, match=r"^order = -1: expected an integer >= 0"):
        hermite.convolve(-1, 0.1)
