"""Chapter "Other processes": the change of time and scale, and the way back."""

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Distribution, Empirical, GaussianMixture
from kss.kernels import GaussianKernel
from kss.scores import (
    BrownianMotion,
    InProcess,
    Mollified,
    OrnsteinUhlenbeck,
    Schedule,
    VarianceExploding,
    VariancePreserving,
)
from kss.testing.compare import agree
from kss.theory import processes

CHAPTER = "other_processes"
ROUNDING = 16 * torch.finfo(torch.float64).eps
SETTING = r"""$dY = f(c)\,Y\,dc + g(c)\,dB$ with $f$, $g$ continuous functions of the label $c$
alone, $g > 0$ for $c > 0$, started at $Y_0 = X_0$"""

Numbers = dict[str, Any]


class Definition(NamedTuple):
    """A process as it is defined: its coefficients, functions of the label."""

    schedule: Schedule
    drift: Callable[[Any], Any]
    noise: Callable[[Any], Any]
    labels: tuple[float, ...]


DEFINITIONS = {
    "Brownian motion": Definition(BrownianMotion(), lambda c: 0 * c, lambda c: 1 + 0 * c, (1e-6, 0.3, 40.0)),
    "OU": Definition(OrnsteinUhlenbeck(), lambda c: -1 + 0 * c, lambda c: 2 + 0 * c, (1e-6, 0.05, 0.7, 3.0)),
    "OU, rate 0.3": Definition(OrnsteinUhlenbeck(0.3, 5.0), lambda c: -0.3 + 0 * c, lambda c: 5 + 0 * c, (1e-4, 0.4, 9.0)),
    "VE": Definition(VarianceExploding(), lambda c: 0 * c, lambda c: 2 * c, (1e-3, 0.5, 20.0)),
    "VP": Definition(VariancePreserving(), lambda c: -(0.1 + 19.9 * c) / 2, lambda c: 0.1 + 19.9 * c, (1e-3, 0.2, 0.6)),
    "VP, 999 tau": Definition(
        VariancePreserving(2.0, 8.0, 999.0), lambda c: -(2 + 6 * c / 999) / 1998, lambda c: (2 + 6 * c / 999) / 999, (5.0, 300.0, 990.0)
    ),
}


class Moments(NamedTuple):
    """`Y_c` given `X_0` is `N(a X_0, sigma^2 I)`."""

    scale: float
    variance: float


@cache
def moments(name: str, label: float) -> Moments:
    """Both, by integrals: `a = exp(int f)`, and `sigma^2 = int (a(c)/a(u))^2 g(u)^2 du` solves `d(sigma^2)/dc = 2 f sigma^2 + g^2`.

    The integrands are polynomials and exponentials up to exp(6), for which 48 Gauss nodes leave rounding only.
    """
    definition = DEFINITIONS[name]
    node, weight = np.polynomial.legendre.leggauss(48)
    node, weight = (1 + node) / 2, weight / 2

    def log_growth(start: Any) -> Any:
        """`int_start^label f`."""
        step = np.asarray(label - start)[..., None]
        return (step * weight * definition.drift(label - step * node)).sum(-1)

    u = label * node
    variance = label * weight @ (np.exp(2 * log_growth(u)) * definition.noise(u))
    return Moments(float(np.exp(log_growth(0.0))), float(variance))


