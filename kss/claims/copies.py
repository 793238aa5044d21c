"""Chapter "Is this sample a copy?", first part: strangers in a crowd, and laws of the distances to the nearest data."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from scipy import integrate, optimize, special, stats

from kss.claims.registry import check, claim, instead, returns
from kss.diagnostics import rarefaction
from kss.testing.compare import agree, require
from kss.testing.properties import for_all
from kss.theory import copies

CHAPTER = "copies"
PAPER = "Sholokhov, Kinnunen, Vestman and Lee, closest-impostor extrapolation"
EPSILON = float(np.finfo(np.float64).eps)

Numbers = dict[str, Any]


# --- The closest of N strangers -------------------------------------------------------------------------------------------

claim(
    "copy.pooled",
    title="Pairs thrown together overestimate the closest impostor",
    statement=r"""With $p_x$ the probability that a random stranger looks like $x$, and $\bar p = \mathbb E\,p_x$,

$$P(N) = \mathbb E_x\big[1 - (1 - p_x)^N\big] \;\le\; 1 - (1 - \bar p)^N ,$$

with equality if and only if $N = 1$ or $p_x$ is the same for almost every $x$.""",
    source=f"{PAPER} (that an extrapolation overestimated); the inequality is Jensen's",
    regime=r"""Every law of $x$; strangers independent given $x$; $N \ge 1$ an integer.""",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "copy.pooled",
    by="property",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda value, *_: value * (1 + 1e-9)),
        "mean of the powers": instead(
            lambda hits, trials, sizes: torch.tensor([np.mean(1 - (1 - np.array(hits) / trials) ** N) for N in sizes], dtype=torch.float64)
        ),
        "union bound": instead(lambda hits, trials, sizes: np.mean(hits) / trials * torch.tensor(sizes, dtype=torch.float64)),
        "Poisson": instead(lambda hits, trials, sizes: -torch.expm1(-np.mean(hits) / trials * torch.tensor(sizes, dtype=torch.float64))),
    },
)
def jensen_in_rational_numbers(predict: Any = rarefaction.pooled_false_alarm, *, generator: torch.Generator) -> Numbers:
    """Laws on up to six values `c/T` of `p_x`: both sides in exact fractions, the inequality and its equality."""
    from hypothesis import strategies as st

    sizes = [1, 2, 3, 7, 20]
    worst = [0.0]

    def test(case: tuple[int, list[int]]) -> None:
        trials, hits = case
        mean = Fraction(sum(hits), trials * len(hits))
        pooled = [1 - (1 - mean) ** N for N in sizes]
        true = [sum(1 - (1 - Fraction(c, trials)) ** N for c in hits) / len(hits) for N in sizes]
        for N, p, q in zip(sizes, pooled, true, strict=True):
            require(p == q if N == 1 or len(set(hits)) == 1 else p > q, f"pooled {p}, true {q} for N = {N}, hits {hits} of {trials}")
        expected = np.array([float(p) for p in pooled])
        got = predict(hits, trials, sizes)
        worst[0] = max(worst[0], agree(f"pooled, hits {hits} of {trials}", got, expected, 64 * EPSILON * expected + 1e-300))

    hits = st.integers(1, 12).flatmap(lambda T: st.tuples(st.just(T), st.lists(st.integers(0, T), min_size=1, max_size=6)))
    tried = for_all(hits, test, generator=generator, examples=150)
    return tried | {"worst error/allowance": worst[0]}


def _gaussian_rates(d: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """`p_x` of N(0, I_d) with Gauss-Legendre weights in the quantile of `|x|^2 ~ chi^2_d`: the noncentral chi-squared law."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    # Quantiles crowd at both ends: x = v^2 (3 - 2 v) flattens them.
    v = (nodes + 1) / 2
    return stats.ncx2.cdf(radius**2, d, stats.chi2.ppf(v**2 * (3 - 2 * v), d)), weights / 2 * 6 * v * (1 - v)


@check(
    "copy.pooled",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda value, *_: value * (1 + 1e-6)),
        "mean of the powers": instead(
            lambda hits, trials, sizes: torch.tensor([float(_gaussian_closest(N)) for N in sizes], dtype=torch.float64)
        ),
    },
)
def how_much_on_a_gaussian_law(predict: Any = rarefaction.pooled_false_alarm, *, generator: torch.Generator) -> Numbers:
    """N(0, I_6), r = 1: the pooled prediction from `|x - X|^2/2 ~ chi^2_6`, beside the mean over x of the exact rates."""
    sizes, trials = [50, 200, 1000, 5000], 2**50
    mean = stats.chi2.cdf(0.5, 6)
    pooled = predict([round(mean * trials)], trials, sizes)
    agree("pooled", pooled, -np.expm1(np.array(sizes) * np.log1p(-mean)), 1e-11)
    exact = [_gaussian_closest(N) for N in sizes]
    require(all(float(p) > 1.05 * q for p, q in zip(pooled, exact, strict=True)), f"pooled {pooled}, exact {exact}")
    return {f"exact, pooled at N = {N}": f"{q:.4f}, {float(p):.4f}" for N, p, q in zip(sizes, pooled, exact, strict=True)}


