"""Chapter "Bias and variance", fifth part: data too sparse for the CLT, on a line."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import integrate

from kss.claims.bias_variance import CHAPTER
from kss.claims.registry import check, claim, instead, returns
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.testing.simulation import simulation
from kss.testing.statistics import binomial_test, dkw_test
from kss.theory import bias_variance, sparse

SPARSE = r"""$k = 1$, flat; $t \ll (Np)^{-2}$ (the limit $t \to 0$ with the data fixed); the data a Poisson process of rate $Np$ along
the line,
which is what $N$ independent draws look like locally"""

Numbers = dict[str, Any]


claim(
    "variance.sparse",
    title="Where data are sparse the noise is exactly that of the nearest point",
    statement=r"""As $t \to 0$ the score is $D(x)/t$, $D$ the displacement to the nearest data point, and with $r = Np$, $u = r|x|$

$$\mathbb E\,D(0)\,D(x) = \frac{e^{-2u}}{r^2}\left(\frac12 - \frac{u^2}2 - \frac{u^3}3\right), \qquad
\operatorname{Var}\big(K * s_t^N\big) = \frac1{t^2}\int G_{2h}(x)\;\mathbb E\,D(0)D(x)\,dx .$$

Without smoothing the variance is $\dfrac1{2(Np)^2t^2}$.""",
    source="limit $h = 0$: folklore; the covariance derived here",
    regime=SPARSE
    + r""". No condition on $h$, but that the density be constant as far as $K$ reaches. ($N$ independent draws in place of
the process: a relative $O(1/N)$, computed for $h = 0$ only.)""",
    uses=("empirical.collapse", "bias.decomposition"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


def _laplace(polynomial: Any, q: Any, rate: int) -> Any:
    """`int_0^oo f(q) e^{-rate q} dq`, term by term: `n!/rate^{n+1}`."""
    import sympy

    terms = sympy.Poly(sympy.expand(polynomial), q).terms()
    return sum(c * sympy.factorial(n) / sympy.Integer(rate) ** (n + 1) for (n,), c in terms)


@cache
def _poisson_covariance() -> Any:
    """`E D(0)D(x)` at rate 1 as a sympy expression, by cases of the nearest points a of 0 and b of x; x > 0.

    The probability that the union U of `(-|a|, |a|)` and `(x - |b - x|, x + |b - x|)` holds no other point is `e^{-|U|}`.
    """
    import sympy

    x, q, p, s, d = sympy.symbols("x q p s d", positive=True)
    # The same point a = b, outside [0, x] at the distance q (twice, by symmetry), or between, at p.
    outside = 2 * _laplace(q * (q + x), q, 2) * sympy.exp(-2 * x)
    between = sympy.integrate(sympy.expand(p * (p - x)), (p, 0, x)) * sympy.exp(-2 * x)
    # Two points: if the intervals are disjoint both signs of each are possible and cancel. If they overlap, a < 0 and b > x: at the
    # distances (s +- d)/2 with s > x > |d|, product -(s^2 - d^2)/4, union of length s + x, volume element ds dd/2.
    inner = sympy.integrate(sympy.expand(-(s**2 - d**2) / 8), (d, -x, x))
    apart = _laplace(inner.subs(s, x + q), q, 1) * sympy.exp(-2 * x)
    return x, sympy.factor(sympy.expand((outside + between + apart) * sympy.exp(2 * x))) * sympy.exp(-2 * x)


@cache
def _value_and_integral() -> tuple[str, float, float]:
    """The covariance, its value at 0, and its integral."""
    import sympy

    x, covariance = _poisson_covariance()
    return str(covariance), float(covariance.subs(x, 0)), float(_laplace(covariance * sympy.exp(2 * x), x, 2))


@cache
def _reference_variance(width: float) -> float:
    """The integral of that covariance against `G_{2h}` at rate 1, `width = sqrt(h)`, in 20-digit arithmetic, as it stands."""
    import mpmath
    import sympy

    x, covariance = _poisson_covariance()
    function = sympy.lambdify(x, covariance, "mpmath")
    with mpmath.workdps(20):
        h = mpmath.mpf(width) ** 2
        ends = [0, min(width, 1), 5 * min(width, 1), 20 * min(width, 1), 45]
        total = mpmath.quad(lambda u: function(u) * mpmath.exp(-(u**2) / (4 * h)) / mpmath.sqrt(4 * mpmath.pi * h), ends)
        return float(2 * total)


@check(
    "variance.sparse",
    by="proof",
    mutants={
        "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8)),
        "CLT": instead(lambda t, h, N, p: bias_variance.small_time_variance(1, t, h, N, p)),
        "kernel applied once": instead(lambda t, h, N, p: sparse.sparse_variance(t, h / 2, N, p)),
        "not smoothed": instead(lambda t, h, N, p: sparse.sparse_variance(t, 0.0, N, p)),
        "leading order": instead(lambda t, h, N, p: sparse.sparse_leading_variance(t, h, N, p)),
        "p forgotten": instead(lambda t, h, N, p: sparse.sparse_variance(t, h, N, 1.0)),
    },
)
def nearest_points_of_a_poisson_process(predict: Any = sparse.sparse_variance, *, generator: torch.Generator) -> Numbers:
    """The covariance by sympy, case by case; its integral against `G_{2h}` in 20 digits, for widths of 0.1 to 40 mean gaps."""
    covariance, at_zero, total = _value_and_integral()
    require(at_zero == 1 / 2 and total == 0, f"variance {at_zero}, integral {total}: expected 1/2 and 0")
    worst = 0.0
    t, N, density = 1e-9, 300.0, 0.7
    for width in (0.1, 0.9, 1.1, 4.0, 40.0):
        expected = _reference_variance(width) / (N * density * t) ** 2
        got = predict(t, (width / (N * density)) ** 2, N, density)
        worst = max(worst, agree(f"variance, kernel of {width} gaps", got, expected, 1e-9 * expected))
    without = predict(t, 0.0, N, density)
    worst = max(worst, agree("variance without smoothing", without, at_zero / (N * density * t) ** 2, 1e-9 * without))
    return {"covariance": covariance, "worst error/allowance": worst}


@simulation
def _nearest(*, generator: torch.Generator) -> torch.Tensor:
    """Distance from the middle of [0, 1] to the nearest of 400 uniform points, for 20000 data sets."""
    rng = numpy_generator(generator)
    return torch.from_numpy(np.concatenate([abs(rng.uniform(size=(1000, 400)) - 0.5).min(1) for _ in range(20)]))


@check(
    "variance.sparse",
    by="statistics",
    lane="full",
    alpha=1e-9,
    detects="""a variance 25 % off, with probability 0.999, through the law of the distance, exponential with that variance (N = 400 draws
instead of a Poisson process move it by 1e-3)""",
    mutants={
        "half": returns(lambda value, *_: value / 2),
        "twice": returns(lambda value, *_: 2 * value),
        "CLT": instead(lambda t, h, N, p: bias_variance.small_time_variance(1, t, h, N, p)),
        "gap for distance": returns(lambda value, *_: 4 * value),
    },
)
def distances_to_the_nearest_datum(predict: Any = sparse.sparse_variance, *, generator: torch.Generator) -> Numbers:
    """20000 data sets of 400 points: their distances from a point against the exponential law whose mean square is `t^2 Var`."""
    distance, t = _nearest(generator=generator), 1e-9
    rate = math.sqrt(2 / (predict(t, 0.0, 400.0, 1.0) * t**2))
    verdict = dkw_test(distance, lambda r: 1 - torch.exp(-rate * r), alpha=1e-9, slack=2e-3)
    require(not verdict.rejected, f"distances: Kolmogorov distance {verdict.statistic:.3f}, p-value {verdict.p_value:.3g}")
    return {"Kolmogorov distance": verdict.statistic, "p_value": verdict.p_value, "detects": verdict.detects}


_LENGTH, _SETS, _BLOCKS, _WIDTHS = 100, 80000, 40, (1.0, 2.0, 4.0)


@simulation
def _smoothed_displacements(*, generator: torch.Generator) -> np.ndarray:
    """Mean squares of `K * D` along a circle of length 100 with a Poisson process of rate 1, by data set and kernel width in mean gaps.

    `D' = -1 + sum_i g_i delta(middle of gap i)`, so that its Fourier modes are sums over gaps, and Parseval's formula the mean over
    all places: no grid, no quadrature. That the line is closed changes e^{-100^2/(4 h)}.
    """
    rng = numpy_generator(generator)
    mean_square = np.zeros((_SETS, len(_WIDTHS)))
    for rows in np.array_split(np.arange(_SETS), 80):
        counts = np.maximum(rng.poisson(_LENGTH, len(rows)), 1)
        points = rng.uniform(size=(len(rows), counts.max()))
        points[np.arange(counts.max()) >= counts[:, None]] = 2.0  # not there
        points.sort(axis=1)
        first = points[:, :1] + 1
        after = np.minimum(np.append(points[:, 1:], first, axis=1), first)
        gap = np.maximum(after - points, 0.0)
        turn = np.exp(-2j * math.pi * (points + gap / 2))
        power = gap.astype(complex)
        for m in range(1, math.ceil(5 * _LENGTH / (2 * math.pi * min(_WIDTHS)))):  # e^{-25} is left
            power *= turn
            mode = abs(power.sum(1)) ** 2 / (2 * math.pi * m) ** 2
            for column, width in enumerate(_WIDTHS):
                mean_square[rows, column] += 2 * mode * math.exp(-((2 * math.pi * m * width / _LENGTH) ** 2))
    return mean_square * _LENGTH**2


@check(
    "variance.sparse",
    by="statistics",
    lane="full",
    alpha=3e-9,
    detects="""a variance 25 % off at one of three kernel widths, with probability 0.999. The tails are heavy (a rare gap counts with its
sixth
power), so an exact binomial test decides: of 40 means over 2000 data sets at most a quarter may be farther than 17 % off. By Chebyshev's
inequality no more are, if the mean is within 1 % and the standard deviation for one data set at most 3.5 times it (measured: 3 or less)""",
    mutants={
        "larger by a third": returns(lambda value, *_: 4 / 3 * value),
        "smaller by a third": returns(lambda value, *_: 2 / 3 * value),
        "CLT": instead(lambda t, h, N, p: bias_variance.small_time_variance(1, t, h, N, p)),
        "kernel applied once": instead(lambda t, h, N, p: sparse.sparse_variance(t, h / 2, N, p)),
        "leading order": instead(lambda t, h, N, p: sparse.sparse_leading_variance(t, h, N, p)),
    },
)
def smoothed_displacements_of_random_data(predict: Any = sparse.sparse_variance, *, generator: torch.Generator) -> Numbers:
    """80000 Poisson processes on a circle of length 100, in 40 blocks: mean squares over all places, in closed form."""
    measured, numbers, t = _smoothed_displacements(generator=generator), Numbers(), 1e-9
    for column, width in enumerate(_WIDTHS):
        expected = predict(t, width**2, 1.0, 1.0) * t**2
        blocks = measured[:, column].reshape(_BLOCKS, -1).mean(1)
        off = int((abs(blocks / expected - 1) > 0.17).sum())
        numbers[f"measured/expected, kernel of {width} gaps"] = float(blocks.mean() / expected)
        numbers[f"standard deviation of a data set/mean, kernel of {width} gaps"] = float(measured[:, column].std() / blocks.mean())
        verdict = binomial_test(off, _BLOCKS, 0.25, alpha=1e-9)
        require(not verdict.rejected, f"kernel of {width} gaps: {off} of {_BLOCKS} blocks off, ratio {blocks.mean() / expected:.3f}")
    return numbers


claim(
    "variance.sparse_limit",
    title="Many data under the kernel, few under the noise: the constant 7/8",
    statement=r"""For $Np\sqrt h \gg 1$ but $t \ll (Np)^{-2}$

