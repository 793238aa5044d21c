"""Chapter "Swiss roll, digits, MNIST", how quality is measured: coverage and diversity, with what fresh samples give."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from kss.claims.quality import CHAPTER, EPSILON, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.diagnostics import diversity
from kss.testing.compare import agree, require

claim(
    "quality.coverage",
    title="The coverage of fresh samples",
    statement=r"""A held-out point is covered if one of $n$ samples is as near as its $K$-th neighbor among the other $m - 1$ held-out
points. For fresh samples

$$\mathbb E\,\text{coverage} = 1 - \binom{m - 1}K\Big/\binom{n + m - 1}K \;=\; 1 - \prod_{j=0}^{K-1}\frac{m - 1 - j}{n + m - 1 - j} .$$

For $n = m$ large it is about $1 - 2^{-K}$: 96.9 % for $K = 5$, so fresh samples do not reach 1.""",
    source="Naeem et al., arXiv 2002.09797, lemma 2",
    regime=r"""Samples and held-out points are exchangeable, as independent draws of one law are; distances have no ties. Every $d$,
$1 \le K < m$.""",
    chapter=CHAPTER,
    verdict="holds",
)


def _precision(samples: Any, held_out: Any, *, neighbors: int) -> diversity.Coverage:
    """The other way around: samples within a held-out point's neighborhood."""
    x, y = np.asarray(samples), np.asarray(held_out)
    own = np.linalg.norm(y[:, None] - y[None], axis=-1)
    radius = np.sort(own, axis=1)[:, neighbors]
    inside = np.linalg.norm(x[:, None] - y[None], axis=-1) <= radius
    return diversity.Coverage(float(inside.any(1).mean()), 0.0)


@check(
    "quality.coverage",
    by="property",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda found, *_, **__: found._replace(value=found.value * (1 + 1e-9))),
        "expected for n = m": returns(
            lambda found, x, y, *, neighbors: found._replace(expected=diversity.expected_coverage(len(y), len(y), neighbors))
        ),
        "the point its own neighbor": instead(
            lambda x, y, *, neighbors: diversity.coverage(x, y, neighbors=max(1, neighbors - 1))._replace(
                expected=diversity.expected_coverage(len(x), len(y), neighbors)
            )
        ),
        "samples in neighborhoods": instead(_precision),
        "independent draws": returns(
            lambda found, x, y, *, neighbors: found._replace(expected=1 - ((len(y) - 1) / (len(x) + len(y) - 1)) ** neighbors)
        ),
    },
)
def all_divisions_into_samples_and_held_out(predict: Any = diversity.coverage, *, generator: torch.Generator) -> Numbers:
    """Up to nine random points in d = 1, 2, 3: the mean over all ways to call n of them samples is the formula, in fractions."""
    numbers, cases = {}, ((1, 2, 1, 1), (3, 2, 1, 2), (2, 4, 2, 3), (4, 5, 3, 2), (5, 4, 2, 1), (4, 4, 3, 3))
    for n, m, K, d in cases:
        points = torch.randn(n + m, d, dtype=torch.float64, generator=generator)
        exact = Fraction(1)
        for j in range(K):
            exact *= Fraction(m - 1 - j, n + m - 1 - j)
        exact = 1 - exact
        values = []
        for some in itertools.combinations(range(n + m), n):
            found = predict(points[list(some)], points[[i for i in range(n + m) if i not in some]], neighbors=K)
            agree("expected", found.expected, float(exact), 8 * EPSILON)
            values.append(found.value)
        numbers[f"n = {n}, m = {m}, K = {K}"] = agree(f"n = {n}, m = {m}, K = {K}", math.fsum(values) / len(values), float(exact), 1e-12)
    return numbers


