r"""Sums over the data by one matrix product on centered points: fast, an exponent errs by about `eps R (|x - c| + R)/t`."""

from kss.engine.data import EXPONENT_FLOOR, FLOOR_WEIGHT, Data, Queries, Sums, similarity


def by_product(data: Data, queries: Queries, part: slice) -> Sums:
    """The sums over one part of the data."""
    product = similarity(data, queries, part)
    index = product.detach().argmax(-1, keepdim=True)
    exponent = (product - product.gather(-1, index)) * queries.stiffness.unsqueeze(-1)
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
