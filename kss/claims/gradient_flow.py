"""Chapter "A gradient flow toward the LED-KDE", first part: the split, the law at rest, the defect and what it does.

The example throughout is the data `{-1, 1}`, whose score `(tanh(x/t) - x)/t` is written out here.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.theory import gradient_flow, heat

CHAPTER = "gradient_flow"
PAPER = "Gabriel, Ged, Han Veiga and Schertzer, arXiv 2505.22841 v1"

Numbers = dict[str, Any]


def score_of_two(x: Any, t: Any) -> Any:
    """Score of the data `{-1, 1}`; x and t may be complex."""
    return (np.tanh(x / t) - x) / t


def log_density_of_two(x: Any, t: Any) -> Any:
    """`log p_t` of the data `{-1, 1}`."""
    y = x / t
    y = np.where(np.real(y) < 0, -y, y)
    return y + np.log1p(np.exp(-2 * y)) - math.log(2) - (x**2 + 1) / (2 * t) - np.log(2 * np.pi * t) / 2


def smoothed(function: Any, x: Any, h: float) -> Any:
    """`(G_h * f)(x)` on the line by a plain sum."""
    offsets, weight = sums.gaussian_nodes(1, h, 401)
    return (function(np.asarray(x)[..., None] + offsets[:, 0]) * weight).sum(-1)


# --- The split ------------------------------------------------------------------------------------------------------------

claim(
    "mollified.gradient_flow",
    title="Reverse diffusion descends towards the LED-KDE of the moment, and is pushed",
    statement=r"""Let $\pi = q_t$ be the LED-KDE, $t = T - \tau$. The law $\rho_\tau$ of the reverse SDE
$dY_\tau = \nabla\log\pi(Y_\tau)\,d\tau + dB_\tau$ obeys

$$\partial_\tau \rho = \tfrac12 \nabla\!\cdot\!\left(\rho\, \nabla \log\frac{\rho}{\pi}\right) -
\tfrac12\nabla\!\cdot\!\left(\rho\,\nabla\log\pi\right).$$

The first term is the Wasserstein gradient descent of $\tfrac12 \mathrm{KL}(\rho\,\|\,\pi)$, the second a transport uphill on $\log\pi$.
For $\rho = \pi = p_t$ the first vanishes and the second is the reversed heat flow.""",
    source=f"{PAPER} (the reading); derived here",
    regime=r"""Any positive density $\pi$ with a smooth logarithm, so every LED-KDE with $t > 0$; smooth positive $\rho$. The descent is
