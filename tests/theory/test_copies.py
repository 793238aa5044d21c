"""Laws of distances to nearest data: hand values, inverses, limits, bad input."""

import math

import pytest
import torch
from scipy import stats

from kss.theory import copies

SPHERE = 1 / (4 * math.pi)


def test_the_ratio_by_hand():
    found = copies.ratio_false_alarm(torch.tensor([[0.0, 0.5], [1.0, 0.1]]), k=2)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.25], [1.0, 0.01]], dtype=torch.float64), rtol=1e-6, atol=0)
    assert float(copies.ratio_false_alarm(0.5, 1, neighbors=4)) == pytest.approx(1 - 0.125)
    assert float(copies.ratio_false_alarm(1e-9, 2, neighbors=3)) == pytest.approx(2e-18, rel=1e-12)  # not 0


@pytest.mark.parametrize("k", [0.7, 1, 2.5, 40])
@pytest.mark.parametrize("neighbors", [2, 7])
def test_the_threshold_is_the_inverse(k, neighbors):
    for alpha in (1e-6, 0.01, 0.9):
        c = copies.ratio_threshold(alpha, k, neighbors)
        assert float(copies.ratio_false_alarm(c, k, neighbors)) == pytest.approx(alpha, rel=1e-9)


def test_distances_on_spheres():
    # Circle: the chord r spans the angle 2 asin(r/2R) on both sides.
    assert copies.sphere_distance_cdf(1.0, 1, radius=2.0) == pytest.approx(2 * math.asin(0.25) / math.pi)
    assert copies.sphere_distance_cdf(5.0, 3) == 1.0
    assert copies.sphere_distance_cdf(-1.0, 3) == 0.0
    for k in (1, 2, 7):
        assert copies.sphere_distance_cdf(copies.sphere_distance_quantile(0.3, k, 1.7), k, 1.7) == pytest.approx(0.3)


def test_the_finite_law_takes_any_distribution():
    # Two data: D_1/D_2 of two uniform distances is uniform; of two exponential ones it is 2c/(1 + c).
    assert copies.finite_ratio_false_alarm(0.3, 2, lambda r: min(r, 1.0), lambda u: u) == pytest.approx(0.3)
    found = copies.finite_ratio_false_alarm(0.3, 2, lambda r: -math.expm1(-r), lambda u: -math.log1p(-u))
    assert found == pytest.approx(2 * 0.3 / 1.3)


def test_nearest_false_alarm_and_its_inverse():
    for N, density, k in ((10, 0.3, 1), (10**6, 2.0, 3)):
        r = copies.geometric_threshold(0.2, N, density, k)
        assert copies.nearest_false_alarm(r, N, density, k) == pytest.approx(0.2)
    assert copies.nearest_false_alarm(0.0, 5, 1.0, 2) == 0.0
    assert copies.nearest_false_alarm(1.0, 3, 0.5, 1) == pytest.approx(-math.expm1(-3.0))


def test_noise_by_hand_and_in_its_limits():
    # In the plane a line: one normal coordinate. Without data in reach a copy is sqrt(t chi^2_2) away.
    assert copies.noisy_power(0.5, 1e-9, 1e-9, k=1, d=2, t=0.1) == pytest.approx(stats.chi2.cdf(2.5, 2), rel=1e-8)
    assert copies.noisy_false_alarm(0.1, 1000, SPHERE, 2, 2, 1e-3) == pytest.approx(copies.nearest_false_alarm(0.1, 1000, SPHERE, 2))
    assert copies.noisy_false_alarm(0.1, 1000, SPHERE, 2, 9, 1e-15) == pytest.approx(copies.nearest_false_alarm(0.1, 1000, SPHERE, 2))
    assert copies.noisy_false_alarm(0.1, 1000, SPHERE, 2, 900, 1.0) == 0.0
    for d, t in ((2, 1e-3), (20, 1e-6), (20, 1.0), (1000, 1e-4)):
        r = copies.noisy_threshold(0.01, 1000, SPHERE, 2, d, t)
        assert copies.noisy_false_alarm(r, 1000, SPHERE, 2, d, t) == pytest.approx(0.01, rel=1e-6)


def test_share():
    assert copies.copy_share(0.5, 0.0) == 0.5
    assert copies.copy_share(1.0, 0.3) == 1.0
    assert copies.copy_share(0.4, 0.1) == pytest.approx(1 / 3)
    assert copies.copy_share(0.05, 0.1) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: copies.ratio_false_alarm(1.1, 2), "c = "),
        (lambda: copies.ratio_false_alarm(0.1, 0), "k = "),
        (lambda: copies.ratio_false_alarm(0.1, 2, neighbors=1), "neighbors = 1"),
        (lambda: copies.ratio_threshold(1.0, 2), "alpha = 1.0"),
        (lambda: copies.finite_ratio_false_alarm(0.1, 2, lambda r: r, lambda u: u, neighbors=3), "N = 2"),
        (lambda: copies.finite_ratio_false_alarm(-0.1, 2, lambda r: r, lambda u: u), "c = -0.1"),
        (lambda: copies.sphere_distance_quantile(1.5, 2), "u = 1.5"),
        (lambda: copies.ball_volume(0), "k = 0"),
        (lambda: copies.nearest_false_alarm(-1.0, 1, 1.0, 1), "r = -1.0"),
        (lambda: copies.geometric_threshold(0.1, 1, -1.0, 1), "density = -1.0"),
        (lambda: copies.noisy_power(0.1, 1, 1.0, 3, 2, 0.1), "d = 2"),
        (lambda: copies.noisy_power(0.1, 1, 1.0, 1, 2, 0.0), "t = 0.0"),
        (lambda: copies.copy_share(1.2, 0.1), "fraction = 1.2"),
        (lambda: copies.copy_share(0.2, 1.0), "false_alarm = 1.0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
