r"""Several ways to make samples, on the same data and with the same chance.

A **trial** is one data set: points to train on, and points held out. A **method** turns training points and one knob (a bandwidth, a shift,
a number of training steps) into a score. The knob is chosen by `choose_knob`, on trials of its own: the one with the largest
`path_log_likelihood` of the held-out points. Then `attempt` makes samples with the reverse SDE of that score, in other trials, from the
same starting points and with the same noise for all methods.

Trials are what is repeated, so intervals are over trials. They use order statistics: with n independent differences the interval
from the j-th smallest to the j-th largest holds their median with probability at least `1 - 2 P(Binomial(n, 1/2) < j)`, whatever their
law. **Better** is only said where a sign test over trials says it after Bonferroni's correction for all pairs of methods.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_tensor, reject
from kss.diagnostics.path_likelihood import PathLikelihood, path_log_likelihood
from kss.distributions import Empirical
from kss.dynamics import sample_reverse_sde
from kss.scores.protocol import Score


class Trial(NamedTuple):
    """One data set, and the number that all chance of the trial comes from."""

    training: Float[Tensor, "N d"]
    held_out: Float[Tensor, "n d"]
    seed: int


class Method(NamedTuple):
    """A name; a function from (training data, knob, seed) to a score; and the knobs to choose among."""

    name: str
    make: Callable[[Empirical, float, int], Score]
    knobs: tuple[float, ...]


class Protocol(NamedTuple):
    """How samples are made and likelihoods computed: noise variances, steps, samples, and nodes of the path likelihood."""

    t_max: float
    t_min: float
    steps: int = 40
    samples: int = 200
    nodes: int = 16


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method did in one trial."""

    method: str
    trial: Trial
    protocol: Protocol
    data: Empirical
    knob: float
    score: Score = field(repr=False)
    samples: Float[Tensor, "m d"] = field(repr=False)
    preparation: float
    """Seconds in which the score was made: training, for a network."""
    seconds: float
    """Of sampling, in this process."""

    def path_log_likelihood(self, points: int | None = None) -> PathLikelihood:
        """The bound for the held-out points, or for the first `points` of them; with the same noise for every method."""
        held_out = self.trial.held_out if points is None else self.trial.held_out[:points]
        return _bound(self.score, self.data, held_out, self.trial.seed, self.protocol)


def divide(points: ArrayLike, *sizes: int, generator: int) -> tuple[Float[Tensor, "n d"], ...]:
    """Disjoint parts of a collection of points (N, d), of these sizes, drawn at random without replacement.

    >>> a, b = divide([[0.0], [1.0], [2.0]], 2, 1, generator=0)
    >>> sorted(torch.cat((a, b)).flatten().tolist())
    [0.0, 1.0, 2.0]
    """
    points = as_points("points", points)
    wanted = [as_count("sizes", size) for size in sizes]
    if not wanted or sum(wanted) > len(points):
        raise reject("sizes", sizes, f"one size or more, together at most {len(points)}, the number of points")
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(as_count("generator", generator, minimum=0)))
    return tuple(points[part] for part in order[: sum(wanted)].split(wanted))


class KnobChoice(NamedTuple):
    """What `choose_knob` found."""

    knob: float
    likelihood: dict[float, float]
    """For each knob the path log-likelihood, in nats, averaged over the trials."""

    @property
    def at_end(self) -> bool:
        """Whether the best of several knobs is the first or the last: then a better one may lie outside."""
        knobs = list(self.likelihood)
        return len(knobs) > 1 and self.knob in (knobs[0], knobs[-1])


def choose_knob(method: Method, trials: Sequence[Trial], protocol: Protocol) -> KnobChoice:
    """The knob of `method` with the largest path log-likelihood, averaged over `trials`, which should serve for nothing else.

    A likelihood that is not a finite number counts as minus infinity. `ValueError` without knobs or trials.
    """
    if not method.knobs:
        raise reject("method", method.name, "a method with at least one knob")
    if not trials:
        raise reject("trials", trials, "at least one trial")
    found = {}
    for knob in method.knobs:
        values = []
        for trial in trials:
            data = Empirical(trial.training)
            values.append(_bound(method.make(data, knob, trial.seed), data, trial.held_out, trial.seed, protocol).value)
        mean = sum(values) / len(values)
        found[knob] = mean if mean > -torch.inf else -torch.inf  # NaN becomes minus infinity
    return KnobChoice(max(found, key=found.__getitem__), found)


def attempt(method: Method, knob: float, trial: Trial, protocol: Protocol) -> Outcome:
    """Make the score of `method` with `knob` from the training points of `trial`, and samples with its reverse SDE.

    Starting points (draws of the diffused training data at `t_max`) and noise depend on the trial and the protocol, not on the method.
    """
    data, chance = Empirical(trial.training), _seeds(trial.seed)
    start = data.diffuse(protocol.samples, protocol.t_max, generator=chance["start"])
    begin = time.perf_counter()
    score = method.make(data, knob, trial.seed)
    made = time.perf_counter()
    samples = sample_reverse_sde(score, start, t_max=protocol.t_max, t_min=protocol.t_min, steps=protocol.steps, generator=chance["noise"])
    return Outcome(method.name, trial, protocol, data, knob, score, samples, made - begin, time.perf_counter() - made)


def _bound(score: Score, data: Empirical, held_out: Tensor, seed: int, protocol: Protocol) -> PathLikelihood:
    return path_log_likelihood(
        score,
        held_out,
        t_min=protocol.t_min,
        t_max=protocol.t_max,
        start=data,
        generator=_seeds(seed)["likelihood"],
        nodes=protocol.nodes,
    )


def _seeds(seed: int) -> dict[str, int]:
    """Different numbers for different purposes, the same for all methods."""
    chance = torch.Generator().manual_seed(as_count("seed", seed, minimum=0))
    numbers = torch.randint(2**62, (3,), generator=chance).tolist()
    return dict(zip(("likelihood", "start", "noise"), numbers, strict=True))


class MedianInterval(NamedTuple):
    """The median of a sample and an interval for the median of its law."""

    median: float
    low: float
    high: float
    coverage: float
    """A lower bound on the probability that the interval holds the median, for every law: exact for those without ties."""


def median_interval(values: ArrayLike, *, confidence: float = 0.95) -> MedianInterval:
    r"""From the j-th smallest to the j-th largest of n `values`, for the largest j with `1 - 2 P(Binomial(n, 1/2) < j) >= confidence`.

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
    """Two-sided sign test that independent `differences` (n,) have median 0: zeros count for the smaller side, against a decision.

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

    `better(a, b)`: whether a is larger than b (smaller, with `smaller_is_better`) by the sign test at `level` over the number of pairs.
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
