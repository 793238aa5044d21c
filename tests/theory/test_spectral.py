"""The periodic box by hand: kernels, spectra, filters; the general statements are checked by the ledger."""

import math
import re

import numpy as np
import pytest
import torch

from kss.claims.spectral import exact_log_noise
from kss.claims.spectral_kl import exact_kl as reference_kl
from kss.theory import spectral

TWO_PI = 2 * math.pi


def test_grid_and_wave_vectors_of_a_rectangle():
    places = spectral.grid([1.0, 2.0], 4)
    assert places.shape == (4, 4, 2)
    torch.testing.assert_close(places[1, 3], torch.tensor([0.25, 1.5], dtype=torch.float64))
    waves = spectral.wave_vectors([1.0, 2.0], 4)
    torch.testing.assert_close(waves[0, 0], torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(waves[1, 3], torch.tensor([TWO_PI, -math.pi], dtype=torch.float64))
    assert spectral.wave_vectors(3.0, 5).shape == (5, 1)


@pytest.mark.parametrize("t", [0.05, 0.16, 0.5])
def test_both_sums_and_their_logarithm_agree(t):
    x = torch.linspace(-3, 3, 41, dtype=torch.float64)  # far outside the box too
    images, modes = (f(x, t, 1.0, terms=12) for f in (spectral.image_sum, spectral.mode_sum))
    torch.testing.assert_close(images, modes, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(spectral.log_heat_kernel(x[:, None], t, 1.0), modes.log(), rtol=1e-12, atol=1e-14)


def test_the_kernel_is_a_product_over_axes():
    x = torch.tensor([[0.1, 0.7]], dtype=torch.float64)
    one, two = (spectral.log_heat_kernel(x[:, j : j + 1], 0.3, side) for j, side in enumerate((1.0, 2.5)))
    torch.testing.assert_close(spectral.log_heat_kernel(x, 0.3, [1.0, 2.5]), one + two)


@pytest.mark.parametrize("t", [1e-300, 1e-12, 1e12, 1e300])
def test_the_kernel_at_extreme_times(t):
    near, far = spectral.log_heat_kernel([[0.0], [0.5]], t, 1.0).tolist()
    assert near == pytest.approx(-math.log(TWO_PI * t) / 2 if t < 1 else 0.0, abs=1e-12)
    assert far == pytest.approx(math.log(2) - math.log(TWO_PI * t) / 2 - 0.125 / t if t < 1 else 0.0, rel=1e-12)


def test_trace_without_its_zero_mode_keeps_its_digits():
    assert spectral.excess_trace(5.0, 1.0) == pytest.approx(2 * math.exp(-4 * math.pi**2 * 5), rel=1e-12)
    assert spectral.excess_trace(1e-6, [1.0, 2.0]) == pytest.approx(2 / (4 * math.pi * 1e-6) - 1, rel=1e-12)
    assert spectral.excess_trace(1e300, 1.0) == 0.0
    assert spectral.excess_trace(1e-300, [1.0] * 3) == math.inf
    # One side's threshold on either hand.
    sides = [1 / math.sqrt(0.079), 1 / math.sqrt(0.08)]
    direct = [sum(math.exp(-((TWO_PI * n / side) ** 2) * 1.0) for n in range(-40, 41)) for side in sides]
    assert spectral.excess_trace(1.0, sides) == pytest.approx(math.prod(direct) - 1, rel=1e-12)


def test_spectrum_and_transfer_function():
    waves = torch.tensor([[0.0, 0.0], [TWO_PI, 0.0], [TWO_PI, -TWO_PI]], dtype=torch.float64)
    square = (TWO_PI) ** 2
    expected = [0.0, math.exp(-square * 0.01) / 50, math.exp(-2 * square * 0.01) / 50]
    assert spectral.noise_spectrum(waves, 0.01, 50).tolist() == pytest.approx(expected)
    assert spectral.gaussian_transfer(waves, 0.02).tolist() == pytest.approx([1.0, math.exp(-square * 0.01), math.exp(-2 * square * 0.01)])
    assert spectral.gaussian_transfer(waves, 0.0).tolist() == [1.0] * 3


def test_expected_divergence_and_its_two_limits():
    assert spectral.expected_kl(0.01, [1.0, 1.0], 100) == pytest.approx((1 / (0.04 * math.pi) - 1) / 200, rel=1e-9)
    assert spectral.expected_kl_early(0.01, 1.0, 2, 100) == pytest.approx((1 / (0.04 * math.pi) - 1) / 200)
    late = (math.exp(-((TWO_PI) ** 2)) + math.exp(-((TWO_PI / 2) ** 2))) / 10
    assert spectral.expected_kl_late(1.0, [1.0, 2.0], 10) == pytest.approx(late)
    assert spectral.expected_kl(1.0, [1.0, 2.0], 10) == pytest.approx(late, rel=1e-3)


def test_divergence_of_a_single_datum_at_a_small_time():
    # One datum: E |x|^2/2t over [-1/2, 1/2] is 1/24t.
    assert spectral.collapsed_kl(1e-3, 1.0, 1) == pytest.approx(1 / 24e-3 + math.log(TWO_PI * 1e-3) / 2)
    assert spectral.collapsed_kl(4e-3, 2.0, 1) == pytest.approx(spectral.collapsed_kl(1e-3, 1.0, 1))


def test_correction_of_the_spectrum_is_smallest_for_low_modes():
    local = (0.04 * math.pi) ** -0.5
    assert spectral.log_noise_correction(1e-9, 0.01, 1.0, 1) == pytest.approx(local * (1 + 2**-1.5) - 1)
    assert spectral.log_noise_correction((6 * TWO_PI) ** 2, 0.01, 1.0, 1) > 50 * local


def test_risk_and_its_minimum():
    assert spectral.filter_risk(1.0, 0.2, 10) == pytest.approx(0.08)  # raw: noise alone
    assert spectral.filter_risk(0.0, 0.2, 10) == pytest.approx(0.2)  # nothing left: bias alone
    assert spectral.filter_risk(1j, 0.2, 10) == pytest.approx(2 * 0.2 + 0.08)
    assert spectral.wiener_transfer(0.0, 10) == 0.0
    assert spectral.wiener_transfer(1.0, 10) == 1.0
    assert spectral.wiener_transfer(0.2, 1) == pytest.approx(0.2)
    assert spectral.wiener_transfer(1e-4, 10**4) == pytest.approx(0.5, rel=1e-3)
    gain = spectral.wiener_transfer(0.03, 20)
    least = spectral.filter_risk(gain, 0.03, 20)
    assert all(spectral.filter_risk(gain + e, 0.03, 20) > least for e in (0.01, -0.01, 0.01j))


def test_error_of_a_score_adds_modes():
    waves = torch.tensor([[0.0], [TWO_PI], [-TWO_PI]], dtype=torch.float64)
    got = spectral.score_error(waves, [1.0, 0.5, 0.5], [1.0, 0.01, 0.01], 0.02, 40)
    expected = 2 * TWO_PI**2 * math.exp(-(TWO_PI**2) * 0.02) * (0.25 * 0.01 + 0.25 * 0.99 / 40)
    assert got == pytest.approx(expected)


def test_best_bandwidth_at_both_ends():
    waves = spectral.wave_vectors(1.0, 9)
    zero_mode = (waves == 0).all(-1).double()
    assert spectral.best_gaussian_bandwidth(waves, torch.ones(9), 0.01, 10) == 0.0  # no noise
    assert spectral.best_gaussian_bandwidth(waves, zero_mode, 0.01, 10) == math.inf  # nothing but noise
    # One pair of modes: the Gaussian reaches the best filter.
    pair = torch.tensor([[TWO_PI], [-TWO_PI]], dtype=torch.float64)
    h = spectral.best_gaussian_bandwidth(pair, [0.02, 0.02], 0.05, 30)
    assert float(spectral.gaussian_transfer(pair, h)[0]) == pytest.approx(spectral.wiener_transfer(0.02, 30), rel=1e-7)


@pytest.mark.parametrize(("count", "t"), [(1, 0.03), (3, 0.02), (3, 0.08), (4, 0.02)])
def test_exact_references_are_resolved(count, t):
    """Those of the ledger: twice the nodes, or half as many places, change nothing that matters."""
    spectrum, kl = exact_log_noise(count, t)
    finer, finer_kl = exact_log_noise(count, t, 96, 24)
    np.testing.assert_allclose(spectrum, finer, rtol=1e-8, atol=1e-16)
    assert kl == pytest.approx(finer_kl, rel=1e-8)
    assert kl == pytest.approx(exact_log_noise(count, t, 48, 16)[1], rel=1e-6)
    assert kl == pytest.approx(reference_kl(count, t, (1.0,)), rel=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral.log_heat_kernel([[0.1]], 0.0, 1.0), "t = 0.0: expected a finite number > 0"),
        (lambda: spectral.log_heat_kernel([[0.1, 0.2]], 0.1, 1.0), "x = [[0.1, 0.2]]: expected points of shape (..., 1)"),
        (lambda: spectral.grid([1.0, -1.0], 4), "lengths = [1.0, -1.0]: expected sides > 0"),
        (lambda: spectral.wave_vectors(1.0, 0), "nodes = 0: expected an integer >= 1"),
        (lambda: spectral.gaussian_transfer([[1.0]], -0.1), "h = -0.1: expected a number >= 0"),
        (lambda: spectral.noise_spectrum([[1.0]], 0.1, 0), "count = 0: expected an integer >= 1"),
        (lambda: spectral.score_error([[1.0]], [1.0, 1.0], [1.0], 0.1, 5), "transfer = [1.0, 1.0]: expected transfer function and signal"),
        (lambda: spectral.best_gaussian_bandwidth([[0.0]], [1.0], 0.1, 5), "wave_vector = [[0.0]]: expected a wave vector other than 0"),
        (lambda: spectral.best_gaussian_bandwidth([[1.0]], [1.0, 2.0], 0.1, 5), "signal = [1.0, 2.0]: expected one number for each of 1"),
        (lambda: spectral.image_sum([0.1], 0.1, -1.0), "length = -1.0: expected a finite number > 0"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()
