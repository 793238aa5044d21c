"""Chapter "Two clocks of training", second part: the spectrum, and the two times that it sets."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from kss.claims.clocks_model import CHAPTER, PAPER
from kss.claims.registry import check, claim, instead, returns
from kss.learned import gaussian_equivalent as equivalent
from kss.learned.random_features import feature_weights, noise_at
from kss.learned.training import GradientFlow, best_time, generalization_time, memorization_time
from kss.testing.compare import agree, require
from kss.testing.statistics import binomial_test

Numbers = dict[str, Any]
Array = np.ndarray
Plan = tuple[tuple[int, int, float, tuple[int, ...]], ...]
"""For each draw of weights and data: d, p, the Ornstein-Uhlenbeck time, and the values of n/d; the data are nested."""

SMALL = r"""The random-features model of {claim}`clocks.flow` with rows of $W$ uniform on the sphere and data from $\mathcal N(0, I_d)$;
$\psi_p = p/d$, $\psi_n = n/d$; $p > n + d$. """
ALPHA = 1e-9
DRAWS = 6
HOLDS = 0.01
"""The claims say: with probability 0.99 at least. Five of six draws that contradict reject them, with probability 6e-10 if they hold."""
DETECTS = "a formula that fails on 99.7 % of the draws of weights and data, with probability 0.999"


class Draw(NamedTuple):
    """One data set with its flow."""

    flow: GradientFlow
    moments: torch.Tensor
    """Eigenvalues of `sum_i x_i x_i^T/d`."""
    psi_p: float
    psi_n: float

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
            row.append(Draw(GradientFlow(weights, x, noise_at(time)), torch.linalg.eigvalsh(x.mT @ x / d), p / d, float(ratio)))
        draws.append(row)
    return draws


def _draw(plan: Plan, generator: torch.Generator) -> list[list[Draw]]:
    return _draws(plan, int(torch.randint(2**62, (), generator=generator)))


def _mostly(what: str, values: Sequence[float], low: float, high: float) -> str:
    """Reject unless most of the draws have their value in [low, high]; the range of the values, in words."""
    outside = sum(not low <= value <= high for value in values)
    verdict = binomial_test(outside, len(values), HOLDS, alpha=ALPHA)
    shown = f"{min(values):.3g} to {max(values):.3g}"
    require(not verdict.rejected, f"{what}: {outside} of {len(values)} draws outside of [{low:g}, {high:g}], values {shown}")
    return shown


def _worst(values: Sequence[float], center: float) -> float:
    """The value farthest from the center, in ratio: one number for a draw with several data sets."""
    return max(values, key=lambda value: abs(math.log(max(value, 1e-300) / center)))


def _slope(row: Sequence[Draw], time: Callable[[GradientFlow], float]) -> float:
    """Slope of log time in log n by least squares."""
    x, y = np.log([draw.flow.n for draw in row]), np.log([max(time(draw.flow), 1e-300) for draw in row])
    return float(np.polyfit(x, y, 1)[0])


def _half(flow: GradientFlow) -> float:
    return memorization_time(flow, level=0.5, relative_to="final gap")


# --- The resolvent --------------------------------------------------------------------------------------------------------

claim(
    "clocks.resolvent",
    title="The Gaussian equivalent's spectrum from two equations",
    statement=r"""The trace $q(z) = \lim\frac1p\operatorname{tr}(U - z)^{-1}$ of the Gaussian equivalent
$U = \frac1nGG^\top + b^2\frac{WW^\top}d + s_\Delta^2I$, $G = \sqrt{1-\Delta}\,a\frac{WX}{\sqrt d} + v_\Delta\Omega$, solves, for data with
covariance $I$,

$$\hat s = b^2\psi_p + \frac1q, \quad D_0 = 1 + \frac pn\left(a^2(1-\Delta)r + v_\Delta^2q\right), \quad
\hat r = \frac{\psi_pa^2(1-\Delta)}{D_0}, \quad r = \frac1{\hat s + \hat r},$$

$$\psi_p(s_\Delta^2 - z) + \frac{\psi_pv_\Delta^2}{D_0} + \frac{1-\psi_p}q - \frac r{q^2} = 0,$$

