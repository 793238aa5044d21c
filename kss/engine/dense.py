r"""Softmax averages over a data set, in float64, to the accuracy the inputs allow and in bounded memory.

For a query x, noise variance t and data x_i the posterior needs `L_i = -|x - x_i|^2/(2t)`, the weights
`w = softmax(L)`, `sum_i w_i (x_i - x)` and `log sum_i exp(L_i)`. Everything is held relative to a *reference*, a data
point that is (nearly) the closest to x:

    L_i - L_ref = e_i . (g - e_i/2) / t,      e_i = x_i - x_ref,   g = x - x_ref,
    sum_i w_i x_i - x = (x_ref - x) + sum_i w_i e_i,

so that nothing of the size of the data is ever subtracted from something close to it. Two routes give the same sums:

* `_by_product`: the exponents by one matrix product on centered data. Fast; an exponent errs by about
  `eps R (|x - c| + R)/t`, with c the center and R the radius of the data.
* `_by_difference`: the differences e_i themselves. Slower by an order of magnitude, and backward stable: it errs by
  what moving x and the data by a few units in the last place would change.

`reduce` takes the first and repeats with the second the rows whose error bound exceeds `TOLERANCE`. Sums over parts of
the data `merge` associatively, so neither the number of queries nor that of the data sets the memory.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK = 2**20
"""Numbers in the largest temporary array (8 MiB each; a handful live at once)."""
WIDTH = 2**14
"""Most points in a part: a block then holds many queries, which the matrix product and the allocator both prefer."""
TOLERANCE = 5e-13
"""Relative error of a row, as estimated a posteriori, beyond which it is done again by differences."""
EXPONENT_FLOOR = -600.0
"""Exponents are cut here: exp(-600) is below rounding beside 1, and below -708 float64 turns denormal and slow."""
FLOOR_WEIGHT = math.exp(EXPONENT_FLOOR)
LARGEST = 1e300
"""Stands for "too large to matter": finite, so that 0 * LARGEST is 0 and never NaN."""
EPSILON = torch.finfo(torch.float64).eps


class Data:
    """Data prepared once: the points, and a copy centered and scaled (by a power of two, hence exactly) to radius <= 1."""

    def __init__(self, points: Float[Tensor, "N d"]) -> None:
        self.points = points.double()
        # Halved first: the sum of points near the largest float would overflow.
        self.center = 2 * (self.points / (2 * len(self.points))).sum(0)
        centered = self.points - self.center
        widest = float(centered.abs().max())
        radius = widest * float((centered / widest).norm(dim=-1).max()) if widest > 0 else 1.0
        self.scale = 2.0 ** math.ceil(math.log2(radius))
        keys = centered / self.scale
        # One more value column carries |z_i|^2: the spread of the weights then costs nothing extra.
        self.values = torch.cat((keys, (keys**2).sum(-1, keepdim=True)), -1)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def dim(self) -> int:
        """Ambient dimension d."""
        return self.points.shape[1]


class Sums(NamedTuple):
    """Sums over (part of) the data, for each query, relative to a reference point; lengths in units of `Data.scale`."""

    reference: Float[Tensor, "b d"]
    """A data point, in the user's coordinates."""
    log_total: Float[Tensor, " b"]
    """`log sum_i exp(L_i - L_ref)`."""
    offset: Float[Tensor, "b d"]
    """`sum_i w_i e_i`, with weights that sum to 1."""
    square: Float[Tensor, " b"]
    """`sum_i w_i |e_i|^2`."""
    rest: Float[Tensor, " b"]
    """The weight of all points but the reference."""


class Queries(NamedTuple):
    """Points x (b, d) and the factor `scale^2/t` (b,) that turns scaled squared distances into exponents."""

    x: Float[Tensor, "b d"]
    stiffness: Float[Tensor, " b"]

    def rows(self, index: slice | Tensor) -> "Queries":
        """Some of the rows."""
        return Queries(self.x[index], self.stiffness[index])


