"""Chapter "Collapse and speciation", first part: where runs end, clones, and what a noisy point tells, for any data set."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import special, stats

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.testing.compare import agree, require
from kss.testing.properties import for_all, numpy_generator
from kss.testing.simulation import simulation
from kss.theory.collapse import clones, gaussian_data

CHAPTER = "collapse"
PAPER = "Biroli, Bonnaire, de Bortoli and Mezard, arXiv 2402.18491"
EPSILON = float(np.finfo(float).eps)
EVERY_DATA_SET = r"""Every finite data set $x_1, \dots, x_N \in \mathbb R^d$, every $t > 0$; exact reverse dynamics in continuous
time, with the exact empirical score. Equal data points count as different ones."""

Numbers = dict[str, Any]


def _weights(points: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """By the definition, in NumPy: (..., N)."""
    return special.softmax(-((x[..., None, :] - points) ** 2).sum(-1) / (2 * t), axis=-1)


def _density(points: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """`p_t^N`, in NumPy."""
    d = points.shape[1]
    return np.exp(-((x[..., None, :] - points) ** 2).sum(-1) / (2 * t)).mean(-1) / (2 * math.pi * t) ** (d / 2)


def _line(points: np.ndarray, t: float) -> tuple[np.ndarray, float]:
    """A grid over all that matters of `p_t^N` on a line or in a plane, for the trapezoidal rule, and the size of its cells."""
    reach, step = 9 * math.sqrt(t), math.sqrt(t) / 16
    axes = [np.arange(low - reach, high + reach, step) for low, high in zip(points.min(0), points.max(0), strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, points.shape[1]), step ** points.shape[1]


# --- Where runs end -------------------------------------------------------------------------------------------------------

claim(
    "collapse.endpoint",
    title="Where a run ends is decided by Bayes' rule",
    statement=r"""Exact reverse dynamics with the empirical score, from $x$ at noise variance $t$ on, end at the data point $x_i$ with
probability

