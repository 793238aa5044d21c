"""Chapter "Interpolation and geometry", first part: two data points and a box."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import integrate, optimize, special, stats

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.kernels import BallKernel
from kss.scores import Mollified
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import interpolation

CHAPTER = "interpolation"
EPSILON = torch.finfo(torch.float64).eps
CHEN = "Chen, arXiv 2502.19499 (two points and local averaging, as reported; its text was not read)"

Numbers = dict[str, Any]


def follow(field: Any, start: float, t: float, s: float) -> float:
    """`dx/d(log t) = (x - field(x, t))/2` from t down to s, by an adaptive Runge-Kutta method of order 8."""

    def velocity(log_time: float, x: np.ndarray) -> np.ndarray:
        return (x - field(x, math.exp(log_time))) / 2

    solved = integrate.solve_ivp(velocity, (math.log(t), math.log(s)), [start], method="DOP853", rtol=1e-12, atol=1e-13, max_step=0.5)
    require(solved.success, f"the reference integration failed: {solved.message}")
    return float(solved.y[0, -1])


def _share_of_the_window(x: np.ndarray, width: float, a: float) -> np.ndarray:
    """A times (the part of [x - w, x + w] to the right of 0, less the part to the left)."""
    right = np.clip((x + width) / (2 * width), 0, 1)
    return a * (2 * right - 1)


claim(
    "interpolation.box_average",
    title="The two-point denoiser averaged over a box",
    statement=r"""For the data $-a, a$ on the line and a box of half-width $w$,

$$\frac1{2w}\int_{x-w}^{x+w} a\tanh\frac{au}t\,du = \frac{t}{2w}\log\frac{\cosh(a(x+w)/t)}{\cosh(a(x-w)/t)} .$$

