"""Distances, likelihoods and counts: what they refuse, and what degenerate input gives."""

import math

import numpy as np
import pytest
import torch

from kss.diagnostics import (
    coverage,
    expected_coverage,
    flow_log_likelihood,
    kernel_two_sample,
    median_bandwidths,
    sliced_wasserstein,
    sliced_wasserstein_floor,
    training_point_diversity,
)
from kss.distributions import Empirical, Gaussian, GaussianMixture
from kss.kernels import GaussianKernel
from kss.scores import Mollified

PLANE = Gaussian([0.0, 0.0], 1.0)
NORMAL = Gaussian([0.0], 1.0)


# --- Sliced Wasserstein -------------------------------------------------------------------------------------------------


def test_one_point_against_one_point():
    found = sliced_wasserstein([[3.0]], [[-1.0]], generator=0)
    assert found == (4.0, 0.0)


@pytest.mark.parametrize("power", [1, 1.0, 2, 3.5])
def test_equal_sets_are_at_distance_zero(power):
    x = PLANE.sample(7, 1)
    assert sliced_wasserstein(x, x, power=power, generator=0) == (0.0, 0.0)
    assert sliced_wasserstein(x, x.flip(0), power=power, generator=0).value < 1e-14
    # Each point doubled is the same law.
    assert sliced_wasserstein(x, x.repeat(2, 1), power=power, generator=0).value < 1e-14


def test_it_is_symmetric_and_scales_from_tiny_to_huge():
    x, y = PLANE.sample(5, 1), PLANE.sample(8, 2)
    value = sliced_wasserstein(x, y, power=2, generator=0).value
    assert sliced_wasserstein(y, x, power=2, generator=0).value == pytest.approx(value, rel=1e-12)
    for scale in (1e-250, 1e250):
        found = sliced_wasserstein(scale * x, scale * y, power=2, generator=0)
        assert found.value == pytest.approx(scale * value, rel=1e-12)
        assert found.error > 0


def test_large_powers_tend_to_the_widest_gap_and_overflow_nothing():
    x, y = [[0.0], [2.0], [3.0]], [[0.0], [2.5], [40.0]]
    assert sliced_wasserstein(x, y, power=1000, generator=0).value == pytest.approx(37 * 3**-0.001, rel=1e-12)
    found = sliced_wasserstein(PLANE.sample(5, 1), PLANE.sample(8, 2) + 1e3, power=600, generator=0)
    assert 0 < found.error < math.inf


def test_a_far_origin_does_not_spoil_it():
    x, y = PLANE.sample(5, 1), PLANE.sample(8, 2)
    moved = sliced_wasserstein(x + 2.0**20, y + 2.0**20, generator=0)
    assert moved.value == pytest.approx(sliced_wasserstein(x, y, generator=0).value, rel=1e-8)


def test_the_same_seed_gives_the_same_directions_and_many_go_in_blocks(monkeypatch):
    x, y = PLANE.sample(50, 1), PLANE.sample(70, 2)
    first = sliced_wasserstein(x, y, directions=100, generator=5)
    monkeypatch.setattr("kss.diagnostics.quality.BLOCK", 1000)
    again = sliced_wasserstein(x, y, directions=100, generator=torch.Generator().manual_seed(5))
    assert again.value == pytest.approx(first.value, rel=1e-12)
    assert again.error == pytest.approx(first.error, rel=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64])
def test_any_dtype_and_arrays(kind):
    x, y = torch.tensor([[0, 1], [2, 3]], dtype=kind), torch.tensor([[4, 4]], dtype=kind)
    expected = sliced_wasserstein(x.double(), y.double(), generator=0)
    assert sliced_wasserstein(x, y, generator=0) == expected
    assert sliced_wasserstein(x.numpy(), y.tolist(), generator=0) == expected


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("samples", {"samples": [1.0, 2.0]}),
        ("samples", {"samples": [[math.nan, 0.0]]}),
        ("held_out", {"held_out": [[1.0]]}),
        ("held_out", {"held_out": torch.zeros(0, 2)}),
        ("power", {"power": 0.5}),
        ("directions", {"directions": 1}),
        ("generator", {"generator": True}),
    ],
)
def test_sliced_wasserstein_names_what_is_wrong(name, change):
    options = {"samples": [[0.0, 0.0]], "held_out": [[1.0, 1.0]], "generator": 0} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        sliced_wasserstein(options.pop("samples"), options.pop("held_out"), **options)


def test_the_floor_of_two_gaussian_samples():
    # On the line E W_1 of samples of one law is the integral of E|F_n - G_m|, near sqrt(2/pi (1/n + 1/m)) int sqrt(F (1 - F)).
    found = sliced_wasserstein_floor(NORMAL.sample(20_000, 1), (200, 300), repeats=60, generator=0)
    z = np.linspace(-8, 8, 4001)
    F = 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    expected = math.sqrt(2 / math.pi * (1 / 200 + 1 / 300)) * np.trapezoid(np.sqrt(F * (1 - F)), z)
    assert found.value == pytest.approx(expected, abs=5 * found.spread / math.sqrt(60))


