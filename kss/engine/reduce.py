r"""Which route computes the sums, and which rows have to be done again.

Routes are tried in turn; each says of every row whether its error is within the tolerance, and the rows that are not go on to the next. The
last, differences over all data, serves every row. So the routes differ in speed alone:

* `nearest`: where the weight lies on few points. Certified.
* `boxes`: in low dimension, where it lies in a small part of space. Certified.
* `attention`: the fastest where all points count: in float32 where that is enough, in float64 where dimension and distances are moderate.
* `product`: where all points count. Rows are tested afterwards, as with `attention`.
* `difference`: anything.

On a graphics card a product over all points is tried first: it was measured to cost less than finding out which ones matter.

The test of a row. An error of at most e in every exponent moves the weighted mean by at most `2 e sd` to first order, with sd
the spread of the weighted data, and the logarithm of the sum by at most `2 e` times the weight off the reference. For e we take the
rounding of a sum of d products that does not conspire, which is what the tests against 50 digits measure; the worst case would carry
a factor d. To it comes the rounding of a sum over the points, in which duplicates conspire. (What is not counted: weights below half a unit
in the last place of their sum can be lost on the way to it, at most N eps/2 together, if there are that many of them.)
"""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kss.engine import attention
from kss.engine.attention import by_attention
from kss.engine.boxes import ROWS, Boxes, by_boxes, kept_fraction
from kss.engine.data import EPSILON, Data, Frame, Queries, Sums, blockwise, differentiated, single_is_single
from kss.engine.difference import by_difference
from kss.engine.moments import second_moment
from kss.engine.nearest import by_nearest, survivors
from kss.engine.product import by_product

METHODS = ("auto", "attention", "product", "nearest", "boxes", "difference")
TOLERANCE, NARROW_TOLERANCE = 5e-13, 1e-5
"""Default relative error of a row, if float64 or less is asked for."""
NARROW = 1e-6
"""From this tolerance on float32 is tried."""
FEW = 2**14
"""Pairs of a query and a point up to which choosing costs more than it saves."""
SMALL = 256
"""Points of which differences to all cost no more than finding out which ones matter."""
SAMPLE = 16
"""Queries that are screened to see whether screening pays."""
NEAR_DIM, MANY, KEPT = 8, 10**6, 0.4
"""Boxes pay up to this dimension, from so many pairs on, and when they leave this share of the pairs."""
ATTENTIVE = 128
"""Up to this dimension the attention kernel beats the products in float64."""
CALM = 700.0
"""Exponents down to minus this have no denormal exponentials, which the attention kernel would be slow with."""
CHAIN = 512
"""Terms that a matrix product or the attention kernel adds up one by one, before it adds up such sums."""
GAP, ALL = 80.0, 760.0
"""The weight left out is below exp(-80); below exp(-760) it is nothing at all in float64."""

Route = Callable[[Queries], tuple[Sums, Bool[Tensor, " b"]]]
"""Of some queries, the sums of those rows that are good, in order, and which these are."""


def reduce(data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], tolerance: float, method: str = "auto") -> Sums:
    """The sums over all data for every row of `x`; displacement and log-density err by at most `tolerance`, relative to themselves.

    (To the latter 1 is added. In float64 the rounding of the inputs is allowed besides.)
    """
    queries = Queries.of(data, x, t)
    left, rows, parts = torch.arange(len(x), device=x.device), [], []
    for route in _routes(data, queries, tolerance, method):
        some = queries if len(left) == len(x) else queries.rows(left)
        sums, good = route(some)
        rows.append(left[good])
        parts.append(sums)
        left = left[~good]
        if len(left) == 0:
            break
    if len(parts) == 1:
        return parts[0]
    order = torch.cat(rows).argsort()
    return Sums(*(torch.cat(fields)[order] for fields in zip(*parts, strict=True)))


