r"""Which route computes the sums: the fast one, and again by differences the rows whose error bound exceeds `TOLERANCE`."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kss.engine.data import EPSILON, WIDTH, Data, Queries, Sums, blockwise
from kss.engine.difference import by_difference
from kss.engine.product import by_product

TOLERANCE = 5e-13
"""Relative error of a row, as estimated a posteriori, beyond which it is done again by differences."""


def reduce(data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"]) -> Sums:
    """The sums over all data, for every row of `x`; exact to a few units in the last place of the inputs."""
    queries = Queries.of(data, x, t)
    sums = blockwise(by_product, data, queries, per_pair=1)
    if bool((doubtful := _doubtful(data, queries, sums)).any()):
        index = doubtful.nonzero().squeeze(-1)
        exact = blockwise(by_difference, data, queries.rows(index), per_pair=data.dim)
        sums = Sums(*(old.index_copy(0, index, new) for old, new in zip(sums, exact, strict=True)))
    return sums


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
