r"""Statistical tests that state both error rates, from tail bounds that hold at every sample size.

A test rejects a true hypothesis with probability at most `alpha`, and finds a deviation of the stated size with
probability at least `1 - beta`. Both come from a bound, not from a normal approximation.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor


class Verdict(NamedTuple):
    """The outcome of a test."""

    p_value: float
    """Never below the probability of a deviation at least as large, were the hypothesis true."""
    statistic: float
    rejected: bool
    detects: float
    """The deviation found with probability at least `1 - beta`."""


def dkw_test(
    sample: Float[Tensor, " n"], cdf: Callable[[Tensor], Tensor], *, alpha: float, beta: float = 1e-3, slack: float = 0.0
) -> Verdict:
    r"""Is a sample drawn from a law on the line within Kolmogorov distance `slack` of `cdf`?

    By the Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant (Annals of Probability 18, 1990, Corollary 1),
    `P(sup |F_n - F| > e) <= 2 exp(-2 n e^2)`. A law at distance `detects = slack + e_alpha + e_beta` is found with
    probability at least `1 - beta`, where `2 exp(-2 n e_alpha^2) = alpha`. A sample with NaN or infinity is rejected.
    """
    n = len(sample)
    detects = slack + math.sqrt(math.log(2 / alpha) / (2 * n)) + math.sqrt(math.log(2 / beta) / (2 * n))
    if not bool(torch.isfinite(sample).all()):
        return Verdict(0.0, math.inf, True, detects)
    ordered = sample.sort().values
    level = torch.arange(n + 1, dtype=torch.float64) / n
    expected = cdf(ordered)
    distance = float(torch.maximum(level[1:] - expected, expected - level[:-1]).max())
    excess = max(0.0, distance - slack)
    p_value = min(1.0, 2 * math.exp(-2 * n * excess**2))
    return Verdict(p_value, distance, p_value < alpha, detects)


def binomial_test(successes: int, n: int, at_most: float, *, alpha: float, beta: float = 1e-3) -> Verdict:
    """Is a success probability at most `at_most`, given `successes` in `n` independent trials? Exact binomial tails.

    `detects` is the least probability above `at_most` at which the test rejects with probability at least `1 - beta`.
    """
    p_value = float(stats.binom.sf(successes - 1, n, at_most))
    critical = int(stats.binom.isf(alpha, n, at_most)) + 1  # P(S >= critical) <= alpha
    # P(S >= critical | q) = I_q(critical, n - critical + 1) increases in q, so its quantile is the answer.
    detects = float(stats.beta.ppf(1 - beta, critical, n - critical + 1)) if critical <= n else 1.0
    return Verdict(p_value, successes / n, p_value < alpha, detects)
