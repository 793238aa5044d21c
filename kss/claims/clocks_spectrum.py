"""Chapter "Two clocks of training", second part: the spectrum that sets the rates."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from kss.claims.clocks_model import CHAPTER, PAPER
from kss.claims.registry import check, claim, instead, returns
from kss.learned import gaussian_equivalent as equivalent
from kss.learned.random_features import feature_weights, noise_at, train_moments
from kss.testing.compare import agree, require
from kss.testing.statistics import binomial_test

Numbers = dict[str, Any]
Array = np.ndarray
Plan = tuple[tuple[int, int, float, tuple[int, ...]], ...]
"""For each draw of weights and data: d, p, the Ornstein-Uhlenbeck time, and the values of n/d; the data are nested."""

SMALL = r"""The random-features model of {claim}`clocks.flow` with rows of $W$ uniform on the sphere and data from $\mathcal N(0, I_d)$;
$\psi_p = p/d$, $\psi_n = n/d$; $p > n + d$; $\Delta = 1 - e^{-2u}$. """
ALPHA = 1e-9
DRAWS = 6
FAILS = 3e-4
"""The claims say: with probability 0.9997 at least. Three of six draws that contradict reject them, with probability 6e-10 if they hold."""
ALMOST_SURELY = "with probability 0.9997 at least over weights and data."
"""The ranges are measured, not derived: they hold the means over six seeds, setting by setting, with 3.5 standard deviations (pooled over
settings) on either side. Where values are spread over decades (bulk 2 over edge, E at the end), the room was judged on their logarithms."""
DETECTS = "a formula that fails on 95 % of the draws of weights and data, with probability 0.9999; or on all draws of half of the settings"


class Spectrum(NamedTuple):
    """Eigenvalues of U, largest first, and where they come from."""

    top: Array
    d: int
    n: int
    psi_p: float
    psi_n: float
    noise: float


@functools.lru_cache(maxsize=1)
def _spectra(plan: Plan, seed: int) -> list[list[Spectrum]]:
    """As `_draws`, but for the eigenvalues alone."""
    generator, draws = torch.Generator().manual_seed(seed), []
    for d, p, time, ratios in plan:
        weights = feature_weights(p, d, generator=generator)
        points = torch.randn(max(ratios) * d, d, dtype=torch.float64, generator=generator)
        row = []
        for ratio in ratios:
            second = train_moments(weights, points[: ratio * d], noise_at(time)).second
            values = torch.linalg.eigvalsh(second).flip(0).numpy()
            row.append(Spectrum(values, d, ratio * d, p / d, float(ratio), noise_at(time)))
        draws.append(row)
    return draws


def _spectrum(plan: Plan, generator: torch.Generator) -> list[list[Spectrum]]:
    return _spectra(plan, int(torch.randint(2**62, (), generator=generator)))


def mostly(what: str, draws: Sequence[float | Sequence[float]], low: float, high: float) -> str:
    """Reject unless most of the draws have their value, or all of their values, in [low, high]; the range of the values, in words.

    The draws are independent, with settings of their own: the binomial bound holds if each fails with probability `FAILS` at most.
    No value of d, psi_p or the noise belongs to more than three of six draws, so a formula that is right at one value only is found.
    """
    values = [np.atleast_1d(np.asarray(draw, dtype=float)) for draw in draws]
    outside = sum(not bool(((value >= low) & (value <= high)).all()) for value in values)
    verdict = binomial_test(outside, len(values), FAILS, alpha=ALPHA)
    shown = f"{min(v.min() for v in values):.3g} to {max(v.max() for v in values):.3g}"
    require(not verdict.rejected, f"{what}: {outside} of {len(values)} draws outside of [{low:g}, {high:g}], values {shown}")
    return shown


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
    regime=r"$0 < \Delta < 1$, $p, n, d \to \infty$ in proportion. Finite matrices: $\psi_p = 16, 24$, $\psi_n = 2, 4, 8$."
    r" Features: $d = 24, 32$.",
    uses=("clocks.constants",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@functools.cache
def _plane_constants(noise: float) -> tuple[float, float, float, float]:
    """`(1 - D) a^2, b, v^2, s^2` by their definitions, as integrals over the plane."""
    g = np.arange(-8.4, 8.5, 0.2)
    weight = 0.2 * np.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)
    sigma = np.tanh(math.sqrt(1 - noise) * g[:, None] + math.sqrt(noise) * g)
    signal, b = float(weight * g @ sigma @ weight) ** 2, float(weight @ sigma @ (weight * g))
    v2 = float(weight @ (sigma @ weight) ** 2) - signal
    s2 = float(weight @ sigma**2 @ weight) - signal - v2 - b**2
    return signal, b, v2, s2


@functools.cache
def _sample_covariance(z: complex, psi_p: float, psi_n: float, noise: float) -> complex:
    """The same trace by another route: with `K = W W^T/d` of Marchenko-Pastur law, U is a sample covariance plus a matrix that commutes.

    With `C = (1 - D) a^2 K + v^2` and `B = b^2 K + s^2` the resolvent is `(B + C/(1 + e) - z)^{-1}`, `e = (1/n) tr C (...)^{-1}`:
    fixed point by iteration, the mean over K by Chebyshev's quadrature. The constants by integrals over the plane.
    """
    signal, b, v2, s2 = _plane_constants(noise)
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


@check(
    "clocks.resolvent",
    by="quadrature",
    mutants={
        "off by 1e-7": returns(lambda q, *_: q * (1 + 1e-7)),
        "psi_n and psi_p exchanged": instead(lambda z, psi_p, psi_n, noise: equivalent.stieltjes(z, psi_n, psi_p, noise)),
        "far away": instead(lambda z, psi_p, psi_n, noise: -1 / z),
        "b forgotten": returns(lambda q, z, psi_p, psi_n, noise: 1 / (1 / q - equivalent.constants(noise).b2)),
    },
)
def displayed_equations(predict: Any = equivalent.stieltjes, *, generator: torch.Generator) -> Numbers:
    """The equations as they are displayed, down to Im z = |z|/1000: `D_0` from the second to fourth, a residual from the last."""
    worst = 0.0
    for psi_p, psi_n, noise in ((32.0, 4.0, 0.0198), (24.0, 2.0, 0.1), (8.0, 12.0, 0.3), (0.7, 3.0, 0.6)):
        signal, _, v2, s2 = _plane_constants(noise)
        b2 = _plane_constants(noise)[1] ** 2
        x = np.geomspace(1e-3, 60, 40)
        z = x * (1 + 1e-3j)
        q = predict(torch.from_numpy(z), psi_p, psi_n, noise).numpy()
        require(bool((q.imag > 0).all()), "Im q > 0")
        s_hat, ratio = b2 * psi_p + 1 / q, psi_p / psi_n
        constant = 1 + ratio * v2 * q
        # D_0 = constant + ratio signal D_0/(s_hat D_0 + psi_p signal) is quadratic in D_0; one of its roots is meant.
        linear = psi_p * signal - constant * s_hat - ratio * signal
        root = np.sqrt(linear**2 + 4 * s_hat * constant * psi_p * signal)
        residuals = []
        for d0 in ((-linear + root) / (2 * s_hat), (-linear - root) / (2 * s_hat)):
            r = 1 / (s_hat + psi_p * signal / d0)
            terms = np.stack((psi_p * (s2 - z), psi_p * v2 / d0, (1 - psi_p) / q, -r / q**2))
            residuals.append(np.abs(terms.sum(0)) / np.abs(terms).max(0))
        what = f"residual at psi_p = {psi_p}, psi_n = {psi_n}, D = {noise}"
        worst = max(worst, agree(what, np.minimum(*residuals), np.zeros(40), 1e-8))
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
    grid = torch.logspace(-3.5, 2.2, 700, dtype=torch.float64)
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
    return {"sup |F_p - F|": mostly("distance from the limiting law", errors, 0.0, 0.015)}


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
    for row in _spectrum(BULKS, generator):
        found = []
        for draw in row:
            grid, above = _distribution(predict, draw.psi_p, draw.psi_n, draw.noise)
            counted = np.array([(draw.top > x).mean() for x in grid])
            found.append(float(np.abs(counted - above)[grid > 3 * equivalent.constants(draw.noise).s2].max()))
        errors.append(found)
    return {"sup |F_p - F|": mostly("distance from the limiting law", errors, 0.0, 0.07)}


# --- The bulks ------------------------------------------------------------------------------------------------------------

FINITE = (
    r"""Numbers: at $d = 24$ and $32$, $\psi_p = 16$ and $24$, $\psi_n = 2, 4, 8$, $u$ from 0.002 to 0.01; each for all $\psi_n$ at once,