def _gaussian_closest(N: int) -> float:
    p, weight = _gaussian_rates(6, 1.0)
    return float(weight @ -np.expm1(N * np.log1p(-p)))


claim(
    "copy.rarefaction",
    title="Rarefaction is unbiased",
    statement=r"""If $c_i$ of the other $T = n - 1$ points lie within $r$ of the $i$-th, then

$$\widehat P(N) = \frac1n\sum_{i=1}^n\left[1 - \binom{T - c_i}N \Big/ \binom TN\right], \qquad N \le T,$$

is the mean, over all points and all sets of $N$ others, of "one of them is within $r$". Hence $\mathbb E\,\widehat P(N) = P(N)$
for every law.""",
    source="derived here (the rarefaction formula of ecology)",
    regime=r"""The points are independent draws of one law; $0 \le N \le T$.""",
    uses=("copy.pooled",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "copy.rarefaction",
    by="proof",
    mutants={
        "off by 1e-9": returns(lambda value, *_: value * (1 + 1e-9)),
        "drawn with replacement": instead(lambda hits, trials, N: 1 - (1 - torch.tensor(hits, dtype=torch.float64) / trials).pow(N).mean()),
        "one too many in the pool": instead(lambda hits, trials, N: rarefaction.rarefied_false_alarm(hits, trials + 1, N)),
        "pooled": instead(rarefaction.pooled_false_alarm),
    },
)
def the_expectation_is_a_polynomial_identity(predict: Any = rarefaction.rarefied_false_alarm, *, generator: torch.Generator) -> Numbers:
    """`sum_c Binomial(c; T, p) P^(N | c) = 1 - (1 - p)^N` as polynomials in p, with the values of the estimator as exact fractions."""
    import sympy

    p, identities = sympy.Symbol("p"), 0
    for T in range(1, 8):
        for N in range(T + 1):
            total = sympy.Integer(0)
            for c in range(T + 1):
                value = float(predict([c], T, N))
                exact = Fraction(value).limit_denominator(math.comb(T, N))  # every value is a multiple of 1/C(T, N)
                agree(f"value for c = {c} of T = {T}, N = {N}", value, float(exact), 64 * EPSILON)
                total += sympy.binomial(T, c) * p**c * (1 - p) ** (T - c) * sympy.Rational(exact.numerator, exact.denominator)
            remainder = sympy.expand(total - (1 - (1 - p) ** N))
            require(remainder == 0, f"T = {T}, N = {N}: expectation off by {remainder}")
            identities += 1
    return {"identities": identities}


@check(
    "copy.rarefaction",
    by="property",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda curve, *_: curve._replace(rarefaction=curve.rarefaction * (1 + 1e-9))),
        "itself a stranger": instead(
            lambda points, radius, sizes: rarefaction.impostor_curve(points, radius, sizes)._replace(
                rarefaction=rarefaction.rarefied_false_alarm(rarefaction.close_pairs(points, radius) + 1, len(points), sizes)
            )
        ),
        "radius doubled": instead(lambda points, radius, sizes: rarefaction.impostor_curve(points, 2 * radius, sizes)),
    },
)
def mean_over_all_sets_of_strangers(predict: Any = rarefaction.impostor_curve, *, generator: torch.Generator) -> Numbers:
    """Up to seven points in up to three dimensions, ties and repeats included: every point, every set of N others, counted one by one."""
    from hypothesis import strategies as st

    from kss.testing.strategies import arrays

    worst = [0.0]

    def test(case: tuple[np.ndarray, float]) -> None:
        points, radius = case
        n = len(points)
        near = [[math.dist(a, b) < radius for b in points] for a in points]
        sizes = list(range(n))
        exact = []
        for N in sizes:
            crowds = [(i, some) for i in range(n) for some in itertools.combinations([j for j in range(n) if j != i], N)]
            exact.append(sum(any(near[i][j] for j in some) for i, some in crowds) / len(crowds))
        worst[0] = max(worst[0], agree("rarefaction", predict(points, radius, sizes).rarefaction, exact, 64 * EPSILON))

    shapes = st.tuples(st.integers(3, 7), st.integers(1, 3))
    cases = shapes.flatmap(lambda shape: st.tuples(arrays(*shape), st.sampled_from((0.3, 1.1, 2.3, 5.0))))
    tried = for_all(cases, test, generator=generator, examples=60)
    return tried | {"worst error/allowance": worst[0]}


