"""Chapter "Two clocks of training", third part: the two times."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from kss.claims.clocks_model import CHAPTER, PAPER
from kss.claims.clocks_spectrum import ALMOST_SURELY, ALPHA, DETECTS, DRAWS, SMALL, Array, Numbers, Plan, mostly
from kss.claims.registry import check, claim, instead, returns
from kss.learned import gaussian_equivalent as equivalent
from kss.learned.random_features import feature_weights, noise_at
from kss.learned.training import GradientFlow, best_time, generalization_time, memorization_time
from kss.testing.compare import agree


class Draw(NamedTuple):
    """One data set with its flow."""

    flow: GradientFlow
    second: torch.Tensor
    """`sum_i x_i x_i^T/d`, (d, d)."""
    psi_p: float
    psi_n: float

    @property
    def moments(self) -> torch.Tensor:
        """Its eigenvalues."""
        return torch.linalg.eigvalsh(self.second)

    @property
    def top(self) -> Array:
        """Eigenvalues of U, largest first."""
        return self.flow.eigenvalues.flip(0).numpy()


@functools.lru_cache(maxsize=1)
def _draws(plan: Plan, seed: int) -> list[list[Draw]]:
    """One list for each entry of the plan; only the last result is kept, because a check and its mutants run one after the other."""
    generator, draws = torch.Generator().manual_seed(seed), []
    for d, p, time, ratios in plan:
        weights = feature_weights(p, d, generator=generator)
        points = torch.randn(max(ratios) * d, d, dtype=torch.float64, generator=generator)
        row = []
        for ratio in ratios:
            x = points[: ratio * d]
            row.append(Draw(GradientFlow(weights, x, noise_at(time)), x.mT @ x / d, p / d, float(ratio)))
        draws.append(row)
    return draws


def drawn(plan: Plan, generator: torch.Generator) -> list[list[Draw]]:
    """The draws of a plan, the same for a check and its mutants."""
    return _draws(plan, int(torch.randint(2**62, (), generator=generator)))


def slope(row: Sequence[Draw], time: Callable[[GradientFlow], float]) -> float:
    """Slope of log time in log n by least squares."""
    x, y = np.log([draw.flow.n for draw in row]), np.log([max(time(draw.flow), 1e-300) for draw in row])
    return float(np.polyfit(x, y, 1)[0])


def half(flow: GradientFlow) -> float:
    """When the gap reaches half of its limit."""
    return memorization_time(flow, level=0.5, relative_to="final gap")


# --- Two clocks -----------------------------------------------------------------------------------------------------------

TIMES: Plan = (
    (32, 768, 0.01, (2, 4, 8)),
    (24, 768, 0.01, (2, 4, 8)),
    (24, 768, 0.002, (2, 4, 8)),
    (32, 512, 0.01, (2, 4, 8)),
    (32, 768, 0.002, (2, 4, 8)),
    (24, 768, 0.005, (2, 4, 8)),
)
THOSE = (
    r"""Numbers: at $d = 24$ and $32$, $\psi_p = 16, 24, 32$, $\psi_n = 2, 4, 8$, $u$ from 0.002 to 0.01; each for all $\psi_n$ at once,
"""
    + ALMOST_SURELY
)
LINE: Plan = tuple((24, 768, time, (2, 4, 8)) for time in (0.01, 0.002, 0.01, 0.002, 0.01, 0.002))
THAT = (
    r"""Slopes: least squares over $\psi_n = 2, 4, 8$ at $d = 24$, $p = 768$, $u = 0.01$ and $0.002$;
"""
    + ALMOST_SURELY
)

claim(
    "clocks.generalization",
    title="The generalization time does not depend on the number of data",
    statement=r"""The first time at which the error of the score falls below $\theta$ is within 15 % of

$$\tau_{\mathrm{gen}} = \frac{\log(1/\theta)}{4\Delta a^2}$$