def reduce(data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"]) -> Sums:
    """The sums over all data, for every row of `x`; exact to a few units in the last place of the inputs."""
    queries = Queries(x, ((data.scale / t.sqrt()) ** 2).clamp_max(LARGEST))
    sums = _blockwise(_by_product, data, queries, per_pair=1)
    if bool((doubtful := _doubtful(data, queries, sums)).any()):
        index = doubtful.nonzero().squeeze(-1)
        exact = _blockwise(_by_difference, data, queries.rows(index), per_pair=data.dim)
        sums = Sums(*(old.index_copy(0, index, new) for old, new in zip(sums, exact, strict=True)))
    return sums


def second_moment(
    data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], sums: Sums, *, full: bool
) -> Float[Tensor, "B d d"] | Float[Tensor, " B"]:
    """The covariance of the data under the weights that gave `sums` (full), or its trace; in the user's units.

    `sums` gives reference, center and size of the weights, to an accuracy that may fall short of the spread of the data;
    what they miss is subtracted by the moments of order 0 and 1 about them.
    """
    queries = Queries(x, ((data.scale / t.sqrt()) ** 2).clamp_max(LARGEST))
    results = []
    for rows, parts in _blocks(data, len(x), per_pair=data.dim):
        block, known = queries.rows(rows), Sums(*(field[rows] for field in sums))
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        mass, first, second = zero, zero, zero
        for part in parts:
            e = (data.points[part] - known.reference.unsqueeze(-2)) / data.scale
            exponent = _exponents(data, block, e, known.reference) * block.stiffness.unsqueeze(-1)
            weight = (exponent - known.log_total.unsqueeze(-1)).clamp_min(EXPONENT_FLOOR).exp() - FLOOR_WEIGHT
            e = e - known.offset.unsqueeze(-2)
            mass = mass + weight.sum(-1)
            first = first + (weight.unsqueeze(-2) @ e).squeeze(-2)
            second = second + ((weight.unsqueeze(-1) * e).mT @ e if full else (weight * (e**2).sum(-1)).sum(-1))
        first = first / mass.unsqueeze(-1)
        if full:
            results.append(second / mass[..., None, None] - first.unsqueeze(-1) * first.unsqueeze(-2))
        else:
            results.append((second / mass - (first**2).sum(-1)).clamp_min(0.0))
    return torch.cat(results) * data.scale**2


def merge(data: Data, queries: Queries, first: Sums, second: Sums) -> Sums:
    """The sums over two disjoint parts of the data. Associative and commutative up to rounding."""
    shift = (second.reference - first.reference) / data.scale
    ratio = _exponents(data, queries, shift.unsqueeze(-2), first.reference).squeeze(-1) * queries.stiffness
    swap = ratio > 0

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(swap.reshape(-1, *[1] * (a.ndim - 1)), b, a)

    near = Sums(*(choose(a, b) for a, b in zip(first, second, strict=True)))
    far = Sums(*(choose(b, a) for a, b in zip(first, second, strict=True)))
    shift = choose(shift, -shift)
    log_far = far.log_total - ratio.abs()
    log_total = torch.logaddexp(near.log_total, log_far)
    w_far = (log_far - log_total).clamp_min(EXPONENT_FLOOR).exp() - FLOOR_WEIGHT
    w_near = (near.log_total - log_total).exp()
    far_square = far.square + 2 * (far.offset * shift).sum(-1) + (shift**2).sum(-1)
    return Sums(
        reference=near.reference,
        log_total=log_total,
        offset=w_near.unsqueeze(-1) * near.offset + w_far.unsqueeze(-1) * (far.offset + shift),
        square=w_near * near.square + w_far * far_square,
        rest=w_near * near.rest + w_far,
    )