claim(
    "copy.beta_binomial",
    title="Beyond the data: the beta-binomial law",
    statement=r"""If $p_x \sim \mathrm{Beta}(a, b)$ then

$$P(N) = 1 - \frac{B(a, b + N)}{B(a, b)}, \qquad 1 - P(N) \sim \frac{\Gamma(a + b)}{\Gamma(b)}\,N^{-a} :$$

a power of $N$, where the pooled prediction falls exponentially. Two moments fix $a$ and $b$: $\mathbb E\,p_x$ and $\mathbb E\,p_x^2$,
estimated without bias by the means of $\frac cT$ and $\frac{c(c-1)}{T(T-1)}$. For $\mathcal N(0, I_6)$ and $r = 1$ the beta law with the
exact moments overestimates $P(N)$, by at most 4 % at the $N$ computed.""",
    source="derived here; of the kind used by " + PAPER,
    regime=r"""First part: every $a, b > 0$, integers $N \ge 0$. Last sentence: this law, this $r$, $N = 50, 200, 1000, 5000$; in general
the fit errs as much as the law of $p_x$ differs from a beta law.""",
    uses=("copy.rarefaction",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "copy.beta_binomial",
    by="quadrature",
    mutants={
        "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8)),
        "a and b exchanged": instead(lambda fit, sizes: rarefaction.BetaFit(fit.b, fit.a, fit.mean).false_alarm(sizes)),
        "pooled": instead(lambda fit, sizes: 1 - (1 - fit.mean) ** torch.tensor(sizes, dtype=torch.float64)),
        "N - 1": instead(lambda fit, sizes: fit.false_alarm(torch.tensor(sizes) - 1)),
    },
)
def integral_over_the_beta_law(predict: Any = rarefaction.BetaFit.false_alarm, *, generator: torch.Generator) -> Numbers:
    """`E (1 - p)^N` by Gauss-Jacobi quadrature, exact for polynomials; and the power law, for N = 10^9."""
    worst, sizes = 0.0, [1, 2, 10, 60]
    for a, b in ((0.3, 2.0), (0.9, 30.0), (4.0, 1.5), (20.0, 50.0)):
        x, w = special.roots_jacobi(40, b - 1, a - 1)
        p = (1 + x) / 2
        expected = [float(w @ (1 - (1 - p) ** N)) / float(w.sum()) for N in sizes]
        fit = rarefaction.BetaFit(a, b, a / (a + b))
        worst = max(worst, agree(f"Beta({a}, {b})", predict(fit, sizes), expected, 1e-9 * np.array(expected)))
        left = 1 - float(predict(fit, [1e9])[0])
        power = math.exp(math.lgamma(a + b) - math.lgamma(b) - a * math.log(1e9))
        # The next term is a (a + 2b - 1)/(2N), and 1 - P carries the rounding of P.
        agree(f"power law of Beta({a}, {b})", left, power, 1e-6 * power + 4 * EPSILON)
    return {"worst error/allowance": worst}


@check(
    "copy.beta_binomial",
    by="property",
    lane="full",
    mutants={
        "off by 1e-7": returns(lambda fit, *_: fit._replace(a=fit.a * (1 + 1e-7))),
        "second moment with its bias": instead(
            lambda hits, T: rarefaction.beta_from_moments(float(np.mean(hits) / T), float(np.mean(np.square(hits)) / T**2))
        ),
        "denominator T squared": instead(
            lambda hits, T: rarefaction.beta_from_moments(
                float(np.mean(hits) / T), float(np.mean(np.array(hits) * (np.array(hits) - 1)) / T**2)
            )
        ),
    },
)
def moments_of_the_fit(predict: Any = rarefaction.fit_beta, *, generator: torch.Generator) -> Numbers:
    """The beta law's own moments `a/(a + b)` and `a(a + 1)/((a + b)(a + b + 1))` against those of the counts, in exact fractions."""
    from hypothesis import assume
    from hypothesis import strategies as st

    worst = [0.0]

    def test(case: tuple[int, list[int]]) -> None:
        T, hits = case
        n = len(hits)
        first, second = Fraction(sum(hits), n * T), Fraction(sum(c * (c - 1) for c in hits), n * T * (T - 1))
        variance = second - first**2
        assume(variance > Fraction(1, 1000) and first - second > Fraction(1, 1000))
        fit = predict(hits, T)
        total = fit.a + fit.b
        moments = fit.a / total, fit.a * (fit.a + 1) / (total * (total + 1))
        # The variance is a difference, and no smaller than 1e-3.
        worst[0] = max(worst[0], agree(f"moments for {hits} of {T}", moments, [float(first), float(second)], 1e-11))

    cases = st.integers(2, 30).flatmap(lambda T: st.tuples(st.just(T), st.lists(st.integers(0, T), min_size=2, max_size=8)))
    tried = for_all(cases, test, generator=generator, examples=150)
    return tried | {"worst error/allowance": worst[0]}


@check(
    "copy.beta_binomial",
    by="quadrature",
    lane="full",
    mutants={
        "a larger by a tenth": returns(lambda fit, *_: fit._replace(a=1.1 * fit.a)),
        "pooled": instead(lambda first, second: rarefaction.BetaFit(math.inf, math.inf, first)),
        "variance for second moment": instead(lambda first, second: rarefaction.beta_from_moments(first, second - first**2 / 2)),
    },
)
def on_a_gaussian_law(predict: Any = rarefaction.beta_from_moments, *, generator: torch.Generator) -> Numbers:
    """N(0, I_6), r = 1: exact moments and rates by quadrature over `|x|^2`."""
    p, weight = _gaussian_rates(6, 1.0)
    agree("E p", weight @ p, stats.chi2.cdf(0.5, 6), 1e-10)
    sizes = [50, 200, 1000, 5000]
    fitted = predict(float(weight @ p), float(weight @ p**2)).false_alarm(sizes)
    exact = [_gaussian_closest(N) for N in sizes]
    for N, got, true in zip(sizes, fitted.tolist(), exact, strict=True):
        require(true < got < 1.04 * true, f"N = {N}: beta-binomial {got:.4f}, exact {true:.4f}")
    return {f"exact, beta-binomial at N = {N}": f"{q:.4f}, {g:.4f}" for N, g, q in zip(sizes, fitted.tolist(), exact, strict=True)}


# --- Distances ------------------------------------------------------------------------------------------------------------

claim(
    "copy.geometric",
    title="How near a fresh point comes: the distance falls like the k-th root of N",
    statement=r"""With $V_k$ the volume of the unit ball of $\mathbb R^k$ and $F_x(r)$ the probability that a datum lies within $r$ of $x$,

$$\Pr(D_1 < r) = \mathbb E\big[1 - (1 - F_x(r))^N\big] \approx 1 - \mathbb E\,e^{-N p(x) V_k r^k},$$

so that where $p$ is constant the distance that a fresh point undercuts with probability $\alpha$ is

$$r_N(\alpha) = \Big(\frac{-\log(1 - \alpha)}{N p V_k}\Big)^{1/k} \propto N^{-1/k},$$

up to a relative error $O(r_N^2 + 1/N)$. On the unit 2-sphere $r_N(1\,\%) = 0.2005/\sqrt N$.""",
    source="derived here",
    regime=r"""$k$-manifold, density $p$ nearly constant over $r$, $r$ far below the reach, $F_x(r) \ll 1$. Computed: uniform laws on
$k$-spheres ($k = 1, 2, 3, 5$; two radii; $N = 10^2$ to $10^5$), and a circle with density $\propto 1 + 0.8\cos\theta$.""",
    chapter=CHAPTER,
    verdict="holds in regime",
)


def _cap(r: float, k: int, radius: float) -> float:
    """The share of the k-sphere within the chord r of a point of it: an integral of `sin^{k-1}` over the angle."""
    angle = 2 * math.asin(min(1.0, r / (2 * radius)))
    whole = math.sqrt(math.pi) * math.gamma(k / 2) / math.gamma((k + 1) / 2)
    return float(integrate.quad(lambda a: math.sin(a) ** (k - 1), 0, angle, epsabs=0, epsrel=1e-12)[0]) / whole


@check(
    "copy.geometric",
    by="quadrature",
    mutants={
        "off by 1 %": returns(lambda r, *_: 1.01 * r),
        "ambient dimension": instead(lambda alpha, N, density, k: copies.geometric_threshold(alpha, N, density, k + 1)),
        "square root of N always": instead(lambda alpha, N, density, k: copies.geometric_threshold(alpha, 1, density, k) / math.sqrt(N)),
        "alpha for its logarithm": instead(
            lambda alpha, N, density, k: (alpha / (N * density * copies.ball_volume(k))) ** (1 / k),
        ),
        "surface for volume": instead(lambda alpha, N, density, k: copies.geometric_threshold(alpha, N, density * k, k)),
        "density forgotten": instead(lambda alpha, N, density, k: copies.geometric_threshold(alpha, N, 1.0, k)),
    },
)
def exact_thresholds_on_spheres(predict: Any = copies.geometric_threshold, *, generator: torch.Generator) -> Numbers:
    """The r with `1 - (1 - F(r))^N = alpha`, F by integration over the angle, for four dimensions, two radii, three alphas."""
    worst, numbers = 0.0, {}
    for k, radius, N, alpha in itertools.product((1, 2, 3, 5), (1.0, 2.5), (10**2, 10**5), (0.01, 0.3)):
        goal = -math.expm1(math.log1p(-alpha) / N)

        def excess(r: float, k: int = k, radius: float = radius, goal: float = goal) -> float:
            return _cap(r, k, radius) - goal

        exact = optimize.brentq(excess, 1e-9, 2 * radius, xtol=1e-15, rtol=1e-12)
        volume = 2 * math.pi ** ((k + 1) / 2) / math.gamma((k + 1) / 2) * radius**k
        # F = A r^k (1 - k(k - 2)/(8 (k + 2)) r^2/R^2 ...), -log(1 - F) = F + F^2/2: each divided by k.
        allowed = ((k + 1) / 8 * (exact / radius) ** 2 + goal) / k * exact
        got = float(predict(alpha, N, 1 / volume, k))
        worst = max(worst, agree(f"threshold for k = {k}, R = {radius}, N = {N}, alpha = {alpha}", got, exact, allowed))
        if k == 2 and radius == 1 and alpha == 0.01:
            numbers[f"r_N sqrt(N) at N = {N}"] = got * math.sqrt(N)
            numbers[f"exact false alarms at N = {N}"] = 1 - (1 - got**2 / 4) ** N
    return numbers | {"worst error/allowance": worst}


@check(
    "copy.geometric",
    by="quadrature",
    mutants={
        "off by 1 %": returns(lambda value, *_: 1.01 * value),
        "half the ball": instead(lambda r, N, density, k: copies.nearest_false_alarm(r / 2, N, density, k)),
        "uniform": instead(lambda r, N, density, k: copies.nearest_false_alarm(r, N, 1 / (2 * math.pi), k)),
        "first order": instead(lambda r, N, density, k: N * density * 2 * r),
    },
)
def a_circle_with_varying_density(predict: Any = copies.nearest_false_alarm, *, generator: torch.Generator) -> Numbers:
    """Density `(1 + 0.8 cos)/2 pi`: `F_x(r)` in closed form; the mean over x of both sides by the trapezoidal rule."""
    angle = np.linspace(0, 2 * math.pi, 400, endpoint=False)
    density = (1 + 0.8 * np.cos(angle)) / (2 * math.pi)
    worst, numbers = 0.0, {}
    for N, spread in itertools.product((300, 3000), (0.05, 0.5, 2.0)):  # N r/pi
        r = spread * math.pi / N
        arc = 2 * math.asin(r / 2)
        inside = arc / math.pi + 0.8 * np.cos(angle) * math.sin(arc) / math.pi
        exact = float((density * (1 - (1 - inside) ** N)).sum() * (2 * math.pi / 400))
        got = sum(float(predict(r, N, float(p), 1)) * float(p) for p in density) * (2 * math.pi / 400)
        # |(1 - F)^N - e^{-NF}| <= N F^2, and F = 2 p r up to r^3/(8 pi) + 0.8 r^3/(6 pi) < r^3/10.
        allowed = N * float((density * inside**2).sum() * (2 * math.pi / 400)) + N * r**3 / 10
        worst = max(worst, agree(f"P(D_1 < r), N = {N}, N r/pi = {spread}", got, exact, allowed))
        numbers[f"N = {N}, N r/pi = {spread}"] = f"{got:.4f}, exact {exact:.4f}"
    return numbers | {"worst error/allowance": worst}


claim(
    "copy.ratio",
    title="The ratio of the two nearest distances needs no calibration",
    statement=r"""For a point that is no copy

$$\Pr(D_1/D_2 < c) = \mathbb E\left[\frac{F(c D_2)}{F(D_2)}\right] = c^k,$$

whatever $N$ and the density: exactly if $F(r) \propto r^k$ as far as $D_2$ reaches (arcs on a circle, chords on the 2-sphere), and
otherwise up to a factor $1 + O(N^{-2/k})$; on the unit $k$-sphere this is $1 + \frac{k(k-2)}{8(k+2)}(1 - c^2)\,\mathbb E D_2^2$.""",
    source="derived here; the law itself is that of Facco et al. 2017",
    regime=r"""$k$-manifold, density positive and smooth; $D_2$ far below the reach and the scale on which the density
varies. The correction is large for large $k$: $N^{-2/k}$ is 0.25 for $N = 1000$, $k = 10$. Boundaries add $O(N^{-1/k})$.""",
    uses=("copy.geometric",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "copy.ratio",
    by="proof",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda value, *_: value * (1 + 1e-9)),
        "dimension forgotten": instead(lambda c, k: c),
        "ambient dimension": instead(lambda c, k: copies.ratio_false_alarm(c, k + 1)),
        "squared distances": instead(lambda c, k: copies.ratio_false_alarm(c**0.5, k)),
        "two sides": instead(lambda c, k: 2 * copies.ratio_false_alarm(c, k)),
    },
)
def exact_where_the_law_is_a_power(predict: Any = copies.ratio_false_alarm, *, generator: torch.Generator) -> Numbers:
    """`F = r^k`: the joint density `N(N-1) f(a) f(b) (1 - F(b))^{N-2}` integrated over `a < c b` by sympy, for every N from 2 to 7."""
    import sympy

    a, b, count = sympy.Symbol("a"), sympy.Symbol("b"), 0
    for k, N, c in itertools.product((1, 2, 3, 5), range(2, 8), (sympy.Rational(1, 3), sympy.Rational(4, 5))):
        joint = N * (N - 1) * k * a ** (k - 1) * k * b ** (k - 1) * (1 - b**k) ** (N - 2)
        exact = sympy.integrate(sympy.expand(sympy.integrate(joint, (a, 0, c * b))), (b, 0, 1))
        agree(f"k = {k}, N = {N}, c = {c}", float(predict(float(c), k)), float(exact), 1e-12 * float(exact))
        count += 1
    return {"integrals": count}