This differs from $a\,\mathrm{clip}(x/w, -1, 1)$ by $\frac{t\log 2}{2w}$ at most, and at $|x| = w$ by that, up to a factor that tends to 1
exponentially fast in $aw/t$.""",
    source="derived here",
    regime=r"$a, w, t > 0$, every $x$; $a\tanh(au/t)$ is the denoiser of the two points at $u$, $\mathrm{clip}$ cuts at $-1$ and 1.",
    uses=("empirical.softmax",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "interpolation.box_average",
    by="quadrature",
    mutants={
        "limit t = 0": instead(lambda x, w, t, a: a * np.clip(np.asarray(x) / w, -1, 1)),
        "a forgotten in the slope": instead(lambda x, w, t, a: a * interpolation.box_denoiser(x, w, t, 1.0)),
        "box of width w": instead(lambda x, w, t, a: interpolation.box_denoiser(x, w / 2, t, a)),
        "standard deviation for t": instead(lambda x, w, t, a: interpolation.box_denoiser(x, w, math.sqrt(t), a)),
        "off by 1e-10": returns(lambda mean, *_: mean * (1 + 1e-10)),
    },
)
def tanh_by_gauss_legendre(predict: Any = interpolation.box_denoiser, *, generator: torch.Generator) -> Numbers:
    """The integral of `a tanh(a u/t)` on panels no longer than t/a, 12 nodes each: the error of one is below 1e-12 of its length."""
    node, weight = np.polynomial.legendre.leggauss(12)
    worst, rng = 0.0, numpy_generator(generator)
    for a, ratio, t in itertools.product((0.5, 1.0, 3.0), (0.2, 1.0, 2.5), (0.02, 0.3, 4.0)):
        w = ratio * a
        x = np.concatenate((rng.uniform(-2, 2, 4) * (a + w), [0.3 * w, w]))
        panels = math.ceil(2 * w * a / t) + 8
        edges = np.linspace(-w, w, panels + 1)
        half = (edges[1] - edges[0]) / 2
        offsets = (edges[:-1, None] + half * (1 + node)).ravel()
        expected = (a * np.tanh(a * (x[:, None] + offsets) / t) @ np.tile(weight * half, panels)) / (2 * w)
        # The nodes are symmetric about x, so little is lost even where x is small.
        worst = max(worst, agree(f"a = {a}, w = {w}, t = {t}", predict(x, w, t, a), expected, 1e-11 * np.abs(expected) + 1e-13 * a))
    return {"worst error/allowance": worst}


@check(
    "interpolation.box_average",
    by="quadrature",
    mutants={
        "2 t": instead(lambda x, w, t, a: interpolation.box_denoiser(x, w, 2 * t, a)),
        "limit": instead(lambda x, w, t, a: interpolation.box_denoiser(x, w, 0.0, a)),
        "off by a tenth of the bound": returns(lambda mean, x, w, t, a: mean - 0.1 * t * math.log(2) / (2 * w)),
    },
)
def distance_from_the_limit(predict: Any = interpolation.box_denoiser, *, generator: torch.Generator) -> Numbers:
    """The bound holds on a grid, and is attained at the rim: there the error is the bound times 1 - O(exp(-4 a w/t))."""
    least, most = math.inf, 0.0
    for a, ratio, t in itertools.product((0.5, 1.0, 3.0), (0.4, 1.0, 2.0), (0.01, 0.1, 1.0)):
        w = ratio * a
        x = np.linspace(-3 * w, 3 * w, 241)
        error = np.abs(np.asarray(predict(x, w, t * a**2, a)) - _share_of_the_window(x, w, a)) / (t * a**2 * math.log(2) / (2 * w))
        require(bool((error <= 1 + 1e-12).all()), f"error/bound = {error.max()} for a = {a}, w = {w}, t = {t}")
        allowed = 1.5 * math.exp(-4 * ratio / t) + 1e-9
        agree(f"error/bound at the rim, a = {a}, w = {w}", error[np.argmin(np.abs(x - w))], 1.0, allowed)
        least, most = min(least, error.max()), max(most, error.max())
    return {"error/bound at the rim, least": least, "most": most}


@check(
    "interpolation.box_average",
    by="quadrature",
    lane="full",
    mutants={
        "not smoothed": instead(lambda smoothed, x, t: smoothed.base.denoise(x, t)),
        "twice the box": instead(lambda smoothed, x, t: Mollified(smoothed.base, smoothed.kernel.scaled(4.0), accuracy=1e-8).denoise(x, t)),
        "off by 1e-5": returns(lambda mean, *_: mean * (1 + 1e-5)),
    },
)
def what_the_package_mollifies(predict: Any = Mollified.denoise, *, generator: torch.Generator) -> Numbers:
    """`Mollified` with a ball in one dimension, which is a box, against the logarithm of hyperbolic cosines."""
    worst = 0.0
    for a, w, t in ((1.0, 1.0, 0.2), (0.5, 0.3, 0.1), (2.0, 3.0, 1.0)):
        x = np.linspace(-1.7, 1.7, 7) * a
        expected = t / (2 * w) * (np.logaddexp(a * (x + w) / t, -a * (x + w) / t) - np.logaddexp(a * (x - w) / t, -a * (x - w) / t))
        smoothed = Mollified(Empirical([[-a], [a]]), BallKernel(w), accuracy=1e-8)
        got = predict(smoothed, torch.from_numpy(x[:, None]), t)[:, 0]
        worst = max(worst, agree(f"a = {a}, w = {w}, t = {t}", got, expected, 1e-7 * np.abs(expected) + 1e-12))
    return {"worst error/allowance": worst}


claim(
    "interpolation.flow_map",
    title="A window that opens like the square root of t maps the gap onto itself",
    statement=r"""Let the score of the data $\pm a$, in the limit $(a\,\mathrm{sign}\,x - x)/t$, be averaged over a box of half-width
$w_t = a - \kappa\sqrt t$. The probability flow carries $x_t$ to

$$x_s = x_t\,\frac{w_s}{w_t}\ \text{ if } |x_t| \le w_t, \qquad |x_s| - a = (|x_t| - a)\sqrt{s/t}\ \text{ otherwise};$$

at $s = 0$: to $x_t\,a/w_t$ inside the box, and to the nearer data point outside of it.""",
    source=f"{CHEN}; map derived here",
    regime=r"""$0 \le s \le t$, $0 \le \kappa\sqrt t < a$. The score is the limit of the exact one: by {claim}`interpolation.box_average`