$$w_i(x) = \operatorname{softmax}_i\left(-\frac{|x - x_j|^2}{2t}\right) .$$""",
    source="derived here: reverse dynamics are the conditional law of the path given $X_t = x$; then Bayes' rule",
    regime=EVERY_DATA_SET + " Stochastic dynamics: the probability flow ends at one point, without chance.",
    uses=("empirical.softmax", "heat.reversal_sde"),
    chapter=CHAPTER,
    verdict="holds",
)

WRONG_WEIGHTS = {
    "noise halved": instead(lambda points, x, t: clones.endpoint_probabilities(points, x, t / 2)),
    "standard deviation for variance": instead(lambda points, x, t: clones.endpoint_probabilities(points, x, t**0.5)),
    "uniform": returns(lambda weights, *_: torch.full_like(weights, 1 / weights.shape[-1])),
    "nearest point": returns(lambda weights, *_: torch.nn.functional.one_hot(weights.argmax(-1), weights.shape[-1]).double()),
}


@check("collapse.endpoint", by="property", mutants=WRONG_WEIGHTS | {"off by 1e-3": returns(lambda weights, *_: weights * 1.001)})
def a_martingale_that_ends_at_the_data(predict: Any = clones.endpoint_probabilities, *, generator: torch.Generator) -> Numbers:
    """A probability of where the run ends solves `-d_t W + s.grad W + Lap W/2 = 0` (quotients of order four, score by definition);
    on a line its mean over `p_t^N` is 1/N; and near a data point, at little noise, it is 1.
    """
    rng, worst = numpy_generator(generator), 0.0
    shifts, first, second = np.arange(-2, 3), np.array([1, -8, 0, 8, -1]) / 12, np.array([-1, 16, -30, 16, -1]) / 12
    for d, n, t in ((1, 3, 0.5), (1, 6, 2.0), (2, 5, 0.7), (3, 4, 1.3)):
        points = rng.standard_normal((n, d))
        x = rng.standard_normal(d)
        # Halved steps change the residual 16-fold; what is left at 0.04 is below 1e-5 of the terms, and 1e-4 is allowed.
        h, k = 0.04 * math.sqrt(t), 0.02 * t
        stencil = np.concatenate([x + h * shifts[:, None] * axis for axis in np.eye(d)])
        around = np.asarray(predict(points, stencil, t)).reshape(d, 5, n)
        in_time = np.asarray(predict(points, np.tile(x, (5, 1)), t + k * shifts))
        score = (_weights(points, x, t) @ points - x) / t
        drift = np.einsum("a,ajn,j->n", score, around, first) / h
        noise = np.einsum("ajn,j->n", around, second) / (2 * h * h)
        rate = first @ in_time / k
        scale = np.abs(drift).max() + np.abs(noise).max() + np.abs(rate).max()
        worst = max(worst, agree(f"generator, d = {d}, N = {n}", rate, drift + noise, 1e-4 * scale + 1e-12))
        grid, cell = _line(line := rng.standard_normal((n, 1)), t)
        mean = _density(line, grid, t) @ np.asarray(predict(line, grid, t)) * cell
        worst = max(worst, agree(f"mean over p_t, N = {n}", mean, np.full(n, 1 / n), 1e-10))
        near = points + 1e-4 * rng.standard_normal((n, d))
        worst = max(worst, agree("near the data", predict(points, near, 1e-8), np.eye(n), 1e-10))
    return {"worst error/allowance": worst}


_PATHS, _STEPS = 6000, 500
_STARTS = np.array([[0.2, 0.1], [-0.6, 0.8], [2.0, -1.0]])
_POINTS = np.array([[0.0, 0.0], [1.0, 0.3], [-0.4, 1.1], [0.9, -0.8], [0.2, 0.5]])


@simulation
def _ends(*, generator: torch.Generator) -> np.ndarray:
    """Shares of the five points where 6000 runs end from each of three starts at t = 0.5: Euler-Maruyama, 500 steps to t = 1e-3."""
    rng = numpy_generator(generator)
    y = np.repeat(_STARTS, _PATHS, axis=0)
    times = np.geomspace(0.5, 1e-3, _STEPS + 1)
    for t, u in itertools.pairwise(times):
        drift = (_weights(_POINTS, y, t) @ _POINTS - y) / t
        y = y + (t - u) * drift + math.sqrt(t - u) * rng.standard_normal(y.shape)
    end = ((y[:, None] - _POINTS) ** 2).sum(-1).argmin(-1).reshape(len(_STARTS), _PATHS)
    return np.stack([(end == i).mean(1) for i in range(len(_POINTS))], -1)


@check(
    "collapse.endpoint",
    by="statistics",
    lane="full",
    alpha=1e-9,
    detects="""a probability that is wrong by 0.09, with probability 0.999, at one of 15 (start, data point); by Hoeffding's inequality, and
0.01 is left to the 500 steps (a step changes t by 1.2 %; the scheme has weak order 1)""",
    mutants=WRONG_WEIGHTS,
)
def runs_of_the_reverse_sde(predict: Any = clones.endpoint_probabilities, *, generator: torch.Generator) -> Numbers:
    """6000 runs from each of three points at t = 0.5, with five data points in the plane."""
    measured = _ends(generator=generator)
    allowed = math.sqrt(math.log(2 * measured.size / 1e-9) / (2 * _PATHS)) + 0.01
    expected = np.asarray(predict(_POINTS, _STARTS, 0.5))
    worst = agree("share of runs", expected, measured, allowed)
    return {"worst error/allowance": worst, "largest difference": float(np.abs(expected - measured).max())}


# --- Clones ---------------------------------------------------------------------------------------------------------------

claim(
    "collapse.clones",
    title="Whether two clones agree needs no simulation",
    statement=r"""Two independent runs from the same $x$ at noise variance $t$ end at the same data point with probability

$$Y(x) = \sum_i w_i(x)^2 = \frac{(4\pi t)^{-d/2}}N\,\frac{p^N_{t/2}(x)}{p_t^N(x)^2} .$$

