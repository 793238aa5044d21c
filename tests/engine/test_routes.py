"""The engine's inner workings: parts, merging, the two routes and the choice between them. Its accuracy: tests/distributions."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kss.distributions import Empirical
from kss.engine import data as prepared
from kss.engine import nearest, product, reduce
from kss.engine.data import EPSILON, Data, Queries, Sums, merge
from kss.engine.difference import by_difference
from kss.engine.product import by_product


def problem(n=57, d=3, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    points[n // 2 :: 5] = points[0]
    return torch.from_numpy(points + offset), torch.from_numpy(rng.standard_normal((11, d)) + offset)


def everything(law, x, t):
    posterior = law.posterior(x, t)
    return law.score(x, t), posterior.log_evidence, posterior.covariance(), posterior.covariance_trace


@pytest.mark.parametrize("t", [1e-6, 0.1])
@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("method", ["product", "nearest", "difference"])
@pytest.mark.parametrize(("block", "width"), [(1, 2**14), (7, 2**14), (64, 5)])
def test_parts_give_the_numbers_of_the_whole(monkeypatch, block, width, method, offset, t):
    monkeypatch.setattr(reduce, "FEW", 0)
    points, x = problem(n=40, offset=offset)
    x = x[:3]
    whole = everything(Empirical(points, method=method), x, t)
    parts = []
    monkeypatch.setattr(prepared, "BLOCK", block)
    monkeypatch.setattr(prepared, "WIDTH", width)
    monkeypatch.setattr(product, "TILE", 2 * block)
    for module, name in ((prepared, "merge"), (product, "_place_of_largest"), (nearest, "_survivors")):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, function=function, name=name: parts.append(name) or function(*args))
    found = everything(Empirical(points, method=method), x, t)
    if method == "difference":
        # At least one block of queries was summed in ceil(n/width) parts.
        assert parts.count("merge") >= len(points) // min(width, block) - 1
    else:
        assert parts.count("_place_of_largest" if method == "product" else "_survivors") > 1
    for a, b in zip(found, whole, strict=True):
        # One rounding per part, in weights that sum to 1; sizes are those of the largest entry.
        torch.testing.assert_close(a, b, rtol=0, atol=len(points) * 4 * EPSILON * float(b.abs().max()))


def test_merging_is_commutative_and_associative():
    points, x = problem()
    data = Data(points)
    queries = Queries(x, torch.full((len(x),), data.scale**2 / 0.3, dtype=torch.float64))
    a, b, c = (by_difference(data, queries, part) for part in (slice(0, 9), slice(9, 30), slice(30, 57)))

    def join(first, second):
        return merge(data, queries, first, second)

    whole = by_difference(data, queries, slice(0, 57))
    for found in (join(join(a, b), c), join(a, join(b, c)), join(c, join(b, a)), join(join(c, a), b)):
        for one, other, name in zip(found, whole, Sums._fields, strict=True):
            if name == "reference":
                assert torch.equal(one, other)
            else:
                torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("t", [1e-3, 1.0, 1e3])
def test_both_routes_agree_where_both_are_good(t):
    points, x = problem()
    data = Data(points)
    queries = Queries(x, torch.full((len(x),), data.scale**2 / t, dtype=torch.float64))
    one, other = by_product(data, queries, torch.float64), by_difference(data, queries, slice(None))
    for a, b in zip(one, other, strict=True):
        # Exponents are at most 20/t = 2e4, hence right to 1e-11.
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_fast_route_serves_plain_data_and_the_slow_one_what_it_cannot_resolve(monkeypatch):
    slow = []
    monkeypatch.setattr(
        reduce, "by_difference", lambda data, queries, part: slow.append(len(queries.x)) or by_difference(data, queries, part)
    )
    points, x = problem()
    for t in (1.0, 1e2, 1e4):
        Empirical(points).score(x, t)
    assert slow == []
    # Two points 1e-9 apart in a cloud of size 1: the product cannot tell their distances to x apart.
    pair = torch.cat((points, points[:1] + 1e-9))
    Empirical(pair).score(points[:1] + 5e-10, 1e-18)
    assert slow == [1]


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not function.is_view:
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("full", [False, True])
def test_no_temporary_exceeds_the_block(monkeypatch, offset, full):
    points, x = problem(n=600, offset=offset)
    law = Empirical(points)
    monkeypatch.setattr(prepared, "BLOCK", 1024)
    with Largest() as seen:
        posterior = law.posterior(x.repeat(2, 1), 0.5)
        if full:
            posterior.covariance()
        else:
            assert posterior.covariance_trace.shape == (22,)
    # Copies of a part of the prepared data, four columns wide at most, are the only thing beside it.
    assert 300 < seen.numel <= 1024 * 4


def test_one_point_and_identical_points_prepare():
    for points in ([[0.0, 0.0]], [[1e300, -1e300]] * 3, [[1e-308]] * 2, [[1e300], [-1e300]]):
        data = Data(torch.tensor(points, dtype=torch.float64))
        assert data.scale > 0
        assert torch.isfinite(data.values).all()