def _routes(data: Data, queries: Queries, tolerance: float, method: str) -> Iterator[Route]:
    narrow = tolerance >= NARROW and single_is_single()
    dtype = torch.float32 if narrow else torch.float64
    served = not queries.x.is_cuda and attention.available(dtype)

    def tested(sums_of: Callable[[Data, Queries, torch.dtype], Sums], dtype: torch.dtype) -> Route:
        return lambda some: _tested(sums_of, data, some, tolerance, dtype)

    def screened(most: int, softest: float = 0.0) -> Route:
        return lambda some: _screened(data, some, tolerance, most, softest)

    def boxed(together: int) -> Route:
        return lambda some: _boxed(data, some, tolerance, together)

    def different(some: Queries) -> tuple[Sums, Bool[Tensor, " b"]]:
        return blockwise(by_difference, data, some, per_pair=data.dim), torch.ones_like(some.stiffness, dtype=torch.bool)

    wide, thin = tested(by_product, torch.float64), tested(by_attention if served else by_product, dtype)
    if differentiated(*queries):
        yield wide
        yield different
        return
    if method == "nearest":
        yield screened(_few(data))
    elif method == "boxes":
        yield boxed(ROWS)
    elif method == "attention":
        yield thin
    elif method == "product":
        yield tested(by_product, dtype)
    elif method == "auto" and queries.x.is_cuda:
        yield thin
    elif method == "auto" and (len(queries.x) * len(data) <= FEW or len(data) <= SMALL):
        yield wide
        yield different
        return
    elif method == "auto":
        near = data.dim <= NEAR_DIM and len(queries.x) * len(data) >= MANY
        if near and kept_fraction(Boxes.of(data), data, queries) < KEPT:
            yield boxed(ROWS)
        else:
            softest = _softest(data, queries)
            if softest < torch.inf:
                yield screened(_few(data), softest)
            attentive = (narrow or (served and data.dim <= ATTENTIVE and _calm(data, queries))) and _serves(thin, queries)
            if attentive:
                yield thin
            # In the same precision a product knows the exponents no better.
            hopeless = near and ((attentive and not narrow) or not _serves(wide, queries))
            yield boxed(ROWS) if hopeless else wide
    if method != "difference":
        if narrow:
            yield wide
        # Where a product does not know the exponents well enough, one about a center close by does, or differences to those that matter.
        if data.dim <= NEAR_DIM:
            yield boxed(ROWS // 8)
            yield boxed(1)
        yield screened(len(data) // 8)
    yield different


def _serves(route: Route, queries: Queries) -> bool:
    """Whether some sampled rows are good, most of them."""
    return len(queries.x) < 4 * SAMPLE or float(route(_sample(queries))[1].double().mean()) > 0.5


def _calm(data: Data, queries: Queries) -> bool:
    """Whether no exponent can be so low that its exponential is a denormal number."""
    return bool((queries.stiffness * (_distance(data, queries) + data.radius) ** 2 / 2).amax() < CALM)


def _sample(queries: Queries) -> Queries:
    return queries.rows(torch.linspace(0, len(queries.x) - 1, SAMPLE).long().to(queries.x.device))


def _tested(
    sums_of: Callable[[Data, Queries, torch.dtype], Sums], data: Data, queries: Queries, tolerance: float, dtype: torch.dtype
) -> tuple[Sums, Bool[Tensor, " b"]]:
    """The sums in `dtype`, of the rows whose error is within the tolerance."""
    error = _exponent_error(data, queries, dtype)
    # Where the error exceeds 1 the first order says nothing: not even the nearest point is known.
    hopeful = error <= 1
    some, error = (queries, error) if bool(hopeful.all()) else (queries.rows(hopeful), error[hopeful])
    sums = sums_of(data, some, dtype)
    good = _good(data, some, sums, error, data.radius, tolerance, dtype)
    if bool(good.all()):
        return sums, hopeful
    return Sums(*(field[good] for field in sums)), hopeful.index_put((hopeful.nonzero().squeeze(-1),), good)


def _boxed(data: Data, queries: Queries, tolerance: float, together: int) -> tuple[Sums, Bool[Tensor, " b"]]:
    """The sums of the rows where what the boxes leave out, and rounding about their own centers, is within the tolerance."""
    if len(queries.x) * len(data) <= FEW:
        return _none(queries)
    # Rows that come here again may have small displacements, beside which less may be left out.
    boxed = by_boxes(Boxes.of(data), data, queries, EPSILON if together == ROWS else EPSILON**1.5, together)
    sums, error = boxed.sums, boxed.rounding
    # From the error of an exponent back to the distances that make it.
    size = (error / (EPSILON * queries.stiffness)).sqrt()
    good = (error <= 1) & _good(data, queries, sums, error, size, tolerance, torch.float64)
    good &= boxed.lost <= tolerance * _displacement(data, queries, sums)
    return sums if bool(good.all()) else Sums(*(field[good] for field in sums)), good


def _screened(data: Data, queries: Queries, tolerance: float, most: int, softest: float) -> tuple[Sums, Bool[Tensor, " b"]]:
    """The sums of the rows whose weight lies on few points; of those only that are as stiff as `softest`."""
    if len(queries.x) * len(data) <= FEW or most == 0:
        return _none(queries)
    stiff = queries.stiffness >= softest
    some = queries if bool(stiff.all()) else queries.rows(stiff)
    sums, found = by_nearest(data, some, GAP, most)
    vague = (~(2 * math.exp(-GAP) <= tolerance * _displacement(data, some.rows(found), sums))).nonzero().squeeze(-1)
    if len(vague):  # where displacements are next to nothing
        rows = found.nonzero().squeeze(-1)
        again, exact = by_nearest(data, some.rows(rows[vague]), ALL, most)
        sums = Sums(*(old.index_copy(0, vague[exact], new) for old, new in zip(sums, again, strict=True)))
        lost = vague[~exact]
        found[rows[lost]] = False
        kept = torch.ones_like(sums.rest, dtype=torch.bool).index_fill(0, lost, False)
        sums = Sums(*(field[kept] for field in sums))
    return sums, stiff.index_put((stiff.nonzero().squeeze(-1),), found)


def _none(queries: Queries) -> tuple[Sums, Bool[Tensor, " b"]]:
    """What a route gives that is not worth its while for so few."""
    x, none = queries.x[:0], queries.stiffness[:0]
    return Sums(x, none, x, none, none), torch.zeros_like(queries.stiffness, dtype=torch.bool)


def _few(data: Data) -> int:
    """Points on which the weight of a row may lie for screening to pay."""
    return min(max(SAMPLE, len(data) // 512), 64)


def _softest(data: Data, queries: Queries) -> float:
    """The least stiffness at which nine in ten of some sampled rows, and of those stiffer, have their weight on few points."""
    if len(queries.x) < 4 * SAMPLE:
        return math.inf
    sample = _sample(queries)
    stiffness, order = sample.stiffness.sort(descending=True)
    found = (survivors(data, sample, GAP) <= _few(data))[order].double()
    share = found.cumsum(0) / torch.arange(1, SAMPLE + 1, device=found.device)
    # Among equals the last decides.
    last = stiffness != torch.cat((stiffness[1:], stiffness.new_zeros(1)))
    served = stiffness[last & (share >= 0.9)]
    return float(served[-1]) if len(served) else math.inf


def trace(data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], sums: Sums, tolerance: float) -> Float[Tensor, " B"]:
    """The trace of the covariance, in the user's units: from the sums where they are good enough for it, else by a second pass."""
    queries = Queries.of(data, x, t)
    dtype = torch.float32 if tolerance >= NARROW else torch.float64
    central = (sums.square - (sums.offset**2).sum(-1)).clamp_min(0.0)
    with torch.no_grad():
        rounding = 8 * torch.finfo(dtype).eps * math.sqrt(min(len(data), CHAIN) + len(data) / CHAIN)
        # An error of e in every exponent moves a mean of squares by 4 e of itself at the most, to first order.
        error = (4 * _exponent_error(data, queries, dtype) + rounding) * sums.square + rounding * sums.rest
        again = (~(error <= tolerance * central)).nonzero().squeeze(-1)
    result = central * data.scale**2
    if len(again) == 0:
        return result
    some = Sums(*(field[again] for field in sums))
    return result.index_copy(0, again, second_moment(data, x[again], t[again], some, full=False))


def resolved(whole: Frame, queries: Queries, sums: Sums) -> Bool[Tensor, " b"]:
    """Rows that are within `TOLERANCE` when sums over parts of the data, each good in itself and in float64, have been merged.

    It takes this second look because the displacements of the parts may cancel.
    """
    error = _exponent_error(whole, queries, torch.float64)
    return (error <= 1) & _good(whole, queries, sums, error, whole.radius, TOLERANCE, torch.float64)


def _displacement(data: Data, queries: Queries, sums: Sums) -> Float[Tensor, " b"]:
    step = ((queries.x - sums.reference) / data.scale).clamp(-1e150, 1e150)
    return (sums.offset - step).norm(dim=-1)


def _exponent_error(data: Frame, queries: Queries, dtype: torch.dtype) -> Float[Tensor, " b"]:
    with torch.no_grad():
        return torch.finfo(dtype).eps * data.radius * (_distance(data, queries) + data.radius) * queries.stiffness


def _distance(data: Frame, queries: Queries) -> Float[Tensor, " b"]:
    """From the center of the data, in their unit."""
    return ((queries.x - data.center) / data.scale).clamp(-1e150, 1e150).norm(dim=-1)


def _good(
    data: Frame, queries: Queries, sums: Sums, error: Float[Tensor, " b"], size: float | Tensor, tolerance: float, dtype: torch.dtype
) -> Bool[Tensor, " b"]:
    """Rows whose error, to first order, is within `tolerance` relative to the displacement, and to 1 plus the log-density.

    `error` is that of an exponent, and `size` that of the coordinates that were added up.
    """
    with torch.no_grad():
        eps, chain = torch.finfo(dtype).eps, math.sqrt(min(len(data), CHAIN) + len(data) / CHAIN)
        spread = ((sums.square - (sums.offset**2).sum(-1)).clamp_min(0.0) + 8 * eps * sums.rest).sqrt()
        repeated = min(data.multiplicity - 1, CHAIN) + data.multiplicity / CHAIN
        summed = (2 + 2 * math.sqrt(repeated)) * eps
        rounded = summed * size * sums.rest
        if dtype == torch.float64:  # the rounding of the inputs excuses as much
            rounded = (rounded - 4 * eps * queries.x.norm(dim=-1) / data.scale).clamp_min(0.0)
        moved = (error + summed) * spread + rounded
        step = ((queries.x - sums.reference) / data.scale).clamp(-1e150, 1e150)
        log_normalizer = math.log(len(data)) + queries.x.shape[-1] / 2 * (
            math.log(2 * math.pi) + 2 * math.log(data.scale) - queries.stiffness.log()
        )
        log_density = (sums.log_total - (step**2).sum(-1) * queries.stiffness / 2 - log_normalizer).abs()
        raised = (error + 4 * eps * chain) * sums.rest
        # `<=`, so that NaN is not good.
        return (moved <= tolerance * (sums.offset - step).norm(dim=-1)) & (raised <= tolerance * (1 + log_density))
