r"""Noise around a Gaussian law: Hermite polynomials take the place of Fourier modes, and convolution stops being diagonal.

Let `p_* = N(0, v I_d)`, so `p_t = N(0, s I_d)` with `s = v + t`. The polynomials `psi_n(x) = He_n(x/sqrt s)/sqrt(n!)` (products of them for
d > 1) are orthonormal in `L^2(p_t)`, and those coefficients of the linearized noise `p_t^N/p_t - 1` of N independent data are

    b_n = int p_t psi_n (p_t^N/p_t - 1) = r^{n/2} (1/N) sum_i He_n(x_i/sqrt v)/sqrt(n!),    n >= 1,    r = v/(v + t):

uncorrelated, of variance `r^n/N`. Two semigroups act on them. Mehler's, `M_u f(x) = E f(e^{-u} x + sqrt(1 - e^{-2u}) sqrt(s) Z)`,
multiplies
`psi_n` by `e^{-n u}`, and waiting for a time h is that, up to a change of scale: `delta_{t+h}(x sqrt(1 + h/s)) = M_u delta_t(x)` with
`e^{-2u} = s/(s + h)`. Convolution with `G_h` gives instead

    K * He_n = sum_j n!/(j! (n - 2j)!) (eta/2)^j He_{n-2j},    eta = h/s,

with the coefficient 1 in front of `He_n`: it damps nothing, and what it adds makes the noise larger in `L^2(p_t)`. The functions use
arithmetic only: they take numbers, tensors or symbolic expressions alike.
"""

import math
from typing import Any

from kss._validation import as_count


def noise_variance(order: Any, v: Any, t: Any, count: Any) -> Any:
    """`(v/(v + t))^n/N`: variance of the coefficient of order n >= 1; for d > 1 n is the sum of the orders along the axes."""
    return (v / (v + t)) ** order / count


def total_noise(v: Any, t: Any, d: int, count: Any) -> Any:
    """`[(1 + v/t)^d - 1]/N`: `E int p_t (p_t^N/p_t - 1)^2`, the sum of all variances and twice the delta method's expected KL."""
    return ((1 + v / t) ** d - 1) / count


def smoothed_total_noise(v: Any, t: Any, h: Any, d: int, count: Any) -> Any:
    """`[(1 + v/t)^d (1 - (h/c)^2)^{-d/2} - 1]/N`, `c = t (1 + t/v)`: the same after convolution with `G_h`, infinite from h = c on."""
    ratio = h * v / (t * (t + v))
    if isinstance(ratio, int | float) and ratio >= 1:
        return math.inf
    return ((1 + v / t) ** d * (1 - ratio**2) ** (-d / 2) - 1) / count


def convolve(order: int, eta: Any) -> dict[int, Any]:
    """`G_eta * He_n` as `{m: coefficient of He_m}`: `n!/(j! m!) (eta/2)^j` for m = n - 2j.

    >>> convolve(3, 0.1)  # He_3 + 3 h He_1
    {3: 1.0, 1: 0.30000000000000004}
    """
    n = as_count("order", order, minimum=0)
    factors = {n - 2 * j: math.factorial(n) // (math.factorial(j) * math.factorial(n - 2 * j)) for j in range(n // 2 + 1)}
    return {m: factor * (eta / 2) ** ((n - m) // 2) for m, factor in factors.items()}


def convolved_norm_square(order: int, eta: Any) -> Any:
    """`|G_h * psi_n|^2` in `L^2(p_t)`, eta = h/s: `sum_j n!/(j!^2 (n - 2j)!) (eta/2)^{2j}`, at least 1.

    For eta < 1 it is `(1 - eta^2)^{n/2} P_n(1/sqrt(1 - eta^2))`, P_n the Legendre polynomial.
    """
    n = as_count("order", order, minimum=0)
    return sum(value**2 * math.factorial(m) for m, value in convolve(n, eta).items()) / math.factorial(n)


def mehler_factor(order: Any, contraction: Any) -> Any:
    """`e^{-n u}` for the contraction `e^{-u}`: what the Ornstein-Uhlenbeck semigroup does to the coefficient of order n."""
    return contraction**order


def waiting_contraction_square(v: Any, t: Any, h: Any) -> Any:
    """`e^{-2u} = (v + t)/(v + t + h)`: the Mehler step that waiting from t to t + h amounts to, in coordinates scaled by `sqrt(v + t)`."""
    return (v + t) / (v + t + h)