with $\operatorname{Im}q > 0$ for $\operatorname{Im}z > 0$. Finite matrices follow it: at $d = 32$ the share of their eigenvalues above $x$
is within 0.015 of the limit's, for all $x > 1.5\,s_\Delta^2$. The features' own $U$ follows less closely: within 0.07, for
$x > 3\,s_\Delta^2$.""",
    source=f"equations: {PAPER} (authors' code); the check derives them again, from sample covariances",
    regime=r"$0 < \Delta < 1$, $p, n, d \to \infty$ in proportion. Finite matrices: $d = 32$, $\psi_p = 16, 24$, $\psi_n = 2, 4, 8$.",
    uses=("clocks.constants",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@functools.cache
def _sample_covariance(z: complex, psi_p: float, psi_n: float, noise: float) -> complex:
    """The same trace by another route: with `K = W W^T/d` of Marchenko-Pastur law, U is a sample covariance plus a matrix that commutes.

    With `C = (1 - D) a^2 K + v^2` and `B = b^2 K + s^2` the resolvent is `(B + C/(1 + e) - z)^{-1}`, `e = (1/n) tr C (...)^{-1}`:
    fixed point by iteration, the mean over K by Chebyshev's quadrature. The constants by integrals over the plane.
    """
    g = np.arange(-8.4, 8.5, 0.2)
    weight = 0.2 * np.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)
    sigma = np.tanh(math.sqrt(1 - noise) * g[:, None] + math.sqrt(noise) * g)
    signal, b = float(weight * g @ sigma @ weight) ** 2, float(weight @ sigma @ (weight * g))
    v2 = float(weight @ (sigma @ weight) ** 2) - signal
    s2 = float(weight @ sigma**2 @ weight) - signal - v2 - b**2
    angle = (np.arange(4000) + 0.5) * math.pi / 4000
    center, radius = psi_p + 1, 2 * math.sqrt(psi_p)
    kappa = center + radius * np.cos(angle)
    # The Marchenko-Pastur density of the nonzero eigenvalues if psi_p >= 1: a share 1/psi_p of all; the others are 0.
    mass = (radius * np.sin(angle)) ** 2 / (2 * math.pi * kappa) / psi_p * (math.pi / 4000)
    kappa, mass = np.append(kappa, 0.0), np.append(mass, 1 - 1 / psi_p)
    c, fixed, y = signal * kappa + v2, b**2 * kappa + s2 - z, 1 + 0j
    for _ in range(20000):
        new = 1 + psi_p / psi_n * complex((mass * c / (fixed + c / y)).sum())
        if abs(new - y) < 1e-13 * abs(y):
            break
        y = (y + new) / 2
    return complex((mass / (fixed + c / y)).sum())


@check(
    "clocks.resolvent",
    by="quadrature",
    mutants={
        "off by 1e-7": returns(lambda q, *_: q * (1 + 1e-7)),
        "psi_n and psi_p exchanged": instead(lambda z, psi_p, psi_n, noise: equivalent.stieltjes(z, psi_n, psi_p, noise)),
        "conjugate": returns(lambda q, *_: q.conj().resolve_conj()),
        "contraction not squared": instead(lambda z, psi_p, psi_n, noise: equivalent.stieltjes(z, psi_p, psi_n, 1 - math.sqrt(1 - noise))),
        "sum for mean": returns(lambda q, z, psi_p, psi_n, noise: q * psi_p),
    },
)
def resolvent_by_another_route(predict: Any = equivalent.stieltjes, *, generator: torch.Generator) -> Numbers:
    """At points above the three bulks and beside them, for five pairs of ratios."""
    worst = 0.0
    for psi_p, psi_n, noise in ((32.0, 4.0, 0.0198), (24.0, 2.0, 0.1), (8.0, 12.0, 0.3), (2.0, 1.5, 0.004), (1.5, 3.0, 0.6)):
        z = [0.05 + 0.02j, 0.3 + 0.1j, 5 + 1j, -0.1 + 0.001j, 0.01 + 0.01j]
        expected = np.array([_sample_covariance(point, psi_p, psi_n, noise) for point in z])
        got = predict(torch.tensor(z, dtype=torch.complex128), psi_p, psi_n, noise).numpy()
        for part in ("real", "imag"):
            what = f"{part} part of q at psi_p = {psi_p}, psi_n = {psi_n}, D = {noise}"
            worst = max(worst, agree(what, getattr(got, part), getattr(expected, part), 1e-8 * np.abs(expected)))
    return {"worst error/allowance": worst}


@functools.lru_cache(maxsize=1)
def _equivalent_spectra(seed: int) -> list[tuple[float, float, float, Array]]:
    """Eigenvalues of the Gaussian equivalent itself at d = 32, with psi_p, psi_n and D."""
    rng, found, d = np.random.default_rng(seed), [], 32
    for psi_p, psi_n, time in ((24, 2, 0.01), (24, 4, 0.01), (24, 8, 0.01), (16, 4, 0.01), (16, 4, 0.05), (24, 4, 0.002)):
        p, n, noise = psi_p * d, psi_n * d, noise_at(time)
        k = equivalent.constants(noise)
        w, x, omega = rng.standard_normal((p, d)), rng.standard_normal((d, n)), rng.standard_normal((p, n))
        g = math.sqrt((1 - noise) / d) * k.a * w @ x + math.sqrt(k.v2) * omega
        u = g @ g.T / n + k.b2 * w @ w.T / d + k.s2 * np.eye(p)
        found.append((float(psi_p), float(psi_n), noise, np.linalg.eigvalsh(u)))
    return found


def _distribution(density: Any, psi_p: float, psi_n: float, noise: float) -> tuple[Array, Array]:
    """`1 - F` of the limiting law on a grid, by integrating its density from above; blurred by 0.1 %."""
    grid = torch.logspace(-3.5, 2.2, 1500, dtype=torch.float64)
    density = density(grid, psi_p, psi_n, noise, width=1e-3)
    above = torch.cumulative_trapezoid((density * grid).flip(0), grid.log().flip(0)).flip(0).neg()
    return grid[:-1].numpy(), above.numpy()


@check(
    "clocks.resolvent",
    by="statistics",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "off by 10 %": returns(lambda density, *_, **__: 1.1 * density),
        "psi_n and psi_p exchanged": instead(lambda v, psi_p, psi_n, noise, width: equivalent.spectral_density(v, psi_n, psi_p, noise)),
        "pi forgotten": returns(lambda density, *_, **__: math.pi * density),
    },
)
def equivalent_matrices_follow(predict: Any = equivalent.spectral_density, *, generator: torch.Generator) -> Numbers:
    """Eigenvalues of finite Gaussian equivalents: counts above every x that is not within 3 % of s^2, where p - n - d of them sit."""
    errors = []
    for psi_p, psi_n, noise, values in _equivalent_spectra(int(torch.randint(2**62, (), generator=generator))):
        grid, above = _distribution(predict, psi_p, psi_n, noise)
        away = grid > 1.5 * equivalent.constants(noise).s2
        counted = np.array([(values > x).mean() for x in grid])
        errors.append(float(np.abs(counted - above)[away].max()))
    return {"sup |F_p - F|": _mostly("distance from the limiting law", errors, 0.0, 0.015)}


@check(
    "clocks.resolvent",
    by="statistics",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "a quarter more": returns(lambda density, *_, **__: 1.25 * density),
        "psi_n and psi_p exchanged": instead(lambda v, psi_p, psi_n, noise, width: equivalent.spectral_density(v, psi_n, psi_p, noise)),
        "twice the data": instead(lambda v, psi_p, psi_n, noise, width: equivalent.spectral_density(v, psi_p, 2 * psi_n, noise)),
    },
)
def features_follow(predict: Any = equivalent.spectral_density, *, generator: torch.Generator) -> Numbers:
    """Eigenvalues of exact training moments: counts above every x > 3 s^2."""
    errors = []
    for row in _draw(BULKS, generator):
        found = []
        for draw in row:
            grid, above = _distribution(predict, draw.psi_p, draw.psi_n, draw.flow.noise)
            counted = np.array([(draw.top > x).mean() for x in grid])
            found.append(float(np.abs(counted - above)[grid > 3 * equivalent.constants(draw.flow.noise).s2].max()))
        errors.append(max(found))
    return {"sup |F_p - F|": _mostly("distance from the limiting law", errors, 0.0, 0.07)}


# --- The bulks ------------------------------------------------------------------------------------------------------------

FINITE = r"""Numbers: at $d = 32$, $\psi_p = 16$ and $24$, $\psi_n = 2, 4, 8$, $\Delta = 1 - e^{-2u}$ with $u$ from 0.002 to 0.01; each
for all
$\psi_n$ at once, with probability 0.99 at least over weights and data."""
_SETTINGS = ((768, 0.01), (512, 0.01), (768, 0.002), (512, 0.002), (768, 0.01), (512, 0.005))
BULKS: Plan = tuple((32, p, time, (2, 4, 8)) for p, time in _SETTINGS)

claim(
    "clocks.bulks",
    title="A few directions are common to all data, and n - d belong to these",
    statement=r"""Of the $p$ eigenvalues of $U$, $d$ are large (*bulk 2*) and the next $n - d$ (*bulk 1*) lie between

