"""What every method has to agree with: the posterior and the density by their definitions, one query at a time, in float64."""

import math

import numpy as np
from scipy import special


def displacement(points: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """`m_t(x) - x = sum_i w_i (x_i - x)` for each row of x, from differences, with SciPy's softmax."""
    rows = []
    for row in x:
        difference = points - row
        weight = special.softmax(-np.einsum("nd,nd->n", difference, difference) / (2 * t))
        rows.append(weight @ difference)
    return np.stack(rows)


def mollified(points: np.ndarray, x: np.ndarray, t: float, offsets: np.ndarray) -> np.ndarray:
    """The mean of `m_t(x + V) - x` over the offsets V, for each row of x."""
    return np.stack([(displacement(points, row + offsets, t) + offsets).mean(0) for row in x])


def log_density(points: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """`log p_t(x)` for each row of x, from differences, with SciPy's logsumexp."""
    n, dim = points.shape
    sums = [special.logsumexp(-np.square(points - row).sum(-1) / (2 * t)) for row in x]
    return np.array(sums) - math.log(n) - dim / 2 * math.log(2 * math.pi * t)


def rounding(points: np.ndarray, x: np.ndarray, t: float, eps: float) -> float:
    """By how much an exponent may err that was computed with machine precision eps, whichever way.

    `|x - x_i|^2/2t` from a product of vectors errs by rounding numbers up to `(|x| + |x_i|)^2/2t`, in the worst case d times.
    A factor 4 for the roundings before and after the sum of products; the error of that sum itself is that of pairwise or blocked sums.
    """
    size = (np.linalg.norm(x, axis=-1).max() + np.linalg.norm(points, axis=-1).max()) ** 2
    return float(4 * eps * size / (2 * t))