$$\operatorname{Var}\big(K * s_t^N\big) \approx \frac{7/8}{4\sqrt\pi\,h^{3/2}\,(Np)^5\,t^2}\left(1 - \frac{9/7}{(Np)^2h}\right), \qquad
\operatorname{Var}\big(K * \log p_t^N\big) \approx \frac{7/8}{2\sqrt{\pi h}\,(Np)^5\,t^2} .$$

The unsmoothed log-density has the variance $5/(16 (Np)^4t^2)$.""",
    source="derived here (renewal theory)",
    regime=SPARSE + r"""; $Np\sqrt h \gg 1$.""",
    uses=("variance.sparse",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@cache
def _renewal() -> tuple[Any, Any, Any]:
    """What a gap contributes to the integral of `D^2/2`, the long-run variance of that, and `int G_h'^2`."""
    import sympy

    g, y = sympy.symbols("g y", positive=True)
    h, z = sympy.Symbol("h", positive=True), sympy.Symbol("z", real=True)
    reward = 2 * sympy.integrate(y**2 / 2, (y, 0, g / 2))

    def mean(f: Any) -> Any:
        return _laplace(f, g, 1)

    # z = sqrt(h) w, and G_h' = -(z/h) G_h.
    slope = sympy.integrate(z**2 * sympy.exp(-(z**2)), (z, -sympy.oo, sympy.oo)) / (2 * sympy.pi) * h ** sympy.Rational(-3, 2)
    return reward, mean((reward - g * mean(reward)) ** 2), slope.subs(h, sympy.Symbol("h"))


@cache
def _log_covariance() -> tuple[Any, Any, Any]:
    """Minus the twofold integral of the covariance of D, from x to infinity; and the variance of `D^2/2` for D from a Laplace law."""
    import sympy

    x, covariance = _poisson_covariance()
    q = sympy.Symbol("q", positive=True)

    def tail(f: Any) -> Any:
        """`int_x^oo f`, f = e^{-2x} times a polynomial."""
        return sympy.exp(-2 * x) * _laplace(sympy.expand(f * sympy.exp(2 * x)).subs(x, x + q), q, 2)

    fourth, second = (sympy.Rational(math.factorial(n), 2**n) for n in (4, 2))  # of an exponential law of rate 2
    return x, -sympy.expand(tail(tail(covariance)) * sympy.exp(2 * x)) * sympy.exp(-2 * x), fourth / 4 - (second / 2) ** 2


@check(
    "variance.sparse_limit",
    by="proof",
    mutants={
        "1 for 7/8": returns(lambda value, *_: value * 8 / 7),
        "variance of g^3/24 alone": returns(lambda value, *_: value * (1.25 - 1 / 16) * 8 / 7),
        "h^{-1/2}": instead(lambda t, h, N, p: sparse.LONG_RUN / (4 * math.sqrt(math.pi * h) * (N * p) ** 5 * t**2)),
        "G_h for G_{2h}": returns(lambda value, *_: value * 2**1.5),
        "(N p)^4": returns(lambda value, t, h, N, p: value * N * p),
        "off by 1e-9": returns(lambda value, *_: value * (1 + 1e-9)),
    },
)
def reward_of_a_gap(predict: Any = sparse.sparse_leading_variance, *, generator: torch.Generator) -> Numbers:
    """Renewal theory, by sympy: `D^2/2` integrates to `g^3/24` over a gap; the variance of `g^3/24 - g/4`; and `int G_h'^2`."""
    reward, long_run, slope = _renewal()
    rate, t, bandwidth = 300 * 0.7, 1e-9, 0.02
    expected = float(long_run) * slope.subs("h", bandwidth).evalf() / rate**5 / t**2
    agree("leading variance", predict(t, bandwidth, 300.0, 0.7), expected, 1e-12 * expected)
    return {"reward": str(reward), "long-run variance": str(long_run), "int of the squared slope": str(slope)}


@check(
    "variance.sparse_limit",
    by="rate",
    mutants={
        "1 for 7/8": returns(lambda value, *_: value * 8 / 7),
        "h^{-1/2}": instead(lambda t, h, N, p: sparse.LONG_RUN / (4 * math.sqrt(math.pi * h) * (N * p) ** 5 * t**2)),
        "off by 0.1 %": returns(lambda value, *_: value * 1.001),
    },
)
def remainder_of_the_limit(predict: Any = sparse.sparse_leading_variance, *, generator: torch.Generator) -> Numbers:
    """Against the integral of the exact covariance: `exact/leading - 1` is `-(9/7)/((N p)^2 h)`, up to `4/((N p)^4 h^2)`."""
    numbers: Numbers = {}
    for width in (4.0, 10.0, 20.0, 40.0):
        off = _reference_variance(width) / predict(1.0, width**2, 1.0, 1.0) - 1
        agree(f"exact/leading - 1 for a kernel of {width} gaps", off, -9 / 7 / width**2, 4 / width**4)
        numbers[f"exact/leading, kernel of {width:g} gaps"] = 1 + off
    return numbers


@check(
    "variance.sparse_limit",
    by="quadrature",
    mutants={
        "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8)),
        "half of the square forgotten": returns(lambda value, *_: 4 * value),
        "leading order": instead(
            lambda t, h, N, p: sparse.sparse_leading_log_variance(t, h, N, p) if h > 0 else 5 / 16 / (N * p) ** 4 / t**2
        ),
        "kernel applied once": instead(lambda t, h, N, p: sparse.sparse_log_variance(t, h / 2, N, p)),
    },
)
def roughness_of_the_logarithm(predict: Any = sparse.sparse_log_variance, *, generator: torch.Generator) -> Numbers:
    """The covariance of `D^2/2` is minus the twofold integral of that of D; unsmoothed it is `Var(D^2/2)` of a Laplace law."""
    import sympy

    x, twice, alone = _log_covariance()
    require(twice.subs(x, 0) == alone, f"variance {twice.subs(x, 0)}, expected {alone}")
    function, worst = sympy.lambdify(x, twice, "math"), 0.0
    for width in (0.2, 1.0, 6.0):
        value, _ = integrate.quad(
            lambda u, w=width: function(u) * math.exp(-((u / w) ** 2) / 4) / (math.sqrt(math.pi) * w), 0, 30, epsabs=1e-13, points=[width]
        )
        got = predict(0.01, (width / 50) ** 2, 50.0, 1.0) * (50**2 * 0.01) ** 2
        worst = max(worst, agree(f"roughness, kernel of {width} gaps", got, value, 1e-9 * value))
    worst = max(worst, agree("roughness, unsmoothed", predict(0.01, 0.0, 50.0, 1.0) * (50**2 * 0.01) ** 2, 5 / 16, 1e-9))
    ratio = predict(1.0, 40.0**2, 1.0, 1.0) / sparse.sparse_leading_log_variance(1.0, 40.0**2, 1.0, 1.0)
    agree("exact/leading for a kernel of 40 gaps", ratio, 1.0, 1 / 40**2)
    return {"covariance of D^2/2": str(twice), "worst error/allowance": worst}


claim(
    "variance.healing",
    title="With many data under the kernel the CLT formula holds, however small t is",
    statement=r"""If $N p\,h^{k/2} \gg 1$, then $\operatorname{Var}(K * s_t^N) \approx k\,(4\pi)^{-k/2}(t+h)^{-1-k/2}/(2Np_M)$.""",
    source="""A tempting reading of Theorem 3 of Gabriel et al., arXiv 2505.22841 v1 (whose hypotheses we have not read), since only t + h