"""
    + ALMOST_SURELY
)
_SETTINGS = ((32, 768, 0.01), (32, 512, 0.01), (32, 768, 0.002), (24, 384, 0.002), (24, 576, 0.01), (24, 384, 0.005))
BULKS: Plan = tuple((d, p, time, (2, 4, 8)) for d, p, time in _SETTINGS)

claim(
    "clocks.bulks",
    title="A few directions are common to all data, and n - d belong to these",
    statement=r"""Of the $p$ eigenvalues of $U$, $d$ are large (*bulk 2*) and the next $n - d$ (*bulk 1*) lie between

$$s_\Delta^2 + v_\Delta^2\Big(1 - \sqrt{\psi_p/\psi_n}\Big)^2 \quad\text{and}\quad
s_\Delta^2 + v_\Delta^2\Big(1 + \sqrt{\psi_p/\psi_n}\Big)^2$$

for $\psi_p \gg \psi_n > 1$. At finite $d$, 70 % of them at least do; the largest is 0.6 to 1.3 times the upper edge, the smallest
0.25 to 1.3 times the lower; and bulk 2 begins beyond 1.1 times the upper edge.""",
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
    for row in _spectrum(BULKS, generator):
        edges = [predict(draw.psi_p, draw.psi_n, draw.noise) for draw in row]
        bulks = [draw.top[draw.d : draw.n] for draw in row]
        inside.append([float(((v >= low) & (v <= high)).mean()) for v, (low, high) in zip(bulks, edges, strict=True)])
        lowest.append([v[-1] / low for v, (low, _) in zip(bulks, edges, strict=True)])
        highest.append([v[0] / high for v, (_, high) in zip(bulks, edges, strict=True)])
        gap.append([draw.top[draw.d - 1] / high for draw, (_, high) in zip(row, edges, strict=True)])
    return {
        "share inside": mostly("share of bulk 1 between the edges", inside, 0.7, 1.0),
        "least/lower edge": mostly("least eigenvalue/lower edge", lowest, 0.25, 1.3),
        "largest/upper edge": mostly("largest eigenvalue/upper edge", highest, 0.6, 1.3),
        "bulk 2/upper edge": mostly("least of bulk 2/upper edge", gap, 1.1, math.inf),
    }


claim(
    "clocks.bulk_time",
    title="Bulk 1 is learned at a time proportional to n",
    statement=r"""The median eigenvalue of bulk 1 is learned at $\tau = \psi_p/2\Delta\lambda$, between 0.9 and 1.8 times
