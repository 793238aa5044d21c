"""Chapter "Selective underfitting", second part: independent Gaussian data, their shells and their weights."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import integrate, special

from kss.claims.registry import check, claim, instead, returns
from kss.claims.underfitting import CHAPTER, length_cdf
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.testing.simulation import simulation
from kss.testing.statistics import dkw_test
from kss.theory import supervision_gaussian as theory
from kss.theory.collapse import condensation_time, gaussian_information

BIROLI = "Biroli, Bonnaire, de Bortoli, Mezard, arXiv 2402.18491"
DATA = r"$N$ independent draws from $\mathcal N(0, v I_d)$, over which all probabilities are taken"

Numbers = dict[str, Any]


claim(
    "underfitting.gaussian_data",
    title="The distance of a noisy point to the nearest of N Gaussian data, exactly",
    statement=r"""Let $S \sim \chi^2_d$, and $F_{d,\lambda}$ the noncentral chi-squared distribution function with parameter $\lambda$.
For a fresh point $x = c + \sqrt tZ$

$$\mathbb P\Big(\min_i \frac{|x - x_i|}{\sqrt{dt}} > r\Big) = \mathbb E\left[1 - F_{d,(v+t)S/v}\Big(\frac{r^2dt}v\Big)\right]^N;$$

for a training input one of the $N$ factors is $1 - F_{d,tS/v}\big(r^2d(v + t)/v\big)$ instead, that of the datum it came
from.""",
    source="derived here",
    regime=DATA + r"; $c$ another such draw; all $N$, $d$, $v$, $t > 0$.",
    uses=("underfitting.fresh_ratio",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "underfitting.gaussian_data",
    by="quadrature",
    mutants={
        "fresh for training": instead(lambda r, n, d, t, v, fresh: theory.ratio_survival(r, n, d, t, v, fresh=not fresh)),
        "v forgotten": instead(lambda r, n, d, t, v, fresh: theory.ratio_survival(r, n, d, t, 1.0, fresh=fresh)),
        "distribution for survival": returns(lambda p, *_, **__: 1 - p),
        "squares": instead(lambda r, n, d, t, v, fresh: theory.ratio_survival(r**2, n, d, t, v, fresh=fresh)),
        "off by 1e-9": returns(lambda p, *_, **__: p * (1 - 1e-9)),
    },
)
def a_single_datum(predict: Any = theory.ratio_survival, *, generator: torch.Generator) -> Numbers:
    """With one datum the integral is known: central chi-squared, of scale t for a training input, `2v + t` for a fresh point."""
    worst = 0.0
    for d, t, v in ((1, 0.3, 2.0), (3, 0.01, 1.0), (16, 0.3, 1.0), (64, 2.0, 0.5), (64, 50.0, 1.0), (500, 1.0, 3.0)):
        for fresh, scale in ((True, (2 * v + t) / t), (False, 1.0)):
            for r in (0.6, 0.95, 1.1, 1.8):
                expected = float(special.gammaincc(d / 2, r**2 * d / scale / 2))
                got = predict(r, 1, d, t, v, fresh=fresh)
                worst = max(worst, agree(f"survival at {r}, d = {d}, t = {t}, v = {v}, fresh {fresh}", got, expected, 1e-11))
    return {"worst error/allowance": worst}


_SETTINGS = ((8, 4, 0.3, 1.0), (32, 8, 0.3, 2.0), (32, 8, 3.0, 1.0))
_DRAWS = 20000


@simulation
def _nearest_ratios(*, generator: torch.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ratios to the nearest datum for a fresh point and a training input, each from a data set of its own."""
    rng, found = numpy_generator(generator), []
    for n, d, t, v in _SETTINGS:
        pair = []
        for fresh in (True, False):
            least = []
            for _ in range(20):
                data = math.sqrt(v) * rng.normal(size=(_DRAWS // 20, n, d))
                clean = math.sqrt(v) * rng.normal(size=(_DRAWS // 20, d)) if fresh else data[:, 0]
                x = clean + math.sqrt(t) * rng.normal(size=clean.shape)
                least.append(np.sqrt(((x[:, None] - data) ** 2).sum(-1).min(1) / (d * t)))
            pair.append(np.concatenate(least))
        found.append((pair[0], pair[1]))
    return found


@check(
    "underfitting.gaussian_data",
    by="statistics",
    lane="full",
    alpha=6e-11,
    detects="a Kolmogorov distance of 0.039 in one of six laws of 20000 independent ratios, with probability 0.999 (DKW)",
    mutants={
        "N - 1 data": instead(lambda r, n, d, t, v, fresh: theory.ratio_survival(r, max(1, 3 * n // 4), d, t, v, fresh=fresh)),
        "nearest of the clean point": instead(lambda r, n, d, t, v, fresh: float(length_cdf(9.0, d, 0.0)) * (r < math.sqrt(1 + v / t))),
        "fresh for training": instead(lambda r, n, d, t, v, fresh: theory.ratio_survival(r, n, d, t, v, fresh=True)),
        "larger by 5 %": instead(lambda r, n, d, t, v, fresh: theory.ratio_survival(r / 1.05, n, d, t, v, fresh=fresh)),
        "v forgotten": instead(lambda r, n, d, t, v, fresh: theory.ratio_survival(r, n, d, t, 1.0, fresh=fresh)),
    },
)
def simulated_ratios(predict: Any = theory.ratio_survival, *, generator: torch.Generator) -> Numbers:
    """20000 data sets in each of three settings, for fresh points and for training inputs, against the exact law."""
    numbers: Numbers = {}
    for (n, d, t, v), pair in zip(_SETTINGS, _nearest_ratios(generator=generator), strict=True):
        for sample, fresh in zip(pair, (True, False), strict=True):
            grid = np.linspace(0.9 * sample.min(), 1.1 * sample.max(), 160)
            law = np.array([1 - predict(float(r), n, d, t, v, fresh=fresh) for r in grid])

            def cdf(r: torch.Tensor, grid: np.ndarray = grid, law: np.ndarray = law) -> torch.Tensor:
                return torch.from_numpy(np.interp(r.numpy(), grid, law))

            verdict = dkw_test(torch.from_numpy(sample), cdf, alpha=1e-11, slack=1e-3)  # slack: of the interpolation
            what = f"N = {n}, d = {d}, t = {t}, v = {v}, {'fresh' if fresh else 'training'}"
            require(not verdict.rejected, f"{what}: Kolmogorov distance {verdict.statistic:.4f}, p-value {verdict.p_value:.3g}")
            numbers[f"p_value, {what}"] = verdict.p_value
    return numbers | {"detects": verdict.detects}


@check(
    "underfitting.gaussian_data",
    by="quadrature",
    lane="full",
    mutants={
        "larger by 8 %": returns(lambda ratio, *_, **__: 1.08 * ratio),
        "smaller by 8 %": returns(lambda ratio, *_, **__: ratio / 1.08),
        "of one datum": instead(lambda n, d, t, v, fresh: theory.mean_ratio(1, d, t, v, fresh=fresh)),
        "training for fresh": instead(lambda n, d, t, v, fresh: theory.mean_ratio(n, d, t, v, fresh=False)),
    },
)
def the_bound_by_the_nearest_clean_point(predict: Any = theory.mean_ratio, *, generator: torch.Generator) -> Numbers:
    """`E min_i |x - x_i|/sqrt(dt)` against the mean of `sqrt(1 + D_nn^2/dt)`, an integral of its own: below it, by at most 7 %."""
    numbers: Numbers = {}
    for n, d, t, v in ((256, 64, 0.05, 1.0), (256, 64, 0.2, 1.0), (256, 64, 0.5, 1.0), (256, 64, 1.0, 1.0), (64, 16, 0.3, 2.0)):
        bound = _mean_of_the_bound(n, d, t, v)
        got = predict(n, d, t, v, fresh=True)
        require(0.93 * bound <= got <= bound, f"mean ratio {got:.4f}, bound {bound:.4f}, N = {n}, d = {d}, t = {t}")
        numbers[f"mean ratio, mean of the bound: N = {n}, d = {d}, t = {t}"] = (got, bound)
    return numbers


@cache
def _mean_of_the_bound(n: int, d: int, t: float, v: float) -> float:
    """`E sqrt(1 + D_nn^2/dt)`: the law of the nearest of n data given |c|, averaged over |c| and integrated by parts."""
    distance = np.linspace(0.0, 2.2 * math.sqrt(d), 200)  # in units of sqrt(v)

    def farther(square: Any) -> Any:
        return np.array([(1 - length_cdf(distance, d, math.sqrt(one), 200)) ** n for one in square])

    ratio = np.sqrt(1 + v * distance**2 / (d * t))
    tail = _mean_over_chi_square(d, lambda s: farther(s) @ _trapezoid(ratio), 32)
    return float(ratio[0] + tail)


def _trapezoid(values: Any) -> Any:
    """Weights of the trapezoidal rule for an integral against the differential of `values`."""
    steps = np.diff(values) / 2
    return np.append(steps, 0.0) + np.insert(steps, 0, 0.0)


claim(
    "underfitting.foreign_hits",
    title="How many foreign shells a noisy point meets",
    statement=r"""The mean number of shells, of relative half-width $\delta$, of data that $x$ did not come from, in which it lies, is

$$n\left[F_d\Big(\frac{(1+\delta)^2\,dt}{2v+t}\Big) - F_d\Big(\frac{(1-\delta)^2\,dt}{2v + t}\Big)\right],$$

$F_d$ the central chi-squared distribution function (no second term for $\delta > 1$); $n = N$ for a fresh point and
$N - 1$ for a training input. The probability that there is none is $\mathbb E[(1 - q(S))^n]$, $S \sim \chi^2_d$, with
$q(S) = F_{d,(v+t)S/v}\big((1+\delta)^2dt/v\big) - F_{d,(v+t)S/v}\big((1-\delta)^2dt/v\big)$.""",
    source="derived here",
    regime=DATA + r"; all $n$, $d$, $v$, $t$, $\delta$.",
    uses=("underfitting.gaussian_data",),
    chapter=CHAPTER,
    verdict="holds",
)


def _hit(d: int, t: float, delta: float, v: float, s: Any) -> Any:
    """The probability of one foreign shell given `|x|^2 = (v + t) s`, for an array of s."""
    radii = math.sqrt(d * t / v) * np.array([1 + delta, max(0.0, 1 - delta)])
    return np.array([np.subtract(*length_cdf(radii, d, math.sqrt((v + t) * one / v), 300)) for one in s])


_HITS = ((5, 2, 0.7, 0.3, 1.0), (63, 16, 0.3, 0.44, 1.0), (63, 16, 2.0, 1.3, 2.5), (255, 64, 2.0, 0.221, 1.0), (255, 64, 4.0, 0.1, 2.0))


def _mean_over_chi_square(d: int, f: Any, nodes: int = 250) -> float:
    """`E f(S)`, S chi-squared, in the root of S."""
    x, w = special.roots_legendre(nodes)
    low, high = max(0.0, math.sqrt(d) - 7), math.sqrt(d) + 7
    r = low + (high - low) * (1 + x) / 2
    weight = w * np.exp((d - 1) * np.log(r) - r**2 / 2 - (d / 2 - 1) * math.log(2) - special.gammaln(d / 2)) * (high - low) / 2
    return float(weight @ f(r**2))


@cache
def _mean_hit(d: int, t: float, delta: float, v: float, n: int) -> float:
    """The mean of the probability q of one foreign shell, for n = 1; of `(1 - q)^|n|` for n < 0."""
    return _mean_over_chi_square(d, lambda s: _hit(d, t, delta, v, s) if n == 1 else (1 - _hit(d, t, delta, v, s)) ** -n)


@check(
    "underfitting.foreign_hits",
    by="quadrature",
    lane="full",
    mutants={
        "v + t": instead(lambda n, d, t, delta, v: theory.foreign_hits(n, d, t, delta, v / 2)),
        "v forgotten": instead(lambda n, d, t, delta, v: theory.foreign_hits(n, d, t, delta, 1.0)),
        "its own shell too": returns(lambda hits, *_: hits + 1),
        "ball": instead(lambda n, d, t, delta, v: n * float(special.gammainc(d / 2, (1 + delta) ** 2 * d * t / (2 * v + t) / 2)) * 1.0001),
        "delta on the square": instead(lambda n, d, t, delta, v: theory.foreign_hits(n, d, t, delta / 2, v)),
        "off by 1e-7": returns(lambda hits, *_: hits * (1 + 1e-7)),
    },
)
def mean_number_of_shells(predict: Any = theory.foreign_hits, *, generator: torch.Generator) -> Numbers:
    """The noncentral probabilities given |x|, from a normal component and a central law, averaged over |x|."""
    worst, numbers = 0.0, Numbers()
    for n, d, t, delta, v in _HITS:
        expected = n * _mean_hit(d, t, delta, v, 1)
        got = predict(n, d, t, delta, v)
        worst = max(worst, agree(f"foreign shells, n = {n}, d = {d}, t = {t}", got, expected, 1e-8 * expected + 1e-11 * n))
        numbers[f"foreign shells, n = {n}, d = {d}, t = {t}, delta = {delta}, v = {v}"] = expected
    return numbers | {"worst error/allowance": worst}


@check(
    "underfitting.foreign_hits",
    by="quadrature",
    lane="full",
    mutants={
        "Poisson of the mean": instead(lambda n, d, t, delta, v: math.exp(-theory.foreign_hits(n, d, t, delta, v))),
        "inside": returns(lambda p, *_: 1 - p),
        "v forgotten": instead(lambda n, d, t, delta, v: theory.outside_probability(n, d, t, delta, 1.0)),
        "one datum fewer": instead(lambda n, d, t, delta, v: theory.outside_probability(n - 1, d, t, delta, v)),
        "off by 1e-8": returns(lambda p, *_: p * (1 + 1e-8) + 1e-9),
    },
)
def none_at_all(predict: Any = theory.outside_probability, *, generator: torch.Generator) -> Numbers:
    """The same probabilities given |x|, in a power, averaged over |x|."""
    worst, numbers = 0.0, Numbers()
    for n, d, t, delta, v in _HITS:
        expected = _mean_hit(d, t, delta, v, -n)
        worst = max(worst, agree(f"none, n = {n}, d = {d}, t = {t}", predict(n, d, t, delta, v), expected, 1e-10))
        numbers[f"no foreign shell, n = {n}, d = {d}, t = {t}, delta = {delta}, v = {v}"] = expected
    return numbers | {"worst error/allowance": worst}


claim(
    "underfitting.first_foreign_shell",
    title="A typical training input enters its first foreign shell at the collapse time; the mean number says otherwise",
    statement=r"""For $x$ of the typical length $|x|^2 = d(v + t)$ and a datum $x_j$ that it did not come from, as $d \to \infty$

$$-\frac1d\log\mathbb P\big(|x - x_j| \le \sqrt{dt}\big) \to \frac12\log\Big(1 + \frac vt\Big) = \frac1d I(X_0; X_t) .$$

So with $N = e^{\alpha d}$ data the first foreign one within $\sqrt{dt}$ appears, to exponential accuracy, at
$t_c = v/(N^{2/d} - 1)$. Averaged over $x$ the exponent is

$$\frac12\left[\log\Big(1 + \frac{2v}t\Big) - \frac{2v}{2v + t}\right],$$

which is less: the mean number reaches one earlier, for large $\alpha$ at $\frac2e\,t_c$, because of a few $x$ that are
untypically near 0.
With shells of relative half-width $\delta$ both thresholds move to smaller $t$; the exponents are those of `hit_exponent`.""",
    source=f"$t_c$: {BIROLI}, in another time. That the exponent for shells is the same: derived here",
    regime=DATA + r"; $d \to \infty$ at fixed $t/v$ and $\delta$, $t(1+\delta)^2 < 2v + t$ (else the event is not rare).",
    uses=("underfitting.foreign_hits",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@cache
def _log_hit(d: int, radius: float, shift: float) -> float:
    """`log P(|Z + shift e| <= radius)` where it is tiny: the same integral as in `length_cdf`, about its largest term."""
    x, w = special.roots_legendre(1000)
    low, high = -shift - radius, -shift + radius
    z = low + (high - low) * (1 + x) / 2
    left = np.maximum(radius**2 - (z + shift) ** 2, 1e-300)
    # log of the central distribution function: P(a, y) = y^a e^{-y}/Gamma(a + 1) M(1, a + 1, y), M by its series in y/a < 1.
    a, y = (d - 1) / 2, left / 2
    series, term = np.ones_like(y), np.ones_like(y)
    for j in range(1, 4000):
        term = term * y / (a + j)
        series += term
        if term.max() < 1e-17 * series.max():
            break
    logs = (
        -(z**2) / 2 - math.log(2 * math.pi) / 2 + a * np.log(y) - y - special.gammaln(a + 1) + np.log(series) + np.log(w * (high - low) / 2)
    )
    return float(special.logsumexp(logs))


@check(
    "underfitting.first_foreign_shell",
    by="rate",
    lane="full",
    mutants={
        "average for typical": instead(lambda t, delta, v, typical: theory.hit_exponent(t, delta, v, typical=not typical)),
        "two thirds": returns(lambda e, *_, **__: 2 * e / 3),
        "off by 4 %": returns(lambda e, *_, **__: 1.04 * e),
        "v forgotten": instead(lambda t, delta, v, typical: theory.hit_exponent(t, delta, 1.0, typical=typical)),
        "delta forgotten": instead(lambda t, delta, v, typical: theory.hit_exponent(t, 0.0, v, typical=typical)),
        "delta once": instead(lambda t, delta, v, typical: theory.hit_exponent(t, math.sqrt(1 + delta) - 1, v, typical=typical)),
    },
)
def exponents_in_high_dimension(predict: Any = theory.hit_exponent, *, generator: torch.Generator) -> Numbers:
    """Logarithms of the exact probabilities at d = 400 and 1600; the prefactor is d^{-1/2} times a constant, so `(log(d)/2 + 3)/d`."""
    worst, numbers = 0.0, Numbers()
    for t, delta, v in ((0.3, 0.0, 1.0), (1.0, 0.0, 3.0), (0.05, 0.0, 0.4), (0.3, 0.3, 1.0), (1.0, 0.2, 3.0)):
        if delta == 0:
            agree(f"typical exponent, t = {t}", predict(t, delta, v, typical=True), 0.5 * math.log(1 + v / t), 1e-13)
        for d in (400, 1600):
            allowed = (math.log(d) / 2 + 3) / d
            radius = math.sqrt(d) * (1 + delta)
            given = -_log_hit(d, radius * math.sqrt(t / v), math.sqrt(d * (v + t) / v)) / d
            everywhere = -_log_hit(d, radius * math.sqrt(t / (2 * v + t)), 0.0) / d
            for found, typical in ((given, True), (everywhere, False)):
                what = f"exponent, t = {t}, delta = {delta}, v = {v}, d = {d}, typical {typical}"
                worst = max(worst, agree(what, found, predict(t, delta, v, typical=typical), allowed))
        numbers[f"exponents given |x| and averaged, t = {t}, delta = {delta}, v = {v}"] = (given, everywhere)
    ratio = math.exp(2 * (predict(1e-4, 0.0, 1.0, typical=True) - predict(1e-4, 0.0, 1.0, typical=False)))
    agree("t_c over the time of the mean, small t", ratio, math.e / 2, 3e-4)
    return numbers | {"worst error/allowance": worst}


claim(
    "underfitting.one_hot",
    title="The empirical score is that of one datum below the collapse time, and not above it",
    statement=r"""Let $x$ be a training input that came from $x_i$, $w$ the weights of the data at $x$,
$\mathrm{Ent}(w) = -\sum_j w_j\log w_j$, and $i(x_i; x) = \log\frac{G_t(x - x_i)}{p_t(x)}$. For every law

$$\mathbb E[1 - w_i] \le \mathbb E\min\left(1, (N - 1)\,e^{-i(X_0; X_t)}\right), \qquad
\mathbb E\,\mathrm{Ent}(w) \ge \log N - I(X_0; X_t) .$$

For $\mathcal N(0, vI_d)$, $I = \frac d2\log(1 + \frac vt)$ equals $\log N$ at $t_c = v/(N^{2/d} - 1)$, and
$i - I = \sqrt{v/(v+t)}\,S$ with $S$ a sum of $d$ products of two independent standard normals.
With $N = e^{\alpha d}$, as $d \to \infty$: below $t_c$ the strangers' weight tends to 0; above it the entropy is at least of
order $d$.""",
    source=f"Condition $I = \\log N$: {BIROLI}; the two bounds: derived here (random coding and Fano, classical)",
    regime=r"""Bounds: every law with a density of $X_t$, data independent draws, all $N$, $t > 0$. Checked for Gaussian laws: the first
against an integral in dimensions 2, 4, 6 and simulations, the second against simulations.""",
    uses=("collapse.condensation", "empirical.collapse"),
    chapter=CHAPTER,
    verdict="holds",
)


@cache
def _stranger_on_the_line(n: int, t: float, v: float) -> float:
    """`E min(1, (n - 1) p_t(x)/G_t(x - c))` on the line, straight from the two densities, with x = c + sqrt(t) z."""
    x, w = special.roots_legendre(800)
    z = 9 * x
    near = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    total = 0.0
    for at, weight, density in zip(z, w, near, strict=True):
        seen = math.sqrt(v) * at + math.sqrt(t) * z
        p = np.exp(-(seen**2) / (2 * (v + t))) / math.sqrt(2 * math.pi * (v + t))
        # min(1, (n - 1) p/G) G, with G the density of the noise in units of sqrt(t).
        total += 81 * weight * density * float(w @ np.minimum(near, (n - 1) * math.sqrt(t) * p))
    return total


@check(
    "underfitting.one_hot",
    by="quadrature",
    mutants={
        "N for N - 1": instead(lambda n, d, t, v: theory.strangers_weight_bound(n + 1, d, t, v)),
        "I doubled": instead(lambda n, d, t, v: theory.strangers_weight_bound(n, 2 * d, t, v)),
        "typical information": instead(lambda n, d, t, v: min(1.0, (n - 1) * (1 + v / t) ** (-d / 2))),
        "v forgotten": instead(lambda n, d, t, v: theory.strangers_weight_bound(n, d, t, 1.0)),
        "off by 1e-7": returns(lambda bound, *_: bound * (1 + 1e-7)),
    },
)
def bound_from_laplace_laws(predict: Any = theory.strangers_weight_bound, *, generator: torch.Generator) -> Numbers:
    """D = 1: `min(1, (N - 1) p_t/G_t)` over clean point and noise. d = 2, 4, 6: S is a sum of 1, 2, 3 Laplace variables."""
    worst = 0.0
    for n, t, v in ((2, 0.7, 1.0), (30, 0.05, 2.0), (30, 1e-4, 1.5)):
        # Nodes are h = 0.035 apart at most; a kink costs h^2/12 times its strength, below 0.1.
        worst = max(worst, agree(f"bound, N = {n}, d = 1, t = {t}", predict(n, 1, t, v), _stranger_on_the_line(n, t, v), 1e-5))
    densities = {2: lambda s: 1 / 2, 4: lambda s: (1 + s) / 4, 6: lambda s: (3 + 3 * s + s**2) / 16}
    for d, density in densities.items():
        for n, t, v in ((2, 0.7, 1.0), (30, 0.05, 2.0), (30, 3.0, 2.0), (10**6, 1e-3, 0.3)):
            mean, slope = math.log(n - 1) - d / 2 * math.log(1 + v / t), math.sqrt(v / (v + t))

            def integrand(s: float, mean: float = mean, slope: float = slope, density: Any = density) -> float:
                return density(abs(s)) * math.exp(-abs(s) + min(0.0, mean - slope * s))

            kinks = sorted({0.0, max(-59.0, min(59.0, mean / slope))})
            ends = [-60.0, *kinks, 60.0]
            expected = sum(integrate.quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in itertools.pairwise(ends))
            worst = max(worst, agree(f"bound, N = {n}, d = {d}, t = {t}", predict(n, d, t, v), expected, 1e-8 * expected))
    numbers: Numbers = {"worst error/allowance": worst}
    for alpha in (0.1, 0.4):
        small = [predict(round(math.exp(alpha * d)), d, 0.6 / math.expm1(2 * alpha), 1.0) for d in (64, 256, 1024)]
        require(small[0] > 2 * small[1] > 4 * small[2], f"bounds below t_c do not fall with d: {small}")
        numbers[f"bound at 0.6 t_c, d = 64, 256, 1024, N = e^({alpha} d)"] = small
    return numbers


@check(
    "underfitting.one_hot",
    by="quadrature",
    mutants={
        "N^{1/d}": instead(lambda variances, n: variances[0] / (n ** (1 / len(variances)) - 1)),
        "variance forgotten": instead(lambda variances, n: 1 / (n ** (2 / len(variances)) - 1)),
        "small times": instead(lambda variances, n: variances[0] * n ** (-2 / len(variances))),
        "half": returns(lambda t, *_: t / 2),
    },
)
def information_at_the_collapse_time(predict: Any = condensation_time, *, generator: torch.Generator) -> Numbers:
    """`I(t) = int_t^oo MMSE(s)/(2 s^2) ds`, with the least mean square error of a normal law: log N at t_c."""
    worst = 0.0
    for n, d, v in ((2, 1, 0.5), (64, 16, 1.0), (256, 64, 2.0), (10**5, 8, 1.0)):
        log_t = math.log(predict([v] * d, n))
        value, _ = integrate.quad(
            lambda y, d=d, v=v: d * v / (v + math.exp(y)) / 2, log_t, log_t + 60 + abs(math.log(v)), epsabs=1e-12, limit=400
        )
        worst = max(worst, agree(f"information at t_c, N = {n}, d = {d}", value, math.log(n), 1e-8 * math.log(n)))
    return {"worst error/allowance": worst}


_WEIGHTS = ((32, 4, 0.05, 1.0), (32, 4, 0.3, 2.0), (64, 8, 0.2, 1.0), (64, 8, 1.5, 1.0), (200, 3, 3.0, 2.0))
_SETS = 6000


@simulation
def _weights(*, generator: torch.Generator) -> np.ndarray:
    """For each setting the mean weight of strangers, and the mean entropy over log N."""
    rng, found = numpy_generator(generator), []
    for n, d, t, v in _WEIGHTS:
        data = math.sqrt(v) * rng.normal(size=(_SETS, n, d))
        x = data[:, 0] + math.sqrt(t) * rng.normal(size=(_SETS, d))
        w = special.softmax(-((x[:, None] - data) ** 2).sum(-1) / (2 * t), axis=1)
        found.append((float((1 - w[:, 0]).mean()), float(special.entr(w).sum(1).mean() / math.log(n))))
    return np.array(found)


@check(
    "underfitting.one_hot",
    by="statistics",
    lane="full",
    alpha=5e-10,
    detects="a mean 0.07 above the bound, with probability 0.999, from 6000 data sets in each of 5 settings (Hoeffding)",
    mutants={
        "I doubled": instead(lambda n, d, t, v: theory.strangers_weight_bound(n, 2 * d, t, v)),
        "a tenth": returns(lambda bound, *_: bound / 10),
        "two data": instead(lambda n, d, t, v: theory.strangers_weight_bound(2, d, t, v)),
        "t/2": instead(lambda n, d, t, v: theory.strangers_weight_bound(n, d, t / 3, v)),
    },
)
def weights_of_strangers(predict: Any = theory.strangers_weight_bound, *, generator: torch.Generator) -> Numbers:
    """Simulated weights of the data that a training input did not come from, against the bound."""
    allowance, numbers = math.sqrt(math.log(1 / 1e-10) / (2 * _SETS)), Numbers()
    for (n, d, t, v), (stranger, _) in zip(_WEIGHTS, _weights(generator=generator), strict=True):
        bound = predict(n, d, t, v)
        require(stranger <= bound + allowance, f"mean weight of strangers {stranger:.4f}, bound {bound:.4f}, N = {n}, d = {d}, t = {t}")
        numbers[f"weight of strangers, bound: N = {n}, d = {d}, t = {t}"] = (float(stranger), bound)
    return numbers


@check(
    "underfitting.one_hot",
    by="statistics",
    lane="full",
    alpha=5e-10,
    detects="a mean entropy 0.07 log N below the bound, with probability 0.999, from 6000 data sets in each of 5 settings (Hoeffding)",
    mutants={
        "d forgotten": instead(lambda variances, t: gaussian_information(variances[:1], t)),
        "half": returns(lambda information, *_: information / 2),
        "signal over noise": instead(lambda variances, t: sum(variances) / (2 * t) / 4),
    },
)
def entropy_of_the_weights(predict: Any = gaussian_information, *, generator: torch.Generator) -> Numbers:
    """Simulated entropies against `log N - I`; and I itself as an integral of the least mean square error."""
    allowance, numbers = math.sqrt(math.log(1 / 1e-10) / (2 * _SETS)), Numbers()
    for (n, d, t, v), (_, entropy) in zip(_WEIGHTS, _weights(generator=generator), strict=True):
        information = float(predict([v] * d, t))
        least = 1 - information / math.log(n)
        require(entropy >= least - allowance, f"entropy/log N = {entropy:.4f}, bound {least:.4f}, N = {n}, d = {d}, t = {t}")
        numbers[f"entropy/log N, bound: N = {n}, d = {d}, t = {t}"] = (float(entropy), least)
        exact, _ = integrate.quad(lambda y, d=d, v=v: d * v / (v + math.exp(y)) / 2, math.log(t), 50, epsabs=1e-12, limit=400)
        agree(f"information, d = {d}, t = {t}", information, exact, 1e-8 * exact)
    return numbers
