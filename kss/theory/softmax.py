r"""What an error in the exponents, or leaving some out, does to a softmax average.

For exponents `L_i` let `w_i = e^(L_i)/S` with `S = sum_i e^(L_i)`, and for points `x_i` let `m = sum_i w_i x_i` with the spread
`sd = (sum_i w_i |x_i - m|^2)^(1/2)`. Every bound below is attained, by points at two places on a line. Numbers and arrays are taken alike.
"""

import numpy as np
from jaxtyping import Float

Number = float | int | np.floating | Float[np.ndarray, "..."]


def mean_shift(error: Number, spread: Number, diameter: Number = np.inf) -> Number:
    """`min(sinh(e) sd, tanh(e/2) D)`: how far m moves when each exponent errs by at most e and no two points are farther apart than D."""
    error = np.asarray(error, dtype=np.float64)
    farthest = np.where(error > 0, np.tanh(error / 2) * np.where(error > 0, diameter, 0.0), 0.0)
    return np.minimum(np.sinh(error) * spread, farthest)


def log_sum_shift(error: Number, share: Number = 1.0) -> Number:
    """`log(1 + r (e^error - 1))`: how far log S moves when exponents err by at most that, and those of weight 1 - r not at all."""
    return np.log1p(np.asarray(share) * np.expm1(error))


def dropped_share(gap: Number, count: Number) -> Number:
    """`n e^(-g)/(1 + n e^(-g))`: the weight of n points whose exponents are all at least g below the largest; at most that.

    Without them m moves by at most that share of the largest distance between a point that is left out and one that is not.
    """
    odds = np.asarray(count) * np.exp(-np.asarray(gap, dtype=np.float64))
    return odds / (1 + odds)


def dropped_log_sum(gap: Number, count: Number) -> Number:
    """`log(1 + n e^(-g))`: by how much log S falls without them, at most."""
    return np.log1p(np.asarray(count) * np.exp(-np.asarray(gap, dtype=np.float64)))
