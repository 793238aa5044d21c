r"""Sums over the data that can carry weight, in low dimension and at small t: whole boxes of points are passed over.

The data lie in small boxes, the leaves of a k-d tree. From a query x with nearest point x_ref no point of a box is closer than
the box itself, so that all of them together weigh, beside x_ref,

    sum_{i in box} exp(L_i - L_ref) <= n_box exp(-a),     a = (dist(x, box)^2 - |x - x_ref|^2)/(2t).

Boxes with `a >= log(N/dropped)` for all queries of a block are left out, which costs each of these queries at most the share
`dropped` of its total weight. Since `exp(-a) sqrt(|x - x_ref|^2 + 2 t a)` decreases in a >= 1/2, it moves the weighted mean by at most
`2 dropped sqrt(|x - x_ref|^2 + 2 t log(N/dropped))`.

Queries are put in blocks of neighbors, and each block is computed on coordinates centered close to it: at small t that
is what keeps the exponents accurate. As the nearest point is known beforehand, no largest exponent need be sought, and
parts of the data simply add up.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from kss.engine import data as prepared
from kss.engine.data import EPSILON, EXPONENT_FLOOR, LARGEST, Data, Queries, Sums

LEAF = 64
"""Most points in a box."""
ROWS = 32
"""Queries in a block: fewer would pass over more boxes, and spend more time on gathering the points of the others."""
FEW = 8
"""Queries in a block that share the decision which boxes they need."""
TILE = 2**17
"""Numbers in a tile of exponents, which stays in the second-level cache."""
SHELF = 8
"""Tiles whose points are gathered and centered at once."""
SAMPLE = 64
"""Queries from which the benefit is predicted."""
FAR = 1e150
"""Coordinates are cut here, so that their squares are finite."""
MOST = 1e100
"""A total beyond this shows that the reference is far from the nearest point, in terms of weights."""


class Boxed(NamedTuple):
    """Sums, and what they miss of the truth, for each query; lengths in units of `Data.scale`."""

    sums: Sums
    rounding: Float[Tensor, " b"]
    """By how much an exponent `L_i - L_ref` errs where its weight counts."""
    lost: Float[Tensor, " b"]
    """How far the points left out could move the offset."""


_PREPARED: "WeakKeyDictionary[Data, Boxes]" = WeakKeyDictionary()


class Boxes:
    """The data in boxes: `columns` holds the coordinates and a 1 for each point, and zeros where a box is not full."""

    def __init__(self, data: Data) -> None:
        keys = data.values[:, :-1].cpu().numpy()
        self.tree = cKDTree(keys, leafsize=LEAF)
        start, size = _leaves(self.tree)
        width = int(size.max())
        slot = np.arange(width)
        member = np.where(slot < size[:, None], start[:, None] + slot, start[:, None])  # the first of a box fills it up
        index, device = torch.from_numpy(self.tree.indices[member]).to(data.points.device), data.points.device
        full = torch.from_numpy(slot < size[:, None]).to(device)
        inside = data.values[index, :-1]
        self.low, self.high = inside.amin(1), inside.amax(1)
        points = data.points[index].permute(2, 0, 1) * full
        self.columns = torch.cat((points, full.to(points.dtype).unsqueeze(0)))
        place = np.empty(len(data), dtype=np.int64)
        place[self.tree.indices] = np.repeat(np.arange(len(start)) * width - start, size) + np.arange(len(data))
        self.place = torch.from_numpy(place).to(device)

    @classmethod
    def of(cls, data: Data) -> "Boxes":
        """The boxes of these data, made once."""
        if data not in _PREPARED:
            _PREPARED[data] = cls(data)
        return _PREPARED[data]

    @property
    def width(self) -> int:
        """Places in a box."""
        return self.columns.shape[2]

    def nearest(self, y: Float[Tensor, "b d"]) -> tuple[Float[Tensor, " b"], Int[Tensor, " b"]]:
        """Distance and index of the point closest to y, up to rounding."""
        distance, index = self.tree.query(y.cpu().numpy())
        return torch.from_numpy(distance).to(y.device), torch.from_numpy(index).to(y.device)

    def within(self, low: Float[Tensor, "g d"], high: Float[Tensor, "g d"], reach: Float[Tensor, " g"], part: slice) -> Bool[Tensor, "g k"]:
        """Which boxes are not certain to be farther from the box between `low` and `high` than the square root of `reach`."""
        square = low.new_zeros(len(low), len(self.low[part]))
        for j in range(low.shape[1]):
            beyond = torch.maximum(self.low[part, j] - high[:, j : j + 1], low[:, j : j + 1] - self.high[part, j]).clamp_min_(0.0)
            square.addcmul_(beyond, beyond)
        return square < reach.unsqueeze(-1)


def _leaves(tree: cKDTree) -> tuple[np.ndarray, np.ndarray]:
    """Start and size of the boxes in the order of the tree. A leaf of identical points can be larger than LEAF, and is cut."""
    start, size, nodes = [], [], [tree.tree]
    while nodes:
        node = nodes.pop()
        if node.split_dim == -1:
            for i in range(node.start_idx, node.end_idx, LEAF):
                start.append(i)
                size.append(min(LEAF, node.end_idx - i))
        else:
            nodes += (node.greater, node.lesser)
    return np.array(start), np.array(size)


def by_boxes(boxes: Boxes, data: Data, queries: Queries, dropped: float = EPSILON, together: int = ROWS) -> Boxed:
    """The sums over all data but boxes that together weigh at most `dropped` of the total. Not differentiable.

    `together` queries make a block: with fewer the centers of the blocks are closer to them, and the exponents more accurate.
    """
    few = min(FEW, together)
    count, dim = queries.x.shape
    if count == 0:
        none = queries.x.new_zeros(0)
        return Boxed(Sums(queries.x, none, queries.x, none, none), none, none)
    y = ((queries.x - data.center) / data.scale).clamp(-FAR, FAR)
    order = _blocks(y, queries.stiffness, together)
    y, x, stiffness = y[order], queries.x[order], queries.stiffness[order]
    distance, index = boxes.nearest(y)
    reach = (distance**2 + 2 * math.log(len(data) / dropped) / stiffness).sqrt()
    reference = data.points[index]
    center = reference.unflatten(0, (-1, together)).mean(1)
    near = ((reference - center.repeat_interleave(together, 0)) / data.scale).clamp(-FAR, FAR)
    y_near = ((x - center.repeat_interleave(together, 0)) / data.scale).clamp(-FAR, FAR)
    constant = (near * (near / 2 - y_near)).sum(-1, keepdim=True)
    # Against columns (z, 1, |z|^2) this gives the exponents L_i - L_ref.
    query = torch.cat((y_near, constant, torch.full_like(constant, -0.5)), -1) * stiffness.unsqueeze(-1)
    query = query.clamp_(-LARGEST, LARGEST).unflatten(0, (-1, together)).mT.contiguous()
    moments, complete = torch.zeros_like(query), torch.ones(len(query), dtype=torch.bool, device=query.device)
    # What rounding in the coordinates of the queries, of the data and of the boxes amounts to.
    certain = (reach**2 + 4 * (dim + 8) * EPSILON * (1 + y.norm(dim=-1)) ** 2).clamp_max(LARGEST)
    for group, part in _groups(len(query), len(boxes.low), together):
        rows = slice(group.start * together, group.stop * together)
        some = y[rows].unflatten(0, (-1, few))
        keep = boxes.within(some.amin(1), some.amax(1), certain[rows].unflatten(0, (-1, few)).amax(1), part)
        keep = keep.unflatten(0, (-1, together // few)).any(1)
        complete[group] &= keep.all(-1)
        _add(moments[group], boxes, data.scale, part, keep, query[group], center[group], boxes.place[index[rows]])
    moments = moments.mT.flatten(0, 1)
    first, others, square = moments[:, :dim], moments[:, dim], moments[:, dim + 1]
    total = 1 + others
    sums = Sums(
        reference=reference,
        log_total=others.log1p(),
        offset=(first - others.unsqueeze(-1) * near) / total.unsqueeze(-1),
        square=(square - 2 * (first * near).sum(-1) + others * (near**2).sum(-1)).clamp_min(0.0) / total,
        rest=others / total,
    )
    # Points beyond `reach` have no weight to speak of, whatever their exponents err by, and few beyond twice their root mean square.
    size = y_near.norm(dim=-1)
    extent = size + torch.minimum(reach, distance + 2 * sums.square.sqrt()).clamp_max(2.0)
    rounding = EPSILON * ((size + extent) * extent).clamp_max(LARGEST) * stiffness
    lost = torch.where(complete.repeat_interleave(together), 0.0, 2 * dropped * reach)
    sound = (others < MOST) & (y.abs().amax(-1) < FAR)
    result = Boxed(sums, torch.where(sound, rounding, math.inf), lost)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    back = back[:count]
    return Boxed(Sums(*(field[back] for field in result.sums)), result.rounding[back], result.lost[back])


def kept_fraction(boxes: Boxes, data: Data, queries: Queries, dropped: float = EPSILON) -> float:
    """The share of the data that some SAMPLE of the queries cannot do without, on average. It costs next to nothing."""
    some = queries.rows(slice(None, None, max(1, len(queries.x) // SAMPLE)))
    if len(some.x) == 0:
        return 1.0
    y = ((some.x - data.center) / data.scale).clamp(-FAR, FAR)
    distance, _ = boxes.nearest(y)
    reach = distance**2 + 2 * math.log(len(data) / dropped) / some.stiffness
    needed = 0
    for rows, part in _groups(len(y), len(boxes.low), 1):
        needed += int(boxes.within(y[rows], y[rows], reach[rows], part).sum())
    return needed / (len(y) * len(boxes.low))


def _blocks(y: Float[Tensor, "b d"], stiffness: Float[Tensor, " b"], together: int) -> Int[Tensor, " padded"]:
    """An order of the queries in which `together` consecutive ones are neighbors, at similar t; the last one fills up the last block."""
    order = torch.from_numpy(cKDTree(y.cpu().numpy(), leafsize=max(1, together // 4)).indices.copy()).to(y.device)
    # Noise variances within a factor of four go together.
    order = order[(stiffness.log2() / 2).floor()[order].argsort(stable=True)]
    return torch.cat((order, order[-1:].expand(-len(order) % together)))


def _groups(blocks: int, boxes: int, together: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries and parts of the boxes, with at most `prepared.BLOCK` pairs of a query and a box."""
    width = max(1, min(boxes, prepared.BLOCK // together))
    height = max(1, prepared.BLOCK // (width * together))
    for i in range(0, blocks, height):
        for j in range(0, boxes, width):
            yield slice(i, min(i + height, blocks)), slice(j, min(j + width, boxes))


def _add(
    moments: Float[Tensor, "g c r"],
    boxes: Boxes,
    scale: float,
    part: slice,
    keep: Bool[Tensor, "g k"],
    query: Float[Tensor, "g c r"],
    center: Float[Tensor, "g d"],
    place: Int[Tensor, " q"],
) -> None:
    """Add to `moments` the sums of `w z`, w and `w |z|^2` over the boxes to `keep`, references excepted."""
    dim, width, together = center.shape[1], boxes.width, query.shape[-1]
    row = torch.arange(len(place), device=place.device)
    where = place // width - part.start
    here = (where >= 0) & (where < keep.shape[1])
    row, where, slot = row[here], where[here], (place % width)[here]
    keep[row // together, where] = True  # the references have room in these boxes whatever rounding says
    block, box = keep.nonzero(as_tuple=True)
    step = max(1, min(TILE, prepared.BLOCK) // (together * width))
    ends = [0, *keep.sum(1).cumsum(0).tolist()]
    pieces = [(k, i, min(i + step, ends[k + 1])) for k in range(len(keep)) for i in range(ends[k], ends[k + 1], step)]
    if not pieces:
        return
    # Where among the exponents that of each query's own reference stands: in which piece, and where there.
    item = torch.searchsorted(block * keep.shape[1] + box, row // together * keep.shape[1] + where)
    itself = ((item * width + slot) * together + row % together).sort().values
    begins = torch.tensor([begin for _, begin, _ in pieces], device=itself.device) * (width * together)
    borders = [*torch.searchsorted(itself, begins).tolist(), len(itself)]
    itself -= begins[torch.searchsorted(begins, itself, right=True) - 1]
    # Written over again and again: fresh memory costs as much as the arithmetic.
    scratch = query.new_empty(min(step, len(box)) * width, together)
    table = query.new_empty((dim + 2) * SHELF * len(scratch))
    center, box, totals, queries = center.T[:, block].unsqueeze(-1), box + part.start, moments.unbind(), query.unbind()
    first, last = 0, 0
    for number, (one, begin, end) in enumerate(pieces):
        if end > last:
            first, last = begin, min(begin + SHELF * step, len(box))
            columns = table[: (dim + 2) * (last - first) * width].view(dim + 2, last - first, width)
            torch.index_select(boxes.columns, 1, box[first:last], out=columns[:-1])
            columns[:dim].addcmul_(center[:, first:last], columns[dim], value=-1).div_(scale)
            torch.mul(columns[0], columns[0], out=columns[-1])
            for j in range(1, dim):
                columns[-1].addcmul_(columns[j], columns[j])
            columns = columns.view(dim + 2, -1)
        piece = columns[:, (begin - first) * width : (end - first) * width]
        weight = torch.mm(piece.T, queries[one], out=scratch[: (end - begin) * width])
        weight.clamp_(EXPONENT_FLOOR, -EXPONENT_FLOOR).exp_()
        weight.view(-1).index_fill_(0, itself[borders[number] : borders[number + 1]], 0.0)
        totals[one].addmm_(piece, weight)
