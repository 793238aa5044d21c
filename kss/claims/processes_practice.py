"""Chapter "Other processes": networks and schedules of other conventions."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import optimize

from kss.claims.processes import CHAPTER, DATA, DEFINITIONS, MIXTURE, Moments, moments, places, seen_directly
from kss.claims.registry import check, claim, instead, returns
from kss.scores import (
    EDM,
    AlphaBar,
    BrownianMotion,
    DiscreteVariancePreserving,
    LogSNR,
    OrnsteinUhlenbeck,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    convert,
    from_denoiser,
    to_denoiser,
)
from kss.testing.compare import agree
from kss.testing.properties import numpy_generator

Numbers = dict[str, Any]


claim(
    "process.round_trip",
    title="Into a network's convention and back, nothing is lost but rounding",
    statement=r"""Let $x = y/a$, $m = x + t\,s_t(x)$ and $\sigma = a\sqrt t$. A perfect network sees $Y = aX_0 + \sigma Z$ and returns

$$\mathbb E[X_0 \mid Y] = m, \quad \mathbb E[Z \mid Y] = -\sqrt t\,s_t, \quad q_c = \frac{s_t}a, \quad
\mathbb E[aZ - \sigma X_0 \mid Y] = -\sqrt t\left(ax + \frac{s_t}a\right), \quad
F = \frac{\sqrt t}{S}\left(\frac xr + r\,s_t\right),\ r = \sqrt{t + S^2},$$

according to its prediction: "x0", "eps", "score", "v", or "F" inside of EDM with $S = \sigma_{\text{data}}$. Going there and back
(`from_denoiser(to_denoiser(s))`) changes a score by rounding only.""",
    source="predictions: Ho et al. 2006.11239, Salimans and Ho 2202.00512, Karras et al. 2206.00364; the inverse derived here",
    regime=r"""Every score, all $t > 0$ in the range of the schedule; "v" where $a^2 + \sigma^2 = 1$. Rounding is that of $y$, the
label and the output: relative to the larger of $|s_t|$, $1/\sqrt t$ and (for "x0") $|x|/t$, and amplified as the score amplifies errors of
$x$ and $t$, by $1 + 1/t$ at most for data of unit size.""",
    uses=("process.change_of_time",),
    chapter=CHAPTER,
    verdict="holds",
)

PREDICTIONS: dict[str, tuple[Any, ...]] = {
    "OU": ("x0", "eps", "score", "v"),
    "OU, rate 0.3": ("x0", "eps", "score"),
    "VE": ("x0", "eps", "score"),
    "VP": ("x0", "eps", "score", "v"),
    "VP, 999 tau": ("x0", "eps", "score", "v"),
}


@check(
    "process.round_trip",
    by="property",
    mutants={
        "off by 1e-10": returns(lambda model, *_, **__: lambda y, c: model(y, c) * (1 + 1e-10)),
        "sign of eps": returns(lambda model, *_, prediction, **__: (lambda y, c: -model(y, c)) if prediction == "eps" else model),
        "score for eps": instead(
            lambda score, schedule, prediction: to_denoiser(
                score, schedule=schedule, prediction="score" if prediction == "eps" else prediction
            )
        ),
        "score in variance time": instead(
            lambda score, schedule, prediction: (
                (lambda y, c: score.score(y, schedule.time(c)))
                if prediction == "score"
                else to_denoiser(score, schedule=schedule, prediction=prediction)
            )
        ),
        "x0 times a": returns(
            lambda model, *_, schedule, prediction: (
                (lambda y, c: schedule.scale(schedule.time(c)).reshape(-1, 1) * model(y, c)) if prediction == "x0" else model
            )
        ),
    },
)
def predictions_by_definition(predict: Any = to_denoiser, *, generator: torch.Generator) -> Numbers:
    """Means of X_0, Z and a Z - sigma X_0 over the posterior of data, and F solved from Karras et al.'s D = c_skip x + c_out F."""
    worst = 0.0
    for name, predictions in PREDICTIONS.items():
        schedule = DEFINITIONS[name].schedule
        for label, prediction in itertools.product(DEFINITIONS[name].labels[1:], predictions):
            at = moments(name, label)
            y = places(DATA, at, generator)
            mean, sigma = seen_directly(DATA, y.numpy(), at).denoise, math.sqrt(at.variance)
            noise = (y.numpy() - at.scale * mean) / sigma
            expected = {"x0": mean, "eps": noise, "score": -noise / sigma, "v": at.scale * noise - sigma * mean}[prediction]
            got = predict(DATA, schedule=schedule, prediction=prediction)(y, torch.full((5,), label, dtype=torch.float64))
            unit = 1 / sigma if prediction == "score" else 1.0
            allowed = 2e-14 * unit * (1 + np.abs(y.numpy()).max()) * (1 + at.scale / sigma) ** 2
            worst = max(worst, agree(f"{prediction} of {name} at {label}", got, expected, allowed))
    for data, sigma in itertools.product((0.5, 2.0), (0.03, 0.4, 30.0)):
        x = places(DATA, Moments(1.0, sigma**2), generator)
        mean = seen_directly(DATA, x.numpy(), Moments(1.0, sigma**2)).denoise
        total = sigma**2 + data**2
        expected = (mean - data**2 / total * x.numpy()) * math.sqrt(total) / (sigma * data)
        model = predict(DATA, schedule=EDM(data), prediction="F")
        got = model(x / math.sqrt(total), torch.full((5,), math.log(sigma) / 4, dtype=torch.float64))
        worst = max(worst, agree(f"F with S = {data}, sigma = {sigma}", got, expected, 2e-14 * (1 + 1 / sigma) ** 2 * (1 + 1 / data)))
    return {"worst error/allowance": worst}


