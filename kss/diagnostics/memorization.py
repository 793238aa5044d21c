r"""Are generated samples copies of the training data? Tests whose false-alarm rates are known.

`D_1(y) <= D_2(y) <= ...` are the distances from a sample y to the training data. The hypothesis: the samples are *fresh*, independent
draws of the law of the data, which knows nothing of these training points. Copies are nearer than that.

**Distance test** (`D_1`). Points which were not trained on say how near fresh points come. With held-out data these are the calibrating
points. Without, the training data are divided at random into halves A and B; the points of B calibrate the distances to A, then the
reverse, and the two answers are joined by Bonferroni's inequality. Given A, the points of B and fresh samples are independent draws
of one law; so both ways are exact for every N, d, and law, if the training data are independent draws. What is tested is the whole
hypothesis, law included: samples of *another law*, blurred or from the densest part, can be nearer to the data than fresh points and copy
nothing. Their ratio is then not small, so the two tests together tell more than either.

**Ratio test** (`D_1/D_K`, K = 2 by default). For fresh samples `P(D_1/D_K < c) = 1 - (1 - c^k)^{K-1}` on k-dimensional data, where their
density is constant as far as `D_K` (`kss.theory.copies`): no calibrating points, but k. The number of samples below a threshold is
taken as beta-binomial with mean rate q and variance `2 q^2/N` of the rate, because the same N cells are hit again and again when m
exceeds N. If k is not given it is estimated, and the low end of its interval used, at which p-values are largest; if the data show no
dimension the ratio is calibrated by ranks, as the distance is.

**Which samples?** Samples are called copies at a false discovery rate (Benjamini and Hochberg), in the halves at half of it each. With
held-out points that is proved, in halves if which points are copied does not depend on where they lie; for the law of the ratio it is not
proved. With n calibrating points no p-value is below `1/(n + 1)`, so a few copies among many samples can be counted but not named.

Copied points are removed before `D_K` is sought: beside a datum that occurs twice, `D_2 = D_1` would hide every copy.
"""

import math
import textwrap
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, as_probability, as_tensor, reject
from kss.diagnostics.calibrated import benjamini_hochberg, count_p_value, critical_count, rank_p_values, rank_threshold
from kss.diagnostics.dimension import NoScalingWindow, intrinsic_dimension
from kss.diagnostics.neighbors import Neighbors, distinct, nearest_data, power_of_two
from kss.theory.copies import copy_share, ratio_false_alarm, ratio_threshold

CONFIDENCE = 0.99
"""Of the interval for an estimated dimension."""
WIDTH = 78
"""Of what is printed."""
CROWDED = 0.1
"""Beyond this relative error, `N^(-2/k)`, the law of the ratio is not used unasked."""


class Threshold(NamedTuple):
    """One calibrated threshold for a statistic of the samples."""

    value: float
    rate: float
    """The probability that a fresh sample is below it, or a bound on it."""
    below: int
    """How many samples are."""
    enough: int
    """The least number that decides for copies; more than there are samples, if no number does."""


@dataclass(frozen=True, eq=False)
class CopyTest:
    """One test of the hypothesis that no sample is a copy.

    `p_value` of the number of samples below the threshold, and the `decision`, `p_value <= alpha`; `thresholds`, one for each way of
    calibrating; `rate`, which bounds the probability that a fresh sample is below any of them. For each sample (m,): `statistic`,
    its `p_values`, whether it is `below` a threshold, and whether it is `flagged`, called a copy at the `false_discovery_rate`.
    """

    name: str
    decision: bool
    p_value: float
    alpha: float
    rate: float
    false_discovery_rate: float
    thresholds: tuple[Threshold, ...]
    assumptions: str
    statistic: Float[Tensor, " m"] = field(repr=False)
    p_values: Float[Tensor, " m"] = field(repr=False)
    below: Bool[Tensor, " m"] = field(repr=False)
    flagged: Bool[Tensor, " m"] = field(repr=False)

    @property
    def share(self) -> float:
        """The share of copies, were every copy below the threshold: the share of samples below it, corrected for `rate`."""
        return copy_share(float(self.below.double().mean()), self.rate)

    def __str__(self) -> str:
        m = len(self.below)
        lines = [f"{self.name}: p = {self.p_value:.3g}"]
        for half, limit in zip("AB", self.thresholds, strict=False):
            data = f"to half {half} of the training data: " if len(self.thresholds) > 1 else ""
            decides = f"{limit.enough} or more would decide" if limit.enough <= m else "no number would decide"
            lines.append(f"  {data}{limit.below} of {m} below {limit.value:.4g}; by chance {limit.rate * m:.3g} on average; {decides}")
        lines.append(f"  called copies, at a false discovery rate of {self.false_discovery_rate:g}: {int(self.flagged.sum())}")
        return "\n".join([*lines, *_wrapped("assumes", self.assumptions)])


