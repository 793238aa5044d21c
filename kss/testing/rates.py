"""Orders of convergence, from sizes at halved steps."""

from typing import Any

import numpy as np

from kss.testing.compare import agree, require

HALVINGS = 2.0 ** -np.arange(4)
"""1, 1/2, 1/4, 1/8."""


def order_of(what: str, sizes: Any, order: int) -> float:
    """Sizes at h, h/2, h/4, h/8 are of the given order in h; returns the last local slope.

    Local slopes tend to the order like `const h`, so what is left after the last equals its last change; twice that is allowed.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    require(bool(np.all(np.isfinite(sizes)) and np.all(sizes > 0)), f"{what}: no slope through {sizes}")
    slopes = np.log2(sizes[:-1] / sizes[1:])
    allowed = 2 * max(abs(slopes[2] - slopes[1]), abs(slopes[1] - slopes[0]) / 2)
    require(allowed < 0.4, f"{what}: slopes {slopes} do not settle")  # an interval that excludes the next orders
    agree(f"{what}: order in h", slopes[2], order, allowed)
    return float(slopes[2])
