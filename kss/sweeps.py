r"""The same computation on every point of a grid of parameters, on one machine or many.

A sweep evaluates `f(t, N, h, seed)` on a product of axes. Its points know nothing of each other: every one gets its own seed as
an argument, never a global state, and one thread for its arithmetic, so that what it returns depends neither on who computes
it nor on how many do.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from kss._validation import reject


def sweep(function: Callable[..., Any], *, n_jobs: int | None = None, **axes: Any) -> list[dict[str, Any]]:
    """`function(t=..., N=..., ...)` on the product of the named `axes`, as the rows of a table; the last axis varies fastest.

    A row holds the parameters and what the function returned: its items if that is a mapping, else under "value". The
    order is that of the product, whatever `n_jobs`: the number of processes on this machine, all cores for -1. By default
    it is what `joblib.parallel_config` says: 1 outside of it, the workers of a cluster within

        with dask.distributed.Client(address), joblib.parallel_config(backend="dask"):
            rows = sweep(error, t=[0.01, 0.1], N=[100, 1000], seed=range(10))

    A function that uses chance takes its seed as an argument. Points that share a seed share their random numbers, which
    is what comparing parameters asks for. Shows progress on a terminal if it takes long. `ValueError` naming an axis that is empty
    or no list of values, or a result that would overwrite a parameter.

    >>> sweep(lambda t, N: t / N, t=[1.0, 2.0], N=[10])
    [{'t': 1.0, 'N': 10, 'value': 0.1}, {'t': 2.0, 'N': 10, 'value': 0.2}]
    """
    values = {}
    for name, axis in axes.items():
        if isinstance(axis, str) or not isinstance(axis, Iterable) or not (listed := list(axis)):
            raise reject(name, axis, "a non-empty list of values")
        values[name] = listed
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(_on_one_thread)(function, point) for point in points)
    bar = tqdm(results, total=len(points), desc="sweep", unit="point", delay=2.0, leave=False, disable=None)
    return [_row(point, result) for point, result in zip(points, bar, strict=True)]


def _on_one_thread(function: Callable[..., Any], point: dict[str, Any]) -> Any:
    # The number of threads decides in which order a sum is added up, hence its rounding.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(**point)
    finally:
        torch.set_num_threads(threads)


def _row(point: dict[str, Any], result: Any) -> dict[str, Any]:
    result = result if isinstance(result, Mapping) else {"value": result}
    if taken := point.keys() & result.keys():
        raise reject("function", sorted(taken), "a result that names none of the parameters; these it does")
    return point | dict(result)
