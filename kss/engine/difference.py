r"""Sums over the data by the differences `e_i = x_i - x_ref` themselves.

Slower than a matrix product by an order of magnitude, and backward stable: they err by what moving x and the data by a few
units in the last place would change.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kss.engine.data import EXPONENT_FLOOR, FLOOR_WEIGHT, Data, Queries, Sums, blocks, exponents, similarity


def by_difference(data: Data, queries: Queries, part: slice) -> Sums:
    """The sums over one part of the data."""
    points = data.points[part]

    def differences(index: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        reference = points[index]
        e = (points - reference.unsqueeze(-2)) / data.scale
        return e, exponents(data, queries, e, reference)

    # The matrix product finds a point that is closest up to its own rounding; one step of refinement mends that.
    _, exponent = differences(similarity(data, queries, part).detach().argmax(-1))
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


def second_moment(
    data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], sums: Sums, *, full: bool
) -> Float[Tensor, "B d d"] | Float[Tensor, " B"]:
    """The covariance of the data under the weights that gave `sums` (full), or its trace; in the user's units.

    `sums` gives reference, center and size of the weights, to an accuracy that may fall short of the spread of the data;
    what they miss is subtracted by the moments of order 0 and 1 about them.
    """
    queries = Queries.of(data, x, t)
    results = []
    for rows, parts in blocks(data, len(x), per_pair=data.dim):
        block, known = queries.rows(rows), Sums(*(field[rows] for field in sums))
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        mass, first, second = zero, zero, zero
        for part in parts:
            e = (data.points[part] - known.reference.unsqueeze(-2)) / data.scale
            exponent = exponents(data, block, e, known.reference) * block.stiffness.unsqueeze(-1)
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
