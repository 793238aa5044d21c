"""Data on a periodic box: densities, modes, gradients and expansions against sums written out here."""

import math
import re

import numpy as np
import pytest
import torch

from kss.theory import periodic, spectral
from kss.theory.periodic import PeriodicSample


def by_images(points, lengths, t, nodes):
    """`log p_t^N` on the grid, by the definition, in log space."""
    places = spectral.grid(lengths, nodes).numpy()
    total = np.zeros((*places.shape[:-1], len(points)))
    for j, side in enumerate(np.atleast_1d(lengths)):
        offset = places[..., j, None] - np.asarray(points)[:, j]
        logs = [-((offset + m * side) ** 2) / (2 * t) for m in range(-12, 13)]
        total += np.logaddexp.reduce(logs) - math.log(2 * math.pi * t) / 2
    return np.logaddexp.reduce(total, axis=-1) - math.log(len(points))


@pytest.mark.parametrize("t", [1e-6, 1e-3, 0.02, 0.5])
@pytest.mark.parametrize(("lengths", "nodes"), [([1.0], 64), ([1.0], 15), ([1.2, 0.7], 32)])
def test_log_density_at_every_scale(lengths, nodes, t):
    points = np.random.default_rng(3).uniform(0, 1, (5, len(lengths))) * lengths
    got = PeriodicSample(points, lengths).log_density(t, nodes)
    expected = by_images(points, lengths, t, nodes)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-11)


def test_a_batch_is_its_data_sets_one_by_one_and_points_are_periodic():
    points = torch.rand(3, 7, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (0.003, 0.05):
        together = PeriodicSample(points, 1.0).log_density(t, 48)
        alone = torch.stack([PeriodicSample(p, 1.0).log_density(t, 48) for p in points])
        torch.testing.assert_close(together, alone)
        torch.testing.assert_close(PeriodicSample(points + 2.0, 1.0).log_density(t, 48), together, rtol=1e-9, atol=1e-10)


def test_modes_of_the_data_by_hand():
    modes = PeriodicSample([[0.1, 0.3], [0.4, 1.0]], [1.0, 2.0]).modes([1, 2])
    assert modes.shape == (3, 5)
    expected = (np.exp(-2j * np.pi * (0.1 - 0.15 * 2)) + np.exp(-2j * np.pi * (0.4 - 0.5 * 2))) / 2  # n = (1, -2)
    assert complex(modes[2, 0]) == pytest.approx(expected)
    assert complex(modes[1, 2]) == pytest.approx(1.0)


def test_coefficients_filter_and_gradient_of_a_wave():
    places = spectral.grid([1.0, 2.0], 16)
    phase = 2 * math.pi * (places[..., 0] + 3 * places[..., 1] / 2)
    wave = 0.5 + 3 * phase.cos()
    spectrum = periodic.coefficients(wave, 2)
    assert complex(spectrum[0, 0]) == pytest.approx(0.5)
    assert complex(spectrum[1, 3]) == pytest.approx(1.5)
    assert float(spectrum.abs().sum()) == pytest.approx(3.5)
    gain = spectral.gaussian_transfer(spectral.wave_vectors([1.0, 2.0], 16), 0.01)
    torch.testing.assert_close(periodic.filtered(wave, gain), 0.5 + 3 * float(gain[1, 3]) * phase.cos())
    slope = periodic.gradient(wave, [1.0, 2.0])
    torch.testing.assert_close(slope[..., 0], -6 * math.pi * phase.sin(), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(slope[..., 1], -9 * math.pi * phase.sin(), atol=1e-12, rtol=1e-12)
    # A batch in front, and the mode at the end of the spectrum, whose derivative on the grid is zero.
    edge = torch.cos(math.pi * torch.arange(16.0, dtype=torch.float64)).expand(2, 16)
    torch.testing.assert_close(periodic.gradient(edge, 1.0), torch.zeros(2, 16, 1, dtype=torch.float64))


def test_the_score_is_the_gradient_of_the_logarithm():
    sample = PeriodicSample([[0.2], [0.35], [0.8]], 1.0)
    score = periodic.gradient(sample.log_density(0.02, 128), 1.0)[:, 0]
    x = spectral.grid(1.0, 128)[:, 0].numpy()
    offset = x[:, None, None] - np.array([0.2, 0.35, 0.8])[:, None] + np.arange(-6, 7)
    weight = np.exp(-(offset**2) / 0.04)
    np.testing.assert_allclose(score, -(weight * offset).sum((1, 2)) / weight.sum((1, 2)) / 0.02, atol=1e-8)


def test_expansion_starts_with_the_leading_order():
    many = 10**6
    result = periodic.expansion(0.02, [1.0, 1.5], many, 32)
    lead = spectral.noise_spectrum(spectral.wave_vectors([1.0, 1.5], 32), 0.02, many)
    low = (slice(0, 3), slice(0, 3))
    torch.testing.assert_close(result.spectrum[low], lead[low], rtol=1e-3, atol=0.0)
    assert float(result.spectrum[0, 0]) == 0.0
    assert result.kl == pytest.approx(spectral.expected_kl(0.02, [1.0, 1.5], many), rel=1e-4)


def test_exact_divergence_of_one_datum_is_an_integral():
    x = (np.arange(4000) + 0.5) / 4000
    for t in (0.01, 0.2):
        kernel = sum(np.exp(-((x + m) ** 2) / (2 * t)) for m in range(-8, 9)) / math.sqrt(2 * math.pi * t)
        assert periodic.exact_kl(t, 1.0, 1) == pytest.approx(-np.log(kernel).mean(), abs=1e-6 * t**-1)
    assert periodic.exact_kl(0.05, [1.0, 1.0], 1) == pytest.approx(2 * periodic.exact_kl(0.05, 1.0, 1), rel=1e-10)
    # Only the shape counts: lengths scale with the square root of t.
    assert periodic.exact_kl(0.09, 3.0, 5) == pytest.approx(periodic.exact_kl(0.01, 1.0, 5), rel=1e-10)


def test_exact_divergence_meets_both_limits():
    assert periodic.exact_kl(0.3, 1.0, 10**5) == pytest.approx(spectral.expected_kl(0.3, 1.0, 10**5), rel=1e-4)
    assert periodic.exact_kl(1e-3, 1.0, 2) == pytest.approx(spectral.collapsed_kl(1e-3, 1.0, 2), abs=0.05)  # 7 t log(1/t)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PeriodicSample([[0.1]], [1.0] * 3), "lengths = [1.0, 1.0, 1.0]: expected one or two sides"),
        (lambda: PeriodicSample([[0.1]], [1.0, 1.0]), "points = [[0.1]]: expected a non-empty array of shape (N, 2)"),
        (lambda: PeriodicSample(np.empty((0, 1)), 1.0), "points = ndarray of shape (0, 1)"),
        (lambda: PeriodicSample([[0.1]], 1.0).log_density(-1.0, 8), "t = -1.0: expected a finite number > 0"),
        (lambda: PeriodicSample([[0.1]], 1.0).log_density(1.0, 0), "nodes = 0: expected an integer >= 1"),
        (lambda: PeriodicSample([[0.1]], 1.0).modes([-1]), "most = -1: expected an integer >= 0"),
        (lambda: periodic.exact_kl(0.1, [1.0] * 3, 2), "lengths = [1.0, 1.0, 1.0]: expected one or two sides"),
        (lambda: periodic.expansion(0.0, 1.0, 2, 8), "t = 0.0: expected a finite number > 0"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()