Averaged over $X_t = x_I + \sqrt t Z$ with $I$ uniform, this is the probability that *one* run ends where the noise was added:
$\mathbb E\,Y(X_t) = \mathbb E\,w_I(X_t)$.""",
    source="derived here",
    regime=EVERY_DATA_SET,
    uses=("collapse.endpoint",),
    chapter=CHAPTER,
    verdict="holds",
)

WRONG_CLONES = {
    "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8)),
    "largest weight": instead(lambda points, x, t: clones.endpoint_probabilities(points, x, t).amax(-1)),
    "noise halved": instead(lambda points, x, t: clones.clone_probability(points, x, t / 2)),
    "three clones": instead(lambda points, x, t: (clones.endpoint_probabilities(points, x, t) ** 3).sum(-1)),
    "number of data with weight": returns(lambda value, *_: 1 / value),
}


@check("collapse.clones", by="property", mutants=WRONG_CLONES)
def sum_of_squares(predict: Any = clones.clone_probability, *, generator: torch.Generator) -> Numbers:
    """Against the ratio of the densities at t/2 and t, from their definitions in 150 digits; data sets with ties, outliers, one point."""
    from kss.testing import reference, strategies

    rng, worst = numpy_generator(generator), 0.0

    def ratio(field: Any, x: Any) -> Any:
        from flint import arb

        points, d = field.law.means.tolist(), len(x)
        later, sooner = field.log_density(x), type(field)(field.law, field.t / 2).log_density(x)
        return (sooner - 2 * later - arb(d) / 2 * (4 * arb.pi() * field.t).log() - arb(len(points)).log()).exp()

    def test(case: strategies.Case[Empirical]) -> None:
        nonlocal worst
        expected, allowed = reference.evaluate(case.law, case.x, case.t, ratio, rng)
        # Weights of equal points round alike; what is left is a sum of up to eight terms.
        worst = max(worst, agree(f"clones of {case}", predict(case.law, case.x, case.t), expected, allowed + 64 * EPSILON))

    cases = strategies.cases(strategies.datasets().map(Empirical))
    return for_all(cases, test, generator=generator, examples=10) | {"worst error/allowance": worst}


@check("collapse.clones", by="quadrature", mutants=WRONG_CLONES)
def back_where_it_came_from(predict: Any = clones.clone_probability, *, generator: torch.Generator) -> Numbers:
    """Integrals on the line and in the plane: of Y over `p_t^N`, and of each `w_i` over the noise around `x_i`."""
    rng, numbers, worst = numpy_generator(generator), Numbers(), 0.0
    for d, n, t in ((1, 2, 0.05), (1, 5, 0.3), (1, 40, 0.01), (2, 4, 0.6)):
        points = rng.standard_normal((n, d))
        grid, cell = _line(points, t)
        own = np.exp(-((grid[:, None] - points) ** 2).sum(-1) / (2 * t)) / (2 * math.pi * t) ** (d / 2)
        back = float((own * _weights(points, grid, t)).sum() * cell / n)
        mean = float(_density(points, grid, t) @ np.asarray(predict(points, grid, t)) * cell)
        worst = max(worst, agree(f"mean of Y, d = {d}, N = {n}", mean, back, 1e-10))
        numbers[f"back, d = {d}, N = {n}, t = {t}"] = back
    return numbers | {"worst error/allowance": worst}


# --- Information ----------------------------------------------------------------------------------------------------------

claim(
    "collapse.information",
    title="What a noisy data point tells about which one it was",
    statement=r"""For $I$ uniform on the indices and $X_t = x_I + \sqrt t Z$ the mutual information is

$$I^N(t) = I(I; X_t) = \log N - \mathbb E\operatorname{Ent}(w(X_t)), \qquad \operatorname{Ent}(w) = -\sum_i w_i\log w_i,$$