def test_the_floor_from_a_small_pool_and_from_equal_points():
    assert sliced_wasserstein_floor(PLANE.sample(9, 1), (100, 200), generator=0).sizes == (3, 6)
    assert sliced_wasserstein_floor(PLANE.sample(2, 1), (1, 1000), generator=0).sizes == (1, 1)
    assert sliced_wasserstein_floor(torch.ones(9, 2), (4, 5), generator=0)[:2] == (0.0, 0.0)


@pytest.mark.parametrize(("name", "change"), [("pool", {"pool": [[0.0]]}), ("sizes", {"sizes": (0, 1)}), ("repeats", {"repeats": 1})])
def test_the_floor_names_what_is_wrong(name, change):
    options = {"pool": [[0.0], [1.0]], "sizes": (1, 1), "generator": 0} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        sliced_wasserstein_floor(options.pop("pool"), options.pop("sizes"), **options)


# --- Kernel two-sample test ---------------------------------------------------------------------------------------------


def test_median_bandwidths():
    # Squared distances 1, 4, 9 between three points: the median is 4.
    assert median_bandwidths([[0.0], [1.0], [3.0]]) == (0.5, 2.0, 8.0)
    # More than half of them 0: the mean of the squares, 1/2 over the six pairs of four points.
    assert median_bandwidths([[0.0], [0.0], [0.0], [1.0]]) == (0.0625, 0.25, 1.0)
    assert median_bandwidths([[2.0], [2.0]]) == (0.25, 1.0, 4.0)
    assert median_bandwidths([[2.0]]) == (0.25, 1.0, 4.0)


def test_equal_points_are_no_evidence():
    found = kernel_two_sample(torch.ones(4, 3), torch.ones(5, 3), permutations=19, generator=0)
    assert found == (0.0, 0.0, 1.0)


def test_far_sets_are_told_apart_and_without_permutations_there_is_no_p_value():
    found = kernel_two_sample(PLANE.sample(20, 1), PLANE.sample(30, 2) + 50, permutations=200, generator=0)
    assert found.p_value == pytest.approx(1 / 201)
    assert found.statistic > 10 * found.error
    assert math.isnan(kernel_two_sample(PLANE.sample(20, 1), PLANE.sample(30, 2), generator=0).p_value)


def test_huge_distances_overflow_nothing():
    found = kernel_two_sample([[0.0], [1e200], [2e200]], [[0.0], [1e200], [5e200]], bandwidths=[1.0], permutations=9, generator=0)
    assert math.isfinite(found.statistic)
    assert math.isfinite(found.error)


def test_the_default_bandwidths_follow_the_scale():
    x, y = NORMAL.sample(20, 1), NORMAL.sample(25, 2) + 1
    usual = kernel_two_sample(x, y, permutations=50, generator=0)
    for scale in (2.0**-700, 2.0**700):
        assert kernel_two_sample(scale * x, scale * y, permutations=50, generator=0) == pytest.approx(usual, rel=1e-12)
    with pytest.raises(ValueError, match=r"^points = "):
        median_bandwidths(1e200 * x)


@pytest.mark.slow
def test_the_error_of_the_statistic():
    pairs = [(PLANE.sample(40, 2 * i), 1.5 * PLANE.sample(60, 2 * i + 1) + 1) for i in range(300)]
    runs = [kernel_two_sample(x, y, bandwidths=[1.0], generator=0) for x, y in pairs]
    spread = float(np.std([run.statistic for run in runs]))
    # 300 runs know a standard deviation to about 4 %.
    assert spread == pytest.approx(math.sqrt(np.mean([run.error**2 for run in runs])), rel=0.2)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("samples", {"samples": [[0.0], [1.0]]}),
        ("held_out", {"held_out": [[0.0]]}),
        ("bandwidths", {"bandwidths": [1.0, 0.0]}),
        ("bandwidths", {"bandwidths": []}),
        ("permutations", {"permutations": -1}),
    ],
)
def test_kernel_two_sample_names_what_is_wrong(name, change):
    options = {"samples": [[0.0], [1.0], [2.0]], "held_out": [[0.0], [1.0], [3.0]], "generator": 0} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        kernel_two_sample(options.pop("samples"), options.pop("held_out"), **options)


# --- Likelihood ---------------------------------------------------------------------------------------------------------


def test_the_default_reference_is_noise():
    # The score of a point at the origin under noise: the flow from N(0, t_max) gives N(0, t_min).
    found = flow_log_likelihood(lambda x, t: -x / t, [[0.3, -0.1]], t_min=0.1, t_max=5.0)
    assert float(found.value[0]) == pytest.approx(-0.1 / 0.2 - math.log(2 * math.pi * 0.1), abs=1e-4)


