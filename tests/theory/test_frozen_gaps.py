"""The mean gaps at the origin: exact, in the random energy model, and in between."""

import math
import re

import pytest
import torch
from scipy import integrate, special

from kss.theory import frozen_gaps as fg
from kss.theory.geometric_memorization import condensation_time_at


def test_one_direction_by_hand():
    # N = 2: E min(z_1^2, z_2^2) = 1 - 2/pi.
    assert float(fg.nearest_gap([4.0], 2)[0]) == pytest.approx(1 - 2 / math.pi, rel=1e-12)
    assert fg.near_tie_rate([4.0], 2) == math.inf


def test_two_equal_directions_by_hand():
    # |x|^2/2 is exponential with mean lambda: the least of N has mean lambda/N, the first gap rate (N - 1)/lambda.
    for n in (2, 7, 1000, 1e30):
        assert float(fg.nearest_gap([0.5, 0.5], n)[1]) == pytest.approx(1 / n, rel=1e-11)
        assert fg.near_tie_rate([0.5, 0.5], n) == pytest.approx((n - 1) / 0.5, rel=1e-11)


def test_unequal_directions_against_nested_quadrature():
    big, small = 1.0, 0.1

    def term(r, s, n):
        # both coordinates by their own densities; F of the energy by one more integral, in closed form through the angle
        e = (big * r * r + small * s * s) / 2
        law = integrate.quad(
            lambda a: (
                -math.expm1(-e * (math.cos(a) ** 2 / big + math.sin(a) ** 2 / small)) / (math.cos(a) ** 2 / big + math.sin(a) ** 2 / small)
            ),
            0,
            math.pi / 2,
        )[0]
        return n * (1 - 2 * law / (math.pi * math.sqrt(big * small))) ** (n - 1) * 4 * math.exp(-(r * r + s * s) / 2) / (2 * math.pi)

    n = 3
    nodes, weights = special.roots_legendre(30)
    nodes, weights = 4 * (nodes + 1), 4 * weights  # [0, 8]
    expected = [0.0, 0.0]
    for r, wr in zip(nodes, weights, strict=True):
        for s, ws in zip(nodes, weights, strict=True):
            value = wr * ws * term(r, s, n)
            expected[0] += value * r * r
            expected[1] += value * s * s
    assert fg.nearest_gap([big, small], n).tolist() == pytest.approx(expected, rel=1e-7)


def test_shapes_order_scale_and_directions_without_variance():
    gaps = fg.nearest_gap([0.3, 0.0, 1.0, 0.3], 50)
    assert gaps.shape == (4,)
    assert gaps[1] == 1
    assert gaps[2] < gaps[0] == gaps[3]
    torch.testing.assert_close(fg.nearest_gap([3.0, 10.0, 3.0], 50), gaps[[0, 2, 3]], rtol=1e-12, atol=0)
    assert fg.near_tie_rate([3.0, 0.0, 10.0], 50) == pytest.approx(fg.near_tie_rate([0.3, 1.0], 50) / 10, rel=1e-12)


def test_one_datum():
    assert fg.nearest_gap([1.0, 0.2], 1).tolist() == [1.0, 1.0]
    assert fg.frozen_gap([1.0, 0.2], 1).tolist() == [1.0, 1.0]
    assert fg.corrected_frozen_gap([1.0, 0.2], 1).tolist() == [1.0, 1.0]
    assert fg.near_tie_rate([1.0, 0.2], 1) == 0.0
    assert fg.nearest_gap([0.0], 9).tolist() == [1.0]


def test_the_frozen_law_is_the_population_gap_at_the_freezing_time():
    lam = torch.tensor([1.0, 0.2, 0.0], dtype=torch.float64)
    t = condensation_time_at([0.0, 0.0, 0.0], lam, 1000)
    torch.testing.assert_close(fg.frozen_gap(lam, 1000), t / (lam + t))


def test_the_correction_is_most_of_the_difference():
    lam = [1.0] * 32 + [0.3] * 32
    exact, plain, corrected = fg.nearest_gap(lam, 1e9), fg.frozen_gap(lam, 1e9), fg.corrected_frozen_gap(lam, 1e9)
    assert bool(((exact - corrected).abs() < 0.2 * (exact - plain).abs()).all())


def test_factor_of_a_fixed_dimension():
    assert fg.fixed_dimension_factor(2) == pytest.approx(math.e)
    assert fg.fixed_dimension_factor(3) == pytest.approx(1.978, abs=5e-4)
    assert fg.fixed_dimension_factor(10**6) == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fg.nearest_gap([1.0, -1.0], 5), "variances = [1.0, -1.0]: expected a list of numbers >= 0, at least one"),
        (lambda: fg.nearest_gap([1.0, 1e-6], 5), "variances = [1.0, 1e-06]: expected variances that are less far apart"),
        (lambda: fg.near_tie_rate([1.0], 0), "n = 0: expected a finite number >= 1"),
        (lambda: fg.frozen_gap([1.0], math.inf), "n = inf: expected a finite number >= 1"),
        (lambda: fg.fixed_dimension_factor(0), "dim = 0: expected an integer >= 1"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