towards a target that moves with $\tau$.""",
    uses=("heat.reversal_sde", "mollified.led_kde"),
    chapter="mollified",
    verdict="holds",
)


def _reverse_rate(velocity: Any) -> Any:
    """In two dimensions: Fokker-Planck of the reverse SDE with drift `grad log pi`, minus the rate that a velocity gives."""
    import sympy

    x = sympy.symbols("x1 x2", real=True)
    rho, log_pi = sympy.Function("rho", positive=True)(*x), sympy.Function("u")(*x)
    score_of_rho, score_of_pi = [sympy.diff(sympy.log(rho), a) for a in x], [sympy.diff(log_pi, a) for a in x]
    fokker_planck = sum(sympy.diff(rho, a, 2) / 2 - sympy.diff(rho * s, a) for a, s in zip(x, score_of_pi, strict=True))
    moved = -sum(sympy.diff(rho * velocity(r, s), a) for a, r, s in zip(x, score_of_rho, score_of_pi, strict=True))
    return sympy.expand(fokker_planck - moved)


@check(
    "mollified.gradient_flow",
    by="proof",
    mutants={
        "half forgotten": returns(lambda velocity, *_: 2 * velocity),
        "uphill": returns(lambda velocity, *_: -velocity),
        "no target": instead(lambda score_of_q, score_of_pi: -score_of_q / 2),
    },
)
def descent_part(predict: Any = gradient_flow.descent_velocity, *, generator: torch.Generator) -> Numbers:
    """With the push added, the Fokker-Planck equation; and minus the gradient of the first variation of `(1/2) KL(rho || pi)`."""
    import sympy

    remainder = _reverse_rate(lambda r, s: predict(r, s) + s / 2)
    require(remainder == 0, f"Fokker-Planck - prediction = {remainder}")
    x = sympy.Symbol("x", real=True)
    rho, log_pi, value = sympy.Function("rho", positive=True)(x), sympy.Function("u")(x), sympy.Symbol("r", positive=True)
    variation = sympy.diff(value * (sympy.log(value) - log_pi) / 2, value).subs(value, rho)
    gap = sympy.simplify(predict(sympy.diff(sympy.log(rho), x), sympy.diff(log_pi, x)) + sympy.diff(variation, x))
    require(gap == 0, f"velocity + gradient of the first variation = {gap}")
    return {"remainder": str(remainder)}


@check(
    "mollified.gradient_flow",
    by="proof",
    mutants={
        "whole score": returns(lambda velocity, *_: 2 * velocity),
        "downhill": returns(lambda velocity, *_: -velocity),
    },
)
def push_part(predict: Any = gradient_flow.push_velocity, *, generator: torch.Generator) -> Numbers:
    """With the descent added, the Fokker-Planck equation; alone, for the heat kernel, the heat equation run backward."""
    import sympy

    remainder = _reverse_rate(lambda r, s: (s - r) / 2 + predict(s))
    require(remainder == 0, f"Fokker-Planck - prediction = {remainder}")
    x, t = sympy.Symbol("x", real=True), sympy.Symbol("t", positive=True)
    kernel = sympy.exp(-(x**2) / (2 * t)) / sympy.sqrt(2 * sympy.pi * t)
    backward = sympy.simplify(-sympy.diff(kernel, t) + sympy.diff(kernel * predict(sympy.diff(sympy.log(kernel), x)), x))
    require(backward == 0, f"reversed heat flow - transport = {backward}")
    return {"remainder": str(remainder)}


# --- A target that stands still -------------------------------------------------------------------------------------------

claim(
    "flow.frozen",
    title="Driven by a score that does not change, the reverse SDE comes to rest in the density of that score",
    statement=r""""A gradient flow toward the LED-KDE" suggests it. But the law at rest under $dY = \nabla\log\pi\,d\tau + dB$, with $\pi$
fixed, is proportional to

$$\pi^2, \qquad\text{not to } \pi .$$

The push never ends: where the descent has nothing left to do, at $\rho = \pi$, it goes on. The same equation is
$\partial_\tau\rho = \frac12\nabla\cdot(\rho\nabla\log(\rho/\pi^2))$: descent towards $\pi^2$, without a push.""",
    source="derived here",
    regime=r"""$\pi > 0$ smooth with $\int \pi^2 < \infty$, as every LED-KDE has; $\pi$ does not depend on $\tau$. In reverse diffusion it
does, and the push is what makes up for that.""",
    uses=("mollified.gradient_flow",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "flow.frozen",
    by="proof",
    mutants={
        "pi itself": instead(lambda log_pi: log_pi),
        "half": returns(lambda value, log_pi: value / 4),
        "reciprocal": returns(lambda value, log_pi: -value),
    },
)
def law_at_rest(predict: Any = gradient_flow.frozen_log_density, *, generator: torch.Generator) -> Numbers:
    """Fokker-Planck with the drift `grad u` gives `exp(prediction)` the rate zero, for any u of two variables; and `exp(u)` another."""
    import sympy

    x = sympy.symbols("x1 x2", real=True)
    u = sympy.Function("u")(*x)

    def rate(log_density: Any) -> Any:
        density = sympy.exp(log_density)
        return sympy.expand(sum(sympy.diff(density, a, 2) / 2 - sympy.diff(density * sympy.diff(u, a), a) for a in x) / density)

    remainder = rate(predict(u))
    require(remainder == 0, f"rate of the predicted law at rest: {remainder}")
    require(rate(u) != 0, "pi itself is at rest")
    return {"remainder": str(remainder), "rate of pi/pi": str(rate(u))}


claim(
    "flow.decay",
    title="The descent alone reaches a fixed log-concave target at an exponential rate",
    statement=r"""If $\pi$ does not change and $-\nabla^2\log\pi \succeq \kappa I$ with $\kappa > 0$, then under
$\partial_\tau\rho = \frac12\nabla\cdot(\rho\nabla\log(\rho/\pi))$

$$\mathrm{KL}(\rho_\tau\,\|\,\pi) \le e^{-\kappa\tau}\,\mathrm{KL}(\rho_0\,\|\,\pi) ,$$