they differ by at most $\log 2/(2 w_t)$, where the score itself is of order $1/t$.""",
    uses=("interpolation.box_average", "heat.reversal_ode"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "interpolation.flow_map",
    by="quadrature",
    lane="full",
    mutants={
        "no atoms": instead(lambda x, t, s, kappa, a: np.asarray(x) * (a - kappa * math.sqrt(s)) / (a - kappa * math.sqrt(t))),
        "kappa t": instead(lambda x, t, s, kappa, a: interpolation.opening_window_flow(x, t, s, kappa, a, beta=1.0)),
        "contracts": instead(lambda x, t, s, kappa, a: np.asarray(x) * (1 - kappa * math.sqrt(t) / a)),
        "a = 1": instead(
            lambda x, t, s, kappa, a: a * interpolation.opening_window_flow(np.asarray(x) / a, t, s, min(kappa, 0.9 / math.sqrt(t)))
        ),
        "off by 1e-8": returns(lambda moved, *_: moved * (1 + 1e-8)),
    },
)
def opening_box_against_the_equation(predict: Any = interpolation.opening_window_flow, *, generator: torch.Generator) -> Numbers:
    """The differential equation, solved with tolerances 1e-12; errors grow by sqrt(t/s) outside at most, and only relative to |x - a|."""
    worst, rng = 0.0, numpy_generator(generator)
    for a, kappa, t in ((1.0, 0.5, 0.6), (2.0, 1.5, 1.0), (0.5, 0.2, 4.0), (1.0, 0.0, 1.0)):
        width = a - kappa * math.sqrt(t)
        starts = np.concatenate((rng.uniform(-1, 1, 3) * width, [0.97 * width, 1.3 * a, -(0.1 * width + 0.9 * a)]))
        for s in (0.3 * t, 1e-8 * t):
            expected = [
                follow(lambda x, u, a=a, kappa=kappa: _share_of_the_window(x, a - kappa * math.sqrt(u), a), x, t, s) for x in starts
            ]
            worst = max(worst, agree(f"a = {a}, kappa = {kappa}, t = {t}, s = {s}", predict(starts, t, s, kappa, a), expected, 2e-9 * a))
        # From s = 1e-8 t on nothing moves by more than (w_0 - w_s)/w_s inside and |x - a| sqrt(s/t) outside.
        left = 1e-4 * (kappa * math.sqrt(t) * np.abs(starts) / width + np.abs(np.abs(starts) - a))
        worst = max(
            worst, agree(f"end points, a = {a}, kappa = {kappa}", predict(starts, t, 0.0, kappa, a), expected, 1.01 * left + 2e-9 * a)
        )
    return {"worst error/allowance": worst}


claim(
    "interpolation.exact_paths",
    title="The paths of the exact score stay close to those of its limit",
    statement=r"""Start the flow of the exact two-point score, averaged over the box of half-width $w_t = a - \kappa\sqrt t$, and that of
its limit at the same place at $t$. At $s < t$ they are at most

$$\frac{\log 2}{4}\,w_s\int_s^t\frac{du}{w_u^2} \;\le\; \frac{a\,(t - s)\log 2}{4\,w_t^2}$$

apart. From the worst start they come within a factor of two of the first of these.""",
    source="derived here",
    regime=r"""$0 < s < t$, $0 \le \kappa\sqrt t < a$, every start. "A factor of two" is computed for $t/w_t^2$ from 0.01 to 2, $s/t$ from