@dataclass(frozen=True, eq=False)
class MemorizationTest:
    """What `memorization_test` found.

    `decision`, `p_value` and `copies` (m,) are those of the `distance` test, whose error rates are exact for samples of the law of the
    data. `ratio` is a second opinion, or None, and then `notes` say why; if it does not agree, the samples may
    follow another law. `nearest` (m,) is the training point nearest to each sample, `nearest_distance` (m,) how far it is.
    """

    distance: CopyTest
    ratio: CopyTest | None
    notes: tuple[str, ...]
    sizes: str
    nearest: Int[Tensor, " m"] = field(repr=False)
    nearest_distance: Float[Tensor, " m"] = field(repr=False)

    @property
    def decision(self) -> bool:
        """Whether the samples are nearer to the training data than fresh points are: the distance test."""
        return self.distance.decision

    @property
    def p_value(self) -> float:
        """Of the distance test."""
        return self.distance.p_value

    @property
    def copies(self) -> Bool[Tensor, " m"]:
        """The samples called copies by the distance test."""
        return self.distance.flagged

    def __str__(self) -> str:
        if self.decision:
            found = "COPIES" if self.ratio is not None and self.ratio.decision else "COPIES OR ANOTHER LAW"
        elif all(limit.enough > len(self.nearest) for limit in self.distance.thresholds):
            found = "NO DECISION IS POSSIBLE"
        else:
            found = "no copies found"
        lines = [f"{found} (p = {self.p_value:.3g}, level {self.distance.alpha:g}): {self.sizes}"]
        lines += [str(test) for test in (self.distance, self.ratio) if test is not None]
        return "\n".join(lines + [line for note in self.notes for line in _wrapped("note", note)])


