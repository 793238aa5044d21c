"""The nearest member of a family of scores, where it is known."""

import copy
import math

import pytest
import torch

from kss.diagnostics import ScoreFamily, closest_bandwidth
from kss.distributions import Empirical, Gaussian
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TimeShifted

POINTS = torch.tensor([[-1.0, 0.5], [1.0, 0.25], [0.5, -1.0], [0.0, 1.5]], dtype=torch.float64)
BASE = Empirical(POINTS)
T = 0.1


@pytest.mark.slow
def test_a_member_is_recognized():
    for h in (0.02, 0.3):
        later = closest_bandwidth(TimeShifted(BASE, h), BASE, T, family="later", generator=0)
        assert later.h == pytest.approx(h, rel=1e-3)
        assert later.explained == pytest.approx(1, abs=1e-6)
        tempered = closest_bandwidth(lambda x, t, h=h: (1 + h / t) * BASE.score(x, t + h), BASE, T, family="tempered", generator=0)
        assert tempered.h == pytest.approx(h, rel=1e-3)
        mollified = closest_bandwidth(Mollified(BASE, GaussianKernel(h), accuracy=1e-4), BASE, T, draws=64, generator=0)
        assert mollified.h == pytest.approx(h, rel=1e-2)
        assert mollified.explained > 0.999
        assert mollified.interval[0] <= mollified.h <= mollified.interval[1]
        assert mollified.end == ""


def test_all_of_a_normal_law_is_known():
    # Smoothing does nothing to a linear score, and waiting explains a smaller slope exactly: -x/(v + t + h).
    law = Gaussian([0.0, 0.0], 2.0)
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = closest_bandwidth(lambda x, t: -x / 3, law, 0.5, family="later", points=x, generator=0)
    assert found.h == pytest.approx(0.5, rel=1e-4)
    assert found.distance == pytest.approx((1 / 2.5 - 1 / 3) * 2.5, rel=1e-9)
    assert found.left < 1e-4


def test_the_base_itself():
    found = closest_bandwidth(BASE, BASE, T, draws=20, generator=0)
    assert (found.h, found.interval, found.distance, found.left, found.end) == (0.0, (0.0, 0.0), 0.0, 0.0, "zero")
    assert math.isnan(found.explained)


def test_ends_are_named():
    sharper = closest_bandwidth(lambda x, t: BASE.score(x, t / 2), BASE, T, family="later", generator=0)
    assert (sharper.h, sharper.end, sharper.explained) == (0.0, "zero", 0.0)
    nothing = closest_bandwidth(lambda x, t: 0 * x, BASE, T, family="later", largest=2.0, generator=0)
    assert nothing.end == "largest"
    assert nothing.h == pytest.approx(2.0, rel=1e-12)


def test_an_orthogonal_error_is_not_explained():
    # Half of the squared distance is a rotation about the center, which no gradient follows.
    table = ScoreFamily(BASE, T, BASE.diffuse(200, T, 1), family="later")
    member = table.member(0.2)(table.points, T)
    way = member - table.values[0]
    turned = torch.stack((-way[:, 1], way[:, 0]), -1)
    found = table.closest(lambda x, t: member + turned, generator=0)
    assert found.explained == pytest.approx(0.5, abs=0.05)
    assert found.h == pytest.approx(0.2, rel=0.2)


def test_own_families():
    def mixed(share):
        return lambda x, t: (1 - share) * BASE.score(x, t) + share * Gaussian([0.0, 0.0], 1.0).score(x, t)

    found = closest_bandwidth(mixed(0.3), BASE, T, family=mixed, largest=1.0, smallest=0.1, generator=0)
    assert found.h == pytest.approx(0.3, rel=1e-4)
    assert found.explained == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_intervals_shrink_with_points_and_are_reproducible():
    def noisy(x, t):
        return BASE.score(x, t + 0.1) + torch.sin(40 * x)

    widths = []
    for draws in (50, 1600):
        found = closest_bandwidth(noisy, BASE, T, family="later", draws=draws, generator=3)
        again = closest_bandwidth(noisy, BASE, T, family="later", draws=draws, generator=3)
        assert found.interval == again.interval
        assert found.interval[0] <= found.h <= found.interval[1]
        assert found.resampled.shape == (200, 2)
        widths.append(found.interval[1] - found.interval[0])
    assert widths[1] < 0.4 * widths[0]


@pytest.mark.slow
def test_the_bootstrap_scatters_like_fresh_points():
    def noisy(x, t):
        return BASE.score(x, t + 0.1) + torch.sin(40 * x)

    table = ScoreFamily(BASE, T, BASE.diffuse(8000, T, 0), family="later", per_decade=4)
    fresh = []
    for rows in torch.arange(8000).split(100):
        part = copy.copy(table)
        part.points, part.values = table.points[rows], table.values[:, rows]
        fresh.append(part.closest(noisy, resamples=2, generator=0).h)
    found = part.closest(noisy, resamples=400, level=0.8, generator=1)
    # Standard deviations from 80 and 400 draws: 3 standard errors are 26 percent; the rest is the bootstrap's own.
    assert float(found.resampled[:, 0].std()) == pytest.approx(float(torch.tensor(fresh).std()), rel=0.35)
    tails = torch.tensor([0.1, 0.9], dtype=torch.float64)
    assert found.interval == pytest.approx(found.resampled[:, 0].quantile(tails).tolist())
    assert found.explained_interval == pytest.approx(found.resampled[:, 1].quantile(tails).tolist())


@pytest.mark.slow
def test_many_dimensions_and_single_points():
    law = Empirical(torch.randn(6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    found = closest_bandwidth(Mollified(law, GaussianKernel(0.2), scrambling=1), law, 0.3, draws=30, per_decade=4, generator=0)
    assert found.h == pytest.approx(0.2, rel=0.1)
    one = closest_bandwidth(lambda x, t: -x / (t + 1), Empirical([[0.0]]), 1.0, family="later", generator=0)
    assert one.h == pytest.approx(1.0, rel=1e-3)
    table = ScoreFamily(Empirical([[0.0]]), 1.0, [[0.0]])
    assert table.closest(lambda x, t: 0 * x, generator=0).distance == 0.0
    assert table.closest(lambda x, t: 0 * x + 1, generator=0).distance == math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": 0.0}, "t = 0.0"),
        ({"base": lambda x, t: -x / t}, "points = None: expected points"),
        ({"draws": 0}, "draws = 0"),
        ({"points": torch.zeros(0, 2)}, "points = "),
        ({"largest": 1e-9}, "largest = 1e-09: expected a bandwidth above smallest"),
        ({"smallest": -1.0}, "smallest = -1.0"),
        ({"per_decade": 0}, "per_decade = 0"),
        ({"accuracy": 0.0}, "accuracy = 0.0"),
        ({"resamples": 1}, "resamples = 1"),
        ({"level": 1.0}, "level = 1.0"),
        ({"score": lambda x, t: x[:1]}, "score = .*expected a score whose values have the shape"),
    ],
)
def test_bad_input_is_named(changes, message):
    arguments = {"score": BASE, "base": BASE, "t": T, "family": "later", "draws": 10, "generator": 0} | changes
    with pytest.raises(ValueError, match=message):
        closest_bandwidth(**arguments)
