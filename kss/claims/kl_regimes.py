"""Chapter on the KL divergence, measured side: the best bandwidth, the least divergence, and how many data are enough."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import special

from kss.claims.registry import check, claim, instead, returns
from kss.diagnostics.path_divergence import PathDivergence, mean_path_divergence
from kss.distributions import Circle, Empirical, Sphere
from kss.testing.compare import agree, require
from kss.testing.sums import gaussian_nodes
from kss.theory.bias_variance import optimal_bandwidth
from kss.theory.kl import regimes

CHAPTER = "kl"
PAPER = "Gabriel, Ged, Han Veiga and Schertzer, arXiv 2505.22841 v1"
END = 1.0
"""Where every path below ends, in units of R^2; what would follow is of the order of `1/N`."""

Numbers = dict[str, Any]


@cache
def _divergence(k: int, t: float, n: int, data_sets: int, bandwidths: tuple[float, ...], seed: int) -> PathDivergence:
    """On the unit k-sphere; the same seed gives the same data, points and nodes, whatever the bandwidths."""
    nodes = 4 if t > 5e-5 else 8  # the smaller t, the rougher the score
    return mean_path_divergence(Sphere(k), n, list(bandwidths), t_min=t, t_max=END, data_sets=data_sets, generator=seed, nodes=nodes)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**40, (), generator=generator))


# --- The estimator --------------------------------------------------------------------------------------------------------

claim(
    "regimes.estimator",
    title="The path divergence can be measured without bias from few nodes per data set",
    statement=r"""Let $u$ be uniform in $\log u$ on each of several strata, $x \sim p_u$, and let $A$, $A'$ be two independent averages of
$s^N_u(x + \sqrt h\, Z) - s_u(x)$, each over a few values of $Z \sim \mathcal N(0, I)$ that need not be independent. Then the weighted
sum over strata of
$\tfrac12 A \cdot A'$ has the mean

$$D(t, h) = \frac12\, \mathbb E_{\text{data}} \int_t^T \mathbb E_{p_u}\bigl|s_u - G_h * s_u^N\bigr|^2\, du .$$

The square $\tfrac12 |A|^2$ has not: it adds the noise of the average (none for $h = 0$ or a single datum).""",
    source="derived here",
    regime=r"""Every law with a second moment, $0 < t < T$, $h \ge 0$, every number of strata and nodes. Computed for the law with two
