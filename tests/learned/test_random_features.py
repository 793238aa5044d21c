"""Moments of random features: bad input, symmetry, degenerate data, and a few values by hand; the ledger integrates the rest."""

import math

import numpy as np
import pytest
import torch

from kss.learned.random_features import (
    feature_weights,
    loss,
    noise_at,
    population_moments,
    score_error,
    tanh_coefficients,
    train_moments,
)

WEIGHTS = feature_weights(7, 3, generator=1)
POINTS = torch.tensor([[0.3, -1.0, 0.4], [1.1, 0.2, -0.6], [0.3, -1.0, 0.4]], dtype=torch.float64)


def one_dimensional(function, mean, variance):
    """`E f(mean + sqrt(variance) g)` by the trapezoid rule."""
    g = np.arange(-12, 12.01, 0.05)
    return float((np.exp(-(g**2) / 2) * function(mean + math.sqrt(variance) * g)).sum() * 0.05 / math.sqrt(2 * math.pi))


def test_the_noise_variance_of_an_ornstein_uhlenbeck_time():
    assert noise_at(0.01) == pytest.approx(1 - math.exp(-0.02), rel=1e-14)
    assert noise_at(1e-20) == 2e-20
    with pytest.raises(ValueError, match="time = -1"):
        noise_at(-1.0)


def test_weights_have_rows_of_norm_root_d_and_come_from_the_generator():
    torch.testing.assert_close(WEIGHTS.norm(dim=1), torch.full((7,), math.sqrt(3), dtype=torch.float64))
    assert torch.equal(WEIGHTS, feature_weights(7, 3, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(feature_weights(4, 1, generator=0).abs(), torch.ones(4, 1, dtype=torch.float64))


def test_shapes_and_dtypes():
    for dtype in (torch.float32, torch.float64):
        w, x = WEIGHTS.to(dtype), POINTS.to(dtype)
        for moments in (population_moments(w, 0.1), train_moments(w, x, 0.1)):
            assert moments.second.shape == (7, 7)
            assert moments.cross.shape == (7, 3)
            assert moments.second.dtype == moments.cross.dtype == dtype
            assert 0 <= moments.truncation <= 1e-13
            assert torch.equal(moments.second, moments.second.mT)
    assert train_moments(WEIGHTS.numpy(), POINTS.numpy(), 0.1).second.dtype == torch.float64


def test_the_diagonal_is_the_mean_square_of_the_activation():
    square = one_dimensional(lambda y: np.tanh(y) ** 2, 0.0, 1.0)
    torch.testing.assert_close(population_moments(WEIGHTS, 0.3).second.diagonal(), torch.full((7,), square, dtype=torch.float64))
    means = math.sqrt(0.7 / 3) * WEIGHTS @ POINTS.mT
    expected = [np.mean([one_dimensional(lambda y: np.tanh(y) ** 2, float(m), 0.3) for m in row]) for row in means]
    torch.testing.assert_close(train_moments(WEIGHTS, POINTS, 0.3).second.diagonal(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("noise", [1e-300, 1e-6, 0.5, 0.999])
def test_in_one_dimension_all_features_are_equal_up_to_sign(noise):
    # Overlaps of +-1: every order counts, and U = +- E tanh^2.
    w, x = torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    signs = w @ w.mT
    population, train = population_moments(w, noise), train_moments(w, x, noise)
    square = one_dimensional(lambda y: np.tanh(y) ** 2, math.sqrt(1 - noise) * 0.7, noise)
    assert max(population.truncation, train.truncation) <= 1e-12
    torch.testing.assert_close(population.second, signs * population.second[0, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(train.second, signs * square, rtol=0, atol=2e-12)


def test_a_datum_given_twice_counts_twice_and_all_data_twice_change_nothing():
    once, twice = train_moments(WEIGHTS, POINTS, 0.2), train_moments(WEIGHTS, POINTS.repeat(2, 1), 0.2)
    torch.testing.assert_close(once.second, twice.second)
    alone = [train_moments(WEIGHTS, POINTS[i : i + 1], 0.2).second for i in range(3)]
    torch.testing.assert_close(once.second, sum(alone) / 3)


def test_far_data_saturate_the_features():
    far = train_moments(WEIGHTS, 1e12 * POINTS[:1], 0.2)
    sign = torch.sign(WEIGHTS @ POINTS[0])
    torch.testing.assert_close(far.second, torch.outer(sign, sign))
    torch.testing.assert_close(far.cross, torch.zeros(7, 3, dtype=torch.float64))


def test_blocks_of_data_do_not_change_the_result(monkeypatch):
    whole = train_moments(WEIGHTS, POINTS, 0.2)
    monkeypatch.setattr("kss.learned.random_features.BLOCK", 1)
    torch.testing.assert_close(train_moments(WEIGHTS, POINTS, 0.2).second, whole.second)


def test_an_untrained_model_has_loss_and_error_one():
    zero = torch.zeros(3, 7, dtype=torch.float64)
    assert float(loss(zero, population_moments(WEIGHTS, 0.2), 0.2)) == 1.0
    assert float(score_error(zero, WEIGHTS)) == 1.0


def test_one_feature_by_hand():
    # d = p = 1: L = 1 + D A^2 E tanh^2 + 2 D A c_1, E = 1 + A^2 E tanh^2 + 2 A c_1.
    w, a = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[-1.3]], dtype=torch.float64)
    square = one_dimensional(lambda y: np.tanh(y) ** 2, 0.0, 1.0)
    slope = one_dimensional(lambda y: 1 / np.cosh(y) ** 2, 0.0, 1.0)
    assert tanh_coefficients()[1] == pytest.approx(slope, rel=1e-13)
    assert float(loss(a, population_moments(w, 0.2), 0.2)) == pytest.approx(1 + 0.2 * (1.69 * square - 2.6 * slope), rel=1e-13)
    assert float(score_error(a, w)) == pytest.approx(1 + 1.69 * square - 2.6 * slope, rel=1e-13)


@pytest.mark.parametrize("noise", [0.0, 1.0, -0.1, float("nan"), float("inf")])
def test_a_bad_noise_variance_is_named(noise):
    with pytest.raises(ValueError, match="noise ="):
        population_moments(WEIGHTS, noise)
    with pytest.raises(ValueError, match="noise ="):
        train_moments(WEIGHTS, POINTS, noise)


def test_bad_weights_points_and_readouts_are_named():
    with pytest.raises(ValueError, match=r"weights = .*rows of norm sqrt\(d\)"):
        population_moments(2 * WEIGHTS, 0.1)
    with pytest.raises(ValueError, match=r"weights = .*non-empty"):
        population_moments(torch.zeros(0, 3), 0.1)
    with pytest.raises(ValueError, match=r"points = .*dimension 3"):
        train_moments(WEIGHTS, torch.zeros(2, 4), 0.1)
    with pytest.raises(ValueError, match=r"points = .*NaN"):
        train_moments(WEIGHTS, torch.full((2, 3), float("nan")), 0.1)
    with pytest.raises(ValueError, match=r"readout = .*\(3, 7\)"):
        score_error(torch.zeros(7, 3), WEIGHTS)
    with pytest.raises(ValueError, match="p = 0"):
        feature_weights(0, 3, generator=1)
