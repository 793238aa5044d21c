"""The route that passes over boxes of points: what it leaves out, what it spares, and that it says so."""

import functools
import math

import numpy as np
import pytest
import torch
from high_precision import EmpiricalReference
from torch.utils._python_dispatch import TorchDispatchMode

from kss.engine import boxes as module
from kss.engine import data as prepared
from kss.engine.boxes import Boxed, Boxes, by_boxes, kept_fraction
from kss.engine.data import EPSILON, Data, Queries, Sums, blockwise
from kss.engine.difference import by_difference

DATA_SETS = ("plain", "shifted", "clusters", "unequal scales", "duplicates", "curve", "outlier", "identical", "one")


def data_set(kind: str, n: int, d: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng([n, d, seed])
    plain = rng.standard_normal((n, d))
    angle = rng.uniform(0, 7, (n, 1))
    points = {
        "plain": plain,
        "shifted": plain + 1e3,
        "clusters": 1e-3 * plain + rng.integers(3, size=(n, 1)),
        "unequal scales": plain * np.logspace(-3, 3, d),
        "duplicates": np.repeat(plain[: n // 20], 20, axis=0),
        "curve": angle * np.cos(angle + np.arange(d)),
        "outlier": np.concatenate((plain[:-1], 1e3 * plain[-1:])),
        "pairs": np.concatenate((plain[: n // 2], plain[: n // 2] + 1e-9)),
        "identical": np.tile(plain[:1], (n, 1)),
        "one": plain[:1],
    }[kind]
    return torch.from_numpy(points)


def queries_near(data: Data, t: float | torch.Tensor, b: int, seed: int = 1, spread: float = 1.0) -> Queries:
    """Typical of `p_t`."""
    rng = np.random.default_rng(seed)
    t = torch.as_tensor(t, dtype=torch.float64).expand(b)
    noise = torch.from_numpy(rng.standard_normal((b, data.dim)))
    x = data.points[torch.from_numpy(rng.integers(len(data), size=b))] + spread * t.sqrt().unsqueeze(-1) * noise
    return Queries.of(data, x, t)


def exact(data: Data, queries: Queries):
    return blockwise(by_difference, data, queries, per_pair=data.dim)


def absorbed(data: Data, queries: Queries) -> torch.Tensor:
    """How far the mean moves when every weight that is less than half a unit in the last place of their sum is lost on the way to it."""
    step = (data.points - queries.x.unsqueeze(-2)) / data.scale
    exponent = -(step**2).sum(-1) * queries.stiffness.unsqueeze(-1) / 2
    weight = exponent.softmax(-1)
    nearest = step.take_along_dim(exponent.argmax(-1)[:, None, None], 1)
    return (torch.where(weight < EPSILON / 2, weight, 0.0) * (step - nearest).norm(dim=-1)).sum(-1)


def assert_as_good_as_it_says(data: Data, queries: Queries, found: Boxed, dropped: float) -> None:
    whole, sums = exact(data, queries), found.sums
    assert not torch.isnan(found.rounding).any()
    assert not torch.isnan(found.lost).any()
    sure = found.rounding < 0.1  # to first order
    moved = distance(data, sums, whole)
    spread = whole.square.sqrt()
    # Terms that a product adds up one by one, where equal ones round alike; and moving the inputs by four units in the last place.
    chain = 4 * EPSILON * math.sqrt(len(data))
    ulps = (4 + data.multiplicity / 2) * EPSILON * (data.points.abs().amax() + queries.x.abs().amax(-1)) / data.scale
    allowed = (2 * found.rounding + chain) * spread + found.lost + absorbed(data, queries) + ulps
    assert (moved <= allowed)[sure].all(), f"{float((moved / allowed)[sure].max()):.2g} times the allowance"
    form = (((queries.x - sums.reference) / data.scale) ** 2).sum(-1) - (((queries.x - whole.reference) / data.scale) ** 2).sum(-1)
    shifted = (sums.log_total - whole.log_total - form * queries.stiffness / 2).abs()
    form_ulps = 16 * EPSILON * (((queries.x - sums.reference) / data.scale) ** 2).sum(-1) * queries.stiffness
    allowed = 2 * found.rounding + 2 * dropped + chain + form_ulps
    assert (shifted <= allowed)[sure].all(), f"{float((shifted / allowed)[sure].max()):.2g} times the allowance"


@pytest.mark.slow
@pytest.mark.parametrize("t", [1e-12, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("kind", DATA_SETS)
def test_the_sums_are_as_good_as_they_say(kind, dim, t):
    data = Data(data_set(kind, 1500, dim))
    queries = queries_near(data, t, 150)
    found = by_boxes(Boxes(data), data, queries)
    assert_as_good_as_it_says(data, queries, found, EPSILON)


def distance(data: Data, one: Sums, other: Sums) -> torch.Tensor:
    """Between the weighted means."""
    return (one.offset - other.offset + (one.reference - other.reference) / data.scale).norm(dim=-1)


def mass_left_out(data: Data, queries: Queries, sums: Sums, whole: Sums) -> torch.Tensor:
    """The share of the total that the sums miss, by comparison with the sums over everything."""
    to_found, to_whole = ((queries.x - some.reference) / data.scale for some in (sums, whole))
    ahead = ((to_found - to_whole) * (to_found + to_whole)).sum(-1) * queries.stiffness / 2
    return -torch.expm1(sums.log_total - ahead - whole.log_total)


@functools.cache
def problems(dim: int) -> list[tuple[Data, Boxes, Queries, Sums]]:
    """Queries among and beside the data, with the sums over everything."""
    found = []
    for kind in ("plain", "clusters", "curve", "outlier"):
        data = Data(data_set(kind, 1500, dim))
        boxes = Boxes(data)
        for t, spread in ((1e-3, 1.0), (1e-2, 1.0), (1e-2, 10.0), (0.1, 3.0)):
            # Noise that differs among neighbors: the softest of them decides.
            queries = queries_near(data, t * torch.linspace(1, 4, 100, dtype=torch.float64), 100, spread=spread)
            found.append((data, boxes, queries, exact(data, queries)))
    return found


def assert_certified(dim: int, dropped: float) -> None:
    most = 0.0
    for data, boxes, queries, whole in problems(dim):
        found = by_boxes(boxes, data, queries, dropped)
        missed = mass_left_out(data, queries, found.sums, whole)
        # An exponent that errs by e changes the share by 2 e at most.
        assert (missed <= dropped + 2 * found.rounding + 1e-13).all(), f"{float(missed.max()):.2g} instead of {dropped:.0e}"
        assert (missed.abs() <= 2 * found.rounding + 1e-13)[found.lost == 0].all()
        assert (distance(data, found.sums, whole) <= found.lost + 2 * found.rounding + 1e-13).all()
        most = max(most, float(missed.max()))
    assert most > 0.0  # some was left out


@pytest.mark.parametrize("dropped", [0.5, 1e-2, 1e-5])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_what_is_left_out_weighs_no_more_than_allowed(dim, dropped):
    assert_certified(dim, dropped)


def to_the_center(self, low, high, reach, part):
    between = (self.low[part] + self.high[part]) / 2 - ((low + high) / 2).unsqueeze(1)
    return (between**2).sum(-1) < reach.unsqueeze(-1)


def to_the_farthest_corner(self, low, high, reach, part):
    farthest = torch.maximum(self.high[part] - low.unsqueeze(1), high.unsqueeze(1) - self.low[part])
    return (farthest**2).sum(-1) < reach.unsqueeze(-1)


def from_the_middle_of_the_queries(self, low, high, reach, part):
    middle = ((low + high) / 2).unsqueeze(1)
    beyond = torch.maximum(self.low[part] - middle, middle - self.high[part]).clamp_min(0.0)
    return (beyond**2).sum(-1) < reach.unsqueeze(-1)


@pytest.mark.parametrize("broken", [to_the_center, to_the_farthest_corner, from_the_middle_of_the_queries])
def test_a_wrong_distance_to_the_boxes_would_be_noticed(monkeypatch, broken):
    monkeypatch.setattr(Boxes, "within", broken)
    with pytest.raises(AssertionError, match="instead of"):
        assert_certified(2, 1e-5)


@pytest.mark.parametrize("kind", ["plain", "pairs", "clusters"])
def test_against_many_digits(kind):
    data = Data(data_set(kind, 600, 2))
    boxes, reference = Boxes(data), EmpiricalReference(data.points.numpy())
    for t in [10.0**k for k in range(-10, 3)]:
        queries = queries_near(data, t, 12, seed=round(1e3 - math.log10(t)))
        found = by_boxes(boxes, data, queries)
        displacement = data.scale * found.sums.offset + found.sums.reference - queries.x
        for k, x in enumerate(queries.x.numpy()):
            truth = reference.at(x, t)
            spread = math.sqrt(max(np.trace(truth.covariance), 0.0))
            allowed = 4 * t * truth.score_per_ulp + 2 * float(found.rounding[k]) * spread + data.scale * float(found.lost[k])
            allowed += 1e-12 * t * np.abs(truth.score).max()
            assert (np.abs(displacement[k].numpy() - t * truth.score) <= allowed).all()


def pairs_of(monkeypatch, data, queries, **kwargs):
    """How many pairs of a query and a point the route sums over."""
    boxes, counted, add = Boxes(data), [], module._add
    monkeypatch.setattr(module, "_add", lambda *args: counted.append(int(args[4].sum()) * module.ROWS * boxes.width) or add(*args))
    by_boxes(boxes, data, queries, **kwargs)
    return sum(counted)


@pytest.mark.parametrize("varying", [False, True])
def test_boxes_are_passed_over(monkeypatch, varying):
    data = Data(data_set("plain", 20_000, 2))
    t = 10.0 ** torch.linspace(-6, -4, 2000, dtype=torch.float64)[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    queries = queries_near(data, t if varying else 1e-5, 2000)
    assert 0 < pairs_of(monkeypatch, data, queries) < (0.4 if varying else 0.12) * 2000 * len(data)
    assert kept_fraction(Boxes(data), data, queries) < 0.05


def test_the_share_kept_is_predicted():
    data = Data(data_set("plain", 20_000, 2))
    boxes = Boxes(data)
    shares = [kept_fraction(boxes, data, queries_near(data, 10.0**k, 1000)) for k in range(-6, 4)]
    assert shares == sorted(shares)
    assert shares[0] < 0.01
    assert shares[-1] == 1.0
    assert kept_fraction(boxes, data, queries_near(data, 1.0, 0)) == 1.0


def test_noise_that_differs_from_row_to_row():
    data = Data(data_set("plain", 3000, 2))
    t = 10.0 ** torch.linspace(-6, 3, 300, dtype=torch.float64)[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    queries = queries_near(data, t, 300)
    assert_as_good_as_it_says(data, queries, by_boxes(Boxes(data), data, queries), EPSILON)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("t", [1e-300, 1e-20, 1.0, 1e20, 1e300])
@pytest.mark.parametrize("kind", ["plain", "identical", "one", "pairs"])
def test_extremes_are_right_or_called_doubtful(kind, t, scale):
    data = Data(scale * data_set(kind, 300, 2))
    place = torch.tensor([[0.3, 0.1], [1e4, -2e4], [1e8, 1e8]], dtype=torch.float64) * scale
    x = torch.cat((data.points[:1], place, torch.tensor([[1e200, -1e200]], dtype=torch.float64)))
    queries = Queries.of(data, x, torch.full((len(x),), t, dtype=torch.float64))
    found = by_boxes(Boxes(data), data, queries)
    whole = exact(data, queries)
    for field in (found.rounding, found.lost):
        assert (field >= 0).all()
    sure = found.rounding < 1e-3
    assert sure[0] or t < 1e-10 * scale**2
    for field in found.sums:
        assert torch.isfinite(field[sure]).all()
    moved = distance(data, found.sums, whole)
    allowed = 2 * found.rounding * whole.square.sqrt() + found.lost + 1e-13
    assert (moved <= allowed)[sure].all()


def test_no_queries_and_few():
    data = Data(data_set("plain", 500, 3))
    for count in (0, 1, module.ROWS, module.ROWS + 1):
        queries = queries_near(data, 1e-3, count)
        found = by_boxes(Boxes(data), data, queries)
        assert found.sums.offset.shape == found.sums.reference.shape == (count, 3)
        assert found.rounding.shape == found.lost.shape == found.sums.rest.shape == (count,)
        assert_as_good_as_it_says(data, queries, found, EPSILON)


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not function.is_view:
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.slow
@pytest.mark.parametrize("t", [1e-6, 1.0])
def test_no_temporary_exceeds_the_block(monkeypatch, t):
    data = Data(data_set("plain", 30_000, 2))
    boxes, queries = Boxes(data), queries_near(data, t, 200)
    whole = by_boxes(boxes, data, queries)
    monkeypatch.setattr(prepared, "BLOCK", 2**13)
    with Largest() as seen:
        parts = by_boxes(boxes, data, queries)
    assert 2**12 < seen.numel <= 2**13
    # The same numbers, added up in another order.
    torch.testing.assert_close(parts.sums.offset, whole.sums.offset, rtol=1e-12, atol=1e-14)
    assert torch.equal(parts.lost, whole.lost)
