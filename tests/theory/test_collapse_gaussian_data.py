"""Averages over normal data sets."""

import math
import re

import numpy as np
import pytest
from scipy import integrate, special, stats

from kss.theory.collapse import gaussian_data
from kss.theory.collapse.gaussian_data import (
    finite_size_constant,
    gaussian_clone_probability,
    gaussian_collapse_time,
    gaussian_mean_information,
)

EXTREMES = [1e-300, 1e-20, 1e-3, 1.0, 99.0, 101.0, 1e4, 1e100, 1e300]


@pytest.mark.slow
def test_two_points_on_a_line_by_another_integral():
    # The difference of the two data is D = N(0, 2), and x_1 + sqrt(t) Z has the log-odds D^2/2t + Z D/sqrt(t).
    def average(f, t):
        def inner(difference):
            mean, spread = difference**2 / (2 * t), abs(difference) / math.sqrt(t)
            return integrate.quad(lambda z: f(mean + spread * z) * stats.norm.pdf(z), -12, 12, limit=200)[0]

        return integrate.quad(lambda y: inner(math.sqrt(2) * y) * 2 * stats.norm.pdf(y), 0, 12, limit=200)[0]

    for t in (0.7,):
        assert gaussian_clone_probability(1, t, log_n=math.log(2)) == pytest.approx(average(special.expit, t), abs=1e-9)
        information = math.log(2) + average(special.log_expit, t)
        assert gaussian_mean_information(1, t, log_n=math.log(2)) == pytest.approx(information, abs=1e-9)


def test_only_the_ratio_of_noise_and_variance_counts():
    assert gaussian_clone_probability(3, 0.6, log_n=4.0, variance=2.0) == gaussian_clone_probability(3, 0.3, log_n=4.0)
    assert gaussian_collapse_time(6, log_n=3.0, variance=5.0) == pytest.approx(5 * gaussian_collapse_time(6, log_n=3.0), rel=1e-7)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dim", "log_n"), [(1, 3.0), (2, math.log(2)), (20, 9.0), (60, 25.0)])
def test_from_one_end_of_the_doubles_to_the_other(dim, log_n):
    clones = [gaussian_clone_probability(dim, t, log_n=log_n) for t in EXTREMES]
    information = [gaussian_mean_information(dim, t, log_n=log_n) for t in EXTREMES]
    assert np.all(np.diff(clones) < 1e-9)
    assert np.all(np.diff(information) < 1e-9)
    assert clones[0] == pytest.approx(1, abs=1e-10)
    assert information[0] == pytest.approx(log_n, rel=1e-10)
    assert clones[-1] == pytest.approx(math.exp(-log_n), rel=1e-9)
    assert information[-1] == pytest.approx(0, abs=1e-10)


def test_one_datum():
    assert gaussian_clone_probability(3, 0.5, log_n=0.0) == pytest.approx(1, abs=1e-10)
    assert gaussian_mean_information(3, 0.5, log_n=0.0) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("dim", "t"), [(5, 99.9), (60, 99.9), (5, 1e-5)])
def test_one_grid_for_all_radii_gives_what_a_grid_for_each_does(dim, t, monkeypatch):
    first = gaussian_clone_probability(dim, t, log_n=3.0), gaussian_mean_information(dim, t, log_n=3.0)
    for name, value in (("RADII", 40), ("PANEL", 20), ("STEP", 0.2), ("TAIL", 32.0)) + ((("NARROW", 1.0),) if t > 1 else ()):
        monkeypatch.setattr(gaussian_data, name, value)
    second = gaussian_clone_probability(dim, t, log_n=3.0), gaussian_mean_information(dim, t, log_n=3.0)
    assert first == pytest.approx(second, abs=1e-9)


def test_bessel_functions_beyond_the_range_of_doubles():
    got = gaussian_data._log_ive(200.0, np.array([1e-3, 1.0, 30.0, 1e3, 1e8]))
    import mpmath

    with mpmath.workdps(40):
        expected = [float(mpmath.log(mpmath.besseli(200, z)) - z) for z in (1e-3, 1.0, 30.0, 1e3)]
    assert got[:4] == pytest.approx(expected, rel=1e-13)
    assert got[4] == pytest.approx(-0.5 * math.log(2 * math.pi * 1e8) + math.log1p(-(4 * 200**2 - 1) / 8e8), abs=1e-6)


def test_the_time_of_a_level_is_the_inverse():
    for level in (0.1, 0.5, 0.9):
        t = gaussian_collapse_time(10, log_n=4.0, level=level)
        assert gaussian_clone_probability(10, t, log_n=4.0) == pytest.approx(level, abs=1e-8)


def test_the_constant_between_its_bounds():
    # -log Phi is convex, so its mean is at least log 2 = its value at the mean; for a small rate it tends to that.
    for rate in (0.01, 0.45, 3.0):
        q = 1 - math.exp(-2 * rate)
        assert 2 / q * math.log(2) < finite_size_constant(rate) < 2 / q * (math.log(2) + q / 4)
    assert finite_size_constant(1e-4) * (1 - math.exp(-2e-4)) / 2 == pytest.approx(math.log(2), rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_clone_probability(0, 1.0, log_n=1.0), "dim = 0: expected an integer >= 1"),
        (lambda: gaussian_clone_probability(1, 0.0, log_n=1.0), "t = 0.0: expected a finite number > 0"),
        (lambda: gaussian_clone_probability(1, 1.0, log_n=1.0, variance=0.0), "variance = 0.0: expected a finite number > 0"),
        (
            lambda: gaussian_mean_information(1, 1.0, log_n=-1.0),
            "log_n = -1.0: expected the logarithm of a number of data, from 0 to 700",
        ),
        (
            lambda: gaussian_mean_information(1, 1.0, log_n=math.nan),
            "log_n = nan: expected the logarithm of a number of data, from 0 to 700",
        ),
        (lambda: gaussian_collapse_time(1, log_n=0.1), "level = 0.5: expected a probability between 1/n and 1"),
        (lambda: finite_size_constant(-1.0), "rate = -1.0: expected a finite number > 0"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
