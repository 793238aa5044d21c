import math

import numpy as np
import pytest
import torch

from kss.diagnostics import Interval, shells_hit, supervision_report
from kss.distributions import Empirical, Gaussian

LAW = Gaussian([0.0] * 8, 1.0)
DATA, FRESH = LAW.sample(20, 1), LAW.sample(30, 2)
OPTIONS = {"delta": 0.5, "generator": 3}


def test_shells_are_counted():
    points = [[0.0, 0.0], [1.0, 0.0]]
    radius = math.sqrt(2 * 0.5)  # 1
    x = [[radius, 0.0], [0.0, radius], [0.5, 0.0], [0.5, math.sqrt(0.75)], [9.0, 9.0]]
    assert shells_hit(x, points, 0.5, delta=0.1).tolist() == [1, 1, 0, 2, 0]
    assert shells_hit(np.array(x), np.array(points), 0.5, delta=2.0).tolist() == [2, 2, 2, 2, 0]


def test_the_empirical_score_is_right_everywhere():
    found = supervision_report(Empirical(DATA), DATA, FRESH, 0.1, truth=LAW, **OPTIONS)
    assert found.supervised.to_empirical == Interval(0.0, 0.0, 0.0)
    assert found.extrapolation.to_empirical.value == 0.0
    assert found.ratio == Interval(1.0, 0.0, math.inf)
    assert found.extrapolation.to_truth.value > 0


def test_a_known_error():
    # The empirical score plus a constant: D is off by t times it everywhere.
    t, off = 0.1, torch.full((8,), 3.0, dtype=torch.float64)
    found = supervision_report(lambda x, u: Empirical(DATA).score(x, u) + off, DATA, FRESH, t, **OPTIONS)
    for region in (found.supervised, found.extrapolation):
        assert region.to_empirical.value == pytest.approx((3.0 * t) ** 2, rel=1e-12)
        assert region.to_truth is None
    assert found.ratio.value == pytest.approx(1.0, rel=1e-12)
    assert found.ratio.low == pytest.approx(1.0, rel=1e-6)
    # Relative: |m^N - x|^2/d is t on training inputs, up to a few percent.
    assert found.supervised.relative.value == pytest.approx((3.0 * t) ** 2 / t, rel=0.3)
    assert found.supervised.inputs == 160
    assert found.extrapolation.inputs == round(found.outside * 240)


def test_only_what_is_outside_is_extrapolation():
    def score(x, u):
        inside = shells_hit(x, DATA, u, delta=0.5) > 0
        return Empirical(DATA).score(x, u) + 5.0 * inside.double().unsqueeze(-1)

    found = supervision_report(score, DATA, FRESH, 0.5, **OPTIONS)
    assert 0.02 < found.outside < 0.98
    assert found.extrapolation.to_empirical.value == 0.0
    assert found.supervised.to_empirical.value > 1.0


def test_intervals_widen_with_confidence():
    widths = []
    for confidence in (0.5, 0.95):
        found = supervision_report(LAW, DATA, FRESH, 0.1, confidence=confidence, **OPTIONS)
        widths.append([math.log(i.high / i.low) for i in (found.supervised.relative, found.extrapolation.to_empirical, found.ratio)])
    assert np.divide(widths[1], widths[0]) == pytest.approx(1.959964 / 0.674490, rel=1e-5)
    # Independent parts of a quotient: squares of the relative errors add.
    for line in np.array(widths):
        assert line[2] > line[1]


def test_one_datum_exactly():
    # m^N = 0, m = x/(1 + t): on inputs sqrt(t) Z the error of the true denoiser is t/(1 + t)^2.
    t = 0.5
    found = supervision_report(LAW, torch.zeros(1, 8), FRESH, t, delta=0.2, draws=4000, generator=1)
    assert found.supervised.to_empirical.value == pytest.approx(t / (1 + t) ** 2, rel=0.03)
    assert found.supervised.to_empirical[1:] == (0.0, math.inf)
    assert found.ratio[1:] == (0.0, math.inf)


def test_nothing_is_outside_at_large_t():
    found = supervision_report(LAW, DATA, FRESH, 1e6, delta=3.0, truth=LAW, generator=1)
    assert found.extrapolation is None
    assert found.ratio is None
    assert found.outside == 0.0


@pytest.mark.slow
def test_intervals_cover():
    t, hits = 0.1, 0
    truth = supervision_report(LAW, DATA, LAW.sample(10000, 9), t, delta=0.5, draws=1, generator=4).extrapolation.relative.value
    for i in range(100):
        found = supervision_report(LAW, DATA, LAW.sample(60, 100 + i), t, delta=0.5, draws=4, confidence=0.8, generator=i)
        low, high = found.extrapolation.relative[1:]
        hits += low <= truth <= high
    assert 60 <= hits <= 95  # 80 expected, standard deviation 4


def test_the_generator_decides():
    first, second, other = (supervision_report(LAW, DATA, FRESH, 0.1, delta=0.5, generator=g) for g in (1, 1, 2))
    assert first == second
    assert first != other
    assert supervision_report(LAW, DATA.numpy(), FRESH.float(), 0.1, delta=0.5, generator=1).supervised == first.supervised


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("t", {"t": 0.0}),
        ("points", {"points": torch.zeros(3)}),
        ("fresh", {"fresh": torch.zeros(3, 2)}),
        ("delta", {"delta": -0.1}),
        ("draws", {"draws": 0}),
        ("confidence", {"confidence": 1.0}),
        ("generator", {"generator": True}),
        ("score", {"score": lambda x, t: x[:, :1]}),
        ("score", {"score": lambda x, t: x * math.nan}),
    ],
)
def test_names_what_is_wrong(name, change):
    options = {"score": LAW, "points": DATA, "fresh": FRESH, "t": 0.1, "delta": 0.5, "generator": 1} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        supervision_report(**options)