$$s_\Delta^2 + v_\Delta^2\Big(1 - \sqrt{\psi_p/\psi_n}\Big)^2 \quad\text{and}\quad
s_\Delta^2 + v_\Delta^2\Big(1 + \sqrt{\psi_p/\psi_n}\Big)^2$$

for $\psi_p \gg \psi_n > 1$. At $d = 32$, three quarters of them at least do; the largest is 0.65 to 1.25 times the upper edge, the smallest
0.5 to 1.2 times the lower; and bulk 2 begins beyond 1.3 times the upper edge.""",
    source=f"{PAPER} (about $n$ eigenvalues there, for $\\psi_p \\gg \\psi_n$); the count $n - d$ and the numbers measured here",
    regime=SMALL + FINITE,
    uses=("clocks.resolvent",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "clocks.bulks",
    by="statistics",
    lane="full",
    alpha=4 * ALPHA,
    detects=DETECTS,
    mutants={
        "half again as large": returns(lambda edges, *_: tuple(1.5 * edge for edge in edges)),
        "v for its square": instead(
            lambda psi_p, psi_n, noise: tuple(
                math.sqrt(equivalent.constants(noise).v2) * (1 + sign * math.sqrt(psi_p / psi_n)) ** 2 for sign in (-1, 1)
            )
        ),
        "ratio without root": instead(
            lambda psi_p, psi_n, noise: tuple(equivalent.constants(noise).v2 * (1 + sign * psi_p / psi_n) ** 2 for sign in (-1, 1))
        ),
        "ratio turned over": instead(lambda psi_p, psi_n, noise: equivalent.bulk_edges(psi_n, psi_p, noise)),
    },
)
def edges_of_bulk_one(predict: Any = equivalent.bulk_edges, *, generator: torch.Generator) -> Numbers:
    """The n largest eigenvalues of exact training moments: six draws of weights and nested data."""
    inside, lowest, highest, gap = [], [], [], []
    for row in _draw(BULKS, generator):
        edges = [predict(draw.psi_p, draw.psi_n, draw.flow.noise) for draw in row]
        bulks = [draw.top[draw.flow.d : draw.flow.n] for draw in row]
        inside.append(min(float(((v >= low) & (v <= high)).mean()) for v, (low, high) in zip(bulks, edges, strict=True)))
        lowest.append(_worst([v[-1] / low for v, (low, _) in zip(bulks, edges, strict=True)], 0.75))
        highest.append(_worst([v[0] / high for v, (_, high) in zip(bulks, edges, strict=True)], 0.95))
        gap.append(min(draw.top[draw.flow.d - 1] / high for draw, (_, high) in zip(row, edges, strict=True)))
    return {
        "share inside": _mostly("share of bulk 1 between the edges", inside, 0.75, 1.0),
        "least/lower edge": _mostly("least eigenvalue/lower edge", lowest, 0.5, 1.2),
        "largest/upper edge": _mostly("largest eigenvalue/upper edge", highest, 0.65, 1.25),
        "bulk 2/upper edge": _mostly("least of bulk 2/upper edge", gap, 1.3, math.inf),
    }


claim(
    "clocks.bulk_time",
    title="Bulk 1 is learned at a time proportional to n",
    statement=r"""The median eigenvalue of bulk 1 is learned at $\tau = \psi_p/2\Delta\lambda$, between 1 and 1.6 times
