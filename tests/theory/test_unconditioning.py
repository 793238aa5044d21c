"""The formulas about withheld noise levels at a few exact values, and what they refuse."""

import math

import pytest
import torch

from kss.theory import unconditioning


def test_levels():
    assert unconditioning.dominant_variance(9.0, 3.0) == 3.0
    assert float(unconditioning.level_penalty(math.log(2.0), 1.0)) == pytest.approx(math.log(2) - 3 / 8)
    y = torch.tensor([0.0, 1e-12, -1e-6, 0.99999e-3, 1.00001e-3], dtype=torch.float64)
    torch.testing.assert_close(unconditioning.level_penalty(y, 2.0), 2 * (y**2 - 2 / 3 * y**3 + y**4 / 3), rtol=1e-9, atol=0)
    assert unconditioning.leading_level_penalty(0.1, 5.0) == pytest.approx(0.05)


def test_mixture_over_levels():
    # One over the circumference, times 1/r; exponential tails for d = 2.
    assert float(unconditioning.log_mixture(0.5, 2)) == pytest.approx(-math.log(2 * math.pi * 0.25))
    inside = math.exp(-(0.5**2) / 2 / 4) - math.exp(-(0.5**2) / 2)
    assert float(unconditioning.log_mixture(0.5, 2, 1.0, 2.0)) == pytest.approx(math.log(inside / (2 * math.pi * 0.25)))
    far = float(unconditioning.log_mixture(30.0, 2, 0.5, 1.0))
    assert far == pytest.approx(-(30.0**2) / 2 - math.log(2 * math.pi * 900), rel=1e-12)
    near = float(unconditioning.log_mixture(1e-6, 2, 1.0, 2.0))  # both exponentials are one, to 12 digits
    assert near == pytest.approx(math.log(3 / (16 * math.pi)), rel=1e-11)
    assert bool(unconditioning.log_mixture([1e-300, 1e300], 500).isfinite().all())


def test_mixture_where_the_probability_of_the_levels_underflows():
    far = unconditioning.log_mixture([100.0, 1e150], 2, 0.5, 1.0)
    assert far.tolist() == pytest.approx([-5000 - math.log(2 * math.pi * 1e4), -0.5e300], rel=1e-14)
    assert float(unconditioning.log_mixture(1e300, 2, 0.5, 1.0)) == -math.inf
    close = unconditioning.log_mixture([1e-200, 1e-6], 2, 1.0, 2.0)
    assert close.tolist() == pytest.approx([math.log(3 / (16 * math.pi))] * 2, rel=1e-11)
    # Far above all levels the largest one counts: the integrand grows there like exp((r^2/high^2 - d) log sigma).
    steep = float(unconditioning.log_mixture(300.0, 100, 1.0, 2.0)) + 300**2 / 8 + 50 * math.log(2 * math.pi * 4)
    assert steep == pytest.approx(-math.log(300**2 / 4 - 100), abs=1e-4)


def test_weights():
    u = torch.tensor([0.0, 3.0], dtype=torch.float64)
    assert unconditioning.log_weight(u, 4.0).tolist() == pytest.approx([0.0, -2 * math.log(4)])
    assert unconditioning.matching_log_weight(unconditioning.log_weight(u, 4.0), 4.0).tolist() == pytest.approx([0.0, -6.0])
    assert unconditioning.largest_gain(8) == pytest.approx(math.exp(-2) / 2)
    assert unconditioning.laplacian(2.0, 3, 1) == 0.0  # Newton's potential
    assert unconditioning.laplacian(2.0, 2, 2) == pytest.approx(4 / 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unconditioning.level_penalty(0.1, 0.0), r"^exponent = 0\.0: expected"),
        (lambda: unconditioning.log_mixture(0.0, 2), r"^distance = 0\.0: expected distances > 0"),
        (lambda: unconditioning.log_mixture(1.0, 0), r"^dim = 0: expected"),
        (lambda: unconditioning.log_mixture(1.0, 2, 2.0, 1.0), r"^low, high = \(2\.0, 1\.0\): expected levels"),
        (lambda: unconditioning.log_weight(-0.1, 2.0), r"^excess = -0\.1: expected"),
        (lambda: unconditioning.matching_log_weight(0.1, 2.0), r"^log_weight = 0\.1: expected logarithms <= 0"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