@check(
    "process.round_trip",
    by="property",
    mutants={
        "off by 1e-10": returns(lambda score, *_, **__: Scaled(score, 1 + 1e-10)),
        "sign": returns(lambda score, *_, **__: Scaled(score, -1.0)),
        "read as another prediction": instead(
            lambda model, schedule, prediction: from_denoiser(
                model, schedule=schedule, prediction="eps" if prediction == "score" else prediction
            )
        ),
        "read on another schedule": instead(
            lambda model, schedule, prediction: from_denoiser(
                model, schedule=EDM(0.5) if prediction == "F" else OrnsteinUhlenbeck(1.01, 2.02), prediction=prediction
            )
        ),
    },
)
def there_and_back(predict: Any = from_denoiser, *, generator: torch.Generator) -> Numbers:
    """Scores of a law, of data, and a function without a denoiser, seen by every prediction, come back; t over four decades."""
    worst, rng = 0.0, numpy_generator(generator)
    bare = lambda x, t: torch.sin(x) - x / (1 + torch.as_tensor(t).reshape(-1, 1))  # noqa: E731
    cases = [(DEFINITIONS[name].schedule, p) for name, ps in PREDICTIONS.items() for p in ps] + [(EDM(0.7), "F")]
    for (schedule, prediction), base in itertools.product(cases, (MIXTURE, DATA, bare)):
        back = predict(to_denoiser(base, schedule=schedule, prediction=prediction), schedule=schedule, prediction=prediction)
        t = torch.as_tensor(10.0 ** rng.uniform(-2, 1.8, 5).clip(max=0.75 if prediction == "v" else 2))
        t = t.clamp_max(5.0) if isinstance(schedule, VariancePreserving) else t
        x = MIXTURE.sample(5, generator) + t.sqrt().unsqueeze(-1) * torch.randn(5, 2, dtype=torch.float64, generator=generator)
        expected = base(x, t) if callable(base) else base.score(x, t)
        # The label is rounded, which moves t by 1e-15 or so of itself; x/a and (D - x)/t lose as many digits.
        allowed = 2e-14 * (expected.abs().amax(-1) + t**-0.5 + x.abs().amax(-1) / t).unsqueeze(-1) * (1 + 1 / t).unsqueeze(-1)
        worst = max(worst, agree(f"{prediction} on {schedule}", back.score(x, t), expected, allowed))
    return {"worst error/allowance": worst}


class Scaled(NamedTuple):
    """A score times a number, for mutants."""

    base: Any
    factor: float

    def score(self, x: Any, t: Any) -> Any:
        return self.factor * self.base.score(x, t)


# --- Schedules ------------------------------------------------------------------------------------------------------------

claim(
    "process.schedules",
    title="One noise level under seven names",
    statement=r"""With $\bar\alpha = a^2 = \frac1{1+t}$ in the variance preserving family, the noise level $t$ is called

$$\sigma = \sqrt t, \quad \bar\alpha = \frac1{1+t}, \quad \lambda = -\log t, \quad s = \tfrac12\log(1 + t), \quad
\tau: \beta_{\min}\tau + \tfrac12(\beta_{\max} - \beta_{\min})\tau^2 = \log(1 + t),$$

and step $k$ of a chain $Y_k = \sqrt{1 - \beta_k}\,Y_{k-1} + \sqrt{\beta_k}\,Z_k$ is
$t_k = \prod_{j \le k}(1 - \beta_j)^{-1} - 1$; between steps $\log(1 + t)$ is interpolated linearly. `convert` goes from each to each.""",
    source="""Song et al. 2011.13456 (tau); Ho et al. 2006.11239 (linear steps), Nichol and Dhariwal 2102.09672 (cosine steps); Karras et
al. 2206.00364 (sigma)""",
    regime=r"""Every $t > 0$ in the range of both schedules. Rounding only, but for $\bar\alpha$: where it is near 1, the $t$
it stands for is known to $10^{-16}/t$ of itself.""",
    uses=("process.change_of_time",),
    chapter=CHAPTER,
    verdict="holds",
)


