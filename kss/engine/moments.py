r"""Second moments of the data under the posterior weights, by differences from their mean: a second pass, once the sums are known."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss.engine.data import EXPONENT_FLOOR, FLOOR_WEIGHT, Data, Queries, Sums, blocks, exponents


class Moments(NamedTuple):
    """Moments of (part of) the data about a mean that is nearly right, in units of `Data.scale`; those of disjoint parts add up."""

    mass: Float[Tensor, " B"]
    """`sum_i w_i`, which is 1 for all data up to the error of `Sums.log_total`."""
    first: Float[Tensor, "B d"]
    """`sum_i w_i u_i` with `u_i` the difference from that mean."""
    second: Float[Tensor, "B d d"] | Float[Tensor, " B"]
    """`sum_i w_i u_i u_i^T`, or its trace."""

    def central(self, scale: float) -> Float[Tensor, "B d d"] | Float[Tensor, " B"]:
        """The covariance, or its trace, in the user's units."""
        first = self.first / self.mass.unsqueeze(-1)
        if self.second.ndim == 3:
            central = self.second / self.mass[..., None, None] - first.unsqueeze(-1) * first.unsqueeze(-2)
        else:
            central = (self.second / self.mass - (first**2).sum(-1)).clamp_min(0.0)
        return central * scale**2


def moments(data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], sums: Sums, *, full: bool) -> Moments:
    """The moments of the data under the weights that gave `sums`; of order two, all of them (full) or their trace.

    `sums` gives reference, center and size of the weights, to an accuracy that may fall short of the spread of the data;
    what they miss is seen in the moments of order 0 and 1 about them.
    """
    queries = Queries.of(data, x, t)
    results = []
    for rows, parts in blocks(data, len(x), per_pair=data.dim):
        block, known = queries.rows(rows), Sums(*(field[rows] for field in sums))
        zero = x.new_zeros(())
        mass, first, second = zero, zero, zero
        for part in parts:
            e = (data.points[part] - known.reference.unsqueeze(-2)) / data.scale
            exponent = exponents(data, block, e, known.reference) * block.stiffness.unsqueeze(-1)
            weight = (exponent - known.log_total.unsqueeze(-1)).clamp_min(EXPONENT_FLOOR).exp() - FLOOR_WEIGHT
            e = e - known.offset.unsqueeze(-2)
            mass = mass + weight.sum(-1)
            first = first + (weight.unsqueeze(-2) @ e).squeeze(-2)
            second = second + ((weight.unsqueeze(-1) * e).mT @ e if full else (weight * (e**2).sum(-1)).sum(-1))
        results.append(Moments(mass, first, second))
    return Moments(*(torch.cat(fields) for fields in zip(*results, strict=True)))


def second_moment(
    data: Data, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], sums: Sums, *, full: bool
) -> Float[Tensor, "B d d"] | Float[Tensor, " B"]:
    """The covariance of the data under the weights that gave `sums` (full), or its trace; in the user's units."""
    return moments(data, x, t, sums, full=full).central(data.scale)
