r"""How large a kernel: the bandwidths that balance bias and noise, for mollification and its corrections of every order.

With the score of order r (`kss.scores.BiasCorrected`; 1 is mollification) the two terms are, for a squared bias `c h^{2r}/t^2`,

    at one t (pointwise):    c h^{2r}/t^2   + k (4 pi)^{-k/2}/(2 N p_M) sum_ij w_i w_j (t + (i + j) h/2)^{-1-k/2},
    along the path from t:   c h^{2r}/(2t)  +   (4 pi)^{-k/2}/(2 N p_M) sum_ij w_i w_j (t + (i + j) h/2)^{-k/2},

the second a divergence, for one h kept from large noise down to t. Two problems with two exponents; for h >> t

    h* = [k (k + 2)(4 pi)^{-k/2} f/(8 r c p_M) t^2/N]^{2/(k+4r+2)}    and    h* = [k (4 pi)^{-k/2} f/(4 r c p_M) t/N]^{2/(k+4r)},

with the noise factor f of `kss.theory.kernels.correction`. A third problem lets h change along the path. Then every u has the pointwise
optimum, and the divergence is half the integral of the least errors. In units in which noise and bias are equal,

    u = u_c v,    h = u_c y,    u_c = [b/c]^{2/(k+4r-2)},    b = k (4 pi)^{-k/2}/(2 N p_M),    min_y y^{2r}/v^2 + S(v, y).

The least error grows like `v^{-2(k+2)/(k+4r+2)}` as v -> 0: for k < 4r - 2 its integral converges at 0 (derived here).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import interpolate, optimize, special
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.theory.kernels.correction import corrected_noise, noise_factor, sphere_bias

Number = float | int


def sphere_bias_square(order: int, k: int, radius: Number) -> float:
    """`c` on the k-sphere: the squared bias at order r is `c h^{2r}/t^2`. `k^2/4R^2` for r = 1, `[3k(2 - k)/4R^3]^2` for r = 2."""
    return float(sphere_bias(order, k, as_positive("radius", float(radius)), 1.0, 1.0)) ** 2


def corrected_error(h: Any, t: Any, N: Any, *, order: int, k: Any, bias_square: Any, density: Any, problem: str) -> Any:
    """The two terms together, what `best_bandwidth` minimizes: a mean square error ("pointwise") or a divergence ("path").

    `bias_square` is c, `density` is p_M; for "path" they are the mean of c over the manifold and `1/vol(M)`. Arithmetic only.
    """
    bias = bias_square * h ** (2 * order) / (t**2 if problem == "pointwise" else 2 * t)
    return bias + corrected_noise(h, t, N, order=order, k=k, density=density, problem=problem)


def best_bandwidth(t: Number, N: Number, *, order: int, k: int, bias_square: Number, density: Number, problem: str) -> float:
    """The h that minimizes `corrected_error`, with every `t + (i + j) h/2` as it stands.

    `ValueError` for arguments that are not positive: without bias (as on the 2-sphere for order 2) these two terms have no minimum.

    >>> from math import pi
    >>> c = sphere_bias_square(2, k=1, radius=1)
    >>> round(best_bandwidth(1e-3, 400, order=2, k=1, bias_square=c, density=1 / (2 * pi), problem="path"), 4)
    0.0497
    """
    log_bias, log_noise, power, time = _scales(t, N, order, k, bias_square, density, problem)
    level = math.log(2 * order) + log_bias - log_noise

    def excess(y: float) -> float:
        # The derivatives of bias and noise by h/t = e^y, both over (h/t)^{r-1}; the first grows, the second falls.
        return level + order * y - _log_fall(order, power, y)

    low = high = 0.0
    while excess(low) > 0:
        low -= 4
    while excess(high) < 0:
        high += 4
    return time * math.exp(optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14) if high > low else low)


def leading_bandwidth(t: Number, N: Number, *, order: int, k: int, bias_square: Number, density: Number, problem: str) -> float:
    """The same for h >> t, in closed form.

    Path: `[k (4 pi)^{-k/2} f/(4 r c p_M) t/N]^{2/(k+4r)}`; pointwise: `[k (k + 2)(4 pi)^{-k/2} f/(8 r c p_M) t^2/N]^{2/(k+4r+2)}`.
    """
    log_bias, log_noise, power, time = _scales(t, N, order, k, bias_square, density, problem)
    level = math.log(power * noise_factor(order, k, problem) / (2 * order)) + log_noise - log_bias
    return time * math.exp(level / (power + 2 * order))


def bandwidth_exponent(order: int, k: int, problem: str) -> float:
    """`2/(k + 4r)` for the path, `2/(k + 4r + 2)` at one point: the power of 1/N in `leading_bandwidth`."""
    order, k = as_count("order", order), as_count("k", k)
    if problem not in ("path", "pointwise"):
        raise reject("problem", problem, '"path" or "pointwise"')
    return 2 / (k + 4 * order + (2 if problem == "pointwise" else 0))


def _scales(
    t: Number, N: Number, order: int, k: int, bias_square: Number, density: Number, problem: str
) -> tuple[float, float, float, float]:
    """`log A`, `log B`, q, t for the error `A (h/t)^{2r} + B sum_ij w_i w_j (1 + (i + j) h/2t)^{-q}`."""
    power = 1 / bandwidth_exponent(order, k, problem) - 2 * order  # k/2, or 1 + k/2
    time, size = as_positive("t", float(t)), as_positive("N", float(N))
    c, p = as_positive("bias_square", float(bias_square)), as_positive("density", float(density))
    log_noise = -k / 2 * math.log(4 * math.pi) - math.log(2 * size * p) - power * math.log(time)
    if problem == "pointwise":
        return math.log(c) + (2 * order - 2) * math.log(time), log_noise + math.log(k), power, time
    return math.log(c / 2) + (2 * order - 1) * math.log(time), log_noise, power, time


def _log_fall(order: int, power: float, log_ratio: float) -> float:
    """`log(-S'(a)/a^{r-1})`, `S(a) = sum_ij w_i w_j (1 + (i + j) a/2)^{-q}`, a = e^log_ratio; falls with a.

    From `S(a) = (1/Gamma(q)) int v^{q-1} e^{-v} (1 - (1 - e^{-va/2})^r)^2 dv`, which loses no digits for small a; trapezoids in log v.
    """
    log_v = np.arange(min(0.0, -log_ratio) - 40 / (power + 1), 7.0, 0.05)
    v = np.exp(log_v)
    half = v * math.exp(min(log_ratio, 600.0)) / 2
    rise = -np.expm1(-half)
    # 1 - rise^r = e^{-half} (1 + rise + ... + rise^{r-1})
    log_kept = np.log(sum(rise**j for j in range(order))) - half
    log_terms = (power + 1) * log_v - v - half + log_kept + (order - 1) * (np.log(rise) - log_ratio)
    return float(special.logsumexp(log_terms)) + math.log(0.05 * order) - float(special.gammaln(power))


# --- A bandwidth for every u ----------------------------------------------------------------------------------------------

TABLE = np.linspace(-30, 30, 241)
"""log v; beyond, both ends are power laws to 1e-10."""


@lru_cache(maxsize=32)
def _table(order: int, k: int) -> tuple[interpolate.CubicSpline, float, float]:
    """`log y(v)` in the units of the module's text, and its slopes beyond the table."""
    unit = k * (4 * math.pi) ** (-k / 2) / 2  # density with which b = c = 1 at N = 1
    values = [
        math.log(best_bandwidth(math.exp(x), 1.0, order=order, k=k, bias_square=1.0, density=unit, problem="pointwise")) for x in TABLE
    ]
    curve = interpolate.CubicSpline(TABLE, values)
    return curve, float(curve(TABLE[0], 1)), float(curve(TABLE[-1], 1))


