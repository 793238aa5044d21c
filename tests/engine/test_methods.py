"""Every way to compute gives the same numbers within the tolerance, whichever rows it leaves to another one."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from criterion import beyond_criterion, data_set
from scipy import special

from kss.distributions import Empirical
from kss.engine import attention, product, reduce

METHODS = [method for method in reduce.METHODS if method != "auto"]
KINDS = ("plain", "pairs", "duplicates", "shifted", "outlier")


@pytest.fixture(autouse=True)
def even_small_problems_are_screened(monkeypatch):
    monkeypatch.setattr(reduce, "FEW", 0)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 8])
@pytest.mark.parametrize("kind", ["pairs", "shifted", "outlier"])
@pytest.mark.parametrize("method", METHODS)
def test_errs_by_no_more_than_its_inputs_do(method, kind, dim):
    assert beyond_criterion(data_set(kind, 40, dim), [1e-8, 1e-4, 1e-2, 1.0, 1e4], method=method) == []


def queries(points: torch.Tensor, t: float, rng: np.random.Generator) -> torch.Tensor:
    """Typical places, the data themselves, middles of pairs, and places far away."""
    first, second = (points[torch.from_numpy(rng.integers(len(points), size=40))] for _ in range(2))
    noise = torch.from_numpy(rng.standard_normal(first.shape))
    return torch.cat((first + math.sqrt(t) * noise, first, (first + second) / 2, first + 30 * noise))


@functools.cache
def problem(kind: str, dim: int, t: float) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Points and queries in float32, and the displacement, log-density and trace that belong to them, by differences in float64."""
    points = torch.from_numpy(data_set(kind, 200, dim)).float()
    x = queries(points.double(), t, np.random.default_rng(dim)).float()
    exact = Empirical(points.double(), method="difference").posterior(x.double(), t)
    return points, x, [exact.displacement, exact.log_evidence, exact.covariance_trace]


@pytest.mark.slow
@pytest.mark.parametrize("tol", [None, 1e-6, 1e-3])
@pytest.mark.parametrize("method", [*METHODS, "auto", "no attention"])
def test_float32_is_within_the_tolerance(method, tol, monkeypatch):
    if method == "no attention":
        monkeypatch.setattr(attention, "available", lambda dtype: False)
        method = "auto"
    allowed = tol or reduce.NARROW_TOLERANCE
    for kind, dims in zip(KINDS, ((1, 8), (2, 64), (2, 8), (1, 64), (2, 8)), strict=True):
        for dim, t in itertools.product(dims, (1e-8, 1e-4, 1e-2, 1e-1, 1.0, 1e2)):
            points, x, (displacement, log_evidence, trace) = problem(kind, dim, t)
            found = Empirical(points, method=method, tol=tol).posterior(x, t).unrounded()
            error = (found.displacement - displacement).norm(dim=-1)
            # Far from the data, at t much larger than they, rounding the inputs to float64 is what remains.
            size = points.double().abs().max()
            assert (error <= allowed * displacement.norm(dim=-1) + 8 * torch.finfo(torch.float64).eps * size).all(), (kind, dim, t)
            error = (found.log_evidence - log_evidence).abs()
            assert (error <= allowed * (1 + log_evidence.abs())).all(), (kind, dim, t)
            # The trace of a covariance that is nothing is nothing.
            error = (found.covariance_trace - trace).abs()
            assert (error <= 10 * allowed * trace + 1e-14 * size**2).all(), (kind, dim, t)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_every_row_at_a_noise_variance_of_its_own(method):
    points = torch.from_numpy(data_set("plain", 500, 2))
    rng = np.random.default_rng(0)
    x, t = queries(points, 0.01, rng), torch.from_numpy(10.0 ** rng.uniform(-7, 3, 160))
    found, exact = Empirical(points, method=method).posterior(x, t), Empirical(points, method="difference").posterior(x, t)
    scale = exact.displacement.norm(dim=-1, keepdim=True)
    # Twice what one of them is allowed, and the rounding of the points themselves.
    assert ((found.displacement - exact.displacement).abs() <= 2e-12 * scale + 1e-15).all()
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, rtol=2e-12, atol=2e-12)


