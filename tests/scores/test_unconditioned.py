"""The score without a noise level against its definition, in fractions, and where it is singular."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from kss.distributions import Empirical
from kss.scores import NoiseUnconditioned, TemperatureSmoothed
from kss.scores import unconditioned as module

PAIR = NoiseUnconditioned(Empirical([[0.0], [1.0]]))


def by_definition(points, x, c):
    """`-c sum_j w_j (x - x_j)/r_j^2` and the log-density, with squared distances as fractions; c even."""
    points = [[Fraction(v) for v in p] for p in np.asarray(points).tolist()]
    x = [Fraction(v) for v in np.asarray(x).tolist()]
    squares = [sum((a - b) ** 2 for a, b in zip(x, p, strict=True)) for p in points]
    total = sum(1 / q ** (c // 2) for q in squares)
    score = [-c * sum((x[i] - p[i]) / q ** (c // 2 + 1) for p, q in zip(points, squares, strict=True)) / total for i in range(len(x))]
    mean = total / len(points)
    return np.array([float(v) for v in score]), math.log(mean.numerator) - math.log(mean.denominator)


@pytest.mark.parametrize("d", [2, 6, 40])
@pytest.mark.parametrize("block", [1, 64, 2**19])
def test_it_is_the_definition(d, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(d)
    points, x = rng.normal(size=(7, d)), rng.normal(size=(5, d))
    points[3] = points[0]
    x[0], x[1], x[2] = points[1] + 1e-9, 1e6 * x[1], points.mean(0)
    for c in (d, 4):
        smoothed = NoiseUnconditioned(Empirical(points), exponent=float(c))
        for place in x:
            score, level = by_definition(points, place, c)
            np.testing.assert_allclose(smoothed.score(place), score, rtol=1e-12, atol=1e-12 * np.abs(score).max())
            assert float(smoothed.unnormalized_log_density(place)) == pytest.approx(level, rel=1e-12, abs=1e-12)
        together = smoothed.score(x)
        torch.testing.assert_close(together, torch.stack([smoothed.score(place) for place in x]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("d", [1, 2, 40])
def test_the_denoiser_is_the_weighted_mean(d):
    rng = np.random.default_rng(d)
    points, x = rng.normal(size=(7, d)), rng.normal(size=(5, d))
    points[3] = points[0]
    for c in (2, 6):
        for place in x:
            square = [sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(place, p, strict=True)) for p in points.tolist()]
            weight = [1 / q ** (c // 2) for q in square]
            expected = sum(float(w / sum(weight)) * p for w, p in zip(weight, points, strict=True))
            np.testing.assert_allclose(NoiseUnconditioned(Empirical(points), exponent=float(c)).denoise(place), expected, atol=1e-13)


def test_the_denoiser_at_data_points_far_away_and_for_one_point():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    smoothed = NoiseUnconditioned(Empirical(points))
    torch.testing.assert_close(smoothed.denoise(points), points)
    torch.testing.assert_close(smoothed.denoise([[1e200, 0.0]]), points.mean(0, keepdim=True))
    sharp = NoiseUnconditioned(Empirical(points), exponent=1e4)
    torch.testing.assert_close(sharp.denoise([[0.0, 1.4]], -1.0), points[:1])
    assert NoiseUnconditioned(Empirical([[2.0]])).denoise([[-5.0]]).item() == 2.0
    assert smoothed.denoise(torch.zeros(0, 2)).shape == (0, 2)
    assert smoothed.denoise(torch.zeros(2, 3, 2)).shape == (2, 3, 2)


def test_t_is_ignored_and_shapes_are_those_of_x():
    x = torch.randn(2, 3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (1e-9, 1.0, torch.rand(2, 3), -1.0, None):
        torch.testing.assert_close(PAIR.score(x, t), PAIR.score(x))
    assert PAIR.score(x).shape == (2, 3, 1)
    assert PAIR.unnormalized_log_density(x, 0.3).shape == PAIR.dominant_variance(x).shape == (2, 3)
    assert PAIR.score([0.25]).shape == (1,)
    assert PAIR.score(torch.zeros(0, 1)).shape == (0, 1)
    assert PAIR.ascend(x).shape == x.shape
    # A score like any other: it can be tempered, which doubles it whatever t.
    torch.testing.assert_close(TemperatureSmoothed(PAIR, 2.0).score(x, 0.1), 2 * PAIR.score(x))


def test_at_a_data_point_it_is_zero_the_mean_over_small_spheres():
    points = np.random.default_rng(1).normal(size=(6, 2))
    for data in (points, points[:1], np.repeat(points, 2, axis=0)):
        smoothed = NoiseUnconditioned(Empirical(data))
        assert smoothed.score(data).abs().max() == 0
        assert bool(torch.isposinf(smoothed.unnormalized_log_density(data)).all())
        assert smoothed.dominant_variance(data).abs().max() == 0
        torch.testing.assert_close(smoothed.ascend(data), torch.from_numpy(data), rtol=0, atol=0)
        angle = 2 * np.pi * np.arange(64) / 64
        around = data[0] + 1e-4 * np.stack((np.cos(angle), np.sin(angle)), -1)
        score = smoothed.score(around)
        assert float(score.mean(0).norm()) < 1e-6 * float(score.norm(dim=-1).mean())


def test_next_to_a_data_point_far_away_and_on_all_scales():
    np.testing.assert_allclose(PAIR.score([[2.0**-1000]]), [[-(2.0**1000)]], rtol=1e-14)
    np.testing.assert_allclose(PAIR.score([[5e-324]]), [[-math.inf]])  # its value is not representable
    np.testing.assert_allclose(PAIR.score([[1e300], [-1.7e308]]), [[-1e-300], [1 / 1.7e308]], rtol=1e-9, atol=0)
    opposite = NoiseUnconditioned(Empirical([[1.7e308, 0.0]]))
    np.testing.assert_allclose(opposite.score([-1.7e308, 0.0]), [1 / 1.7e308, 0.0], rtol=1e-6)
    assert float(opposite.unnormalized_log_density([-1.7e308, 0.0])) == pytest.approx(-2 * (math.log(1.7e308) + math.log(2)))
    for scale in (1e-150, 1e150):
        scaled = NoiseUnconditioned(Empirical([[0.0, 0.0], [scale, 0.0]]))
        exact = NoiseUnconditioned(Empirical([[0.0, 0.0], [1.0, 0.0]]))
        torch.testing.assert_close(scaled.score([0.3 * scale, 0.1 * scale]) * scale, exact.score([0.3, 0.1]))


def test_many_dimensions_do_not_overflow():
    points = np.zeros((2, 5000))
    points[1, 0] = 1.0
    x = np.full(5000, 0.01)
    smoothed = NoiseUnconditioned(Empirical(points))
    squares = ((x - points) ** 2).sum(1)
    w = (squares.min() / squares) ** 2500
    expected = -5000 * (w / w.sum() / squares) @ (x - points)
    np.testing.assert_allclose(smoothed.score(x), expected, rtol=1e-9)
    assert bool(smoothed.score(1e-200 * x).isfinite().all())


def test_gradients():
    x = torch.tensor([[0.3, 0.2], [2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    smoothed = NoiseUnconditioned(Empirical([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    (gradient,) = torch.autograd.grad(smoothed.unnormalized_log_density(x).sum(), x)
    torch.testing.assert_close(gradient, smoothed.score(x.detach()), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(smoothed.score, (x,))
    at = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    assert bool(torch.autograd.grad(smoothed.score(at).sum(), at)[0].isfinite().all())


def test_a_step_of_ascent_and_the_level_it_uses():
    # At 1/4: r_1 = 1/4, weights 3/4 and 1/4, score -3/4 * 4 + 1/4 * 4/3.
    assert float(PAIR.dominant_variance([0.25])) == pytest.approx(1 / 16)
    assert float(PAIR.ascend([0.25], 0.5)) == pytest.approx(0.25 + 0.5 / 16 * (-3 + 1 / 3))
    assert float(NoiseUnconditioned(Empirical([[0.0]]), exponent=4.0).dominant_variance([1.0])) == pytest.approx(1 / 4)
    assert float(NoiseUnconditioned(Empirical([[2.0]])).ascend([7.0])) == 2.0  # one point: there at once


def test_types_and_what_is_shown():
    narrow = NoiseUnconditioned(Empirical(torch.zeros(1, 2)))
    for value in (narrow.score(torch.ones(2)), narrow.unnormalized_log_density(torch.ones(2)), narrow.ascend(torch.ones(2))):
        assert value.dtype == torch.float32
    assert narrow.score(np.ones(2)).dtype == torch.float64
    assert repr(PAIR) == "NoiseUnconditioned(Empirical([[0.0], [1.0]]))"
    assert repr(NoiseUnconditioned(PAIR.base, exponent=2.0)) == "NoiseUnconditioned(Empirical([[0.0], [1.0]]), exponent=2.0)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NoiseUnconditioned(PAIR.base, exponent=0.0), r"^exponent = 0\.0: expected a finite number > 0"),
        (lambda: PAIR.score([[0.0, 1.0]]), r"^x = .*expected points of shape \(\.\.\., 1\)"),
        (lambda: PAIR.score([math.nan]), r"^x = .*expected finite numbers"),
        (lambda: PAIR.ascend([0.0], 0.0), r"^size = 0\.0: expected a finite number > 0"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
