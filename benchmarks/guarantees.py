"""What is promised beside speed: the accuracy of single precision, and memory that does not grow with the data."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.problems import points_of, queries_of
from kss.distributions import Empirical

Row = dict[str, Any]
QUERIES = 256
LEVELS = tuple(10.0**k for k in range(-4, 2))


def places(points: Tensor, t: float) -> dict[str, Tensor]:
    """Where a score is asked for: at draws of `p_t`, near ties between two data, and far outside."""
    generator = torch.Generator().manual_seed(2)
    first, second = (points[torch.randint(len(points), (QUERIES,), generator=generator)] for _ in range(2))
    noise = torch.randn(QUERIES, points.shape[1], dtype=points.dtype, generator=generator)
    radius = float((points - points.mean(0)).norm(dim=-1).max())
    return {
        "draws": queries_of(points, QUERIES, t),
        "near ties": (first + second) / 2 + 1e-3 * t**0.5 * noise,
        "far": 10 * radius * noise / noise.norm(dim=-1, keepdim=True),
    }


def precision(quick: bool) -> Iterator[Row]:
    """The score in single precision against that in double precision, at the same (single) points and data: largest relative error."""
    for data, n, dim in (("cloud", 2000, 2), ("digits", 1797, 64), ("images", 2000 if quick else 8000, 784)):
        points = points_of(data, n, dim)
        single = Empirical(points.float())
        double = Empirical(points.float().double())
        for t in LEVELS:
            for place, x in places(points, t).items():
                x = x.float()
                exact = double.score(x.double(), t)
                error = (single.score(x, t).double() - exact).norm(dim=-1) / exact.norm(dim=-1)
                yield {"data": data, "points": n, "dim": dim, "t": t, "place": place, "error": float(error.max())}


_MEMORY = """
import sys
from pathlib import Path
import torch
from kss.distributions import Empirical

n, dim, queries = map(int, sys.argv[1:])
points = torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
x = torch.randn(queries, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Empirical(points[:1000]).score(x, 1.0)  # libraries and threads have memory of their own
law = Empirical(points)
law.score(x[:1], 1.0)
law._data.table(torch.float32)  # what screening looks at is prepared once

def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))

Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
before = peak()
law.score(x, 1.0)
print(max(0, 1024 * (peak() - before)))
"""


def memory(sizes: tuple[int, ...] | list[int], dim: int = 16, queries: int = 1024) -> Iterator[Row]:
    """The growth of the peak of a fresh process during one call, beyond the prepared data; Linux only."""
    if not Path("/proc/self/clear_refs").exists():
        return
    for n in sizes:
        command = [sys.executable, "-c", _MEMORY, str(n), str(dim), str(queries)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield {"points": n, "dim": dim, "queries": queries, "bytes": int(done.stdout)}