so that $0 \le I^N(t) \le \log N$, and every draw of $\log N - \operatorname{Ent}(w(X_t))$ is between these bounds too.""",
    source="classical (Bayes); as a criterion for collapse: " + PAPER,
    regime=EVERY_DATA_SET,
    uses=("collapse.endpoint",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "collapse.information",
    by="quadrature",
    mutants={
        "off by 1e-8": returns(lambda value, *_: value * (1 + 1e-8) + 1e-8),
        "sign": returns(lambda value, *_: -value),
        "bits": returns(lambda value, *_: value / math.log(2)),
        "Renyi's entropy": instead(lambda points, x, t: -clones.clone_probability(points, x, t).log()),
        "noise doubled": instead(lambda points, x, t: clones.posterior_entropy(points, x, 2 * t)),
    },
)
def entropy_of_the_density(predict: Any = clones.posterior_entropy, *, generator: torch.Generator) -> Numbers:
    """The same information as the entropy of `p_t^N` less that of the noise, both by the trapezoidal rule on the line and in the plane."""
    rng, worst = numpy_generator(generator), 0.0
    for d, n, t in ((1, 1, 0.4), (1, 2, 0.05), (1, 5, 0.3), (1, 40, 0.01), (2, 4, 0.6)):
        points = rng.standard_normal((n, d))
        grid, cell = _line(points, t)
        density = _density(points, grid, t)
        noise = d / 2 * math.log(2 * math.pi * math.e * t)
        information = float(-special.xlogy(density, density).sum() * cell) - noise
        entropy = np.asarray(predict(points, grid, t))
        require(bool(np.all((entropy >= -1e-14) & (entropy <= math.log(n) * (1 + 1e-12) + 1e-14))), "an entropy is not between 0 and log N")
        worst = max(worst, agree(f"information, d = {d}, N = {n}", math.log(n) - density @ entropy * cell, information, 1e-10))
    return {"worst error/allowance": worst}


claim(
    "collapse.density_estimator",
    title="An estimate of the information from the density stays below log N",
    statement=r"""The average of $-\log p_t^N(X_t) - \frac d2\log(2\pi e t)$ over draws of $X_t$ estimates $I^N(t)$, and so does not
exceed $\log N$.""",
    source="a tempting estimator; its excess derived here",
    regime=r"""Its mean *is* $I^N(t)$. But as $t \to 0$, with distinct data, one term is $\log N + \frac12(|Z|^2 - d)$, so that
the average of $M$ draws exceeds $\log N$ with probability $P(\chi^2_{Md} > Md)$, which is 0.32 for $Md = 1$ and tends to one half, and its
variance stays at $d/2M$. The entropy form of {claim}`collapse.information` has neither defect.""",
    uses=("collapse.information",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "collapse.density_estimator",
    by="counterexample",
    mutants={
        "off by 1e-6": returns(lambda value, *_: value + 1e-6),
        "entropy form": instead(lambda law, x, t: math.log(len(law)) - clones.posterior_entropy(law, x, t)),
        "entropy of the noise without e": returns(lambda value, law, *_: value + law.dim / 2),
        "standard deviation for variance": returns(lambda value, law, x, t: value + law.dim / 4 * math.log(t)),
        "p_t without 1/N": returns(lambda value, law, *_: value - math.log(len(law))),
    },
)
def terms_above_the_logarithm(predict: Any = clones.density_information, *, generator: torch.Generator) -> Numbers:
    """Well separated data: a term is `log N + (|z|^2 - d)/2`, above log N whenever `|z|^2 > d`. And on the line its mean is right."""
    rng, worst, numbers = numpy_generator(generator), 0.0, Numbers()
    for d, n, t in ((1, 2, 1e-4), (3, 7, 1e-6), (20, 50, 1e-5), (64, 5, 1e-3)):
        points = rng.permutation(n)[:, None] + 0.1 * rng.standard_normal((n, d))  # at least 0.4 apart with all but no chance
        z = rng.standard_normal((5, d))
        z *= np.sqrt(d + np.array([-0.5, -0.1, 0.1, 1.0, 3.0]))[:, None] / np.linalg.norm(z, axis=1, keepdims=True)
        got = np.asarray(predict(Empirical(points), points[n // 2] + math.sqrt(t) * z, t))
        expected = math.log(n) + ((z**2).sum(1) - d) / 2
        worst = max(worst, agree(f"terms, d = {d}, N = {n}", got, expected, 1e-8))
        require(int((got > math.log(n)).sum()) == 3, f"{(got > math.log(n)).sum()} of five terms exceed log N, expected three")
        numbers[f"chance that 100 draws exceed log N, d = {d}"] = float(stats.chi2.sf(100 * d, 100 * d))
    points, t = rng.standard_normal((5, 1)), 0.3
    grid, cell = _line(points, t)
    density, weights = _density(points, grid, t), _weights(points, grid, t)
    mean = density @ np.asarray(predict(Empirical(points), grid, t)) * cell
    information = math.log(5) + density @ special.xlogy(weights, weights).sum(-1) * cell
    return numbers | {"worst error/allowance": max(worst, agree("its mean", mean, information, 1e-9))}


# --- Averages over data sets ----------------------------------------------------------------------------------------------

NORMAL = r"""Data: $N$ independent draws of $\mathcal N(0, \lambda I_k)$; a noisy data point $X_t$."""

claim(
    "collapse.exact_mean",
    title="Clone probability and information of normal data, averaged exactly",
    statement=r"""With $E_i = |X_t - x_i|^2/2t$ and $g(u) = \mathbb E[1 - \exp(-e^{u - E_2}) \mid X_t]$, for a noisy $x_1$,