def _exact_on_sphere(c: float, k: int, N: int) -> float:
    """`int N (N - 1) f(b) F(c b) (1 - F(b))^{N-2} db` on the unit k-sphere, k = 1, 2, 3, with F and f in the angle."""
    area: Callable[[float], float] = {
        1: lambda u: u / math.pi,
        2: lambda u: (1 - math.cos(u)) / 2,
        3: lambda u: (u - math.sin(u) * math.cos(u)) / math.pi,
    }[k]
    density: Callable[[float], float] = {
        1: lambda u: 1 / math.pi,
        2: lambda u: math.sin(u) / 2,
        3: lambda u: 2 * math.sin(u) ** 2 / math.pi,
    }[k]

    def integrand(u: float) -> float:
        near = 2 * math.asin(min(1.0, c * math.sin(u / 2)))
        return N * (N - 1) * density(u) * area(near) * (1 - area(u)) ** (N - 2)

    peak = 2 * math.asin(min(1.0, (2 / N) ** (1 / k)))
    ends = [0.0, min(peak, 1.0), min(4 * peak, 2.0), math.pi]
    return sum(integrate.quad(integrand, p, q, epsabs=1e-14, epsrel=1e-11, limit=400)[0] for p, q in itertools.pairwise(ends))


@check(
    "copy.ratio",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda value, *_: value * (1 + 1e-6)),
        "the limit": instead(lambda c, N, cdf, quantile: c ** round(math.log(cdf(1e-3) / cdf(5e-4), 2))),
        "nearest point for the second": instead(
            lambda c, N, cdf, quantile: integrate.quad(lambda v: cdf(c * quantile(u := stats.beta.ppf(v, 1, N))) / u, 1e-12, 1)[0]
        ),
        "one datum more": instead(lambda c, N, cdf, quantile: copies.finite_ratio_false_alarm(c, N + 1, cdf, quantile)),
    },
)
def finite_data_on_spheres(predict: Any = copies.finite_ratio_false_alarm, *, generator: torch.Generator) -> Numbers:
    """Chords on circle, 2-sphere and 3-sphere, N = 2 to 1000: one integral over the quantile against one over the angle."""
    worst, numbers = 0.0, {}
    for k, N, c in itertools.product((1, 2, 3), (2, 20, 1000), (1 / 3, 0.8)):
        exact = _exact_on_sphere(c, k, N)
        got = predict(c, N, lambda r, k=k: copies.sphere_distance_cdf(r, k), lambda u, k=k: copies.sphere_distance_quantile(u, k))
        worst = max(worst, agree(f"k = {k}, N = {N}, c = {c}", got, exact, 1e-9))
        if k == 2:
            agree(f"2-sphere, N = {N}: c^2", exact, c**2, 1e-10)
        if c < 0.5:
            numbers[f"k = {k}, N = {N}, c = 1/3"] = got
    return numbers | {"worst error/allowance": worst}


