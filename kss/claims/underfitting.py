"""Chapter "Selective underfitting", first part: the shells that training supervises, for any data."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import optimize, special

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import supervision, supervision_gaussian

CHAPTER = "selective_underfitting"
PAPER = "Song, Kim, Chen, Du, Kakade, Sitzmann, arXiv 2510.01378"

Numbers = dict[str, Any]


def length_cdf(radius: Any, dim: int, shift: float, nodes: int = 600) -> Any:
    """`P(|Z + shift e| <= radius)` for Z in R^dim: the component along e by a Gauss rule, the length of the rest by its central law.

    The component is a sine of the variable of the rule, which removes the square roots at both ends.
    """
    radius = np.asarray(radius, dtype=np.float64)[..., None]
    u, w = _gauss(nodes)
    low, high = np.maximum(-shift - radius, -39.0), np.minimum(-shift + radius, 39.0)
    half = np.maximum(high - low, 0.0) / 2
    z = low + half * (1 + np.sin(math.pi / 2 * u))
    left = np.maximum(radius**2 - (z + shift) ** 2, 0.0)
    rest = special.gammainc((dim - 1) / 2, left / 2) if dim > 1 else np.ones_like(left)
    slope = math.pi / 2 * np.cos(math.pi / 2 * u)
    return (half * w * slope * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * rest).sum(-1)


@cache
def _gauss(count: int) -> tuple[Any, Any]:
    return special.roots_legendre(count)


def mean_length(dim: int, shift: float) -> float:
    """`E |Z + shift e|`, by Kummer's function in 30 digits."""
    import mpmath

    with mpmath.workdps(30):
        half = mpmath.mpf(dim) / 2
        factor = mpmath.sqrt(2) * mpmath.exp(mpmath.loggamma(half + 0.5) - mpmath.loggamma(half))
        return float(factor * mpmath.hyp1f1(-0.5, half, -(mpmath.mpf(shift) ** 2) / 2))


# --- Training inputs --------------------------------------------------------------------------------------------------------

claim(
    "underfitting.training_shell",
    title="Training inputs lie in thin shells about the data",
    statement=r"""For a training input $x = x_i + \sqrt t Z$ the ratio $|x - x_i|/\sqrt{dt} = |Z|/\sqrt d$ has

$$\text{mean } \sqrt{\tfrac2d}\,\frac{\Gamma(\frac{d+1}2)}{\Gamma(\frac d2)} = 1 - \frac1{4d} + O(d^{-2}), \qquad
\text{standard deviation } \frac1{\sqrt{2d}}\big(1 + O(d^{-1})\big),$$

whatever $t$; the shell of relative half-width $\delta$ holds it with probability $F_d(d(1+\delta)^2) - F_d(d(1-\delta)^2)$,
with $F_d$ the chi-squared distribution function (no second term for $\delta > 1$).""",
    source=f"Shells: {PAPER}. Constants: classical (chi law)",
    regime=r"""Every data point, $t > 0$ and $d$; exact. The nearest datum may be another one: the minimum over all data is at most this
ratio.""",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "underfitting.training_shell",
    by="quadrature",
    mutants={
        "1/sqrt(d)": returns(lambda m, *_: supervision.Moments(m.mean, math.sqrt(2) * m.spread)),
        "leading order": instead(lambda d: supervision.Moments(1 - 1 / (4 * d), 1 / math.sqrt(2 * d))),
        "variance": returns(lambda m, *_: supervision.Moments(m.mean, m.spread**2)),
        "one dimension less": instead(lambda d: supervision.shell_moments(max(1, d - 1))),
        "root of the mean square": returns(lambda m, *_: supervision.Moments(1.0, m.spread)),
    },
)
def moments_of_the_chi_law(predict: Any = supervision.shell_moments, *, generator: torch.Generator) -> Numbers:
    """Gamma functions in 40 digits, d from 1 to 10^6; and their expansion in 1/d."""
    import mpmath

    worst = 0.0
    with mpmath.workdps(40):
        for d in (1, 2, 3, 10, 64, 299, 300, 1000, 10**6):
            half = mpmath.mpf(d) / 2
            mean = mpmath.sqrt(1 / half) * mpmath.exp(mpmath.loggamma(half + 0.5) - mpmath.loggamma(half))
            spread = float(mpmath.sqrt(1 - mean**2))
            found = predict(d)
            # 1 - mean^2 = 1/(2d) loses a factor 2d of rounding; above d = 300 the series ends at d^{-5}.
            worst = max(worst, agree(f"mean, d = {d}", found.mean, float(mean), 4e-16 * float(mean)))
            worst = max(worst, agree(f"spread, d = {d}", found.spread, spread, (8e-16 * min(d, 300) + 1e-12 * (d >= 300)) * spread))
            agree(f"expansion of the mean, d = {d}", found.mean, 1 - 1 / (4 * d), 1 / d**2)
            agree(f"expansion of the spread, d = {d}", found.spread * math.sqrt(2 * d), 1, 1 / d)
    return {"worst error/allowance": worst}


