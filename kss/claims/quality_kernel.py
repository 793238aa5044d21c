"""Chapter "Swiss roll, digits, MNIST", how quality is measured: the kernel two-sample statistic, and what distances do not see."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from scipy import stats

from kss.claims.quality import CHAPTER, EPSILON, Law, Numbers, Point, multisets
from kss.claims.registry import check, claim, instead, returns
from kss.diagnostics import quality
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator


def gaussian_kernel(a: Point, b: Point, widths: list[float]) -> float:
    """`exp(-|a - b|^2/2h)`, mean over the h."""
    return math.fsum(math.exp(-(math.dist(a, b) ** 2) / (2 * h)) for h in widths) / len(widths)


# --- The kernel statistic -------------------------------------------------------------------------------------------------

claim(
    "quality.two_sample_unbiased",
    title="The kernel statistic is unbiased, its error not too small",
    statement=r"""For independent samples of $P$ and $Q$

$$\mathbb E\Big[\tfrac{1}{n(n-1)}\sum_{i \ne j}k(x_i, x_j) + \tfrac{1}{m(m-1)}\sum_{i \ne j}k(y_i, y_j)
- \tfrac{2}{nm}\sum_{i, j}k(x_i, y_j)\Big] = \mathrm{MMD}^2(P, Q),$$

which is 0 only if $P = Q$, for Gaussian kernels. For $\mathcal N(0, a)$, $\mathcal N(v, b)$ on the line and the kernel $e^{-(x - y)^2/2h}$

$$\mathrm{MMD}^2 = \sqrt{\tfrac h{h + 2a}} + \sqrt{\tfrac h{h + 2b}} - 2\sqrt{\tfrac h{h + a + b}}\;e^{-v^2/2(h + a + b)} .$$

