"""Averages over data sets as single integrals: against closed forms and plain simulation."""

import math

import numpy as np
import pytest

from kss.testing import energies


def test_a_single_point_and_two_points_by_hand():
    alone = energies.averages(energies.isotropic(2, 1.0, 1.0), 0.3, 1.0)
    assert alone.total == pytest.approx(1, abs=1e-11)
    assert alone.squares == pytest.approx(1, abs=1e-11)
    # N = 2 in the plane: the energies differ by an exponential D, and E sum w^2 = E (1 + tanh^2(D/2t))/2.
    t, d = 0.5, np.linspace(0, 60, 600_001)
    expected = np.trapezoid(np.exp(-d) * (1 + np.tanh(d / (2 * t)) ** 2) / 2, d)
    assert energies.averages(energies.isotropic(2, 1.0, 2.0), t).squares == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("distance", [0.0, 1.5])
def test_averages_against_simulation(distance):
    rng = np.random.default_rng(1)
    points = rng.standard_normal((40_000, 20, 3)) * np.sqrt(0.7)
    points[..., 0] -= distance
    e = (points**2).sum(-1) / 2
    w = np.exp(-(e - e.min(1, keepdims=True)) / 0.2)
    w /= w.sum(1, keepdims=True)
    law = energies.isotropic(3, 0.7, 20.0, distance**2)
    found = energies.averages(law, 0.2, law.e)
    assert found.total == pytest.approx(1, abs=1e-11)
    for got, sample in (
        (found.squares, (w**2).sum(1)),
        (found.first, (w * e).sum(1)),
        (found.second, (w**2 * e).sum(1)),
        (energies.least(law, law.e), e.min(1)),
        (energies.share_of_gaps_below(law, 0.05), np.diff(np.sort(e)[:, :2])[:, 0] < 0.05),
    ):
        assert got == pytest.approx(sample.mean(), abs=6 * sample.std() / 200)


def test_exponential_energies_by_hand():
    law = energies.isotropic(2, 0.5, 1e6)
    assert energies.least(law, law.e) == pytest.approx(0.5e-6, rel=1e-9)
    assert energies.density_of_the_gap_at_zero(law) == pytest.approx((1e6 - 1) / 0.5, rel=1e-9)
    assert energies.share_of_gaps_below(law, 1e-7) == pytest.approx(-np.expm1(-(1e6 - 1) / 0.5 * 1e-7), rel=1e-6)


def test_two_blocks_against_simulation_and_against_one():
    law, first, second = energies.two_blocks((5, 2), (1.0, 0.2), 15.0)
    rng = np.random.default_rng(2)
    points = rng.standard_normal((20_000, 15, 7)) * np.sqrt([1.0] * 5 + [0.2] * 2)
    e = (points**2).sum(-1) / 2
    nearest = np.take_along_axis(points, e.argmin(1)[:, None, None], 1)[:, 0] ** 2
    for values, sample in ((first, nearest[:, :5].mean(1)), (second, nearest[:, 5:].mean(1))):
        assert energies.least(law, values) == pytest.approx(sample.mean(), abs=6 * sample.std() / math.sqrt(20_000))
    equal, one, two = energies.two_blocks((1, 5), (0.4, 0.4), 50.0)
    np.testing.assert_allclose(one, two, rtol=1e-9)
    plain = energies.isotropic(6, 0.4, 50.0)
    assert energies.least(equal, one) == pytest.approx(energies.least(plain, 2 * plain.e / 6), rel=1e-8)
