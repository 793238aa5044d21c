"""Clone probability, entropy and information of a data set."""

import math
import re

import numpy as np
import pytest
import torch

from kss.distributions import Empirical
from kss.theory.collapse import clones
from kss.theory.collapse.clones import (
    clone_probability,
    density_information,
    empirical_information,
    endpoint_probabilities,
    posterior_entropy,
)

PAIR = [[0.0], [2.0]]
ODDS = math.exp(-1.0)  # from 0.5 at t = 1: exp(-(2.25 - 0.25)/2)
FUNCTIONS = [endpoint_probabilities, clone_probability, posterior_entropy]


def test_two_points_by_hand():
    p = 1 / (1 + ODDS)
    assert endpoint_probabilities(PAIR, [0.5], 1.0).tolist() == pytest.approx([p, 1 - p], rel=1e-14)
    assert float(clone_probability(PAIR, [0.5], 1.0)) == pytest.approx(p**2 + (1 - p) ** 2, rel=1e-14)
    assert float(posterior_entropy(PAIR, [0.5], 1.0)) == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), rel=1e-14)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_shapes_follow_the_query_and_t(function):
    points = torch.randn(7, 3, dtype=torch.float64)
    last = (7,) if function is endpoint_probabilities else ()
    assert function(points, torch.zeros(3), 1.0).shape == last
    assert function(points, torch.zeros(4, 5, 3), 1.0).shape == (4, 5, *last)
    assert function(points, torch.zeros(3), torch.ones(6)).shape == (6, *last)
    assert function(points, np.zeros((2, 3)), np.array([0.1, 1.0])).shape == (2, *last)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_dtype_is_the_promoted_one(function):
    single = torch.randn(5, 2)
    assert function(single, torch.zeros(2), 1.0).dtype == torch.float32
    assert function(single, torch.zeros(2, dtype=torch.float64), 1.0).dtype == torch.float64


@pytest.mark.parametrize("function", FUNCTIONS)
def test_many_blocks_give_what_one_does(function, monkeypatch):
    points = torch.randn(9, 2, dtype=torch.float64)
    x, t = torch.randn(11, 2, dtype=torch.float64), torch.rand(11, dtype=torch.float64) + 0.1
    whole = function(points, x, t)
    monkeypatch.setattr(clones, "BLOCK", 27)
    torch.testing.assert_close(function(points, x, t), whole, rtol=1e-14, atol=0)