atoms.""",
    chapter=CHAPTER,
    verdict="holds",
)


@cache
def _two_atoms(n: int, h: float, t: float, end: float) -> float:
    """D(t, h) for atoms at -1 and 1 by sums: over the number of data at 1, x, the kernel, log u. No score of the package enters."""
    z, weight = gaussian_nodes(1, 1.0, 201)
    z = z[:, 0]
    nodes, weights = np.polynomial.legendre.leggauss(16)
    log_u = np.log(t) + (nodes + 1) / 2 * np.log(end / t)
    total = 0.0
    for u, du in zip(np.exp(log_u), weights / 2 * np.log(end / t) * np.exp(log_u), strict=True):
        for atom in (-1.0, 1.0):
            x = atom + math.sqrt(u) * z
            for plus in range(n + 1):
                with np.errstate(divide="ignore"):
                    tilt = 0.5 * np.log(plus / np.float64(n - plus)) if plus < n else np.inf
                denoised = np.tanh((x[:, None] + math.sqrt(h) * z) / u + tilt) @ weight
                square = ((np.tanh(x / u) - denoised) / u) ** 2 @ weight
                total += du / 2 * special.comb(n, plus) / 2**n * square / 2
    return total


def _square_of_one_average(
    law: Any, n: int, bandwidths: Any, *, t_min: float, t_max: float, data_sets: int, generator: int
) -> PathDivergence:
    """The estimate from one average over 8 nodes, squared: too large by half the integral of the variance of that average."""
    rng, h = torch.Generator().manual_seed(generator), torch.tensor(bandwidths, dtype=torch.float64)
    rows, span = [], math.log(t_max / t_min)
    for _ in range(300):
        data = Empirical(law.sample(n, rng))
        u = t_min * math.exp(span * float(torch.rand((), generator=rng)))
        x = law.diffuse(50, u, rng)
        z = torch.randn(50, 8, x.shape[-1], dtype=torch.float64, generator=rng)
        error = data.score(x[:, None] + h.sqrt()[:, None, None, None] * z, u).mean(-2) - law.score(x, u)
        rows.append(error.square().sum(-1).mean(-1) / 2 * u * span)
    return PathDivergence(torch.tensor(t_min), h, torch.stack(rows))


@check(
    "regimes.estimator",
    by="statistics",
    lane="full",
    alpha=1e-8,
    detects="an excess of 0.06 in D(1) - D(0) = 0.54, of 0.036 in D(0.4) - D(0) = 0.20, each way",
    mutants={
        "half forgotten": returns(lambda r, *_, **__: r._replace(values=2 * r.values)),
        "off by an eighth": returns(lambda r, *_, **__: r._replace(values=1.125 * r.values)),
        "smoothed as if raw": returns(lambda r, *_, **__: r._replace(values=r.values[:, :1].expand_as(r.values))),
        "square of one average": instead(_square_of_one_average),
        "h a standard deviation": instead(lambda law, n, h, **rest: mean_path_divergence(law, n, [b**2 for b in h], **rest)),
    },
)
def law_with_two_atoms(predict: Any = mean_path_divergence, *, generator: torch.Generator) -> Numbers:
    """Atoms at -e and e, |e| = 1, in the plane, 6 data, u from 0.1 to 1: sums over the 7 possible data sets, against 8000 draws.

    D(0), and D(h) - D(0), whose noise is much smaller. Values are bounded and 8000 of them averaged: seven standard errors, of which the
    normal law needs 5.7 for alpha.
    """
    direction = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    law, t, end, bandwidths = Empirical(torch.cat((direction, -direction))), 0.1, 1.0, [0.0, 0.1, 0.4, 1.0]
    values = predict(law, 6, bandwidths, t_min=t, t_max=end, data_sets=8000, generator=_seed(generator)).values
    exact, worst, numbers = [_two_atoms(6, h, t, end) for h in bandwidths], 0.0, {}
    for j, h in enumerate(bandwidths):
        sample, expected = (values[:, j] - values[:, 0], exact[j] - exact[0]) if j else (values[:, 0], exact[0])
        allowed = 7 * float(sample.std()) / math.sqrt(len(sample))
        worst = max(worst, agree(f"D({h})" + (" - D(0)" if j else ""), float(sample.mean()), expected, allowed))
        numbers[f"D({h}){' - D(0)' if j else ''}: measured, exact"] = f"{float(sample.mean()):.4f}, {expected:.4f}"
    return numbers | {"worst error/allowance": worst}


@check(
    "regimes.estimator",
    by="property",
    mutants={
        "1e-6 of h added": returns(lambda r, *_, **__: r._replace(values=r.values + 1e-6 * r.bandwidths)),
        "fresh data for every bandwidth": instead(
            lambda law, n, h, *, generator, **rest: PathDivergence(
                torch.tensor(rest["t_min"]),
                torch.tensor(h),
                torch.cat([mean_path_divergence(law, n, [b], generator=generator + j, **rest).values for j, b in enumerate(h)], -1),
            )
        ),
    },
)
def one_datum_and_common_numbers(predict: Any = mean_path_divergence, *, generator: torch.Generator) -> Numbers:
    """With N = 1 the score is linear and smoothing does nothing: every column is the raw one. The value for one data set does not depend on
    which other bandwidths were asked for.
    """
    worst, settings = 0.0, {"t_min": 0.01, "t_max": 1.0, "data_sets": 20}
    for law in (Circle(), Sphere(3)):
        seed = _seed(generator)
        one = predict(law, 1, [0.0, 0.01, 0.3], generator=seed, **settings).values.numpy()
        # A sum of nodes of size sqrt(h)/u cancels: rounding of 1e-16 sqrt(h)/u against an error 1/u of the score.
        worst = max(worst, agree(f"N = 1 on {law}", one, np.repeat(one[:, :1], 3, axis=1), 1e-12 * one.max()))
        both = predict(law, 5, [0.02, 0.1], generator=seed, **settings).values[:, 1:]
        alone = predict(law, 5, [0.1], generator=seed, **settings).values
        worst = max(worst, agree(f"common numbers on {law}", both.numpy(), alone.numpy(), 1e-12 * float(alone.abs().max())))
    return {"worst error/allowance": worst}


# --- Best bandwidth and least divergence ----------------------------------------------------------------------------------

PAIRS = (
    # k, t, N, data sets, first of the bandwidths; t/N spans a factor 400 on the circle and 40 on the sphere.
    (1, 3e-3, 400, 150, -19),
    (1, 3e-5, 1600, 300, -27),
    (1, 1e-3, 400, 150, -20),
    (1, 1e-3, 1600, 80, -22),
    (1, 1e-4, 1600, 100, -25),
    (2, 1e-2, 1000, 100, -18),
    (2, 1e-3, 4000, 50, -21),
    (2, 3e-3, 4000, 50, -21),
)


def _grid(first: int) -> tuple[float, ...]:
    """Six of the bandwidths `10^{j/8}`, which know nothing of a formula."""
    return tuple(10 ** (j / 8) for j in range(first, first + 6))


REGIME = r"""Uniform law on the unit circle and the unit 2-sphere, computed for eight pairs $(t, N)$ with $3\cdot10^{-5} \le t \le 10^{-2}$,
$400 \le N \le 4000$, path ending at $u = 1$. In general: closed $M$ with smooth positive density, one $h$ for the whole path, $t, h \ll
R^2$, and
many data in a kernel: here $N p_M (4\pi h_*)^{k/2}$ is between 11 and 54. Nothing is asked of $h/t$: here $h_*/t$ is between 1.1 and 33."""

claim(
    "regimes.best_bandwidth",
    title="The bandwidth of the formula is as good as the best one found",
    statement=r"""The minimizer $h_*$ of