claim(
    "quality.diversity",
    title="Counting kinds does not find copies",
    statement=r"""Let $V_i$ be the probability that training point $i$ is nearest to a sample. The share of pairs of samples with the
same nearest training point has mean $\sum_i V_i^2 \ge \frac1N$, with equality for a generator that copies all training points
equally often. For fresh samples on a circle, with uniform training points, the mean is $\frac3{2(N + 1)}$. So the effective number, one
over this mean, is larger for copies than for fresh samples: $N$ against $\frac23(N + 1)$.""",
    source="derived here (the share is Simpson's index)",
    regime=r"""Independent samples. Mean and bound: every training set of $N$ different points. Circle: $N \ge 2$ independent uniform
training points; mean over training set and samples.""",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "quality.diversity",
    by="property",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda found, *_, **__: found._replace(repeats=found.repeats * (1 + 1e-9))),
        "with the diagonal": returns(lambda found, x, *_: found._replace(repeats=(found.repeats * (len(x) - 1) + 1) / len(x))),
        "distinct counted with repeats": returns(lambda found, x, *_: found._replace(distinct=len(x))),
    },
)
def over_all_sequences(predict: Any = diversity.training_point_diversity, *, generator: torch.Generator) -> Numbers:
    """Samples on five places near four training points, n = 2, 3, 4: means over all sequences, against the masses, in fractions."""
    training = [[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [9.0, 9.0]]
    places = {
        (0.1, 0.1): (0, Fraction(1, 4)),
        (0.9, 0.2): (1, Fraction(1, 8)),
        (1.3, -0.4): (1, Fraction(1, 8)),
        (0.0, 2.5): (2, Fraction(1, 2)),
    }
    masses = [sum(p for which, p in places.values() if which == i) for i in range(4)]
    simpson, numbers = sum(V**2 for V in masses), {}
    for n in (2, 3, 4):
        repeats = distinct = 0.0
        for sequence in itertools.product(places, repeat=n):
            weight = float(math.prod(places[place][1] for place in sequence))
            found = predict([list(place) for place in sequence], training)
            repeats, distinct = repeats + weight * found.repeats, distinct + weight * found.distinct
        numbers[f"n = {n}: error/allowed"] = agree(f"repeats, n = {n}", repeats, float(simpson), 1e-12)
        agree(f"distinct, n = {n}", distinct, float(sum(1 - (1 - V) ** n for V in masses)), 1e-12)
    copied = predict(training * 300, training)
    require(copied.distinct == 4 and copied.effective > 4, f"copies: {copied}")
    agree("copies", copied.repeats, (300 - 1) / (4 * 300 - 1), 1e-12)
    return numbers


@check(
    "quality.diversity",
    by="quadrature",
    lane="full",
    mutants={
        "larger by 2 %": returns(lambda found, *_: found._replace(repeats=found.repeats * 1.02)),
        "equal cells": instead(lambda x, training: diversity.Diversity(0, 1 / len(training), 0.0)),
        "cells of one spacing": instead(lambda x, training: diversity.Diversity(0, 2 / (len(training) + 1), 0.0)),
    },
)
def cells_of_a_circle(predict: Any = diversity.training_point_diversity, *, generator: torch.Generator) -> Numbers:
    """N = 2, 3, 4: one training point at angle 0, the others on a grid of G midpoints each; as samples, M points in equal steps.

    A cell's mass is known to 1/M, so the sum of squares to 2/M; leaving out the diagonal is 1/M more. In one order of the angles the sum
    is a quadratic with second derivatives 1 in each of the N - 1 angles: the midpoint rule of step 1/G errs by `(N - 1)/24G^2`. Where two
    steps are equal, a share `(N - 1)(N - 2)/2G` of all, the order changes within a step. There the sum changes by at most the shift of each
    angle, in turns, so the rule errs by at most `(N - 1)/4G`.
    """
    numbers = {}
    for N, G, M in ((2, 400, 2000), (3, 30, 1000), (4, 16, 1000)):
        angle = 2 * math.pi * (torch.arange(M, dtype=torch.float64) + 0.5) / M
        x = torch.stack((angle.cos(), angle.sin()), 1)
        values = []
        for steps in itertools.combinations_with_replacement(range(G), N - 1):
            # The order of the points does not matter: each set of steps counts as often as it has orders.
            orders = math.factorial(N - 1) / math.prod(math.factorial(steps.count(s)) for s in set(steps))
            # Equal steps are pulled apart, by less than the grid.
            turn = 2 * math.pi * torch.tensor([0.0, *((s + 0.5 + 1e-6 * i) / G for i, s in enumerate(steps))], dtype=torch.float64)
            values.append(orders * predict(x, torch.stack((turn.cos(), turn.sin()), 1)).repeats)
        mean = math.fsum(values) / G ** (N - 1)
        rule = (N - 1) / (24 * G**2) + (N - 1) * (N - 2) / (2 * G) * (N - 1) / (4 * G)
        numbers[f"N = {N}: mean, formula"] = f"{mean:.4f}, {3 / (2 * (N + 1)):.4f}"
        agree(f"N = {N}", mean, 3 / (2 * (N + 1)), 3 / M + rule + 1e-5)
    return numbers
