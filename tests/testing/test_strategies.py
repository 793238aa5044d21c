"""The strategies produce everything they promise, the degenerate kinds included."""

import pytest
import torch

from kss.distributions import Circle, Empirical, Gaussian, GaussianMixture
from kss.testing import strategies
from kss.testing.properties import for_all

pytestmark = pytest.mark.xdist_group("strategies")  # the data sets are drawn once


def drawn(strategy, examples: int = 150) -> list:
    seen: list = []
    for_all(strategy, seen.append, generator=torch.Generator().manual_seed(0), examples=examples)
    return seen


@pytest.fixture(scope="module")
def data_sets():
    return drawn(strategies.datasets())


KINDS = {
    "one point": lambda p: len(p) == 1,
    "duplicates": lambda p: len(p) > 1 and len(p.unique(dim=0)) < len(p),
    "collinear": lambda p: len(p) > 2 and p.shape[1] > 1 and int(torch.linalg.matrix_rank(p - p[0], rtol=1e-9)) == 1,
    "outlier": lambda p: len(p) > 1 and float((p[-1] - p[0]).norm()) > 100,
    "sphere": lambda p: len(p) > 1 and p.shape[1] > 1 and bool(((p.norm(dim=1) - 1).abs() < 1e-9).all()),
    "plain": lambda p: len(p) > 2 and p.shape[1] > 1 and int(torch.linalg.matrix_rank(p - p[0])) > 1,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_set_turns_up(data_sets, kind):
    assert any(KINDS[kind](points) for points in data_sets)


def test_data_sets_are_finite_and_of_every_dimension(data_sets):
    dims = {points.shape[1] for points in data_sets}
    assert dims <= set(range(1, 9))
    assert len(dims) >= 5  # Hypothesis does not draw independently
    assert all(points.isfinite().all() and points.dtype == torch.float64 for points in data_sets)
    assert {points.shape[1] for points in drawn(strategies.datasets(dim=3), 20)} == {3}


def test_noise_covers_twelve_decades():
    seen = drawn(strategies.variances())
    assert min(seen) >= 1e-6 * (1 - 1e-9)
    assert max(seen) <= 1e6 * (1 + 1e-9)
    assert min(seen) < 1e-5
    assert max(seen) > 1e5


def test_covariances_are_semidefinite_and_sometimes_singular():
    seen = drawn(strategies.covariances(3), 100)
    assert all(torch.equal(matrix, matrix.T) for matrix in seen)
    least = [float(torch.linalg.eigvalsh(matrix)[0]) for matrix in seen]
    assert min(least) >= -1e-14
    assert any(abs(value) < 1e-14 for value in least)
    assert any(value > 1e-4 for value in least)


def test_every_kind_of_law_turns_up():
    # One in four of the laws on the plane is a circle: all of 100 miss it with probability 3e-13.
    plane = drawn(strategies.distributions(dim=2), 100)
    assert {type(law) for law in plane} == {Gaussian, GaussianMixture, Empirical, Circle}
    assert {law.dim for law in plane} == {2}
    # Hypothesis does not draw independently; five of the eight dimensions show that they vary.
    dims = {law.dim for law in drawn(strategies.distributions(), 100)}
    assert dims <= set(range(1, 9))
    assert len(dims) >= 5


def test_cases_lie_where_the_law_has_mass_and_sometimes_exactly_on_it():
    seen = drawn(strategies.cases(strategies.distributions()), 80)
    assert all(case.x.shape == (case.law.dim,) and case.t > 0 for case in seen)
    on_data = [case for case in seen if isinstance(case.law, Empirical) and bool((case.law.points == case.x).all(dim=-1).any())]
    assert on_data
    for case in seen:
        assert case.law.score(case.x, case.t).isfinite().all()
