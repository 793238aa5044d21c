"""What is measured. Each function yields the rows of one table, as plain numbers, when what they time has been found right."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.methods import DENSITY, POSTERIOR, Evaluate, Method, faiss_nearest, ours
from benchmarks.problems import points_of, queries_of
from benchmarks.timing import fraction, interleave, limits, rates
from kss.distributions import Empirical
from kss.dynamics import sample_reverse_sde
from kss.kernels import GaussianKernel

Row = dict[str, Any]
EPSILON = torch.finfo(torch.float64).eps
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class WrongNumbersError(AssertionError):
    """A method does not compute what it is meant to; its time would mean nothing."""


@dataclass(frozen=True)
class Plan:
    """Sizes: what is run in full, and what for trying."""

    rounds: int
    posterior: Sequence[tuple[str, int, int, int]]
    """Data, number of points, dimension, number of queries."""
    times: Sequence[tuple[str, int, int, int]]
    density: Sequence[tuple[str, int, int, int]]
    boxes: tuple[str, int, int, int]
    screening: tuple[str, int, int, int]
    mollified: int
    """Queries of the mollified score."""
    memory: Sequence[int]
    """Numbers of points."""
    steps: int
    """Of reverse diffusion."""
    device: str = "cpu"
    """Where the data live: "cpu" or "cuda"."""


FULL = Plan(
    rounds=7,
    posterior=(
        ("images", 60000, 784, 1024),
        ("images", 60000, 784, 256),
        ("digits", 1797, 64, 1024),
        ("cloud", 50000, 2, 4096),
        ("cloud", 2000, 2, 4096),
    ),
    times=(("cloud", 50000, 2, 4096), ("digits", 1797, 64, 1024), ("images", 20000, 784, 256)),
    density=(("cloud", 2000, 2, 4096), ("digits", 1797, 64, 1024), ("cloud", 50000, 2, 1024)),
    boxes=("cloud", 50000, 2, 4096),
    screening=("images", 60000, 784, 256),
    mollified=1000,
    memory=(10**4, 10**5, 10**6),
    steps=500,
)
QUICK = Plan(
    rounds=3,
    posterior=(("images", 4000, 784, 128), ("digits", 1797, 64, 1024), ("cloud", 2000, 2, 4096)),
    times=(("cloud", 5000, 2, 1024), ("digits", 1797, 64, 256)),
    density=(("cloud", 2000, 2, 1024), ("digits", 1797, 64, 256)),
    boxes=("cloud", 20000, 2, 1024),
    screening=("images", 10000, 784, 128),
    mollified=200,
    memory=(10**4, 10**5),
    steps=50,
)
TIMES = tuple(10.0**k for k in range(-4, 2))
"""Noise variances over which the cost should be flat."""
NODES = 64
CHECKED = 8
"""Queries on which every method has to be right."""


def posterior(plan: Plan) -> Iterator[Row]:
    """Posterior means at t = 1: the package beside what people would use, with the fraction of what the machine can do."""
    for data, n, dim, queries in plan.posterior:
        points = points_of(data, n, dim)
        x = queries_of(points, queries, 1.0)
        for dtype in DTYPES:
            yield _posterior_row(POSTERIOR, data, points.to(plan.device), x.to(plan.device), 1.0, dtype, plan.rounds)


def _posterior_row(methods: Sequence[Method], data: str, points: Tensor, x: Tensor, t: float, dtype: str, rounds: int) -> Row:
    """One problem in one type of number, every method in the same rounds."""
    points, x = points.to(DTYPES[dtype]), x.to(DTYPES[dtype])
    device = points.device.type
    (n, dim), queries = points.shape, len(x)
    tasks, share, found = {}, {}, {}
    for method in methods:
        if not method.installed:
            found[method.name] = {"installed": False}
            continue
        evaluate, at_once = method.make(points), method.at_once(n, dim, queries)
        error = posterior_error(method, evaluate, points, x, t)
        found[method.name] = {"installed": True, "error": error, "queries": at_once}
        tasks[method.name] = _task(evaluate, x[:at_once], t)
        share[method.name] = at_once / queries
    measured = interleave(tasks | limits(points.dtype, device), rounds, share=share)
    for name in tasks:
        found[name] |= {
            "seconds": measured.median(name),
            "times ours": measured.ratio(name, methods[0].name),
            "fraction": fraction(measured, name, n, dim, queries, device),
        }
    gemm, exp = rates(measured, device)
    machine = {"gemm": float(np.median(gemm)), "exp": float(np.median(exp))}
    return {"data": data, "points": n, "dim": dim, "queries": queries, "t": t, "dtype": dtype} | machine | {"methods": found}


def posterior_error(method: Method, evaluate: Evaluate, points: Tensor, x: Tensor, t: float) -> float:
    """The error of the displacement on a few queries, relative to its size; `WrongNumbersError` if rounding does not explain it.

    An error of at most e in every exponent moves a mean by at most `sinh(e)` times the spread of what is averaged, and by at most
    the diameter; to it comes the rounding of the average.
    """
    x = x[:CHECKED]
    exact_points, exact_x = points.double().cpu().numpy(), x.double().cpu().numpy()
    expected = reference.displacement(exact_points, exact_x, t)
    error = np.linalg.norm(evaluate(x, t).double().cpu().numpy() - expected, axis=-1)
    eps = torch.finfo(points.dtype).eps
    size = 2 * np.linalg.norm(exact_points, axis=-1).max()
    allowed = min(math.sinh(min(reference.rounding(exact_points, exact_x, t, eps), 20.0)), 1.0) * size
    allowed += 8 * eps * (size + np.linalg.norm(exact_x, axis=-1).max()) * math.sqrt(len(points))
    if method.exact and not bool((error <= allowed + method.tol * np.linalg.norm(expected, axis=-1)).all()):
        raise WrongNumbersError(f"{method.name}, {points.dtype}, t = {t:g}: error {error.max():.3g}, rounding explains {allowed:.3g}")
    return float(np.sqrt((error**2).mean() / (np.linalg.norm(expected, axis=-1) ** 2).mean()))


def density_error(method: Method, evaluate: Evaluate, points: Tensor, x: Tensor, t: float) -> Row:
    """The median and largest error of the log-density; `WrongNumbersError` unless rounding explains it.

    An error of at most e in every exponent moves the log-density by at most e; to it comes the rounding of as many sums as there are
    points, of numbers of the size of the result, which does not conspire. Of a method that approximates on purpose only the median
    has to be below 1e-5: a constant or a factor forgotten would show.
    """
    exact_points, exact_x = points.numpy(), x.numpy()
    expected = reference.log_density(exact_points, exact_x, t)
    error = np.abs(evaluate(x, t).numpy() - expected)
    allowed = reference.rounding(exact_points, exact_x, t, EPSILON) + 8 * EPSILON * math.sqrt(len(points)) * (1 + np.abs(expected).max())
    worst, limit = (error.max(), allowed) if method.exact else (np.median(error), 1e-5)
    if not worst <= limit:
        raise WrongNumbersError(f"{method.name}: the log-density errs by {worst:.3g}, rounding explains {limit:.3g}")
    return {"median error": float(np.median(error)), "largest error": float(error.max())}


def _task(evaluate: Evaluate, x: Tensor, t: float) -> Callable[[], Tensor]:
    return lambda: evaluate(x, t)


def times(plan: Plan) -> Iterator[Row]:
    """The package alone, in float64, over noise variances: all of them in the same rounds."""
    for data, n, dim, queries in plan.times:
        points = points_of(data, n, dim).to(plan.device)
        evaluate = ours()(points)
        tasks = {f"{t:g}": _task(evaluate, queries_of(points, queries, t), t) for t in TIMES}
        for t in TIMES:
            posterior_error(POSTERIOR[0], evaluate, points, queries_of(points, queries, t), t)
        measured = interleave(tasks, plan.rounds)
        ratios = {name: measured.ratio(name, "1") for name in tasks}
        seconds = {name: measured.median(name) for name in tasks}
        yield {"data": data, "points": n, "dim": dim, "queries": queries, "seconds": seconds, "times t = 1": ratios}


def density(plan: Plan) -> Iterator[Row]:
    """Log-densities in float64, with the largest error of each."""
    for data, n, dim, queries in plan.density:
        points = points_of(data, n, dim)
        x, t = queries_of(points, queries, 1.0), 1.0
        made = {method.name: method.make(points) for method in DENSITY}
        errors = {method.name: density_error(method, made[method.name], points, x, t) for method in DENSITY}
        measured = interleave({name: _task(evaluate, x, t) for name, evaluate in made.items()}, plan.rounds)
        found = {name: _against(measured, name, DENSITY[0].name) | errors[name] for name in made}
        yield {"data": data, "points": n, "dim": dim, "queries": queries, "t": t, "methods": found}


def _against(measured: Any, name: str, first: str) -> Row:
    return {"seconds": measured.median(name), "times ours": measured.ratio(name, first)}


def small_noise(plan: Plan) -> Iterator[Row]:
    """What leaving points out under a bound saves where little noise is left, beside the same posterior over all points."""
    for problem, routes, tol, levels, dtype in (
        (plan.boxes, {"all points": "product", "boxes": "boxes", "auto": "auto"}, 1e-7, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), "float64"),
        (plan.screening, {"all points": "attention", "nearest": "nearest", "auto": "auto"}, 1e-5, (1e-3, 1e-2, 1e-1, 1.0), "float32"),
    ):
        data, n, dim, queries = problem
        points = points_of(data, n, dim).to(DTYPES[dtype])
        methods = [Method(name, ours(route, tol), tol=tol) for name, route in routes.items()]
        if dim > 10:
            methods.append(Method("faiss, 64 nearest", faiss_nearest(64), needs="faiss", exact=False))
        for t in levels:
            x = queries_of(points.double(), queries, t)
            yield _posterior_row(methods, data, points, x, t, dtype, max(3, plan.rounds // 2)) | {"tol": tol}


def mollified(plan: Plan) -> Iterator[Row]:
    """A mollified score with `NODES` nodes: by the factorized sums, and over all pairs of query and node; and a plain score."""
    points, t, h = points_of("digits", 1797, 64).to(plan.device), 1.0, 0.4
    rule = next(iter(GaussianKernel(h).sobol(64, 2**16, 0)))
    offsets = math.sqrt(h) * rule.nodes.flatten(0, 1)[:NODES].to(plan.device)
    weights = torch.full((1, NODES), 1 / NODES, dtype=torch.float64, device=plan.device)
    for dtype in DTYPES:
        law = Empirical(points.to(DTYPES[dtype]))
        x = queries_of(points, plan.mollified, t).to(DTYPES[dtype])
        tasks = {
            "factorized": _factorized(law, x, t, offsets, weights),
            "direct": _direct(law, x, t, offsets),
            "plain score": _task(lambda x, t, law=law: law.posterior(x, t).displacement, x, t),
        }
        exact = reference.mollified(law.points.double().cpu().numpy(), x[:CHECKED].double().cpu().numpy(), t, offsets.cpu().numpy())
        for name in ("factorized", "direct"):
            error = np.linalg.norm(tasks[name]()[:CHECKED].double().cpu().numpy() - exact) / np.linalg.norm(exact)
            if not error <= (1e-5 if dtype == "float32" else 1e-12):  # the accuracies that the package promises
                raise WrongNumbersError(f"{name}, {dtype}: the mollified score errs by {error:.3g}")
        measured = interleave(tasks, plan.rounds)
        found = {name: _against(measured, name, "factorized") for name in tasks}
        shape = {"data": "digits", "points": len(law), "dim": 64, "queries": len(x), "nodes": NODES}
        yield shape | {"t": t, "h": h, "dtype": dtype, "methods": found}


def _factorized(law: Empirical, x: Tensor, t: float, offsets: Tensor, weights: Tensor) -> Callable[[], Tensor]:
    noise = x.new_tensor(t, dtype=torch.float64)

    def task() -> Tensor:
        found = law.mollified_displacement(x.double(), noise, offsets[None], weights)
        assert found is not None
        return found[0][0, 0]

    return task


def _direct(law: Empirical, x: Tensor, t: float, offsets: Tensor) -> Callable[[], Tensor]:
    """The posterior at every pair of query and node; the mean of the offsets is taken away, as the nodes' own is 0."""
    return lambda: (law.posterior(x[:, None] + offsets.to(x.dtype), t).displacement + offsets).mean(1)


def sampling(plan: Plan) -> Iterator[Row]:
    """Reverse diffusion on the digits, 1000 samples."""
    points = points_of("digits", 1797, 64).to(plan.device)
    tasks = {}
    for dtype in DTYPES:
        law = Empirical(points.to(DTYPES[dtype]))
        start = law.diffuse(1000, 100.0, generator=0)
        how: Any = {"t_max": 100.0, "t_min": 1e-3, "steps": plan.steps, "generator": 1}
        tasks[dtype] = lambda law=law, start=start, how=how: sample_reverse_sde(law, start, **how)
    measured = interleave(tasks, 3)
    for dtype in DTYPES:
        seconds = measured.median(dtype)
        yield {"data": "digits", "samples": 1000, "steps": plan.steps, "dtype": dtype, "seconds": seconds}