def normal_pieces(law: Distribution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of a law that is a sum of normal ones or of points."""
    if isinstance(law, Empirical):
        means = law.points.numpy()
        return np.full(len(means), 1 / len(means)), means, np.zeros((len(means), law.dim, law.dim))
    assert isinstance(law, GaussianMixture)
    return law.weights.numpy(), law.means.numpy(), law.covariances.numpy()


class Seen(NamedTuple):
    """What a process shows at a point y: from the joint normal law of `X_0` and `Y = a X_0 + sigma Z` in each piece."""

    log_density: np.ndarray
    score: np.ndarray
    denoise: np.ndarray
    covariance: np.ndarray


def seen_directly(law: Distribution, y: np.ndarray, at: Moments) -> Seen:
    """Density, score, mean and covariance of `X_0` given `Y = y` (n, d), without going to variance time."""
    weights, means, covariances = normal_pieces(law)
    logs, scores, clean, spreads = [], [], [], []
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        total = at.scale**2 * covariance + at.variance * np.eye(law.dim)
        inverse, offset = np.linalg.inv(total), y - at.scale * mean
        gain = at.scale * covariance @ inverse
        logs.append(np.log(weight) - 0.5 * (np.einsum("ni,ij,nj->n", offset, inverse, offset) + np.linalg.slogdet(2 * np.pi * total)[1]))
        scores.append(-offset @ inverse)
        clean.append(mean + offset @ gain.T)
        spreads.append(covariance - gain @ (at.scale * covariance))
    log_density = np.logaddexp.reduce(logs, axis=0)
    share = np.exp(np.array(logs) - log_density)
    mean = np.einsum("kn,kni->ni", share, clean)
    centered = np.array(clean) - mean
    covariance = np.einsum("kn,kij->nij", share, spreads) + np.einsum("kn,kni,knj->nij", share, centered, centered)
    return Seen(log_density, np.einsum("kn,kni->ni", share, scores), mean, covariance)


MIXTURE = GaussianMixture(means=[[-1.0, 0.5], [1.0, 0.0]], covariances=[[[0.1, 0.02], [0.02, 0.3]], [[0.2, 0.0], [0.0, 0.05]]])
DATA = Empirical([[-1.0, 0.5], [0.3, -0.8], [1.2, 0.1], [1.2, 0.4], [0.0, 2.0]])


def places(law: Distribution, at: Moments, generator: torch.Generator) -> torch.Tensor:
    """Five draws of `Y_c`."""
    z = torch.randn(5, law.dim, dtype=torch.float64, generator=generator)
    return at.scale * law.sample(5, generator) + math.sqrt(at.variance) * z


def allowance(expected: Seen, y: np.ndarray, at: Moments) -> np.ndarray:
    """For a score: 1e-12 of it, and what moving y by its rounding changes: the Jacobian is `(a^2 C/sigma^2 - I)/sigma^2`."""
    steep = (1 + at.scale**2 * np.trace(expected.covariance, axis1=-2, axis2=-1) / at.variance) / at.variance
    return (1e-12 * np.abs(expected.score).max(-1) + ROUNDING * (1 + np.abs(y).max()) * steep)[:, None]


claim(
    "process.change_of_time",
    title="Every linear diffusion is Brownian motion in another clock and another unit",
    statement=r"""Let $dY = f(c)\,Y\,dc + g(c)\,dB$, $a = \exp\int_0^c f$ and $t = \int_0^c (g/a)^2$. Then $Y_c = a X_t$ as
processes, and with $q_c = \nabla\log(\text{density of } Y_c)$

$$q_c(y) = \frac1a\,s_t(y/a), \qquad \mathbb E[X_0 \mid Y_c = y] = m_t(y/a), \qquad \operatorname{Cov}[X_0 \mid Y_c = y] = C_t(y/a),$$

and averaging over a kernel commutes with it if the kernel is scaled along: $G_H * q_c\,(y) = \frac1a\,(G_{H/a^2} * s_t)(y/a)$. All of this
holds for the law of the data, and for the data themselves.""",
    source="classical (Lamperti transform and time change); the variance preserving case in Song et al., arXiv 2011.13456",
    regime=SETTING
    + r""". Every law of $X_0$, all $c > 0$, every $H \ge 0$ (or covariance matrix). Ornstein-Uhlenbeck: $f = -\theta$, $a = e^{-\theta c}$,
$t = \frac{g^2}{2\theta}(e^{2\theta c} - 1)$.""",
    uses=("heat.tweedie",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "process.change_of_time",
    by="quadrature",
    mutants={
        "off by 1e-11": returns(lambda score, *_: score * (1 + 1e-11)),
        "1/a forgotten": instead(lambda seen, y, c: seen.base.score(y / seen.schedule.scale(seen.schedule.time(c)), seen.schedule.time(c))),
        "point not rescaled": instead(
            lambda seen, y, c: seen.base.score(y, seen.schedule.time(c)) / seen.schedule.scale(seen.schedule.time(c))
        ),
        "a for 1/a": returns(lambda score, seen, y, c: score * seen.schedule.scale(seen.schedule.time(c)) ** 2),
        "label for t": instead(lambda seen, y, c: seen.base.score(y, c)),
    },
)
def scores_of_the_process(predict: Any = InProcess.score, *, generator: torch.Generator) -> Numbers:
    """Six processes, a smooth law and data, against normal laws with the moments of the process."""
    worst = 0.0
    for (name, definition), law in itertools.product(DEFINITIONS.items(), (MIXTURE, DATA)):
        for label in definition.labels:
            at = moments(name, label)
            y = places(law, at, generator)
            expected = seen_directly(law, y.numpy(), at)
            got = predict(InProcess(law, definition.schedule), y, torch.tensor(label, dtype=torch.float64))
            worst = max(worst, agree(f"{name} at {label}", got, expected.score, allowance(expected, y.numpy(), at)))
    return {"worst error/allowance": worst}


@check(
    "process.change_of_time",
    by="quadrature",
    mutants={
        "off by 1e-10": returns(lambda found, *_: tuple(part * (1 + 1e-10) for part in found)),
        "point not rescaled": instead(
            lambda seen, y, c: (
                seen.base.denoise(y, seen.schedule.time(c)),
                seen.base.posterior(y, seen.schedule.time(c)).covariance(),
                seen.base.log_density(y, seen.schedule.time(c)),
            )
        ),
        "covariance of a X_0": returns(
            lambda found, seen, y, c: (found[0], found[1] * float(seen.schedule.scale(seen.schedule.time(c))) ** 2, found[2])
        ),
        "Jacobian forgotten": returns(
            lambda found, seen, y, c: (found[0], found[1], found[2] + 2 * float(seen.schedule.scale(seen.schedule.time(c)).log()))
        ),
    },
)
def posterior_and_density(predict: Any = InProcess.moments, *, generator: torch.Generator) -> Numbers:
    """Mean, covariance and log-density of the same laws; what moving y by its rounding changes is allowed."""
    worst = 0.0
    for (name, definition), law in itertools.product(DEFINITIONS.items(), (MIXTURE, DATA)):
        for label in definition.labels:
            at = moments(name, label)
            y = places(law, at, generator)
            expected = seen_directly(law, y.numpy(), at)
            blur = ROUNDING * (1 + np.abs(y.numpy()).max())  # times the derivative: of the mean a C/sigma^2, of its log-density the score
            spread = np.trace(expected.covariance, axis1=-2, axis2=-1)
            steep = blur * at.scale * spread / at.variance
            mean, covariance, log_density = predict(InProcess(law, definition.schedule), y, torch.tensor(label, dtype=torch.float64))
            what = f"{name} at {label}"
            worst = max(worst, agree(f"mean, {what}", mean, expected.denoise, 1e-12 + steep[:, None]))
            worst = max(
                worst,
                agree(
                    f"covariance, {what}",
                    covariance,
                    expected.covariance,
                    1e-12 + 4 * (steep * (1 + at.scale * spread / at.variance))[:, None, None],
                ),
            )
            allowed = 1e-12 * (1 + np.abs(expected.log_density)) + blur * np.abs(expected.score).max(-1)
            worst = max(worst, agree(f"log-density, {what}", log_density, expected.log_density, allowed))
    return {"worst error/allowance": worst}


def carried(power: int) -> Callable[..., Any]:
    """`a^power H`, for mutants."""

    def wrong(bandwidth: Any, schedule: Schedule) -> Callable[[torch.Tensor], torch.Tensor]:
        def at(t: torch.Tensor) -> torch.Tensor:
            value = torch.as_tensor(bandwidth(schedule.label(t)) if callable(bandwidth) else bandwidth, dtype=torch.float64)
            factor = schedule.scale(t) ** power
            return factor * value if value.ndim < 2 else factor[..., None, None] * value

        return at

    return wrong


@check(
    "process.change_of_time",
    by="quadrature",
    lane="full",
    mutants={
        "off by 1e-10": returns(lambda function, *_: lambda t: function(t) * (1 + 1e-10)),
        "a^2 for 1/a^2": instead(carried(2)),
        "1/a": instead(carried(-1)),
        "not carried over": instead(carried(0)),
        "matrix off by 1e-9": returns(
            lambda function, bandwidth, schedule: lambda t: function(t) * (1 + 1e-9 * (torch.is_tensor(bandwidth) and bandwidth.ndim == 2))
        ),
        "t for the label": instead(
            lambda bandwidth, schedule: (
                (lambda t: bandwidth(t) / schedule.scale(t) ** 2)
                if callable(bandwidth)
                else processes.bandwidth_in_variance_time(bandwidth, schedule)
            )
        ),
    },
)
def smoothed_scores(predict: Any = processes.bandwidth_in_variance_time, *, generator: torch.Generator) -> Numbers:
    """`G_H * q` by the trapezoidal rule in the process, against `Mollified` seen there: on the line a mixture and data, H a number or
    proportional to the label; in the plane a mixture, H a matrix.

    The rule's error is far below 1e-15 while its step is below half of sigma; `Mollified` is asked for 1e-13 and sums 1e-14.
    """
    line = GaussianMixture(means=[[-1.0], [0.7]], covariances=[[[0.1]], [[0.3]]])
    points = Empirical([[-1.0], [0.2], [0.5]])
    node = np.linspace(-10, 10, 4001)
    weight = np.exp(-(node**2) / 2)
    weight /= weight.sum()
    worst = 0.0
    for name, label in (("OU", 0.05), ("OU", 0.7), ("OU, rate 0.3", 0.4), ("VE", 0.5), ("VP", 0.2), ("VP, 999 tau", 300.0)):
        at, schedule = moments(name, label), DEFINITIONS[name].schedule
        for law, ratio in itertools.product((line, points), (0.3, 1.0)):
            bandwidth = ratio * at.variance
            y = places(law, at, generator)
            nodes = (y.numpy() + math.sqrt(bandwidth) * node).reshape(-1, 1)
            expected = seen_directly(law, nodes, at).score.reshape(len(y), -1) @ weight
            given = bandwidth if ratio < 1 else lambda c: bandwidth / label * c  # noqa: B023 - used at once
            smoothed = Mollified(law, GaussianKernel(predict(given, schedule)), accuracy=1e-13)
            got = InProcess(smoothed, schedule).score(y, label)[:, 0]
            allowed = 1e-12 * max(np.abs(expected).max(), at.variance**-0.5) * (1 + at.scale / at.variance**0.5)
            worst = max(worst, agree(f"{name} at {label}", got, expected, allowed))
        y = places(MIXTURE, at, generator)[:2]
        root = math.sqrt(at.variance) * np.array([[0.7, 0.0], [0.3, 0.4]])
        nodes = (y.numpy()[:, None] + PLANE[0] @ root.T).reshape(-1, 2)
        expected = PLANE[1] @ seen_directly(MIXTURE, nodes, at).score.reshape(2, -1, 2)
        smoothed = Mollified(MIXTURE, GaussianKernel(predict(torch.from_numpy(root @ root.T), schedule)), accuracy=1e-13)
        got = InProcess(smoothed, schedule).score(y, label)
        allowed = 1e-12 * max(np.abs(expected).max(), at.variance**-0.5) * (1 + at.scale / at.variance**0.5)
        worst = max(worst, agree(f"matrix, {name} at {label}", got, expected, allowed))
    return {"worst error/allowance": worst}


def plane_rule(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the standard normal law in the plane: the trapezoidal rule on +-9."""
    node = np.linspace(-9, 9, count)
    grid = np.stack(np.meshgrid(node, node, indexing="ij"), -1).reshape(-1, 2)
    weight = np.exp(-(grid**2).sum(-1) / 2)
    return grid, weight / weight.sum()


PLANE = plane_rule(121)


@check(
    "process.change_of_time",
    by="quadrature",
    mutants={
        "off by 1e-10": returns(lambda function, *_: lambda c: function(c) * (1 + 1e-10)),
        "the other direction": instead(
            lambda bandwidth, schedule: lambda c: processes.bandwidth_in_variance_time(bandwidth, schedule)(schedule.time(c))
        ),
        "a for its square": returns(lambda function, bandwidth, schedule: lambda c: function(c) / schedule.scale(schedule.time(c))),
        "label for t": instead(
            lambda bandwidth, schedule: (
                lambda c: (
                    schedule.scale(schedule.time(c)) ** 2 * bandwidth(torch.as_tensor(c))
                    if callable(bandwidth)
                    else processes.bandwidth_in_process(bandwidth, schedule)(c)
                )
            )
        ),
    },
)
def bandwidths_in_the_process(predict: Any = processes.bandwidth_in_process, *, generator: torch.Generator) -> Numbers:
    """`H = a^2 h` for a number, a matrix and a function of t, in six processes; t and a from the moments, to a few roundings."""
    worst = 0.0
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    for name, definition in DEFINITIONS.items():
        for label in definition.labels:
            at, c = moments(name, label), torch.tensor(label, dtype=torch.float64)
            t, square = at.variance / at.scale**2, at.scale**2
            for given, h in ((0.3, 0.3), (matrix, matrix.numpy()), (lambda t: 0.2 * t / (1 + t), 0.2 * t / (1 + t))):
                expected = square * np.asarray(h)
                got = predict(given, definition.schedule)(c)
                worst = max(worst, agree(f"H of {name} at {label}", got, expected, 1e-13 * np.abs(expected)))
    return {"worst error/allowance": worst}
