"""Divergences in closed form by hand; the general statements are checked by the ledger."""

import math

import pytest
import torch

from kss.distributions import Circle, Embedded, Empirical, FlatTorus, Gaussian, GaussianMixture, Sphere
from kss.theory.kl import (
    bracket,
    diffused_kl,
    expected_chi_square,
    expected_kl,
    expected_kl_exact,
    path_kl_bound,
    sampled_bracket,
)
from kss.theory.kl.delta import box_third_moment
from kss.theory.kl.path import flow_kl_change, kl_bound

NORMAL = Gaussian([0.0], 1.0)


def test_bound_of_a_shifted_normal_law():
    # s~ belongs to N(1, 1): the score is off by 1/(1 + u), so half the integral of (1 + u)^-2 is (1/(1 + t) - 1/(1 + T))/2.
    found = path_kl_bound(NORMAL, Gaussian([1.0], 1.0), t_min=0.25, t_max=3.0, samples=4000, generator=0)
    assert found.value == pytest.approx((1 / 1.25 - 1 / 4) / 2, abs=1e-5)
    assert 0 < found.error < 1e-5


@pytest.mark.slow
def test_the_error_bar_is_the_spread_over_seeds():
    score = Empirical([[-1.0], [0.2], [0.9]])
    runs = [path_kl_bound(NORMAL, score, t_min=0.1, t_max=4.0, samples=200, generator=i) for i in range(100)]
    spread = torch.tensor([run.value for run in runs]).std()
    stated = torch.tensor([run.error for run in runs]).square().mean().sqrt()
    assert 0.65 < float(spread / stated) < 1.5  # heavy tails; a missing factor of sqrt(2) would show


def test_the_bound_of_the_raw_score_is_the_divergence_of_the_blurred_data():
    data = Empirical(NORMAL.sample(5, generator=1))
    start = diffused_kl(NORMAL, data, 4.0, samples=100_000, generator=2)
    path = path_kl_bound(NORMAL, data, t_min=0.1, t_max=4.0, samples=100_000, generator=3, start=start.value)
    end = diffused_kl(NORMAL, data, 0.1, samples=100_000, generator=4)
    assert abs(path.value - end.value) < 6 * math.hypot(path.error, end.error, start.error)


def test_the_start_is_added_and_generators_are_reproducible():
    options = {"t_min": 0.1, "t_max": 1.0, "samples": 10, "generator": 5}
    plain, later = path_kl_bound(NORMAL, lambda x, u: -x, **options), path_kl_bound(NORMAL, lambda x, u: -x, **options, start=0.5)
    assert later.value == pytest.approx(plain.value + 0.5)
    assert kl_bound(1.0, 4.0) == 3.0
    assert flow_kl_change(-4.0) == -2.0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("t_min", {"t_min": 2.0}),
        ("t_max", {"t_max": -1.0}),
        ("samples", {"samples": 5}),
        ("start", {"start": -0.1}),
        ("start", {"start": math.nan}),
    ],
)
def test_path_kl_bound_names_what_is_wrong(name, change):
    options = {"score": NORMAL, "t_min": 0.1, "t_max": 1.0, "samples": 10, "generator": 0} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        path_kl_bound(NORMAL, **options)


def test_brackets_by_hand():
    assert bracket(Gaussian([0.0, 5.0], [[1.0, 0.0], [0.0, 3.0]]), 1.0) == pytest.approx(7.0)  # 2 * 4 - 1
    assert bracket(Gaussian([0.0, 5.0], [[1.0, 0.0], [0.0, 0.0]]), 1.0) == pytest.approx(1.0)  # a law on a line
    assert bracket(Sphere(2, 2.0), 0.5) == pytest.approx(8.0)
    assert bracket(Embedded(Circle(), 6), 0.1) == bracket(Circle(), 0.1)
    circle = bracket(Circle(), 0.1)
    assert bracket(FlatTorus(3), 0.1) == pytest.approx((1 + circle) ** 3 - 1)
    assert bracket(Gaussian([0.0], 1.0), 1e-320) == math.inf
    assert bracket(Gaussian([0.0], 0.0), 1.0) == 0.0


@pytest.mark.parametrize("law", [Circle(), Sphere(3, 0.5), FlatTorus(2)])
def test_sampled_bracket(law):
    found = sampled_bracket(law, 0.02, samples=20_000, generator=1)
    assert abs(found.value - bracket(law, 0.02)) < 5 * found.error


def test_mean_divergences_by_hand():
    assert expected_chi_square(Sphere(2), 0.25, 8) == pytest.approx(0.5)
    assert expected_kl(Sphere(2), 0.25, 8) == pytest.approx(0.25)
    assert expected_kl_exact(Gaussian([1.0, 2.0], 0.0), 0.3, 4) == 0.0  # all data are equal
    assert expected_kl_exact(Gaussian([3.0], 2.0), 0.5, 1) == pytest.approx((8 - math.log(5)) / 2, rel=1e-8)
    assert expected_kl_exact(Sphere(2, 3.0), 0.9, 7) == pytest.approx(expected_kl_exact(Sphere(2), 0.1, 7), rel=1e-8)


@pytest.mark.slow
def test_the_exact_mean_against_data_sets():
    values = [diffused_kl(Circle(), Empirical(Circle().sample(20, i)), 0.05, samples=400, generator=1000 + i).value for i in range(100)]
    found = torch.tensor(values)
    assert abs(float(found.mean()) - expected_kl_exact(Circle(), 0.05, 20)) < 5 * float(found.std()) / 10


def test_third_moment_of_a_box():
    # k = 1: M is (2/sqrt 3) of B^2 at small t.
    assert box_third_moment(1.0, 1e-7) / bracket(Circle(1 / (2 * math.pi)), 1e-7) ** 2 == pytest.approx(2 / math.sqrt(3), rel=1e-2)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("law", lambda: bracket(GaussianMixture([[0.0], [1.0]], [[1.0]]), 1.0)),
        ("law", lambda: expected_kl_exact(Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 2.0]]), 1.0, 5)),
        ("law", lambda: expected_kl_exact(FlatTorus(2), 1.0, 5)),
        ("t", lambda: bracket(Circle(), 0.0)),
        ("t", lambda: expected_kl_exact(Circle(), 1e-9, 5)),
        ("N", lambda: expected_kl(Circle(), 1.0, 0)),
        ("N", lambda: expected_kl_exact(Circle(), 1.0, 0)),
        ("lengths", lambda: box_third_moment([1.0, -1.0], 1.0)),
    ],
)
def test_wrong_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()