def test_one_point_three_ways_and_probes_agree():
    data = Empirical([[0.0, 1.0], [1.0, -1.0], [-1.0, 0.3]])
    x = torch.tensor([[0.2, 0.4]], dtype=torch.float64)

    class Known:
        def score_and_divergence(self, x, t):
            return data.score(x, t), (data.posterior(x, t).covariance_trace / t - 2) / t

    run = {"t_min": 0.2, "t_max": 4.0, "reference": data, "tolerance": 1e-4}
    exact = float(data.log_density(x, 0.2)[0])
    for score in (data, data.score, Known()):
        assert float(flow_log_likelihood(score, x, **run).value[0]) == pytest.approx(exact, abs=1e-3)
    found = flow_log_likelihood(data.score, x, probes=16, generator=1, **run)
    assert abs(float(found.value[0]) - exact) < 5 * float(found.error[0])
    for shape in ((3, 2), (3, 1, 2)):
        given = torch.ones(*shape, dtype=torch.float64)
        assert float(flow_log_likelihood(data.score, x, probes=given, **run).error[0]) < 1e-12


def test_the_solver_error_is_honest_where_the_score_is_steep():
    data = Empirical(PLANE.sample(30, 1))
    x = PLANE.sample(20, 2)
    found = flow_log_likelihood(data, x, t_min=0.01, t_max=9.0, reference=data)
    error = float((found.value - data.log_density(x, 0.01)).abs().max())
    assert error <= float(found.solver_error.max()) < 0.1


def test_a_mollified_gaussian_score_is_exact_and_float32_points_are_taken():
    score = Mollified(NORMAL, GaussianKernel(0.4))
    found = flow_log_likelihood(score, torch.tensor([[0.5]]), t_min=0.1, t_max=3.0, reference=NORMAL)
    assert float(found.value[0]) == pytest.approx(float(NORMAL.log_density([[0.5]], 0.1)), abs=1e-3)
    assert found.value.dtype == torch.float64


def test_held_out_likelihood_is_largest_for_the_law_itself():
    law = GaussianMixture([[0.0], [3.0]], [[[0.2]], [[0.5]]])
    x = law.diffuse(200, 0.1, 1)
    run = {"t_min": 0.1, "t_max": 20.0, "tolerance": 1e-4}
    true = flow_log_likelihood(law, x, reference=law, **run).value.mean()
    data = Empirical(law.sample(20, 2))
    copies = flow_log_likelihood(data, x, reference=data, **run).value.mean()
    assert true > copies + 0.01


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x", {"x": [0.5]}),
        ("t_min", {"t_min": 2.0}),
        ("t_min", {"t_min": -1.0}),
        ("reference", {"reference": PLANE}),
        ("probes", {"probes": 1, "generator": 0}),
        ("probes", {"probes": [[1.0, 1.0]]}),
        ("probes", {"probes": [[1.0]]}),
        ("generator", {"probes": 4}),
        ("tolerance", {"tolerance": 0.0}),
    ],
)
def test_flow_log_likelihood_names_what_is_wrong(name, change):
    options = {"x": [[0.5]], "t_min": 0.1, "t_max": 1.0} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        flow_log_likelihood(NORMAL, options.pop("x"), **options)


# --- Coverage and diversity ---------------------------------------------------------------------------------------------


def test_coverage_of_doubled_points_and_of_copies():
    y = PLANE.sample(10, 1)
    assert coverage(y, y).value == 1.0
    assert coverage(y + 1e6, y).value == 0.0
    doubled = torch.cat((y, y))
    # A point with a double has radius 0: only an exact hit covers it.
    assert coverage(y[:4], doubled, neighbors=1).value == 0.4
    assert coverage(torch.ones(1, 2), torch.ones(3, 2), neighbors=2).value == 1.0


def test_points_of_a_grid_are_as_near_as_each_other():
    # Tenths are no binary fractions, so equal distances differ by rounding.
    grid = torch.tensor([[i, j] for i in range(6) for j in range(5)], dtype=torch.float64)
    around = torch.tensor([[i, j] for i in range(-1, 7) for j in (-1, 1, 3, 5)], dtype=torch.float64)
    for step in (1.0, 0.1, 7.3):
        assert coverage(step * around, step * grid, neighbors=1).value == 1.0


def test_expected_coverage_of_many():
    assert expected_coverage(10**6, 10**6) == pytest.approx(1 - 2**-5, abs=1e-5)
    assert expected_coverage(1, 10**6, 1) == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "change"),
    [("neighbors", {"neighbors": 3}), ("neighbors", {"neighbors": 0}), ("held_out", {"held_out": [[0.0]], "neighbors": 1})],
)
def test_coverage_names_what_is_wrong(name, change):
    options = {"samples": [[0.0]], "held_out": [[0.0], [1.0], [3.0]]} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        coverage(options.pop("samples"), options.pop("held_out"), **options)


def test_diversity_of_one_kind_and_of_all():
    data = torch.arange(5.0).unsqueeze(1)
    assert training_point_diversity(data[:1].repeat(7, 1), data) == (1, 1.0, 1.0)
    assert training_point_diversity(data, data) == (5, 0.0, math.inf)
    with pytest.raises(ValueError, match=r"^samples = "):
        training_point_diversity(data[:1], data)
