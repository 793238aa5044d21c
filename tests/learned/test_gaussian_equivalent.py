"""The Gaussian equivalent: limits of the constants, symmetry of the solver, bad input."""

import math

import numpy as np
import pytest
import torch

from kss.learned import gaussian_equivalent as ge


def test_the_constants_share_out_the_mean_square_of_tanh():
    g = np.arange(-12, 12.01, 0.05)
    square = float((np.exp(-(g**2) / 2) * np.tanh(g) ** 2).sum() * 0.05 / math.sqrt(2 * math.pi))
    for noise in (1e-12, 0.02, 0.5, 0.99):
        k = ge.constants(noise)
        assert k.a**2 * (1 - noise) + k.b2 + k.v2 + k.s2 == pytest.approx(square, rel=1e-12)


def test_without_noise_nothing_is_left_for_s_and_little_noise_gives_it_in_proportion():
    assert ge.constants(1e-300).s2 == pytest.approx(1e-300 * ge.constants(1e-9).s2 / 1e-9, rel=1e-7)
    assert ge.constants(1 - 1e-12).v2 < 1e-30


def test_edges_and_times_by_hand():
    k = ge.constants(0.1)
    low, high = ge.bulk_edges(9.0, 1.0, 0.1)
    assert (low, high) == pytest.approx((k.s2 + 4 * k.v2, k.s2 + 16 * k.v2))
    assert ge.untouched_edges(25.0, 100, 0.1) == pytest.approx((k.s2 / 4, 9 * k.s2 / 4))
    assert ge.untouched_edges(25.0, 25, 0.1)[0] == ge.untouched_edges(25.0, 9, 0.1)[0] == 0.0
    assert float(ge.mode_time(2.0, 8.0, 0.1)) == pytest.approx(20.0)
    assert ge.predicted_generalization_time(math.exp(-4), 0.1) == pytest.approx(1 / (0.1 * k.a**2))
    assert ge.predicted_generalization_time(1.0, 0.1) == 0.0


def test_one_principal_direction():
    # A single mode: the gap is half its end when 1 - e^{-r tau} = 1/sqrt 2.
    modes = ge.memorizing_modes([4.0], 30.0, 4.0, 0.02)
    rate = 1 / float(ge.mode_time(modes.eigenvalues, 30.0, 0.02))
    expected = -math.log1p(-math.sqrt(0.5)) / rate
    assert ge.predicted_memorization_time([4.0], 30.0, 4.0, 0.02, level=0.5) == pytest.approx(expected, rel=1e-9)
    assert modes.eigenvalues.shape == modes.weights.shape == (1,)
    assert 0 < modes.train_loss < 1


def test_the_resolvent_far_away_is_minus_one_over_z():
    z = torch.tensor([1e6j, 1e9 + 1e9j], dtype=torch.complex128)
    q = ge.stieltjes(z, 30.0, 4.0, 0.02)
    assert q.shape == (2,)
    assert bool(((q * z + 1).abs() < 2e-6).all())
    assert bool((ge.stieltjes(1e-3 + 1e-6j, 30.0, 4.0, 0.02).imag > 0).all())


@pytest.mark.parametrize(("psi_p", "psi_n"), [(0.5, 3.0), (3.0, 0.5), (2.0, 2.0), (100.0, 1.5)])
@pytest.mark.parametrize("noise", [1e-3, 0.5])
def test_the_density_has_mass_one(psi_p, psi_n, noise):
    grid = torch.logspace(-6, 3.5, 3000, dtype=torch.float64)
    density = ge.spectral_density(grid, psi_p, psi_n, noise, width=1e-2)
    # Blurred by a Cauchy law of 1 % of lambda: to first order in the width the mass is kept.
    assert float(torch.trapezoid(density * grid, grid.log())) == pytest.approx(1.0, abs=0.06)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="z = "):
        ge.stieltjes(1.0, 3.0, 2.0, 0.1)
    with pytest.raises(ValueError, match="psi_n = 5"):
        ge.memorizing_modes([1.0], 4.0, 5.0, 0.1)
    with pytest.raises(ValueError, match="second_moments = "):
        ge.memorizing_modes([1.0, 0.0], 40.0, 5.0, 0.1)
    with pytest.raises(ValueError, match="level = 1"):
        ge.predicted_memorization_time([1.0], 40.0, 5.0, 0.1, level=1.0)
    with pytest.raises(ValueError, match="threshold = 2"):
        ge.predicted_generalization_time(2.0, 0.1)
    with pytest.raises(ValueError, match="eigenvalue = "):
        ge.mode_time([0.0], 4.0, 0.1)
    with pytest.raises(ValueError, match="noise = 1"):
        ge.constants(1.0)