$\dfrac{\psi_n}{2\Delta v_\Delta^2}$: the slope of $\log\tau$ in $\log n$ is between 0.9 and 1.2.""",
    source=f"{PAPER} (proportional to $\\psi_n/\\Delta v_t^2$); constant measured here",
    regime=SMALL + FINITE,
    uses=("clocks.bulks", "clocks.flow"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "clocks.bulk_time",
    by="rate",
    lane="full",
    alpha=2 * ALPHA,
    detects=DETECTS,
    mutants={
        "half": returns(lambda time, *_: time / 2),
        "without D": returns(lambda time, value, psi_p, noise: time * noise),
        "without psi_p": returns(lambda time, value, psi_p, noise: time / psi_p),
        "2 forgotten": returns(lambda time, *_: 2 * time),
        "root of the eigenvalue": instead(lambda value, psi_p, noise: psi_p / (2 * noise * value**0.5)),
    },
)
def median_time_of_bulk_one(predict: Any = equivalent.mode_time, *, generator: torch.Generator) -> Numbers:
    """The time from the median eigenvalue against `psi_n/(2 D v^2)`, v^2 by its series of squares."""
    ratios, slopes = [], []
    for row in _draw(BULKS, generator):
        times = [float(predict(float(np.median(draw.top[draw.flow.d : draw.flow.n])), draw.psi_p, draw.flow.noise)) for draw in row]
        v2 = equivalent.constants(row[0].flow.noise).v2
        ratios.append(_worst([t * 2 * draw.flow.noise * v2 / draw.psi_n for t, draw in zip(times, row, strict=True)], 1.27))
        slopes.append(float(np.polyfit(np.log([draw.flow.n for draw in row]), np.log(times), 1)[0]))
    return {
        "time/(psi_n/2 D v^2)": _mostly("median time of bulk 1 over psi_n/2 D v^2", ratios, 1.0, 1.6),
        "slope": _mostly("slope of the median time in log n", slopes, 0.9, 1.2),
    }


claim(
    "clocks.rest",
    title="The remaining eigenvalues sit at s squared",
    statement=r"""Refuted at finite $n$: the $p - n - d$ smallest eigenvalues are spread over a third bulk, about from
