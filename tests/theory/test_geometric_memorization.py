"""Gaps of population and data, condensation at a point, and Stein's form of the mean gap."""

import math
import re

import numpy as np
import pytest
import torch

from kss.distributions import Gaussian
from kss.theory import geometric_memorization as gm
from kss.theory.collapse import condensation_time, gaussian_information

LAM = [1.0, 0.3, 0.0]


def test_population_gap_is_that_of_the_gaussian_law():
    for t in (1e-300, 1e-3, 0.7, 1e300):
        gap = gm.population_gap([1.0, 0.3], t)
        jacobian = Gaussian([0.0, 0.0], torch.diag(torch.tensor([1.0, 0.3], dtype=torch.float64))).score_jacobian([0.4, -2.0], t)
        torch.testing.assert_close(gap, -t * jacobian.diagonal(), rtol=1e-12, atol=0)
    assert gm.population_gap(LAM, [0.1, 0.2]).shape == (2, 3)
    assert float(gm.population_gap(LAM, 1e-300)[2]) == 1.0


def test_opening_time_by_hand():
    assert gm.opening_time([1.0, 0.2]).tolist() == [1.0, 0.2]
    assert gm.opening_time([2.0], threshold=0.2).tolist() == [0.5]


def test_empirical_gaps_by_hand_and_at_extreme_times():
    pair = [[-1.0, 0.0], [1.0, 0.0]]
    assert gm.empirical_gaps(pair, [0.0, 0.0], 0.5).tolist() == [-1.0, 1.0]
    assert gm.empirical_gaps(pair, [0.5, 0.0], 1e-300).tolist() == [1.0, 1.0]
    torch.testing.assert_close(gm.empirical_gaps(pair, [0.5, 7.0], 1e300), torch.ones(2).double())
    assert gm.empirical_gaps([[3.0]], [0.0], 1.0).tolist() == [1.0]
    assert gm.empirical_gaps([[3.0], [3.0]], [0.0], 1e-9).tolist() == [1.0]
    # Half-way between two points the score repels along their line, also obliquely.
    along = gm.empirical_gaps(pair, [[0.0, 0.0]] * 4, 0.5, directions=[[3.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    torch.testing.assert_close(along, torch.tensor([[-1.0, 0.0, 1.0]] * 4).double())


def test_dtype_follows_the_query():
    points = torch.tensor([[-1.0], [1.0]])
    assert gm.empirical_gaps(points, torch.tensor([0.0]), 0.5).dtype == torch.float32
    assert gm.empirical_gaps(points.double(), torch.tensor([0.0]), 0.5).dtype == torch.float64
    assert gm.empirical_gaps(np.array([[-1.0], [1.0]]), np.array([0.0]), 0.5).dtype == torch.float64


def test_blocks():
    assert float(gm.block_condensation_time(2.0, 4, 100)) == pytest.approx(2 / 9)
    assert gm.block_condensation_time([1.0, 0.5], 3, 50).shape == (2,)
    assert float(gm.block_condensation_time(1.0, 3, 1)) == math.inf
    assert float(gm.block_sample_size(2.0, 4, 2 / 9)) == pytest.approx(100)
    assert float(gm.block_sample_size(1.0, 1, 1e-300)) == pytest.approx(1e150)


def test_information_is_the_divergence_from_prior_and_averages_to_the_mutual_information():
    # By hand for one direction: posterior N(x/2, 1/2) of N(0, 1) at t = 1.
    assert float(gm.information_at([2.0], [1.0], 1.0)) == pytest.approx(0.5 * (math.log(2) - 0.5 + 1.0))
    lam, t = torch.tensor([1.0, 0.3], dtype=torch.float64), 0.2
    typical = gm.information_at((lam + t).sqrt(), lam, t)  # x_a^2 at its mean
    assert float(typical) == pytest.approx(float(gaussian_information(lam, t)))


@pytest.mark.parametrize("t", [1e-300, 1e-12, 1.0, 1e3, 1e5, 1e12, 1e200])
def test_information_keeps_its_digits(t):
    import mpmath

    with mpmath.workdps(700):
        u = mpmath.mpf(0.5) / mpmath.mpf(t)
        expected = (mpmath.log(1 + u) - u / (1 + u)) / 2
        assert float(gm.information_at([0.0, 0.0], [0.5, 0.0], t)) == pytest.approx(float(expected), rel=1e-11, abs=0)


def test_condensation_at_a_point():
    lam = torch.tensor([1.0, 0.3], dtype=torch.float64)
    root = gm.condensation_time_at([[0.0, 0.0], [1.0, -1.0]], lam, 300)
    assert root.shape == (2,)
    torch.testing.assert_close(
        gm.information_at(torch.tensor([[0.0, 0.0], [1.0, -1.0]]), lam, root),
        torch.full((2,), math.log(300), dtype=torch.float64),
        rtol=1e-12,
        atol=0,
    )
    assert root[0] < condensation_time(lam, 300)
    assert float(gm.condensation_time_at([0.0], [1.0], 1)) == math.inf
    assert float(gm.condensation_time_at([0.0], [1e-290], 1e200)) == 0.0
    assert 0 < float(gm.condensation_time_at([0.0], [1.0], 1e100)) < 1e-190


def test_a_direction_without_variance_tells_nothing_however_far_away():
    assert float(gm.information_at([0.3, 1e200], [1.0, 0.0], 1e-300)) == float(gm.information_at([0.3], [1.0], 1e-300))
    expected = gm.condensation_time_at([0.3], [1.0], 100)
    torch.testing.assert_close(gm.condensation_time_at([0.3, 1e200], [1.0, 0.0], 100), expected, rtol=0, atol=0)


def test_stein_gaps_by_hand():
    # Two points, weights 1/2 at the origin: sum_i (1/2) x_i (x_i - x_other).
    assert gm.stein_gaps([[1.0], [-1.0]], [0.0], 0.1, [2.0]).tolist() == [1.0]
    assert gm.origin_gaps([[1.0], [-1.0]], 0.1, [2.0]).tolist() == [0.5]
    # One-hot: x_1 (x_1 - x_2).
    assert gm.stein_gaps([[1.0], [3.0], [50.0]], [0.9], 1e-300, [1.0]).tolist() == [-2.0]
    assert gm.origin_gaps([[1.0], [3.0], [50.0]], 1e-300, [0.5]).tolist() == [2.0]
    assert gm.stein_gaps([[1.0]], [7.0], 1.0, [2.0]).tolist() == [0.5]
    assert gm.stein_gaps([[1.0, 0.0], [2.0, 0.0]], [0.0, 0.0], 1.0, [1.0, 0.0])[1] == 1.0
    assert gm.stein_gaps([[1.0], [1.0], [9.0]], [1.0], 1e-3, [1.0]).tolist() == [0.0]


def test_stein_gaps_against_leaving_out_one_after_the_other():
    generator = torch.Generator().manual_seed(3)
    data, x = torch.randn(5, 7, 2, generator=generator).double(), torch.randn(5, 2, generator=generator).double()
    lam, t = torch.tensor([1.0, 0.4], dtype=torch.float64), 0.3
    expected = torch.zeros(5, 2).double()
    for s in range(5):
        logits = -((data[s] - x[s]) ** 2).sum(-1) / (2 * t)
        w = torch.softmax(logits, -1)
        for i in range(7):
            keep = [j for j in range(7) if j != i]
            mean = torch.softmax(logits[keep], -1) @ data[s][keep]
            expected[s] += w[i] * data[s, i] * (data[s, i] - mean) / lam
    torch.testing.assert_close(gm.stein_gaps(data, x, t, lam), expected, rtol=1e-12, atol=1e-12)
    # One data set and many places; many data sets and one place.
    assert gm.stein_gaps(data[0], x, t, lam).shape == (5, 2)
    torch.testing.assert_close(gm.stein_gaps(data[0], x, t, lam)[0], expected[0], rtol=1e-12, atol=1e-12)
    assert gm.stein_gaps(data, [0.0, 0.0], t, lam).shape == (5, 2)
    assert gm.origin_gaps(data, t, lam).shape == (5, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gm.population_gap([-1.0], 1.0), "variances = [-1.0]: expected a list of numbers >= 0, at least one"),
        (lambda: gm.population_gap([1.0], 0.0), "t = 0.0: expected a noise variance t > 0"),
        (lambda: gm.opening_time([1.0], 1.0), "threshold = 1.0: expected a number between 0 and 1"),
        (lambda: gm.empirical_gaps([[1.0]], [0.0], 1.0, [[0.0]]), "directions = [[0.0]]: expected vectors that are not zero"),
        (lambda: gm.empirical_gaps([[1.0]], [0.0], -1.0), "t = -1.0: expected a noise variance t > 0"),
        (lambda: gm.block_condensation_time(-1.0, 2, 5), "variance = -1.0: expected numbers >= 0"),
        (lambda: gm.block_condensation_time(1.0, 0, 5), "dim = 0: expected an integer >= 1"),
        (lambda: gm.block_condensation_time(1.0, 2, 0.5), "n = 0.5: expected a finite number >= 1"),
        (lambda: gm.block_sample_size(1.0, 2, 0.0), "t = 0.0: expected a noise variance t > 0"),
        (lambda: gm.block_sample_size(-1.0, 2, 1.0), "variance = -1.0: expected numbers >= 0"),
        (lambda: gm.condensation_time_at([0.0], [0.0], 5), "variances = [0.0]: expected a positive one among them"),
        (lambda: gm.condensation_time_at([0.0], [1.0], float("nan")), "n = nan: expected a finite number >= 1"),
        (lambda: gm.condensation_time_at([0.0], [1.0], True), "n = True: expected a finite number >= 1"),
        (lambda: gm.information_at(0.0, [1.0], 1.0), "x = Tensor of shape () and dtype torch.float64: expected points of shape (..., 1)"),
        (
            lambda: gm.stein_gaps([1.0], [0.0], 1.0, [1.0]),
            "points = Tensor of shape (1,) and dtype torch.float64: expected data sets of shape (..., N, 1)",
        ),
        (
            lambda: gm.origin_gaps([[1.0]], 1.0, [1.0, 1.0]),
            "points = Tensor of shape (1, 1) and dtype torch.float64: expected data sets of shape (..., N, 2)",
        ),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