$$\mathbb E\,Y(X_t) = \mathbb E\,w_1(X_t) = \mathbb E\int e^{u - E_1}\exp\left(-e^{u - E_1}\right)\,(1 - g(u))^{N-1}\,du,$$

and $\mathbb E\,I^N(t) = \log N + \mathbb E\log w_1(X_t)$ has a like integral. Both depend on $N$, $k$ and $t/\lambda$ alone.""",
    source="derived here (Laplace transform of a sum of independent terms)",
    regime=NORMAL + " Every N and k; the averages are over data and noise.",
    uses=("collapse.clones", "collapse.information"),
    chapter=CHAPTER,
    verdict="holds",
)


@cache
def _two_data(k: int, t: float) -> tuple[float, float]:
    """N = 2, by another route: the log-odds of the own datum is `s^2/2 + s Z` with `s^2 = D^2/t`, `D^2/2` of the law chi^2_k."""
    z = np.linspace(-10, 10, 1001)
    wz = np.exp(-(z**2) / 2)
    wz /= wz.sum()
    y = np.linspace(-40 / k, math.log(k + 12 * math.sqrt(2 * k) + 60), 801)
    wy = np.exp(k / 2 * y - np.exp(y) / 2)
    wy /= wy.sum()
    s = np.sqrt(2 * np.exp(y) / t)[:, None]
    odds = s**2 / 2 + s * z
    return float(wy @ special.expit(odds) @ wz), float(math.log(2) + wy @ special.log_expit(odds) @ wz)


@cache
def _on_a_line(n: int, t: float, nodes: int) -> tuple[float, float]:
    """`E w_1` and `log N + E log w_1` for N normal data on a line: a Gauss-Hermite sum over all of them and the noise."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    *data, noise = np.meshgrid(*[z] * (n + 1), indexing="ij")
    x = data[0] + math.sqrt(t) * noise
    log_w = special.log_softmax(np.stack([-((x - each) ** 2) / (2 * t) for each in data]), axis=0)[0].ravel()
    weight = w / w.sum()
    for _ in range(n):
        weight = np.multiply.outer(weight, w / w.sum())
    return float(weight.ravel() @ np.exp(log_w)), float(math.log(n) + weight.ravel() @ log_w)