$$\frac{h^2 \langle|H|^2\rangle}{8t} + \frac{\operatorname{vol}(M)}{2N}\,(4\pi(t+h))^{-k/2},$$

for $h_* \gg t$ near

$$\left[\frac{k \operatorname{vol}(M)}{(4\pi)^{k/2}\langle|H|^2\rangle}\;\frac tN\right]^{2/(k+4)},$$

costs at most 10 % more mean path divergence than the best of six bandwidths around it, each 4/3 of the one before.
Powers fitted at one pair do not serve the others: without
$t$ ($N^{-2/(k+4)}$), or with the exponent of the pointwise optimum ($(t^2/N)^{2/(k+6)}$). Nor does the formula with $d$ for $k$; but of its
exponent alone, with $d = k + 1$ and a fitted constant, these pairs cannot tell.""",
    source=f"{PAPER}, Theorem 4 (the exponents); constant derived here",
    regime=REGIME,
    uses=("regimes.estimator",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


def _fitted(power_of_t: Callable[[int], float], power_of_n: Callable[[int], float]) -> Callable[..., float]:
    """`c t^a N^{-b}` with the constant from the best bandwidth at the first pair of each k."""

    def rival(t: float, n: Any, *, k: int, curvature_square: float, density: float, problem: Any) -> float:
        first = next(pair for pair in PAIRS if pair[0] == k)
        best = optimal_bandwidth(first[1], first[2], k=k, curvature_square=curvature_square, density=density, problem=problem)
        return best * (t / first[1]) ** power_of_t(k) * (n / first[2]) ** -power_of_n(k)

    return rival


@check(
    "regimes.best_bandwidth",
    by="statistics",
    lane="full",
    alpha=1e-8,
    detects="a bandwidth that costs 20 % more than the best at one of the pairs",
    mutants={
        "twice as wide": returns(lambda h, *_, **__: 2 * h),
        "a standard deviation": returns(lambda h, *_, **__: math.sqrt(h)),
        "without t": instead(_fitted(lambda k: 0.0, lambda k: 2 / (k + 4))),
        "without N": instead(_fitted(lambda k: 2 / (k + 4), lambda k: 0.0)),
        "pointwise exponent": instead(_fitted(lambda k: 4 / (k + 6), lambda k: 2 / (k + 6))),
        "pointwise optimum": instead(lambda t, n, **rest: optimal_bandwidth(t, n, **(rest | {"problem": "pointwise"}))),
        "d for k": instead(lambda t, n, *, k, **rest: optimal_bandwidth(t, n, k=k + 1, **rest)),
    },
)
def against_the_best_found(predict: Any = optimal_bandwidth, *, generator: torch.Generator) -> Numbers:
    """Common random numbers: D at the predicted h over D at the best of six bandwidths, in each of eight pairs.

    The ratio's standard error is at most 1.6 % (required), its true value below 1.005: six standard errors below 1.10, and the mean of at
    least 50 independent values without heavy tails (no data set holds more than 15 % of the sum: required).
    """
    seed, numbers = _seed(generator), {}
    for k, t, n, data_sets, first in PAIRS:
        bandwidths = _grid(first)
        h = predict(t, n, k=k, curvature_square=float(k * k), density=1 / Sphere(k).volume, problem="path")
        found = _divergence(k, t, n, data_sets, bandwidths, seed)
        best = int(found.mean.argmin())
        require(0 < best < len(bandwidths) - 1, f"k = {k}, t = {t}, N = {n}: the best bandwidth is at the edge of those tried")
        at_best, predicted = found.values[:, best], _divergence(k, t, n, data_sets, (float(h),), seed).values[:, 0]
        ratio = float(predicted.mean() / at_best.mean())
        error = float((predicted - ratio * at_best).std() / math.sqrt(data_sets) / at_best.mean())
        require(ratio <= 1.10, f"k = {k}, t = {t}, N = {n}: h = {h:.3g} costs {100 * (ratio - 1):.1f} % more than {bandwidths[best]}")
        require(error <= 0.016, f"k = {k}, t = {t}, N = {n}: noise {error:.3f}")
        share = float(at_best.max() / at_best.sum())
        require(share <= 0.15, f"k = {k}, t = {t}, N = {n}: one data set holds {share:.2f} of the sum")
        numbers[f"k = {k}, t = {t:g}, N = {n}: h*, cost"] = f"{h:.2e}, {ratio:.3f} +- {error:.3f}"
    return numbers


claim(
    "regimes.least_divergence",
    title="Bias and variance add up to the measured path divergence",
    statement=r"""$$D(t, h) \simeq \frac{h^2 \langle|H|^2\rangle}{8t} + \frac{\operatorname{vol}(M)}{2N}\,(4\pi(t+h))^{-k/2}$$

