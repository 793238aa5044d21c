r"""Exact statistics of "smaller than what is known to be harmless".

Let `D_1..D_m` be the statistic of the samples under test and `H_1..H_n` that of calibrating points. *Exchangeable*: under the hypothesis
all n + m of them have the same joint law in any order, as independent draws have. Small is suspicious. Then, exactly and for every n,

- the **rank p-value** `(1 + #{H <= D_i})/(n + 1)` is at most u with probability at most u;
- with the threshold `H_(j)`, the j-th smallest, a sample is strictly below it with probability at most `j/(n + 1)`, and the number of all
  samples below it is at most (for distributions without ties: exactly) beta-binomial, `Binomial(m, Q)` with `Q ~ Beta(j, n + 1 - j)`:
  the threshold is estimated, and its error is in the law.

Ties only lower these probabilities: break them at random and nothing changes but that some samples count less.
"""

import math

import torch
from jaxtyping import Bool, Float
from scipy import special, stats
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_probability, as_tensor, reject

Number = float | int


def rank_p_values(statistic: ArrayLike, calibrating: ArrayLike) -> Float[Tensor, " m"]:
    """`(1 + #{H <= D_i})/(n + 1)` for each of `statistic` (m,), with `calibrating` (n,).

    >>> rank_p_values([0.5, 2.5], [1.0, 2.0, 3.0])
    tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    values, known = _vector("statistic", statistic), _vector("calibrating", calibrating)
    return (1 + torch.searchsorted(known.sort().values, values, right=True)).double() / (len(known) + 1)


def rank_threshold(calibrating: ArrayLike, rate: Number) -> tuple[float, int]:
    """`H_(j)` and the largest j with `j/(n + 1) <= rate`, or j = 1 if there is none: then n is too small for this rate."""
    known = _vector("calibrating", calibrating)
    j = max(1, math.floor(as_probability("rate", rate) * (len(known) + 1) * (1 + 1e-12)))
    return float(known.sort().values[j - 1]), j


def count_p_value(below: int, m: int, a: Number, b: Number) -> float:
    """`P(S >= below)` for `S ~ Binomial(m, Q)`, `Q ~ Beta(a, b)`.

    For samples below `H_(j)`: `a = j`, `b = n + 1 - j`. Accurate in the far tail, where it is the sum of the small probabilities.

    >>> f"{count_p_value(2, 2, 1, 3):.6f}"  # both of 2 samples below the smallest of 3: 2! 3!/5!
    '0.100000'
    """
    below, m = as_count("below", below, minimum=0), as_count("m", m)
    if below == 0:
        return 1.0
    counts = torch.arange(below, m + 1, dtype=torch.float64)
    mass = stats.betabinom.logpmf(counts.numpy(), m, a, b)
    return float(min(1.0, math.exp(special.logsumexp(mass)))) if len(mass) else 0.0


def critical_count(m: int, a: Number, b: Number, alpha: Number) -> int:
    """The least count of `count_p_value` at most `alpha`; m + 1 if no count is enough."""
    mass = stats.betabinom.logpmf(torch.arange(m, -1, -1).numpy(), m, a, b)
    tail = torch.logcumsumexp(torch.from_numpy(mass), 0)  # P(S >= m), P(S >= m - 1), ...
    return m + 1 - int((tail <= math.log(alpha)).sum())


def benjamini_hochberg(p_values: ArrayLike, level: Number) -> Bool[Tensor, " m"]:
    """The samples called at the false discovery rate `level`: the i smallest p-values, i the last with `p_(i) <= level i/m`.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995; for rank p-values that share their calibrating
    points, Bates, Candes, Lei, Romano and Sesia, The Annals of Statistics 51, 2023.

    >>> benjamini_hochberg([0.01, 0.04, 0.9, 0.02], 0.05).tolist()
    [True, False, False, True]
    """
    p = _vector("p_values", p_values)
    ordered = p.sort().values
    passed = (ordered <= level * torch.arange(1, len(p) + 1, dtype=torch.float64) / len(p)).nonzero()
    return p <= ordered[passed[-1, 0]] if len(passed) else torch.zeros(len(p), dtype=torch.bool)


def _vector(name: str, value: ArrayLike) -> Float[Tensor, " n"]:
    vector = as_tensor(name, value).double().cpu()
    if vector.ndim != 1 or len(vector) == 0:
        raise reject(name, value, "a non-empty array of shape (n,)")
    return vector.contiguous()
