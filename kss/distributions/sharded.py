r"""The empirical law of data that do not fit in memory, or not in one machine.

For data in disjoint shards `S_1..S_K` everything that a posterior needs is a sum over points, taken relative to a reference:

    Z_k = sum_{i in S_k} exp(L_i - L_ref),    (sum_{i in S_k} w_i x_i)/Z_k, ...,      L_i = -|x - x_i|^2/(2t),

and two such sums merge by rescaling the one with the farther reference (`kss.engine.data.merge`). Merging is associative, so a
shard is read, summed and forgotten, by whoever is free, and only sums of the size of the queries travel.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import hypot
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_query, reject
from kss.distributions.base import Distribution, Posterior
from kss.distributions.empirical import posterior_from_sums
from kss.engine.data import Data, Queries, Sums, differentiated, merge, power_of_two
from kss.engine.moments import Moments, moments
from kss.engine.reduce import TOLERANCE, reduce, resolved

Result = TypeVar("Result")


class ShardedEmpirical(Distribution):
    """`Empirical` of the points of all shards together, of which one at a time is in memory: the same numbers, up to rounding.

    `shards` is a list of arrays of shape (n, d), or of functions without arguments that return one (`npy_shards` makes them
    for a file), or a Dask array (N, d) or frame, whose chunks or partitions are the shards; Zarr and Parquet
    come in that way. Sizes may differ. All shards are read once here, once for each posterior, and once more for its covariance.

    With `dask` they are read by the workers of Dask's current client (`dask.distributed.Client`), or, when there is none, of a
    cluster of one process for each core of this machine that is started when first needed and ends with the program; a
    script then needs its `if __name__ == "__main__"`. What a worker that dies had not delivered is done again by another. Inside a task of
    Dask, as without `dask`, the shards are read one after the other. The numbers are the same to the last bit.
    Arrays in the list travel to the workers in each call; functions only say where to read. Gradients need `dask=False`.

    `ValueError` if there are no shards, or naming the shard that is empty, not finite or of another width than the first.

    >>> law = ShardedEmpirical([[[0.0], [1.0]], [[2.0]]])
    >>> law
    ShardedEmpirical(<3 points in dimension 1, in 2 shards>)
    >>> law.denoise([[0.5]], t=0.1)
    tensor([[0.5000]], dtype=torch.float64)
    """

    intrinsic_dim = 0

    def __init__(self, shards: Any, *, dask: bool = False) -> None:
        self._dask = dask
        self._shards = _as_list(shards)
        found = self._over(range(len(self._shards)), _extent, _append)
        self.dim = found[0].lower.shape[0]
        for number, extent in enumerate(found):
            if extent.lower.shape[0] != self.dim:
                raise reject(f"shards[{number}]", extent.lower, f"points of dimension {self.dim}, as in shards[0]")
        self._starts = np.cumsum([0, *(extent.size for extent in found)])
        self._box = torch.stack((torch.stack([e.lower for e in found]).amin(0), torch.stack([e.upper for e in found]).amax(0)))
        # One unit for all shards, which bounds the distance of any point from the center of all.
        center = sum((e.size / len(self) * e.center for e in found), torch.zeros(self.dim, dtype=torch.float64))
        reach = max(e.radius + hypot(*(e.center - center).tolist()) for e in found)
        scale = power_of_two(reach) if reach > 0 else 1.0
        self._whole = _Whole(center, scale, reach / scale, len(self))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        return f"ShardedEmpirical(<{len(self)} points in dimension {self.dim}, in {len(self._shards)} shards>)"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n d"]:
        n, generator = as_count("n", n), as_generator(generator)
        index = torch.randint(len(self), (n,), generator=generator, device=generator.device).cpu()
        ordered, order = index.sort()
        numbers = np.unique(np.searchsorted(self._starts, ordered.numpy(), side="right") - 1).tolist()
        rows = self._over(numbers, _rows, _concatenate, ordered, self._starts)
        return torch.empty_like(rows).index_copy(0, order, rows).to(self._box.dtype)

    def bounds(self) -> Float[Tensor, "2 d"]:
        return self._box.clone()

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self._box)
        if self._dask and differentiated(query.x, query.t):
            raise reject("x", x, "points and noise variances without gradient, which does not travel: dask=False has it")
        flat, noise = query.x.reshape(-1, self.dim), query.t.reshape(-1)
        whole, everything = self._whole, range(len(self._shards))
        sums = self._over(everything, _sums, _merge, flat, noise, whole, "auto")
        again = (~resolved(whole, Queries.of(whole, flat, noise), sums)).nonzero().squeeze(-1)
        if len(again):
            exact = self._over(everything, _sums, _merge, flat[again], noise[again], whole, "difference")
            sums = Sums(*(old.index_copy(0, again, new) for old, new in zip(sums, exact, strict=True)))

        def second(full: bool) -> Tensor:
            return self._over(everything, _moments, _add, flat, noise, whole, sums, full).central(whole.scale)

        return posterior_from_sums(query, sums, whole.scale, len(self), second)

    def _over(self, numbers: Sequence[int], task: Callable[..., Result], join: Callable[..., Result], *arguments: object) -> Result:
        """`task(points, number, *arguments)` for these shards, joined in pairs by `join(first, second, *arguments)`."""
        bar = tqdm(total=len(numbers), desc="shards", unit="shard", delay=2.0, leave=False, disable=None)
        client = _client() if self._dask else None
        with bar:
            if client is None:

                def here(number: int) -> Result:
                    result = _load_and_do(self._shards[number], number, task, *arguments)
                    bar.update()
                    return result

                return _tree(here, lambda first, second: join(first, second, *arguments), numbers)

            from dask.delayed import delayed

            # Nodes of the graph: the scheduler can send them again, which it could not with data scattered to a worker that died.
            shared = [delayed(argument, traverse=False) for argument in arguments]
            there, joined = delayed(_load_and_do, pure=False), delayed(join, pure=False)
            leaves = [there(self._shards[number], number, task, *shared) for number in numbers]
            whole = _tree(leaves.__getitem__, lambda first, second: joined(first, second, *shared), range(len(leaves)))
            result, *futures = client.compute([whole, *leaves])
            while futures:  # not kept: what has been joined is to be forgotten
                futures.pop().add_done_callback(lambda _: bar.update())
            return result.result()


def npy_shards(path: str | Path, *, rows: int) -> list[Callable[[], np.ndarray]]:
    """Shards of at most `rows` points each of the array (N, d) in a .npy file, which is mapped, never loaded as a whole.

    Workers on other machines need the file under the same path. `ValueError` if it does not hold an array of two dimensions.
    """
    rows, path = as_count("rows", rows), Path(path).resolve()
    mapped = np.load(path, mmap_mode="r")
    if mapped.ndim != 2 or not len(mapped):
        raise reject("path", mapped, "a file with a non-empty array of shape (N, d)")
    return [partial(_part_of_file, path, slice(i, min(i + rows, len(mapped)))) for i in range(0, len(mapped), rows)]


def _part_of_file(path: Path, rows: slice) -> np.ndarray:
    return np.array(np.load(path, mmap_mode="r")[rows])


def _as_list(shards: Any) -> list[Any]:
    if hasattr(shards, "to_delayed"):  # a Dask array or frame
        if getattr(shards, "ndim", 2) == 2 and hasattr(shards, "rechunk"):
            shards = shards.rechunk({1: -1})
        return np.ravel(np.asarray(shards.to_delayed(), dtype=object)).tolist()
    if not isinstance(shards, Sequence) or isinstance(shards, str) or not shards:
        raise reject(
            "shards", shards, "a non-empty list of arrays of shape (n, d) or of functions that return one, or a Dask array or frame"
        )
    return list(shards)


def _client() -> Any:
    """Dask's current client, if need be a new one; None inside a task, which must not wait for others."""
    try:
        from distributed import Client, get_worker
    except ImportError as error:
        raise ImportError("dask=True needs the extra 'dask': pip install 'kernel-smoothed-scores[dask]'") from error
    try:
        get_worker()
    except ValueError:
        try:
            return Client.current()
        except ValueError:
            return Client(threads_per_worker=1, dashboard_address="localhost:0")
    return None