$\dfrac{\psi_n}{2\Delta v_\Delta^2}$: the slope of $\log\tau$ in $\log n$ is between 0.9 and 1.3.""",
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
    for row in _spectrum(BULKS, generator):
        times = [float(predict(float(np.median(draw.top[draw.d : draw.n])), draw.psi_p, draw.noise)) for draw in row]
        v2 = equivalent.constants(row[0].noise).v2
        ratios.append([t * 2 * draw.noise * v2 / draw.psi_n for t, draw in zip(times, row, strict=True)])
        slopes.append(float(np.polyfit(np.log([draw.n for draw in row]), np.log(times), 1)[0]))
    return {
        "time/(psi_n/2 D v^2)": mostly("median time of bulk 1 over psi_n/2 D v^2", ratios, 0.9, 1.8),
        "slope": mostly("slope of the median time in log n", slopes, 0.9, 1.3),
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
    for row in _spectrum(BULKS, generator):
        edges = [predict(draw.psi_p, draw.n, draw.noise) for draw in row]
        lowest.append([draw.top[-1] / low for draw, (low, _) in zip(row, edges, strict=True)])
        highest.append([draw.top[draw.n + draw.d] / high for draw, (_, high) in zip(row, edges, strict=True)])
    return {
        "least/lower end": mostly("least eigenvalue/lower end", lowest, 0.7, 1.2),
        "largest/upper end": mostly("largest eigenvalue of the rest/upper end", highest, 0.7, 1.1),
    }