The mean of the squared jackknife error is not below the variance of the statistic.""",
    source="Gretton et al., J. Mach. Learn. Res. 13 (2012), lemma 6; Efron and Stein, Ann. Statist. 9 (1981); two samples derived here",
    regime=r"""$n, m \ge 2$; for the error $n, m \ge 3$. All laws $P, Q$, and bandwidths that do not depend on the samples.""",
    chapter=CHAPTER,
    verdict="holds",
)


def statistic(x: list[Point], y: list[Point], widths: list[float], *, biased: bool = False) -> float:
    """The sum over pairs, written out."""

    def own(z: list[Point]) -> float:
        pairs = [gaussian_kernel(a, b, widths) for i, a in enumerate(z) for j, b in enumerate(z) if biased or i != j]
        return math.fsum(pairs) / len(pairs)

    return own(x) + own(y) - 2 * math.fsum(gaussian_kernel(a, b, widths) for a in x for b in y) / (len(x) * len(y))


@check(
    "quality.two_sample_unbiased",
    by="property",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda found, *_, **__: found._replace(statistic=found.statistic * (1 + 1e-9))),
        "error halved": returns(lambda found, *_, **__: found._replace(error=found.error / 2)),
        "with the diagonal": instead(
            lambda x, y, *, bandwidths, generator: quality.kernel_two_sample(x, y, bandwidths=bandwidths, generator=0)._replace(
                statistic=statistic([tuple(v) for v in x], [tuple(v) for v in y], bandwidths, biased=True)
            )
        ),
        "bandwidth squared": instead(
            lambda x, y, *, bandwidths, generator: quality.kernel_two_sample(x, y, bandwidths=[h**2 for h in bandwidths], generator=0)
        ),
        "exp(-r^2/h)": instead(
            lambda x, y, *, bandwidths, generator: quality.kernel_two_sample(x, y, bandwidths=[h / 2 for h in bandwidths], generator=0)
        ),
    },
)
def over_all_samples(predict: Any = quality.kernel_two_sample, *, generator: torch.Generator) -> Numbers:
    """Laws on points of the plane and of the line, all samples of 3 and 4, 4 and 3, 3 and 3: means of statistic and squared error."""
    plane: Law = {(0.0, 0.0): Fraction(1, 2), (1.0, 0.5): Fraction(1, 3), (-1.0, 2.0): Fraction(1, 6)}
    other: Law = {(0.0, 0.0): Fraction(1, 5), (1.0, 0.5): Fraction(2, 5), (0.3, -1.0): Fraction(2, 5)}
    line: Law = {(0.0,): Fraction(1, 4), (2.0,): Fraction(3, 4)}
    numbers, cases = {}, ((plane, other, 3, 4, [0.7]), (plane, plane, 4, 3, [0.3, 2.0]), (line, line, 3, 3, [1.5]))
    for number, (P, Q, n, m, widths) in enumerate(cases):

        def mean_kernel(A: Law, B: Law, widths: list[float] = widths) -> float:
            return math.fsum(float(p * q) * gaussian_kernel(a, b, widths) for a, p in A.items() for b, q in B.items())

        exact = mean_kernel(P, P) + mean_kernel(Q, Q) - 2 * mean_kernel(P, Q)
        first = second = squared = 0.0
        for (x, p), (y, q) in itertools.product(multisets(P, n), multisets(Q, m)):
            weight = float(p * q)
            found = predict([list(v) for v in x], [list(v) for v in y], bandwidths=widths, generator=0)
            without = [
                [statistic(x[:i] + x[i + 1 :], y, widths) for i in range(n)],
                [statistic(x, y[:i] + y[i + 1 :], widths) for i in range(m)],
            ]
            jackknife = math.fsum((len(w) - 1) * float(np.var(w)) for w in without)
            # Rounding of 64 units in the statistics without a point; its square root, where the jackknife is 0.
            agree("jackknife", found.error**2, jackknife, 1e-12)
            first, second = first + weight * found.statistic, second + weight * found.statistic**2
            squared += weight * found.error**2
        numbers[f"case {number}: error/allowed"] = agree(f"mean of case {number}", first, exact, 1e3 * EPSILON)
        require(squared >= second - first**2 - 1e-12, f"case {number}: mean squared error {squared}, variance {second - first**2}")
        numbers[f"case {number}: mean squared error/variance"] = squared / (second - first**2)
    return numbers


@check(
    "quality.two_sample_unbiased",
    by="quadrature",
    lane="full",
    mutants={
        "too large by 5 %": returns(lambda found, *_, **__: found._replace(statistic=found.statistic * 1.05)),
        "0.01 too large": returns(lambda found, *_, **__: found._replace(statistic=found.statistic + 0.01)),
        "bandwidth squared": instead(
            lambda x, y, *, bandwidths, generator: quality.kernel_two_sample(x, y, bandwidths=[h**2 for h in bandwidths], generator=0)
        ),
        "exp(-r^2/h)": instead(
            lambda x, y, *, bandwidths, generator: quality.kernel_two_sample(x, y, bandwidths=[h / 2 for h in bandwidths], generator=0)
        ),
    },
)
def two_gaussians_by_their_quantiles(predict: Any = quality.kernel_two_sample, *, generator: torch.Generator) -> Numbers:
    """Samples at the quantiles `(i - 1/2)/n`, a midpoint rule. For a function of variation 2, as the kernel is in each argument, it errs
    by at most 1/n: a double mean by 2/n, the statistic by 8/n, and by 2/n more for leaving out the diagonal.
    """
    n, numbers = 1500, {}
    u = (np.arange(n) + 0.5) / n
    for a, v, b, h in ((1.0, 2.0, 1.0, 0.5), (0.5, 0.0, 6.0, 0.3), (1.0, 1.5, 0.2, 3.0)):
        x, y = math.sqrt(a) * stats.norm.ppf(u)[:, None], v + math.sqrt(b) * stats.norm.ppf(u)[:, None]
        exact = math.sqrt(h / (h + 2 * a)) + math.sqrt(h / (h + 2 * b))
        exact -= 2 * math.sqrt(h / (h + a + b)) * math.exp(-(v**2) / (2 * (h + a + b)))
        found = predict(x, y, bandwidths=[h], generator=0)
        numbers[f"a = {a}, b = {b}, v = {v}, h = {h}"] = agree("MMD^2", found.statistic, exact, 10 / n)
    return numbers


claim(
    "quality.permutation",
    title="The permutation p-value is valid",
    statement=r"""Let $b$ of $B$ random permutations of all $n + m$ points give a statistic at least as large as the one observed. If the