@check(
    "underfitting.training_shell",
    by="quadrature",
    mutants={
        "delta on the square": instead(
            lambda D, d, t, delta: special.gammainc(d / 2, d * (1 + delta) / 2) - special.gammainc(d / 2, d * max(0.0, 1 - delta) / 2)
        ),
        "ball": instead(supervision.ball_probability),
        "off by 1e-9": returns(lambda p, *_: p * (1 - 1e-9)),
        "normal approximation": instead(lambda D, d, t, delta: math.erf(delta * math.sqrt(d))),
        "t enters": instead(lambda D, d, t, delta: supervision.shell_probability(D, d, t, delta * math.sqrt(t))),
    },
)
def inputs_in_their_own_shell(predict: Any = supervision.shell_probability, *, generator: torch.Generator) -> Numbers:
    """The density of |Z| integrated over the shell, d from 1 to 1000, several t and delta, one above 1."""
    worst, numbers = 0.0, Numbers()
    x, w = _gauss(400)
    for d, t, delta in ((1, 0.3, 0.5), (2, 2.0, 0.2), (5, 1e-3, 1.4), (64, 0.5, 0.221), (64, 4.0, 0.1), (1000, 7.0, 0.05)):
        low, high = math.sqrt(d) * max(0.0, 1 - delta), math.sqrt(d) * (1 + delta)
        r = low + (high - low) * (1 + x) / 2
        log_density = (d - 1) * np.log(r) - r**2 / 2 - (d / 2 - 1) * math.log(2) - special.gammaln(d / 2)
        expected = float((w * np.exp(log_density)).sum() * (high - low) / 2)
        worst = max(worst, agree(f"in the shell, d = {d}, delta = {delta}", float(predict(0.0, d, t, delta)), expected, 1e-11))
        numbers[f"in the shell, d = {d}, delta = {delta}"] = expected
    return numbers | {"worst error/allowance": worst}


# --- Fresh inputs -----------------------------------------------------------------------------------------------------------