$s_\Delta^2(1 - \sqrt{\psi_p/n})^2$ to $s_\Delta^2(1 + \sqrt{\psi_p/n})^2$, which closes only when $n \gg \psi_p$. (In the Gaussian
equivalent they are $s_\Delta^2$ exactly: $GG^\top/n + b^2WW^\top/d$ has rank $n + d$.) The largest is 0.7 to 1.1 times the upper end, the
smallest 0.7 to 1.2 times the lower.""",
    source=f"the statement: {PAPER}, in the limit; the third bulk derived here",
    regime=SMALL + FINITE,
    uses=("clocks.bulks",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "clocks.rest",
    by="counterexample",
    lane="full",
    alpha=2 * ALPHA,
    detects=DETECTS,
    mutants={
        "at s^2": instead(lambda psi_p, n, noise: (equivalent.constants(noise).s2,) * 2),
        "half again as large": returns(lambda edges, *_: tuple(1.5 * edge for edge in edges)),
        "d for n": instead(lambda psi_p, n, noise: equivalent.untouched_edges(psi_p, 32, noise)),
        "ratio without root": instead(
            lambda psi_p, n, noise: tuple(equivalent.constants(noise).s2 * (1 + sign * psi_p / n) ** 2 for sign in (-1, 1))
        ),
    },
)
def edges_of_the_third_bulk(predict: Any = equivalent.untouched_edges, *, generator: torch.Generator) -> Numbers:
    """The p - n - d smallest eigenvalues of exact training moments: six draws of weights and nested data."""
    lowest, highest = [], []
    for row in _draw(BULKS, generator):
        edges = [predict(draw.psi_p, draw.flow.n, draw.flow.noise) for draw in row]
        lowest.append(_worst([draw.top[-1] / low for draw, (low, _) in zip(row, edges, strict=True)], 0.95))
        rest = [draw.top[draw.flow.n + draw.flow.d] for draw in row]
        highest.append(_worst([value / high for value, (_, high) in zip(rest, edges, strict=True)], 0.85))
    return {
        "least/lower end": _mostly("least eigenvalue/lower end", lowest, 0.7, 1.2),
        "largest/upper end": _mostly("largest eigenvalue of the rest/upper end", highest, 0.7, 1.1),
    }


# --- Two clocks -----------------------------------------------------------------------------------------------------------

TIMES: Plan = (
    (32, 768, 0.01, (2, 4, 8)),
    (24, 768, 0.01, (2, 4, 8)),
    (24, 768, 0.002, (2, 4, 8)),
    (32, 512, 0.01, (2, 4, 8)),
    (32, 768, 0.002, (2, 4, 8)),
    (24, 768, 0.005, (2, 4, 8)),
)
THOSE = r"""Numbers: at $d = 24$ and $32$, $\psi_p = 16, 24, 32$, $\psi_n = 2, 4, 8$, $\Delta = 1 - e^{-2u}$ with $u$ from 0.002 to 0.01;
each for
all $\psi_n$ at once, with probability 0.99 at least over weights and data."""
LINE: Plan = tuple((24, 768, time, (2, 4, 8)) for time in (0.01, 0.002, 0.01, 0.002, 0.01, 0.002))
THAT = r"""Slopes: least squares over $\psi_n = 2, 4, 8$ at $d = 24$, $p = 768$, $\Delta = 1 - e^{-2u}$ with $u = 0.01$ and $0.002$; with
probability
0.99 at least over weights and data."""

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
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "a third more": returns(lambda time, *_: 4 / 3 * time),
        "error for its root": returns(lambda time, *_: 2 * time),
        "a for its square": instead(lambda level, noise: -math.log(level) / (4 * noise * equivalent.constants(noise).a)),
        "without the logarithm": instead(lambda level, noise: 1 / (4 * noise * equivalent.constants(noise).a ** 2)),
        "t for D": instead(lambda level, noise: -math.log(level) / (4 * -math.log1p(-noise) / 2 * equivalent.constants(noise).a ** 2)),
    },
)
def predicted_time(predict: Any = equivalent.predicted_generalization_time, *, generator: torch.Generator) -> Numbers:
    """Two thresholds, six draws of weights and nested data."""
    ratios: dict[float, list[float]] = {0.5: [], 0.25: []}
    for row in _draw(TIMES, generator):
        for level, found in ratios.items():
            times = [generalization_time(draw.flow, threshold=level) for draw in row]
            found.append(_worst([time / float(predict(level, draw.flow.noise)) for time, draw in zip(times, row, strict=True)], 1.0))
    return {f"measured/predicted, {level}": _mostly(f"E < {level}", found, 0.85, 1.15) for level, found in ratios.items()}


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
    slopes = [_slope(row, lambda flow: float(predict(flow, threshold=0.25))) for row in _draw(TIMES, generator)]
    return {"slope": _mostly("slope of the generalization time", slopes, -0.08, 0.08)}


claim(
    "clocks.modes",
    title="Memorization needs d modes, one for each principal direction of the data",
    statement=r"""Let $\mu_1, \dots, \mu_d$ be the eigenvalues of $\frac1d\sum_\nu x_\nu x_\nu^\top$. Below bulk 1 there are $d$ eigenvalues

