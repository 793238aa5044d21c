r"""Sums over the data by the differences `e_i = x_i - x_ref` themselves.

Slower than a matrix product by an order of magnitude, and backward stable: they err by what moving x and the data by a few
units in the last place would change.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kss.engine.data import EXPONENT_FLOOR, FLOOR_WEIGHT, LARGEST, Data, Queries, Sums, exponents, similarity


def by_difference(data: Data, queries: Queries, part: slice) -> Sums:
    """The sums over one part of the data."""
    # The matrix product finds a point that is closest up to its own rounding.
    return sums_over(data, queries, data.points[part], None, similarity(data, queries, part).detach().argmax(-1))


def sums_over(
    data: Data,
    queries: Queries,
    points: Float[Tensor, "*b n d"],
    kept: Bool[Tensor, "b n"] | None = None,
    near: Int[Tensor, " b"] | None = None,
) -> Sums:
    """The sums over `points`, the same for all queries or (b, n, d) for each its own, of which only those `kept` count.

    `near` is the place of a point that is nearly the closest; without it, the first.
    """
    rows = torch.arange(len(queries.x), device=points.device)

    def differences(index: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        reference = points[rows, index] if points.ndim == 3 else points[index]
        e = (points - reference.unsqueeze(-2)) / data.scale
        exponent = exponents(data, queries, e, reference)
        return reference, e, exponent if kept is None else exponent.masked_fill(~kept, -LARGEST)

    # A step of refinement from a point that is nearly the closest, and two from any other: the first may be off by its own rounding.
    index = differences(torch.zeros_like(rows))[2].detach().argmax(-1) if near is None else near
    index = differences(index)[2].detach().argmax(-1)
    reference, e, exponent = differences(index)
    most = exponent.amax(-1)
    weight = ((exponent - most.unsqueeze(-1)) * queries.stiffness.unsqueeze(-1)).clamp_min(EXPONENT_FLOOR).exp() - FLOOR_WEIGHT
    total = weight.sum(-1)
    weight = weight / total.unsqueeze(-1)
    return Sums(
        reference=reference,
        log_total=total.log() + most * queries.stiffness,
        offset=(weight.unsqueeze(-1) * e).sum(-2),  # summed in pairs, where a product adds up one by one
        square=(weight * (e**2).sum(-1)).sum(-1),
        rest=1 - weight.gather(-1, index.unsqueeze(-1)).squeeze(-1),
    )