$10^{-3}$ to $\frac12$.""",
    uses=("interpolation.box_average", "interpolation.flow_map"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@cache
def _paths_apart() -> dict[tuple[float, float, float, float], float]:
    """The largest distance over starts near the rim, for `(t, s, kappa, a)`: both equations with tolerances 1e-12."""

    def log_cosh(z: Any) -> Any:
        return np.abs(z) + np.log1p(np.exp(-2 * np.abs(z)))

    found = {}
    for a, kappa, t in ((1.0, 0.3, 0.01), (1.0, 0.3, 1.0), (2.0, 1.0, 0.2), (1.0, 0.0, 0.05), (0.5, 0.8, 0.1)):
        width = a - kappa * math.sqrt(t)

        def window(u: float, a: float = a, kappa: float = kappa) -> float:
            return a - kappa * math.sqrt(u)

        def exact(x: Any, u: float, a: float = a, window: Any = window) -> Any:
            w = window(u)
            return u / (2 * w) * (log_cosh(a * (x + w) / u) - log_cosh(a * (x - w) / u))

        def limit(x: Any, u: float, a: float = a, window: Any = window) -> Any:
            return _share_of_the_window(x, window(u), a)

        for s in (0.5 * t, 1e-3 * t):
            starts = np.append(width + np.array([-0.6, -0.25, 0.0, 0.25]) * t / a, 0.5 * width)
            found[t, s, kappa, a] = max(abs(follow(exact, x, t, s) - follow(limit, x, t, s)) for x in starts)
    return found


@check(
    "interpolation.exact_paths",
    by="quadrature",
    lane="full",
    mutants={
        "half": returns(lambda bound, *_: bound / 2),
        "twice": returns(lambda bound, *_: 2 * bound),
        "log 2 forgotten": returns(lambda bound, *_: bound / math.log(2)),
        "root of t": instead(lambda t, s, kappa, a: interpolation.limit_path_error(math.sqrt(t), math.sqrt(s), kappa * t**0.25 / 1.001, a)),
        "a = 1": instead(lambda t, s, kappa, a: interpolation.limit_path_error(t, s, min(kappa, 0.99 / math.sqrt(t)))),
        "fixed box": instead(lambda t, s, kappa, a: math.log(2) / 4 * (t - s) / a),
        "the simpler bound": instead(lambda t, s, kappa, a: math.log(2) / 4 * a * (t - s) / (a - kappa * math.sqrt(t)) ** 2),
        "w at t in front": returns(lambda bound, t, s, kappa, a: bound * (a - kappa * math.sqrt(t)) / (a - kappa * math.sqrt(s))),
        "w for its square": instead(lambda t, s, kappa, a: math.log(2) / 4 * (t - s) / (a - kappa * math.sqrt(t))),
    },
)
def paths_of_both_scores(predict: Any = interpolation.limit_path_error, *, generator: torch.Generator) -> Numbers:
    """The largest distance over five starts is at most the bound, and at least half of it; the bound is the integral, and at most the
    simpler one.
    """
    for t, s, kappa, a in _paths_apart():
        integral, _ = integrate.quad(lambda u, a=a, kappa=kappa: (a - kappa * math.sqrt(u)) ** -2, s, t, epsabs=0, epsrel=1e-11)
        bound, simpler = float(predict(t, s, kappa, a)), a * (t - s) * math.log(2) / (4 * (a - kappa * math.sqrt(t)) ** 2)
        agree(
            f"bound, (t, s, kappa, a) = {t, s, kappa, a}", bound, math.log(2) / 4 * (a - kappa * math.sqrt(s)) * integral, 1e-10 * simpler
        )
        require(bound <= simpler * (1 + 1e-12), f"bound {bound}, simpler bound {simpler}")
    shares = {key: apart / float(predict(*key)) for key, apart in _paths_apart().items()}
    require(all(0.5 <= share <= 1 for share in shares.values()), f"distance/bound for (t, s, kappa, a): {shares}")
    return {"distance/bound, least": min(shares.values()), "most": max(shares.values())}


claim(
    "interpolation.output_law",
    title="What comes out: a stretched piece of the blurred law, and two atoms",
    statement=r"""The flow of {claim}`interpolation.flow_map`, started at $t$ from a law with the density $p$, ends with the density
$\frac{w_t}{a}\,p(w_t x/a)$ on $(-a, a)$ and atoms $\mathbb P(X_t > w_t)$ at $a$ and $\mathbb P(X_t < -w_t)$ at $-a$. Started from the
blurred law of the two points themselves each atom is

$$\tfrac12\left[\Phi(\kappa) + \Phi\!\left(\kappa - 2a/\sqrt t\right)\right].$$