def test_an_empirical_law_is_taken_like_its_points():
    points, x = torch.randn(6, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(clone_probability(Empirical(points), x, 0.3), clone_probability(points, x, 0.3))


@pytest.mark.parametrize("t", [1e-300, 1e-20, 1.0, 1e20, 1e300])
@pytest.mark.parametrize("x", [0.0, 1.0, -1e8, 1e300])
def test_one_point_and_duplicates_at_any_noise(x, t):
    assert float(clone_probability([[1.0]], [x], t)) == 1.0
    assert float(posterior_entropy([[1.0]], [x], t)) == 0.0
    twins = [[1.0, -0.3]] * 4  # they count as four points
    assert float(clone_probability(twins, [x, x], t)) == pytest.approx(0.25, rel=1e-14)
    assert float(posterior_entropy(twins, [x, x], t)) == pytest.approx(math.log(4), rel=1e-14)
    assert endpoint_probabilities(twins, [x, x], t).tolist() == pytest.approx([0.25] * 4)


def test_twins_share_the_weight_of_their_place():
    weights = endpoint_probabilities([[0.0], [2.0], [0.0]], [0.9], 1e-3)
    assert weights.tolist() == pytest.approx([0.5, 0.0, 0.5])


def test_extremes_that_overflow_a_square():
    assert float(clone_probability([[1e200], [-1e200]], [0.0], 1e300)) == 0.5
    assert float(clone_probability([[1e200], [-1e200]], [1.0], 1e-300)) == 1.0
    assert float(clone_probability([[1e-200], [-1e-200]], [1e-200], 1e-300)) == 0.5
    assert endpoint_probabilities([[0.0], [2.0]], [1e300], 1e-300).tolist() == [0.0, 1.0]


def test_far_from_the_data_small_differences_keep_their_digits():
    # From (1e8, 0) the points (0, 0) and (1e-8, 1) differ by 1 - 2 in squared distance, of 1e16.
    probability = endpoint_probabilities([[0.0, 0.0], [1e-8, 1.0]], [1e8, 0.0], 1.0)
    assert float(probability[0]) == pytest.approx(1 / (1 + math.exp(0.5)), rel=1e-7)


def test_an_outlier_takes_no_digits_from_the_rest():
    plain = clone_probability([[1e-9], [3e-9]], [1.7e-9], 1e-18)
    assert float(clone_probability([[1e-9], [3e-9], [1e9]], [1.7e-9], 1e-18)) == pytest.approx(float(plain), rel=1e-13)
    assert float(plain) == pytest.approx(1 - 0.5 / math.cosh(0.3 * 2 / 2) ** 2, rel=1e-12)


def test_it_is_the_ratio_of_the_densities_at_two_times():
    generator = torch.Generator().manual_seed(3)
    points, x = (torch.randn(n, 3, dtype=torch.float64, generator=generator) for n in (200, 50))
    law, t = Empirical(points), 0.2
    log_ratio = law.log_density(x, t / 2) - 2 * law.log_density(x, t) - 1.5 * math.log(4 * math.pi * t) - math.log(200)
    torch.testing.assert_close(clone_probability(points, x, t), log_ratio.exp(), rtol=1e-11, atol=0)


def test_the_two_estimators_of_the_information_agree():
    points = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    entropy = empirical_information(points, 0.1, samples=4000, generator=2)
    density = empirical_information(points, 0.1, samples=4000, generator=2, estimator="density")
    assert abs(entropy.value - density.value) < 6 * density.error
    assert entropy.error < density.error
    assert 0 < entropy.value < math.log(40)


def test_the_information_at_both_ends():
    points = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert empirical_information(points, 1e-12, samples=10, generator=0).value == pytest.approx(math.log(40), rel=1e-12)
    assert empirical_information(points, 1e12, samples=10, generator=0).value == pytest.approx(0, abs=1e-10)
    assert empirical_information([[1.0]], 1.0, samples=2, generator=0) == (0.0, 0.0)


def test_the_density_form_exceeds_the_entropy_of_the_index():
    law, t = Empirical([[0.0] * 3, [1.0] * 3]), 1e-6
    z = torch.tensor([1.5, -1.0, 2.0], dtype=torch.float64)
    excess = density_information(law, t**0.5 * z, t) - math.log(2)
    assert float(excess) == pytest.approx((float(z @ z) - 3) / 2, rel=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clone_probability([[0.0]], [0.0], 0.0), "t = 0.0: expected a noise variance t > 0"),
        (
            lambda: clone_probability([[0.0]], [0.0, 1.0], 1.0),
            "x = Tensor of shape (2,) and dtype torch.float64: expected points of shape (..., 1)",
        ),
        (
            lambda: posterior_entropy([], [0.0], 1.0),
            "points = Tensor of shape (0,) and dtype torch.float64: expected a non-empty array of shape (n, d)",
        ),
        (
            lambda: endpoint_probabilities([[math.nan]], [0.0], 1.0),
            "points = [[nan]]: expected finite numbers (it has NaN or infinity)",
        ),
        (lambda: empirical_information([[0.0]], -1.0, samples=5, generator=0), "t = -1.0: expected a finite number > 0"),
        (lambda: empirical_information([[0.0]], 1.0, samples=1, generator=0), "samples = 1: expected an integer >= 2"),
        (
            lambda: empirical_information([[0.0]], 1.0, samples=5, generator=0, estimator="mean"),
            "estimator = 'mean': expected 'entropy' or 'density'",
        ),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