for $\theta = 1/2$ and $1/4$, and its slope in $\log n$ is between $-0.08$ and $0.08$.""",
    source=f"$\\tau_{{\\mathrm{{gen}}}} \\sim 1/\\Delta$, whatever $n$: {PAPER}; constant derived here",
    regime=SMALL
    + r"""$\psi_n$ and $\psi_p$ large: bulk 2 is then near $\psi_pa^2$. $\theta$ well above the least error that is reached. """
    + THOSE,
    uses=("clocks.flow", "clocks.bulks"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "clocks.generalization",
    by="statistics",
    lane="full",
    alpha=2 * ALPHA,
    detects=DETECTS,
    mutants={
        "a third more": returns(lambda time, *_: 4 / 3 * time),
        "D squared, right at u = 0.01": returns(lambda time, level, noise: time * noise_at(0.01) / noise),
        "root of D, right at u = 0.01": returns(lambda time, level, noise: time * math.sqrt(noise / noise_at(0.01))),
        "error for its root": returns(lambda time, *_: 2 * time),
        "a for its square": instead(lambda level, noise: -math.log(level) / (4 * noise * equivalent.constants(noise).a)),
        "without the logarithm": instead(lambda level, noise: 1 / (4 * noise * equivalent.constants(noise).a ** 2)),
        "t for D": instead(lambda level, noise: -math.log(level) / (4 * -math.log1p(-noise) / 2 * equivalent.constants(noise).a ** 2)),
    },
)
def predicted_time(predict: Any = equivalent.predicted_generalization_time, *, generator: torch.Generator) -> Numbers:
    """Two thresholds, six draws of weights and nested data."""
    ratios: dict[float, list[list[float]]] = {0.5: [], 0.25: []}
    for row in drawn(TIMES, generator):
        for level, found in ratios.items():
            times = [generalization_time(draw.flow, threshold=level) for draw in row]
            found.append([time / float(predict(level, draw.flow.noise)) for time, draw in zip(times, row, strict=True)])
    return {f"measured/predicted, {level}": mostly(f"E < {level}", found, 0.85, 1.15) for level, found in ratios.items()}


@check(
    "clocks.generalization",
    by="rate",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "grows a little": returns(lambda time, flow, threshold: time * flow.n**0.15),
        "passes over the data": returns(lambda time, flow, threshold: time / flow.n),
        "least error instead": instead(lambda flow, threshold: best_time(flow)),
        "gap instead": instead(lambda flow, threshold: memorization_time(flow, level=threshold, relative_to="absolute")),
    },
)
def flat_in_the_number_of_data(predict: Any = generalization_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8 for the threshold 1/4."""
    slopes = [slope(row, lambda flow: float(predict(flow, threshold=0.25))) for row in drawn(TIMES, generator)]
    return {"slope": mostly("slope of the generalization time", slopes, -0.08, 0.08)}


