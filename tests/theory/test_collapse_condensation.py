"""Information and condensation time of normal laws, and the two forms of the excess entropy."""

import math
import re

import numpy as np
import pytest
import torch

from kss.theory.collapse.condensation import (
    condensation_time,
    critical_log_size,
    excess_entropy,
    gaussian_information,
    information_variance,
    manifold_information,
    remaining_entropy,
    window_entropy,
    window_probability,
)


def test_information_by_hand():
    assert float(gaussian_information([3.0, 1.0, 0.0], 1.0)) == pytest.approx(math.log(8) / 2, rel=1e-15)
    assert gaussian_information([1.0], np.ones((2, 3))).shape == (2, 3)
    assert gaussian_information(torch.ones(2), torch.tensor(1.0)).dtype == torch.float64


@pytest.mark.parametrize(
    ("variance", "t", "expected"),
    [
        (1e300, 1e-300, 300 * math.log(10)),
        (1.0, 1e-300, 150 * math.log(10)),
        (1.0, 1e300, 5e-301),
        (1e-160, 1e140, 5e-301),
    ],
)
def test_information_over_the_range_of_doubles(variance, t, expected):
    assert float(gaussian_information([variance], t)) == pytest.approx(expected, rel=1e-13)


def test_condensation_time_of_equal_variances():
    assert float(condensation_time([2.0] * 4, 100)) == pytest.approx(2 / 9, rel=1e-14)
    assert float(condensation_time([2.0] * 4 + [0.0] * 96, 100)) == pytest.approx(2 / 9, rel=1e-14)
    assert float(condensation_time([1.0] * 40, 10**400)) == pytest.approx(1e-20, rel=1e-12)
    assert condensation_time([1.0, 2.0], [[10, 20, 30]]).shape == (1, 3)


@pytest.mark.parametrize("variances", [[1.0] * 3, [5.0, 1e-3, 0.0], [1e-200, 1e200], [1e300, 1e299]])
@pytest.mark.parametrize("log_n", [1e-6, 0.5, 3.0, 40.0, 280.0])
def test_it_is_the_inverse_of_the_critical_size(variances, log_n):
    t = condensation_time(variances, log_n=log_n)
    assert float(critical_log_size(variances, t)) == pytest.approx(log_n, rel=1e-12)


def test_one_datum_has_always_collapsed():
    assert float(condensation_time([1.0], 1)) == math.inf
    assert float(condensation_time([1.0, 2.0], log_n=0.0)) == math.inf
    assert float(condensation_time([1.0], log_n=1e4)) == 0.0  # e^{-20000}


def test_n_and_its_logarithm_say_the_same():
    assert float(condensation_time([1.0, 3.0], 50)) == float(condensation_time([1.0, 3.0], log_n=math.log(50)))
    assert float(condensation_time([1.0, 3.0], torch.tensor(50))) == float(condensation_time([1.0, 3.0], 50.0))


def test_excess_entropies_by_hand():
    assert float(excess_entropy(2.0, 5.0)) == 3.0
    assert excess_entropy([2.0, 6.0], 5.0, dim=2).tolist() == [1.5, -0.5]
    assert remaining_entropy([0.0, 2.5, 5.0], 5.0).tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_information([1.0, -2.0], 1.0), "variances = [1.0, -2.0]: expected a list of numbers >= 0, at least one"),
        (lambda: gaussian_information([], 1.0), "variances = []: expected a list of numbers >= 0, at least one"),
        (lambda: gaussian_information([1.0], 0.0), "t = 0.0: expected a noise variance t > 0"),
        (lambda: gaussian_information([math.inf], 1.0), "variances = [inf]: expected finite numbers (it has NaN or infinity)"),
        (lambda: condensation_time([0.0], 5), "variances = [0.0]: expected variances that are not all 0"),
        (lambda: condensation_time([1.0], 0), "n = 0.0: expected a number of data >= 1"),
        (lambda: condensation_time([1.0], log_n=-1.0), "log_n = -1.0: expected the logarithm of a number of data, >= 0"),
        (lambda: condensation_time([1.0]), "n = None: expected n or log_n, one of them (log_n = None)"),
        (lambda: condensation_time([1.0], 5, log_n=1.0), "n = 5: expected n or log_n, one of them (log_n = 1.0)"),
        (lambda: excess_entropy(1.0, 2.0, dim=0), "dim = 0: expected an integer >= 1"),
        (lambda: remaining_entropy(0.0, 0.0), "log_n = 0.0: expected a number > 0: more than one datum"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_variance_of_the_information_over_the_range_of_doubles():
    variances = [1.0, 0.0, 1e300, 1e-300]
    assert float(information_variance(variances, 1e300)) == pytest.approx(0.5, rel=1e-14)
    assert float(information_variance(variances, 1e-300)) == pytest.approx(2.5, rel=1e-14)
    assert information_variance(variances, np.ones((2, 3))).shape == (2, 3)


def test_the_window_at_the_condensation_time_and_at_its_ends():
    one, log_n = [1.0] * 30, 10.0
    t_c = condensation_time(one, log_n=log_n)
    assert float(window_probability(one, t_c, log_n)) == pytest.approx(0.5, abs=1e-12)
    spread = float(information_variance(one, t_c)) ** 0.5
    assert float(window_entropy(one, t_c, log_n)) == pytest.approx(spread / math.sqrt(2 * math.pi), rel=1e-12)
    assert window_probability(one, [1e-9, 1e9], log_n).tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert window_entropy(one, [1e-9, 1e9], log_n).tolist() == pytest.approx([0.0, log_n], abs=1e-6)


def test_the_window_without_variance():
    # Nothing is known, so all data share; for one datum log n = I, where the formula says one half.
    for variances, t in (([0.0, 0.0], 1.0), ([1e-300], 1e300)):
        assert window_probability(variances, t, [0.0, 9.0]).tolist() == [0.5, 0.0]
        assert window_entropy(variances, t, [0.0, 9.0]).tolist() == pytest.approx([0.0, 9.0], rel=1e-14, abs=1e-200)


def test_manifold_information_by_hand():
    assert float(manifold_information(math.log(2 * math.pi), 1, 1 / (2 * math.pi * math.e))) == pytest.approx(math.log(2 * math.pi))
    normal = 0.5 * math.log(2 * math.pi * math.e * 3.0)
    assert float(manifold_information(normal, 1, 1e-9)) == pytest.approx(float(gaussian_information([3.0], 1e-9)), abs=1e-9)
    with pytest.raises(ValueError, match=r"^dim = 0: expected an integer >= 1$"):
        manifold_information(1.0, 0, 1.0)
