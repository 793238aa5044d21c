r"""How much of the data samples cover, and how many of them are different.

**Coverage** looks from the held-out points: a point is covered if a sample is as near as its K-th neighbor among the other held-out
points. For n samples of the same law beside m held-out points

    E coverage = 1 - C(m-1, K)/C(n+m-1, K):

a point is not covered if and only if its K nearest, of the n + m - 1 others, are all held-out.

**Effective number** looks from the training points: `1/P(two samples have the same nearest training point)`, from the pairs of samples,
without bias for the probability, which is at least 1/N. A model that copies every training point equally often reaches N, and fresh samples
do not: the number finds samples of too few kinds, not copies.
"""

import math
from typing import NamedTuple

import torch

from kss._validation import ArrayLike, as_count, as_points, reject
from kss.diagnostics.neighbors import nearest_data

ROUNDING = 1e-12
"""Relative difference up to which two distances count as equal."""


class Coverage(NamedTuple):
    """A share of the held-out points, and its mean for as many fresh samples of their law."""

    value: float
    expected: float


class Diversity(NamedTuple):
    """Counts of the training points that are nearest to a sample."""

    distinct: int
    """How many training points are nearest to at least one sample."""
    repeats: float
    """Share of the pairs of samples that have the same nearest training point: unbiased for the probability."""
    effective: float
    """`1/repeats`; infinite where no pair has."""


def expected_coverage(samples: int, held_out: int, neighbors: int = 5) -> float:
    """`1 - C(m-1, K)/C(n+m-1, K)`: mean coverage by n fresh `samples` beside m `held_out` points, where distances have no ties.

    Source: Naeem et al., arXiv 2002.09797, lemma 2.

    >>> expected_coverage(1, 2, neighbors=1)
    0.5
    """
    n, m, K = as_count("samples", samples), as_count("held_out", held_out, minimum=2), as_count("neighbors", neighbors)
    if m <= K:
        raise reject("neighbors", neighbors, f"fewer than the number of held-out points, {m}")
    return 1 - math.comb(m - 1, K) / math.comb(n + m - 1, K)


def coverage(samples: ArrayLike, held_out: ArrayLike, *, neighbors: int = 5) -> Coverage:
    """Share of `held_out` (m, d) with one of `samples` (n, d) as near as the point's K-th neighbor among the others, `K = neighbors < m`.

    Source: Naeem et al., arXiv 2002.09797, with "as near" for "nearer", so that repeated points cover each other; distances that
    agree up to rounding are as near, as they are between points of a grid.

    >>> coverage([[0.1]], [[0.0], [1.0], [5.0]], neighbors=1).value == 2 / 3
    True
    """
    x = as_points("samples", samples).detach().cpu().double()
    y = as_points("held_out", held_out, dim=x.shape[1]).detach().cpu().double()
    expected = expected_coverage(len(x), max(2, len(y)), neighbors)
    if len(y) < 2:
        raise reject("held_out", y, "two points or more")
    K = int(neighbors)
    radius = nearest_data(y, y, K + 1).distance[:, K]  # the nearest is the point itself, or its double
    covered = nearest_data(x, y, 1).distance[:, 0] <= radius * (1 + ROUNDING)
    return Coverage(float(covered.double().mean()), expected)


def training_point_diversity(samples: ArrayLike, training: ArrayLike) -> Diversity:
    """How many different training points (N, d) are nearest to `samples` (n, d), n >= 2, and how often two samples share one.

    To know what fresh samples give, measure as many held-out points in the same way. For uniform data on a circle `repeats` is
    `3/(2 (N + 1))` on average. No such number holds in general: in many dimensions a few training points near the center can be nearest to
    most samples (hubs), and `repeats` is several times 1/N.

    >>> training_point_diversity([[0.1], [0.2], [5.0]], [[0.0], [4.0]])
    Diversity(distinct=2, repeats=0.3333333333333333, effective=3.0)
    """
    x = as_points("samples", samples).detach().cpu().double()
    data = as_points("training", training, dim=x.shape[1]).detach().cpu().double()
    n = len(x)
    if n < 2:
        raise reject("samples", x, "two points or more")
    counts = torch.bincount(nearest_data(data, x, 1).which[:, 0])
    repeats = float((counts * (counts - 1)).sum()) / (n * (n - 1))
    return Diversity(int((counts > 0).sum()), repeats, 1 / repeats if repeats > 0 else math.inf)
