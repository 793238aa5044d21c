"""Chapter "Is this sample a copy?", third part: the tests themselves, their false alarms and what they find."""

import dataclasses
import itertools
import math
from collections import Counter
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy import stats

from kss.claims.copies import CHAPTER, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.diagnostics import calibrated, memorization_test
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.testing.statistics import binomial_test

# --- Ranks ----------------------------------------------------------------------------------------------------------------

claim(
    "copy.ranks",
    title="Ranks among fresh points are exact",
    statement=r"""Let $D_1, \dots, D_m$ be the statistic of the samples and $H_1, \dots, H_n$ that of calibrating points, all $n + m$
exchangeable. Then for every $u$ and $j$

$$\Pr\Big(\frac{1 + \#\{i : H_i \le D_1\}}{n + 1} \le u\Big) \le u, \qquad
\Pr\big(\#\{i : D_i < H_{(j)}\} \ge s\big) \le \Pr(S \ge s), \quad S \sim \mathrm{Binomial}(m, Q),\; Q \sim \mathrm{Beta}(j, n + 1 - j),$$

with equality (at $u = j/(n+1)$) if ties have probability zero.""",
    source="classical (order statistics; conformal p-values)",
    regime=r"""Every $n, m \ge 1$, $1 \le j \le n$, every law, with ties or without.""",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "copy.ranks",
    by="proof",
    mutants={
        "off by 1e-9": returns(lambda p, *_: p * (1 + 1e-9)),
        "threshold taken as known": instead(lambda s, m, a, b: float(stats.binom.sf(s - 1, m, a / (a + b)))),
        "one calibrating point less": instead(lambda s, m, a, b: calibrated.count_p_value(s, m, a, b - 1)),
        "more than, for at least": instead(lambda s, m, a, b: calibrated.count_p_value(s + 1, m, a, b) if s < m else 0.0),
    },
)
def every_order_of_samples_and_calibrating_points(predict: Any = calibrated.count_p_value, *, generator: torch.Generator) -> Numbers:
    """All `C(n + m, m)` orders are equally likely: the law of the count in exact fractions, for n + m up to 8 and every j and s."""
    worst, cases = 0.0, 0
    for m, n in itertools.product(range(1, 5), range(2, 5)):
        orders = list(itertools.combinations(range(n + m), m))
        for j in range(1, n):
            counts: Counter[int] = Counter()
            for places in orders:
                known = [i for i in range(n + m) if i not in places]
                counts[sum(p < known[j - 1] for p in places)] += 1
            for s in range(m + 1):
                exact = float(Fraction(sum(c for i, c in counts.items() if i >= s), len(orders)))
                worst = max(worst, agree(f"m = {m}, n = {n}, j = {j}, s = {s}", predict(s, m, j, n + 1 - j), exact, 1e-12 * exact))
                cases += 1
    return {"cases": cases, "worst error/allowance": worst}


@check(
    "copy.ranks",
    by="proof",
    mutants={
        "a third smaller": returns(lambda p, *_: 2 * p / 3),
        "n for n + 1": instead(lambda d, h: (torch.tensor(h).unsqueeze(0) <= torch.tensor(d).unsqueeze(1)).double().mean(1)),
        "ties the other way": instead(
            lambda d, h: (1 + (torch.tensor(h).unsqueeze(0) < torch.tensor(d).unsqueeze(1)).double().sum(1)) / (len(h) + 1)
        ),
        "too conservative": instead(lambda d, h: (calibrated.rank_p_values(d, h) * (len(h) + 1) + 1) / (len(h) + 1)),
    },
)
def every_value_with_ties(predict: Any = calibrated.rank_p_values, *, generator: torch.Generator) -> Numbers:
    """Draws from three values with unequal probabilities, all combinations: `P(p <= j/(n+1)) <= j/(n+1)`; all orders: equality."""
    weights = {0.0: Fraction(1, 2), 1.0: Fraction(1, 3), 2.0: Fraction(1, 6)}
    cases = 0
    for n in (1, 2, 4):
        ranks: Counter[int] = Counter()
        tied = dict.fromkeys(range(1, n + 2), Fraction(0))
        for values in itertools.product(weights, repeat=n + 1):
            rank = float(predict([values[0]], list(values[1:]))[0]) * (n + 1)
            require(abs(rank - round(rank)) < 1e-9, f"p-value {rank}/(n + 1): not a rank")
            tied[min(max(1, round(rank)), n + 1)] += math.prod((weights[v] for v in values), start=Fraction(1))
            require(rank > 0.5, f"p-value 0 for {values}")
        for place in range(n + 1):  # distinct values: each place among the others is equally likely
            ranks[round(float(predict([place + 0.5], [float(i + 1) for i in range(n)])[0]) * (n + 1))] += 1
        for j in range(1, n + 2):
            share = sum(tied[i] for i in range(1, j + 1))
            require(share <= Fraction(j, n + 1), f"n = {n}: P(p <= {j}/{n + 1}) = {share} with ties")
            require(ranks[j] == 1, f"n = {n}: {ranks[j]} of {n + 1} orders have the p-value {j}/{n + 1}")
            cases += 1
    return {"levels": cases}


