"""Chapter "Collapse and speciation", third part: two clusters, and the clock of Ornstein and Uhlenbeck."""

import math
from typing import Any

import torch
from scipy import integrate, optimize

from kss.claims.collapse import CHAPTER, PAPER, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.scores import OrnsteinUhlenbeck
from kss.testing.compare import agree, require
from kss.theory.collapse import condensation, speciation

CLUSTERS = r"""Two equally likely normal clusters $\mathcal N(\pm m, v I_d)$, the exact score of their law; clones of a draw of $p_t$."""

claim(
    "collapse.speciation",
    title="Whether clones end in the same cluster depends on one number",
    statement=r"""Two clones end in the same one of two clusters $\mathcal N(\pm m, vI_d)$ with probability

$$\phi(a) = \mathbb E\left[\rho^2 + (1 - \rho)^2\right] = \mathbb E\,\rho, \qquad
\rho = \operatorname{sigmoid}\bigl(2(a + \sqrt a\,Z)\bigr), \qquad a = \frac{|m|^2}{v + t},$$

whatever $d$; $\phi(1) = 0.7752$. At $t_S = \lambda_{\max} = |m|^2 + v$ the signal is
$a = |m|^2/(|m|^2 + 2v)$, which tends to 1 for well separated clusters.""",
    source="speciation at the largest eigenvalue of the covariance: " + PAPER + "; the formula and the constant derived here",
    regime=CLUSTERS + " All $d$, $m$, $v \\ge 0$, $t > 0$.",
    uses=("heat.reversal_sde",),
    chapter=CHAPTER,
    verdict="holds",
)


def _same_cluster(m: float, v: float, t: float) -> float:
    """From densities: `int (p_+^2 + p_-^2)/(p_+ + p_-)/2 dx` along m, all other directions being alike."""
    s = v + t

    def integrand(x: float) -> float:
        plus, minus = (-((x - sign * m) ** 2) / (2 * s) for sign in (1, -1))
        top = max(plus, minus)
        a, b = math.exp(plus - top), math.exp(minus - top)
        return math.exp(top) * (a * a + b * b) / (a + b) / 2 / math.sqrt(2 * math.pi * s)

    reach = m + 12 * math.sqrt(s)
    return float(integrate.quad(integrand, -reach, reach, points=[-m, 0.0, m], limit=400, epsabs=1e-13, epsrel=1e-12)[0])


@check(
    "collapse.speciation",
    by="quadrature",
    mutants={
        "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8)),
        "without the 2": instead(lambda m, v, t: speciation.cluster_agreement(speciation.cluster_signal(m, v, t) / 2)),
        "distance of the centers": instead(lambda m, v, t: speciation.cluster_clone_probability(2 * m, v, t)),
        "standard deviation": instead(lambda m, v, t: speciation.cluster_clone_probability(m, v**0.5, t**0.5)),
        "noise alone": instead(lambda m, v, t: speciation.cluster_clone_probability(m, 0.0, t)),
        "typical point": instead(lambda m, v, t: (1 + math.tanh(m * m / (v + t)) ** 2) / 2),
    },
)
def integral_of_densities(predict: Any = speciation.cluster_clone_probability, *, generator: torch.Generator) -> Numbers:
    """Against an integral of the two densities along m; and 0.7752 where the signal is 1, for 64 and 16384 dimensions."""
    worst = 0.0
    cases = [(1.0, 1.0, 1e-3), (1.0, 0.0, 1.0), (3.0, 0.5, 4.0), (3.0, 2.0, 30.0), (8.0, 1.0, 63.0), (128.0, 1.0, 16383.0)]
    for m, v, t in (*cases, (20.0, 4.0, 20.0)):
        worst = max(worst, agree(f"|m| = {m}, v = {v}, t = {t}", float(predict(m, v, t)), _same_cluster(m, v, t), 1e-10))
        signal = m * m / (m * m + 2 * v)  # at the speciation time
        worst = max(worst, agree("at t_S", float(predict(m, v, m * m + v)), _same_cluster(1.0, 0.0, 1 / signal), 1e-10))
    for d in (64, 1024, 16384):
        agree(f"constant, d = {d}", float(predict(math.sqrt(d), 1.0, d - 1.0)), 0.7752, 5e-5)
    return {"constant": float(predict(1.0, 0.0, 1.0)), "worst error/allowance": worst}


@check(
    "collapse.speciation",
    by="property",
    mutants={
        "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8)),
        "trace": instead(lambda covariance: torch.as_tensor(covariance).trace()),
        "largest entry": instead(lambda covariance: torch.as_tensor(covariance).max()),
        "standard deviation": returns(lambda value, *_: value**0.5),
    },
)
def largest_eigenvalue(predict: Any = speciation.speciation_time, *, generator: torch.Generator) -> Numbers:
    """The covariance `v I + m m^T` of two clusters in 2 to 40 dimensions: the largest of `u.S u` over directions u is at `m/|m|`."""
    worst = 0.0
    for d, v in ((2, 1.0), (5, 0.0), (40, 3.0)):
        m = torch.randn(d, dtype=torch.float64, generator=generator)
        covariance = v * torch.eye(d, dtype=torch.float64) + torch.outer(m, m)
        u = m / m.norm()
        expected = float(u @ covariance @ u)
        worst = max(worst, agree(f"d = {d}", float(predict(covariance)), expected, 1e-12 * expected))
    return {"worst error/allowance": worst}


