r"""The error of a score, where the training supervised it and where it had to extrapolate.

Training inputs at noise variance t are `x_i + sqrt(t) Z`; they lie in shells of radius `sqrt(d t)` about the data
(`kss.theory.supervision`). The inputs of generation are those of the law, `c + sqrt(t) Z` with c a point that was not trained on,
and for small t these lie outside of every shell. Two references, `s^N` of the data and `s` of the law, and two kinds of
inputs, make four errors,

    E |D - m^N|^2 / d,    E |D - m|^2 / d,    D = x + t s_theta(x),

in units of the variance of the data. The first, over training inputs, is what the training loss exceeds its least value by; the second,
over fresh inputs, the same of the loss on test data; the first, over fresh inputs, is not measured by any loss. Divided by
`E |m^N - x|^2 / d` the first is the relative square error of the score.

Source of the distinction: Song, Kim, Chen, Du, Kakade, Sitzmann, arXiv 2510.01378.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, as_probability, reject
from kss.distributions import Empirical
from kss.scores.protocol import Score, score_function

BLOCK = 2**22
"""At most so many distances are held at once."""


class Interval(NamedTuple):
    """A mean, or a ratio of means, and a confidence interval for it."""

    value: float
    low: float
    high: float


class RegionErrors(NamedTuple):
    """The errors of a score on one kind of inputs."""

    to_empirical: Interval
    """`E |D - m^N|^2 / d`."""
    relative: Interval
    """`E |D - m^N|^2 / E |m^N - x|^2`, the relative square error of the score."""
    to_truth: Interval | None
    """`E |D - m|^2 / d`, if the true score was given."""
    inputs: int
    """How many noisy points it is about."""


class SupervisionReport(NamedTuple):
    """What `supervision_report` found."""

    supervised: RegionErrors
    """On noisy training points."""
    extrapolation: RegionErrors | None
    """On noisy fresh points that lie outside of every shell; None if there are none."""
    ratio: Interval | None
    """Of the two errors to the empirical denoiser: extrapolation over supervised. Between 0 and infinity if both vanish."""
    outside: float
    """The fraction of noisy fresh points that lie outside of every shell."""


def shells_hit(x: ArrayLike, points: ArrayLike, t: float, *, delta: float) -> Int[Tensor, " n"]:
    """In how many of the shells `| |x - x_i|/sqrt(d t) - 1 | <= delta` each of `x` (n, d) lies; `points` (N, d), `t` > 0, `delta` >= 0."""
    data = as_points("points", points).detach().double()
    query = as_points("x", x, dim=data.shape[1]).detach().double().to(data.device)
    radius = math.sqrt(data.shape[1]) * math.sqrt(as_positive("t", t))
    width = _width(delta)
    counts = []
    for part in query.split(max(1, BLOCK // len(data))):
        ratio = torch.cdist(part, data, compute_mode="donot_use_mm_for_euclid_dist") / radius
        counts.append(((ratio - 1).abs() <= width).sum(-1))
    return torch.cat(counts)


def supervision_report(
    score: Score,
    points: ArrayLike,
    fresh: ArrayLike,
    t: float,
    *,
    delta: float,
    draws: int = 8,
    truth: Score | None = None,
    confidence: float = 0.95,
    generator: Seed,
) -> SupervisionReport:
    """The error of `score` at noise variance `t`, split into where it was supervised and where it extrapolates.

    Arguments: `score`, anything with `score(x, t)`; `points` (N, d), the training data; `fresh` (M, d), clean points of the same
    law that were not trained on; `delta` >= 0, the relative half-width of the shells (2.5/sqrt(2 d) holds about 98 % of the
    training inputs); `draws` noisy versions of each point; `truth`, the score of the law, if known.

    Intervals are for the given score and data set: they say how well the errors are known from so many inputs, not how they vary from
    training to training. They treat the clean points as drawn at random and are normal approximations on the scale of the
    logarithm, so want some twenty points of each kind; from one point they are (0, infinity).

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0] * 16, 1.0)
    >>> data = law.sample(50, 1)
    >>> found = supervision_report(law, data, law.sample(50, 2), 0.2, delta=0.4, truth=law, generator=3)
    >>> found.extrapolation.to_empirical.value > found.supervised.to_empirical.value, found.supervised.to_truth.value
    (True, 0.0)
    """
    data = as_points("points", points).detach().double()
    others = as_points("fresh", fresh, dim=data.shape[1]).detach().double().to(data.device)
    t, draws, width = as_positive("t", t), as_count("draws", draws), _width(delta)
    z, chance = float(special.ndtri((1 + as_probability("confidence", confidence)) / 2)), as_generator(generator)
    functions = [score_function(score), Empirical(data).score] + ([] if truth is None else [score_function(truth)])

    def noisy(clean: Tensor) -> Tensor:
        many = clean.repeat(draws, 1)
        return many + math.sqrt(t) * torch.randn(many.shape, dtype=many.dtype, generator=chance, device=chance.device).to(many.device)

    supervised = _errors(functions, noisy(data), t, draws, z, None)
    x = noisy(others)
    outside = shells_hit(x, data, t, delta=width) == 0
    if not bool(outside.any()):
        return SupervisionReport(supervised[0], None, None, 0.0)
    extrapolation = _errors(functions, x, t, draws, z, outside)
    ratio = _quotient(extrapolation[0].to_empirical, supervised[0].to_empirical, math.hypot(extrapolation[1], supervised[1]), z)
    return SupervisionReport(supervised[0], extrapolation[0], ratio, float(outside.double().mean()))


def _errors(
    functions: list[Callable[[Tensor, Any], Tensor]], x: Tensor, t: float, draws: int, z: float, keep: Tensor | None
) -> tuple[RegionErrors, float]:
    """The errors at those of the noisy points x that are kept, and the relative standard error of the first."""
    learned, empirical, *true = [t * torch.as_tensor(f(x, t)).detach().double().to(x.device) for f in functions]
    if learned.shape != x.shape:
        raise reject("score", learned, f"values of shape {tuple(x.shape)}, that of its points")
    if not bool(torch.isfinite(learned).all()):
        raise reject("score", learned, "finite values")
    weight = torch.ones(len(x), dtype=torch.float64, device=x.device) if keep is None else keep.double()

    def by_point(values: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        return (weight * values).reshape(draws, -1).sum(0)

    def square(a: Tensor) -> Float[Tensor, " m"]:
        return by_point(a.square().mean(-1))

    count, off = by_point(torch.ones_like(weight)), square(learned - empirical)
    to_empirical, spread = _mean(off, count, z)
    relative, _ = _mean(off, square(empirical), z)
    to_truth = _mean(square(learned - true[0]), count, z)[0] if true else None
    return RegionErrors(to_empirical, relative, to_truth, int(weight.sum())), spread


def _mean(above: Float[Tensor, " m"], below: Float[Tensor, " m"], z: float) -> tuple[Interval, float]:
    """The quotient of two sums over independent points, and its relative standard error by linearization."""
    total = float(below.sum())
    value = float(above.sum()) / total if total > 0 else (math.inf if float(above.sum()) > 0 else 0.0)
    if value == 0 or math.isinf(value):
        return Interval(value, value, value), 0.0
    m = len(above)
    if m == 1:
        return Interval(value, 0.0, math.inf), math.inf
    error = math.sqrt(float((above - value * below).square().sum()) * m / (m - 1)) / total / value
    return _around(value, error, z), error


def _quotient(above: Interval, below: Interval, error: float, z: float) -> Interval:
    if below.value == 0:
        return Interval(math.inf, math.inf, math.inf) if above.value > 0 else Interval(1.0, 0.0, math.inf)
    return _around(above.value / below.value, error, z)


def _around(value: float, error: float, z: float) -> Interval:
    reach = min(z * error, 700.0)
    return Interval(value, value * math.exp(-reach), value * math.exp(reach)) if math.isfinite(error) else Interval(value, 0.0, math.inf)


def _width(delta: float) -> float:
    width = float(delta)
    if not (math.isfinite(width) and width >= 0):
        raise reject("delta", delta, "a relative half-width >= 0")
    return width