$$\lambda_j \simeq s_\Delta^2 + e_j, \qquad e_j = \frac{(\psi_p - \psi_n)\,b^2v_\Delta^2}{(1-\Delta)a^2\mu_j + v_\Delta^2 + \psi_nb^2}
\;\simeq\; \Delta\,v_\Delta^2\,\frac{\psi_p - \psi_n}{\mu_j}$$

($\mu_j \approx \psi_n$). Training to the end lowers the training loss to about $1 - \Delta - \frac1d\sum_j\frac{e_j}{\lambda_j}$ and
opens a gap of about
$\frac1d\sum_j\frac{e_j(e_j/\Delta + v_\Delta^2 + s_\Delta^2)}{\lambda_j^2}$. Found: the mean of the logarithms of the $d$ eigenvalues is
within 0.2, the
training loss within 0.08, the gap 0.65 to 1.05 times.""",
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
        "p for p - n": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(mu, psi_p + 2 * psi_n, psi_n, noise)),
        "sum for mean in the data": instead(lambda mu, psi_p, psi_n, noise: equivalent.memorizing_modes(mu / psi_n, psi_p, psi_n, noise)),
    },
)
def eigenvalues_loss_and_gap(predict: Any = equivalent.memorizing_modes, *, generator: torch.Generator) -> Numbers:
    """The d eigenvalues after the n largest, sorted, and the end of training: six draws of weights and nested data."""
    logs, losses, gaps = [], [], []
    for row in _draw(TIMES, generator):
        modes = [predict(draw.moments, draw.psi_p, draw.psi_n, draw.flow.noise) for draw in row]
        shifts = []
        for draw, found in zip(row, modes, strict=True):
            measured = np.log(draw.top[draw.flow.n : draw.flow.n + draw.flow.d]).mean()
            shifts.append(float(measured - found.eigenvalues.log().mean()))
        logs.append(max(shifts, key=abs))
        losses.append(max((float(d.flow.train_loss(math.inf)) - m.train_loss for d, m in zip(row, modes, strict=True)), key=abs))
        gaps.append(_worst([float(d.flow.gap(math.inf) / m.weights.sum()) for d, m in zip(row, modes, strict=True)], 0.85))
    return {
        "mean log ratio": _mostly("mean log of measured over predicted eigenvalue", logs, -0.2, 0.2),
        "training loss": _mostly("final training loss minus prediction", losses, -0.08, 0.08),
        "gap": _mostly("final gap over prediction", gaps, 0.65, 1.05),
    }


claim(
    "clocks.innocent_bulk",
    title="Bulk 1 is where the data are memorized",
    statement=r"""Refuted for infinitely many noise draws: if only the $n$ largest eigenvectors of $U$ (bulks 2 and 1) are learned, for
ever, the
training loss stays above $0.93\,(1-\Delta)$, and the gap between test and training loss ends below 2 % of what it is when all are learned;
then the training loss ends below $0.75\,(1 - \Delta)$.""",
    source=f"the statement: a reading of {PAPER}, where the bulks set the two times; counterexample found here",
    regime=SMALL + THOSE,
    uses=("clocks.modes",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "clocks.innocent_bulk",
    by="counterexample",
    lane="full",
    alpha=3 * ALPHA,
    detects=DETECTS,
    mutants={
        "all learned": returns(lambda flow, *_: flow.restricted(flow.p)),
        "n + d learned": instead(lambda flow, modes: GradientFlow.restricted(flow, modes + flow.d)),
        "smallest learned": instead(lambda flow, modes: flow),
    },
)
def without_the_small_modes(predict: Any = GradientFlow.restricted, *, generator: torch.Generator) -> Numbers:
    """The end of training with and without the eigenvectors after the n largest."""
    kept, shares, whole = [], [], []
    for row in _draw(TIMES, generator):
        few = [predict(draw.flow, draw.flow.n) for draw in row]
        kept.append(min(float(flow.train_loss(math.inf)) / (1 - flow.noise) for flow in few))
        shares.append(max(float(flow.gap(math.inf) / draw.flow.gap(math.inf)) for flow, draw in zip(few, row, strict=True)))
        whole.append(max(float(draw.flow.train_loss(math.inf)) / (1 - draw.flow.noise) for draw in row))
    return {
        "training loss/(1 - D), n largest": _mostly("training loss by the n largest", kept, 0.93, 1.05),
        "share of the gap": _mostly("share of the gap by the n largest", shares, 0.0, 0.02),
        "training loss/(1 - D), all": _mostly("training loss by all", whole, 0.0, 0.75),
    }


claim(
    "clocks.memorization",
    title="The memorization time follows from those d modes",
    statement=r"""Let $\tau_{\mathrm{mem}}$ be the time at which the gap $L_{\mathrm{test}} - L_{\mathrm{train}}$ reaches half of its
limit. It is 0.85 to 1.5
times the solution of