claim(
    "clocks.modes",
    title="Memorization needs d modes, one for each dimension of the data",
    statement=r"""Let $\mu_1, \dots, \mu_d$ be the eigenvalues of $\frac1d\sum_\nu x_\nu x_\nu^\top$. Below bulk 1 there are $d$ eigenvalues

$$\lambda_j \simeq s_\Delta^2 + e_j, \qquad e_j = \frac{(\psi_p - \psi_n)\,b^2v_\Delta^2}{(1-\Delta)a^2\mu_j + v_\Delta^2 + \psi_nb^2}
\;\simeq\; \Delta\,v_\Delta^2\,\frac{\psi_p - \psi_n}{\mu_j}$$

($\mu_j \approx \psi_n$). Training to the end lowers the training loss to about $1 - \Delta - \frac1d\sum_j\frac{e_j}{\lambda_j}$ and
opens a gap of about
$\frac1d\sum_j\frac{e_j(e_j(1-\Delta)/\Delta + v_\Delta^2)}{\lambda_j^2}$. Found: the mean of the logarithms of the $d$ eigenvalues is
within 0.2, the training loss within 0.07, the gap 0.7 to 1.1 times. Mode $j$ reads the noise in one direction of the data space, and the
data's second moment along it orders the modes: put for $\mu_j$, it gives $\log\lambda_j$ with a correlation above 0.9 for
$\psi_n = 2, 4$.""",
    source="derived here",
    regime=SMALL + r"""Leading order for $\psi_p \gg \psi_n > 1$, $d \gg \psi_p/\psi_n$, $\Delta \ll 1$. """ + THOSE,
    uses=("clocks.bulks", "clocks.rest"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "clocks.modes",
    by="statistics",
    lane="full",
    alpha=3 * ALPHA,
    detects=DETECTS,
    mutants={
        "eigenvalues twice as large": returns(lambda modes, *_: modes._replace(eigenvalues=2 * modes.eigenvalues)),
        "gap twice as large": returns(lambda modes, *_: modes._replace(weights=2 * modes.weights)),
        "loss of the untrained model": returns(lambda modes, *_: modes._replace(train_loss=modes.train_loss + 0.2)),
        "s forgotten": returns(
            lambda modes, mu, psi_p, psi_n, noise: modes._replace(eigenvalues=modes.eigenvalues - equivalent.constants(noise).s2)
        ),
        "p for p - n": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(mu, psi_p + psi_n, psi_n, noise)),
        "psi_p fixed at 24": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(mu, 24.0, psi_n, noise)),
        "D in e forgotten, right at u = 0.01": returns(
            lambda modes, mu, psi_p, psi_n, noise: modes._replace(
                eigenvalues=equivalent.constants(noise).s2 + (modes.eigenvalues - equivalent.constants(noise).s2) * noise_at(0.01) / noise
            )
        ),
        "p + n for p - n": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(mu, psi_p + 2 * psi_n, psi_n, noise)),
        "data normalized to covariance one": instead(
            lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(mu / psi_n, psi_p, psi_n, noise)
        ),
    },
)
def eigenvalues_loss_and_gap(predict: Any = equivalent.memorizing_modes, *, generator: torch.Generator) -> Numbers:
    """The d eigenvalues after the n largest, sorted, and the end of training: six draws of weights and nested data."""
    logs, losses, gaps = [], [], []
    for row in drawn(TIMES, generator):
        modes = [predict(draw.moments, draw.psi_p, draw.psi_n, draw.flow.noise) for draw in row]
        shifts = []
        for draw, found in zip(row, modes, strict=True):
            measured = np.log(draw.top[draw.flow.n : draw.flow.n + draw.flow.d]).mean()
            shifts.append(float(measured - found.eigenvalues.log().mean()))
        logs.append(shifts)
        losses.append([float(d.flow.train_loss(math.inf)) - m.train_loss for d, m in zip(row, modes, strict=True)])
        gaps.append([float(d.flow.gap(math.inf) / m.weights.sum()) for d, m in zip(row, modes, strict=True)])
    return {
        "mean log ratio": mostly("mean log of measured over predicted eigenvalue", logs, -0.2, 0.2),
        "training loss": mostly("final training loss minus prediction", losses, -0.07, 0.07),
        "gap": mostly("final gap over prediction", gaps, 0.7, 1.1),
    }