points are exchangeable then $\Pr\big(\frac{1 + b}{1 + B} \le u\big) \le u$ for all $u$. With $b/B$ this is false: that can be 0.""",
    source="Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), 39",
    regime=r"""Every law and all $n, m, B$; the kernel is a symmetric function of all points, or fixed beforehand.""",
    uses=("quality.two_sample_unbiased",),
    chapter=CHAPTER,
    verdict="holds",
)

PERMUTATION_ALPHA = 1e-9


@check(
    "quality.permutation",
    by="statistics",
    lane="full",
    alpha=PERMUTATION_ALPHA,
    detects="a probability of p <= u that is off by 0.09 at one u, with probability 0.999",
    mutants={
        "b/B": returns(lambda found, *_, permutations, **__: found._replace(p_value=found.p_value + (found.p_value - 1) / permutations)),
        "1 - p": returns(lambda found, *_, **__: found._replace(p_value=1 - found.p_value)),
        "ties not counted": instead(
            lambda x, y, *, bandwidths, permutations, generator: _permuted(x, y, bandwidths, permutations, generator, strict=True)
        ),
        "drawn with replacement": instead(
            lambda x, y, *, bandwidths, permutations, generator: _permuted(x, y, bandwidths, permutations, generator, replace=True)
        ),
    },
)
def all_divisions_of_seven_points(predict: Any = quality.kernel_two_sample, *, generator: torch.Generator) -> Numbers:
    """The 35 divisions of seven points, some equal, into three and four, each 115 times: the law of p by the binomial law of b.
    Hoeffding's inequality at each value of p.
    """
    points = [[0.0, 0.0], [0.0, 0.0], [0.5, 2.0], [3.0, 1.0], [3.0, 1.0], [3.0, 1.0], [-1.0, 0.7]]
    B, times, widths = 9, 115, [0.5, 2.0]
    divisions = list(itertools.combinations(range(7), 3))
    parts = [([points[i] for i in some], [points[i] for i in range(7) if i not in some]) for some in divisions]
    values = [statistic([tuple(v) for v in x], [tuple(v) for v in y], widths) for x, y in parts]
    larger = [sum(other >= value - 1e-12 for other in values) / 35 for value in values]
    # P(p <= j/(1 + B)) = P(b <= j - 1).
    exact = [float(np.mean([stats.binom.cdf(j - 1, B, q) for q in larger])) for j in range(1, B + 2)]
    for j, probability in enumerate(exact, 1):
        require(probability <= j / (1 + B) + 1e-12, f"P(p <= {j}/{1 + B}) = {probability}")
    found = np.array(
        [predict(x, y, bandwidths=widths, permutations=B, generator=generator).p_value for x, y in parts for _ in range(times)]
    )
    require(float(found.min()) >= 1 / (1 + B) - 1e-9, f"the p-value {found.min()} is below 1/(1 + B)")
    measured = [float(np.mean(found <= j / (1 + B) + 1e-9)) for j in range(1, B + 2)]
    allowed = math.sqrt(math.log(2 * (B + 1) / PERMUTATION_ALPHA) / (2 * len(found)))
    worst = agree("law of the p-value", measured, exact, allowed)
    return {"worst error/allowed": worst, "P(p <= 0.1)": exact[0]}


def _permuted(
    x: Any,
    y: Any,
    widths: list[float],
    B: int,
    generator: torch.Generator,
    *,
    strict: bool = False,
    replace: bool = False,
) -> quality.TwoSample:
    points = [tuple(v) for v in [*x, *y]]
    kernel = np.array([[gaussian_kernel(a, b, widths) for b in points] for a in points])
    np.fill_diagonal(kernel, 0.0)

    def value(order: np.ndarray) -> float:
        k, n, m = kernel[np.ix_(order, order)], len(x), len(y)
        return float(k[:n, :n].sum() / (n * (n - 1)) + k[n:, n:].sum() / (m * (m - 1)) - 2 * k[:n, n:].mean())

    chance, observed = numpy_generator(generator), value(np.arange(len(points)))
    slack = 1e-12 if strict else -1e-12
    b = sum(value(chance.choice(len(points), len(points), replace=replace)) >= observed + slack for _ in range(B))
    return quality.TwoSample(observed, 0.0, (1 + b) / (1 + B))


claim(
    "quality.bandwidth",
    title="The bandwidth must not know which points are samples",
    statement=r""""The permutation p-value is valid for the bandwidth of the median heuristic, whichever points the median is taken