claim(
    "copy.leave_one_out",
    title='"The training points calibrate each other"',
    statement=r"""Rank $D_1(y)$ among the distances of the $N$ training points from their own nearest neighbors:

$$p = \frac{1 + \#\{i : D_1(x_i) \le D_1(y)\}}{N + 1}.$$

**Refuted as stated.** $p$ has its least value $1/(N + 1)$ with probability $2/(N + 1)$: of $N + 1$ exchangeable points the closest *two*
have the least distance. It is repaired by one: add 1 to the count if $y$ is nearer to its nearest datum than every other datum is.""",
    source="derived here",
    regime=r"""Fresh $y$ and data exchangeable, all distances different, $N \ge 2$; the repaired $p$ is exact for single samples.""",
    uses=("copy.ranks",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "copy.leave_one_out",
    by="counterexample",
    mutants={
        "doubled": returns(lambda p, *_: 2 * p),
        "itself left out of the count": instead(lambda d, h: calibrated.rank_p_values(d, h) - 1 / (len(h) + 1)),
        "n for n + 1": instead(lambda d, h: calibrated.rank_p_values(d, h) * (len(h) + 1) / len(h)),
    },
)
def the_closest_pair(predict: Any = calibrated.rank_p_values, *, generator: torch.Generator) -> Numbers:
    """Random sets of N + 1 points, each of them in turn the sample: exact shares for that set, N = 2 to 40, in one to five dimensions."""
    rng, numbers = numpy_generator(generator), {}
    for N, d in itertools.product((2, 3, 10, 40), (1, 2, 5)):
        points = rng.standard_normal((N + 1, d))
        distance = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
        np.fill_diagonal(distance, np.inf)
        plain, repaired = [], []
        for i in range(N + 1):
            others = [j for j in range(N + 1) if j != i]
            within = distance[np.ix_(others, others)].min(1)
            nearest = int(np.argmin(distance[i, others]))
            own = float(distance[i, others][nearest])
            p = float(predict([own], within.tolist())[0])
            plain.append(p)
            repaired.append(p + (own < within[nearest]) / (N + 1))
        least = sum(p <= 1 / (N + 1) + 1e-12 for p in plain)
        require(least == 2, f"N = {N}, d = {d}: {least} of {N + 1} points have a p-value of at most 1/{N + 1}, expected 2")
        for j in range(1, N + 2):
            share = sum(p <= j / (N + 1) + 1e-12 for p in repaired)
            require(share <= j, f"N = {N}, d = {d}: repaired, {share} of {N + 1} points are at most {j}/{N + 1}")
        numbers[f"P(p <= 1/{N + 1})"] = f"2/{N + 1}"
    return numbers


# --- The test -------------------------------------------------------------------------------------------------------------


def _law(which: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    """A circle, a Gaussian law in R^5, and a lattice in the plane, where distances are tied and points repeat."""
    if which == 0:
        angle = rng.uniform(0, 2 * math.pi, n)
        return torch.from_numpy(np.stack((np.cos(angle), np.sin(angle)), -1))
    if which == 1:
        return torch.from_numpy(rng.standard_normal((n, 5)))
    return torch.from_numpy(np.round(3 * rng.standard_normal((n, 2))))


_LEVELS, _RUNS = (0.02, 0.1, 0.3), 500


def _false_alarms(test: Any, held_out: bool, rng: np.random.Generator, *, rate: float) -> Numbers:
    """P-values of fresh samples in `_RUNS` runs, in turn from the three laws: at each level exact binomial tails."""
    p_values = []
    for run in range(_RUNS):
        m, n, N = (int(rng.integers(low, high)) for low, high in ((20, 80), (30, 60), (30, 60)))
        y, data, fresh = (_law(run % 3, size, rng) for size in (m, N, n))
        options = {"generator": run, "dimension": 2, "rate": rate}
        p_values.append(float((test(y, data, fresh, **options) if held_out else test(y, data, **options)).p_value))
    numbers: Numbers = {}
    for level in _LEVELS:
        count = sum(p <= level for p in p_values)
        verdict = binomial_test(count, _RUNS, level, alpha=1e-9)
        require(not verdict.rejected, f"p <= {level} in {count} of {_RUNS} runs with fresh samples, p-value {verdict.p_value:.3g}")
        numbers[f"P(p <= {level}), detects"] = f"{count / _RUNS:.3f}, {verdict.detects:.3f}"
    return numbers


def _certain(test: Any, held_out: bool, rng: np.random.Generator) -> int:
    """As many exact copies as `enough` says (of the halves: twice as many, less one), the other samples fresh: it must decide."""
    runs = 0
    for which, N, n, m in ((0, 50, 40, 60), (1, 80, 120, 30), (0, 300, 500, 200)):
        data, fresh, y = _law(which, N, rng), _law(which, n, rng), _law(which, m, rng)
        for alpha in (0.1, 0.001):
            options = {"generator": runs, "dimension": 2, "alpha": alpha}

            def decide(samples: torch.Tensor, data: torch.Tensor = data, fresh: torch.Tensor = fresh, options: Any = options) -> Any:
                return test(samples, data, fresh, **options) if held_out else test(samples, data, **options)

            # The threshold, and so `enough`, does not depend on the samples; it is recomputed here from order statistics.
            ways, size = (1, n) if held_out else (2, N // 2)
            j = max(1, math.floor(0.01 / ways * (size + 1)))
            law = stats.betabinom(m, j, size + 1 - j)
            enough = next(s for s in range(1, m + 1) if law.sf(s - 1) <= alpha / ways)
            copied = enough if held_out else 2 * enough - 1
            if copied > min(m, N):
                continue
            samples = torch.cat((data[:copied], y[copied:]))
            found = decide(samples)
            require(
                bool(found.decision), f"{copied} copies among {m} samples, {N} data, {size} calibrating: p = {found.p_value:.3g} > {alpha}"
            )
            runs += 1
    return runs


def _with_p(change: float) -> Any:
    """The same result with another p-value."""

    def altered(result: Any, *_: Any, **__: Any) -> Any:
        p = min(1.0, change * result.p_value)
        return dataclasses.replace(result, distance=dataclasses.replace(result.distance, p_value=p, decision=p <= result.distance.alpha))

    return altered


def _careless(
    y: torch.Tensor, data: torch.Tensor, known: torch.Tensor, reference: torch.Tensor, rate: float = 0.01, alpha: float = 0.01
) -> Any:
    """Samples measured against all data, calibrating points against `reference`."""
    values, fresh = (torch.cdist(a, b).amin(1) for a, b in ((y, data), (known, reference)))
    threshold, j = calibrated.rank_threshold(fresh, rate)
    p = calibrated.count_p_value(int((values < threshold).sum()), len(y), j, len(fresh) + 1 - j)
    return SimpleNamespace(p_value=p, decision=p <= alpha)


claim(
    "copy.calibrated",
    title="The test with held-out points keeps its false-alarm rate",
    statement=r"""For fresh samples the p-value of `memorization_test(generated, training, held_out)` is at most $u$ with probability at
most $u$, for every law, dimension and size. If the data have no ties, exact copies in the number that its result calls `enough` are
found with certainty, whatever the other samples are.""",
    source="this project",
    regime=r"""Held-out points and samples are independent draws of one law, or exchangeable given the training data. A generator that
copies nothing, but draws from another law nearer to the training data than fresh points are, is not covered by the first statement.""",
    uses=("copy.ranks",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "copy.calibrated",
    by="statistics",
    lane="full",
    alpha=3e-9,
    detects="p-values below 0.02, 0.1, 0.3 in 11, 25 and 50 % of the runs in place of 2, 10, 30 %, each with probability 0.999",
    mutants={
        "a fourth of the p-value": returns(_with_p(0.25)),
        "ten times the p-value": returns(_with_p(10.0)),
        "training points in the place of held-out ones": instead(
            lambda y, data, fresh, **options: memorization_test(y, data, data, **options)
        ),
        "held-out points measured against half of the data": instead(
            lambda y, data, fresh, *, generator, dimension, **levels: _careless(y, data, fresh, data[::2], **levels)
        ),
    },
)
def false_alarms_and_certain_finds(predict: Any = memorization_test, *, generator: torch.Generator) -> Numbers:
    """Fresh samples from three laws, one of them with ties, sizes at random; and copies in the number that is enough."""
    rng = numpy_generator(generator)
    return _false_alarms(predict, True, rng, rate=0.1) | {"certain finds": _certain(predict, True, rng)}


claim(
    "copy.halves",
    title="Without held-out points the data calibrate themselves, in halves",
    statement=r"""`memorization_test(generated, training)` measures samples and the points of one half of the data against the other
half, then the reverse, and doubles the smaller p-value. For fresh samples this is at most $u$ with probability at most $u$. If the data
have no ties, any $2 s - 1$ exact copies of different data are found with certainty, where $s$ is the larger `enough` of the two halves.""",
    source="this project",
    regime=r"""Training points and samples are independent draws of one law: no augmented, repeated or neighboring recordings that fresh
samples do not have as well. (Those would make the halves look nearer to each other than fresh points are, and hide copies.)""",
    uses=("copy.ranks",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "copy.halves",
    by="statistics",
    lane="full",
    alpha=3e-9,
    detects="p-values below 0.02, 0.1, 0.3 in 11, 25 and 50 % of the runs in place of 2, 10, 30 %, each with probability 0.999",
    mutants={
        "an eighth of the p-value": returns(_with_p(0.125)),
        "ten times the p-value": returns(_with_p(10.0)),
        "samples against all the data": instead(
            lambda y, data, *, generator, dimension, **levels: _careless(y, data, data[1::2], data[::2], **levels)
        ),
        "training points at their own places": instead(lambda y, data, **options: memorization_test(y, data, data, **options)),
    },
)
def false_alarms_and_certain_finds_of_the_halves(predict: Any = memorization_test, *, generator: torch.Generator) -> Numbers:
    """As with held-out points, without them."""
    rng = numpy_generator(generator)
    return _false_alarms(predict, False, rng, rate=0.2) | {"certain finds": _certain(predict, False, rng)}


claim(
    "copy.calls",
    title="Among the samples called copies few are innocent",
    statement=r"""On average at most the share $\varphi$, the `false_discovery_rate`, of the samples that `memorization_test` calls copies
are fresh (none, where none is called). With $n$ held-out points every exact copy is called, if the samples include at least the share
$1/((n + 1)\,\varphi)$ of them and the data have no ties; with fewer none need be.""",
    source="Benjamini and Hochberg 1995; for ranks with shared calibrating points Bates et al. 2023",
    regime=r"""As for the false alarms; samples that are no copies are fresh, not of another law. With held-out points proved in the
source; in halves, if which training points are copied does not depend on where they lie, by the proof below.""",
    uses=("copy.calibrated", "copy.halves"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "copy.calls",
    by="proof",
    lane="full",
    mutants={
        "all of rank one": returns(lambda called, p, *_: p <= p.min()),
        "not corrected": instead(lambda p, level: p <= level),
        "Bonferroni": instead(lambda p, level: p <= level / len(p)),
        "for any dependence": instead(lambda p, level: calibrated.benjamini_hochberg(p, level / sum(1 / i for i in range(1, len(p) + 1)))),
        "one step too many": instead(lambda p, level: calibrated.benjamini_hochberg(p - level / len(p), level)),
    },
)
def every_order_with_copies_of_calibrating_points(predict: Any = calibrated.benjamini_hochberg, *, generator: torch.Generator) -> Numbers:
    """With n calibrating points, f fresh samples, a copies at distance 0, b copies of calibrating points: all orders, all choices.

    The mean share of fresh ones among the called is at most `level f/m`, and equal to it for f = 1, b = 0 and a level at which all
    thresholds are ranks.
    """
    numbers: Numbers = {}
    for n, f, a, b, rank in ((7, 1, 2, 0, 1), (9, 1, 3, 0, 2), (6, 3, 1, 0, 1), (6, 3, 0, 2, 1), (6, 2, 1, 2, 1), (5, 3, 0, 3, 1)):
        m, total, cases = f + a + b, Fraction(0), 0
        level = Fraction(m * rank, n + 1) if m * rank <= n else Fraction(m, m + 1)
        for places in itertools.combinations(range(1, n + f + 1), f):
            known = [float(i) for i in range(1, n + f + 1) if i not in places]
            for some in itertools.combinations(known, b):
                ranks = [1 + sum(h <= value for h in known) for value in (*map(float, places), *([0.0] * a), *some)]
                called = predict(torch.tensor(ranks, dtype=torch.float64) / (n + 1), float(level) * (1 + 1e-12))
                total += Fraction(int(called[:f].sum()), max(1, int(called.sum())))
                cases += 1
        share, allowed = total / cases, level * f / m
        require(share <= allowed, f"n = {n}, fresh {f}, copies {a} + {b}: share {share}, at most {allowed}")
        require(f > 1 or share == allowed, f"n = {n}, fresh {f}, copies {a} + {b}: share {share}, exactly {allowed} expected")
        numbers[f"n = {n}, fresh {f}, copies {a} + {b}: share, bound"] = f"{share}, {allowed}"
    return numbers


@check(
    "copy.calls",
    by="statistics",
    lane="full",
    alpha=2e-9,
    detects="a mean share of 0.4 in place of 0.1, with probability 0.999, by Hoeffding's inequality (300 runs each way)",
    mutants={
        "all below the threshold": returns(lambda r, *_, **__: _calling(r, r.distance.below)),
        "all with a p-value below the rate": returns(lambda r, *_, **__: _calling(r, r.distance.p_values <= 0.1)),
        "none": returns(lambda r, *_, **__: _calling(r, torch.zeros_like(r.copies))),
        "those below the median": returns(lambda r, *_, **__: _calling(r, r.distance.statistic <= r.distance.statistic.median())),
    },
)
def the_share_of_fresh_samples_among_the_called(predict: Any = memorization_test, *, generator: torch.Generator) -> Numbers:
    """10 copies among 100 samples with 150 held-out points, 20 among 60 in halves; Gaussian data in R^2."""
    rng, runs, level = numpy_generator(generator), 300, 0.1
    numbers: Numbers = {}
    for held_out, m, copied, N in ((True, 100, 10, 80), (False, 60, 20, 400)):
        shares = []
        for run in range(runs):
            data, fresh, y = (torch.from_numpy(rng.standard_normal((size, 2))) for size in (N, 150, m))
            y[:copied] = data[rng.permutation(N)[:copied]]
            options = {"generator": run, "dimension": 2, "false_discovery_rate": level, "rate": 0.2}
            called = (predict(y, data, fresh, **options) if held_out else predict(y, data, **options)).copies
            shares.append(float(called[copied:].sum()) / max(1, int(called.sum())))
            require(bool(called[:copied].all()) or not held_out, f"{int(called[:copied].sum())} of {copied} copies called")
        allowed = level + math.sqrt(math.log(1e9) / (2 * runs))
        require(float(np.mean(shares)) <= allowed, f"on average {np.mean(shares):.3f} of the called are fresh, {allowed:.3f} allowed")
        numbers["share of fresh among called, " + ("held-out" if held_out else "halves")] = float(np.mean(shares))
    return numbers


def _calling(result: Any, flagged: torch.Tensor) -> Any:
    return dataclasses.replace(result, distance=dataclasses.replace(result.distance, flagged=flagged))


claim(
    "copy.ratio_test",
    title="The ratio test keeps its rate, with the dimension given or estimated",
    statement=r"""For fresh samples the p-value of the ratio test in `memorization_test` is at most $u$ with probability at most $u$,
though the same $N$ cells are hit again and again by $m \gg N$ samples: the number below the threshold is taken as beta-binomial,
with a rate that varies from data set to data set with variance $2 q^2/N$ about its mean $q$. (What was measured is among the
numbers of the check.)""",
    source="this project; simulated only",
    regime=r"""Computed: circle and 2-sphere, $N = 50$, $m = 2000$, $q = 0.2$, dimension given; 2-sphere in $\mathbb R^3$, $N = m = 300$,
dimension estimated (by the low end of its interval). In general where the law of the ratio is good.""",
    uses=("copy.ratio", "copy.dimension"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


def _on_sphere(k: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    points = rng.standard_normal((n, k + 1))
    return torch.from_numpy(points / np.linalg.norm(points, axis=1, keepdims=True))


@check(
    "copy.ratio_test",
    by="statistics",
    lane="full",
    alpha=3e-9,
    detects="p-values below 0.02, 0.1, 0.3 in 17, 32 and 58 % of the runs in place of 2, 10, 30 %, each with probability 0.999",
    mutants={
        "a tenth of the p-value": returns(
            lambda r, *_, **__: dataclasses.replace(r, ratio=dataclasses.replace(r.ratio, p_value=r.ratio.p_value / 10))
        ),
        "binomial": returns(
            lambda r, y, *_, **__: dataclasses.replace(
                r,
                ratio=dataclasses.replace(
                    r.ratio, p_value=float(stats.binom.sf(r.ratio.thresholds[0].below - 1, len(y), r.ratio.thresholds[0].rate))
                ),
            )
        ),
        "dimension of the space": instead(
            lambda y, data, *, dimension, **rest: memorization_test(y, data, dimension=dimension + 1, **rest)
        ),
    },
)
def many_samples_of_few_data(predict: Any = memorization_test, *, generator: torch.Generator) -> Numbers:
    """N = 50, m = 2000, on the circle and on the 2-sphere in turn: an exact binomial tail for p <= 0.1."""
    rng, runs, N, m, q = numpy_generator(generator), 250, 50, 2000, 0.2
    results: list[list[Any]] = [[], []]
    for run in range(runs):
        k = 1 + run % 2
        results[k - 1].append(predict(_on_sphere(k, m, rng), _on_sphere(k, N, rng), generator=run, dimension=k, rate=q).ratio)
    numbers: Numbers = {}
    for level in (0.02, 0.1, 0.3):
        count = sum(result.p_value <= level for result in itertools.chain(*results))
        verdict = binomial_test(count, runs, level, alpha=1e-9)
        require(not verdict.rejected, f"p <= {level} in {count} of {runs} runs with fresh samples, p-value {verdict.p_value:.3g}")
        numbers[f"P(p <= {level}), detects"] = f"{count / runs:.3f}, {verdict.detects:.3f}"
    for k, mine in enumerate(results, 1):
        shares = np.array([result.thresholds[0].below / m for result in mine])
        numbers[f"mean rate/q, variance times N/q^2, k = {k}"] = (
            f"{shares.mean() / q:.3f}, {(shares.var() - q * (1 - q) / m) * N / q**2:.2f}"
        )
    return numbers


@check(
    "copy.ratio_test",
    by="statistics",
    lane="full",
    alpha=1e-9,
    detects="p-values below 0.1 in 80 % of the runs in place of 10 %, with probability 0.999",
    mutants={
        "a thousandth of the p-value": returns(
            lambda r, *_, **__: dataclasses.replace(r, ratio=dataclasses.replace(r.ratio, p_value=r.ratio.p_value / 1000))
        ),
        "dimension of the space": instead(lambda y, data, **rest: memorization_test(y, data, dimension=data.shape[1], **rest)),
    },
)
def with_an_estimated_dimension(predict: Any = memorization_test, *, generator: torch.Generator) -> Numbers:
    """2-sphere in R^3, N = m = 300: 30 data sets, each with its own estimate."""
    rng, runs, count = numpy_generator(generator), 30, 0
    lowest = math.inf
    for run in range(runs):
        found = predict(_on_sphere(2, 300, rng), _on_sphere(2, 300, rng), generator=run, rate=0.1)
        require(found.ratio is not None, "no ratio test")
        count += found.ratio.p_value <= 0.1
        lowest = min(lowest, found.ratio.p_value)
    verdict = binomial_test(count, runs, 0.1, alpha=1e-9)
    require(not verdict.rejected, f"p <= 0.1 in {count} of {runs} runs with fresh samples, p-value {verdict.p_value:.3g}")
    return {"P(p <= 0.1)": count / runs, "detects": verdict.detects, "least p-value": lowest}


claim(
    "copy.repeats",
    title='"The ratio to the second nearest image finds copies"',
    statement=r"""**Refuted as stated**, for data that occur twice, which are those most often copied: beside such a datum $D_2 = D_1$,
and the ratio is 1 however exact the copy. With repeats removed before the second neighbor is sought, as `memorization_test` does, all
are found.""",
    source="derived here",
    regime=r"""Every datum occurs twice or more; samples within $10^{-6}$ of data on the circle, whose gaps are larger.""",
    uses=("copy.ratio",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "copy.repeats",
    by="counterexample",
    mutants={
        "ratios turned around": returns(
            lambda r, *_, **__: dataclasses.replace(r, ratio=dataclasses.replace(r.ratio, p_values=1 - r.ratio.p_values))
        ),
        "repeats kept": instead(lambda y, data, *_, **__: SimpleNamespace(ratio=SimpleNamespace(p_values=_rows_ratio(y, data)))),
        "dimension zero": instead(lambda y, data, **__: SimpleNamespace(ratio=SimpleNamespace(p_values=_rows_ratio(y, data[::2]) ** 1e-3))),
    },
)
def copies_of_data_that_occur_twice(predict: Any = memorization_test, *, generator: torch.Generator) -> Numbers:
    """200 samples beside 200 data that occur two or three times: ratio to the second row, and the test's p-values."""
    rng = numpy_generator(generator)
    angle = np.cumsum(rng.uniform(0.01, 0.05, 200))  # gaps of at least 0.01, less than a turn
    points = torch.from_numpy(np.stack((np.cos(angle * 5 / 6), np.sin(angle * 5 / 6)), -1))
    for times in (2, 3):
        data = points.repeat_interleave(times, 0)
        samples = points + 1e-7
        naive = _rows_ratio(samples, data)
        require(bool((naive > 1 - 1e-9).all()), f"ratio to the second row: down to {float(naive.min()):.3g}")
        p_values = predict(samples, data, generator=0, dimension=1).ratio.p_values
        # 1e-7 sqrt(2) against gaps of 8e-3 or more.
        require(bool((p_values < 3e-5).all()), f"p-values up to {float(p_values.max()):.3g}")
    return {"samples": 200, "largest p-value": float(p_values.max())}


def _rows_ratio(y: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    near = torch.cdist(y, data, compute_mode="donot_use_mm_for_euclid_dist").topk(2, largest=False).values
    return near[:, 0] / near[:, 1]
