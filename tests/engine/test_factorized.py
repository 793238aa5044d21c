"""Averages over shared nodes by products of two factors, against sums written from the definition."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kss.engine import factorized
from kss.engine.data import Data
from kss.engine.factorized import averages

TINY = torch.finfo(torch.float64).tiny


def by_definition(points, x, t, nodes, weights):
    """`sum_j w_kj (m_t(x + V_rj) - x)` (k, r, n, d), in extended precision, and the mean size of its summands (n,)."""
    points, x, nodes, weights = (np.asarray(a, np.longdouble) for a in (points, x, nodes, weights))
    e = points[None] - x[:, None]
    exponent = np.einsum("rmd,nid->nrmi", nodes, e) / t - (e**2).sum(-1)[:, None, None] / (2 * t)
    weight = np.exp(exponent - exponent.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    value = np.einsum("nrmi,nid->nrmd", weight, e)
    size = np.einsum("nrm,m->n", np.linalg.norm(value, axis=-1), weights[0]) / nodes.shape[0]
    return np.einsum("nrmd,km->krnd", value, weights), size.astype(float)


def random_problem(rng):
    """Data, queries, noise variance, nodes and weights; of size about 1."""
    d, n = int(rng.choice([1, 2, 3, 5, 20])), int(rng.choice([1, 2, 3, 7, 40, 300]))
    points = rng.standard_normal((n, d))
    if rng.random() < 0.3:
        points[n // 2 :] = points[0]
    if rng.random() < 0.3:
        points += 10.0 ** rng.uniform(0, 6)
    t = 10 ** rng.uniform(-8, 5)
    h = t * 10 ** rng.uniform(-4, 3) * (rng.random() < 0.95)
    x = points[rng.integers(n, size=9)] + math.sqrt(t) * rng.standard_normal((9, d)) * (1e8 if rng.random() < 0.1 else 1.0)
    replicates, m = (1, 17) if rng.random() < 0.5 else (4, 8)
    weights = rng.random((2, m))
    weights[0] /= weights[0].sum()
    weights[1] -= weights[1].mean()  # as a tilt, of both signs
    return points, x, t, math.sqrt(h) * rng.standard_normal((replicates, m, d)), weights


def tensors(points, x, t, nodes, weights, unit=1.0):
    lengths = [torch.from_numpy(np.asarray(unit * a)) for a in (points, x, nodes)]
    return Data(lengths[0]), lengths[1], torch.tensor(t * unit**2, dtype=torch.float64), lengths[2], torch.from_numpy(weights)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_definition_within_the_bound_it_gives(seed):
    rng, served, rows = np.random.default_rng(seed), 0, 0
    for _ in range(60):
        points, x, t, nodes, weights = random_problem(rng)
        unit = 2.0 ** int(rng.choice([0, 0, -500, 500]))
        found = averages(*tensors(points, x, t, nodes, weights, unit))
        expected, size = by_definition(points, x, t, nodes, weights)
        displacement, error = found.displacement.numpy() / unit, found.error.numpy() / unit
        assert np.isfinite(displacement).all()
        assert not np.isnan(error).any()
        # The definition, in more digits, errs by a few eps of the parts of its exponents.
        far = np.linalg.norm(points[None] - x[:, None], axis=-1).max(-1)
        reach = np.linalg.norm(nodes, axis=-1).max()
        own = 16 * np.finfo(np.longdouble).eps * (1 + far * (far + 2 * reach) / t) * far
        off = np.linalg.norm((displacement - expected).mean(1)[0], axis=-1)
        assert (off <= error + own).all()
        fine = error <= 1e-9 * size
        # The sums over each replicate and with other weights have no bound of their own, and the same size of error.
        single = np.linalg.norm(displacement - expected, axis=-1).max((0, 1))
        assert (single <= 20 * error + 20 * own)[fine].all()
        served, rows = served + int((error <= 1e-11 * size).sum()), rows + len(x)
    assert served >= 0.4 * rows


def test_serves_plain_data_to_rounding():
    # Ten standard deviations of the noise from end to end, and a kernel as wide as the data.
    rng = np.random.default_rng(0)
    for d in (1, 2, 8, 64):
        points, x = rng.standard_normal((50, d)), rng.standard_normal((20, d))
        nodes, weights = rng.standard_normal((1, 40, d)), np.full((1, 40), 1 / 40)
        for t in (0.1, 1.0, 1e3):
            found = averages(*tensors(points, x, t, nodes, weights))
            expected, size = by_definition(points, x, t, nodes, weights)
            assert (found.error.numpy() <= 1e-11 * size).all()
            np.testing.assert_allclose(found.displacement.numpy(), expected.astype(float), rtol=0, atol=1e-12 * size.max())


def test_one_point_is_exact():
    point = np.full((1, 3), 0.7)
    x, nodes, weights = np.eye(3), np.random.default_rng(0).standard_normal((2, 4, 3)), np.full((1, 4), 0.25)
    for t in (1e-300, 1e-15, 1.0, 1e300):
        found = averages(*tensors(point, x, t, nodes, weights))
        reliable = found.error.isfinite()
        assert torch.equal(found.displacement[0, 0][reliable], torch.from_numpy(point - x)[reliable])
        assert bool(reliable.all()) == (t >= 1.0)


def test_what_is_far_away_keeps_its_digits():
    # Nothing but the weight exp(-2/t) of the other point pulls away from the first.
    points, x, weights = np.array([[-1.0], [1.0]]), np.array([[-1.0]]), np.full((1, 2), 0.5)
    for t in (0.1, 0.05, 0.025):
        nodes = 0.1 * t * np.array([[[-1.0], [1.0]]])
        found = averages(*tensors(points, x, t, nodes, weights))
        expected, _ = by_definition(points, x, t, nodes, weights)
        np.testing.assert_allclose(found.displacement.numpy(), expected.astype(float), rtol=1e-12, atol=0)


def test_the_bound_covers_what_a_near_tie_makes_of_rounded_exponents():
    rng, offs = np.random.default_rng(4), []
    for _ in range(30):
        place, step = rng.standard_normal(3), 1e-4 * rng.standard_normal(3)
        points = np.stack((place, place + step, -place))
        x, nodes = (place + step / 2)[None], 1e-5 * rng.standard_normal((1, 4, 3))
        weights = np.full((1, 4), 0.25)
        found = averages(*tensors(points, x, 1e-8, nodes, weights))
        expected, _ = by_definition(points, x, 1e-8, nodes, weights)
        offs.append(float(np.linalg.norm(found.displacement.numpy() - expected)))
        assert offs[-1] <= float(found.error)
    assert max(offs) > 1e-13  # far more than sums would err by if their exponents were exact


@pytest.mark.parametrize("gap", [500.0, 580.0, 680.0, 760.0, 5000.0])
def test_says_so_where_the_sums_leave_the_range(gap):
    # x is at the one end, the node pulls to the other, and the middle is the nearest to x + V: its exponents add up to -gap, those of the
    # ends, which are cut at -650, to -4/3 gap.
    points = np.array([[-1.0], [0.0], [1.0]])
    t = 1.5 / gap
    found = averages(*tensors(points, np.array([[-1.0]]), t, np.array([[[1.0]]]), np.ones((1, 1))))
    expected, _ = by_definition(points, np.array([[-1.0]]), t, np.array([[[1.0]]]), np.ones((1, 1)))
    off = np.abs(found.displacement.numpy() - expected).max()
    assert off <= float(found.error) + 1e-15
    assert (float(found.error) <= 1e-11) == (gap < 600)


class Watching(TorchDispatchMode):
    """The size of the largest tensor that any operation returned, and whether any held a denormal number."""

    numel, denormal = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not function.is_view:
            self.numel = max(self.numel, result.numel())
            if result.dtype == torch.float64:
                plain = result.numpy() if result.device.type == "cpu" else np.zeros(1)
                self.denormal |= bool(((plain != 0) & (np.abs(plain) < TINY)).any())
        return result


@pytest.mark.parametrize("t", [1e-5, 1e-3, 3e-3, 6e-3, 1e-2, 1.0])
@pytest.mark.parametrize("ratio", [0.1, 3.0])
def test_no_product_is_denormal(t, ratio):
    rng = np.random.default_rng(1)
    points, x = rng.standard_normal((200, 2)), rng.standard_normal((50, 2))
    nodes = math.sqrt(ratio * t) * rng.standard_normal((2, 40, 2))
    weights = rng.random((2, 40)) ** 20
    weights[1, ::2] *= -1
    problem = tensors(points, x, t, nodes, weights / weights[0].sum())
    with Watching() as seen:
        averages(*problem)
    assert not seen.denormal


def test_tiles_do_not_change_the_numbers_and_no_temporary_exceeds_them(monkeypatch):
    rng = np.random.default_rng(2)
    points, x, nodes = rng.standard_normal((150, 3)), rng.standard_normal((20, 3)), 0.5 * rng.standard_normal((4, 10, 3))
    weights = rng.random((2, 10))
    problem = tensors(points, x, 0.2, nodes, weights / weights[0].sum())
    whole = averages(*problem)
    for tile, width in ((2**10, 2**11), (2**10, 37), (2**9, 16)):
        monkeypatch.setattr(factorized, "TILE", tile)
        monkeypatch.setattr(factorized, "WIDTH", width)
        with Watching() as seen:
            parts = averages(*problem)
        # Beside the tiles there are the sums themselves, 2 x 4 x 20 of 3 + 2 numbers.
        assert seen.numel <= max(tile, 2 * 4 * 20 * 5)
        torch.testing.assert_close(parts.displacement, whole.displacement, rtol=0, atol=1e-13)
        torch.testing.assert_close(parts.error, whole.error, rtol=1e-9, atol=0)


def test_leaves_derivatives_to_others():
    rng = np.random.default_rng(3)
    data, x, t, nodes, weights = tensors(
        rng.standard_normal((5, 2)), rng.standard_normal((3, 2)), 0.5, np.ones((1, 2, 2)), np.full((1, 2), 0.5)
    )
    assert averages(data, x, t, nodes, weights) is not None
    assert averages(data, x.clone().requires_grad_(), t, nodes, weights) is None
    assert averages(data, x, t.clone().requires_grad_(), nodes, weights) is None
    assert averages(data, x, t, nodes.clone().requires_grad_(), weights) is None
    with torch.no_grad():
        assert averages(data, x.clone().requires_grad_(), t, nodes, weights) is not None
    asked = []
    torch.func.jvp(lambda u: asked.append(averages(data, x, u, nodes, weights)) or u, (t,), (torch.ones_like(t),))
    torch.func.grad(lambda y: asked.append(averages(data, y, t, nodes, weights)) or y.sum())(x)
    assert asked == [None, None]