So for $t \ll a^2$ the part $\Phi(\kappa)$ of the samples are copies.""",
    source=f"{CHEN}; derived here",
    regime=r"""As in {claim}`interpolation.flow_map`; $\Phi$ is the normal distribution function. For $t \ll a^2$ the rest,
$\Phi(-\kappa)$, stays within a few $\sqrt t$ of the two points: the gap is filled only if the flow starts at $t$ of order $a^2$.""",
    uses=("interpolation.flow_map",),
    chapter=CHAPTER,
    verdict="holds in regime",
)

STARTS = ((1.0, 0.5, 0.6), (1.0, 1.2, 0.05), (2.0, 0.7, 3.0), (0.5, 0.1, 1.5), (1.0, 0.0, 0.3))
"""a, kappa, t."""


def _blurred(x: Any, t: float, a: float) -> Any:
    return (stats.norm.pdf(x, a, math.sqrt(t)) + stats.norm.pdf(x, -a, math.sqrt(t))) / 2


@check(
    "interpolation.output_law",
    by="quadrature",
    mutants={
        "near point only": instead(lambda t, kappa, a: 0.5 * special.ndtr(kappa)),
        "both atoms": returns(lambda mass, *_: 2 * mass),
        "kappa t": instead(lambda t, kappa, a: interpolation.atom_mass(t, kappa * math.sqrt(t), a)),
        "outside of the points": instead(lambda t, kappa, a: interpolation.atom_mass(t, 0.0, a)),
        "a for 2a": instead(lambda t, kappa, a: (special.ndtr(kappa) + special.ndtr(kappa - a / math.sqrt(t))) / 2),
        "off by 1e-9": returns(lambda mass, *_: mass * (1 + 1e-9)),
    },
)
def mass_of_an_atom(predict: Any = interpolation.atom_mass, *, generator: torch.Generator) -> Numbers:
    """The integral of the blurred density over `x > w_t`; and the two atoms' share at a = 1, kappa = 1/2, t = 0.6."""
    worst = 0.0
    for a, kappa, t in STARTS:
        width = a - kappa * math.sqrt(t)
        edges = [width, max(a, width) + 0.5 * math.sqrt(t), a + 12 * math.sqrt(t)]
        mass = sum(integrate.quad(_blurred, low, high, args=(t, a), epsabs=1e-13)[0] for low, high in itertools.pairwise(edges))
        worst = max(worst, agree(f"a = {a}, kappa = {kappa}, t = {t}", predict(t, kappa, a), mass, 1e-11))
    return {"worst error/allowance": worst, "both atoms, a = 1, kappa = 0.5, t = 0.6": 2 * float(interpolation.atom_mass(0.6, 0.5))}


@check(
    "interpolation.output_law",
    by="quadrature",
    mutants={
        "no Jacobian": returns(lambda value, x, t, kappa, a: value - math.log((a - kappa * math.sqrt(t)) / a)),
        "wrong way": instead(
            lambda x, t, kappa, a: interpolation.filled_log_density(np.asarray(x) * (a / (a - kappa * math.sqrt(t))) ** 2, t, kappa, a)
        ),
        "density": returns(lambda value, *_: value.exp()),
        "normalized": returns(lambda value, x, t, kappa, a: value - math.log(1 - 2 * float(interpolation.atom_mass(t, kappa, a)))),
        "off by 1e-8": returns(lambda value, *_: value + 1e-8),
    },
)
def density_between(predict: Any = interpolation.filled_log_density, *, generator: torch.Generator) -> Numbers:
    """Its integral from -a to y is the chance that the flow started between `-w_t` and the point that it carries to y."""
    worst = 0.0
    node, weight = np.polynomial.legendre.leggauss(80)
    for a, kappa, t in STARTS:
        width = a - kappa * math.sqrt(t)
        for y in np.array([-0.6, 0.2, 0.95]) * a:
            half = (y + a) / 2
            got = np.exp(np.asarray(predict(-a + half * (1 + node), t, kappa, a))) @ weight * half
            back = optimize.brentq(lambda x, y=y, a=a, width=width: a * x / width - y, -width, width, xtol=1e-15)
            expected = sum(stats.norm.cdf(back, c, math.sqrt(t)) - stats.norm.cdf(-width, c, math.sqrt(t)) for c in (-a, a)) / 2
            worst = max(worst, agree(f"a = {a}, kappa = {kappa}, t = {t}, y = {y}", got, expected, 1e-10))
        outside = np.asarray(predict(np.array([1.01, -2.0]) * a, t, kappa, a))
        require(bool(np.isneginf(outside).all()), f"log-density beyond the points: {outside}")
    return {"worst error/allowance": worst}