claim(
    "collapse.speciation_steepens",
    title="Speciation becomes sharp in high dimension",
    statement=r"""For two clusters with $|m|^2 = d$ and $v = 1$ the probability that clones agree, drawn against $t/t_S$, becomes a
step as $d \to \infty$.""",
    source="a tempting reading of curves drawn in Ornstein-Uhlenbeck time; settled here",
    regime=r"""In the noise variance it tends to a fixed smooth curve, $\phi(t_S/t)$. Here $t_S = |m|^2 - v$, where $a = 1$
exactly (it is $2v$ below $\lambda_{\max}$, which does not matter as $d \to \infty$); the difference is at most
$1/(2d)$ for $t \ge t_S/4$. A step appears in the time $s = \frac12\log(1 + t)$ of an Ornstein-Uhlenbeck process: there
$a = d^{1 - s/s_S}$, and the slope at $s_S = \frac12\log d$ is $-\phi'(1)\log d$ with $\phi'(1) = 0.1583$. A
logarithm of time makes any crossover sharp that is not.""",
    uses=("collapse.speciation",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "collapse.speciation_steepens",
    by="counterexample",
    mutants={
        "off by 0.5 %": returns(lambda value, *_: 1.005 * value),
        "a step": returns(lambda value, m, v, t: torch.where(torch.as_tensor(m * m / (v + t)) > 1, 1.0, 0.5).double()),
        "sharper with d": instead(
            lambda m, v, t: speciation.cluster_agreement(speciation.cluster_signal(m, v, t) ** (math.log(m * m) / 4))
        ),
        "distance of the centers": instead(lambda m, v, t: speciation.cluster_clone_probability(2 * m, v, t)),
    },
)
def one_curve_for_all_dimensions(predict: Any = speciation.cluster_clone_probability, *, generator: torch.Generator) -> Numbers:
    """`d` from 16 to 1e8: distance to the limiting curve, from densities, below 1/(2d); and the slope in the other clock."""
    worst, numbers = 0.0, Numbers()
    for ratio in (0.25, 0.5, 1.0, 2.0, 8.0):
        limit = _same_cluster(1.0, 0.0, ratio)
        for d in (16.0, 256.0, 1e4, 1e8):
            got = float(predict(math.sqrt(d), 1.0, ratio * (d - 1)))
            worst = max(worst, agree(f"d = {d:g}, t = {ratio} t_S", got, limit, 1 / (2 * d) + 1e-9))
    slope_in_a = (_same_cluster(1.0, 0.0, 1 / 1.001) - _same_cluster(1.0, 0.0, 1 / 0.999)) / 0.002
    agree("phi'(1)", slope_in_a, 0.1583, 6e-5)
    for d in (16.0, 256.0, 1e8):
        up, down = (float(predict(math.sqrt(d), 1.0, math.expm1(r * math.log(d)))) for r in (1.001, 0.999))
        slope = (up - down) / 0.002
        agree(f"slope in the other clock, d = {d:g}", slope, -slope_in_a * math.log(d), 1e-3 * math.log(d))
        numbers[f"slope at s/s_S = 1, d = {d:g}"] = slope
    return numbers | {"worst error/allowance": worst, "phi'(1)": slope_in_a}


claim(
    "collapse.ou",
    title="The collapse time of Ornstein and Uhlenbeck's process is the same number",
    statement=r"""For $dX = -X\,ds + \sqrt2\,dB$, $e^sX_s$ is $X_0$ with noise of variance $t = e^{2s} - 1$. So

$$s_C = \tfrac12\log\left(1 + \frac\lambda{N^{2/k} - 1}\right) = \tfrac12\log(1 + t_c)$$

exactly. Speciation at $s_S = \frac12\log\lambda_{\max}$ is $t = \lambda_{\max} - 1$: the same as $t_S = \lambda_{\max}$ up to 1,
that is for $\lambda_{\max} \gg 1$.""",
    source="speciation time: " + PAPER + "; the rest derived here",
    regime="Normal law for $s_C$; every law for the change of time.",
    uses=("collapse.condensation",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "collapse.ou",
    by="property",
    mutants={
        "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8)),
        "log(1 + t)": returns(lambda value, *_: 2 * value),
        "log t": instead(lambda process, t: t.log() / 2),
        "t itself": instead(lambda process, t: t),
    },
)
def solved_in_the_other_clock(predict: Any = OrnsteinUhlenbeck.label, *, generator: torch.Generator) -> Numbers:
    """`(k/2) log(1 + lambda e^{-2s}/(1 - e^{-2s})) = log N` solved for s as it stands; and the speciation time's `e^{2s} - 1`."""
    process, worst = OrnsteinUhlenbeck(), 0.0
    for k, variance, n in ((1, 1.0, 5), (4, 3.0, 1000), (20, 0.2, 8103), (2, 50.0, 3)):

        def excess(log_s: float) -> float:
            decay = math.exp(-2 * math.exp(log_s))
            return k / 2 * math.log1p(variance * decay / (1 - decay)) - math.log(n)  # noqa: B023 - used at once

        root = math.exp(optimize.brentq(excess, -25, 3, xtol=1e-13))
        got = float(predict(process, condensation.condensation_time([variance] * k, n)))
        worst = max(worst, agree(f"k = {k}, N = {n}", got, root, 1e-10 * root))
    for largest in (2.0, 17.0, 1e4):
        got = float(predict(process, torch.tensor(largest - 1, dtype=torch.float64)))
        worst = max(worst, agree("speciation", got, math.log(largest) / 2, 1e-13 * got))
        gap = float(process.time(got)) - largest
        require(abs(gap + 1) < 1e-9 * largest, f"speciation at {gap:.6g} from the largest eigenvalue, expected -1")
    return {"worst error/allowance": worst}
