"""The formulas about tempered scores at a few exact values, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from kss.theory import temperature


def test_normal_laws():
    assert temperature.tempered_variance(1.0, 0.01, 8.0) == pytest.approx(0.135)
    assert temperature.flow_variance(1.0, 4.0, 3.0, 1.0, 1.0) == 2.0  # N(0, 1) at noise 3, then at noise 1
    assert temperature.sde_variance(1.0, 4.0, 3.0, 1.0, 1.0) == 2.0
    assert temperature.sde_variance(1.0, 0.5 + 3.0, 3.0, 0.25, 2.0) == pytest.approx(0.75)  # the sharpened law stays it


def test_schedule():
    schedule = temperature.collapse_schedule(0.04)
    torch.testing.assert_close(schedule([1e-300, 0.04, 1e300]), torch.tensor([0.2e150, 1.0, 1.0], dtype=torch.float64))
    assert float(schedule(torch.tensor(0.01))) == pytest.approx(2.0)
    assert temperature.scheduled_flow_variance(1.0, 0.25) == pytest.approx(0.8)
    assert temperature.scheduled_sde_variance(1.0, 1.0) == pytest.approx(7 / 24)
    assert temperature.scheduled_sde_variance(2.0, 1e-4) == pytest.approx(2.0 - 2e-4, abs=1e-7)
    assert temperature.scheduled_sde_variance(2.0, 1e-300) == temperature.scheduled_sde_variance(2.0, 0.0) == 2.0


def test_expansion_and_curvature():
    assert temperature.expansion(2.0, 0.5, 4.0) == 0.5
    assert temperature.critical_temperature(2.0, 0.5) == 2.0
    torch.testing.assert_close(temperature.normal_score(torch.tensor([-2.0, 0.0]), 3.0), torch.tensor([-3.0, 0.0]))
    assert temperature.ridge_offset(2, 4.0, 0.1, 3.0) == pytest.approx(-0.075)
    assert temperature.noise_variance(2, 0.1, 7.0, 100, 0.5) == pytest.approx(2 / (4 * math.pi) / (2 * 100 * 0.5) * 100)


def test_barycenters_of_two_points():
    # exp(-scatter/(2 T t)), scatter 1/2 for the mixed pair, which comes in two orders.
    mixture = temperature.barycenters([[0.0], [1.0]], 0.25, 2)
    assert mixture.centers.flatten().tolist() == [0.0, 0.5, 1.0]
    weights = np.array([1.0, 2 * math.exp(-0.5), 1.0])
    np.testing.assert_allclose(mixture.log_weights.exp(), weights / weights.sum(), rtol=1e-14)


def test_barycenters_count_orders_and_duplicates():
    wide = temperature.barycenters([[0.0], [1.0], [3.0]], 1e9, 3)  # no scatter counts: multinomial coefficients
    np.testing.assert_allclose(wide.log_weights.exp() * 27, [1, 3, 3, 3, 6, 3, 1, 3, 3, 1], rtol=1e-6)
    single = temperature.barycenters([[2.0, 1.0]], 1e-300, 5)
    assert single.centers.tolist() == [[2.0, 1.0]]
    assert single.log_weights.tolist() == [0.0]
    twice = temperature.barycenters([[0.0], [0.0], [5.0]], 1e-3, 2)  # masses 2^T and 1^T
    at_zero = twice.log_weights[twice.centers[:, 0] == 0].exp().sum()
    assert float(at_zero) == pytest.approx(4 / 5)
    t, x = 0.2, np.linspace(-3, 5, 801)
    mixture = temperature.barycenters([[0.0], [1.0], [1.5]], t, 3)
    terms = mixture.log_weights.numpy() - (x[:, None] - mixture.centers.numpy()[:, 0]) ** 2 / (2 * t)
    assert integrate.simpson(np.exp(terms).sum(1), x=x) == pytest.approx(math.sqrt(2 * math.pi * t), rel=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: temperature.collapse_schedule(0.0), r"^t_collapse = 0\.0: expected"),
        (lambda: temperature.collapse_schedule(1.0)([0.0]), r"^t = \[0\.0\]: expected noise variances t > 0"),
        (lambda: temperature.barycenters([[0.0]], 0.0, 2), r"^t = 0\.0: expected"),
        (lambda: temperature.barycenters([[0.0]], 1.0, 0), r"^temperature = 0: expected an integer >= 1"),
        (lambda: temperature.barycenters(np.zeros((1000, 1)), 1.0, 3), r"^temperature = 3: expected at most 1000000 combinations"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