@check(
    "clocks.modes",
    by="statistics",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "largest first": returns(lambda modes, *_: modes._replace(eigenvalues=modes.eigenvalues.flip(0))),
        "all alike": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(psi_n + 1e-9 * mu.argsort(), psi_p, psi_n, noise)),
        "proportional to the moment": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(1 / mu, psi_p, psi_n, noise)),
    },
)
def each_mode_by_its_direction(predict: Any = equivalent.memorizing_modes, *, generator: torch.Generator) -> Numbers:
    """The prediction from the data's second moment along the direction in which each of the d eigenvectors reads the noise."""
    found = []
    for row in drawn(TIMES, generator):
        correlations = []
        for draw in row[:2]:
            flow = draw.flow
            those = slice(flow.p - flow.n - flow.d, flow.p - flow.n)
            u = flow.directions[those]
            u = u / u.norm(dim=1, keepdim=True)
            predicted = predict(((u @ draw.second) * u).sum(1), draw.psi_p, draw.psi_n, flow.noise).eigenvalues.log()
            spread = predicted - predicted.mean()
            measured = flow.eigenvalues[those].log()
            measured = measured - measured.mean()
            correlations.append(float(spread @ measured / (spread.norm() * measured.norm())))
        found.append(correlations)
    return {"correlation": mostly("correlation of log lambda with its prediction", found, 0.9, 1.0)}


