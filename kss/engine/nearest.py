r"""Sums over the few points that carry weight, with a bound on what the others carry.

At small t almost all weights are zero to any accuracy. One matrix product, in float32 where that is enough, finds for every query the
points whose exponent may come within `gap + log N` of the largest one; its rounding is bounded rigorously and added to the margin.
All others together have a relative weight below `exp(-gap)`. The sums over the points kept are computed by differences, hence to full
accuracy.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kss.engine import data as prepared
from kss.engine.data import LARGEST, Data, Queries, Sums, single_is_single
from kss.engine.difference import sums_over
from kss.engine.product import HEIGHT, RUN, TILE

STEEPEST = {torch.float32: 1e30, torch.float64: 1e290}
"""Logits up to this size leave room for their sums."""


class Screened(NamedTuple):
    """The sums of the rows that were found, in order, and which of all rows these are."""

    sums: Sums
    found: Bool[Tensor, " B"]


def by_nearest(data: Data, queries: Queries, gap: float, most: int) -> Screened:
    """Sums without points that weigh less than `exp(-gap)` all together; rows where more than `most` points are left are not found."""
    query, margin, sound = _prepare(data, queries, gap)
    height = max(1, min(HEIGHT, len(query), prepared.room(prepared.BLOCK, query) // (4 * most)))
    found, parts = [], []
    for start in range(0, max(len(query), 1), height):
        rows = slice(start, start + height)
        row, place = _survivors(data.table(query.dtype), query[rows], margin[rows], most)
        count = torch.bincount(row, minlength=len(query[rows]))
        here = sound[rows] & (count > 0) & (count <= most)
        found.append(here)
        parts.append(_exactly(data, queries.rows(rows), row, place, count, here))
    return Screened(Sums(*(torch.cat(fields) for fields in zip(*parts, strict=True))), torch.cat(found))


def _prepare(data: Data, queries: Queries, gap: float) -> tuple[Float[Tensor, "B keys"], Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """Queries whose products with the table are logits, how far below the largest one a logit may matter, and which rows are sound."""
    y = ((queries.x - data.center) / data.scale).clamp(-LARGEST, LARGEST)
    steepness = queries.stiffness * (y.clamp(-1e150, 1e150).norm(dim=-1) + 1)
    # Worth it while the rounding of float32 adds little to the margin.
    narrow = single_is_single() and bool((_rounding(data, torch.float32) * steepness).median() <= gap) if len(y) else False
    dtype = torch.float32 if narrow else torch.float64
    margin = gap + math.log(len(data)) + 2 * _rounding(data, dtype) * steepness
    query = torch.cat((y, torch.full_like(y[:, :1], -0.5)), -1) * queries.stiffness.unsqueeze(-1)
    sound = steepness < STEEPEST[dtype]
    query = torch.where(sound.unsqueeze(-1), query, 0.0).to(dtype)
    return query, margin.to(dtype), sound


def survivors(data: Data, queries: Queries, gap: float) -> Int[Tensor, " B"]:
    """How many points a few queries would keep, about: what `by_nearest` finds, without the sums."""
    query, margin, sound = _prepare(data, queries, gap)
    table, width = data.table(query.dtype)[:, :-1], max(RUN, TILE // max(len(query), 1))
    largest, count = torch.full_like(margin, -torch.inf), torch.zeros_like(margin)
    for part in table.split(width):
        logit = query @ part.T
        largest = torch.maximum(largest, logit.amax(-1))
        count += (logit >= (largest - margin).unsqueeze(-1)).sum(-1)
    return torch.where(sound, count.long(), len(data))


def _rounding(data: Data, dtype: torch.dtype) -> float:
    """A logit errs by at most this times `s (|y| + 1)`: d + 1 products summed in any order, of factors rounded before."""
    return (data.dim + 8) * torch.finfo(dtype).eps


def _survivors(
    table: Float[Tensor, "N columns"], query: Float[Tensor, "b keys"], margin: Float[Tensor, " b"], most: int
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Pairs of a query and a point within the margin of the largest logit, by query; of rows with far too many, none."""
    width = max(1, prepared.room(TILE, query) // len(query)) if len(query) else len(table)
    width = width // RUN * RUN or width
    scratch = query.new_empty(len(query) * min(width, len(table)))
    largest = torch.full_like(margin, -torch.inf)
    total = torch.zeros_like(margin, dtype=torch.long)
    rows, places, logits = [], [], []
    for start in range(0, len(table), width):
        part = table[start : start + width, :-1]
        logit = torch.mm(query, part.T, out=scratch[: len(query) * len(part)].view(len(query), len(part)))
        whole = len(part) // RUN * RUN
        for first, last, run in ((0, whole, RUN), (whole, len(part), len(part) - whole)):
            if first == last:
                continue
            runs = logit[:, first:last].unflatten(-1, (-1, run))
            peaks = runs.amax(-1)
            largest = torch.maximum(largest, peaks.amax(-1))
            least = largest - margin
            hot = peaks >= least.unsqueeze(-1)
            total += hot.sum(-1)
            hot &= (total <= 4 * most).unsqueeze(-1)  # a point may be hot until a nearer one turns up
            row, which = hot.nonzero().unbind(-1)
            values = runs[row, which]
            pair, inside = (values >= least[row].unsqueeze(-1)).nonzero().unbind(-1)
            rows.append(row[pair])
            places.append(start + first + which[pair] * run + inside)
            logits.append(values[pair, inside])
    row, place, value = torch.cat(rows), torch.cat(places), torch.cat(logits)
    keep = (value >= (largest - margin)[row]) & (total <= 4 * most)[row]
    row, place = row[keep], place[keep]
    order = row.argsort(stable=True)
    return row[order], place[order]


def _exactly(
    data: Data,
    queries: Queries,
    row: Int[Tensor, " pairs"],
    place: Int[Tensor, " pairs"],
    count: Int[Tensor, " b"],
    found: Bool[Tensor, " b"],
) -> Sums:
    """The sums of the rows found, over their own points."""
    chosen = found.nonzero().squeeze(-1)
    widest = int(count[chosen].max()) if len(chosen) else 1
    slot = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    taken = found[row]
    index = torch.zeros((len(count), widest), dtype=torch.long, device=row.device)
    kept = torch.zeros((len(count), widest), dtype=torch.bool, device=row.device)
    index[row[taken], slot[taken]] = place[taken]
    kept[row[taken], slot[taken]] = True
    height = max(1, prepared.room(prepared.BLOCK, data.points) // (widest * data.dim))
    parts = []
    for start in range(0, max(len(chosen), 1), height):
        some = chosen[start : start + height]
        parts.append(sums_over(data, queries.rows(some), data.points[index[some]], kept[some]))
    return Sums(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