with equality for $\pi = \mathcal N(0, \kappa^{-1})$ and $\rho_0$ a shifted copy of it.""",
    source="Bakry and Émery, Séminaire de Probabilités XIX (1985): the logarithmic Sobolev inequality "
    r"$\mathrm{KL} \le \frac{1}{2\kappa}\mathbb E_\rho|\nabla\log(\rho/\pi)|^2$",
    regime=r"""$\pi$ smooth and strongly log-concave: near data that are spread out, an LED-KDE is not.
$\mathrm{KL}(\rho_0\|\pi) < \infty$. The bound is cited; equality is checked, and the bound on $\pi \propto e^{-x^2/2}\cosh^{-2}(2x)$.""",
    uses=("mollified.gradient_flow",),
    chapter=CHAPTER,
    verdict="holds",
)


@cache
def _descent_to(beta: float) -> tuple[np.ndarray, np.ndarray]:
    """`KL(tau)/KL(0)` at tau = 0.2, 0.4, ..., 2 for `pi ~ exp(-x^2/2)/cosh(2 x)^beta`, from N(1.5, 0.2), by a dense matrix exponential.

    Hopping between 241 points at the rates `(1/2e^2) sqrt(pi_j/pi_i)`, which have pi at rest.
    """
    from scipy import linalg

    x = np.linspace(-5, 5, 241)
    log_pi = -(x**2) / 2 - beta * (np.abs(2 * x) + np.log1p(np.exp(-4 * np.abs(x))))
    pi = np.exp(log_pi) / np.exp(log_pi).sum()
    ahead = np.exp(np.diff(log_pi) / 2) / (2 * (x[1] - x[0]) ** 2)
    back = np.exp(-np.diff(log_pi) / 2) / (2 * (x[1] - x[0]) ** 2)
    rates = np.diag(ahead, -1) + np.diag(back, 1)
    move = linalg.expm(0.2 * (rates - np.diag(rates.sum(0))))
    q = np.exp(-((x - 1.5) ** 2) / 0.4)
    q, divergences = q / q.sum(), []
    for _ in range(11):
        divergences.append(float((q * np.log(q / pi)).sum()))
        q = move @ q
    return 0.2 * np.arange(1, 11), np.array(divergences[1:]) / divergences[0]


@check(
    "flow.decay",
    by="quadrature",
    mutants={
        "half the rate": returns(lambda factor, *_: factor**0.5),
        "twice the rate": returns(lambda factor, *_: factor**2),
        "rate of the variance": instead(lambda concavity, tau: np.exp(-tau / concavity)),
        "off by 1e-6": returns(lambda factor, *_: factor * (1 + 1e-6)),
    },
)
def decay_of_shifted_copies_and_a_bound(predict: Any = gradient_flow.decay, *, generator: torch.Generator) -> Numbers:
    """A shifted normal law stays one: its mean obeys `dm = -(m/2v) dtau`, and `KL = m^2/2v`. And another law obeys the bound."""
    worst = 0.0
    for variance in (0.3, 1.0, 2.5):
        for tau in (0.1, 1.0, 4.0):
            mean = 0.7 * math.exp(-tau / (2 * variance))
            worst = max(worst, agree(f"v = {variance}, tau = {tau}", predict(1 / variance, tau), (mean / 0.7) ** 2, 1e-12))
    for beta in (0.0, 2.0):  # both have kappa = 1, at infinity or everywhere
        times, left = _descent_to(beta)
        # The hopping process has an inequality of its own, of the same rate up to a part e^2/4 of it.
        bound = predict(1.0, times)
        require(bool((left <= bound * (1 + 1e-3 * times)).all()), f"KL falls to {left}, not below {bound}")
    return {"worst error/allowance": worst, "left at tau = 1, not normal": float(_descent_to(2.0)[1][4])}


# --- The defect -----------------------------------------------------------------------------------------------------------

claim(
    "flow.defect",
    title="The LED-KDE follows the heat flow up to one term, the variance of the score over the kernel",
    statement=r"""Let $r_t(x) = \frac12\mathrm{Var}_V\, s_t(x + V) = \frac12\left(K * |s_t|^2 - |K * s_t|^2\right) \ge 0$, the **defect**.
Then