def far_from_the_center(copies: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """A cluster at the origin that x looks at, while the center of the data is elsewhere; coordinates round by much more than x does."""
    rng = np.random.default_rng(copies)
    points = np.concatenate((spread * rng.standard_normal((copies, 2)), np.full((copies // 2 + 1, 2), 1.37)))
    return points, 1e-8 * rng.standard_normal((5, 2))


@pytest.mark.parametrize(("copies", "spread"), [(1000, 0.0), (100, 1e-6), (300, 1e-7)])
@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_what_is_small_beside_the_center_of_the_data_keeps_its_digits(method, copies, spread):
    points, x = far_from_the_center(copies, spread)
    found = Empirical(points, method=method).posterior(x, 0.01).displacement.numpy()
    # Exponents are at most 2e-11 between the points of the cluster, and the others weigh nothing: float64 has it by plain sums.
    difference = points[None] - x[:, None]
    exact = (special.softmax(-(difference**2).sum(-1) / 0.02, -1)[..., None] * difference).sum(1)
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-12 * np.linalg.norm(exact, axis=-1).min())


def test_a_late_nearest_point_leaves_nothing_behind(monkeypatch):
    # Many points of hardly any weight, then some that are 30 nats nearer, then the nearest: each forgets those before.
    monkeypatch.setattr(product, "TILE", 2**12)
    places = np.concatenate((np.full(1024, 25.0), np.full(14336, 23.8), [12.0]))
    law = Empirical(torch.tensor(places, dtype=torch.float32).unsqueeze(-1), method="product")
    found = law.posterior(torch.zeros(64, 1), 1.0)
    np.testing.assert_allclose(found.displacement.numpy(), 12.0, rtol=2e-5)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_mixed_precision_around_it_changes_nothing(method):
    points = torch.from_numpy(data_set("plain", 400, 3)).float()
    law = Empirical(points, method=method)
    expected = law.posterior(points[:100] + 0.5, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = law.posterior(points[:100] + 0.5, 1.0)
        trace = found.covariance_trace
    torch.testing.assert_close(found.displacement, expected.displacement, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(trace, expected.covariance_trace, rtol=1e-5, atol=1e-6)


def test_the_points_are_a_copy_and_so_is_the_place():
    points, x = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)
    law = Empirical(points)
    before, posterior = law.score(x, 0.1), law.posterior(x, 0.1)
    covariance = law.posterior(x, 0.1).covariance()
    points += 10
    assert torch.equal(law.score(x, 0.1), before)
    x += 5
    assert torch.equal(posterior.covariance(), covariance)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_queries_give_an_empty_answer(method, dtype):
    found = Empirical(torch.zeros(70, 3, dtype=dtype), method=method).posterior(torch.zeros(0, 3, dtype=dtype), 0.1)
    assert found.displacement.shape == (0, 3)
    assert found.covariance_trace.shape == found.log_evidence.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0.0}, r"^tol = 0\.0: expected a finite number > 0"),
        ({"tol": 1e-14}, r"^tol = 1e-14: expected a relative error of 5e-13 at the least"),
        ({"method": "magic"}, r"^method = 'magic': expected one of auto, attention"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Empirical([[0.0], [1.0]], **options)


def test_the_attention_kernel_is_used_only_where_it_is_right(monkeypatch):
    attention.available.cache_clear()
    assert attention.available(torch.float32)
    for wrong in (
        lambda query, rows: (query, query[:, 0]),
        lambda query, rows: (torch.softmax(query @ rows.T, -1) @ rows, torch.zeros(len(query))),
    ):
        attention.available.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(attention, "_flash", wrong)
            assert not attention.available(torch.float32)
    attention.available.cache_clear()


@pytest.mark.parametrize(("kind", "dim", "used"), [("plain", 16, True), ("outlier", 16, False), ("plain", 129, False)])
def test_attention_in_float64_where_no_exponent_is_denormal_and_the_dimension_is_moderate(kind, dim, used, monkeypatch):
    points = torch.from_numpy(data_set(kind, 600, dim))
    law, exact = Empirical(points), Empirical(points, method="difference")
    t, types = 0.25 * dim, []  # many points count, and screening does not pay
    x = exact.diffuse(100, t, generator=0)
    by_attention = reduce.by_attention

    def watched(data, queries, dtype):
        types.append(dtype)
        return by_attention(data, queries, dtype)

    monkeypatch.setattr(reduce, "by_attention", watched)
    found, expected = law.posterior(x, t), exact.posterior(x, t)
    assert set(types) == ({torch.float64} if used else set())
    error = (found.displacement - expected.displacement).norm(dim=-1) / expected.displacement.norm(dim=-1)
    assert error.max() <= 2 * reduce.TOLERANCE
    assert ((found.log_evidence - expected.log_evidence).abs() <= 2 * reduce.TOLERANCE * (1 + expected.log_evidence.abs())).all()
