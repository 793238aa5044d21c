"""Chapter "Temperature and noise unconditioning", second part: what tempering costs."""

import functools
import math
from typing import Any

import numpy as np
import torch
from scipy import integrate, optimize, special

from kss.claims.registry import check, claim, instead, returns
from kss.claims.temperature import CHAPTER, EPSILON, PAPER, Numbers
from kss.distributions import Empirical, Gaussian, GaussianMixture
from kss.scores import TemperatureSmoothed
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.testing.rates import HALVINGS, order_of
from kss.theory import temperature

# --- Normal laws ----------------------------------------------------------------------------------------------------------

claim(
    "temperature.sharpened",
    title="A normal law is sharpened: its variance divided by the temperature",
    statement=r"""For $p_* = \mathcal N(0, S)$

$$s_T(x) = T\,s_{Tt}(x) = -\big(\tfrac1T S + t I\big)^{-1}x :$$

tempering turns the score of $\mathcal N(0, S)$ into that of $\mathcal N(0, S/T)$, at the same noise. In one dimension the sampled law
$\pi_T$ has the variance $(\lambda + Tt)/T = \lambda/T + t$. (A mollified score leaves $\lambda + t$, whatever $h$:
{claim}`mollified.gaussian`.)""",
    source=PAPER,
    regime=r"Every normal law, singular ones included; $t > 0$, $T > 0$. The population score, $N = \infty$.",
    uses=("temperature.law", "mollified.gaussian"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "temperature.sharpened",
    by="quadrature",
    mutants={
        "noise sharpened too": returns(lambda value, variance, t, temper: value - t + t / temper),
        "one percent": returns(lambda value, *_: 1.01 * value),
        "not sharpened": instead(lambda variance, t, temper: variance + t),
        "later": instead(lambda variance, t, temper: variance + temper * t),
        "T squared": instead(lambda variance, t, temper: variance / temper**2 + t),
        "standard deviations": instead(lambda variance, t, temper: variance / temper**0.5 + t),
    },
)
def variance_of_a_power(predict: Any = temperature.tempered_variance, *, generator: torch.Generator) -> Numbers:
    """Second moment of the normal density of variance `v + T t`, to the power T, by adaptive quadrature."""
    worst = 0.0
    for variance, t, temper in ((1.0, 0.01, 1.0), (1.0, 0.01, 2.0), (1.0, 0.01, 8.0), (0.3, 0.2, 0.4), (5.0, 2.0, 3.3), (0.0, 0.5, 4.0)):

        def power(x: float, v: float = variance, u: float = temper * t, p: float = temper) -> float:
            return float(math.exp(-(x**2) / (2 * (v + u))) ** p)

        reach = 40 * math.sqrt(variance + temper * t)
        places = {"points": [0.0], "limit": 400, "epsabs": 0.0, "epsrel": 1e-11}
        second = integrate.quad(lambda x, power=power: x**2 * power(x), -reach, reach, **places)[0]
        expected = second / integrate.quad(power, -reach, reach, **places)[0]
        case = f"v = {variance}, t = {t}, T = {temper}"
        worst = max(worst, agree(case, float(predict(variance, t, temper)), expected, 1e-9 * expected))
    return {"worst error/allowance": worst}


@check(
    "temperature.sharpened",
    by="property",
    mutants={
        "stiffness tempered as well": returns(lambda score, tempered, *_: score / float(tempered.temperature)),
        "not tempered": instead(lambda tempered, x, t: tempered.base.score(x, t)),
        "weights not tempered": instead(lambda tempered, x, t: float(tempered.temperature) * tempered.base.score(x, t)),
    },
)
def score_of_a_narrower_normal_law(predict: Any = TemperatureSmoothed.score, *, generator: torch.Generator) -> Numbers:
    """`-(S/T + t I)^(-1) x` by numpy, for random S of every rank in R^3."""
    rng, worst = numpy_generator(generator), 0.0
    for rank in (0, 1, 2, 3):
        for temper in (0.5, 2.0, 9.0):
            factor, mean, x, t = rng.uniform(-1, 1, (3, rank)), rng.uniform(-1, 1, 3), rng.uniform(-2, 2, (5, 3)), rng.uniform(0.05, 1)
            covariance = factor @ factor.T
            expected = -np.linalg.solve(covariance / temper + t * np.eye(3), (x - mean).T).T
            got = predict(TemperatureSmoothed(Gaussian(mean, covariance), temper), torch.from_numpy(x), t)
            # Condition at most 1 + 9/(T t), T t >= 0.025; solved twice.
            allowed = 64 * EPSILON * (1 + 9 / (temper * t)) * np.linalg.norm(x - mean, axis=1, keepdims=True) / t
            worst = max(worst, agree(f"rank {rank}, T = {temper}, t = {t:.3f}", got, expected, allowed))
    return {"worst error/allowance": worst}


claim(
    "temperature.inconsistent",
    title="Temperature smoothing finds the law of the data in the end",
    statement=r"""With a fixed $T > 1$, as $N \to \infty$ and then $t \to 0$, the sampled law $\pi_T$ tends to $p_*$.""",
    source=r"what one would hope of a smoothing whose bandwidth $Tt$ tends to zero. Refuted here",
    regime=r"""Refuted: it tends to $p_*^T/\int p_*^T$ (law of large numbers, then $t \to 0$; for a bounded continuous density), which is
$p_*$ only if $p_*$ is constant where it is positive.
Counterexamples, for every $T \neq 1$: $\mathcal N(0, 1)$, of which the variance $1/T$ is left; two distant bumps of one shape with
masses $\pi \neq \frac12$ and $1 - \pi$, which become $\pi^T$ and $(1 - \pi)^T$, normalized: modes gain. A mollified score has neither
bias when $h \to 0$. The statement is true for $T \to 1$.""",
    uses=("temperature.sharpened",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "temperature.inconsistent",
    by="counterexample",
    mutants={
        "not raised to the power": returns(lambda value, tempered, *_: value / float(tempered.temperature)),
        "one percent": returns(lambda value, *_: 1.01 * value),
        "power of the density of now": instead(lambda tempered, x, t: float(tempered.temperature) * tempered.base.log_density(x, t)),
        "not tempered": instead(lambda tempered, x, t: tempered.base.log_density(x, t)),
    },
)
def quantiles_of_a_normal_law(predict: Any = TemperatureSmoothed.unnormalized_log_density, *, generator: torch.Generator) -> Numbers:
    """The variance for N midpoint quantiles of N(0, 1), on a grid, is `1/T + t`; N = 30 to 1000, t = N^(-1/2)/5.

    Allowed is what the quantiles themselves lack of variance 1: it is missing in the tails, and for T = 1 it is the whole
    error; a power T > 1 gives the tails less weight.
    """
    numbers = Numbers()
    for temper in (1.0, 2.0, 3.5, 8.0):
        error = math.nan
        for n in (30, 180, 1000):
            t = 0.2 / math.sqrt(n)
            points = special.ndtri((np.arange(n) + 0.5) / n)
            grid = np.arange(-9, 9, math.sqrt(t) / 3)
            values = np.asarray(predict(TemperatureSmoothed(Empirical(points[:, None]), temper), torch.from_numpy(grid[:, None]), t))
            density = np.exp(values - values.max())
            variance = float(density @ grid**2 / density.sum())
            error = variance - (1 / temper + t)
            agree(f"T = {temper}, N = {n}: variance", variance, 1 / temper + t, 1 - points @ points / n + 1e-9)
            require(temper == 1 or abs(variance - 1) > 0.3, f"T = {temper}, N = {n}: variance {variance:.3f} is near that of the data")
        numbers[f"variance at T = {temper}, N = 1000"] = f"{1 / temper + t + error:.4f} (limit {1 / temper:.4f}, and t = {t:.4f})"
    return numbers


@check(
    "temperature.inconsistent",
    by="counterexample",
    mutants={
        "masses not raised": returns(lambda value, tempered, *_: value / float(tempered.temperature)),
        "not tempered": instead(lambda tempered, x, t: tempered.base.log_density(x, t)),
        "half the temperature": instead(
            lambda tempered, x, t: tempered.temperature / 2 * tempered.base.log_density(x, tempered.temperature * t)
        ),
    },
)
def modes_gain(predict: Any = TemperatureSmoothed.unnormalized_log_density, *, generator: torch.Generator) -> Numbers:
    """Two normal bumps of variance 1 at the distance 60 with masses 0.7 and 0.3: the mass on the left, on a grid."""
    numbers, grid = Numbers(), np.arange(-60, 60, 0.05)
    law = GaussianMixture(np.array([[-30.0], [30.0]]), np.ones((2, 1, 1)), np.array([0.7, 0.3]))
    for temper in (0.5, 1.5, 2.0, 5.0):
        values = np.asarray(predict(TemperatureSmoothed(law, temper), torch.from_numpy(grid[:, None]), 0.1))
        density = np.exp(values - values.max())
        left = float(density[grid < 0].sum() / density.sum())
        expected = 0.7**temper / (0.7**temper + 0.3**temper)
        # In the middle both densities are below exp(-200) of their maxima, for every T here.
        agree(f"T = {temper}: mass of the larger bump", left, expected, 1e-10)
        numbers[f"mass 0.7 at T = {temper}"] = left
    return numbers


# --- Reverse diffusion ----------------------------------------------------------------------------------------------------

claim(
    "temperature.generated",
    title="Reverse diffusion with a constant temperature generates the sharpened law",
    statement=r"""Data $\mathcal N(0, \lambda)$, reverse dynamics with $s_T$ from $\mathcal N(0, v_0)$ at $t_{\max}$. The variance at
$t$ is,
with $c = \dfrac{\lambda + Tt}{\lambda + Tt_{\max}}$,

$$\text{SDE: } \frac\lambda T + t + \Big(v_0 - \frac\lambda T - t_{\max}\Big)c^2, \qquad \text{ODE: } v_0\,c .$$

Both are $\lambda/T + t$ if $v_0 = \lambda/T + t_{\max}$, and tend to it if $v_0 = \lambda + t_{\max}$ and $t_{\max} \to \infty$.""",
    source="derived here",
    regime=r"Every $\lambda \geq 0$, $T > 0$, $0 \leq t \leq t_{\max}$ with $\lambda + Tt > 0$; population score, exact dynamics.",
    uses=("temperature.sharpened", "heat.reversal_sde", "heat.reversal_ode"),
    chapter=CHAPTER,
    verdict="holds",
)


def _variance_at_end(variance: float, temper: Any, start: float, t_max: float, t: float, *, noise: float) -> float:
    """`d/dtau` of the variance with drift `-a x`: `-2 a v + noise`, solved in `log t`; a = `(1 + noise)/2 * T/(v + T t)`."""

    def rate(log_t: float, v: np.ndarray) -> np.ndarray:
        now = math.exp(log_t)
        hot = float(temper(now))
        return now * ((1 + noise) * hot / (variance + hot * now) * v - noise)

    solved = integrate.solve_ivp(rate, (math.log(t_max), math.log(t)), [start], method="DOP853", rtol=1e-11, atol=1e-14)
    return float(solved.y[0, -1])


_RUNS = (
    (1.0, 5.0, 4.0, 0.01, 2.0),
    (0.3, 1.0, 2.0, 0.1, 8.0),
    (2.0, 1.0, 10.0, 1.0, 0.5),
    (1.0, 1.0, 1.0, 1e-3, 3.0),
    (0.0, 3.0, 2.0, 0.5, 4.0),
)
"""Variance of the data, variance at the start, t_max, t, and the temperature."""


@check(
    "temperature.generated",
    by="quadrature",
    mutants={
        "one percent": returns(lambda value, *_: 1.01 * value),
        "at t_max the law is forgotten": instead(lambda v, start, t_max, t, temper: v / temper + t),
        "contraction not squared": instead(
            lambda v, start, t_max, t, temper: v / temper + t + (start - v / temper - t_max) * (v + temper * t) / (v + temper * t_max)
        ),
        "probability flow": instead(temperature.flow_variance),
        "time shift": instead(lambda v, start, t_max, t, temper: temperature.sde_variance(v, start, t_max, t, 1.0)),
    },
)
def reverse_sde(predict: Any = temperature.sde_variance, *, generator: torch.Generator) -> Numbers:
    """The linear equation of the variance, solved numerically, for various v, T, starts and ends; 1e-9 is what the solver errs by."""
    worst = 0.0
    for v, start, t_max, t, temper in _RUNS:
        expected = _variance_at_end(v, lambda now, hot=temper: hot, start, t_max, t, noise=1.0)
        worst = max(
            worst, agree(f"v = {v}, start {start}, T = {temper}", float(predict(v, start, t_max, t, temper)), expected, 1e-8 * expected)
        )
    late = float(predict(1.0, 1.0 + 1e6, 1e6, 0.0, 4.0))
    agree("from t_max = 1e6 to 0 at T = 4", late, 0.25, 1e-5)
    return {"worst error/allowance": worst, "from t_max = 1e6 to 0, T = 4": late}


@check(
    "temperature.generated",
    by="quadrature",
    mutants={
        "one percent": returns(lambda value, *_: 1.01 * value),
        "contraction squared": instead(lambda v, start, t_max, t, temper: start * ((v + temper * t) / (v + temper * t_max)) ** 2),
        "reverse SDE": instead(temperature.sde_variance),
        "not tempered": instead(lambda v, start, t_max, t, temper: start * (v + t) / (v + t_max)),
    },
)
def probability_flow(predict: Any = temperature.flow_variance, *, generator: torch.Generator) -> Numbers:
    """The same for the flow."""
    worst = 0.0
    for v, start, t_max, t, temper in _RUNS:
        expected = _variance_at_end(v, lambda now, hot=temper: hot, start, t_max, t, noise=0.0)
        worst = max(
            worst, agree(f"v = {v}, start {start}, T = {temper}", float(predict(v, start, t_max, t, temper)), expected, 1e-8 * expected)
        )
    late = float(predict(1.0, 1.0 + 1e6, 1e6, 0.0, 4.0))
    agree("from t_max = 1e6 to 0 at T = 4", late, 0.25, 1e-5)
    return {"worst error/allowance": worst, "from t_max = 1e6 to 0, T = 4": late}


claim(
    "temperature.schedule",
    title="With a rising temperature reverse diffusion sharpens little, Langevin dynamics all the more",
    statement=r"""Data $\mathcal N(0, \lambda)$, the schedule $T(t) = \max(\sqrt{t_c/t}, 1)$, the right law
$\mathcal N(0, \lambda + t_c)$ at $t_c$. At $t = 0$ the variance is, with $a = \dfrac{\lambda}{\lambda + t_c}$,

$$\text{ODE: } \lambda\,a, \qquad \text{SDE: } \lambda\,\frac{a + a^2 + a^3}3 ,$$

that is $\lambda - t_c$ and $\lambda - 2t_c$ to first order in $t_c$: little is lost if $t_c \ll \lambda$, although $T \to \infty$.
Langevin dynamics at a fixed $t \leq t_c$, run to equilibrium, has $(\lambda + \sqrt{t_ct})\sqrt{t/t_c}$, which tends to 0 with $t$.""",
    source="the schedule: arXiv 2601.19285; the variances: derived here",
    regime=r"Every $\lambda > 0$, $t_c > 0$; population score, exact dynamics.",
    uses=("temperature.generated",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "temperature.schedule",
    by="quadrature",
    mutants={
        "one percent": returns(lambda value, *_: 1.01 * value),
        "cube forgotten": instead(lambda v, t_c: v**2 / (3 * t_c) * (1 - v / (v + t_c))),
        "square of the flow": instead(lambda v, t_c: v * (v / (v + t_c)) ** 2),
        "probability flow": instead(temperature.scheduled_flow_variance),
        "nothing lost": instead(lambda v, t_c: v),
        "first order": instead(lambda v, t_c: v - 2 * t_c),
    },
)
def scheduled_sde(predict: Any = temperature.scheduled_sde_variance, *, generator: torch.Generator) -> Numbers:
    """The variance solved down to t = 1e-12 t_c, with the schedule of the package; what is left to 0 changes it by 1e-6 of `T t`."""
    worst = 0.0
    for v, t_c in ((1.0, 0.01), (1.0, 0.3), (0.2, 1.0), (4.0, 2.0)):
        expected = _variance_at_end(v, temperature.collapse_schedule(t_c), v + t_c, t_c, 1e-12 * t_c, noise=1.0)
        worst = max(worst, agree(f"v = {v}, t_c = {t_c}", float(predict(v, t_c)), expected, 1e-5 * min(v, t_c)))
    return {"worst error/allowance": worst, "left of 1 at t_c = 0.3": float(predict(1.0, 0.3))}


@check(
    "temperature.schedule",
    by="quadrature",
    mutants={
        "one percent": returns(lambda value, *_: 1.01 * value),
        "reverse SDE": instead(temperature.scheduled_sde_variance),
        "first order": instead(lambda v, t_c: v - t_c),
        "factor once too often": instead(lambda v, t_c: v**3 / (v + t_c) ** 2),
    },
)
def scheduled_flow(predict: Any = temperature.scheduled_flow_variance, *, generator: torch.Generator) -> Numbers:
    """The same for the flow."""
    worst = 0.0
    for v, t_c in ((1.0, 0.01), (1.0, 0.3), (0.2, 1.0), (4.0, 2.0)):
        expected = _variance_at_end(v, temperature.collapse_schedule(t_c), v + t_c, t_c, 1e-12 * t_c, noise=0.0)
        worst = max(worst, agree(f"v = {v}, t_c = {t_c}", float(predict(v, t_c)), expected, 1e-5 * min(v, t_c)))
        tempered = TemperatureSmoothed(Gaussian([0.0], v), temperature.collapse_schedule(t_c))
        for t in (1e-6 * t_c, 0.1 * t_c, t_c):  # the score is linear: its slope is minus one over the variance at equilibrium
            rest = -1 / float(tempered.score([1.0], t))
            agree(f"Langevin, v = {v}, t_c = {t_c}, t = {t}", rest, (v + math.sqrt(t_c * t)) * math.sqrt(t / t_c), 1e-12 * rest)
    return {"worst error/allowance": worst, "left of 1 at t_c = 0.3": float(predict(1.0, 0.3))}


# --- Curved manifolds -----------------------------------------------------------------------------------------------------

claim(
    "temperature.curvature",
    title="On a curved manifold tempering has the bias of mollification",
    statement=r"""At $x \in M$, as $t \to 0$ with $T$ fixed, the normal part of $s_T$ is

$$\frac T2 H_x,$$

which is $\frac12H_x + \frac h{2t}H_x$, that of the mollified score, for $h = (T - 1)t$. On the uniform $k$-sphere of radius $R$ the
ridge is at $R - kTt/2R$, and across it the slope of the score stays $-1/t$: the manifold is displaced, not thickened.""",
    source="derived here",
    regime=r"""Closed smooth $M \subset \mathbb R^d$ with smooth positive density, $Tt$ far below the squared reach; corrections of relative
order $Tt/R^2$. Derived in general from the score near a manifold, checked for uniform spheres: $k = 1, 3, 4$ and, the ridge, $k = 1, 2, 3$
(on $S^2$ the first formula is exact up to exponentially small terms).""",
    uses=("temperature.identity", "mollified.curvature", "mollified.ridge"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "temperature.curvature",
    by="rate",
    mutants={
        "one percent": returns(lambda value, *_: 1.01 * value),
        "half forgotten": returns(lambda value, *_: 2 * value),
        "T forgotten": instead(lambda curvature, temper: curvature / 2),
        "h/t for T": instead(lambda curvature, temper: (temper - 1) * curvature / 2),
        "T squared": instead(lambda curvature, temper: temper**2 * curvature / 2),
        "sign": instead(lambda curvature, temper: -temper * curvature / 2),
    },
)
def pull_on_spheres(predict: Any = temperature.normal_score, *, generator: torch.Generator) -> Numbers:
    """The score on k-spheres from Bessel functions: relative error of first order in t; likewise its slope, and the mollified one."""
    numbers = Numbers()
    for k, radius, temper in ((1, 1.0, 3.0), (3, 2.0, 1.5), (4, 0.5, 2.0), (1, 3.0, 0.7)):
        sphere, ts = sums.Sphere(k, radius), 0.02 * radius**2 / temper * HALVINGS
        case = f"k = {k}, R = {radius}, T = {temper}"
        off = [abs(float(predict(-k / radius, temper)) / float(temper * sphere.score(radius, temper * t)) - 1) for t in ts]
        numbers[f"order, {case}"] = order_of(f"pull, {case}", off, 1)
        steps = [1e-4 * math.sqrt(t) for t in ts]
        slopes = [
            t * temper * float(sphere.score(radius + e, temper * t) - sphere.score(radius - e, temper * t)) / (2 * e)
            for t, e in zip(ts, steps, strict=True)
        ]
        numbers[f"order of the slope, {case}"] = order_of(f"slope, {case}", np.abs(np.array(slopes) + 1), 1)
    circle, temper = sums.Sphere(1), 3.0
    gaps = []
    for t in 0.004 * HALVINGS:
        smoothed = circle.smoothed_score(1.0, t, (temper - 1) * t)[()]
        gaps.append(abs(float(np.squeeze(smoothed)) / float(predict(-1.0, temper)) - 1))
    numbers["order, mollified with h = 2t"] = order_of("mollified", gaps, 1)
    return numbers


@check(
    "temperature.curvature",
    by="rate",
    mutants={
        "one percent": returns(lambda value, *_: 1.01 * value),
        "not tempered": instead(lambda k, radius, t, temper: -k * t / (2 * radius)),
        "ridge of h": instead(lambda k, radius, t, temper: -k * (temper - 1) * t / (2 * radius)),
        "twice the radius squared": instead(lambda k, radius, t, temper: -k * temper * t / (2 * radius**2)),
        "outward": instead(lambda k, radius, t, temper: k * temper * t / (2 * radius)),
    },
)
def ridge_on_spheres(predict: Any = temperature.ridge_offset, *, generator: torch.Generator) -> Numbers:
    """Where the radial score from Bessel functions vanishes, by bisection; the relative error of the formula is of first order in t."""
    numbers = Numbers()
    for k, radius, temper in ((1, 1.0, 3.0), (2, 2.0, 1.5), (3, 0.5, 0.6)):
        sphere, off = sums.Sphere(k, radius), []
        for t in 0.03 * radius**2 / temper * HALVINGS:
            radial = functools.partial(sphere.score, t=temper * t)
            at = optimize.brentq(lambda r, radial=radial: float(radial(r)), 0.8 * radius, 1.1 * radius, xtol=1e-15, rtol=1e-14)
            off.append(abs(float(predict(k, radius, t, temper)) / (at - radius) - 1))
        numbers[f"order, k = {k}"] = order_of(f"ridge, k = {k}", off, 1)
    return numbers


# --- Noise ----------------------------------------------------------------------------------------------------------------

claim(
    "temperature.noise",
    title="Tempering amplifies the noise it averages",
    statement=r"""Along a $k$-dimensional manifold, where $N$ data have the density $p_M$,

$$\mathbb E\,|s^N_T - s_T|^2 \;\simeq\; T^{\,1-k/2}\cdot\frac{k\,(4\pi)^{-k/2}}{2Np_M(x)}\,t^{-1-k/2} .$$

For $T > 1$ the noise is *larger* than that of the raw score, by $\sqrt T$ in variance, if $k = 1$, the same if $k = 2$, and smaller only
from $k = 3$ on. It is larger by $T^2$ than that of the mollified score with $h = (T - 1)t$, which falls like $T^{-1-k/2}$.""",
    source="derived here from the small-time covariance",
    regime=r"""CLT regime at $Tt$, $Np_M(Tt)^{k/2} \gg 1$; $x \in M$, $Tt$ far below the squared reach, $p_M$ smooth at the scale
$\sqrt{Tt}$. The noise is that around the tempered score of the law, $s_T$, which along $M$ is itself $T$ times as large as the score of
the law. Checked: the limit of $N\,\mathbb E|s_T^N - s_T|^2$ as $N \to \infty$ for uniform spheres, $k = 1, 2, 3$.""",
    uses=("temperature.identity", "clt.small_time", "variance.small_time"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "temperature.noise",
    by="rate",
    mutants={
        "one percent": returns(lambda value, *_: 1.01 * value),
        "twice": returns(lambda value, *_: 2 * value),
        "raw noise": instead(lambda k, t, temper, n, density: temperature.noise_variance(k, t, 1.0, n, density)),
        "noise of the later score": instead(lambda k, t, temper, n, density: temperature.noise_variance(k, temper * t, 1.0, n, density)),
        "amplitude for power": instead(
            lambda k, t, temper, n, density: temper * temperature.noise_variance(k, temper * t, 1.0, n, density)
        ),
        "dimension of the space": instead(lambda k, t, temper, n, density: temperature.noise_variance(k + 1, t, temper, n, density)),
        "number of data squared": instead(lambda k, t, temper, n, density: temperature.noise_variance(k, t, temper, n**2, density)),
        "unit density": instead(lambda k, t, temper, n, density: temperature.noise_variance(k, t, temper, n, 1.0)),
    },
)
def clt_noise_on_spheres(predict: Any = temperature.noise_variance, *, generator: torch.Generator) -> Numbers:
    """`E[G^2 |X - m|^2]/p^2` at noise T t, over t^2, by quadrature in the angle: errors of first order in t, none on S^2."""
    numbers = Numbers()
    node, weight = special.roots_legendre(400)
    for k, radius, temper, n in ((1, 1.0, 4.0, 250.0), (2, 2.0, 3.0, 1e5), (3, 0.5, 2.0, 70.0), (3, 1.0, 0.5, 1.0)):
        off = []
        for t in 0.04 * radius**2 / temper * HALVINGS:
            u = temper * t / radius**2
            angle = (node + 1) / 2 * min(math.pi, 10 * math.sqrt(u))
            area = weight * np.sin(angle) ** (k - 1)
            kernel, height = np.exp(-2 * np.sin(angle / 2) ** 2 / u), np.cos(angle)
            full = math.sqrt(math.pi) * math.gamma(k / 2) / math.gamma((k + 1) / 2)  # of sin^(k-1) on (0, pi)
            area = area * (angle[-1] - angle[0]) / (node[-1] - node[0]) / full
            mean = (area * kernel) @ height / (area @ kernel)
            moment = (area * kernel**2) @ (1 - 2 * mean * height + mean**2) * radius**2 / (area @ kernel) ** 2
            volume = 2 * math.pi ** ((k + 1) / 2) / math.gamma((k + 1) / 2) * radius**k
            off.append(abs(float(predict(k, t, temper, n, 1 / volume)) * n * t**2 / moment - 1))
        case = f"noise, k = {k}, T = {temper}"
        if k == 2:
            agree(case, off, np.zeros(4), 1e-9)
        else:
            numbers[f"order, {case}"] = order_of(case, off, 1)
    return numbers