def time_scale(N: Number, *, order: int, k: int, bias_square: Number, density: Number) -> float:
    """`u_c = [k (4 pi)^{-k/2}/(2 N p_M c)]^{2/(k+4r-2)}`: where the pointwise optimum h is of the order of u; below, h > u."""
    c, p, size = as_positive("bias_square", float(bias_square)), as_positive("density", float(density)), as_positive("N", float(N))
    order, k = as_count("order", order), as_count("k", k)
    log_ratio = math.log(k) - k / 2 * math.log(4 * math.pi) - math.log(2) - math.log(size) - math.log(p) - math.log(c)
    return math.exp(2 * log_ratio / (k + 4 * order - 2))


def bandwidth_in_time(N: Number, *, order: int, k: int, bias_square: Number, density: Number) -> Callable[[Tensor], Tensor]:
    """The function h(u) with the pointwise optimum at every u: a bandwidth for `GaussianKernel` and `mean_path_divergence`.

    `u_c y(u/u_c)` with y interpolated from a table: the relative error of h is below 1e-5. For u << u_c the power `u^{4/(k+4r+2)}`.

    >>> h = bandwidth_in_time(400, order=1, k=1, bias_square=0.25, density=0.159)
    >>> [round(float(h(torch.tensor(u))), 4) for u in (1e-4, 1e-3, 1e-2)]
    [0.0012, 0.0039, 0.0107]
    """
    scale = time_scale(N, order=order, k=k, bias_square=bias_square, density=density)
    curve, first, last = _table(order, k)

    def bandwidth(u: ArrayLike) -> Tensor:
        time = as_tensor("u", u).double()
        log_v = (time / scale).log().cpu().numpy()
        inside = np.clip(log_v, TABLE[0], TABLE[-1])
        log_y = curve(inside) + first * np.minimum(log_v - TABLE[0], 0) + last * np.maximum(log_v - TABLE[-1], 0)
        return scale * torch.as_tensor(np.exp(log_y), dtype=torch.float64, device=time.device)

    return bandwidth


