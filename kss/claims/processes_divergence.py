"""Chapter "Other processes": path divergence and critical number of data in a process's own units."""

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy import special

from kss.claims.processes import CHAPTER, DEFINITIONS, SETTING, Moments, moments
from kss.claims.processes_noise import PAPER, time_and_scale
from kss.claims.registry import check, claim, instead, returns
from kss.scores import EDM, LogSNR, OrnsteinUhlenbeck, VariancePreserving, coefficients
from kss.testing.compare import agree
from kss.theory import processes
from kss.theory.kl import regimes

Numbers = dict[str, Any]


claim(
    "process.girsanov",
    title="The path divergence is the same in every process",
    statement=r"""$\mathrm{KL}$ does not change under $Y = aX$, and for two scores with $q_c(y) = s_t(y/a)/a$

$$\frac12\int g(c)^2\,\mathbb E\left|q_c - \tilde q_c\right|^2dc = \frac12\int \mathbb E\left|s_t - \tilde s_t\right|^2dt .$$

So the bound {claim}`kl.girsanov`, its equality for empirical scores and the critical number of data are statements about the score, not
about the process.""",
    source="Girsanov; the change of variables derived here",
    regime=SETTING + r". Any two scores; labels from $c_{\min} > 0$ to $c_{\max}$ and the variances that belong to them.",
    uses=("process.coefficients", "kl.girsanov", "kl.de_bruijn"),
    chapter=CHAPTER,
    verdict="holds",
)


def normal_divergence(v: float, other: float, mean: float, at: Moments) -> float:
    """KL of `N(0, v)` from `N(mean, other)`, both seen in the process."""
    first, second = at.scale**2 * v + at.variance, at.scale**2 * other + at.variance
    return 0.5 * (first / second - 1 - math.log(first / second) + (at.scale * mean) ** 2 / second)


@check(
    "process.girsanov",
    by="quadrature",
    lane="full",
    mutants={
        "off by 1e-10": returns(lambda rate, *_: rate * (1 + 1e-10)),
        "1/2 forgotten": returns(lambda rate, *_: 2 * rate),
        "g for its square": instead(lambda gap, c, schedule: gap * coefficients(schedule, c).noise.sqrt() / 2),
        "dt for g^2 dc": returns(lambda rate, gap, c, schedule: rate / time_and_scale(schedule, torch.as_tensor(c).double())[1] ** 2),
        "no g": instead(lambda gap, c, schedule: gap / 2),
    },
)
def two_normal_laws(predict: Any = processes.girsanov_rate, *, generator: torch.Generator) -> Numbers:
    """Both laws follow the process, so the integral is the difference of two divergences, in closed form; Gauss-Legendre in log c."""
    node, weight = np.polynomial.legendre.leggauss(40)
    worst = 0.0
    for (name, v, other, mean), ends in itertools.product(
        [
            ("OU", 1.0, 0.3, 0.5),
            ("OU, rate 0.3", 2.0, 3.0, 1.0),
            ("VE", 1.0, 2.0, -1.0),
            ("VP", 0.5, 1.0, 0.3),
            ("VP, 999 tau", 1.0, 0.2, 2.0),
        ],
        ((0.02, 0.5), (0.1, 0.3)),
    ):
        unit = 999.0 if name == "VP, 999 tau" else 1.0
        low, high = (math.log(unit * c) for c in ends)
        labels = np.exp((low + high) / 2 + (high - low) / 2 * node)
        total = 0.0
        for c, w in zip(labels.tolist(), weight.tolist(), strict=True):
            at = moments(name, c)
            first, second = at.scale**2 * v + at.variance, at.scale**2 * other + at.variance
            gap = first * (1 / second - 1 / first) ** 2 + (at.scale * mean / second) ** 2
            total += (high - low) / 2 * w * c * float(predict(gap, c, DEFINITIONS[name].schedule))
        expected = normal_divergence(v, other, mean, moments(name, math.exp(low)))
        expected -= normal_divergence(v, other, mean, moments(name, math.exp(high)))
        worst = max(worst, agree(f"{name} from {ends[0]} to {ends[1]}", total, expected, 1e-12 * expected))
    return {"worst error/allowance": worst}