def memorization_test(
    generated: ArrayLike,
    training: ArrayLike,
    held_out: ArrayLike | None = None,
    *,
    generator: Seed,
    alpha: float = 0.01,
    rate: float = 0.01,
    false_discovery_rate: float = 0.05,
    neighbors: int | None = None,
    dimension: float | int | None = None,
    noise: float | int = 0.0,
) -> MemorizationTest:
    """Whether `generated` (m, d) has copies of `training` (N, d), with `held_out` (n, d) or without; tests and terms in the module.

    - All are points in rows: flatten images, `x.reshape(len(x), -1)`; and all on one scale, as the model and its data are.
    - `held_out`: independent draws of the law of the data that were not trained on. Without them the training data are divided.
    - `generator`, a `torch.Generator` or an int: divides the data, draws the noise, chooses places for the estimate of the dimension.
    - `alpha`: the largest probability to decide for copies when all samples are fresh.
    - `rate`: the share of fresh samples allowed below the threshold. A small number of copies is found best with a small rate.
    - `false_discovery_rate`: the largest share, on average, of fresh samples among those called copies.
    - `neighbors`: K of the ratio, 2 if omitted. `dimension`: k; estimated if omitted.
    - `noise`: variance of the noise that the samples still carry in each coordinate, because their sampler stopped at `t = noise`; the
      calibrating points get the same. Remove noise from the samples first if you can: it hides copies.

    `ValueError` for arrays that do not fit together, fewer than two training points without `held_out`, and more `neighbors` than
    distinct training points.

    >>> from kss.distributions import Sphere
    >>> law = Sphere(2)
    >>> training, held_out = law.sample(500, generator=1), law.sample(300, generator=2)
    >>> memorization_test(law.sample(200, generator=3), training, held_out, generator=0).decision
    False
    >>> memorization_test(training[:200] + 1e-4, training, held_out, generator=0).decision
    True
    """
    y = _rows("generated", generated)
    data = _rows("training", training, y.shape[1])
    fresh = None if held_out is None else _rows("held_out", held_out, y.shape[1])
    alpha, rate = as_probability("alpha", alpha), as_probability("rate", rate)
    false_discovery_rate = as_probability("false_discovery_rate", false_discovery_rate)
    if not (math.isfinite(noise) and noise >= 0):
        raise reject("noise", noise, "a variance >= 0")
    k = None if dimension is None else as_positive("dimension", float(dimension))
    if fresh is None and len(data) < 2:
        raise reject("training", data, "two points or more, to calibrate each other, where held_out is not given")
    chance = as_generator(generator)
    points = data[distinct(data)]
    K = 2 if neighbors is None else as_count("neighbors", neighbors, minimum=2)
    if neighbors is not None and len(points) < K:
        raise reject("neighbors", neighbors, f"at most the number of distinct training points, {len(points)}")

    levels = _Levels(alpha, rate, false_discovery_rate)
    folds, parts = _folds(y, data, fresh, K, noise, chance)
    distance = _by_ranks("distance to the nearest training point", [fold.nearest for fold in folds], levels, parts)
    # The nearest datum of all is the nearer one of both halves'.
    own = torch.stack([fold.generated.distance[:, 0] for fold in folds]).min(0)
    which = torch.stack([fold.generated.which[:, 0] for fold in folds]).gather(0, own.indices.unsqueeze(0))[0]

    notes, ratio = _notes(data, points, folds, distance, own.values), None
    if len(points) < K:
        notes.append(f"no ratio test: it needs {K} distinct training points")
    else:
        low, origin = (k, "given") if k is not None else _low_dimension(data, len(points), chance)
        if low is not None:
            near = (folds[0].generated if len(folds) == 1 else nearest_data(points, y, K)).distance
            ratio = _by_law(_ratio(near), low, origin, K, len(points), levels)
        elif all(fold.generated.distance.shape[1] == K for fold in folds):
            pairs = [(_ratio(fold.generated.distance), _ratio(fold.known)) for fold in folds]
            ratio = _by_ranks(f"ratio D_1/D_{K}", pairs, levels, parts)
            notes.append(f"{origin}: the ratio is calibrated by ranks")
        else:
            notes.append(f"no ratio test: {origin}, and a half of them has fewer than {K} distinct points")
    if distance.decision and (ratio is None or not ratio.decision):
        second = "there is no ratio test" if ratio is None else "by the ratio they are not"
        notes.append(
            f"the samples are nearer to the training data than fresh points, but {second}: not copies, perhaps, but another law, "
            "as of blurred samples or of those from the densest part of the data. Look at some beside their `nearest`"
        )
    sizes = f"{len(y)} generated, {len(data)} training" + (f", {len(fresh)} held-out" if fresh is not None else "")
    return MemorizationTest(distance, ratio, tuple(notes), f"{sizes} points in R^{y.shape[1]}", which, own.values)


class _Levels(NamedTuple):
    """Error rates that are asked for."""

    alpha: float
    rate: float
    false_discovery_rate: float


class _Fold(NamedTuple):
    """Distances from the samples and from the calibrating points to one and the same data."""

    generated: Neighbors
    known: Float[Tensor, "n K"]

    @property
    def nearest(self) -> tuple[Tensor, Tensor]:
        """`D_1` of the samples and of the calibrating points."""
        return self.generated.distance[:, 0], self.known[:, 0]