within 15 % and the error of the measurement (six standard errors of about 2 %), for $h$ from $0.5\,h_*$ to $1.4\,h_*$,
where the least value is
$D_* \propto t^{-k/(k+4)} N^{-4/(k+4)}$. Outside of the regime, with few data in a
kernel, the formula is far too low.""",
    source=f"{PAPER}, Theorem 4; constants derived here",
    regime=REGIME,
    uses=("regimes.best_bandwidth", "regimes.estimator"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "regimes.least_divergence",
    by="statistics",
    lane="full",
    alpha=1e-8,
    detects="an error of the formula of 40 % at any of fifteen points (15 % and twice six standard errors of 2 %)",
    mutants={
        "half of the bias": instead(
            lambda t, h, N, **rest: (regimes.mollified_path_kl(t, h, N, **rest) + regimes.mollified_path_kl(t, 0.0 * h, N, **rest)) / 2
        ),
        "larger by a half": returns(lambda value, *_, **__: 1.5 * value),
        "k for k^2 = |H|^2": instead(
            lambda t, h, N, **rest: regimes.mollified_path_kl(t, h, N, **(rest | {"curvature_square": rest["curvature_square"] ** 0.5}))
        ),
        "h for t + h, t for h": instead(lambda t, h, N, **rest: regimes.mollified_path_kl(h, t, N, **rest)),
        "2 pi for 4 pi": instead(
            lambda t, h, N, *, k, volume, curvature_square: (
                h**2 * curvature_square / (8 * t) + volume / (2 * N) * (2 * math.pi * (t + h)) ** (-k / 2)
            )
        ),
    },
)
def measured_against_the_formula(predict: Any = regimes.mollified_path_kl, *, generator: torch.Generator) -> Numbers:
    """Three bandwidths in each of five pairs, less what the formula has beyond u = 1; allowed are 15 % and six standard errors.

    True errors in this range stay near 10 %; means of at least 100 values without heavy tails.
    """
    seed, worst, numbers = _seed(generator), 0.0, {}
    for k, t, n, data_sets, first in PAIRS[::2] + PAIRS[5:6]:
        bandwidths = _grid(first)[::2]
        found = _divergence(k, t, n, 2 * data_sets, bandwidths, seed)
        rest = {"k": k, "volume": Sphere(k).volume, "curvature_square": float(k * k)}
        formula = np.array([predict(t, h, n, **rest) - predict(END, h, n, **rest) for h in bandwidths])
        mean, error = found.mean.numpy(), found.standard_error.numpy()
        require(bool((error <= 0.05 * mean).all()), f"k = {k}, t = {t}, N = {n}: noise {(error / mean).max():.3f}")
        allowed = 0.15 * mean + 6 * error
        worst = max(worst, agree(f"D for k = {k}, t = {t}, N = {n}", formula, mean, allowed))
        numbers[f"k = {k}, t = {t:g}, N = {n}: formula/measured"] = ", ".join(f"{q:.3f}" for q in formula / mean)
    return numbers | {"worst error/allowance": worst}