@cache
def _few_data() -> dict[tuple[int, int, float], tuple[float, float]]:
    """By `(N, k, t)`: exact means of clone probability and information for unit variance."""
    # The sums for three and four data err by less than 2e-9, by what more nodes change.
    return {(2, k, t): _two_data(k, t) for k, t in ((1, 0.2), (2, 1.0), (7, 3.0), (30, 30.0))} | {
        (3, 1, 5.0): _on_a_line(3, 5.0, 20),
        (4, 1, 12.0): _on_a_line(4, 12.0, 12),
    }


@check(
    "collapse.exact_mean",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda value, *_, **__: value * (1 + 1e-6)),
        "N/2 for N - 1": instead(
            lambda dim, t, *, log_n, variance: gaussian_data.gaussian_clone_probability(
                dim, t, log_n=math.log(math.exp(log_n) / 2 + 1), variance=variance
            )
        ),
        "N for N - 1": instead(
            lambda dim, t, *, log_n, variance: gaussian_data.gaussian_clone_probability(
                dim, t, log_n=math.log(math.exp(log_n) + 1), variance=variance
            )
        ),
        "noise halved": instead(
            lambda dim, t, *, log_n, variance: gaussian_data.gaussian_clone_probability(dim, t / 2, log_n=log_n, variance=variance)
        ),
        "one dimension more": instead(
            lambda dim, t, *, log_n, variance: gaussian_data.gaussian_clone_probability(dim + 1, t, log_n=log_n, variance=variance)
        ),
    },
)
def few_data(predict: Any = gaussian_data.gaussian_clone_probability, *, generator: torch.Generator) -> Numbers:
    """N = 2 in 1 to 30 dimensions: the mean of a logistic function over the distance of the two data and the noise along it. N = 3 and 4
    on a line: sums over all data.

    With variance 2.5 and 2.5 times the noise: only the ratio counts.
    """
    worst = 0.0
    for (n, k, t), expected in _few_data().items():
        got = predict(k, 2.5 * t, log_n=math.log(n), variance=2.5)
        worst = max(worst, agree(f"N = {n}, k = {k}, t = {t}", got, expected[0], 1e-8))
    return {"worst error/allowance": worst}


@check(
    "collapse.exact_mean",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda value, *_, **__: value + 1e-6),
        "N/2 for N - 1": instead(
            lambda dim, t, *, log_n, variance: (
                log_n
                - math.log(math.exp(log_n) / 2 + 1)
                + gaussian_data.gaussian_mean_information(dim, t, log_n=math.log(math.exp(log_n) / 2 + 1), variance=variance)
            )
        ),
        "log E w for E log w": instead(
            lambda dim, t, *, log_n, variance: (
                log_n + math.log(gaussian_data.gaussian_clone_probability(dim, t, log_n=log_n, variance=variance))
            )
        ),
        "information of the law": instead(lambda dim, t, *, log_n, variance: dim / 2 * math.log1p(variance / t)),
        "variance forgotten": instead(lambda dim, t, *, log_n, variance: gaussian_data.gaussian_mean_information(dim, t, log_n=log_n)),
        "noise halved": instead(
            lambda dim, t, *, log_n, variance: gaussian_data.gaussian_mean_information(dim, t / 2, log_n=log_n, variance=variance)
        ),
    },
)
def information_of_few_data(predict: Any = gaussian_data.gaussian_mean_information, *, generator: torch.Generator) -> Numbers:
    """The same for the information."""
    worst = 0.0
    for (n, k, t), expected in _few_data().items():
        got = predict(k, 2.5 * t, log_n=math.log(n), variance=2.5)
        worst = max(worst, agree(f"N = {n}, k = {k}, t = {t}", got, expected[1], 1e-8))
    return {"worst error/allowance": worst}


_CASES = ((3, 20, 0.5), (8, 300, 0.6), (20, 3000, 0.8))
_DRAWS = 4000