def _folds(y: Tensor, data: Tensor, fresh: Tensor | None, K: int, noise: float | int, chance: torch.Generator) -> tuple[list[_Fold], str]:
    """One way to calibrate, by fresh points, or two, by the halves of the data; and what is assumed then."""
    if fresh is not None:
        pairs = [(torch.arange(len(data)), fresh)]
        said = "held-out points and fresh samples are independent draws of one law"
    else:
        order = torch.randperm(len(data), generator=chance, device=chance.device).cpu()
        a, b = order[: (len(data) + 1) // 2], order[(len(data) + 1) // 2 :]
        pairs = [(a, data[b]), (b, data[a])]
        said = "training points and fresh samples are independent draws of one law (the training data, halved, calibrate themselves)"
    if noise > 0:
        said += f", with noise of variance {noise:g} per coordinate on the samples"
    folds = []
    for rows, known in pairs:
        if noise > 0:
            draw = torch.randn(known.shape, dtype=torch.float64, generator=chance, device=chance.device).cpu()
            known = known + math.sqrt(noise) * draw
        rows = rows[distinct(data[rows])]
        count = min(K, len(rows))
        found = nearest_data(data[rows], y, count)
        folds.append(_Fold(Neighbors(found.distance, rows[found.which]), nearest_data(data[rows], known, count).distance))
    return folds, said


def _by_ranks(name: str, pairs: list[tuple[Tensor, Tensor]], levels: _Levels, assumptions: str) -> CopyTest:
    """Samples against calibrating points, (m,) and (n,), in one way or several: exact, and joined by Bonferroni's inequality."""
    ways, m = len(pairs), len(pairs[0][0])
    thresholds, counts, singles = [], [], []
    below, flagged = torch.zeros(m, dtype=torch.bool), torch.zeros(m, dtype=torch.bool)
    for values, known in pairs:
        value, j = rank_threshold(known, levels.rate / ways)
        here, p_values, rest = values < value, rank_p_values(values, known), len(known) + 1 - j
        counts.append(count_p_value(int(here.sum()), m, j, rest))
        enough = critical_count(m, j, rest, levels.alpha / ways) if value > 0 else m + 1  # nothing is below 0
        thresholds.append(Threshold(value, j / (len(known) + 1), int(here.sum()), enough))
        singles.append(p_values)
        # The false discoveries of a union are at most those of both, its discoveries at least those of either.
        below, flagged = below | here, flagged | benjamini_hochberg(p_values, levels.false_discovery_rate / ways)
    p_value = min(1.0, ways * min(counts))
    return CopyTest(
        name=name,
        decision=p_value <= levels.alpha,
        p_value=p_value,
        alpha=levels.alpha,
        false_discovery_rate=levels.false_discovery_rate,
        rate=min(1.0, sum(limit.rate for limit in thresholds)),
        thresholds=tuple(thresholds),
        assumptions=assumptions,
        statistic=torch.stack([values for values, _ in pairs]).amin(0),
        p_values=(ways * torch.stack(singles).amin(0)).clamp_max(1.0),
        below=below,
        flagged=flagged,
    )


def _by_law(ratio: Tensor, k: float, origin: str, K: int, N: int, levels: _Levels) -> CopyTest:
    """The ratio against its law on k-dimensional data."""
    rate = levels.rate
    c, p_values, m = ratio_threshold(rate, k, K), ratio_false_alarm(ratio, k, K), len(ratio)
    below = ratio < c
    a, b = N / 2, N / 2 * (1 - rate) / rate  # a beta law with mean `rate` and variance 2 rate^2/N, nearly
    p_value = count_p_value(int(below.sum()), m, a, b)
    return CopyTest(
        name=f"ratio D_1/D_{K}",
        decision=p_value <= levels.alpha,
        p_value=p_value,
        alpha=levels.alpha,
        rate=rate,
        false_discovery_rate=levels.false_discovery_rate,
        thresholds=(Threshold(c, rate, int(below.sum()), critical_count(m, a, b, levels.alpha)),),
        assumptions=f"the data have a density on a manifold of dimension at least {k:.3g} ({origin}) that is nearly constant as "
        f"far as D_{K} reaches: the law is that of large N, and its relative error falls like N^(-2/k), here {N ** (-2 / k):.2g}. "
        "The error rates were simulated, not proved",
        statistic=ratio,
        p_values=p_values,
        below=below,
        flagged=benjamini_hochberg(p_values, levels.false_discovery_rate),
    )


def _ratio(distance: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
    """`D_1/D_K`; the data are distinct, so that the denominator is positive."""
    return (distance[:, 0] / distance[:, -1]).clamp(0.0, 1.0)


def _low_dimension(data: Tensor, N: int, chance: torch.Generator) -> tuple[float | None, str]:
    """The low end of the interval for the dimension, and where it comes from; None, and why, if there is none."""
    try:
        found = intrinsic_dimension(data / power_of_two(data.abs().max()), chance, confidence=CONFIDENCE)
    except NoScalingWindow:
        return None, "the training data show no one dimension at the scales they resolve"
    if found.low <= 0 or N ** (-2 / found.low) > CROWDED:
        return None, f"{N} training points are too few for the law of the ratio in dimension {found.dimension:.3g}"
    return found.low, f"low end of an estimate of {found.dimension:.3g}"


def _notes(data: Tensor, points: Tensor, folds: list[_Fold], distance: CopyTest, nearest: Tensor) -> list[str]:
    """What a reader has to know about this input."""
    notes = []
    if len(points) < len(data):
        notes.append(f"{len(data) - len(points)} training points repeat others exactly")
    same = sum(int((fold.known[:, 0] == 0).sum()) for fold in folds)
    if same > 0:
        kind = "held-out points are exact training points" if len(folds) == 1 else "points of either half are also in the other"
        said = f"{same} {kind}: if fresh points coincide with the data as often, to coincide proves nothing"
        if any(limit.value == 0 for limit in distance.thresholds):
            remedy = "held-out points that were not trained on" if len(folds) == 1 else "each training point once"
            said += f", and nothing is below a threshold of 0. If that is an accident of collecting, give {remedy}"
        notes.append(said)
    elif (exact := int((nearest == 0).sum())) > 0:
        notes.append(
            f"{exact} samples are exact training points, and no calibrating point is: copies, however few, "
            "unless the law gives single points a positive probability"
        )
    if all(bool(mine.median() > known.max()) for mine, known in (fold.nearest for fold in folds)):
        notes.append(
            "most samples are farther from the training data than every calibrating point: they follow another law, are on another "
            "scale, or carry noise that `noise` does not mention. Copies are not to be seen through that"
        )
    if distance.decision and not bool(distance.flagged.any()):
        # No rank p-value is below 1/(n + 1). Of two halves each finds its own copies, about half of them, at half the level.
        share = len(folds) ** 2 / ((min(len(fold.known) for fold in folds) + 1) * distance.false_discovery_rate)
        extent = f"only if they were {share:.0%} of the samples or more" if share < 1 else "however many they were"
        verb = "can say which ones" if share < 1 else "cannot say which ones"
        notes.append(f"the number below the threshold decides; so few calibrating points {verb} {extent}: look at `below` and `p_values`")
    return notes


def _rows(name: str, value: ArrayLike, dim: int | None = None) -> Float[Tensor, "n d"]:
    """Points, with a word for those who bring images."""
    tensor = as_tensor(name, value)
    if tensor.ndim > 2:
        raise reject(name, value, "shape (n, d), one row for each point: flatten images, x.reshape(len(x), -1)")
    return as_points(name, tensor, dim).detach().double().cpu()


def _wrapped(label: str, text: str) -> list[str]:
    """Indented lines of readable width."""
    return textwrap.wrap(f"{label}: {text}", WIDTH, initial_indent="  ", subsequent_indent="    ")
