"""Saying that two computations agree, or by how much they do not."""

from typing import Any

import numpy as np


class CheckFailed(AssertionError):
    """The prediction under test and the independent reference disagree."""


def agree(what: str, got: Any, expected: Any, allowed: Any) -> float:
    """Raise `CheckFailed` unless `|got - expected| <= allowed` everywhere; NaN agrees with nothing.

    Returns the largest error as a fraction of what was allowed.
    """
    got, expected, allowed = (np.asarray(v, dtype=np.float64) for v in (got, expected, allowed))
    if got.shape != expected.shape:
        raise CheckFailed(f"{what}: shape {got.shape}, expected {expected.shape}")
    error = np.abs(got - expected)
    if not bool(np.all(error <= allowed)):
        worst = np.unravel_index(np.argmax(np.nan_to_num(error - allowed, nan=np.inf)), error.shape)
        limit = np.broadcast_to(allowed, error.shape)[worst]
        raise CheckFailed(f"{what}: got {got[worst]:.9g}, expected {expected[worst]:.9g}, allowed error {limit:.3g}")
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.max(np.where(error > 0, error / allowed, 0.0), initial=0.0))


def require(condition: bool | np.bool_, failure: str) -> None:
    """Raise `CheckFailed(failure)` unless the condition holds."""
    if not condition:
        raise CheckFailed(failure)