@check(
    "copy.ratio",
    by="rate",
    lane="full",
    mutants={
        "off by 1 %": returns(lambda value, *_: 1.01 * value),
        "half the dimension": instead(lambda c, k: c ** (k / 2)),
        "dimension of the space": instead(lambda c, k: c ** (k + 1)),
    },
)
def the_correction_on_spheres(predict: Any = copies.ratio_false_alarm, *, generator: torch.Generator) -> Numbers:
    """`(P/c^k - 1)/E D_2^2` tends to `k(k-2)(1-c^2)/(8(k+2))`: its error at N = 10^5 and 10^9, and its order 2/k."""
    numbers: Numbers = {}
    for k, c in itertools.product((1, 3, 5), (1 / 3, 0.7)):
        constant = k * (k - 2) / (8 * (k + 2)) * (1 - c**2)
        lead = math.gamma((k + 1) / 2) / (math.sqrt(math.pi) * math.gamma(k / 2) * k)  # F(r) ~ lead r^k
        deviations = []
        for N in (10**5, 10**9):
            square = math.exp(math.lgamma(2 + 2 / k) + math.lgamma(N + 1) - math.lgamma(N + 1 + 2 / k)) / lead ** (2 / k)
            exact = _finite(k, N, c)
            deviation = exact / float(predict(c, k)) - 1
            # The next order is that of D^4; k^2 bounds its coefficient here.
            agree(f"correction, k = {k}, c = {c:.2f}, N = {N}", deviation, constant * square, (k * square) ** 2 + 1e-9)
            deviations.append(deviation)
        if k > 1:  # on the circle the second deviation is 1e-12
            slope = math.log(deviations[1] / deviations[0]) / math.log(1e4)
            agree(f"slope in N, k = {k}", slope, -2 / k, 0.1 / k)
            numbers[f"slope, k = {k}, c = {c:.2f}"] = slope
    return numbers


