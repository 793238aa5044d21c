r"""Sums over the data averaged over displaced queries `x_b + V_j`, with nodes V_j that all queries share.

The square of `V_j` is the same for all data and leaves the weights unchanged. Up to a constant of the pair (b, j), the exponent of
datum i is

    L_bji = A_bi + C_ji,      A_bi = s (y_b . z_i - |z_i|^2/2),      C_ji = s v_j . z_i,

with `z_i`, `y_b`, `v_j` the data, queries and nodes in the scaled coordinates of `Data` and `s = scale^2/t`. So with
`EA = exp(A - max_i A)` and `EC = exp(C - max_i C)` the sum for each pair is an entry of a matrix product, and the average over the
nodes needs only the mean weight q of each datum:

    S = EA EC^T,        q = EA * ((w/S) EC),        sum_j w_j m(x_b + V_j) = sum_i q_bi x_i.

That takes (B + M) N exponentials for B queries, M nodes and N points in place of B M N, and 4 B M N + 4 B N d operations in place
of 4 B M N d. The dimension enters by products of one query, one node or one mean with the data, each once: to turn the data into
their own span first, where d > N, would cost as much as it saves.

What limits it is range. The largest exponent of a pair may be far below the two maxima, and data whose factors are cut
at `FLOOR` count too much beside it. The part of each average that this may concern is summed up, and is one of the terms of
the error that is returned: who asks decides whether that will do.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss.engine import data as prepared
from kss.engine.data import EPSILON, Data, Queries, differentiated

FLOOR = -650.0
"""Exponents are cut here. With `LIFT` on one side of it all products of two factors lie between 1e-304 and 1e261 N: none is denormal, which
would make a product up to 26 times slower, and none overflows."""
LIFT = 2.0**865
"""Multiplies the exponentials of the nodes; near exp(600)."""
RAISE = 2.0**72
"""Multiplies the mean weights until they have been summed; near exp(50)."""
FAINT = 1.0 / RAISE
"""A mean weight below FAINT/RAISE = 4e-44 is set to 0: half of it by each of two cuts, which keep products out of the denormals as well."""
VAGUE = 1e-3
"""Where exponents err by more than this, errors to first order say nothing."""
TILE = 2**19
"""Numbers in a tile of exponentials. About seven tiles live at once."""
WIDTH = 2**11
"""Most points in a tile. When all fit in, the exponentials of a tile are made once, otherwise twice. The wider, the fewer queries
and nodes in a tile, and the more often each exponential is made."""


class Averages(NamedTuple):
    """Averages over nodes, for k weights and r replicates, and a bound on their error by rounding."""

    displacement: Float[Tensor, "k r n d"]
    """`sum_j w_kj (m_t(x + V_rj) - x)`."""
    error: Float[Tensor, " n"]
    """Of the mean over the replicates, by the first weights, in the Euclidean norm; infinite where nothing is known."""


def averages(
    data: Data, x: Float[Tensor, "n d"], t: Float[Tensor, ""], nodes: Float[Tensor, "r m d"], weights: Float[Tensor, "k m"]
) -> Averages | None:
    """The averages at noise variance t over the nodes V_rj, displacements in the user's units; None where derivatives are asked for."""
    if differentiated(x, t, nodes, weights, data.points):
        return None
    queries = Queries.of(data, x, t.expand(len(x)))
    # As in the sums for a single query: what sums of d products err by that do not conspire. In the average the nodes count by their
    # mean square.
    distance = ((x - data.center) / data.scale).clamp(-1e150, 1e150).norm(dim=-1)
    reach = ((nodes / data.scale).square().sum(-1).mean(0) @ weights[0].abs()).sqrt()
    off = 2 * EPSILON * queries.stiffness * (distance + 1 + reach)
    rows = (off <= VAGUE).nonzero().squeeze(-1)
    displacement, error = x.new_zeros(len(weights), len(nodes), *x.shape), torch.full_like(off, torch.inf)
    if len(rows):
        displacement[:, :, rows], error[rows] = _averages(data, queries.rows(rows), nodes / data.scale, weights, off[rows])
    return Averages(displacement, error)


