r"""When are there enough data? The mean path divergence as a function of noise, bandwidth and number of data.

Setting. N independent uniform data on a closed k-dimensional manifold of volume `vol`, with mean square of the mean curvature `<|H|^2>`
(k^2/R^2 on the k-sphere of radius R); the empirical score is averaged over `G_h`, with h held fixed on the whole path from large
noise down to t. For `t, h << R^2`,

    D(t, h) = h^2 <|H|^2>/(8 t)  +  (vol/2N) (4 pi (t + h))^{-k/2}  +  sawtooth term.

The first term is the curvature bias `(h/2u) H` of a smoothed score: squared, halved and integrated over u > t. The second is the central
limit theorem's, the noise of the score at u + h. Both are all there is while cells of size sqrt(t) hold many data. Where they hold
few, the score is a sawtooth that jumps halfway between neighbors; its variance, smoothed, is known for curves
(`sparse_variance`), and half of it integrated over u > t is the third term. It is large in the **collapsed regime**
`t << spacing^2`, where the second one is what the path contributes before the collapse.

A divergence of one (nat) separates numbers of data that are enough from those that are not: `critical_sample_size`.
"""

import math
from typing import Any, Literal

from scipy import optimize

from kss._validation import as_count, as_positive, reject
from kss.theory.bias_variance import two_term_error
from kss.theory.kl.poisson import poisson_kl
from kss.theory.sparse import sparse_variance

Formula = Literal["raw", "delta", "clt", "sawtooth"]
Regime = Literal["raw works", "smoothed works", "nothing works"]
FORMULAS = ("raw", "delta", "clt", "sawtooth")


def mollified_path_kl(t: Any, h: Any, N: Any, *, k: int, volume: float, curvature_square: float) -> Any:
    """`h^2 <|H|^2>/(8t) + (vol/2N)(4 pi (t + h))^{-k/2}`: path divergence in the CLT regime; h = 0 is the raw score's.

    For `t, h << R^2` and `N (t + h)^{k/2} >> vol`. Numbers, arrays or symbols.
    """
    return two_term_error(h=h, t=t, N=N, k=k, curvature_square=curvature_square, density=1 / volume, problem="path")


def sawtooth_path_kl(t: float, h: float, N: float | int, *, volume: float) -> float:
    """`E (G_h * (x_nn - x))^2 / (2t)` on a curve of length `volume`: what the collapsed score, `t << (vol/N)^2`, adds for k = 1.

    Between `(vol/N)^2/(4t)` for h = 0 and `(7/64) (vol/N)^5/(sqrt(pi) h^{3/2} t)` for `h >> (vol/N)^2`.
    """
    return t / 2 * sparse_variance(t, h, N, 1 / as_positive("volume", volume))


def critical_exponent(k: int, formula: Formula) -> float:
    """The a of `N_c ~ t^{-a}` as t -> 0: k/2 ("raw" and "delta"), k/4 ("clt"), k(k + 6)/(4(k + 4)) ("sawtooth").

    The third is outside its own regime: at `N = t^{-k/4}` and the best `h ~ sqrt(t)` a kernel holds a bounded number of data. The fourth
    balances `h^2/t` with `h^{-1-k/2} N^{-1-4/k}/t` at the level one; derived for every k, with a known constant for k = 1.
    """
    k = as_count("k", k)
    if formula not in FORMULAS:
        raise reject("formula", formula, f"one of {', '.join(FORMULAS)}")
    return {"raw": k / 2, "delta": k / 2, "clt": k / 4, "sawtooth": k * (k + 6) / (4 * (k + 4))}[formula]


def critical_sample_size(t: float, *, k: int, volume: float, formula: Formula, curvature_square: float = 0.0, level: float = 1.0) -> float:
    """The N at which the path divergence down to t equals `level`; smoothed scores at the bandwidth that makes it least.

    Raw scores: "raw", exact for `sqrt(t) << R` and large N (`poisson_kl`), and "delta", the delta method's
    `vol (4 pi t)^{-k/2}/(2 level)`. Smoothed ones: "clt" is `mollified_path_kl` alone, "sawtooth" adds `sawtooth_path_kl`, k = 1
    only. They need `curvature_square` > 0: without curvature any N would do at a large enough h.

    >>> [round(critical_sample_size(1e-4, k=1, volume=6.2832, formula=f, curvature_square=1.0)) for f in FORMULAS]
    [272, 89, 10, 81]
    """
    k, t, volume, level = as_count("k", k), as_positive("t", t), as_positive("volume", volume), as_positive("level", level)
    if formula not in FORMULAS:
        raise reject("formula", formula, f"one of {', '.join(FORMULAS)}")
    delta = (4 * math.pi) ** (-k / 2) / (2 * level)
    if formula == "raw":
        return _collapse_point(k, level) * volume * t ** (-k / 2)
    if formula == "delta":
        return delta * volume * t ** (-k / 2)
    curvature = as_positive("curvature_square", curvature_square)
    if formula == "sawtooth" and k != 1:
        raise reject("k", k, "1 for the sawtooth, whose variance is known only there")
    if formula == "clt":  # N is least where (t + h)^{k/2} (level - <|H|^2> h^2/(8t)) is largest
        h = (math.sqrt(t**2 + (2 + k / 2) * (k / 2) * 8 * level * t / curvature) - t) / (2 + k / 2)
        left = level - mollified_path_kl(t, h, math.inf, k=k, volume=volume, curvature_square=curvature)
        return delta * volume * (t + h) ** (-k / 2) * level / left
    widest = math.log(8 * level * t / curvature) / 2  # where the bias alone takes up the level

    def least(log_n: float) -> float:
        def total(log_h: float) -> float:
            h, n = math.exp(log_h), math.exp(log_n)
            clt = mollified_path_kl(t, h, n, k=1, volume=volume, curvature_square=curvature)
            return float(clt + sawtooth_path_kl(t, h, n, volume=volume))

        return float(optimize.minimize_scalar(total, bounds=(widest - 9, widest), method="bounded", options={"xatol": 1e-9}).fun)

    # From the two terms alone, too few, up by factors of e until there are enough.
    low = math.log(critical_sample_size(t, k=1, volume=volume, formula="clt", curvature_square=curvature, level=level))
    high = low
    while least(high) > level:
        high += 1
    return math.exp(optimize.brentq(lambda log_n: math.log(least(log_n) / level), low, high)) if high > low else math.exp(low)


def _collapse_point(k: int, level: float) -> float:
    """The c at which `poisson_kl` falls to `level`."""
    low = high = math.log((4 * math.pi) ** (-k / 2) / (2 * level))
    while poisson_kl(math.exp(high), k) > level:
        high += 1
    while poisson_kl(math.exp(low), k) <= level:
        low -= 1
    return math.exp(optimize.brentq(lambda log_c: math.log(poisson_kl(math.exp(log_c), k) / level), low, high))


def regime(t: float, N: float | int, *, volume: float, curvature_square: float, level: float = 1.0) -> Regime:
    """Which scores on a closed curve keep the path divergence below `level`: the raw one, only a smoothed one, or none.

    Where the raw one does not it copies: both depend on the ratio of sqrt(t) to the spacing of the data alone, and change at a ratio
    near one half.
    """
    size = as_positive("N", float(N))
    if size >= critical_sample_size(t, k=1, volume=volume, formula="raw", level=level):
        return "raw works"
    smoothed = critical_sample_size(t, k=1, volume=volume, formula="sawtooth", curvature_square=curvature_square, level=level)
    return "smoothed works" if size >= smoothed else "nothing works"