@check(
    "copy.ratio",
    by="quadrature",
    lane="full",
    mutants={
        "off by 1 %": returns(lambda value, *_: 1.01 * value),
        "half the dimension": instead(lambda c, k: c ** (k / 2)),
        "union of two": instead(lambda c, k: 2 * c**k),
    },
)
def a_density_that_varies(predict: Any = copies.ratio_false_alarm, *, generator: torch.Generator) -> Numbers:
    """Arcs on a circle with density `(1 + a)/2 pi`, a = 0.8 cos: the mean over x of the exact law, within twice its leading correction."""
    angle = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    a, numbers = 0.8 * np.cos(angle)[:, None], {}
    for N, c in itertools.product((300, 3000), (0.1, 1 / 3, 0.8)):
        arc = np.linspace(0, 1, 20001)[None, :] * 40 * math.pi / (N * (1 + a))  # the mean number of data up to its end is 40 or more
        inside, density = (arc + a * np.sin(arc)) / math.pi, (1 + a * np.cos(arc)) / math.pi
        nearer = (c * arc + a * np.sin(c * arc)) / math.pi
        integrand = N * (N - 1) * density * nearer * np.maximum(1 - inside, 0.0) ** (N - 2)
        given = integrate.simpson(integrand, x=arc, axis=1)
        exact = float((given * (1 + a[:, 0])).mean())
        # F(cs)/(c F(s)) - 1 = a (1 - c^2) s^2/(6 (1 + a)), and E s^2 = 6 pi^2/(N (1 + a))^2.
        lead = (1 - c**2) * (math.pi / N) ** 2 * float((a / (1 + a) ** 2).mean())
        agree(f"N = {N}, c = {c:.2f}", float(predict(c, 1)), exact, 2 * c * abs(lead))
        numbers[f"P/c - 1 at N = {N}, c = {c:.2f}"] = f"{exact / c - 1:.3g}, leading term {lead:.3g}"
    return numbers