def _blocks(data: Data, count: int, per_pair: int) -> Iterator[tuple[slice, list[slice]]]:
    """Blocks of queries, each with the parts of the data to run over, so that no temporary exceeds `BLOCK` numbers."""
    width = min(len(data), WIDTH, max(1, BLOCK // per_pair))
    height = max(1, BLOCK // (width * per_pair))
    parts = [slice(i, min(i + width, len(data))) for i in range(0, len(data), width)]
    for i in range(0, max(count, 1), height):  # no queries make one empty block
        yield slice(i, min(i + height, count)), parts


def _blockwise(route: Callable[[Data, Queries, slice], Sums], data: Data, queries: Queries, per_pair: int) -> Sums:
    blocks = []
    for rows, parts in _blocks(data, len(queries.x), per_pair):
        block = queries.rows(rows)
        sums = route(data, block, parts[0])
        for part in parts[1:]:
            sums = merge(data, block, sums, route(data, block, part))
        blocks.append(sums)
    return Sums(*(torch.cat(fields) for fields in zip(*blocks, strict=True)))


def _similarity(data: Data, queries: Queries, part: slice) -> Float[Tensor, "b n"]:
    """`y . z_i - |z_i|^2/2` in scaled, centered coordinates: `L_i` up to the stiffness and a constant of the row."""
    y = ((queries.x - data.center) / data.scale).clamp(-LARGEST, LARGEST)
    values = data.values[part]
    return torch.addmm(values[:, -1], y, values[:, :-1].T, beta=-0.5)


def _by_product(data: Data, queries: Queries, part: slice) -> Sums:
    similarity = _similarity(data, queries, part)
    index = similarity.detach().argmax(-1, keepdim=True)
    exponent = (similarity - similarity.gather(-1, index)) * queries.stiffness.unsqueeze(-1)
    weight = exponent.clamp_min(EXPONENT_FLOOR).exp() - FLOOR_WEIGHT
    # The reference counts 1, outside the sums: what is left keeps its relative accuracy however small it is.
    weight = weight.scatter(-1, index, 0.0)
    others = weight.sum(-1)
    moments, nearest = weight @ data.values[part], data.values[part][index.squeeze(-1)]
    first, total = moments[:, :-1], 1 + others
    square = moments[:, -1] - 2 * (first * nearest[:, :-1]).sum(-1) + others * nearest[:, -1]
    return Sums(
        reference=data.points[part][index.squeeze(-1)],
        log_total=others.log1p(),
        offset=(first - others.unsqueeze(-1) * nearest[:, :-1]) / total.unsqueeze(-1),
        square=square.clamp_min(0.0) / total,
        rest=others / total,
    )


def _by_difference(data: Data, queries: Queries, part: slice) -> Sums:
    points = data.points[part]

    def differences(index: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        reference = points[index]
        e = (points - reference.unsqueeze(-2)) / data.scale
        return e, _exponents(data, queries, e, reference)

    # The matrix product finds a point that is closest up to its own rounding; one step of refinement mends that.
    _, exponent = differences(_similarity(data, queries, part).detach().argmax(-1))
    index = exponent.detach().argmax(-1)
    e, exponent = differences(index)
    most = exponent.amax(-1)
    weight = ((exponent - most.unsqueeze(-1)) * queries.stiffness.unsqueeze(-1)).clamp_min(EXPONENT_FLOOR).exp() - FLOOR_WEIGHT
    total = weight.sum(-1)
    weight = weight / total.unsqueeze(-1)
    return Sums(
        reference=points[index],
        log_total=total.log() + most * queries.stiffness,
        offset=(weight.unsqueeze(-1) * e).sum(-2),  # summed in pairs, where a product adds up one by one
        square=(weight * (e**2).sum(-1)).sum(-1),
        rest=1 - weight.gather(-1, index.unsqueeze(-1)).squeeze(-1),
    )


def _exponents(data: Data, queries: Queries, e: Float[Tensor, "b n d"], reference: Float[Tensor, "b d"]) -> Float[Tensor, "b n"]:
    """`e_i . (g - e_i/2)`: `L_i - L_ref` up to the stiffness."""
    g = ((queries.x - reference) / data.scale).clamp(-LARGEST, LARGEST).unsqueeze(-2)
    return (e * (g - e / 2)).sum(-1)


def _doubtful(data: Data, queries: Queries, sums: Sums) -> Bool[Tensor, " b"]:
    """Rows whose error, to first order, may exceed `TOLERANCE` relative to the displacement or the log-density.

    An error of at most e in every exponent moves the weighted mean by at most `2 e sd`, with sd the spread of the
    weighted data, and the logarithm of the sum by at most `2 e` times the weight off the reference. For e we take the
    rounding of a sum of d products that does not conspire, which is what the tests against 50 digits measure; the
    worst case would carry a factor d. To it comes the rounding of a sum over the points, in which duplicates conspire.
    Where e exceeds 1 the first order says nothing: not even the nearest point is known.
    """
    with torch.no_grad():
        distance = ((queries.x - data.center) / data.scale).clamp(-1e150, 1e150).norm(dim=-1)
        error = 2 * EPSILON * (distance + 1) * queries.stiffness
        summed = error + 4 * EPSILON * math.sqrt(min(len(data), WIDTH))
        spread = (sums.square + 8 * EPSILON * sums.rest).sqrt()
        step = ((queries.x - sums.reference) / data.scale).clamp(-1e150, 1e150)
        displacement = (sums.offset - step).norm(dim=-1)
        log_density = (step**2).sum(-1) * queries.stiffness / 2
        vague = (summed * spread > TOLERANCE * displacement) | (summed * sums.rest > TOLERANCE * (1 + log_density))
        return vague | (error > 1)
