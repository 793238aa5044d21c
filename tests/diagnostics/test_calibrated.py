"""Rank p-values, thresholds, counts and calls, by hand and by enumeration."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from kss.diagnostics import calibrated


def test_ranks_by_hand_with_ties():
    found = calibrated.rank_p_values([0.0, 1.0, 1.5, 9.0], [1.0, 1.0, 2.0])
    assert found.tolist() == [0.25, 0.75, 0.75, 1.0]
    assert calibrated.rank_threshold([3.0, 1.0, 2.0], 0.5) == (2.0, 2)
    assert calibrated.rank_threshold([3.0, 1.0, 2.0], 0.01) == (1.0, 1)  # too few: the least there is
    assert calibrated.rank_threshold(list(range(99)), 0.29) == (28, 29)  # 0.29 * 100 is below 29 in floating point


def test_counts_by_enumerating_all_orders():
    # 3 samples, 4 calibrating points, j = 2: all 35 arrangements are equally likely.
    m, n, j = 3, 4, 2
    counts = [0] * (m + 1)
    for places in itertools.combinations(range(m + n), m):
        known = [i for i in range(m + n) if i not in places]
        counts[sum(p < known[j - 1] for p in places)] += 1
    for least in range(m + 1):
        exact = Fraction(sum(counts[least:]), sum(counts))
        assert calibrated.count_p_value(least, m, j, n + 1 - j) == pytest.approx(float(exact), rel=1e-12)


def test_far_tails_keep_their_size():
    # All of 1000 below the least of 1000: 1/C(2000, 1000).
    found = calibrated.count_p_value(1000, 1000, 1, 1000)
    assert found == pytest.approx(math.exp(2 * math.lgamma(1001) - math.lgamma(2001)), rel=1e-8)
    assert 0 < found < 1e-300 * 1e-290 or found < 1e-300


@pytest.mark.parametrize(("m", "a", "b"), [(1, 1, 1), (20, 3, 50), (200, 5, 96), (5, 1, 3)])
@pytest.mark.parametrize("alpha", [0.3, 0.01, 1e-9])
def test_the_critical_count_is_the_least_that_decides(m, a, b, alpha):
    least = calibrated.critical_count(m, a, b, alpha)
    assert least == next((c for c in range(m + 1) if calibrated.count_p_value(c, m, a, b) <= alpha), m + 1)


def test_calls():
    assert calibrated.benjamini_hochberg([0.5, 0.9], 0.01).tolist() == [False, False]
    # The second smallest alone would not pass for one of 4, but the third lifts it.
    assert calibrated.benjamini_hochberg([0.001, 0.03, 0.036, 0.9], 0.05).tolist() == [True, True, True, False]
    assert calibrated.benjamini_hochberg(torch.full((10,), 0.01), 0.01).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibrated.rank_p_values([], [1.0]), "statistic = "),
        (lambda: calibrated.rank_p_values([1.0], [[1.0]]), "calibrating = "),
        (lambda: calibrated.rank_p_values([1.0], [math.nan]), "calibrating = "),
        (lambda: calibrated.rank_threshold([1.0], 1.0), "rate = 1.0"),
        (lambda: calibrated.count_p_value(-1, 3, 1, 1), "below = -1"),
        (lambda: calibrated.benjamini_hochberg([], 0.1), "p_values = "),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
