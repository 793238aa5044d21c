r"""The noise of scores where data are sparse: one-dimensional data and `t << (N p)^{-2}`, where the CLT has ended.

There almost every x sees one data point only, its nearest, and `s_t^N(x) = D(x)/t` with D(x) the displacement from x to that point. Locally
the data are a Poisson process of rate `r = N p`. For that process, exactly,

    E D(0) D(x)                       = e^{-2u} (1/2 - u^2/2 - u^3/3)/r^2,              u = r |x|,
    Cov(D(0)^2/2, D(x)^2/2)           = e^{-2u} (5/16 + 5u/8 + 3u^2/8 + u^3/12)/r^4,

the first minus the second derivative of the second. A Gaussian kernel of variance h averages them over `x ~ N(0, 2h)`. The integral of
the first over the line is 0, that of the second `(7/8)/r^5`: the variance of `g^3/24 - g/4` for a standard exponential gap g, by renewal
theory, because `D^2/2` integrates to `g^3/24` over a gap.
"""

import math
from collections.abc import Callable
from typing import Any

from scipy import integrate

from kss._validation import as_positive, as_tensor, reject

Number = float | int

LONG_RUN = 7 / 8
"""`Var(g^3/24 - g/4)`, g standard exponential."""
REACH = 40.0
"""`e^{-2 REACH}` times the polynomials above is below rounding; so is the normal density at this many standard deviations."""


def sparse_variance(t: Number, h: Number, N: Number, density: Number) -> float:
    """Variance of the mollified empirical score, `E D(0)D(x)/t^2` averaged over `x ~ N(0, 2h)`; exact for Poisson data as t -> 0.

    `h = 0` gives `1/(2 (N p)^2 t^2)`, and `N p sqrt(h) >> 1` the law of `sparse_leading_variance`.

    >>> sparse_variance(t=1e-6, h=0.0, N=100, density=1.0) * (100 * 1e-6) ** 2
    0.5
    """
    rate, width = _scales(t, h, N, density)
    if width == 0:
        return 1 / (2 * (rate * t) ** 2)
    if width < 1:
        return _mean(lambda u: math.exp(-2 * u) * (1 / 2 - u**2 / 2 - u**3 / 3), width) / (rate * t) ** 2
    # The same after two integrations by parts: here the first would be a small difference.
    return _mean(lambda u: _square_covariance(u) * (1 - (u / width) ** 2 / 2) / (2 * width**2), width) / (rate * t) ** 2


def sparse_spectrum(wave_number: Any) -> Any:
    """`b (7 + 8b + 17b^2/16 + b^3/16)/(8 (1 + b)(1 + b/4)^4)`, `b = xi^2`: spectral density of D for data of rate 1, with D a sawtooth.

    The Fourier transform of `E D(0)D(x)`; `(7/8) xi^2` at low frequencies. The mean square of D smoothed with `G_h` is its integral with
    `e^{-xi^2 h} dxi/(2 pi)`.
    """
    b = wave_number**2
    return b * (7 + 8 * b + 17 * b**2 / 16 + b**3 / 16) / (8 * (1 + b) * (1 + b / 4) ** 4)


def sparse_log_variance(t: Number, h: Number, N: Number, density: Number) -> float:
    """Variance of `K * log p_t^N`, smoothed `D^2/(2t)`: exact for Poisson data as t -> 0; `5/(16 (N p)^4 t^2)` for `h = 0`."""
    rate, width = _scales(t, h, N, density)
    mean = _mean(_square_covariance, width) if width > 0 else 5 / 16
    return mean / (rate**2 * t) ** 2


def sparse_leading_variance(t: Number, h: Number, N: Number, density: Number) -> float:
    """`(7/8)/(4 sqrt(pi) h^{3/2} (N p)^5 t^2)`: `sparse_variance` for `N p sqrt(h) >> 1`, up to the factor `1 - (9/7)/((N p)^2 h)`."""
    rate, width = _scales(t, as_positive("h", float(h)), N, density)
    return LONG_RUN / (4 * math.sqrt(math.pi) * width**3 * (rate * t) ** 2)


def sparse_leading_log_variance(t: Number, h: Number, N: Number, density: Number) -> float:
    """`(7/8)/(2 sqrt(pi h) (N p)^5 t^2)`: `sparse_log_variance` for `N p sqrt(h) >> 1`."""
    rate, width = _scales(t, as_positive("h", float(h)), N, density)
    return LONG_RUN / (2 * math.sqrt(math.pi) * width * (rate**2 * t) ** 2)


def sparse_gain(h: Number, N: Number, density: Number) -> float:
    """`(16 sqrt(pi)/7) (N p sqrt(h))^3`: by how much smoothing divides the variance of the score, for `N p sqrt(h) >> 1`.

    Whatever t is; the CLT would have `((t + h)/t)^{3/2}`, without bound as t -> 0. By the same factor smoothing lowers the t at which the
    path divergence reaches a given level. Up to the factor `1 + (9/7)/((N p)^2 h)`.
    """
    _, width = _scales(1.0, as_positive("h", float(h)), N, density)
    return 2 * math.sqrt(math.pi) * width**3 / LONG_RUN


def roughness_time(h: Number, N: Number, density: Number) -> float:
    """`sqrt((7/8)/(2 sqrt(pi))) (N p)^{-5/2} h^{-1/4}`: the t at which `K * log p_t^N` has standard deviation 1, for `N p sqrt(h) >> 1`.

    Without smoothing it would be `sqrt(5/16)/(N p)^2`, where `t << (N p)^{-2}` does not hold any more.

    >>> round(roughness_time(h=1.0, N=100, density=1.0) * 100**2.5, 4)
    0.4968
    """
    return math.sqrt(sparse_leading_log_variance(1.0, h, N, density))


def _scales(t: Number, h: Number, N: Number, density: Number) -> tuple[float, float]:
    """The rate `N p`, and the kernel's standard deviation in mean gaps, `N p sqrt(h)`."""
    rate = as_positive("N", float(N)) * as_positive("density", float(density))
    as_positive("t", float(t))
    bandwidth = float(as_tensor("h", h))
    if bandwidth < 0:
        raise reject("h", h, "a variance >= 0")
    return rate, rate * math.sqrt(bandwidth)


def _square_covariance(u: float) -> float:
    """That of `D^2/2` at rate 1."""
    return math.exp(-2 * u) * (5 / 16 + 5 * u / 8 + 3 * u**2 / 8 + u**3 / 12)


def _mean(f: Callable[[float], float], width: float) -> float:
    """Of f(|u|) over `u ~ N(0, 2 width^2)`."""
    scale = math.sqrt(2) * width
    end = min(REACH, REACH * scale)
    value, _ = integrate.quad(lambda u: f(u) * math.exp(-((u / scale) ** 2) / 2), 0, end, epsabs=0, epsrel=1e-12, limit=200)
    return value * math.sqrt(2 / math.pi) / scale
