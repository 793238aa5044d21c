r"""Several ways to make samples, on the same data and with the same chance.

A **trial** is one data set: points to train on, points to choose a knob with, and points held out for the numbers that are reported. A
**method** turns training points and one knob (a bandwidth, a shift, a number of training steps) into a score. In each trial

1. the knob is the one with the largest `path_log_likelihood` of the validation points, and
2. the reverse SDE of that score makes samples, from the same starting points and with the same noise for all methods.

Trials are what is repeated, so intervals are over trials. They use order statistics: with n independent differences the interval
from the j-th smallest to the j-th largest holds their median with probability at least `1 - 2 P(Binomial(n, 1/2) < j)`, whatever their
law. **Better** is only said where a sign test over trials says it after Bonferroni's correction for all pairs of methods.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_positive, as_tensor, reject
from kss.diagnostics.path_likelihood import path_log_likelihood
from kss.distributions import Empirical
from kss.dynamics import sample_reverse_sde
from kss.scores.protocol import Score

Family = Callable[[float], Score]
"""From a knob to a score."""


class Trial(NamedTuple):
    """One data set, divided, and the number that all chance of the trial comes from."""

    training: Float[Tensor, "N d"]
    validation: Float[Tensor, "v d"]
    held_out: Float[Tensor, "n d"]
    seed: int


class Method(NamedTuple):
    """A name, a function from (training data, seed) to a family of scores, and the knobs to choose among."""

    name: str
    family: Callable[[Empirical, int], Family]
    knobs: tuple[float, ...]


class Protocol(NamedTuple):
    """How samples are made and knobs are chosen: noise variances, steps, samples, and cells of the path likelihood."""

    t_max: float
    t_min: float
    steps: int = 40
    samples: int = 200
    strata: int = 16


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method did in one trial."""

    method: str
    trial: Trial
    protocol: Protocol
    data: Empirical
    knob: float
    score: Score
    samples: Float[Tensor, "m d"] = field(repr=False)
    validation: Mapping[float, float] = field(repr=False)
    """The path log-likelihood of the validation points for each knob, in nats."""
    seconds: float = 0.0
    """Of sampling alone, in this process."""
    preparation: float = 0.0
    """Seconds for making the family (training a network) and choosing the knob."""


def divide(points: ArrayLike, *, training: int, validation: int, held_out: int, seed: int) -> Trial:
    """A trial from one collection of points (N, d): three disjoint parts of these sizes, drawn at random without replacement.

    >>> trial = divide([[float(i)] for i in range(10)], training=5, validation=2, held_out=3, seed=0)
    >>> sorted(torch.cat(trial[:3]).flatten().tolist())
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    """
    points = as_points("points", points)
    sizes = [as_count(name, size) for name, size in (("training", training), ("validation", validation), ("held_out", held_out))]
    if sum(sizes) > len(points):
        raise reject("points", points, f"at least {sum(sizes)} points, for parts of {sizes[0]}, {sizes[1]} and {sizes[2]}")
    seed = as_count("seed", seed, minimum=0)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    first, second, third = (points[part] for part in order[: sum(sizes)].split(sizes))
    return Trial(first, second, third, seed)


def attempt(method: Method, trial: Trial, protocol: Protocol, *, knobs: Sequence[float] | None = None) -> list[Outcome]:
    """What `method` does in `trial`: with the knob chosen on the validation points, or with each of `knobs`.

    A knob with a validation likelihood that is not a number is never chosen. The same trial and protocol give every method the same starting points
    and noise; a number `seed` of a trial never serves two purposes: the parts of it are derived from it.
    """
    if not method.knobs:
        raise reject("method", method, "a method with at least one knob")
    as_positive("t_min", protocol.t_min)
    begin = time.perf_counter()
    data = Empirical(trial.training)
    family = method.family(data, trial.seed)
    chance = _seeds(trial.seed)
    found: dict[float, float] = {}
    if len(method.knobs) > 1 and knobs is None:
        for knob in method.knobs:
            bound = path_log_likelihood(
                family(knob),
                trial.validation,
                t_min=protocol.t_min,
                t_max=protocol.t_max,
                start=data,
                generator=chance["validation"],
                strata=protocol.strata,
            )
            found[knob] = bound.value if math.isfinite(bound.value) else -math.inf
        chosen: Sequence[float] = [max(found, key=found.__getitem__)]
    else:
        chosen = method.knobs if knobs is None else knobs
    preparation = time.perf_counter() - begin
    start = data.diffuse(protocol.samples, protocol.t_max, generator=chance["start"])
    outcomes = []
    for knob in chosen:
        score, begin = family(knob), time.perf_counter()
        samples = sample_reverse_sde(
            score, start, t_max=protocol.t_max, t_min=protocol.t_min, steps=protocol.steps, generator=chance["noise"]
        )
        seconds = time.perf_counter() - begin
        outcomes.append(Outcome(method.name, trial, protocol, data, knob, score, samples, found, seconds, preparation))
    return outcomes


