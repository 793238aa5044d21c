r"""Sums over the data by matrix products on centered points, one tile of logits at a time.

    L_i + const = s (y . z_i - |z_i|^2/2),      y = (x - c)/scale,  z_i = (x_i - c)/scale,  s = scale^2/t.

A tile of logits is made, shifted by the largest logit seen so far, exponentiated in place and multiplied with the values, all
while it is in the cache. An exponent errs by about `eps s (|y| + 1)`. The nearest point of the first tile is the reference: it counts 1
and stays outside the sums, so what is left keeps its relative accuracy however small it is. When a point turns up that is much
nearer, the sums are rescaled and the old reference joins them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kss.engine import data as prepared
from kss.engine.data import LARGEST, Data, Queries, Sums, differentiated

HEIGHT = 1024
"""Most queries in a tile."""
TILE = 2**20
"""Numbers in a tile: with fewer the calls cost more than they do, with more the tile leaves the cache."""
SLACK = 30.0
"""A point may be nearer than the reference by so much in the exponent: its weight is still a number one can add up."""
RUN = 64
"""Logits of which the largest is found in one go: torch finds a maximum ten times faster than its place."""


def by_product(data: Data, queries: Queries, dtype: torch.dtype) -> Sums:
    """The sums over all data, computed in `dtype` and returned in float64. Differentiable; then memory is not bounded."""
    graded = differentiated(*queries)
    count = len(queries.x)
    most, numbers = prepared.room(HEIGHT, queries.x, 4), prepared.room(TILE, queries.x)
    height = count if graded else max(1, min(most, count))
    width = len(data) if graded else max(1, numbers // height)
    width = width if graded else width // RUN * RUN or width  # whole runs
    done = [_rows(data, queries.rows(slice(i, i + height)), width, dtype, graded) for i in range(0, max(count, 1), max(height, 1))]
    return Sums(*(torch.cat(fields) for fields in zip(*done, strict=True)))


def _rows(data: Data, queries: Queries, width: int, dtype: torch.dtype, graded: bool) -> Sums:
    table, floor = data.table(dtype), prepared.exponent_floor(dtype)
    y = ((queries.x - data.center) / data.scale).clamp(-LARGEST, LARGEST)
    query = (torch.cat((y, torch.full_like(y[:, :1], -0.5)), -1) * queries.stiffness.unsqueeze(-1)).to(dtype)
    scratch = query.new_empty(0 if graded else len(query) * min(width, len(data)))

    def logits(part: Tensor) -> Tensor:
        keys = part[:, :-1].T
        return query @ keys if graded else torch.mm(query, keys, out=scratch[: len(query) * len(part)].view(len(query), len(part)))

    first = table[:width]
    logit = logits(first)
    place = _place_of_largest(logit.detach())
    most = logit.gather(-1, place.unsqueeze(-1)).squeeze(-1)
    if graded:
        total = (logit - most.unsqueeze(-1)).clamp_min(floor).exp().scatter(-1, place.unsqueeze(-1), 0.0) @ first
    else:
        total = logit.sub_(most.unsqueeze(-1)).clamp_min_(floor).exp_().scatter_(-1, place.unsqueeze(-1), 0.0) @ first
    for start in range(width, len(data), width):
        part = table[start : start + width]
        logit = logits(part)
        risen = (logit.amax(-1) > most + SLACK).nonzero().squeeze(-1)
        if len(risen):
            new = _place_of_largest(logit[risen])
            old, most[risen] = most[risen], logit[risen, new]
            # What was the reference becomes one of the others.
            total[risen] = (total[risen] + table[place[risen]]) * (old - most[risen]).exp_().unsqueeze(-1)
            place[risen] = new + start
        weight = logit.sub_(most.unsqueeze(-1)).clamp_min_(floor).exp_()
        if len(risen):
            weight[risen, new] = 0.0
        total.addmm_(weight, part)
    # The nearest as it was in the products: what its rounding has done to them cancels.
    nearest, total = table[place].double(), total.double()
    mean, others = total[:, :-2], total[:, -1]
    square = total[:, -2] - 2 * (mean * nearest[:, :-2]).sum(-1) + others * nearest[:, -2]
    return Sums(
        reference=data.points[place],
        log_total=others.log1p(),
        offset=(mean - others.unsqueeze(-1) * nearest[:, :-2]) / (1 + others).unsqueeze(-1),
        square=square.clamp_min(0.0) / (1 + others),
        rest=others / (1 + others),
    )


def _place_of_largest(logit: Float[Tensor, "b n"]) -> Int[Tensor, " b"]:
    whole = logit.shape[-1] // RUN * RUN
    if whole < 4 * RUN:
        return logit.argmax(-1)
    runs = logit[:, :whole].unflatten(-1, (-1, RUN))
    best, run = runs.amax(-1).max(-1)
    place = run * RUN + runs[torch.arange(len(logit), device=logit.device), run].argmax(-1)
    if whole < logit.shape[-1]:
        last, where = logit[:, whole:].max(-1)
        place = torch.where(last > best, where + whole, place)
    return place