$$\partial_t\,(K * \log p_t) = \tfrac12\left(\Delta (K * \log p_t) + |K * s_t|^2\right) + r_t, \qquad
\partial_t\pi_t = \tfrac12\Delta\pi_t + (r_t - \langle r_t\rangle)\,\pi_t, \qquad \partial_t\log Z_t = \langle r_t\rangle,$$

with $\pi_t = e^{K * \log p_t}/Z_t$ the LED-KDE and $\langle r_t\rangle$ the mean under it.
The gradient of $r$ is the term missing in {claim}`mollified.not_generated`.""",
    source="derived here",
    regime=r"""Every law $p_*$ and every kernel $K \ge 0$ that do not depend on $t$, with finite second moments; $t > 0$.
$Z_t = \int e^{K * \log p_t}$.""",
    uses=("heat.equation", "mollified.led_kde"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "flow.defect",
    by="proof",
    mutants={
        "without the defect": instead(lambda laplacian, square, excess: (laplacian + square) / 2),
        "half the defect": instead(lambda laplacian, square, excess: (laplacian + square + excess) / 2),
        "sign": instead(lambda laplacian, square, excess: (laplacian + square) / 2 - excess),
        "half forgotten": returns(lambda rate, *_: 2 * rate),
    },
)
def smoothing_the_equation_of_the_logarithm(predict: Any = gradient_flow.led_log_rate, *, generator: torch.Generator) -> Numbers:
    """For a kernel of three atoms: the mean of `(Lap log p + |s|^2)/2` over them, in two dimensions, with free derivatives at each."""
    import sympy

    weights = sympy.symbols("w1 w2", positive=True)
    weights = (*weights, 1 - sum(weights))
    laplacians, first, second = sympy.symbols("a1:4"), sympy.symbols("b1:4"), sympy.symbols("c1:4")

    def mean(values: Any) -> Any:
        return sum(w * v for w, v in zip(weights, values, strict=True))

    squares = [b**2 + c**2 for b, c in zip(first, second, strict=True)]
    square_of_mean = mean(first) ** 2 + mean(second) ** 2
    expected = mean([(a + b) / 2 for a, b in zip(laplacians, squares, strict=True)])
    remainder = sympy.expand(expected - predict(mean(laplacians), square_of_mean, (mean(squares) - square_of_mean) / 2))
    require(remainder == 0, f"smoothed equation - prediction = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "flow.defect",
    by="quadrature",
    mutants={
        "half forgotten": returns(lambda value, *_: 2 * value),
        "zero": returns(lambda value, *_: 0 * value),
        "mean square": instead(lambda m, x, t: (m.base.score(x, t) ** 2).sum(-1) / 2),
        "off by 1e-5": returns(lambda value, *_: value * (1 + 1e-5)),
        "at t + h": instead(lambda m, x, t: gradient_flow.defect(m, x, t + float(m.kernel.bandwidth))),
    },
)
def what_the_heat_flow_leaves_over(predict: Any = gradient_flow.defect, *, generator: torch.Generator) -> Numbers:
    """The package's variance against `d_t f - (f'' + f'^2)/2` of `f = G_h * log p_t` for the data `{-1, 1}`, by complex steps."""
    worst, step = 0.0, 1e-30
    places = np.array([-1.7, -0.4, 0.0, 0.3, 1.0, 2.5])
    for t, h in ((0.3, 0.2), (1.0, 0.1), (0.5, 1.0)):
        rate = smoothed(lambda y, t=t: log_density_of_two(y, t + 1j * step).imag / step, places, h)
        slope = smoothed(lambda y, t=t: score_of_two(y, t), places, h)
        curvature = smoothed(lambda y, t=t: score_of_two(y, t), places + 1j * step, h).imag / step
        expected = rate - (curvature + slope**2) / 2
        mollified = Mollified(Empirical([[-1.0], [1.0]]), GaussianKernel(h))
        got = predict(mollified, torch.from_numpy(places)[:, None], t)
        # Both averages have the package's default accuracy of 1e-7, relative to the mean square.
        allowed = 3e-7 * smoothed(lambda y, t=t: score_of_two(y, t) ** 2, places, h)
        worst = max(worst, agree(f"defect at t = {t}, h = {h}", got, expected, allowed))
    return {"worst error/allowance": worst}


claim(
    "mollified.not_generated",
    title="Reverse diffusion with a mollified score generates the LED-KDE",
    statement=r"""At every $t$ the mollified score is the score of the LED-KDE $q_t$, which invites the conclusion that the reverse SDE
started from $q_T$ and driven by $\tilde s$ ends in $q_{t_{\min}}$. It does not. It would, if $\tilde s$ solved Burgers' equation, as the
score of a diffused law does ({claim}`heat.burgers`). Instead

$$\partial_t \tilde s = \tfrac12\Delta\tilde s + (\nabla\tilde s)\,\tilde s + \tfrac12\nabla\, \mathrm{Var}_V\, s_t(x + V), \qquad
\mathrm{Var}_V\, s = \mathbb E\,|s|^2 - |\mathbb E s|^2 ,$$

and the last term does not vanish: for the data $\pm 1$, $t = 0.3$, $h = 0.2$ it exceeds $\tfrac12$ in size at $x = 0.3$.""",
    source="derived here",
    regime=r"""Every law and kernel $K \ge 0$ that does not depend on $t$. The term vanishes where the score is affine on the reach of the
kernel: for Gaussian laws always.""",
    uses=("mollified.led_kde", "heat.burgers"),
    chapter="mollified",
    verdict="refuted as stated",
)


@check(
    "mollified.not_generated",
    by="counterexample",
    mutants={
        "always zero": returns(lambda residual, *_: 0 * residual),
        "half forgotten": returns(lambda residual, *_: 2 * residual),
        "sign": returns(lambda residual, *_: -residual),
        "not smoothed": instead(lambda mollified, x, t: heat.burgers_residual(mollified.base, x, t)),
        "off by 1e-5": returns(lambda residual, *_: (1 + 1e-5) * residual),
    },
)
def residual_is_the_gradient_of_a_variance(predict: Any = heat.burgers_residual, *, generator: torch.Generator) -> Numbers:
    """Residual of the smoothed score of the data `{-1, 1}` against `d/dx` of half the variance of the score, by a complex step."""
    t, h, accuracy = 0.3, 0.2, 1e-9

    def score(y: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        # Written out: ten times cheaper to differentiate three times than sums over data.
        return (torch.tanh(y / u[:, None]) - y) / u[:, None]

    places = np.array([-0.8, 0.3])
    x = places + 1e-30j
    half_variance = (smoothed(lambda y: score_of_two(y, t) ** 2, x, h) - smoothed(lambda y: score_of_two(y, t), x, h) ** 2) / 2
    got = predict(Mollified(score, GaussianKernel(h), accuracy=accuracy), torch.from_numpy(places)[:, None], t)[:, 0]
    # The error of the average, at most `accuracy` of the size of the score, is analytic up to the poles at a distance pi t/2. By
    # Cauchy's inequality on half of that a derivative costs a factor 1/radius; a derivative in t costs no more than two in x.
    size, radius = 2 / t, math.pi * t / 4
    agree(f"residual at t = {t}, h = {h}", got, half_variance.imag / 1e-30, accuracy * size * (4 / radius**2 + 2 * size / radius))
    require(abs(float(got[1])) > 0.5, f"residual {float(got[1]):.4g} at x = 0.3")
    return {f"at x = 0.3, t = {t}": float(got[1])}


# --- Energy ---------------------------------------------------------------------------------------------------------------

claim(
    "flow.dissipation",
    title="How fast the samples approach the LED-KDE, and what holds them off",
    statement=r"""Let $q$ be the law of the reverse SDE driven by $\tilde s_t = \nabla\log\pi_t$, with $\pi_t$ the LED-KDE and $r_t$ its
defect. Then

$$\frac{d}{d\tau}\,\mathrm{KL}(q\,\|\,\pi) = -\tfrac12\,\mathbb E_q\left|\nabla\log\frac q\pi\right|^2 + \mathbb E_q\, r - \mathbb
E_\pi\, r .$$

With a score that is not smoothed the last two terms are absent, and $\mathrm{KL}(q\,\|\,p_t)$ can only fall.""",
    source="derived here; without the defect it is de Bruijn's identity for two solutions of one Fokker-Planck equation",
    regime=r"""Every law, kernel $K \ge 0$ independent of $t$; $q$ smooth and positive with $\mathrm{KL} < \infty$ and tails light enough
for the boundary terms to vanish. The mean of $r$ under $q$ may exceed that under $\pi$, and KL may grow, also from 0.""",
    uses=("flow.defect", "mollified.gradient_flow"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "flow.dissipation",
    by="proof",
    mutants={
        "half forgotten": instead(lambda fisher, under_q, under_pi: -fisher + under_q - under_pi),
        "target at rest": instead(lambda fisher, under_q, under_pi: -fisher / 2),
        "means exchanged": instead(lambda fisher, under_q, under_pi: -fisher / 2 - under_q + under_pi),
        "grows": returns(lambda rate, *_: -rate),
    },
)
def up_to_a_divergence(predict: Any = gradient_flow.kl_rate, *, generator: torch.Generator) -> Numbers:
    """For any q, pi, r: `d_tau (q log q/pi)` minus the prediction, whose arguments are densities here, is an explicit divergence."""
    import sympy

    x = sympy.symbols("x1 x2", real=True)
    q, u, r = sympy.Function("q", positive=True)(*x), sympy.Function("u")(*x), sympy.Function("r")(*x)
    mean = sympy.Symbol("c", real=True)  # E_pi r

    def gradient(f: Any) -> list[Any]:
        return [sympy.diff(f, a) for a in x]

    def divergence(field: list[Any]) -> Any:
        return sum(sympy.diff(f, a) for f, a in zip(field, x, strict=True))

    log_ratio, slope = sympy.log(q) - u, gradient(u)
    velocity = [s - g / (2 * q) for s, g in zip(slope, gradient(q), strict=True)]
    rate_of_q = -divergence([q * v for v in velocity])
    rate_of_u = -((divergence(slope) + sum(s**2 for s in slope)) / 2 + r - mean)  # flow.defect
    rate = rate_of_q * (log_ratio + 1) - q * rate_of_u
    flux = [-q * v * (log_ratio + 1) + q * s / 2 for v, s in zip(velocity, slope, strict=True)]
    fisher = q * sum(g**2 for g in gradient(log_ratio))
    remainder = sympy.expand(rate - divergence(flux) - predict(fisher, q * r, q * mean))
    require(remainder == 0, f"rate - prediction is not that divergence, but {remainder} more")
    return {"remainder": str(remainder)}


@check(
    "flow.dissipation",
    by="quadrature",
    mutants={
        "target at rest": instead(lambda fisher, under_q, under_pi: -fisher / 2),
        "off by 1e-6": returns(lambda rate, *_: rate * (1 + 1e-6)),
        "half forgotten": instead(lambda fisher, under_q, under_pi: -fisher + under_q - under_pi),
    },
)
def rate_from_its_definition(predict: Any = gradient_flow.kl_rate, *, generator: torch.Generator) -> Numbers:
    """Data `{-1, 1}`, q normal: the derivative of `KL(q || pi)` from both rates, the target's by a complex step in t."""
    numbers = {}
    x = np.linspace(-8, 9, 681)
    cell, step = x[1] - x[0], 1e-30
    for t, h, mean, variance in ((0.3, 0.2, 0.4, 0.8), (0.5, 0.5, 0.0, 0.3)):
        log_q = -((x - mean) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2
        q, score_q = np.exp(log_q), (mean - x) / variance
        f = smoothed(lambda y, t=t: log_density_of_two(y, t), x, h)
        rate_f = smoothed(lambda y, t=t: log_density_of_two(y, t + 1j * step).imag / step, x, h)
        s, square = (smoothed(lambda y, n=n, t=t: score_of_two(y, t) ** n, x, h) for n in (1, 2))
        slope = smoothed(lambda y, t=t: score_of_two(y, t), x + 1j * step, h).imag / step
        pi = np.exp(f - f.max()) / (np.exp(f - f.max()).sum() * cell)
        # d_tau q = (1/2) q'' - (q s~)', and d_tau log pi = -d_t f + E_pi d_t f.
        rate_q = q * ((score_q**2 - 1 / variance) / 2 - score_q * s - slope)
        expected = float((rate_q * (log_q - f) + q * rate_f).sum() * cell - (pi * rate_f).sum() * cell)
        means = [float((weight * (square - s**2) / 2).sum() * cell) for weight in (q, pi)]
        got = predict(float((q * (score_q - s) ** 2).sum() * cell), *means)
        agree(f"d KL/dtau, t = {t}, h = {h}", got, expected, 1e-10 * abs(expected) + 1e-10)
        numbers[f"d KL/dtau, t = {t}, q = N({mean}, {variance})"] = expected
    return numbers