@simulation
def _noisy_data(*, generator: torch.Generator) -> dict[tuple[int, int, float], tuple[float, float]]:
    """Means of `w_1` and of the entropy over 4000 data sets, one noisy point of each; distances given `|X|` are noncentral chi-squared."""
    rng, means = numpy_generator(generator), {}
    for k, n, t in _CASES:
        own, entropy = [], []
        for _ in range(20):
            first, noise = rng.standard_normal((2, _DRAWS // 20, k))
            x = first + math.sqrt(t) * noise
            others = rng.noncentral_chisquare(k, (x**2).sum(1)[:, None], size=(len(x), n - 1))
            squares = np.concatenate((t * (noise**2).sum(1)[:, None], others), 1)
            w = special.softmax(-squares / (2 * t), axis=1)
            own.append(w[:, 0].mean())
            entropy.append(-special.xlogy(w, w).sum(1).mean())
        means[k, n, t] = float(np.mean(own)), float(np.mean(entropy))
    return means


@check(
    "collapse.exact_mean",
    by="statistics",
    lane="full",
    alpha=1e-9,
    detects="""a mean that is wrong by 0.09, with probability 0.999, at one of three (k, N, t) with N up to 3000: Hoeffding's
inequality for 4000 draws""",
    mutants={
        "three quarters": returns(lambda value, *_, **__: 0.75 * value),
        "noise halved": instead(lambda dim, t, log_n: gaussian_data.gaussian_clone_probability(dim, t / 2, log_n=log_n)),
        "N squared": instead(lambda dim, t, log_n: gaussian_data.gaussian_clone_probability(dim, t, log_n=2 * log_n)),
        "half the dimension": instead(lambda dim, t, log_n: gaussian_data.gaussian_clone_probability(dim // 2, t, log_n=log_n)),
    },
)
def many_data(predict: Any = gaussian_data.gaussian_clone_probability, *, generator: torch.Generator) -> Numbers:
    """Up to 3000 normal data in up to 20 dimensions, drawn."""
    allowed = math.sqrt(math.log(2 * len(_CASES) / 1e-9) / (2 * _DRAWS))
    numbers, worst = Numbers(), 0.0
    for (k, n, t), (own, _) in _noisy_data(generator=generator).items():
        got = predict(k, t, log_n=math.log(n))
        worst = max(worst, agree(f"k = {k}, N = {n}", got, own, allowed))
        numbers[f"exact and drawn, k = {k}, N = {n}"] = f"{got:.4f}, {own:.4f}"
    return numbers | {"worst error/allowance": worst}


@check(
    "collapse.exact_mean",
    by="statistics",
    lane="full",
    alpha=1e-9,
    detects="""a mean information that is wrong by 0.09 log N, with probability 0.999, at one of three (k, N, t) with N up to 3000:
Hoeffding's inequality for 4000 draws between 0 and log N""",
    mutants={
        "three quarters": returns(lambda value, *_, **__: 0.75 * value),
        "information of the law": instead(lambda dim, t, log_n: dim / 2 * math.log1p(1 / t)),
        "log N": instead(lambda dim, t, log_n: log_n),
        "N squared": instead(lambda dim, t, log_n: gaussian_data.gaussian_mean_information(dim, t, log_n=2 * log_n)),
        "half the dimension": instead(lambda dim, t, log_n: gaussian_data.gaussian_mean_information(dim // 2, t, log_n=log_n)),
    },
)
def information_of_many_data(predict: Any = gaussian_data.gaussian_mean_information, *, generator: torch.Generator) -> Numbers:
    """The same draws: `log N` less their mean entropy."""
    share = math.sqrt(math.log(2 * len(_CASES) / 1e-9) / (2 * _DRAWS))
    numbers, worst = Numbers(), 0.0
    for (k, n, t), (_, entropy) in _noisy_data(generator=generator).items():
        got, drawn = predict(k, t, log_n=math.log(n)), math.log(n) - entropy
        worst = max(worst, agree(f"k = {k}, N = {n}", got, drawn, share * math.log(n)))
        numbers[f"exact and drawn, k = {k}, N = {n}"] = f"{got:.4f}, {drawn:.4f}"
    return numbers | {"worst error/allowance": worst}


claim(
    "collapse.deficit",
    title="The data know less than the law, by a divergence",
    statement=r"""$$\mathbb E\,I^N(t) = I(t) - \mathbb E\,\mathrm{KL}(p_t^N \| p_t), \qquad
0 \le I(t) - \mathbb E\,I^N(t) \le \log\left(1 + \frac{B_t}N\right),$$

with $I(t) = I(X_0; X_t)$ and the bracket $B_t$ of {claim}`kl.delta_method`. For normal data $1 + B_t = (1 + \lambda/t)^k$, and
the bound is exponentially small in $k$ for $N = e^{\alpha k}$ as soon as $t > \lambda/(e^\alpha - 1)$.""",
    source="derived here: $\\mathbb E\\, p_t^N = p_t$, and Jensen's inequality with $\\mathbb E\\,\\chi^2 = B_t/N$",
    regime="$N$ independent draws of any law with finite $I(t)$; checked for normal laws.",
    uses=("collapse.information", "kl.chi_square"),
    chapter=CHAPTER,
    verdict="holds",
)


@cache
def _divergence_of_two(k: int, t: float) -> float:
    """`E KL(p_t^N || p_t)` for two normal data, from densities: entropies on the line through them, cross entropy in closed form."""
    y = np.linspace(-40 / k, math.log(k + 12 * math.sqrt(2 * k) + 60), 601)
    weight = np.exp(k / 2 * y - np.exp(y) / 2)
    weight /= weight.sum()
    distance = np.sqrt(2 * np.exp(y))[:, None]
    z = np.linspace(-10, 10, 1001) * math.sqrt(t)
    step = z[1] - z[0]
    density = (np.exp(-(z**2) / (2 * t)) + np.exp(-((z - distance) ** 2) / (2 * t))) / (2 * math.sqrt(2 * math.pi * t))
    # Symmetric about the middle: twice the part around the first datum, up to the middle. Where it is cut the error is of first order.
    part = np.where(z < distance / 2, special.xlogy(density, density), 0.0)
    entropy = -2 * weight @ part.sum(1) * step + (k - 1) / 2 * math.log(2 * math.pi * math.e * t)
    cross = k / 2 * math.log(2 * math.pi * (1 + t)) + (k + k * t) / (2 * (1 + t))
    return float(cross - entropy)


@check(
    "collapse.deficit",
    by="quadrature",
    mutants={
        "off by 1 %": returns(lambda value, *_, **__: 1.01 * value),
        "information of the law": instead(lambda dim, t, log_n: dim / 2 * math.log1p(1 / t)),
        "log N": instead(lambda dim, t, log_n: log_n),
        "noise doubled": instead(lambda dim, t, log_n: gaussian_data.gaussian_mean_information(dim, 2 * t, log_n=log_n)),
    },
)
def divergence_and_bound(predict: Any = gaussian_data.gaussian_mean_information, *, generator: torch.Generator) -> Numbers:
    """N = 2: the divergence from the densities, to 1e-3 (a grid of 0.02 sqrt(t), cut at the middle). N up to e^18: between 0 and the
    bound, above and below the condensation time.
    """
    worst = 0.0
    for k, t in ((1, 0.5), (2, 1.0), (5, 2.0)):
        law = k / 2 * math.log1p(1 / t)
        worst = max(worst, agree(f"deficit, k = {k}", law - predict(k, t, log_n=math.log(2)), _divergence_of_two(k, t), 1e-3))
    for k, log_n in ((1, 2.0), (8, 3.6), (20, 9.0), (40, 18.0)):
        for ratio in (0.5, 1.0, 4.0, 30.0):
            t = ratio / math.expm1(2 * log_n / k)
            deficit = k / 2 * math.log1p(1 / t) - predict(k, t, log_n=log_n)
            bound = math.log1p(math.expm1(k * math.log1p(1 / t)) / math.exp(log_n))
            require(-1e-8 <= deficit <= bound + 1e-8, f"k = {k}, t = {t:.3g}: deficit {deficit:.4g}, bound {bound:.4g}")
    return {"worst error/allowance": worst}