claim(
    "process.critical_size",
    title="The critical number of data, label by label",
    statement=r"""$N_c$ at a label is $N_c(t)$: without smoothing, to leading order of the delta method,

$$N_c = \frac{\mathrm{vol}(M)}2 (4\pi t)^{-k/2} = \frac{\mathrm{vol}(aM)}2\,(4\pi\sigma^2)^{-k/2} .$$

So a power $t^{-\alpha}$ is $s^{-\alpha}$ and $\tau^{-\alpha}$ at small times, $\sigma^{-2\alpha}$ in EDM, $e^{\alpha\lambda}$ in the
log-SNR; with $\alpha = k/2$ for the raw score.""",
    source=f"{PAPER} (the exponent); after the change of time",
    regime=r"""Uniform law on a closed manifold, $t \ll R^2$; $N_c$ is where the delta method's divergence is 1. It is not small there,
and the exact number of data has the same power of $t$ with another constant, about three times this one on a curve: `formula="raw"`.
The exponents hold for the other formulas of `critical_sample_size` as well, which are functions of $t$.""",
    uses=("process.girsanov", "kl.delta_method", "regimes.raw_collapse"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


def chi_square_information(radius: float, variance: float) -> float:
    """`E int psi(y|X)^2/p(y) dy` for the uniform circle, a trapezoidal rule around one X: 1 + the bracket."""
    step = np.linspace(-9, 9, 241) * math.sqrt(variance / 2)
    u, v = np.meshgrid(radius + step, step, indexing="ij")
    r = np.hypot(u, v)
    log_psi = -((u - radius) ** 2 + v**2) / (2 * variance) - math.log(2 * math.pi * variance)
    log_p = -((r - radius) ** 2) / (2 * variance) + np.log(special.ive(0, r * radius / variance)) - math.log(2 * math.pi * variance)
    return float(np.exp(2 * log_psi - log_p).sum() * (step[1] - step[0]) ** 2)


@check(
    "process.critical_size",
    by="quadrature",
    lane="full",
    mutants={
        "off by 1 %": returns(lambda n, *_, **__: 1.01 * n),
        "sigma^2 for t": returns(lambda n, c, *, schedule, k, **__: n * float(time_and_scale(schedule, c)[1]) ** -k),
        "volume shrunk, noise not": returns(lambda n, c, *, schedule, k, **__: n * float(time_and_scale(schedule, c)[1]) ** k),
        "label for t": instead(lambda c, *, schedule, **given: regimes.critical_sample_size(abs(c), **given)),
        "1/2 forgotten": returns(lambda n, *_, **__: 2 * n),
        "level forgotten": returns(lambda n, *_, level=1.0, **__: n * level),
        "k of a curve": returns(
            lambda n, c, *, schedule, k, **__: n * (4 * math.pi * float(time_and_scale(schedule, c)[0])) ** ((k - 1) / 2)
        ),
    },
)
def information_of_shrunken_tori(predict: Any = processes.critical_sample_size, *, generator: torch.Generator) -> Numbers:
    """Half of the chi-square information in `Y`, computed in the process, is N_c up to O(t/R^2); and the powers of the labels.

    On a product of k circles the information is a product, and the relative errors add up.
    """
    worst = 0.0
    # A process that shrinks much in little noise, so that a shows.
    fast = OrnsteinUhlenbeck(50.0, 0.4)
    for radius, (schedule, label, at) in itertools.product(
        (1.0, 2.5),
        [
            (fast, 0.01, Moments(math.exp(-0.5), 0.004 * -math.expm1(-1.0))),
            (OrnsteinUhlenbeck(), 0.002, Moments(math.exp(-0.002), -math.expm1(-0.004))),
            (VariancePreserving(), 0.02, moments("VP", 0.02)),
            (EDM(), 0.05, Moments(1.0, 0.0025)),
            (LogSNR(), 5.0, Moments((1 + math.exp(-5)) ** -0.5, 1 / (1 + math.exp(5)))),
        ],
    ):
        information = chi_square_information(at.scale * radius, at.variance)
        close = at.variance / (at.scale * radius) ** 2
        for k, level in ((1, 1.0), (2, 1.0), (3, 0.2)):
            got = predict(label, schedule=schedule, k=k, volume=(2 * math.pi * radius) ** k, formula="delta", level=level)
            expected = information**k / (2 * level)
            worst = max(worst, agree(f"k = {k}, {schedule} at {label}", got, expected, k * (0.2 * close + 1e-9) * expected))
    for schedule, (c, other), power in (
        (OrnsteinUhlenbeck(), (1e-7, 1e-6), 1.0),
        (VariancePreserving(), (1e-8, 1e-7), 1.0),
        (EDM(), (1e-4, 1e-3), 2.0),
    ):
        for k, formula in ((1, "raw"), (2, "delta"), (1, "sawtooth")):
            first, second = (
                predict(label, schedule=schedule, k=k, volume=4.0, formula=formula, **({"curvature_square": 1.0} if k == 1 else {}))
                for label in (c, other)
            )
            slope, expected = math.log10(first / second), power * {"raw": 0.5, "delta": 1.0, "sawtooth": 0.35}[formula]
            agree(f"exponent, {formula} on {schedule}", slope, expected, 0.012 * power if formula == "sawtooth" else 1e-5)
    return {"worst error/allowance": worst}
