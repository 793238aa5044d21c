r"""Data prepared for softmax averages over them, and what such an average is made of.

For a query x, noise variance t and data x_i the posterior needs `L_i = -|x - x_i|^2/(2t)`, the weights
`w = softmax(L)`, `sum_i w_i (x_i - x)` and `log sum_i exp(L_i)`. Everything is held relative to a *reference*, a data
point that is (nearly) the closest to x,

    L_i - L_ref = e_i . (g - e_i/2) / t,      e_i = x_i - x_ref,   g = x - x_ref,
    sum_i w_i x_i - x = (x_ref - x) + sum_i w_i e_i,

so that nothing of the size of the data is ever subtracted from something close to it. Sums over disjoint parts of the data
`merge` associatively, whichever route computed them, so neither the number of queries nor that of the data sets the memory.
"""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from kss._validation import reject

BLOCK = 2**20
"""Numbers in the largest temporary array (8 MiB each; a handful live at once)."""
WIDTH = 2**14
"""Most points in a part: a block then holds many queries, which the matrix product and the allocator both prefer."""
EXPONENT_FLOOR = -600.0
"""Exponents are cut here: exp(-600) is below rounding beside 1, and below -708 float64 turns denormal and slow."""
NARROW_FLOOR = -50.0
"""The same in float32, where products of weights and values turn denormal from -80 on."""
FLOOR_WEIGHT = math.exp(EXPONENT_FLOOR)
LARGEST = 1e300
"""Stands for "too large to matter": finite, so that 0 * LARGEST is 0 and never NaN."""
EPSILON = torch.finfo(torch.float64).eps


def room(numbers: int, where: Tensor, factor: int = 32) -> int:
    """How many numbers a temporary array may have beside `where`: at most `BLOCK`, and more by `factor` on a graphics card.

    A card has the memory, works on all of them at once, and takes as long to be told so as to do it.
    """
    return min(numbers, BLOCK) * (factor if where.is_cuda else 1)


def exponent_floor(dtype: torch.dtype) -> float:
    """Where exponents are cut, in this dtype."""
    return NARROW_FLOOR if dtype == torch.float32 else EXPONENT_FLOOR


@runtime_checkable
class Frame(Protocol):
    """What comparing and merging sums asks of the data: their center, the unit of lengths, their radius in it, and how many they are."""

    center: Tensor
    scale: float
    radius: float

    def __len__(self) -> int: ...

    @property
    def multiplicity(self) -> int:
        """How often the most frequent point occurs, at the most."""
        ...


def power_of_two(radius: float) -> float:
    """The smallest power of two that is no smaller than `radius` > 0."""
    return 2.0 ** math.ceil(math.log2(radius))


