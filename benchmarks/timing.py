"""Timing several things side by side, and what the machine could do at best."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

FEWEST = 3
"""Rounds that are run in any case, if so many are asked for."""
SETTLED = 0.5
"""Seconds from which a task is its own warming up."""
GEMM_SIDE = {"cpu": 2048, "cuda": 8192}
EXP_SIZE, EXP_TIMES = {"cpu": 2**18, "cuda": 2**22}, 64
"""The exponential of numbers that stay in the cache: the one nearest to the core, or the one that a whole graphics card shares."""


@dataclass(frozen=True)
class Rounds:
    """Seconds of each task in each round; `share` is the part of the whole task that was run."""

    seconds: Mapping[str, list[float]]
    share: Mapping[str, float]

    def median(self, name: str) -> float:
        """Median seconds of the whole task."""
        return statistics.median(self.whole(name))

    def whole(self, name: str) -> list[float]:
        """Seconds of the whole task in each round, scaled linearly where a part was run."""
        return [value / self.share[name] for value in self.seconds[name]]

    def ratio(self, name: str, other: str) -> float:
        """Median over the rounds of the time of `name` by that of `other` in the same round."""
        return statistics.median(a / b for a, b in zip(self.whole(name), self.whole(other), strict=True))


def interleave(
    tasks: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    share: Mapping[str, float] | None = None,
    budget: float = 20.0,
    clock: Callable[[], float] | None = None,
    seed: int = 0,
) -> Rounds:
    """Time every task once in each round, in an order drawn anew; after one run of each that does not count.

    What takes less than `SETTLED` seconds is run twice in a row, and the second run counts: the first one suffers from what the task
    before has left in caches and in waiting threads. After three rounds no other is begun when `budget` seconds have passed.
    """
    clock = clock or finished
    order, shuffler = list(tasks), random.Random(seed)
    brief = set()
    for name, task in tasks.items():
        started = clock()
        task()
        if clock() - started < SETTLED:
            brief.add(name)
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    enabled = gc.isenabled()
    gc.disable()  # a collection would fall on whichever task happens to run
    began = clock()
    try:
        for count in range(rounds):
            if count >= FEWEST and clock() - began > budget:
                break
            shuffler.shuffle(order)
            for name in order:
                if name in brief:
                    tasks[name]()
                started = clock()
                tasks[name]()
                seconds[name].append(clock() - started)
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return Rounds(seconds, {name: (share or {}).get(name, 1.0) for name in tasks})


def finished() -> float:
    """The time when everything that was asked for is done: a graphics card works while the program goes on."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def limits(dtype: torch.dtype, device: str = "cpu") -> dict[str, Callable[[], object]]:
    """Tasks "gemm" and "exp", to be run in the same rounds as what is held against them."""
    generator, side = torch.Generator().manual_seed(0), GEMM_SIDE[device]
    a, b = (torch.randn(side, side, dtype=dtype, generator=generator).to(device) for _ in range(2))
    product = torch.empty_like(a)
    x = -20 * torch.rand(EXP_SIZE[device], dtype=dtype, generator=generator).to(device)
    y = torch.empty_like(x)

    def exponentials() -> None:
        for _ in range(EXP_TIMES):
            torch.exp(x, out=y)

    return {"gemm": lambda: torch.mm(a, b, out=product), "exp": exponentials}


def rates(rounds: Rounds, device: str = "cpu") -> tuple[list[float], list[float]]:
    """Floating-point operations and exponentials per second, in each round."""
    gemm = [2 * GEMM_SIDE[device] ** 3 / s for s in rounds.seconds["gemm"]]
    return gemm, [EXP_SIZE[device] * EXP_TIMES / s for s in rounds.seconds["exp"]]


def floor(points: int, dim: int, queries: int, gemm: float, exp: float) -> float:
    """`4BNd/GEMM + BN/exp` seconds: two matrix products and one exponential for each pair are what a posterior mean takes."""
    return 4 * queries * points * dim / gemm + queries * points / exp


def fraction(rounds: Rounds, name: str, points: int, dim: int, queries: int, device: str = "cpu") -> float:
    """Median over the rounds of the floor by the time of `name`."""
    floors = (floor(points, dim, queries, gemm, exp) for gemm, exp in zip(*rates(rounds, device), strict=True))
    return statistics.median(least / seconds for least, seconds in zip(floors, rounds.whole(name), strict=True))
