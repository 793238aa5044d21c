"""Closest impostors: hand values, extremes, bad input."""

import math

import numpy as np
import pytest
import torch

from kss.diagnostics import rarefaction


def test_pairs_by_hand():
    points = np.array([[0.0], [1.0], [1.5], [9.0], [9.0]])
    assert rarefaction.close_pairs(points, 1.0).tolist() == [0, 1, 1, 1, 1]  # a distance of exactly 1 is not below 1
    assert rarefaction.close_pairs(points, 1.1).tolist() == [1, 2, 1, 1, 1]


def test_rarefaction_by_hand():
    # c = 1 of T = 3: a subset of N contains it with probability N/3.
    found = rarefaction.rarefied_false_alarm([1], 3, [0, 1, 2, 3])
    torch.testing.assert_close(found, torch.tensor([0, 1 / 3, 2 / 3, 1], dtype=torch.float64))
    assert rarefaction.rarefied_false_alarm([0, 3], 3, 0).item() == 0.0
    assert rarefaction.rarefied_false_alarm([0, 3], 3, [[1, 2]]).shape == (1, 2)


def test_all_agree_where_all_points_are_alike():
    hits = [5] * 20
    sizes = [0.0, 1.0, 3.0]
    pooled = rarefaction.pooled_false_alarm(hits, 50, sizes)
    torch.testing.assert_close(pooled, torch.tensor([0.0, 0.1, 1 - 0.9**3], dtype=torch.float64))
    fit = rarefaction.fit_beta(hits, 50)
    assert math.isinf(fit.a)
    torch.testing.assert_close(fit.false_alarm(sizes), pooled)


@pytest.mark.parametrize(("hits", "first"), [([0, 0], 0.0), ([4, 4], 1.0)])
def test_extremes(hits, first):
    for method in (rarefaction.pooled_false_alarm, rarefaction.rarefied_false_alarm):
        torch.testing.assert_close(method(hits, 4, [0, 1, 4]), torch.tensor([0.0, first, first], dtype=torch.float64))
    torch.testing.assert_close(rarefaction.fit_beta(hits, 4).false_alarm([0, 1e9]), torch.tensor([0.0, first], dtype=torch.float64))


def test_moments_and_their_beta_law():
    a, b = 0.7, 40.0
    mean, second = a / (a + b), a * (a + 1) / ((a + b) * (a + b + 1))
    fit = rarefaction.beta_from_moments(mean, second)
    assert fit.a == pytest.approx(a, rel=1e-9)
    assert fit.b == pytest.approx(b, rel=1e-9)
    assert fit.false_alarm([0, 1]).tolist() == pytest.approx([0.0, mean])
    # All or nothing: a growing population changes nothing.
    torch.testing.assert_close(
        rarefaction.beta_from_moments(0.3, 0.3).false_alarm([0, 1, 1e6]), torch.tensor([0, 0.3, 0.3], dtype=torch.float64)
    )
    assert rarefaction.fit_beta([0, 5, 10], 10).false_alarm(1e300) == pytest.approx(1.0)


def test_the_curve():
    points = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    curve = rarefaction.impostor_curve(points, 0.7, [1, 10, 59, 100])
    assert [len(part) for part in curve] == [4, 4, 4, 3]
    assert float(curve.pooled[0]) == pytest.approx(float(curve.rarefaction[0]))
    assert float(curve.beta_binomial[0]) == pytest.approx(float(curve.rarefaction[0]))
    assert (curve.pooled[1:3] > curve.rarefaction[1:]).all()
    hits = rarefaction.close_pairs(points, 0.7)
    assert float(curve.rarefaction[2]) == pytest.approx(float((hits > 0).double().mean()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rarefaction.close_pairs([[1.0]], 1.0), "points = "),
        (lambda: rarefaction.close_pairs([[1.0], [2.0]], 0.0), "radius = 0.0"),
        (lambda: rarefaction.pooled_false_alarm([5], 4, 1), "hits = "),
        (lambda: rarefaction.pooled_false_alarm([0.5], 4, 1), "hits = "),
        (lambda: rarefaction.pooled_false_alarm([1], 0, 1), "trials = 0"),
        (lambda: rarefaction.rarefied_false_alarm([1], 4, 5), "sizes = 5"),
        (lambda: rarefaction.rarefied_false_alarm([1], 4, [1.5]), "sizes = "),
        (lambda: rarefaction.pooled_false_alarm([1], 4, -1), "sizes = -1"),
        (lambda: rarefaction.fit_beta([1], 1), "trials = 1"),
        (lambda: rarefaction.beta_from_moments(1.2, 0.5), "first = 1.2"),
        (lambda: rarefaction.beta_from_moments(0.2, 0.5), "second = 0.5"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