def _finite(k: int, N: int, c: float) -> float:
    """`E F(c D_2)/F(D_2)` on the unit k-sphere, with `D^2/4 ~ Beta(k/2, k/2)` and `F(D_2) ~ Beta(2, N - 1)`, by Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    v = (nodes + 1) / 2
    u = stats.beta.ppf(v**2 * (3 - 2 * v), 2, N - 1)
    inside = special.betainc(k / 2, k / 2, c**2 * special.betaincinv(k / 2, k / 2, u))
    return float((weights * 3 * v * (1 - v)) @ (inside / u))


claim(
    "copy.beta_law",
    title="The ratio to the K-th neighbor",
    statement=r"""Under the same conditions $D_1^k/D_K^k \sim \mathrm{Beta}(1, K - 1)$, that is

$$\Pr(D_1/D_K < c) = 1 - (1 - c^k)^{K-1}.$$""",
    source="derived here",
    regime=r"""As for two neighbors, with $D_K$ in the place of $D_2$; $2 \le K \le N$. Exact for all such $N$
if $F(r) \propto r^k$ as far as $D_K$ reaches.""",
    uses=("copy.ratio",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "copy.beta_law",
    by="proof",
    mutants={
        "off by 1e-9": returns(lambda value, *_: value * (1 + 1e-9)),
        "K for K - 1": instead(lambda c, k, K: copies.ratio_false_alarm(c, k, K + 1)),
        "two neighbors": instead(lambda c, k, K: copies.ratio_false_alarm(c, k)),
        "union bound": instead(lambda c, k, K: (K - 1) * c**k),
        "maximum for minimum": instead(lambda c, k, K: c ** (k * (K - 1))),
    },
)
def the_joint_law_of_first_and_last(predict: Any = copies.ratio_false_alarm, *, generator: torch.Generator) -> Numbers:
    """With `u = r^k` uniform: the joint density of the first and the K-th of N, integrated over `u_1 < q u_K` by sympy."""
    import sympy

    a, b, count = sympy.Symbol("a"), sympy.Symbol("b"), 0
    for k, K, N in ((1, 2, 2), (1, 3, 3), (2, 3, 6), (3, 4, 5), (1, 5, 8), (2, 5, 5)):
        for c in (sympy.Rational(1, 3), sympy.Rational(7, 10)):
            factor = sympy.factorial(N) / (sympy.factorial(K - 2) * sympy.factorial(N - K))
            inner = sympy.integrate(sympy.expand((b - a) ** (K - 2)), (a, 0, c**k * b))
            exact = sympy.integrate(sympy.expand(factor * inner * (1 - b) ** (N - K)), (b, 0, 1))
            agree(f"k = {k}, K = {K}, N = {N}, c = {c}", float(predict(float(c), k, K)), float(exact), 1e-12 * float(exact))
            count += 1
    return {"integrals": count, "k = 2, K = 5, c = 0.1, 0.2, 1/3": [round(float(predict(c, 2, 5)), 4) for c in (0.1, 0.2, 1 / 3)]}


@check(
    "copy.beta_law",
    by="quadrature",
    lane="full",
    mutants={
        "off by 1e-4": returns(lambda value, *_: value * (1 + 1e-4)),
        "K - 1 data left": instead(lambda c, N, cdf, quantile, K: copies.finite_ratio_false_alarm(c, N, cdf, quantile, K - 1)),
        "not conditioned": instead(lambda c, N, cdf, quantile, K: 1 - (1 - cdf(c * quantile(K / (N + 1))) / (K / (N + 1))) ** (K - 1)),
    },
)
def exponential_distances(predict: Any = copies.finite_ratio_false_alarm, *, generator: torch.Generator) -> Numbers:
    """Exponential distances instead of a power law: `P(D_1/D_K < c)` by a double integral, for K = 3 and 6, N = 6 and 40."""
    worst = 0.0
    for K, N, c in itertools.product((3, 6), (6, 40), (0.2, 0.6)):
        # The K-th of N standard exponentials is at y; the K - 1 others are independent draws below y.
        factor = math.exp(math.lgamma(N + 1) - math.lgamma(K - 1) - math.lgamma(N - K + 1))

        def joint(x: float, y: float, K: int = K, N: int = N, factor: float = factor) -> float:
            return factor * math.exp(-x - y * (N - K + 1)) * (math.exp(-x) - math.exp(-y)) ** (K - 2)

        # P(the K-th is beyond y) <= C(N, K - 1) e^{-(N - K + 1) y}, here below e^{-25}.
        end = (25 + math.log(math.comb(N, K - 1))) / (N - K + 1)
        exact = integrate.dblquad(joint, 0, end, 0, lambda y, c=c: c * y, epsabs=1e-9, epsrel=1e-7)[0]
        got = predict(c, N, lambda r: -math.expm1(-r), lambda u: -math.log1p(-u), K)
        worst = max(worst, agree(f"K = {K}, N = {N}, c = {c}", got, exact, 1e-6))
    return {"worst error/allowance": worst}
