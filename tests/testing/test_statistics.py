"""Statistical tests keep both of their error rates: p-values are superuniform, and what they claim to detect they detect.

Over many seeds; every comparison has a false-alarm rate of its own, stated beside it.
"""

import math

import pytest
import torch
from scipy import stats

from kss.testing.statistics import binomial_test, dkw_test

RUNS = 2000


def uniform(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(0, 1)


def samples(n: int, seed: int) -> torch.Tensor:
    """`RUNS` samples of size n, one a row."""
    return torch.rand(RUNS, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def most(probability: float, runs: int = RUNS) -> int:
    """More events than this, each of at most this probability, have probability below 1e-9: an exact binomial tail."""
    return int(stats.binom.isf(1e-9, runs, probability))


@pytest.mark.parametrize("n", [1, 10, 200])
def test_dkw_p_values_are_superuniform(n):
    p = torch.tensor([dkw_test(row, uniform, alpha=0.01).p_value for row in samples(n, seed=n)])
    for level in (0.5, 0.2, 0.1, 0.01):
        assert int((p <= level).sum()) <= most(level), level


def test_dkw_statistic_is_the_kolmogorov_distance():
    for row in samples(50, seed=3)[:20]:
        found = dkw_test(row, uniform, alpha=1e-3)
        assert found.statistic == pytest.approx(stats.kstest(row.numpy(), "uniform").statistic, rel=1e-12)
        assert found.p_value >= stats.kstest(row.numpy(), "uniform").pvalue - 1e-12  # the bound is above the exact tail
        assert found.rejected == (found.p_value < 1e-3)


@pytest.mark.parametrize("slack", [0.0, 0.05])
def test_dkw_detects_what_it_says(slack):
    alpha, beta, n = 1e-3, 0.05, 400
    detects = dkw_test(samples(n, 0)[0], uniform, alpha=alpha, beta=beta, slack=slack).detects
    assert slack < detects < 0.5

    def collected(row: torch.Tensor, width: float) -> torch.Tensor:
        """The law whose mass on [1/2 - width, 1/2) sits at 1/2: at distance `width`, and in one point only, which is hardest to see."""
        return torch.where((row >= 0.5 - width) & (row < 0.5), 0.5, row)

    moved = [collected(row, detects) for row in samples(n, seed=4)]
    missed = sum(not dkw_test(row, uniform, alpha=alpha, beta=beta, slack=slack).rejected for row in moved)
    assert missed <= most(beta)
    # And with slack it forgives what is within: distance slack itself is rejected at most with probability alpha.
    if slack:
        near = [collected(row, slack) for row in samples(n, seed=5)]
        assert sum(dkw_test(row, uniform, alpha=alpha, slack=slack).rejected for row in near) <= most(alpha)


def test_dkw_error_rate_holds_at_its_own_level():
    rejected = sum(dkw_test(row, uniform, alpha=0.05).rejected for row in samples(100, seed=6))
    assert rejected <= most(0.05)


@pytest.mark.parametrize(("n", "q"), [(1, 0.5), (20, 0.1), (500, 0.03)])
def test_binomial_p_values_are_superuniform_exactly(n, q):
    # No sampling: the law of the p-value is a finite sum.
    p = [binomial_test(k, n, q, alpha=0.01).p_value for k in range(n + 1)]
    weight = stats.binom.pmf(range(n + 1), n, q)
    for level in (*(value for value in p if value > 1e-280), 0.5, 0.1, 0.01, 1e-6):  # below, the pmf has too few digits
        assert sum(w for w, value in zip(weight, p, strict=True) if value <= level) <= level * (1 + 1e-9)


@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-8])
@pytest.mark.parametrize("beta", [0.1, 1e-3])
@pytest.mark.parametrize(("n", "q"), [(50, 0.0), (50, 0.1), (400, 0.3)])
def test_binomial_detects_exactly_what_it_says(n, q, alpha, beta):
    outcomes = [binomial_test(k, n, q, alpha=alpha, beta=beta) for k in range(n + 1)]
    detects = outcomes[0].detects

    def power(p: float) -> float:
        return sum(w for w, outcome in zip(stats.binom.pmf(range(n + 1), n, p), outcomes, strict=True) if outcome.rejected)

    assert power(q) <= alpha
    assert power(detects) >= (1 - beta) * (1 - 1e-9)
    assert power(detects * (1 - 1e-3)) < 1 - beta  # and it is the least such probability
    assert detects > q
    assert outcomes[n // 2].statistic == (n // 2) / n


def test_a_test_that_cannot_reject_says_so():
    # Two trials cannot exclude 1/2 at 1e-6: nothing is detected, not even probability 1.
    found = binomial_test(2, 2, 0.5, alpha=1e-6)
    assert not found.rejected
    assert found.detects == 1.0
    assert math.isclose(found.p_value, 0.25)