claim(
    "underfitting.fresh_ratio",
    title="Seen from a datum, other noisy points lie farther out, by a known factor",
    statement=r"""For $x = c + \sqrt t Z$ and a datum $x_i$ at the distance $D = |c - x_i|$, with $u = D^2/dt$:
$|x - x_i|^2/t$ is noncentral chi-squared with $d$ degrees of freedom and parameter $D^2/t$. The ratio
$|x - x_i|/\sqrt{dt}$ has

$$\text{mean} \le \sqrt{1 + u}, \qquad \text{mean} = \sqrt{1+u}\left(1 - \frac{1 + 2u}{4d(1+u)^2} + O(d^{-2})\right), \qquad
\text{standard deviation } \sqrt{\frac{1 + 2u}{2d(1 + u)}}\big(1 + O(d^{-1})\big).$$

Hence, with $D_{\mathrm{nn}}$ the distance from $c$ to the nearest datum, $\mathbb E\min_i|x - x_i|/\sqrt{dt} \le
\sqrt{1 + D_{\mathrm{nn}}^2/dt}$.""",
    source="Ratio for fresh points: derived here",
    regime=r"""Every data set, $c$, $t > 0$ and $d$ (law and inequalities); $d \to \infty$ at fixed $u$ (expansions). The
minimum is below the bound because the nearest datum to $x$ need not be that to $c$.""",
    uses=("underfitting.training_shell",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "underfitting.fresh_ratio",
    by="quadrature",
    mutants={
        "D^2/t^2": instead(lambda D, d, t, delta: supervision.shell_probability(D / math.sqrt(t), d, t, delta)),
        "D for D^2": instead(lambda D, d, t, delta: supervision.shell_probability(math.sqrt(D), d, t, delta)),
        "distance of the shell for that of the point": instead(lambda D, d, t, delta: supervision.shell_probability(0.0, d, t, delta)),
        "inner sphere forgotten": instead(supervision.ball_probability),
        "off by 1e-8": returns(lambda p, *_: p * (1 + 1e-8)),
        "one dimension more": instead(lambda D, d, t, delta: supervision.shell_probability(D, d + 1, t * d / (d + 1), delta)),
    },
)
def noncentral_chi_squared(predict: Any = supervision.shell_probability, *, generator: torch.Generator) -> Numbers:
    """A normal component along the line of the two points and a central law across it; d from 1 to 256, D, t and delta vary."""
    worst = 0.0
    for d, distance, t, delta in (
        (1, 0.7, 0.3, 0.5),
        (2, 1.5, 2.0, 0.3),
        (3, 0.2, 1e-2, 1.2),
        (16, 4.0, 0.3, 0.44),
        (64, 9.0, 2.0, 0.221),
        (64, 9.0, 4.0, 0.221),
        (256, 20.0, 5.0, 0.11),
    ):
        radii = math.sqrt(d) * np.array([1 + delta, max(0.0, 1 - delta)])
        outer, inner = length_cdf(radii, d, distance / math.sqrt(t))
        got = float(predict(distance, d, t, delta))
        worst = max(worst, agree(f"in the shell, d = {d}, D = {distance}, t = {t}", got, outer - inner, 1e-10))
    return {"worst error/allowance": worst}


@check(
    "underfitting.fresh_ratio",
    by="rate",
    mutants={
        "1 + u": returns(lambda ratio, *_: ratio**2),
        "sum of the lengths": instead(lambda D, d, t: 1 + D / math.sqrt(d * t)),
        "off by 1 %": returns(lambda ratio, *_: 0.99 * ratio),
        "d forgotten": instead(lambda D, d, t: math.sqrt(1 + D**2 / t)),
        "t squared": instead(lambda D, d, t: math.sqrt(1 + D**2 / (d * t**2))),
    },
)
def mean_of_the_ratio(predict: Any = supervision.typical_ratio, *, generator: torch.Generator) -> Numbers:
    """Kummer's function: the mean is below `sqrt(1 + u)` always, and by the first-order term up to `1/d^2`."""
    worst = 0.0
    for d, u, t in ((1, 0.5, 2.0), (3, 4.0, 0.1), (40, 0.2, 0.7), (40, 3.0, 0.7), (160, 1.0, 5.0), (640, 24.0, 0.05)):
        typical = float(predict(math.sqrt(u * d * t), d, t))
        mean = mean_length(d, math.sqrt(u * d)) / math.sqrt(d)
        require(mean <= typical, f"mean {mean} above {typical}, d = {d}, u = {u}")
        first = -(1 + 2 * u) / (4 * d * (1 + u) ** 2)
        worst = max(worst, agree(f"mean/typical - 1, d = {d}, u = {u}", mean / typical - 1, first, 1 / d**2))
    return {"worst error/allowance": worst}


@check(
    "underfitting.fresh_ratio",
    by="rate",
    mutants={
        "of a training input": instead(lambda D, d, t: torch.tensor(1 / math.sqrt(2 * d))),
        "variance": returns(lambda spread, *_: spread**2),
        "1 + u for 1 + 2u": instead(lambda D, d, t: torch.tensor(1 / math.sqrt(2 * d))),
        "noncentrality as variance": instead(lambda D, d, t: math.sqrt((1 + 2 * D**2 / (d * t)) / (2 * d))),
    },
)
def spread_of_the_ratio(predict: Any = supervision.ratio_spread, *, generator: torch.Generator) -> Numbers:
    """`E R^2 - (E R)^2` with `E R^2 = 1 + u`, and Kummer's function for `E R`, within 1/d."""
    worst = 0.0
    for d, u, t in ((20, 0.2, 0.7), (40, 3.0, 0.7), (160, 1.0, 5.0), (640, 24.0, 0.05)):
        mean = mean_length(d, math.sqrt(u * d)) / math.sqrt(d)
        exact = math.sqrt((math.sqrt(1 + u) - mean) * (math.sqrt(1 + u) + mean))
        worst = max(worst, agree(f"spread, d = {d}, u = {u}", float(predict(math.sqrt(u * d * t), d, t)), exact, exact / d))
    return {"worst error/allowance": worst}


# --- Exit -------------------------------------------------------------------------------------------------------------------

claim(
    "underfitting.exit_time",
    title="When a fresh trajectory leaves the shell of its nearest datum",
    statement=r"""Let $x = c + \sqrt t Z$, $D = |c - x_i|$, $\delta > 0$, $u = (1+\delta)^2 - 1$, and

$$t_{\mathrm{exit}} = \frac{D^2}{d\,u} .$$

The probability that $x$ is not beyond the shell of $x_i$, $|x - x_i| \le (1+\delta)\sqrt{dt}$, falls as $t$ falls.
At $t_{\mathrm{exit}}$ it is

$$\frac12 + \frac{1 + 3u}{3\sqrt{\pi d}\,(1 + 2u)^{3/2}} + O(d^{-1}),
\qquad \text{and at } t = t_{\mathrm{exit}}\,e^{s\omega} \text{ it is } \Phi(s) + O(d^{-1/2}), \quad \omega =
\frac1u\sqrt{\frac{2(1 + 2u)}d} .$$""",
    source="Exit time: derived here, after the shells of " + PAPER,
    regime=r"""One datum, one $t$ at a time (reverse diffusion with the true score has the law of $x$ at each $t$). Monotony: all $d$.
Expansions: $d \to \infty$ at fixed $\delta$ and $s$. With many data near $c$ some other shell may hold $x$ for longer,
{claim}`underfitting.gaussian_data`.""",
    uses=("underfitting.fresh_ratio",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "underfitting.exit_time",
    by="rate",
    mutants={
        "(1 + delta)^2": instead(lambda D, d, delta: D**2 / (d * (1 + delta) ** 2)),
        "delta^2": instead(lambda D, d, delta: D**2 / (d * delta**2)),
        "2 delta": instead(lambda D, d, delta: D**2 / (d * 2 * delta)),
        "D for D^2": instead(lambda D, d, delta: D / (d * delta * (2 + delta))),
        "d forgotten": returns(lambda t, D, d, delta: d * t),
        "off by 3 %": returns(lambda t, *_: 1.03 * t),
    },
)
def probability_at_the_exit(predict: Any = supervision.exit_time, *, generator: torch.Generator) -> Numbers:
    """The exact probability at the predicted time, less 1/2 and the first correction, is at most 1/d; it falls as t falls."""
    worst, numbers = 0.0, Numbers()
    for d, distance, delta in ((25, 3.0, 0.4), (100, 1.5, 0.4), (400, 8.0, 0.2), (1600, 30.0, 0.2), (1600, 2.0, 1.5)):
        t, u = float(predict(distance, d, delta)), (1 + delta) ** 2 - 1
        radius = math.sqrt(d) * (1 + delta)
        found = float(length_cdf(radius, d, distance / math.sqrt(t)))
        expected = 0.5 + (1 + 3 * u) / (3 * math.sqrt(math.pi * d) * (1 + 2 * u) ** 1.5)
        worst = max(worst, agree(f"at the exit, d = {d}, delta = {delta}", found, expected, 1 / d))
        falling = [float(length_cdf(radius, d, distance / math.sqrt(t * f))) for f in (0.5, 0.8, 1.0, 1.25, 2.0)]
        require(bool(np.all(np.diff(falling) >= -1e-12)), f"{falling} does not grow with t, d = {d}")
        numbers[f"probability at the exit, d = {d}, delta = {delta}"] = found
    return numbers | {"worst error/allowance": worst}


@check(
    "underfitting.exit_time",
    by="rate",
    mutants={
        "of the ratio": instead(lambda d, delta: 1 / math.sqrt(2 * d)),
        "half": returns(lambda width, *_: width / 2),
        "larger by 1/4": returns(lambda width, *_: 1.25 * width),
        "of a training input": instead(lambda d, delta: math.sqrt(2 / d) / (delta * (2 + delta))),
        "d^{-1}": returns(lambda width, d, *_: width / math.sqrt(d)),
    },
)
def width_of_the_exit(predict: Any = supervision.exit_width, *, generator: torch.Generator) -> Numbers:
    """The exact probability at `t_exit e^{s width}` against Phi(s); off by `1/sqrt(d)` (skewness) and the width (curvature)."""
    worst = 0.0
    for d, delta in ((1600, 0.5), (6400, 0.2), (6400, 1.5)):
        u = (1 + delta) ** 2 - 1
        exact_width = math.sqrt(2 * (1 + 2 * u) / d) / u
        for s in (-1.5, -0.7, 0.7, 1.5):
            log_ratio = s * float(predict(d, delta))
            found = float(length_cdf(math.sqrt(d) * (1 + delta), d, math.sqrt(u * d * math.exp(-log_ratio))))
            allowed = (1 + s**2 / 2) * math.exp(-(s**2) / 2) * exact_width + 1 / math.sqrt(d)
            worst = max(worst, agree(f"d = {d}, delta = {delta}, s = {s}", found, special.ndtr(s), 0.5 * allowed))
    return {"worst error/allowance": worst}


claim(
    "underfitting.exit_sharpness",
    title="The higher the dimension, the more suddenly a trajectory leaves the shells",
    statement=r"""If a shell is to hold training inputs up to $z$ standard deviations, $\delta = z/\sqrt{2d}$, then at
fixed $t/t_{\mathrm{exit}}$

$$\mathbb P\big(|x - x_i| \le (1 + \delta)\sqrt{dt}\big) \to \Phi\!\left(z\Big(1 - \frac{t_{\mathrm{exit}}}t\Big)\right),
\qquad d \to \infty:$$

the exit is spread over a range of $\log t$ of about $1/z$ in every dimension.""",
    source="A tempting reading of the picture of thin shells; derived here",
    regime=r"""Refuted for shells whose relative width follows that of the noise, as it must if they are to hold a fixed part of the
training inputs. With $\delta$ fixed while $d$ grows it is true, with the width $\omega \propto d^{-1/2}$ of
{claim}`underfitting.exit_time`.""",
    uses=("underfitting.exit_time",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "underfitting.exit_sharpness",
    by="counterexample",
    mutants={
        "5 % later": returns(lambda t, *_: 1.05 * t),
        "(1 + delta)^2": instead(lambda D, d, delta: D**2 / (d * (1 + delta) ** 2)),
        "half": returns(lambda t, *_: t / 2),
        "d forgotten": returns(lambda t, D, d, delta: d * t),
        "D forgotten": instead(lambda D, d, delta: 1 / (d * delta * (2 + delta))),
        "t_exit at z = 1": instead(lambda D, d, delta: D**2 / math.sqrt(2 * d)),
    },
)
def the_same_spread_in_every_dimension(predict: Any = supervision.exit_time, *, generator: torch.Generator) -> Numbers:
    """Shells of z standard deviations, d up to 102400: the exact probability at six times against the limit, within 1.5 z/sqrt(d)."""
    worst, numbers = 0.0, Numbers()
    for z in (1.5, 2.5, 4.0):
        for d, distance in ((400, 3.0), (6400, 3.0), (102400, 0.7)):
            delta = z / math.sqrt(2 * d)
            center = float(predict(distance, d, delta))
            for ratio in (0.5, 0.7, 1.0, 1.5, 2.0, 4.0):
                found = float(length_cdf(math.sqrt(d) * (1 + delta), d, distance / math.sqrt(ratio * center)))
                limit = float(special.ndtr(z * (1 - 1 / ratio)))
                worst = max(worst, agree(f"z = {z}, d = {d}, t/t_exit = {ratio}", found, limit, 1.5 * z / math.sqrt(d)))
                numbers[f"z = {z}, d = {d}, t/t_exit = {ratio}"] = found
    return {k: v for k, v in numbers.items() if "z = 2.5" in k} | {"worst error/allowance": worst}


# --- Do the shells meet? ----------------------------------------------------------------------------------------------------

claim(
    "underfitting.disjoint_shells",
    title="The shells are disjoint if and only if t is far below the collapse time",
    statement=r"""As sets, the shells of relative half-width $\delta$ about two points at distance $D$ have a point in common
if and only if

$$t \ge \frac{D^2}{4d(1 + \delta)^2},$$

whatever the number of data. For $d$ orthogonal points of length $\sqrt d$ ($D^2 = 2d$) that is $t = 1/(2(1+\delta)^2)$, while
$t_c = 1/(N^{2/d} - 1) \approx d/(2\log N)$: at least 14 times as much for $d = N = 64$, and more in higher dimension.""",
    source="A reading of the picture of separate shells; derived here",
    regime=r"""$d \ge 2$. What is true: where the shells first meet there is next to no probability; the noisy versions of a datum enter
foreign shells near $t_c$ ({claim}`underfitting.first_foreign_shell`), and that is where one datum stops having all the weight
({claim}`underfitting.one_hot`).""",
    uses=("underfitting.fresh_ratio",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "underfitting.disjoint_shells",
    by="counterexample",
    mutants={
        "radii, not diameters": returns(lambda t, *_: 4 * t),
        "delta forgotten": instead(lambda D, d, delta: D**2 / (4 * d)),
        "inner spheres": instead(lambda D, d, delta: D**2 / (4 * d * (1 - delta) ** 2)),
        "d forgotten": returns(lambda t, D, d, delta: d * t),
        "off by 3 %": returns(lambda t, *_: 1.03 * t),
    },
)
def a_point_in_two_shells(predict: Any = supervision.meeting_time, *, generator: torch.Generator) -> Numbers:
    """Search for the point of a plane through both that violates the two shells least: feasible just above the time, not below."""
    numbers: Numbers = {}
    for d, distance, delta in ((2, 1.0, 0.3), (16, 3.0, 0.5), (64, math.sqrt(128), 2.5 / math.sqrt(128))):
        for factor, possible in ((0.98, False), (1.02, True)):
            radius = math.sqrt(d * factor * float(predict(distance, d, delta)))

            def violation(place: Any, radius: float = radius, distance: float = distance) -> float:
                lengths = np.array([math.hypot(place[0], place[1]), math.hypot(place[0] - distance, place[1])])
                return float(np.abs(lengths / radius - 1).max())

            starts = [(distance / 2, 0.1 * distance), (0.3 * distance, distance), (distance, 0.4 * distance)]
            options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 2000}
            least = min(optimize.minimize(violation, s, method="Nelder-Mead", options=options).fun for s in starts)
            require((least <= delta) == possible, f"least violation {least:.6g} against {delta:.6g}, d = {d}, factor {factor}")
    factors: list[float] = []
    for d in (64, 256, 1024):
        delta = 2.5 / math.sqrt(2 * d)
        meet, collapse = float(predict(math.sqrt(2 * d), d, delta)), 1 / math.expm1(2 / d * math.log(d))
        numbers[f"t_c/meeting time, d = N = {d}"] = collapse / meet
        thinnest = float(predict(math.sqrt(2 * d), d, 0.0))
        agree("meeting time of orthogonal points", [thinnest, meet], [0.5, 0.5 / (1 + delta) ** 2], 1e-12)
        factors.append(collapse / thinnest)
        radii = math.sqrt(d) * np.array([1 + delta, 1 - delta])
        outer, inner = length_cdf(radii, d, math.sqrt(2 * d / meet))
        require(outer - inner < 1e-9, f"probability {outer - inner:.3g} in a foreign shell where they meet")
        numbers[f"probability in a foreign shell at the meeting time, d = {d}"] = float(outer - inner)
    require(14 < factors[0] < factors[1] < factors[2], f"t_c over the meeting time, delta = 0: {factors}")
    return numbers


# --- What the losses measure ------------------------------------------------------------------------------------------------

claim(
    "underfitting.losses",
    title="Training loss measures the error inside, test loss the error to the truth; nothing measures the third",
    statement=r"""For every denoiser $D$, with $X = x_I + \sqrt t Z$ a training input ($I$ uniform) and $X^* = X_0 + \sqrt t Z$
a fresh one

$$\mathbb E|D(X) - x_I|^2 = \mathbb E|D(X) - m_t^N(X)|^2 + \mathbb E\operatorname{tr} C_t^N(X), \qquad
\mathbb E|D(X^*) - X_0|^2 = \mathbb E|D(X^*) - m_t(X^*)|^2 + \mathbb E\operatorname{tr} C_t(X^*) .$$

So to know the law is to be wrong on the data: averaged over data sets

$$\mathbb E|m_t(X) - m_t^N(X)|^2 = \mathbb E \operatorname{tr} C_t(X^*) - \mathbb E\operatorname{tr} C_t^N(X),$$

which for $t \ll t_c$ is nearly the whole least mean square error of the law ($d\,vt/(v + t)$ for $\mathcal N(0, vI_d)$).""",
    source="classical (Pythagoras for conditional expectations); the last line derived here",
    regime=r"""Every law with a second moment, $N$, $t > 0$ and square-integrable $D$; in the last identity the
data are independent draws from the law. The first and the last are checked, on the line.""",
    uses=("heat.tweedie",),
    chapter=CHAPTER,
    verdict="holds",
)


def _line_rule(points: Any, t: float) -> tuple[Any, Any]:
    """Nodes on the line that cover every datum's noise."""
    x, w = _gauss(600)
    reach = 10 * math.sqrt(t)
    low, high = points.min() - reach, points.max() + reach
    return low + (high - low) * (1 + x) / 2, w * (high - low) / 2


@check(
    "underfitting.losses",
    by="quadrature",
    mutants={
        "nearest datum": instead(lambda law, x, t: law.denoise(x, t * 1e-3)),
        "a little later": instead(lambda law, x, t: law.denoise(x, 1.01 * t)),
        "score for denoiser": instead(lambda law, x, t: law.score(x, t)),
        "off by 1e-6": returns(lambda m, *_: m * (1 + 1e-6)),
    },
)
def excess_of_the_training_loss(predict: Any = Empirical.denoise, *, generator: torch.Generator) -> Numbers:
    """Random data on the line, D a random cubic: loss and error as integrals over the noisy inputs, the variance from the weights."""
    rng, worst = numpy_generator(generator), 0.0
    for n, t in ((1, 0.3), (3, 0.05), (7, 0.3), (7, 2.0)):
        points, cubic = rng.normal(size=n), rng.normal(size=4)
        x, w = _line_rule(points, t)
        density = np.exp(-((x[:, None] - points) ** 2) / (2 * t)) / math.sqrt(2 * math.pi * t) / n
        answer = np.polynomial.polynomial.polyval(x, cubic)
        loss = float((w[:, None] * density * (answer[:, None] - points) ** 2).sum())
        total = density.sum(1)
        mean = density @ points / np.maximum(total, 1e-300)
        least = float((w * (density @ points**2 - total * mean**2)).sum())
        denoised = predict(Empirical(points[:, None]), torch.from_numpy(x[:, None].copy()), t)[:, 0].numpy()
        error = float((w * total * (answer - denoised) ** 2).sum())
        # Relative 1e-9 of the loss: a relative error of 1e-6 in m moves it in the seventh digit.
        worst = max(worst, agree(f"loss, n = {n}, t = {t}", error + least, loss, 1e-9 * (loss + 1)))
    return {"worst error/allowance": worst}


def _parts_for_two(v: float, t: float) -> tuple[float, float]:
    """`E|m - m^N|^2` and `E C^N` on training inputs, for two data C +- D/2 on the line: C ~ N(0, v/2) and D ~ N(0, 2v) are
    independent.
    """
    x, w = _gauss(1200)
    places, coarse = _gauss(400)
    z, distance = 9 * x[:, None], math.sqrt(2 * v) * 9 * places
    y = -distance / 2 + math.sqrt(t) * z
    pull = np.tanh(distance * y / (2 * t))
    weight = 81 * np.outer(w * np.exp(-((9 * x) ** 2) / 2), coarse * np.exp(-(distance**2) / (4 * v))) / (2 * math.pi)
    shrink = v / (v + t)
    inside = (1 - shrink) ** 2 * v / 2 + float((weight * (shrink * y - distance / 2 * pull) ** 2).sum())
    return inside, float((weight * distance**2 / 4 * (1 - pull**2)).sum())


@check(
    "underfitting.losses",
    by="quadrature",
    mutants={
        "half": returns(lambda error, *_: error / 2),
        "variance of the law": instead(lambda d, t, v: d * v),
        "variance of the noise": instead(lambda d, t, v: d * t),
        "v + 2t": instead(lambda d, t, v: d * v * t / (v + 2 * t)),
        "d forgotten": instead(lambda d, t, v: v * t / (v + t)),
        "off by 1e-6": returns(lambda error, *_: error * (1 + 1e-6)),
    },
)
def the_truth_is_wrong_on_the_data(predict: Any = supervision_gaussian.least_error, *, generator: torch.Generator) -> Numbers:
    """Pairs of data from a normal law on the line: both parts as integrals over their distance and the noise. Their sum,
    `E|m - x_I|^2`, adds up over coordinates.
    """
    numbers, worst = Numbers(), 0.0
    for v, t in ((1.0, 0.3), (2.5, 0.3), (1.0, 4.0), (0.4, 0.05)):
        inside, least = _parts_for_two(v, t)
        for d in (1, 3):
            allowed = 1e-7 * d * (inside + least)
            worst = max(
                worst, agree(f"sum of the parts, d = {d}, v = {v}, t = {t}", float(predict(d, t, v)), d * (inside + least), allowed)
            )
        numbers[f"wrong on the data/least possible error, two data, v = {v}, t = {t}"] = inside / (inside + least)
    return numbers | {"worst error/allowance": worst}
