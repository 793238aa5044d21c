"""Chapter "Interpolation and geometry", second part: two data points and a Gaussian window."""

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy import integrate, optimize, special

from kss.claims.interpolation import CHAPTER, EPSILON, Numbers, follow
from kss.claims.registry import check, claim, instead, returns
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.theory import interpolation

claim(
    "interpolation.pitchfork",
    title="A Gaussian window: a pitchfork at h = 2 a squared over pi",
    statement=r"""As $t \to 0$ the denoiser of the data $\pm a$, averaged over a Gaussian of variance $h$, is
$a\,\mathrm{erf}(x/\sqrt{2h})$. For $h < h_c = 2a^2/\pi$ it has three fixed points: 0, from which the flow departs, and $\pm x_*(h)$,
$0 < x_* < a$, to one of which every other start is carried. For $h \ge h_c$ it has one, 0, where every start ends. An offset from a fixed
point grows like $t^{-\lambda}$ with $\lambda = \frac12\Big(a\sqrt{\tfrac{2}{\pi h}}\;e^{-x^2/2h} - 1\Big)$, and just below $h_c$

$$x_*^2 = 3\,(h_c - h) - \frac{9}{10}\,\frac{(h_c - h)^2}{h_c} + O\big((h_c - h)^3\big).$$""",
    source="derived here",
    regime=r"""Data $\pm a$, limit score $(a\,\mathrm{sign}\,x - x)/t$, kernel $\mathcal N(0, h)$ with fixed $h > 0$, probability flow. At
$h = h_c$ the rate $\lambda$ is 0, and the approach to 0 is slower than every power of $t$.""",
    uses=("heat.reversal_ode", "empirical.softmax"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "interpolation.pitchfork",
    by="quadrature",
    mutants={
        "h for 2 h": instead(lambda x, h, a: a * special.erf(np.asarray(x) / math.sqrt(h))),
        "variance for standard deviation": instead(lambda x, h, a: a * special.erf(np.asarray(x) / (math.sqrt(2) * h))),
        "distribution function": instead(lambda x, h, a: a * special.ndtr(np.asarray(x) / math.sqrt(h))),
        "off by 1e-9": returns(lambda mean, *_: mean * (1 + 1e-9)),
    },
)
def mean_of_a_sign(predict: Any = interpolation.gaussian_denoiser, *, generator: torch.Generator) -> Numbers:
    """`a (P(V > -x) - P(V < -x))` for `V ~ N(0, h)`, by Gauss-Legendre quadrature of the normal density from 0 to x."""
    node, weight = np.polynomial.legendre.leggauss(60)
    worst = 0.0
    for a, h in itertools.product((0.5, 1.0, 3.0), (0.1, 0.6366, 4.0)):
        x = np.linspace(-2, 2, 9) * a
        v = x[:, None] / 2 * (1 + node)
        inner = 2 * np.exp(-(v**2) / (2 * h)) @ weight * x / 2 / math.sqrt(2 * math.pi * h)
        worst = max(worst, agree(f"a = {a}, h = {h}", predict(x, h, a), a * inner, 1e-11 * a))
    return {"worst error/allowance": worst}


@check(
    "interpolation.pitchfork",
    by="proof",
    lane="full",
    mutants={
        "h for 2 h": returns(lambda h, *_: h / 2),
        "a for a squared": instead(lambda a: 2 * a / math.pi),
        "off by 1e-12": returns(lambda h, *_: h * (1 + 1e-12)),
        "pi over 2": instead(lambda a: a**2 * math.pi / 2),
    },
)
def slope_one_at_the_middle(predict: Any = interpolation.critical_bandwidth, *, generator: torch.Generator) -> Numbers:
    """Where the slope of `a erf(x/sqrt(2h))` at 0 is 1, solved for h with symbols."""
    import sympy

    x = sympy.Symbol("x", real=True)
    a, h = sympy.symbols("a h", positive=True)
    slope = sympy.diff(a * sympy.erf(x / sympy.sqrt(2 * h)), x).subs(x, 0)
    (critical,) = sympy.solve(sympy.Eq(slope, 1), h)
    for value in (0.5, 1.0, 3.0):
        expected = float(critical.subs(a, value).evalf(30))
        agree(f"a = {value}", predict(value), expected, 4 * EPSILON * expected)
    return {"critical variance": str(critical), "at a = 1": predict(1.0)}


@check(
    "interpolation.pitchfork",
    by="quadrature",
    mutants={
        "one point for every h": instead(lambda h, a: 0 * np.asarray(h)),
        "leading order": instead(lambda h, a: np.sqrt(np.maximum(interpolation.branch_square(np.asarray(h), a), 0.0))),
        "nearest data": instead(lambda h, a: a + 0 * np.asarray(h)),
        "no scaling": instead(lambda h, a: a * interpolation.rest_point(h)),
        "off by 1e-7": returns(lambda x, *_: x * (1 + 1e-7)),
    },
)
def branch_by_bisection(predict: Any = interpolation.rest_point, *, generator: torch.Generator) -> Numbers:
    """Sign changes of `a erf(x/sqrt(2h)) - x` on 4001 points of (0, 2a], and Brent's method between; above h_c there are none.

    The difference is concave on x > 0, so the grid can miss two zeros only near a tangency, which is at 0.
    """
    worst, numbers = 0.0, {}
    for a in (0.4, 1.0, 2.5):
        for ratio in (0.02, 0.3, 0.8, 0.98, 0.999, 1.0, 1.02, 3.0):
            h = ratio * 2 * a**2 / math.pi

            def gap(x: float, h: float = h, a: float = a) -> float:
                return a * math.erf(x / math.sqrt(2 * h)) - x

            grid = np.linspace(0, 2 * a, 4002)[1:]
            signs = np.sign([gap(x) for x in grid])
            changes = np.flatnonzero(signs[1:] != signs[:-1])
            require(len(changes) == (1 if ratio < 1 else 0), f"{len(changes)} zeros for h = {ratio} h_c")
            expected = optimize.brentq(gap, grid[changes[0]], grid[changes[0] + 1], xtol=1e-15) if ratio < 1 else 0.0
            # An error EPSILON of erf moves the zero by EPSILON a/(1 - slope), where 1 - slope is about 1 - ratio.
            allowed = 1e-12 * a + 16 * EPSILON * a / max(1 - ratio, EPSILON) if ratio < 1 else 0.0
            worst = max(worst, agree(f"a = {a}, h = {ratio} h_c", predict(h, a), expected, allowed))
            if a == 1.0:
                numbers[f"rest point at {ratio} h_c"] = float(interpolation.rest_point(h))
    return numbers | {"worst error/allowance": worst}


@check(
    "interpolation.pitchfork",
    by="proof",
    lane="full",
    mutants={
        "first order": instead(lambda h, a: 3 * (interpolation.critical_bandwidth(a) - h)),
        "6 for 3": returns(lambda square, *_: 2 * square),
        "sign of the second": instead(lambda h, a: 6 * (interpolation.critical_bandwidth(a) - h) - interpolation.branch_square(h, a)),
        "a forgotten": instead(lambda h, a: interpolation.branch_square(h, 1.0)),
    },
)
def normal_form(predict: Any = interpolation.branch_square, *, generator: torch.Generator) -> Numbers:
    """`a erf(x/sqrt(2h))/x - 1` with `h = h_c (1 - e)` and `x^2 = h_c (c_1 e + c_2 e^2)`: the coefficients that make its first two orders
    0.
    """
    import sympy

    e, u = sympy.symbols("e u", positive=True)
    c1, c2 = sympy.symbols("c1 c2", real=True)
    # a sqrt(2/(pi h)) (1 - x^2/6h + x^4/40h^2 - ...), the series of erf, with u = x^2/h; a sqrt(2/(pi h)) = (1 - e)^(-1/2).
    series = sympy.series(sympy.sqrt(sympy.pi) / 2 * sympy.erf(sympy.sqrt(u / 2)) / sympy.sqrt(u / 2), u, 0, 3).removeO()
    equation = sympy.series(series.subs(u, (c1 * e + c2 * e**2) / (1 - e)) / sympy.sqrt(1 - e) - 1, e, 0, 3).removeO()
    first = sympy.solve(equation.coeff(e, 1), c1)[0]
    second = sympy.solve(equation.coeff(e, 2).subs(c1, first), c2)[0]
    for a, below in ((0.5, 0.3), (1.0, 0.1), (2.0, 0.5)):
        critical = 2 * a**2 / math.pi
        expected = critical * (float(first) * below + float(second) * below**2)
        agree(f"a = {a}, e = {below}", predict(critical * (1 - below), a), expected, 1e-12 * expected)
    # And the exact branch lies within the next order of it: c_3 is about -0.32.
    errors = []
    for below in (0.04, 0.02, 0.01):
        h = 2 / math.pi * (1 - below)
        root = optimize.brentq(lambda x, h=h: math.erf(x / math.sqrt(2 * h)) - x, 1e-3, 1, xtol=1e-15)
        errors.append((root**2 - float(predict(h, 1.0))) * math.pi / 2 / below**3)
    require(max(errors) - min(errors) < 0.05 and abs(errors[0]) < 1, f"remainder/e^3: {errors}")
    return {"coefficients": f"{first}, {second}", "remainder/e^3": errors[-1]}


@check(
    "interpolation.pitchfork",
    by="quadrature",
    lane="full",
    mutants={
        "1/2 forgotten": returns(lambda rate, *_: 2 * rate),
        "stable for unstable": returns(lambda rate, *_: -rate),
        "slope at 0": instead(lambda x, h, a: interpolation.growth_rate(0 * np.asarray(x), h, a)),
        "a = 1": instead(lambda x, h, a: interpolation.growth_rate(x, h)),
        "off by 1 %": returns(lambda rate, *_: 1.01 * rate),
    },
)
def offsets_grow_at_this_rate(predict: Any = interpolation.growth_rate, *, generator: torch.Generator) -> Numbers:
    """Two solutions of the equation that start 1e-5 a apart about a rest point: the logarithm of how their distance changes, per log t."""
    worst = 0.0
    for a, ratio in itertools.product((0.5, 2.0), (0.3, 0.9, 1.5)):
        h = ratio * 2 * a**2 / math.pi
        rests = [0.0]
        if ratio < 1:
            rests.append(optimize.brentq(lambda x, h=h, a=a: a * math.erf(x / math.sqrt(2 * h)) - x, 1e-3 * a, a, xtol=1e-15))
        for rest in rests:
            ends = [
                follow(lambda x, u, h=h, a=a: a * special.erf(x / math.sqrt(2 * h)), rest + e, 1.0, math.exp(-1))
                for e in (1e-5 * a, -1e-5 * a)
            ]
            measured = math.log((ends[0] - ends[1]) / (2e-5 * a))
            # The cubic term: of order (1e-5)^2; tolerances 1e-12 of the equation against a distance of 2e-5.
            worst = max(worst, agree(f"a = {a}, h = {ratio} h_c, x = {rest:.3g}", predict(rest, h, a), measured, 1e-6))
    return {"worst error/allowance": worst}


@check(
    "interpolation.pitchfork",
    by="quadrature",
    lane="full",
    mutants={
        "ends at the data": instead(lambda h, a: a + 0 * h),
        "ends at the mean": instead(lambda h, a: 0 * h),
        "off by 1e-5": returns(lambda x, *_: x + 1e-5),
    },
)
def where_the_flow_ends(predict: Any = interpolation.rest_point, *, generator: torch.Generator) -> Numbers:
    """The equation from five starts to `t = exp(-400)`: all at the rest point of their sign."""
    worst = 0.0
    for a, ratio in itertools.product((0.5, 2.0), (0.3, 0.85, 1.2)):
        h = ratio * 2 * a**2 / math.pi
        for start in np.array([-3.0, -0.4, 0.05, 0.9, 1.5]) * a:
            solved = integrate.solve_ivp(
                lambda _, x, h=h, a=a: (a * special.erf(x / math.sqrt(2 * h)) - x) / 2,
                (0, 400),
                [start],
                rtol=1e-9,
                atol=1e-11,
                method="LSODA",
            )
            # The slowest rate of the six cases is above 0.04, so that exp(-400/25) is left of the start.
            expected = float(solved.y[0, -1])
            worst = max(
                worst, agree(f"a = {a}, h = {ratio} h_c, from {start:.3g}", np.sign(start) * float(predict(h, a)), expected, 2e-6 * a)
            )
    return {"worst error/allowance": worst}


claim(
    "interpolation.merging",
    title="One mode or two: the pitchfork at every noise level",
    statement=r"""The LED-KDE with kernels $G_t$, $G_h$ of the two points $\pm a$ has two modes if $h < h_c(t)$ and one if $h \ge h_c(t)$,
where

$$\mathbb E\,\mathrm{sech}^2\!\big(a\sqrt{h_c}\,Z/t\big) = t/a^2, \qquad Z \sim \mathcal N(0, 1).$$

For $t \to 0$, $h_c(t) = \frac{2a^2}\pi - \frac{\pi^2t^2}{12a^2} + O(t^4)$; for $t \to a^2$, $h_c(t) = a^2 - t + O\big((a^2 - t)^3\big)$.

The KDE with the same kernels has two modes if $t + h < a^2$. The two lines touch to second order at $t = a^2$; at small $t$ the LED-KDE
merges at a smaller $h$ than the KDE.""",
    source="derived here",
    regime=r"$0 < t < a^2$; for $t \ge a^2$ there is one mode for every $h$.",
    uses=("interpolation.pitchfork", "mollified.led_kde"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "interpolation.merging",
    by="quadrature",
    mutants={
        "KDE": instead(lambda t, a: np.maximum(a**2 - np.asarray(t), 0.0)),
        "limit t = 0": instead(lambda t, a: 2 * a**2 / math.pi + 0 * np.asarray(t)),
        "a = 1": instead(lambda t, a: interpolation.merging_bandwidth(t)),
        "expansion": instead(lambda t, a: 2 * a**2 / math.pi - (math.pi * np.asarray(t)) ** 2 / (12 * a**2)),
        "off by 1e-6": returns(lambda h, *_: h * (1 + 1e-6)),
    },
)
def curvature_midway(predict: Any = interpolation.merging_bandwidth, *, generator: torch.Generator) -> Numbers:
    """`E sech^2` by adaptive quadrature vanishes against t/a^2 at the predicted h; and both expansions, by the order of what is left."""
    worst = 0.0
    for a, share in itertools.product((0.5, 1.0, 3.0), (0.02, 0.1, 0.4, 0.8, 0.99)):
        t = share * a**2

        def excess(h: float, t: float = t, a: float = a) -> float:
            c = a * math.sqrt(h) / t
            edges = [0.0, min(5.0, 4 / c), 10.0]
            parts = [
                integrate.quad(lambda z: math.exp(-z * z / 2) / math.cosh(min(c * z, 300.0)) ** 2, low, high, epsabs=1e-13, epsrel=1e-13)[0]
                for low, high in itertools.pairwise(edges)
            ]
            return 2 * sum(parts) / math.sqrt(2 * math.pi) - t / a**2

        expected = optimize.brentq(excess, 1e-6 * a**2, 0.65 * a**2, xtol=1e-14, rtol=1e-12)
        worst = max(worst, agree(f"a = {a}, t = {t}", predict(t, a), expected, 1e-8 * expected))
    for a in (1.0, 2.0):
        small = [abs(float(predict(t * a**2, a)) / a**2 - (2 / math.pi - (math.pi * t) ** 2 / 12)) for t in (0.08, 0.04)]
        require(3.5 < math.log2(small[0] / small[1]) < 4.5, f"remainders {small} are not of fourth order in t")
        close = [abs(float(predict((1 - e) * a**2, a)) / a**2 - e) for e in (0.02, 0.01)]
        require(2.8 < math.log2(close[0] / close[1]) < 3.2, f"remainders {close} are not of third order in a^2 - t")
    return {"worst error/allowance": worst, "h_c at t = a^2/2, in a^2": float(interpolation.merging_bandwidth(0.5))}


@check(
    "interpolation.merging",
    by="quadrature",
    lane="full",
    mutants={
        "KDE": instead(lambda t, a: max(a**2 - t, 0.0)),
        "limit t = 0": instead(lambda t, a: 2 * a**2 / math.pi),
        "above by 1.5 %": returns(lambda h, *_: 1.015 * h),
        "below by 1.5 %": returns(lambda h, *_: 0.985 * h),
    },
)
def modes_counted(predict: Any = interpolation.merging_bandwidth, *, generator: torch.Generator) -> Numbers:
    """Sign changes of the smoothed score of the two points, by plain sums: three 1 % below the predicted h, one 1 % above. For the KDE
    the same about `h = a^2 - t`.
    """
    for a, share in itertools.product((0.7, 1.5), (0.3, 0.6, 0.9)):
        t = share * a**2
        predicted = float(predict(t, a))
        grid = np.linspace(0, 1.5 * a, 301)[1:] - 0.001 * a
        for ratio, changes in ((0.99, 1), (1.01, 0)):
            h = ratio * predicted
            offsets, weight = sums.gaussian_nodes(1, h, 801)
            places = grid[:, None] + offsets[:, 0]
            scores = (a * np.tanh(a * places / t) - places) / t @ weight
            found = int((np.sign(scores[1:]) != np.sign(scores[:-1])).sum())
            require(found == changes, f"{found} modes to the right for h = {ratio} h_c, a = {a}, t = {t}")
            variance = t + ratio * (a**2 - t)
            blurred = a * np.tanh(a * grid / variance) - grid
            found = int((np.sign(blurred[1:]) != np.sign(blurred[:-1])).sum())
            require(found == changes, f"KDE: {found} modes to the right for h = {ratio} (a^2 - t), a = {a}, t = {t}")
    return {"cases": 24}