def _averages(data: Data, queries: Queries, nodes: Tensor, weights: Tensor, off: Float[Tensor, " n"]) -> Averages:
    table, count = data.table(torch.float64), len(queries.x)
    scaled = (queries.x - data.center) / data.scale
    query = torch.cat((scaled, torch.full_like(scaled[:, :1], -0.5)), -1) * queries.stiffness[0]
    width = min(len(data), WIDTH, prepared.BLOCK)
    parts = [table[part] for part in _slices(len(data), width)]
    tile = prepared.room(TILE, table)
    moments = table.new_zeros(len(weights), len(nodes), count, table.shape[-1])
    lost, place = table.new_zeros(count), torch.zeros(count, dtype=torch.long, device=table.device)
    # As much as points cut at FLOOR may add to the sum of a pair. That is no smaller than one of them: the point nearest to x has 1 from
    # x and exp(FLOOR) from the node at the least.
    smallest = LIFT * math.exp(FLOOR) * len(data)
    # As many nodes as queries in a tile, where there are many of both.
    together = max(1, tile // max(width, data.dim, min(count, math.isqrt(tile))))
    for replicates, which in _pieces(nodes.shape[0], nodes.shape[1], together):
        weight, piece = weights[:, which], nodes[replicates, which]
        right = _Exponentials(piece.flatten(0, 1) * queries.stiffness[0], parts, LIFT)
        for rows in _slices(count, max(1, tile // max(width, len(right.rows), data.dim))):
            left = _Exponentials(query[rows], parts, 1.0)
            place[rows] = left.place
            total = left(0) @ right(0).T
            for k in range(1, len(parts)):
                total.addmm_(left(k), right(k).T)
            share = (RAISE / total).unflatten(-1, piece.shape[:2])
            lost[rows] += share.sum(1) @ weight[0].abs() * (smallest / RAISE / len(nodes))
            for k, part in enumerate(parts):
                # The point nearest to x counts apart: what is left keeps its relative accuracy however small it is.
                others, factors = left.without_reference(k), right(k).unflatten(0, piece.shape[:2])
                for r, w in itertools.product(range(len(piece)), range(len(weight))):
                    mean = (share[:, r] * weight[w]) @ factors[r]
                    torch.hardshrink(mean, FAINT, out=mean).mul_(others)
                    moments[w, replicates.start + r, rows].addmm_(torch.hardshrink(mean, FAINT, out=mean), part)
    return _finish(data, queries, moments.div_(RAISE), place, lost, weights, off)


def _finish(
    data: Data, queries: Queries, moments: Float[Tensor, "k r n c"], place: Tensor, lost: Tensor, weights: Tensor, off: Tensor
) -> Averages:
    reference, nearest = data.points[place], data.table(torch.float64)[place]
    first, square, others = moments[..., :-2], moments[..., -2], moments[..., -1]
    offset = first - others.unsqueeze(-1) * nearest[:, :-2]
    pulled = weights.sum(-1)[:, None, None, None] * (reference - queries.x)
    # The same to first order as for a single query. All data and nodes enter, weighted: by Cauchy and Schwarz their mean square is enough.
    offset0, others0 = offset[0].mean(0), others[0].abs().mean(0)
    square0 = (square - 2 * (first * nearest[:, :-2]).sum(-1) + others * nearest[:, -2])[0].mean(0)
    spread = ((square0 - offset0.square().sum(-1)).clamp_min(0.0) + 8 * EPSILON * others0).sqrt()
    summed = 4 * EPSILON * (math.sqrt(len(data) * data.multiplicity) + math.sqrt(weights.shape[1]))
    error = 2 * off * spread + 2 * summed * others0 + 2 * lost + 2 * len(data) * FAINT / RAISE
    displacement = pulled + data.scale * offset
    return Averages(displacement, data.scale * error + 4 * EPSILON * displacement[0].norm(dim=-1).mean(0))


class _Exponentials:
    """`exp(row . z - max)` for rows of a matrix and all data, part by part; with a single part they are made once."""

    def __init__(self, rows: Float[Tensor, "b c"], parts: list[Tensor], factor: float) -> None:
        self.rows, self.parts, self.factor = rows, parts, factor
        self.top, self.place, start = rows.new_full((len(rows),), -torch.inf), rows.new_zeros(len(rows), dtype=torch.long), 0
        for part in parts:
            product = self._product(part)
            best, where = product.max(-1)
            self.place = torch.where(best > self.top, where + start, self.place)
            self.top = torch.maximum(self.top, best)
            start += len(part)
        self.kept = self._exponentials(product) if len(parts) == 1 else None

    def __call__(self, k: int) -> Float[Tensor, "b n"]:
        """Those for the part with number k."""
        return self._exponentials(self._product(self.parts[k])) if self.kept is None else self.kept

    def without_reference(self, k: int) -> Float[Tensor, "b n"]:
        """The same but 0 for the point where each row has its maximum; done last, because it may change what is kept."""
        values, where = self(k), self.place - sum(len(part) for part in self.parts[:k])
        mine = ((where >= 0) & (where < len(self.parts[k]))).nonzero().squeeze(-1)
        values[mine, where[mine]] = 0.0
        return values

    def _product(self, part: Tensor) -> Float[Tensor, "b n"]:
        return self.rows @ part[:, : self.rows.shape[-1]].T

    def _exponentials(self, product: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        values = product.sub_(self.top.unsqueeze(-1)).clamp_min_(FLOOR).exp_()
        return values if self.factor == 1 else values.mul_(self.factor)


def _pieces(replicates: int, count: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Replicates and nodes in pieces of `most` nodes at most: whole replicates where one fits."""
    for some in _slices(replicates, max(1, most // count)):
        for which in _slices(count, most):
            yield some, which


def _slices(count: int, step: int) -> Iterator[slice]:
    """Slices of nearly equal length, `step` at most."""
    number = -(-count // step)
    for k in range(number):
        yield slice(k * count // number, (k + 1) * count // number)