$$\sum_jg_j\big(1 - e^{-r_j\tau}\big)^2 = \tfrac12\sum_jg_j, \qquad r_j = \frac{2\Delta\lambda_j}{\psi_p}, \quad
g_j = \frac{e_j(e_j/\Delta + v_\Delta^2 + s_\Delta^2)}{\lambda_j^2} ,$$

with $e_j$, $\lambda_j$ of {claim}`clocks.modes`. While $e_j \gg s_\Delta^2$ this is proportional to
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
        "one over D": returns(lambda time, mu, psi_p, psi_n, noise, level: time * noise / 0.0198),
        "rate without D": returns(lambda time, mu, psi_p, psi_n, noise, level: time * noise),
    },
)
def predicted_half_time(predict: Any = equivalent.predicted_memorization_time, *, generator: torch.Generator) -> Numbers:
    """Six draws of weights and nested data."""
    ratios = []
    for row in _draw(TIMES, generator):
        predicted = [float(predict(draw.moments, draw.psi_p, draw.psi_n, draw.flow.noise, level=0.5)) for draw in row]
        ratios.append(_worst([_half(draw.flow) / time for draw, time in zip(row, predicted, strict=True)], 1.13))
    return {"measured/predicted": _mostly("half time of the gap over prediction", ratios, 0.85, 1.5)}