of." Take the six numbers 0.15, 0.18, 0.48, 3.29, 4.31 and 5.27, divided at random into three samples and three held-out points. With half
the median squared distance of the *held-out* points as bandwidth, and all 20 divisions as permutations, $\Pr(p \le 0.2) = 0.25$. With the
median of all six it is $0.2$.""",
    source="derived here",
    regime=r"""The six numbers; the bandwidth is computed once, from the division observed, as is the custom.""",
    uses=("quality.permutation",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "quality.bandwidth",
    by="counterexample",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda found, *_, **__: found._replace(statistic=found.statistic * (1 + 1e-9))),
        "the default bandwidth": instead(lambda x, y, *, bandwidths, generator: quality.kernel_two_sample(x, y, generator=generator)),
        "bandwidth squared": instead(
            lambda x, y, *, bandwidths, generator: quality.kernel_two_sample(x, y, bandwidths=[h**2 for h in bandwidths], generator=0)
        ),
    },
)
def six_numbers(predict: Any = quality.kernel_two_sample, *, generator: torch.Generator) -> Numbers:
    """All 20 divisions, and for each of them the statistics of all 20: exact p-values, with NumPy's medians."""
    numbers: list[Point] = [(0.15,), (0.18,), (0.48,), (3.29,), (4.31,), (5.27,)]
    parts = [([numbers[i] for i in some], [numbers[i] for i in range(6) if i not in some]) for some in itertools.combinations(range(6), 3)]

    def half_median(points: list[Point]) -> float:
        return float(np.median([(a[0] - b[0]) ** 2 for a, b in itertools.combinations(points, 2)])) / 2

    shares = {}
    for name in ("held-out points", "all points"):
        p_values = []
        for x, y in parts:
            widths = [half_median(y if name == "held-out points" else numbers)]
            values = []
            for a, b in parts:
                found = predict([list(v) for v in a], [list(v) for v in b], bandwidths=widths, generator=0).statistic
                agree("statistic", found, statistic(a, b, widths), 1e-12)
                values.append(found)
            observed = values[parts.index((x, y))]
            p_values.append(sum(value >= observed - 1e-12 for value in values) / len(parts))
        shares[name] = sum(p <= 0.2 + 1e-9 for p in p_values) / len(parts)
    require(shares["held-out points"] == 0.25, f"P(p <= 0.2) = {shares['held-out points']} with the median of the held-out points")
    require(shares["all points"] == 0.2, f"P(p <= 0.2) = {shares['all points']} with the median of all points")
    return {f"P(p <= 0.2), median of {name}": share for name, share in shares.items()}


# --- What distances do not see --------------------------------------------------------------------------------------------

