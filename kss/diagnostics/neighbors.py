r"""Distances to the nearest data, accurate to rounding however small, because a copy is exactly that: a small distance.

In few dimensions a k-d tree. In many, one matrix product gives all squared distances up to a rounding error of a known size; the
candidates it cannot exclude are measured again by differences.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

TREE = 12
"""Up to this dimension a k-d tree is faster."""
SPARE = 8
"""Candidates measured again, beyond those asked for."""
FAR = 2.0**400
"""From so many times the extent of the data a query is seen in its direction only."""
BLOCK = 2**22
"""At most so many distances are held at once."""


class Neighbors(NamedTuple):
    """Distances (n, count) to the nearest data, increasing, and which data they are."""

    distance: Float[Tensor, "n count"]
    which: Int[Tensor, "n count"]


def distinct(points: Float[Tensor, "N d"]) -> Int[Tensor, " M"]:
    """Where each different point stands first, in increasing order."""
    rows = np.ascontiguousarray(points.cpu().numpy()) + 0.0  # -0.0 is 0.0
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    return torch.from_numpy(np.sort(np.unique(keys, return_index=True)[1]))


def nearest_data(points: Float[Tensor, "N d"], queries: Float[Tensor, "n d"], count: int) -> Neighbors:
    """The `count` <= N nearest of `points` to each of `queries`, both float64 and on the CPU."""
    # In units, powers of two, in which no square overflows or is lost: that of the data; and that of each query, if it is far away.
    scale = power_of_two(points.abs().max())
    points, queries = points / scale, queries / scale
    center = points.mean(0)
    points, queries = points - center, queries - center
    scale = scale * (own := power_of_two(points.abs().max()))
    points, queries = points / own, queries / own
    shrink = (power_of_two(queries.abs().amax(1, keepdim=True)) / FAR).clamp_min(1.0)
    queries = queries / shrink
    if points.shape[1] <= TREE:
        distance, which = (torch.from_numpy(part) for part in KDTree(points.numpy()).query(queries.numpy(), list(range(1, count + 1))))
    else:
        height = max(1, BLOCK // max(len(points), (count + SPARE) * points.shape[1]))
        parts = [_by_product(points, part, count) for part in queries.split(height)]
        distance, which = torch.cat([part.distance for part in parts]), torch.cat([part.which for part in parts])
    return Neighbors(distance * scale * shrink, which.long())


def power_of_two(size: Tensor) -> Tensor:
    """At most `size`, and more than half of it; 1 for 0."""
    return torch.where(size > 0, torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent - 1), 1.0)


def _by_product(points: Float[Tensor, "N d"], queries: Float[Tensor, "b d"], count: int) -> Neighbors:
    """One block of queries."""
    kept = count + SPARE
    if len(points) <= kept:
        return _exactly(points, queries, count)
    length, own = (points**2).sum(1), (queries**2).sum(1)
    square = torch.addmm(length, queries, points.T, alpha=-2.0)  # less |query|^2, which changes no order
    rough, candidate = square.topk(kept, largest=False)
    error = 4 * (points.shape[1] + 8) * torch.finfo(torch.float64).eps * (own + length.max())
    close = torch.linalg.vector_norm(points[candidate] - queries.unsqueeze(1), dim=-1)
    order = close.sort(1)
    result = Neighbors(order.values[:, :count].clone(), candidate.gather(1, order.indices)[:, :count].clone())
    # What was left out is at least as far as the last candidate, up to rounding.
    unsure = (rough[:, -1] - rough[:, count - 1] <= 2 * error).nonzero().squeeze(1)
    for some in unsure.split(max(1, BLOCK // len(points))):
        again = _exactly(points, queries[some], count)
        result.distance[some], result.which[some] = again.distance, again.which
    return result


def _exactly(points: Float[Tensor, "N d"], queries: Float[Tensor, "b d"], count: int) -> Neighbors:
    """By differences."""
    distance = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
    return Neighbors(*distance.topk(count, largest=False))