claim(
    "clocks.linear",
    title="Half of the final gap: proportional to n, while n is below a quarter of p",
    statement=r"""The slope of $\log\tau_{\mathrm{mem}}$ in $\log n$, for the time at which the gap reaches half of its limit, is between
0.85 and 1.15 for
$2 \le n/d \le 8$. It is no pure power: the slope from 2 to 4 exceeds that from 4 to 8 by 0.1 at least.""",
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
    for row in _draw(LINE, generator):
        times = {draw.flow.n: float(predict(draw.flow, level=0.5, relative_to="final gap")) for draw in row}
        slopes.append(_slope(row, lambda flow, times=times: times[flow.n]))  # type: ignore[misc]
        first, second, third = times.values()
        bends.append(math.log2(second / first) - math.log2(third / second))
    return {
        "slope": _mostly("slope of the half time of the gap", slopes, 0.85, 1.15),
        "bend": _mostly("slope from 2 to 4 minus slope from 4 to 8", bends, 0.1, 0.7),
    }


PAIRS: Plan = tuple((24, 768, time, (4,)) for time in (0.01, 0.002, 0.01, 0.002, 0.01, 0.002))

claim(
    "clocks.noise",
    title="Less noise: generalization waits as 1/D, memorization as 1/D squared",
    statement=r"""Between $u = 0.002$ and $u = 0.01$, on the same weights and data, the slope of $\log\tau_{\mathrm{mem}}$ (half of the
final gap) in
$\log\Delta$ is between $-2.05$ and $-1.9$, that of $\log\tau_{\mathrm{gen}}$ ($E < \frac14$) between $-1.05$ and $-0.95$.""",
    source="derived here from {claim}`clocks.memorization` and {claim}`clocks.generalization`",
    regime=SMALL + r"""$\psi_n = 4$, $\psi_p = 32$, $d = 24$; with probability 0.99 at least over weights and data.""",
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
    return {"slope": _mostly("slope of the half time of the gap in log D", slopes, -2.05, -1.9)}


@check(
    "clocks.noise",
    by="rate",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "one power more": returns(lambda time, flow, **_: time / flow.noise),
        "independent of D": returns(lambda time, flow, **_: time * flow.noise),
        "memorization": instead(lambda flow, threshold: _half(flow)),
    },
)
def generalization_against_noise(predict: Any = generalization_time, *, generator: torch.Generator) -> Numbers:
    """Two noise variances for each of six draws."""
    slopes = _noise_slopes(lambda flow: float(predict(flow, threshold=0.25)), generator)
    return {"slope": _mostly("slope of the generalization time in log D", slopes, -1.05, -0.95)}


LATE: Plan = tuple((d, 768, 0.01, ratios) for d, ratios in ((24, (16, 20)), (32, (12, 16))) * 3)

claim(
    "clocks.saturation",
    title="With many data the memorization time stops growing",
    statement=r"""Beyond the crossover at
$n \simeq p\,\sum_{k\ge2}c_k^2\big/\sum_{k\ge2}kc_k^2 \approx 0.28\,p$ (for small $\Delta$), $\tau_{\mathrm{mem}}$ (half of the final gap)
is 0.8 to 1.4
times $\dfrac{\psi_p}{2\Delta s_\Delta^2}$, and its slope in $\log n$ is below 0.5.""",
    source="derived here",
    regime=SMALL
    + r"""$n/p$ from 0.5 to 0.67, $d = 24, 32$, $p = 768$, $u = 0.01$; with probability 0.99 at least over weights and
data.""",
    uses=("clocks.memorization",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


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
    for row in _draw(LATE, generator):
        times = [_half(draw.flow) for draw in row]
        limits = [float(predict(equivalent.constants(draw.flow.noise).s2, draw.psi_p, draw.flow.noise)) for draw in row]
        ratios.append(_worst([time / limit for time, limit in zip(times, limits, strict=True)], 1.1))
        slopes.append(math.log(times[1] / times[0]) / math.log(row[1].psi_n / row[0].psi_n))
    return {
        "time/(psi_p/2 D s^2)": _mostly("half time of the gap over psi_p/2 D s^2", ratios, 0.8, 1.4),
        "slope": _mostly("slope of the half time", slopes, -0.2, 0.5),
    }


# --- Definitions ----------------------------------------------------------------------------------------------------------

claim(
    "clocks.absolute_gap",
    title="The memorization time is proportional to n, whatever gap one calls memorized",
    statement=r"""Refuted: the time at which $L_{\mathrm{test}} - L_{\mathrm{train}}$ reaches $0.05$ has a slope in $\log n$ between 1.6
and 2.4. The time at
which it reaches a tenth of its limit has one between 1 and 1.4.""",
    source="counterexample found here",
    regime=SMALL + THAT,
    uses=("clocks.linear",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


def _definition(time: Callable[[GradientFlow], float], low: float, high: float, generator: torch.Generator) -> str:
    return _mostly("slope in log n", [_slope(row, time) for row in _draw(LINE, generator)], low, high)


@check(
    "clocks.absolute_gap",
    by="counterexample",
    lane="full",
    alpha=2 * ALPHA,
    detects=DETECTS,
    mutants={
        "proportional to n": returns(lambda time, flow, **_: float(flow.n)),
        "one power less": returns(lambda time, flow, **_: time / flow.n),
        "half of the final gap": instead(lambda flow, level, relative_to: _half(flow)),
        "generalization": instead(lambda flow, level, relative_to: generalization_time(flow, threshold=0.25)),
    },
)
def slopes_of_other_gaps(predict: Any = memorization_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8: six draws of weights and nested data."""
    state = generator.get_state()
    absolute = _definition(lambda flow: float(predict(flow, level=0.05, relative_to="absolute")), 1.6, 2.4, generator)
    generator.set_state(state)  # the same draws
    tenth = _definition(lambda flow: float(predict(flow, level=0.1, relative_to="final gap")), 1.0, 1.4, generator)
    return {"slope, gap 0.05": absolute, "slope, a tenth of the final gap": tenth}


claim(
    "clocks.least_error",
    title="The score error doubles at a time proportional to n",
    statement=r"""Refuted: the time at which $E$ is twice its minimum has a slope in $\log n$ between 0.25 and 0.6.""",
    source="counterexample found here",
    regime=SMALL + THAT,
    uses=("clocks.linear",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "clocks.least_error",
    by="counterexample",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "proportional to n": returns(lambda time, flow, **_: float(flow.n)),
        "root of n more": returns(lambda time, flow, **_: time * flow.n**0.5),
        "half of the final gap": instead(lambda flow, level, relative_to: _half(flow)),
        "generalization": instead(lambda flow, level, relative_to: generalization_time(flow, threshold=0.25)),
    },
)
def slope_of_the_doubling(predict: Any = memorization_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8: six draws of weights and nested data."""
    return {"slope": _definition(lambda flow: float(predict(flow, level=2.0, relative_to="least error")), 0.25, 0.6, generator)}


claim(
    "clocks.best_time",
    title="The best time to stop does not depend on the number of data",
    statement=r"""Refuted: the time at which the error of the score (so the test loss, too) is least has a slope in $\log n$ between 0.17
and 0.35.""",
    source="counterexample found here",
    regime=SMALL + THAT,
    uses=("clocks.generalization", "clocks.denoising"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "clocks.best_time",
    by="counterexample",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "independent of n": returns(lambda time, flow: 100.0),
        "root of n more": returns(lambda time, flow: time * flow.n**0.5),
        "generalization": instead(lambda flow: generalization_time(flow, threshold=0.25)),
        "half of the final gap": instead(_half),
    },
)
def slope_of_the_best_time(predict: Any = best_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8: six draws of weights and nested data."""
    return {"slope": _definition(lambda flow: float(predict(flow)), 0.17, 0.35, generator)}


claim(
    "clocks.networks",
    title="Two clocks in a network",
    statement=r"""For U-Nets trained on images, the time to generalize does not depend on the number of images, and the time to memorize is
proportional to it.""",
    source=PAPER,
    regime=r"""Networks and data sets of the paper, which we know from a summary only.""",
    uses=("clocks.linear", "clocks.generalization"),
    chapter=CHAPTER,
    verdict="open",
    missing="""training a U-Net to memorization on image sets of at least four sizes, several times each, with both times defined
beforehand: days of
a graphics processor, and data that this book does not download""",
)