class Data:
    """Data prepared once: the points, and a copy centered and scaled (by a power of two, hence exactly) to radius <= 1."""

    def __init__(self, points: Float[Tensor, "N d"], scale: float | None = None) -> None:
        """With `scale` given, a power of two that is no smaller than the radius: parts prepared separately share it."""
        self.points = points.double()
        # Halved first: the sum of points near the largest float would overflow.
        self.center = 2 * (self.points / (2 * len(self.points))).sum(0)
        centered = self.points - self.center
        widest = float(centered.abs().max())
        radius = widest * float((centered / widest).norm(dim=-1).max()) if widest > 0 else 1.0
        if not radius <= 2.0**1023:
            raise reject("points", radius, "points within 2^1023 of their center; this is how far one is")
        self.scale = power_of_two(radius) if scale is None else scale
        keys = centered / self.scale
        # With a column |z_i|^2 the rows serve as keys and as values, and the spread of the weights costs nothing extra. One of ones counts.
        square = (keys**2).sum(-1, keepdim=True)
        self._tables = {torch.float64: torch.cat((keys, square, torch.ones_like(square)), -1)}
        self.radius = float(square.max().sqrt())

    def __len__(self) -> int:
        return len(self.points)

    def table(self, dtype: torch.dtype) -> Float[Tensor, "N columns"]:
        """Rows `(z_i, |z_i|^2, 1)` with `z_i = (x_i - c)/scale`; made once for each dtype."""
        if dtype not in self._tables:
            self._tables[dtype] = self._tables[torch.float64].to(dtype)
        return self._tables[dtype]

    @cached_property
    def multiplicity(self) -> int:
        """How often the most frequent point occurs: equal summands round alike, and their errors add up."""
        direction = torch.cos(torch.arange(1, self.dim + 1, dtype=torch.float64, device=self.points.device) ** 2)
        # Row by row and not as a product, which rounds equal rows differently.
        parts = self._tables[torch.float64][:, :-2].split(max(1, BLOCK // self.dim))
        _, counts = torch.cat([(part * direction).sum(-1) for part in parts]).unique(return_counts=True)
        return int(counts.max())

    @property
    def values(self) -> Float[Tensor, "N columns"]:
        """Rows `(z_i, |z_i|^2)`."""
        return self._tables[torch.float64][:, :-1]

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

    @classmethod
    def of(cls, data: Frame, x: Float[Tensor, "b d"], t: Float[Tensor, " b"]) -> "Queries":
        """Points x at the noise variances t."""
        return cls(x, ((data.scale / t.sqrt()) ** 2).clamp_max(LARGEST))

    def rows(self, index: slice | Tensor) -> "Queries":
        """Some of the rows."""
        return Queries(self.x[index], self.stiffness[index])


def merge(data: Frame, queries: Queries, first: Sums, second: Sums) -> Sums:
    """The sums over two disjoint parts of the data. Associative and commutative up to rounding."""
    shift = (second.reference - first.reference) / data.scale
    ratio = exponents(data, queries, shift.unsqueeze(-2), first.reference).squeeze(-1) * queries.stiffness
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


def blockwise(route: Callable[[Data, Queries, slice], Sums], data: Data, queries: Queries, per_pair: int) -> Sums:
    """The sums over all data by one route, block by block and part by part."""
    done = []
    for rows, parts in blocks(data, len(queries.x), per_pair):
        block = queries.rows(rows)
        sums = route(data, block, parts[0])
        for part in parts[1:]:
            sums = merge(data, block, sums, route(data, block, part))
        done.append(sums)
    return Sums(*(torch.cat(fields) for fields in zip(*done, strict=True)))


def blocks(data: Data, count: int, per_pair: int) -> Iterator[tuple[slice, list[slice]]]:
    """Blocks of queries, each with the parts of the data to run over, so that no temporary exceeds `BLOCK` numbers."""
    numbers = room(BLOCK, data.points)
    width = min(len(data), WIDTH, max(1, numbers // per_pair))
    height = max(1, numbers // (width * per_pair))
    parts = [slice(i, min(i + width, len(data))) for i in range(0, len(data), width)]
    for i in range(0, max(count, 1), height):  # no queries make one empty block
        yield slice(i, min(i + height, count)), parts


def similarity(data: Data, queries: Queries, part: slice) -> Float[Tensor, "b n"]:
    """`y . z_i - |z_i|^2/2` in scaled, centered coordinates: `L_i` up to the stiffness and a constant of the row."""
    y = ((queries.x - data.center) / data.scale).clamp(-LARGEST, LARGEST)
    values = data.values[part]
    return torch.addmm(values[:, -1], y, values[:, :-1].T, beta=-0.5)


def exponents(data: Frame, queries: Queries, e: Float[Tensor, "b n d"], reference: Float[Tensor, "b d"]) -> Float[Tensor, "b n"]:
    """`e_i . (g - e_i/2)`: `L_i - L_ref` up to the stiffness."""
    g = ((queries.x - reference) / data.scale).clamp(-LARGEST, LARGEST).unsqueeze(-2)
    return (e * (g - e / 2)).sum(-1)


def differentiated(*tensors: Tensor) -> bool:
    """Whether anything carries a derivative, backward or forward."""
    backward = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return backward or any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def single_is_single() -> bool:
    """Whether products in float32 are computed in float32: a switch of torch allows less."""
    return torch.get_float32_matmul_precision() == "highest"