def _tree(leaf: Callable[[int], Result], join: Callable[[Result, Result], Result], numbers: Sequence[int]) -> Result:
    """Depth first: no more results wait than the tree is deep."""
    if len(numbers) == 1:
        return leaf(numbers[0])
    half = len(numbers) // 2
    return join(_tree(leaf, join, numbers[:half]), _tree(leaf, join, numbers[half:]))


def _load_and_do(shard: Any, number: int, task: Callable[..., Result], *arguments: object) -> Result:
    if hasattr(shard, "__dask_graph__"):  # where Dask runs the task, it has put the array itself in place
        shard = shard.compute(scheduler="synchronous")
    value = shard() if callable(shard) else shard
    if hasattr(value, "__array__") and not isinstance(value, Tensor):
        value = np.require(value, requirements="W")  # torch wants arrays it might write to
    return task(as_points(f"shards[{number}]", value), number, *arguments)


# --- what is done with a shard, and how the results of two are joined ---------------------------------------------------


@dataclass
class _Whole:
    """All points, as far as merging and judging sums ask (`kss.engine.data.Frame`)."""

    center: Float[Tensor, " d"]
    scale: float
    radius: float
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def multiplicity(self) -> int:
        """Not known across shards."""
        return self.count


class _Extent(NamedTuple):
    size: int
    lower: Float[Tensor, " d"]
    upper: Float[Tensor, " d"]
    center: Float[Tensor, " d"]
    radius: float


def _extent(points: Float[Tensor, "n d"], number: int) -> list[_Extent]:
    data = Data(points)
    return [_Extent(len(points), points.amin(0), points.amax(0), data.center, data.scale * float(data.values[:, -1].max()) ** 0.5)]


def _append(first: list[_Extent], second: list[_Extent]) -> list[_Extent]:
    return first + second


def _sums(points: Float[Tensor, "n d"], number: int, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], whole: _Whole, method: str) -> Sums:
    return reduce(Data(points, whole.scale), x, t, TOLERANCE, method)


def _merge(first: Sums, second: Sums, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], whole: _Whole, method: str) -> Sums:
    return merge(whole, Queries.of(whole, x, t), first, second)


def _moments(
    points: Float[Tensor, "n d"], number: int, x: Float[Tensor, "B d"], t: Float[Tensor, " B"], whole: _Whole, sums: Sums, full: bool
) -> Moments:
    return moments(Data(points, whole.scale), x, t, sums, full=full)


def _add(first: Moments, second: Moments, *_: object) -> Moments:
    return Moments(*map(operator.add, first, second))


def _rows(points: Float[Tensor, "n d"], number: int, index: Int[Tensor, " m"], starts: np.ndarray) -> Float[Tensor, "k d"]:
    local = index - int(starts[number])
    return points[local[(local >= 0) & (local < len(points))]]


def _concatenate(first: Float[Tensor, "m d"], second: Float[Tensor, "n d"], *_: object) -> Float[Tensor, "k d"]:
    return torch.cat((first, second))