claim(
    "quality.blind",
    title="Near to held-out data, so not copied?",
    statement=r""""A generator whose samples are as near to held-out data as fresh samples are does not copy." The training set
itself, returned as $n = N$ samples, has with held-out data every statistic in law that fresh samples have. A generator that draws training
points at random, with replacement, has

$$\mathbb E\,\widehat{\mathrm{MMD}}{}^2 = \frac{1 - \mathbb E\,k(X, X')}{N} < \frac1N$$

for every number $n$ of samples. All are copies. But the law of these samples and that of fresh ones differ by at most $\frac{n(n - 1)}{2N}$
in total variation, so no statistic of samples and held-out points can tell them apart once $N$ is large compared with $n^2$.""",
    source="derived here",
    regime=r"""Training and held-out points are independent draws of one law. The kernel is 1 on the diagonal and fixed. The mean is over
training set, held-out set and samples.""",
    uses=("quality.two_sample_unbiased",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "quality.blind",
    by="counterexample",
    lane="full",
    mutants={
        "off by 1e-9": returns(lambda found, *_, **__: found._replace(statistic=found.statistic * (1 + 1e-9))),
        "with the diagonal": instead(
            lambda x, y, *, bandwidths, generator: quality.TwoSample(
                statistic([tuple(v) for v in x], [tuple(v) for v in y], bandwidths, biased=True), 0.0, math.nan
            )
        ),
        "fresh samples' mean": instead(lambda x, y, *, bandwidths, generator: quality.TwoSample(0.0, 0.0, math.nan)),
    },
)
def copies_score_like_fresh_samples(predict: Any = quality.kernel_two_sample, *, generator: torch.Generator) -> Numbers:
    """A law on three points, all training sets of 2, 3 and 4, all draws of 3 and 4 from them with replacement, all held-out sets of 3."""
    law: Law = {(0.0, 0.0): Fraction(1, 2), (1.0, 0.5): Fraction(1, 3), (-1.0, 2.0): Fraction(1, 6)}
    widths: list[float] = [0.8]
    numbers: Numbers = {}
    alike = math.fsum(float(p * q) * gaussian_kernel(a, b, widths) for a, p in law.items() for b, q in law.items())
    held_out = list(multisets(law, 3))
    known = {
        (tuple(x), tuple(y)): predict([list(v) for v in x], [list(v) for v in y], bandwidths=widths, generator=0).statistic
        for x, _ in [*held_out, *multisets(law, 4)]
        for y, _ in held_out
    }
    for N, n in ((2, 3), (3, 4), (4, 3), (7, 3)):
        mean, change = 0.0, dict.fromkeys({round(value, 9) for value in known.values()}, 0.0)
        for training, p in multisets(law, N):
            own = {value: Fraction(training.count(value), N) for value in law if value in training}
            for (x, r), (y, q) in itertools.product(multisets(own, n), held_out):
                require(set(x) <= set(training), "a sample that is no copy")
                mean += float(p * q * r) * known[tuple(x), tuple(y)]
                change[round(known[tuple(x), tuple(y)], 9)] += float(p * q * r)
        numbers[f"N = {N}, n = {n}: error/allowed"] = agree(f"copies, N = {N}, n = {n}", mean, (1 - alike) / N, 1e3 * EPSILON)
        for (x, r), (y, q) in itertools.product(multisets(law, n), held_out):
            change[round(known[tuple(x), tuple(y)], 9)] -= float(q * r)
        distance = math.fsum(abs(value) for value in change.values()) / 2
        numbers[f"N = {N}, n = {n}: total variation, bound"] = f"{distance:.3f}, {n * (n - 1) / (2 * N):.3f}"
        require(0 < distance <= n * (n - 1) / (2 * N), f"total variation {distance} for N = {N}, n = {n}")
    training_set = math.fsum(float(p * q) * known[tuple(x), tuple(y)] for (x, p), (y, q) in itertools.product(held_out, repeat=2))
    agree("the training set itself", training_set, 0.0, 1e3 * EPSILON)
    return numbers