def divergence_in_time(t: Number, N: Number, *, order: int, k: int, bias_square: Number, density: Number, end: Number = math.inf) -> float:
    """`(1/2) int_t^end min_h [c h^{2r}/u^2 + noise(u, h)] du`: the path divergence with `bandwidth_in_time`, two terms at every u."""
    h = bandwidth_in_time(N, order=order, k=k, bias_square=bias_square, density=density)
    far = max(as_positive("t", float(t)), time_scale(N, order=order, k=k, bias_square=bias_square, density=density))
    low, high = math.log(t), math.log(min(float(end), 1e30 * far))  # from there on a part of 1e-15 at the most
    if high <= low:
        raise reject("end", end, f"a noise variance above t = {t}")
    pieces = math.ceil((high - low) / 2)
    node, weight = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(low, high, pieces + 1)
    x = (edges[:-1, None] + (edges[1] - edges[0]) * (1 + node) / 2).ravel()
    u = torch.from_numpy(np.exp(x))
    least = corrected_error(h(u), u, N, order=order, k=k, bias_square=bias_square, density=density, problem="pointwise")
    return float((least * u).numpy() @ np.tile(weight, pieces)) * (edges[1] - edges[0]) / 4


def bounded_divergence(N: Any, *, curvature_square: Any, volume: Any) -> Any:
    """`3 (3/4)^{2/3} B(1/3, 4/3) (<|H|^2>/4)^{1/3} (vol/(4 sqrt(pi) N))^{2/3}`: `divergence_in_time` for r = k = 1 at t = 0.

    On closed curves. A limit of the two terms; far below `t = (vol/N)^2` they no longer describe data. Arithmetic only.
    """
    constant = 3 * 0.75 ** (2 / 3) * math.gamma(1 / 3) * math.gamma(4 / 3) / math.gamma(5 / 3)
    return constant * (curvature_square / 4) ** (1 / 3) * (volume / (4 * math.sqrt(math.pi) * N)) ** (2 / 3)
