r"""Collapse of the empirical denoiser onto the nearest data point, as t -> 0.

With `r_1 <= r_2 <= ...` the distances from x to the data in order and `gap = r_2^2 - r_1^2`, every weight but the largest is at
most `exp(-gap/2t)` times the largest, so the posterior mean is exponentially close to the nearest point.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kss._validation import ArrayLike, as_points, as_query, as_tensor, reject


def nearest_point_bound(gap: ArrayLike, t: ArrayLike, n: int, diameter: ArrayLike) -> Float[Tensor, "*batch"]:
    """`|m_t^N(x) - x_nearest| <= (N - 1) exp(-gap/2t) diameter`, with `gap = r_2^2 - r_1^2` >= 0 and N = `n` points.

    `diameter` bounds the distances between data points. `ValueError` for a negative gap or diameter, `t <= 0` or `n < 1`.
    """
    gap = torch.as_tensor(gap, dtype=torch.float64)  # may be infinite: `nearest` says so of a single point
    diameter, t = as_tensor("diameter", diameter).double(), as_tensor("t", t).double()
    for name, value in (("gap", gap), ("diameter", diameter)):
        if not bool((value >= 0).all()):
            raise reject(name, value.tolist(), "a number >= 0")
    if bool((t <= 0).any()):
        raise reject("t", t.tolist(), "a noise variance t > 0")
    if n < 1:
        raise reject("n", n, "an integer >= 1")
    return (n - 1) * torch.exp(-gap / (2 * t)) * diameter


class Nearest(NamedTuple):
    """The data point nearest to a query."""

    which: Int[Tensor, "*batch"]
    distance: Float[Tensor, "*batch"]
    gap: Float[Tensor, "*batch"]
    """`r_2^2 - r_1^2`; infinite if there is one data point."""


def nearest(points: ArrayLike, x: ArrayLike) -> Nearest:
    """The nearest of `points` (N, d) to each of `x` (..., d), its distance, and the gap to the next."""
    data = as_points("points", points).double()
    query = as_query(x, 1.0, like=data).x
    # cdist by differences, not by the expanded square: the gap would lose what makes it small.
    parts = query.reshape(-1, data.shape[1]).split(1024)
    closest = [
        torch.cdist(part, data, compute_mode="donot_use_mm_for_euclid_dist").topk(min(2, len(data)), largest=False) for part in parts
    ]
    distance, index = torch.cat([c.values for c in closest]), torch.cat([c.indices for c in closest])
    first = distance[:, 0]
    gap = (distance[:, 1] - first) * (distance[:, 1] + first) if len(data) > 1 else torch.full_like(first, torch.inf)
    shape = query.shape[:-1]
    return Nearest(index[:, 0].reshape(shape), first.reshape(shape), gap.reshape(shape))