def _seeds(seed: int) -> dict[str, int]:
    """Different numbers for different purposes, the same for all methods."""
    chance = torch.Generator().manual_seed(as_count("seed", seed, minimum=0))
    numbers = torch.randint(2**62, (3,), generator=chance).tolist()
    return dict(zip(("validation", "start", "noise"), numbers, strict=True))


class MedianInterval(NamedTuple):
    """The median of a sample and an interval for the median of its law."""

    median: float
    low: float
    high: float
    coverage: float
    """A lower bound on the probability that the interval holds the median, for every law: exact for those without ties."""


def median_interval(values: ArrayLike, *, confidence: float = 0.95) -> MedianInterval:
    r"""From the j-th smallest to the j-th largest of n `values`, with the largest j for which `1 - 2 P(Binomial(n, 1/2) < j) >= confidence`.

    For independent values of any one law. If no j will do, j = 1: the whole range, whose `coverage` says what it is worth.

    >>> median_interval([3.0, 1.0, 2.0, 5.0, 4.0, 6.0])
    MedianInterval(median=3.5, low=1.0, high=6.0, coverage=0.96875)
    """
    sample = as_tensor("values", values).double()
    if sample.ndim != 1 or len(sample) == 0:
        raise reject("values", values, "a non-empty array of shape (n,)")
    if not 0 < confidence < 1:
        raise reject("confidence", confidence, "a probability strictly between 0 and 1")
    n = len(sample)
    misses = 2 * stats.binom.cdf(torch.arange(n).numpy(), n, 0.5)  # misses[j - 1] for the j-th
    j = max(1, int((misses[: (n + 1) // 2] <= (1 - confidence) * (1 + 1e-12)).sum()))
    ordered = sample.sort().values
    middle = float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return MedianInterval(middle, float(ordered[j - 1]), float(ordered[n - j]), max(0.0, 1 - float(misses[j - 1])))


def sign_p_value(differences: ArrayLike) -> float:
    """Two-sided sign test that independent `differences` (n,) have median 0: zeros count half to either side, against the decision.

    >>> sign_p_value([0.1, 0.3, 0.2, 0.5, 0.1])
    0.0625
    """
    sample = as_tensor("differences", differences).double()
    if sample.ndim != 1 or len(sample) == 0:
        raise reject("differences", differences, "a non-empty array of shape (n,)")
    n, ties = len(sample), int((sample == 0).sum())
    # All zeros are given to the smaller side: the p-value can only rise.
    fewer = min(int((sample > 0).sum()), int((sample < 0).sum())) + ties
    return min(1.0, 2 * float(stats.binom.cdf(fewer, n, 0.5)))


class Comparison:
    """Numbers of several methods in the same trials: `values[method]` (trials,), of one measure.

    `better(a, b)`: whether a is larger than b (smaller, with `smaller_is_better`) by the sign test at `level`, divided by the number of pairs.
    `leaders`: the methods that no other is better than. By Bonferroni's inequality one of the statements `better` about
    methods whose difference has median 0 is wrong with probability at most `level`, for all pairs together.

    >>> found = Comparison({"a": [1.0] * 8, "b": [2.0] * 8}, smaller_is_better=True)
    >>> found.better("a", "b"), found.leaders()
    (True, ['a'])
    """

    def __init__(self, values: Mapping[str, ArrayLike], *, smaller_is_better: bool = False, level: float = 0.05) -> None:
        self.values = {name: as_tensor(f"values[{name!r}]", value).double() for name, value in values.items()}
        shapes = {tuple(value.shape) for value in self.values.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1 or next(iter(shapes)) == (0,):
            raise reject("values", {name: tuple(v.shape) for name, v in self.values.items()}, "one number for each method and trial")
        if not 0 < level < 1:
            raise reject("level", level, "a probability strictly between 0 and 1")
        self.smaller_is_better, self.level = smaller_is_better, level
        self.pairs = max(1, len(self.values) * (len(self.values) - 1) // 2)

    def interval(self, name: str, *, confidence: float = 0.95) -> MedianInterval:
        """Of one method, over trials."""
        return median_interval(self.values[name], confidence=confidence)

    def difference(self, first: str, second: str, *, confidence: float = 0.95) -> MedianInterval:
        """Of first minus second, trial by trial."""
        return median_interval(self.values[first] - self.values[second], confidence=confidence)

    def better(self, first: str, second: str) -> bool:
        """Whether `first` is better than `second`, with the correction for all pairs."""
        gain = self.values[second] - self.values[first] if self.smaller_is_better else self.values[first] - self.values[second]
        return sign_p_value(gain) <= self.level / self.pairs and bool(gain.median() > 0)

    def leaders(self) -> list[str]:
        """The methods that none is better than, in their order."""
        beaten = {b for a, b in itertools.permutations(self.values, 2) if self.better(a, b)}
        return [name for name in self.values if name not in beaten]