claim(
    "clocks.bulk_one",
    title="Learning bulk 1 is what memorizes the data",
    statement=r"""Refuted for infinitely many noise draws, as a statement on the losses: if only the $n$ largest eigenvectors of $U$
(bulks 2 and 1) are learned, for ever, the training loss stays above $0.93\,(1-\Delta)$, and the gap between test and training loss ends
below 5 % of what it is when all are learned; then the training loss ends below $0.85\,(1 - \Delta)$. What bulk 1 does is to spoil the
score: with the $n$ largest alone $E$ ends at more than 5 times the least $E$ on the way.""",
    source=f"our reading of {PAPER}, where the two bulks set the two times; counterexample found here",
    regime=SMALL + THOSE,
    uses=("clocks.modes",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "clocks.bulk_one",
    by="counterexample",
    lane="full",
    alpha=4 * ALPHA,
    detects=DETECTS,
    mutants={
        "all learned": returns(lambda few, flow, modes: flow),
        "n + d learned": instead(lambda flow, modes: GradientFlow.restricted(flow, modes + flow.d)),
        "all but the n largest left out, twice": instead(lambda flow, modes: GradientFlow.restricted(flow, 2 * modes)),
    },
)
def without_the_small_modes(predict: Any = GradientFlow.restricted, *, generator: torch.Generator) -> Numbers:
    """The end of training with and without the eigenvectors after the n largest."""
    kept, shares, whole, spoiled = [], [], [], []
    for row in drawn(TIMES, generator):
        few = [predict(draw.flow, draw.flow.n) for draw in row]
        kept.append([float(flow.train_loss(math.inf)) / (1 - flow.noise) for flow in few])
        shares.append([float(flow.gap(math.inf) / draw.flow.gap(math.inf)) for flow, draw in zip(few, row, strict=True)])
        whole.append([float(draw.flow.train_loss(math.inf)) / (1 - draw.flow.noise) for draw in row])
        ends = [float(flow.score_error(math.inf)) for flow in few]
        spoiled.append([end / float(draw.flow.score_error(best_time(draw.flow))) for end, draw in zip(ends, row, strict=True)])
    return {
        "training loss/(1 - D), n largest": mostly("training loss by the n largest", kept, 0.93, 1.05),
        "share of the gap": mostly("share of the gap by the n largest", shares, 0.0, 0.05),
        "training loss/(1 - D), all": mostly("training loss by all", whole, 0.0, 0.85),
        "E at the end/least E": mostly("E at the end by the n largest, over the least E", spoiled, 5.0, math.inf),
    }


claim(
    "clocks.memorization",
    title="The memorization time follows from those d modes",
    statement=r"""Let $\tau_{\mathrm{mem}}$ be the time at which the gap $L_{\mathrm{test}} - L_{\mathrm{train}}$ reaches half of its
limit. It is 0.85 to 1.55 times the solution of

$$\sum_jg_j\big(1 - e^{-r_j\tau}\big)^2 = \tfrac12\sum_jg_j, \qquad r_j = \frac{2\Delta\lambda_j}{\psi_p}, \quad
g_j = \frac{e_j(e_j(1-\Delta)/\Delta + v_\Delta^2)}{\lambda_j^2} ,$$

with $e_j$, $\lambda_j$ of {claim}`clocks.modes`. While $e_j \gg s_\Delta^2$ and $\Delta \ll 1$ this is nearly proportional to
$\dfrac{\psi_p}{\psi_p - \psi_n}\cdot\dfrac{n}{\Delta^2v_\Delta^2d}$.""",
    source="derived here",
    regime=SMALL + r"""As in {claim}`clocks.modes`; the rest of the spectrum is taken to be at $s_\Delta^2$. """ + THOSE,
    uses=("clocks.modes",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "clocks.memorization",
    by="statistics",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "half": returns(lambda time, *_, **__: time / 2),
        "twice": returns(lambda time, *_, **__: 2 * time),
        "time of bulk 1": instead(lambda mu, psi_p, psi_n, noise, level: 1.23 * psi_n / (2 * noise * equivalent.constants(noise).v2)),
        "s squared alone": instead(
            lambda mu, psi_p, psi_n, noise, level: 1.23 * float(equivalent.mode_time(equivalent.constants(noise).s2, psi_p, noise))
        ),
        "one over D, right at 0.0075": returns(lambda time, mu, psi_p, psi_n, noise, level: time * noise / 0.0075),
        "rate without D": returns(lambda time, mu, psi_p, psi_n, noise, level: time * noise),
        "one over D, right at u = 0.01": returns(lambda time, mu, psi_p, psi_n, noise, level: time * noise / noise_at(0.01)),
        "proportional to p, right at psi_p = 16": returns(lambda time, mu, psi_p, psi_n, noise, level: time * psi_p / 16),
    },
)
def predicted_half_time(predict: Any = equivalent.predicted_memorization_time, *, generator: torch.Generator) -> Numbers:
    """Six draws of weights and nested data."""
    ratios = []
    for row in drawn(TIMES, generator):
        predicted = [float(predict(draw.moments, draw.psi_p, draw.psi_n, draw.flow.noise, level=0.5)) for draw in row]
        ratios.append([half(draw.flow) / time for draw, time in zip(row, predicted, strict=True)])
    return {"measured/predicted": mostly("half time of the gap over prediction", ratios, 0.85, 1.55)}


claim(
    "clocks.linear",
    title="Half of the final gap: proportional to n, while n is below a quarter of p",
    statement=r"""The slope of $\log\tau_{\mathrm{mem}}$ in $\log n$, for the time at which the gap reaches half of its limit, is between
0.85 and 1.15 for
$2 \le n/d \le 8$. It is no pure power: the slope from 2 to 4 exceeds that from 4 to 8.""",
    source=f"linear in $n$: {PAPER}; the definition by the final gap, and the numbers, here",
    regime=SMALL + THAT,
    uses=("clocks.memorization",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "clocks.linear",
    by="rate",
    lane="full",
    alpha=2 * ALPHA,
    detects=DETECTS,
    mutants={
        "root of n more": returns(lambda time, flow, **_: time * flow.n**0.5),
        "root of n less": returns(lambda time, flow, **_: time / flow.n**0.5),
        "pure power": instead(lambda flow, level, relative_to: float(flow.n)),
        "absolute gap": instead(lambda flow, level, relative_to: memorization_time(flow, level=level, relative_to="absolute")),
        "generalization": instead(lambda flow, level, relative_to: generalization_time(flow, threshold=level)),
        "twice the least error": instead(lambda flow, level, relative_to: memorization_time(flow, level=2.0, relative_to="least error")),
    },
)
def slope_of_the_half_time(predict: Any = memorization_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8, and the difference between the first and the second half."""
    slopes, bends = [], []
    for row in drawn(LINE, generator):
        times = {draw.flow.n: float(predict(draw.flow, level=0.5, relative_to="final gap")) for draw in row}
        slopes.append(slope(row, lambda flow, times=times: times[flow.n]))  # type: ignore[misc] # mypy cannot infer it
        first, second, third = times.values()
        bends.append(math.log2(second / first) - math.log2(third / second))
    return {
        "slope": mostly("slope of the half time of the gap", slopes, 0.85, 1.15),
        "bend": mostly("slope from 2 to 4 minus slope from 4 to 8", bends, 0.01, 0.8),
    }


PAIRS: Plan = tuple((24, 768, time, (4,)) for time in (0.01, 0.002, 0.01, 0.002, 0.01, 0.002))

claim(
    "clocks.noise",
    title="Less noise: generalization waits as 1/D, memorization as 1/D squared",
    statement=r"""Between $u = 0.002$ and $u = 0.01$, on the same weights and data, the slope of $\log\tau_{\mathrm{mem}}$ (half of the
final gap) in
$\log\Delta$ is between $-2.05$ and $-1.9$, that of $\log\tau_{\mathrm{gen}}$ ($E < \frac14$) between $-1.05$ and $-0.95$.""",
    source="derived here from {claim}`clocks.memorization` and {claim}`clocks.generalization`",
    regime=SMALL + r"$\psi_n = 4$, $\psi_p = 32$, $d = 24$; " + ALMOST_SURELY,
    uses=("clocks.memorization", "clocks.generalization"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@functools.lru_cache(maxsize=1)
def _noise_pairs(seed: int) -> list[tuple[GradientFlow, GradientFlow]]:
    generator, pairs = torch.Generator().manual_seed(seed), []
    for _ in range(DRAWS):
        weights = feature_weights(768, 24, generator=generator)
        points = torch.randn(96, 24, dtype=torch.float64, generator=generator)
        pairs.append((GradientFlow(weights, points, noise_at(0.002)), GradientFlow(weights, points, noise_at(0.01))))
    return pairs


def _noise_slopes(time: Callable[[GradientFlow], float], generator: torch.Generator) -> list[float]:
    pairs = _noise_pairs(int(torch.randint(2**62, (), generator=generator)))
    return [math.log(time(high) / time(low)) / math.log(high.noise / low.noise) for low, high in pairs]


@check(
    "clocks.noise",
    by="rate",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "one power less": returns(lambda time, flow, **_: time * flow.noise),
        "half a power more": returns(lambda time, flow, **_: time / flow.noise**0.5),
        "time of bulk 1": instead(lambda flow, **_: float(equivalent.mode_time(flow.eigenvalues[-60], flow.p / flow.d, flow.noise))),
        "generalization": instead(lambda flow, **_: generalization_time(flow, threshold=0.25)),
    },
)
def memorization_against_noise(predict: Any = memorization_time, *, generator: torch.Generator) -> Numbers:
    """Two noise variances for each of six draws."""
    slopes = _noise_slopes(lambda flow: float(predict(flow, level=0.5, relative_to="final gap")), generator)
    return {"slope": mostly("slope of the half time of the gap in log D", slopes, -2.05, -1.9)}


@check(
    "clocks.noise",
    by="rate",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "one power more": returns(lambda time, flow, **_: time / flow.noise),
        "independent of D": returns(lambda time, flow, **_: time * flow.noise),
        "memorization": instead(lambda flow, threshold: half(flow)),
    },
)
def generalization_against_noise(predict: Any = generalization_time, *, generator: torch.Generator) -> Numbers:
    """Two noise variances for each of six draws."""
    slopes = _noise_slopes(lambda flow: float(predict(flow, threshold=0.25)), generator)
    return {"slope": mostly("slope of the generalization time in log D", slopes, -1.05, -0.95)}


_ENDS = ((24, 0.01), (32, 0.01), (24, 0.002), (32, 0.002), (24, 0.005), (32, 0.005))
LATE: Plan = tuple((d, 768, time, (16, 20) if d == 24 else (12, 16)) for d, time in _ENDS)

claim(
    "clocks.saturation",
    title="With many data the memorization time stops growing",
    statement=r"""Beyond the crossover at
$n \simeq p\,\sum_{k\ge2}c_k^2\big/\sum_{k\ge2}(k+1)c_k^2 \approx 0.22\,p$, where $e_j = s_\Delta^2$ at $\mu_j = \psi_n$ (for small
$\Delta$), $\tau_{\mathrm{mem}}$ (half of the final gap) is 0.8 to 1.4
times $\dfrac{\psi_p}{2\Delta s_\Delta^2}$, and its slope in $\log n$ is between 0 and 0.6.""",
    source="derived here",
    regime=SMALL + r"$n/p$ from 0.5 to 0.67, $d = 24, 32$, $p = 768$, $u$ from 0.002 to 0.01; " + ALMOST_SURELY,
    uses=("clocks.memorization",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "clocks.saturation",
    by="quadrature",
    mutants={
        "p for p - n": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(mu, psi_p + psi_n, psi_n, noise)),
        "off by 1e-3": returns(lambda modes, *_: modes._replace(eigenvalues=modes.eigenvalues * 1.001)),
        "s forgotten": returns(
            lambda modes, mu, psi_p, psi_n, noise: modes._replace(eigenvalues=modes.eigenvalues - equivalent.constants(noise).s2)
        ),
    },
)
def where_the_two_parts_are_equal(predict: Any = equivalent.memorizing_modes, *, generator: torch.Generator) -> Numbers:
    """`lambda = 2 s^2` at the crossover, by `sum c_k^2 = E tanh^2` and `sum k c_k^2 = E tanh'^2`, for little noise and large ratios."""
    g = np.arange(-10, 10.01, 0.1)
    weight = 0.1 * np.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)
    linear = float(weight @ (g * np.tanh(g))) ** 2
    squares, slopes = float(weight @ np.tanh(g) ** 2) - linear, float(weight @ np.cosh(g) ** -4) - linear
    share = squares / (squares + slopes)
    worst = 0.0
    for psi_p, noise in ((1e5, 1e-6), (1e6, 1e-5)):
        found = predict([share * psi_p], psi_p, share * psi_p, noise).eigenvalues
        # Corrections are of order D and 1/psi_p.
        worst = max(worst, agree(f"lambda, D = {noise}", found, [2 * noise * slopes], 1e-4 * 2 * noise * slopes))
    return {"crossover n/p": share, "worst error/allowance": worst}


@check(
    "clocks.saturation",
    by="statistics",
    lane="full",
    alpha=2 * ALPHA,
    detects=DETECTS,
    mutants={
        "twice": returns(lambda time, *_: 2 * time),
        "2 forgotten": instead(lambda value, psi_p, noise: psi_p / (noise * value)),
        "without psi_p": instead(lambda value, psi_p, noise: 1 / (2 * noise * value)),
        "v for s": instead(lambda value, psi_p, noise: psi_p / (2 * noise * equivalent.constants(noise).v2)),
        "linear law continued": instead(lambda value, psi_p, noise: psi_p / 2 / (2 * noise**2 * equivalent.constants(noise).v2)),
    },
)
def late_half_time(predict: Any = equivalent.mode_time, *, generator: torch.Generator) -> Numbers:
    """Data sets of half to two thirds of p: six draws of weights and nested data."""
    ratios, slopes = [], []
    for row in drawn(LATE, generator):
        times = [half(draw.flow) for draw in row]
        limits = [float(predict(equivalent.constants(draw.flow.noise).s2, draw.psi_p, draw.flow.noise)) for draw in row]
        ratios.append([time / limit for time, limit in zip(times, limits, strict=True)])
        slopes.append(math.log(times[1] / times[0]) / math.log(row[1].psi_n / row[0].psi_n))
    return {
        "time/(psi_p/2 D s^2)": mostly("half time of the gap over psi_p/2 D s^2", ratios, 0.8, 1.4),
        "slope": mostly("slope of the half time", slopes, 0.0, 0.6),
    }
