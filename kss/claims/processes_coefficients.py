"""Chapter "Other processes": drift and noise from the clock, and the reversed processes."""

from collections.abc import Callable
from typing import Any

import torch

from kss.claims.processes import CHAPTER, DEFINITIONS, SETTING
from kss.claims.registry import check, claim, instead, returns
from kss.scores import Coefficients, coefficients
from kss.testing.compare import agree
from kss.theory import processes

Numbers = dict[str, Any]


claim(
    "process.coefficients",
    title="Drift and noise of a process, from its clock",
    statement=r"""$f = \frac{d\log a}{dc}$ and $g^2 = a^2\,\frac{dt}{dc}$. Reversed in time the process is
$dY = \left(g^2 q_c(Y) - f\,Y\right)dc' + g\,dB$ and its probability flow $dY = \left(\frac12 g^2 q_c(Y) - f\,Y\right)dc'$, $c'$ running
against $c$: the images under $Y = aX$ of $dX = s_t\,d\tau + dB$ and $dX = \frac12 s_t\,d\tau$.""",
    source="classical; Song et al., arXiv 2011.13456, equations 6 and 13, for the reversed forms",
    regime=SETTING + ".",
    uses=("process.change_of_time", "heat.reversal_sde", "heat.reversal_ode"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "process.coefficients",
    by="property",
    mutants={
        "off by 1e-9": returns(lambda found, *_: Coefficients(found.drift * (1 + 1e-9), found.noise * (1 + 1e-9))),
        "drift with the other sign": returns(lambda found, *_: Coefficients(-found.drift, found.noise)),
        "drift of the variance": returns(lambda found, *_: Coefficients(2 * found.drift, found.noise)),
        "dt/dc alone": instead(
            lambda schedule, c: Coefficients(
                coefficients(schedule, c).drift, coefficients(schedule, c).noise / schedule.scale(schedule.time(c)) ** 2
            )
        ),
        "g for its square": returns(lambda found, *_: Coefficients(found.drift, found.noise.sqrt())),
    },
)
def coefficients_by_definition(predict: Any = coefficients, *, generator: torch.Generator) -> Numbers:
    """Six processes against the coefficients that define them; a few exponentials are rounded on the way."""
    worst = 0.0
    for name, definition in DEFINITIONS.items():
        for label in definition.labels:
            found = predict(definition.schedule, torch.tensor(label, dtype=torch.float64))
            drift, noise = float(definition.drift(label)), float(definition.noise(label))
            worst = max(worst, agree(f"f of {name} at {label}", found.drift, drift, 1e-14 * abs(drift)))
            worst = max(worst, agree(f"g^2 of {name} at {label}", found.noise, noise, 1e-14 * noise))
    return {"worst error/allowance": worst}


def mixture_log_density(y: torch.Tensor, scale: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Of two normal pieces of variance 0.2 seen in a process, for y (n, 2), with scale and sigma^2 (n,)."""
    centers = torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
    total = (0.2 * scale**2 + variance).unsqueeze(-1)
    square = (y.unsqueeze(1) - scale[:, None, None] * centers).square().sum(-1)
    return torch.logsumexp(-square / (2 * total) - total.log(), -1)


CLOSED: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "OU": lambda c: ((-c).exp(), -torch.expm1(-2 * c)),
    "OU, rate 0.3": lambda c: ((-0.3 * c).exp(), -5 / 0.6 * torch.expm1(-0.6 * c)),
    "VE": lambda c: (torch.ones_like(c), c**2),
    "VP": lambda c: ((-(0.1 * c + 9.95 * c**2) / 2).exp(), -torch.expm1(-0.1 * c - 9.95 * c**2)),
}
"""A and sigma^2 in closed form, as functions that can be differentiated."""


def backward_residual(drift: Any, noisy: bool, generator: torch.Generator) -> float:
    """The largest error of the Fokker-Planck equation, run backward: `d_c log p = div b + b.q - (1/2) g^2 (div q + |q|^2)`.

    The last term only if the dynamics are `noisy`. In units of the sizes of the terms; derivatives by automatic differentiation.
    """
    worst = 0.0
    for name, closed in CLOSED.items():
        for label in DEFINITIONS[name].labels[1:]:
            c = torch.full((8,), label, dtype=torch.float64, requires_grad=True)
            scale, variance = closed(c)
            y = 3 * torch.randn(8, 2, dtype=torch.float64, generator=generator) * (scale**2 + variance).detach().sqrt()[:, None]
            y.requires_grad_()
            log_p = mixture_log_density(y, scale, variance)
            (score,) = torch.autograd.grad(log_p.sum(), y, create_graph=True)
            (rate,) = torch.autograd.grad(log_p.sum(), c, retain_graph=True)
            f, g2 = DEFINITIONS[name].drift(c.detach()).unsqueeze(-1), DEFINITIONS[name].noise(c.detach()).unsqueeze(-1)
            velocity = drift(y, score, Coefficients(f, g2))
            parts = [rate, -_divergence(velocity, y), -(velocity * score).sum(-1)]
            if noisy:
                parts += [g2.squeeze(-1) / 2 * part for part in (_divergence(score, y), score.square().sum(-1))]
            terms = torch.stack([part.detach() for part in parts])
            worst = max(worst, float((terms.sum(0).abs() / terms.abs().sum(0)).max()))
    return worst


def _divergence(field: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return sum((torch.autograd.grad(field[:, i].sum(), y, retain_graph=True)[0][:, i] for i in range(2)), torch.zeros(len(y)))


REVERSED = {
    "off by 1e-9": returns(lambda drift, *_: drift * (1 + 1e-9)),
    "f with the other sign": returns(lambda drift, y, score, at: drift + 2 * at.drift * y),
    "f halved as well": returns(lambda drift, y, score, at: drift + at.drift * y / 2),
    "g for its square": returns(lambda drift, y, score, at: drift + (at.noise.sqrt() - at.noise) * score),
    "no drift of the process": instead(lambda y, score, at: at.noise * score),
}


@check(
    "process.coefficients",
    by="property",
    mutants=REVERSED | {"the flow's": instead(processes.probability_flow_drift)},
)
def reversed_process(predict: Any = processes.reverse_sde_drift, *, generator: torch.Generator) -> Numbers:
    """The densities of four processes solve the Fokker-Planck equation of the reversed one; rounding is amplified by a hundred at most."""
    return {"residual/allowed": agree("Fokker-Planck, reversed", backward_residual(predict, True, generator), 0.0, 1e-12)}


@check(
    "process.coefficients",
    by="property",
    lane="full",
    mutants=REVERSED | {"the SDE's": instead(processes.reverse_sde_drift)},
)
def probability_flow(predict: Any = processes.probability_flow_drift, *, generator: torch.Generator) -> Numbers:
    """They solve the continuity equation of the flow, too."""
    return {"residual/allowed": agree("continuity", backward_residual(predict, False, generator), 0.0, 1e-12)}