class TimeInterpolated(DiscreteVariancePreserving):
    """Linear in t between the steps, for a mutant."""

    def time(self, label: Any) -> torch.Tensor:
        times = (1 - self.alphas_cumprod) / self.alphas_cumprod
        before = torch.as_tensor(label).floor().long().clamp_max(len(times) - 2)
        return times[before] + (torch.as_tensor(label) - before) * (times[before + 1] - times[before])


def ddpm_variances(betas: np.ndarray) -> np.ndarray:
    """`t_k = sigma_k^2/a_k^2` of the chain, by the recurrence of its moments: `a <- sqrt(1 - b) a`, `sigma^2 <- (1 - b) sigma^2 + b`."""
    scale, variance, found = 1.0, 0.0, []
    for beta in betas.tolist():
        scale, variance = math.sqrt(1 - beta) * scale, (1 - beta) * variance + beta
        found.append(variance / scale**2)
    return np.array(found)


@check(
    "process.schedules",
    by="property",
    mutants={
        "off by 1e-8": returns(lambda schedule, *_: DiscreteVariancePreserving(schedule.alphas_cumprod * (1 - 1e-8))),
        "alpha for its square": returns(lambda schedule, *_: DiscreteVariancePreserving(schedule.alphas_cumprod.sqrt())),
        "one step late": instead(
            lambda steps, first, last: DiscreteVariancePreserving(
                torch.cumprod(1 - torch.linspace(first, last, steps + 1, dtype=torch.float64), 0)[1:]
            )
        ),
        "geometric betas": instead(
            lambda steps, first, last: DiscreteVariancePreserving(
                torch.cumprod(1 - torch.logspace(math.log10(first), math.log10(last), steps, dtype=torch.float64), 0)
            )
        ),
        "t interpolated, not its logarithm": returns(lambda schedule, *_: TimeInterpolated(schedule.alphas_cumprod)),
    },
)
def linear_steps(predict: Any = DiscreteVariancePreserving.linear, *, generator: torch.Generator) -> Numbers:
    """By the chain's own moments, at the steps and half-way between. The first alpha is 1 - 1e-4: its rounding is 1e-12 of the first t."""
    worst = 0.0
    for steps, first, last in ((1000, 1e-4, 0.02), (50, 1e-3, 0.4), (2, 0.1, 0.2)):
        expected = ddpm_variances(first + (last - first) * np.arange(steps) / (steps - 1))
        schedule = predict(steps, first, last)
        got = schedule.time(torch.arange(steps, dtype=torch.float64))
        worst = max(worst, agree(f"{steps} steps", got, expected, 1e-11 * expected))
        between = np.sqrt((1 + expected[1:]) * (1 + expected[:-1])) - 1
        got = schedule.time(torch.arange(steps - 1, dtype=torch.float64) + 0.5)
        worst = max(worst, agree(f"between {steps} steps", got, between, 1e-11 * between))
    return {"alpha bar of step 999": 1 / (1 + ddpm_variances(1e-4 + 0.0199 * np.arange(1000) / 999)[-1]), "worst error/allowance": worst}


