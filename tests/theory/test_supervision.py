import math

import numpy as np
import pytest
import torch
from scipy import stats

from kss.theory import supervision as theory

TIMES = [1e-300, 1e-12, 1.0, 1e12, 1e300]


def test_radius_and_moments():
    assert float(theory.shell_radius(64, 0.25)) == 4.0
    assert theory.shell_moments(1).mean == pytest.approx(math.sqrt(2 / math.pi), rel=1e-15)
    assert theory.shell_moments(2).spread == pytest.approx(math.sqrt(1 - math.pi / 4), rel=1e-14)
    # The two ways of computing meet at 300.
    below, above = theory.shell_moments(299), theory.shell_moments(300)
    assert above.spread / below.spread == pytest.approx(math.sqrt(299 / 300), rel=1e-5)


def test_shells_of_gaussian_noise_by_scipy():
    for d, distance, t, delta in ((1, 0.0, 0.3, 0.5), (16, 4.0, 0.3, 0.44), (64, 9.0, 2.0, 1.3)):
        law = stats.ncx2(d, distance**2 / t) if distance else stats.chi2(d)
        expected = law.cdf(d * (1 + delta) ** 2) - law.cdf(d * max(0.0, 1 - delta) ** 2)
        assert float(theory.shell_probability(distance, d, t, delta)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("distance", [0.0, 1e-150, 1.0, 1e150])
def test_every_scale(t, distance):
    for value in (
        theory.typical_ratio(distance, 64, t),
        theory.ratio_spread(distance, 64, t),
        theory.ball_probability(distance, 64, t, 0.2),
        theory.shell_probability(distance, 64, t, 0.2),
    ):
        assert not bool(torch.isnan(value))
    assert 1 / math.sqrt(128) <= float(theory.ratio_spread(distance, 64, t)) <= 0.125
    assert 0 <= float(theory.shell_probability(distance, 64, t, 0.2)) <= 1


def test_far_shifts_are_planes():
    # The two ways of computing, on both sides of where they meet; the exact change is 5e-7.
    for d in (1, 3, 64):
        for z in (-2.0, 0.5, 1.5):
            near, far = (float(theory.length_probability(a + z, d, a)) for a in (2999.999, 3000.001))
            assert near == pytest.approx(far, abs=1e-8)
    assert float(theory.length_probability(1e200, 3, 1e200)) == pytest.approx(0.5, abs=1e-12)
    assert float(theory.length_probability(5.0, 3, math.inf)) == 0.0


def test_exit_and_meeting():
    assert float(theory.exit_time(3.0, 4, 0.5)) == pytest.approx(9 / (4 * 1.25))
    assert float(theory.exit_width(8, 0.5)) == pytest.approx(math.sqrt(2 * 3.5 / 8) / 1.25)
    assert float(theory.meeting_time(3.0, 4, 0.5)) == pytest.approx(9 / (16 * 2.25))
    assert float(theory.typical_ratio(3.0, 4, float(theory.exit_time(3.0, 4, 0.5)))) == pytest.approx(1.5)
    assert float(theory.exit_time(0.0, 4, 0.5)) == 0.0


def test_arguments_broadcast_and_numpy_is_welcome():
    found = theory.shell_probability(np.array([0.0, 1.0, 2.0]), 5, torch.tensor([[0.5], [1.0]]), 0.3)
    assert found.shape == (2, 3)
    assert found.dtype == torch.float64
    assert bool((found[0] != found[1]).any())
    assert theory.typical_ratio(np.array([0.0, 1.0]), 5, 0.5).tolist() == pytest.approx([1.0, math.sqrt(1.4)])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("dim", lambda: theory.shell_radius(0, 1.0)),
        ("dim", lambda: theory.meeting_time(1.0, 1, 0.1)),
        ("t", lambda: theory.typical_ratio(1.0, 3, 0.0)),
        ("t", lambda: theory.shell_radius(3, float("nan"))),
        ("distance", lambda: theory.ratio_spread(-1.0, 3, 1.0)),
        ("delta", lambda: theory.shell_probability(1.0, 3, 1.0, -0.1)),
        ("delta", lambda: theory.ball_probability(1.0, 3, 1.0, -1.1)),
        ("delta", lambda: theory.exit_time(1.0, 3, 0.0)),
        ("delta", lambda: theory.exit_width(3, -1.0)),
    ],
)
def test_names_what_is_wrong(name, call):
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()