claim(
    "interpolation.fixed_window",
    title="A fixed box: memorize, freeze or collapse",
    statement=r"""With a box of fixed half-width $w$ the same flow is $x \propto t^{(1 - a/w)/2}$ while $|x| \le w$, and
$|x| - a \propto \sqrt t$ while $|x| > w$. As $t \to 0$: for $w < a$ every start but 0 ends at a data point; for $w = a$ every start in
$[-a, a]$ stays where it is; for $w > a$ every start ends at the mean, 0.""",
    source=f"{CHEN} (setting); derived here",
    regime=r"Data $\pm a$, limit score $(a\,\mathrm{sign}\,x - x)/t$, $w > 0$; probability flow.",
    uses=("interpolation.box_average", "heat.reversal_ode"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "interpolation.fixed_window",
    by="proof",
    lane="full",
    mutants={
        "1/2 forgotten": returns(lambda power, *_: 2 * power),
        "upside down": instead(lambda w, a: (1 - w / a) / 2),
        "sign": returns(lambda power, *_: -power),
        "a = 1": instead(lambda w, a: (1 - 1 / w) / 2),
    },
)
def power_law_solves_the_equation(predict: Any = interpolation.window_exponent, *, generator: torch.Generator) -> Numbers:
    """`t d/dt t^p - (t^p - a t^p/w)/2`, with symbols for t, a and w."""
    import sympy

    t, a, w = sympy.symbols("t a w", positive=True)
    path = t ** predict(w, a)
    remainder = sympy.simplify((t * sympy.diff(path, t) - (path - a * path / w) / 2) / path)
    require(remainder == 0, f"equation: remainder {remainder}")
    return {"remainder": str(remainder)}


@check(
    "interpolation.fixed_window",
    by="quadrature",
    lane="full",
    mutants={
        "inside for ever": instead(lambda x, t, s, w, a: np.asarray(x) * (s / t) ** ((1 - a / w) / 2)),
        "outside at once": instead(lambda x, t, s, w, a: np.sign(x) * (a + (np.abs(x) - a) * math.sqrt(s / t))),
        "exponent without 1/2": instead(lambda x, t, s, w, a: interpolation.fixed_window_flow(x, t**2, s**2, w, a)),
        "off by 1e-8": returns(lambda moved, *_: moved * (1 + 1e-8)),
        "reflected": returns(lambda moved, *_: -moved),
    },
)
def fixed_box_against_the_equation(predict: Any = interpolation.fixed_window_flow, *, generator: torch.Generator) -> Numbers:
    """The differential equation with tolerances 1e-12. A path crosses the rim once; the step that holds the kink costs 1e-10 at the
    most.
    """
    worst, rng = 0.0, numpy_generator(generator)
    for a, ratio, t in itertools.product((0.5, 2.0), (0.4, 0.8, 1.0, 1.5, 3.0), (0.5, 3.0)):
        w = ratio * a
        starts = np.concatenate((rng.uniform(-1, 1, 2) * w, rng.uniform(1, 2, 2) * max(w, a), [0.95 * a, 1.05 * a]))
        for s in (0.2 * t, 1e-5 * t):
            expected = [follow(lambda x, u, w=w, a=a: _share_of_the_window(x, w, a), x, t, s) for x in starts]
            worst = max(worst, agree(f"a = {a}, w = {w}, t = {t}, s = {s}", predict(starts, t, s, w, a), expected, 2e-9 * a))
    return {"worst error/allowance": worst}


claim(
    "interpolation.smoothing_interpolates",
    title="Smoothing with a fixed window fills the gap between two data",
    statement=r"""*"Averaging the score over a window makes the flow interpolate between the data."* Refuted for windows that do not change
with $t$: as $t \to 0$ the flow of the two-point score, averaged over a box of half-width $w \ne a$ or over a Gaussian of any variance
$h > 0$, ends in three points at most. Only $w = a$, tied to the spacing of the data, leaves the gap filled;
{claim}`interpolation.window_rate` says which windows that open as $t$ falls do too.""",
    source="a reading of the idea that smoothing the score interpolates; refuted here",
    regime=r"Data $\pm a$, limit score, probability flow to $t = 0$. Stopped at a $t > 0$ each of these flows is a bijection of the line.",
    uses=("interpolation.fixed_window", "interpolation.pitchfork"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "interpolation.smoothing_interpolates",
    by="counterexample",
    mutants={
        "fills the gap": instead(lambda x, t, s, w, a: np.clip(np.asarray(x) / w, -1, 1) * a),
        "always memorizes": instead(lambda x, t, s, w, a: np.sign(x) * a),
        "always frozen": instead(lambda x, t, s, w, a: np.clip(x, -a, a)),
        "fates exchanged": instead(lambda x, t, s, w, a: interpolation.fixed_window_flow(x, t, s, a**2 / w, a)),
        "off by 1e-6": returns(lambda moved, *_: moved + 1e-6),
    },
)
def end_points_of_fixed_boxes(predict: Any = interpolation.fixed_window_flow, *, generator: torch.Generator) -> Numbers:
    """Where repeated steps towards the averaged denoiser end (on the line, with a rising denoiser, where the flow ends); then the
    different ends are counted.
    """
    counts = {}
    for a, ratio in itertools.product((0.7, 2.0), (0.5, 0.98, 1.0, 1.02, 2.0)):
        w = ratio * a
        starts = np.linspace(-1, 1, 41) * a
        x = starts.copy()
        for _ in range(1500):  # the slowest case leaves (1 - 0.9 * 0.02)^1500 = 1e-12
            x = x + 0.9 * (_share_of_the_window(x, w, a) - x)
        got = np.asarray(predict(starts, 1.0, 0.0, w, a))
        agree(f"end points, a = {a}, w = {w}", got, x, 1e-8)
        counts[ratio] = len(np.unique(np.round(got / a, 6)))
    require(all(count <= 3 for ratio, count in counts.items() if ratio != 1.0) and counts[1.0] == 41, f"different end points: {counts}")
    return {f"end points of 41 starts, w = {ratio} a": count for ratio, count in counts.items()}


claim(
    "interpolation.window_rate",
    title="Which windows fill the gap",
    statement=r"""Inside a box whose half-width $w_t$ changes with $t$,
$\;x_s = x_t\exp\Big(\frac12\int_s^t\big(\frac a{w_u} - 1\big)\frac{du}u\Big)$ while $|x_u| \le w_u$. So paths end in a continuum of
points, neither all at the data nor all at 0, exactly if $\int_0 (a - w_u)\,du/u$ converges (for $w_u \le a$ with limit $a$). Every power
does: for $w_t = a - \kappa t^\beta$, $\beta > 0$,

$$x_0 = x_t\,(a/w_t)^{1/2\beta}\quad\text{for paths that stay inside.}$$

For $\beta = \frac12$ the rim is itself a path; for $\beta < \frac12$ the paths with $|x_t| (a/w_t)^{1/2\beta} > a$ leave and end at a
data point; for $\beta > \frac12$ every start with $|x_t| < a$ ends strictly between the data.""",
    source="derived here",
    regime=r"""Data $\pm a$, limit score, probability flow; $w_u$ continuous and positive, $\kappa t^\beta < a$. Computed for powers; that
the integral decides in general is proved, not computed. $\beta = \frac12$ is not needed: it is the power for
which rim and exponent match.""",
    uses=("interpolation.flow_map", "interpolation.fixed_window"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "interpolation.window_rate",
    by="quadrature",
    lane="full",
    mutants={
        "always 1/2": instead(lambda x, t, s, kappa, a, beta: interpolation.opening_window_flow(x, t, s, kappa * t ** (beta - 0.5), a)),
        "1/beta": instead(lambda x, t, s, kappa, a, beta: np.asarray(x) * ((a - kappa * s**beta) / (a - kappa * t**beta)) ** (1 / beta)),
        "never leaves": instead(
            lambda x, t, s, kappa, a, beta: np.asarray(x) * ((a - kappa * s**beta) / (a - kappa * t**beta)) ** (0.5 / beta)
        ),
        "off by 1e-7": returns(lambda moved, *_: moved * (1 + 1e-7)),
    },
)
def other_powers_against_the_equation(predict: Any = interpolation.opening_window_flow, *, generator: torch.Generator) -> Numbers:
    """The equation with tolerances 1e-12, for starts that stay, leave and are caught; a crossing of the rim costs 1e-9 at the most."""
    worst, fates = 0.0, {"leave": 0, "caught": 0}
    for a, beta, t in itertools.product((0.6, 1.5), (0.2, 0.35, 0.8, 1.5), (0.5, 2.0)):
        kappa = 0.5 * a / t**beta
        width = a - kappa * t**beta
        starts = np.array([0.1, 0.55, 0.9]) * width
        starts = np.concatenate((starts, -(width + np.array([0.2, 0.7]) * (a - width)), [1.2 * a]))
        for s in (0.1 * t, 1e-6 * t):
            expected = [
                follow(lambda x, u, a=a, kappa=kappa, beta=beta: _share_of_the_window(x, a - kappa * u**beta, a), x, t, s) for x in starts
            ]
            worst = max(
                worst, agree(f"a = {a}, beta = {beta}, t = {t}, s = {s}", predict(starts, t, s, kappa, a, beta), expected, 2e-8 * a)
            )
        rim = a - kappa * s**beta
        fates["leave"] += int((np.abs(expected[:3]) > rim).sum())
        fates["caught"] += int((np.abs(expected[3:5]) < rim).sum())
    require(min(fates.values()) >= 4, f"paths that leave or are caught: {fates}")
    return fates | {"worst error/allowance": worst}


@check(
    "interpolation.window_rate",
    by="quadrature",
    mutants={
        "always 1/2": instead(lambda x, t, s, kappa, a, beta: interpolation.opening_window_flow(x, t, s, kappa * t ** (beta - 0.5), a)),
        "half the power": instead(lambda x, t, s, kappa, a, beta: np.asarray(x) * (a / (a - kappa * t**beta)) ** (0.25 / beta)),
        "off by 1e-7": returns(lambda moved, *_: moved * (1 + 1e-7)),
    },
)
def integral_of_the_rate(predict: Any = interpolation.opening_window_flow, *, generator: torch.Generator) -> Numbers:
    """`exp((1/2) int (a/w_u - 1) du/u)` by quadrature, for paths that stay inside; the ends of 9 starts are 9 points, none at the data."""
    worst = 0.0
    for a, beta, t, share in itertools.product((0.6, 1.5), (0.2, 0.5, 0.8, 1.5), (0.5, 2.0), (0.1, 0.4, 0.9)):
        kappa = share * a / t**beta
        rate, _ = integrate.quad(lambda v, a=a, kappa=kappa, t=t, beta=beta: kappa * t**beta * v / (a - kappa * t**beta * v) / v, 0, 1)
        width = a - kappa * t**beta  # with u = t v^(1/beta), du/u = dv/(beta v)
        x = np.linspace(-0.9, 0.9, 9) * min(width, a * math.exp(-rate / (2 * beta)))
        got = np.asarray(predict(x, t, 0.0, kappa, a, beta))
        worst = max(worst, agree(f"a = {a}, beta = {beta}, t = {t}", got, x * math.exp(rate / (2 * beta)), 1e-9 * a))
        require(len(np.unique(got.round(6))) == 9 and bool((np.abs(got) < a).all()), f"ends {got}")
    return {"worst error/allowance": worst}