enters the formula. Refuted here as stated""",
    regime=r"""Refuted for $k = 1$: with $a = Np\sqrt t$, and $a \ll 1 \ll Np\sqrt h$, the variance is $\frac78 a^{-4}$ times the
formula's: a hundred times for $a = 0.3$ and $9 \cdot 10^3$ times for $a = 0.1$. Smoothing averages the logarithm of $p_t^N$, and
where data are sparse that
is not nearly linear in the data. (The variance is that of the limit $t \to 0$, {claim}`variance.sparse`; the chapter measures it.)
What is true: the formula with $N p_M t^{k/2} \gg 1$, {claim}`variance.small_time`.""",
    uses=("variance.sparse_limit", "variance.small_time"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "variance.healing",
    by="counterexample",
    mutants={
        "the CLT formula": instead(lambda t, h, N, p: bias_variance.small_time_variance(1, t, h, N, p)),
        "1/t for 1/t^2": returns(lambda value, t, *_: value * t),
        "off by 1 %": returns(lambda value, *_: 1.01 * value),
    },
)
def far_above_the_formula(predict: Any = sparse.sparse_variance, *, generator: torch.Generator) -> Numbers:
    """Kernels of 4 and 40 gaps, t down to 1e-4 gaps squared: the exact variance, in 20 digits, over the CLT formula."""
    numbers: Numbers = {}
    for width, a in ((4.0, 0.1), (40.0, 0.1), (40.0, 0.01)):
        t, h = (a / 500) ** 2, (width / 500) ** 2
        exact = _reference_variance(width) / (500 * t) ** 2
        agree(f"variance, kernel of {width} gaps, a = {a}", predict(t, h, 500.0, 1.0), exact, 1e-8 * exact)
        formula = 1 / (4 * math.sqrt(math.pi) * 500 * (t + h) ** 1.5)
        ratio = predict(t, h, 500.0, 1.0) / formula
        require(ratio > 0.9 * 7 / 8 * a**-4, f"variance/formula = {ratio:.3g} for a = {a}, kernel of {width} gaps")
        numbers[f"variance/formula, N p sqrt(t) = {a}, kernel of {width:g} gaps"] = ratio
    return numbers