@check(
    "process.schedules",
    by="property",
    mutants={
        "off by 1e-8": returns(lambda schedule, *_: DiscreteVariancePreserving(schedule.alphas_cumprod * (1 - 1e-8))),
        "cosine, not squared": returns(lambda schedule, *_: DiscreteVariancePreserving(schedule.alphas_cumprod.sqrt())),
        "no offset": instead(lambda steps, offset, largest: DiscreteVariancePreserving.cosine(steps, 1e-12, largest)),
        "betas not cut": instead(lambda steps, offset, largest: DiscreteVariancePreserving.cosine(steps, offset, 1 - 1e-9)),
        "one step late": instead(
            lambda steps, offset, largest: DiscreteVariancePreserving(
                torch.cos((torch.arange(steps, dtype=torch.float64) + 1.5) / (steps + 1) / (1 + offset) * math.pi / 2) ** 2
            )
        ),
    },
)
def cosine_steps(predict: Any = DiscreteVariancePreserving.cosine, *, generator: torch.Generator) -> Numbers:
    """Up to the first beta that is cut the product telescopes, to `1 + t_k = cos^2(phi_0)/cos^2(phi_{k+1})`; then one factor at a time."""
    worst = 0.0
    for steps, offset, largest in ((1000, 0.008, 0.999), (100, 0.02, 0.9)):
        phi = (np.arange(steps + 1) / steps + offset) / (1 + offset) * math.pi / 2
        expected, level = [], 1.0
        for k in range(steps):
            ratio = (math.cos(phi[k + 1]) / math.cos(phi[k])) ** 2
            level = (math.cos(phi[k + 1]) / math.cos(phi[0])) ** 2 if ratio > 1 - largest else level * (1 - largest)
            expected.append(1 / level - 1)
        got = predict(steps, offset, largest).time(torch.arange(steps, dtype=torch.float64))
        # The cosine vanishes at the end of the last step, where the rounding of pi/2 counts; and early t are 1 - alpha bar.
        worst = max(worst, agree(f"{steps} steps", got, expected, 1e-10 * np.array(expected)))
    return {"worst error/allowance": worst}


def _rate_time(t: float) -> float:
    """The tau of the default variance preserving process, solved for."""
    return float(optimize.brentq(lambda tau: 0.1 * tau + 9.95 * tau**2 - math.log1p(t), 0, 1, xtol=1e-17, rtol=1e-15))


STEPS = DiscreteVariancePreserving(np.exp(-np.geomspace(5e-5, 9.0, 60)))


def _step(t: float) -> float:
    """The step of `STEPS`, a schedule with all noise levels of the check in its range."""
    return float(np.interp(math.log1p(t), -np.log(STEPS.alphas_cumprod.numpy()), np.arange(60.0)))


LABELS: dict[str, tuple[Schedule, Callable[[float], float]]] = {
    "t": (BrownianMotion(), lambda t: t),
    "sigma": (VarianceExploding(), math.sqrt),
    "alpha bar": (AlphaBar(), lambda t: 1 / (1 + t)),
    "log-SNR": (LogSNR(), lambda t: -math.log(t)),
    "OU": (OrnsteinUhlenbeck(), lambda t: 0.5 * math.log1p(t)),
    "OU, other rates": (OrnsteinUhlenbeck(0.2, 3.0), lambda t: 2.5 * math.log1p(0.4 * t / 3)),
    "OU, rate 0": (OrnsteinUhlenbeck(0.0, 3.0), lambda t: t / 3),
    "VP": (VariancePreserving(), _rate_time),
    "VP, 999 tau": (VariancePreserving(label_scale=999.0), lambda t: 999 * _rate_time(t)),
    "steps": (STEPS, _step),
}


@check(
    "process.schedules",
    by="property",
    mutants={
        "off by 1e-8": returns(lambda label, *_: label * (1 + 1e-8)),
        "backwards": instead(lambda label, source, target: convert(torch.as_tensor(label).abs().clamp(0.01, 0.5), target, source)),
        "sigma^2 of the process for t": instead(
            lambda label, source, target: target.label(source.time(label) * source.scale(source.time(label)) ** 2)
        ),
        "standard deviation for t": instead(lambda label, source, target: target.label(source.time(label).clamp(0.01, 40).sqrt())),
        "steps off by 1e-7": returns(lambda found, label, source, target: found * (1 + 1e-7 * (target is STEPS))),
    },
)
def every_name_to_every_other(predict: Any = convert, *, generator: torch.Generator) -> Numbers:
    """100 pairs at five noise levels, against the formulas; alpha bar keeps `1e-16 (1 + 1/t)` of t, and the label follows by its slope."""
    worst = 0.0
    for (first, (source, name)), (second, (target, other)) in itertools.product(LABELS.items(), LABELS.items()):
        for t in (1e-4, 0.03, 1.0, 40.0, 3000.0):
            got = predict(torch.tensor(name(t), dtype=torch.float64), source, target)
            loss = 1e-14 * (1 + (1 + 1 / t if first == "alpha bar" else 0) + abs(math.log(t)) + math.log1p(t))
            slope = abs(other(t * (1 + 1e-6)) - other(t * (1 - 1e-6))) / 2e-6
            worst = max(worst, agree(f"{first} to {second} at t = {t}", got, other(t), loss * slope + 4e-15 * abs(other(t))))
    return {"worst error/allowance": worst}
