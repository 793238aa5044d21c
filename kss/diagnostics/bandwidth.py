r"""Which smoothed score is a given score closest to, and how much of the way does it get there?

Setting. A *family* of scores `f_h`, h >= 0, starts at a base score: `f_0 = s_t`. Three of them:

    mollified   f_h = G_h * s_t                     the base averaged over a Gaussian of variance h
    later       f_h = s_{t+h}                       the base at a later time
    tempered    f_h = T s_{Tt},  T = 1 + h/t        the denoiser at t + h, with the stiffness 1/t kept

For a score s and points x_1..x_n let

    Q(h) = mean_i |s(x_i) - f_h(x_i)|^2,        h* = argmin_h Q(h),        explained = 1 - Q(h*)/Q(0).

h* names the nearest member, and `explained` says whether the name means anything: 1 if s is that member, 0 if no member is nearer than
the base itself. A nearest member exists for every s; it is not evidence that s was made that way.

The members are computed at a number of bandwidths, evenly spaced in `u = log(1 + h/smallest)`, and interpolated in u by a cubic spline,
so that Q is a quadratic form of spline weights and one table serves any number of scores. The interval is a bootstrap over the points:
it says what other points would have given, for the same score, base and t.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, as_probability, reject
from kss.distributions import Distribution
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TimeShifted
from kss.scores.protocol import Score, score_function

Name = Literal["mollified", "later", "tempered"]
Family = Name | Callable[[float], Score]
"""A name, or the function from h to the score `f_h`."""
FINE = 32
"""Bandwidths tried between two that are tabulated."""
SAME = 1e-24
"""A squared distance below this fraction of the squared size is rounding: the score is the base."""


class ClosestBandwidth(NamedTuple):
    """What `closest_bandwidth` found."""

    h: float
    """The bandwidth of the nearest member, a variance."""
    interval: tuple[float, float]
    """For h, from the bootstrap."""
    explained: float
    """`1 - Q(h)/Q(0)`; NaN if the score is the base."""
    explained_interval: tuple[float, float]
    distance: float
    """`(Q(0)/mean |f_0|^2)^(1/2)`: how far the score is from the base, relative to its size; infinite where only the base is 0."""
    left: float
    """`(Q(h)/mean |f_0|^2)^(1/2)`: how far from the nearest member."""
    end: Literal["", "zero", "largest"]
    """Whether the nearest member is the base itself, or the last one tried."""
    resampled: Float[Tensor, "resamples 2"]
    """h and `explained` for each bootstrap sample of the points."""


class ScoreFamily:
    r"""A family of scores, tabulated at noise variance `t` and `points` (n, d), that any score can be compared with.

    Arguments: `base`, any score; `family`, a name or a function from h to a score that is the base at h = 0; `largest`, the last
    bandwidth (by default `10 t` or the mean variance of the coordinates of `points`, whichever is larger); `smallest`, the bandwidth up
    to which members are evenly spaced and beyond which they are so in log h (by default `t/100`); `per_decade`, how many there;
    `accuracy` and `most_nodes`, of the averages, as for `kss.scores.Mollified`.

    Attributes: `t`, `points`, `bandwidths` (H,), `values` (H, n, d).
    """

    def __init__(
        self,
        base: Score,
        t: float,
        points: ArrayLike,
        *,
        family: Family = "mollified",
        largest: float | None = None,
        smallest: float | None = None,
        per_decade: int = 8,
        accuracy: float = 1e-2,
        most_nodes: int = 2**16,
    ) -> None:
        self.t, self.points = as_positive("t", t), as_points("points", points).detach()
        spread = float(self.points.double().var(0, unbiased=False).mean())
        top = max(10 * self.t, spread) if largest is None else as_positive("largest", largest)
        self.smallest = self.t / 100 if smallest is None else as_positive("smallest", smallest)
        if top <= self.smallest:
            raise reject("largest", top, f"a bandwidth above smallest = {self.smallest:g}")
        accuracy, most = as_positive("accuracy", accuracy), as_count("most_nodes", most_nodes)
        self._member = _members(base, family, self.t, accuracy, most)
        end = math.log1p(top / self.smallest)
        count = max(6, math.ceil(end * as_count("per_decade", per_decade) / math.log(10)))
        self._knots = np.linspace(0.0, end, count + 1)
        self.bandwidths = torch.from_numpy(self.smallest * np.expm1(self._knots))
        with torch.no_grad():
            rows = [self.member(float(h))(self.points, self.t).double() for h in self.bandwidths]
        self.values: Float[Tensor, "H n d"] = torch.stack(rows)
        # Weights of the members at u: the splines through (1, 0, 0, ...), (0, 1, 0, ...), ...
        self._weights = CubicSpline(self._knots, np.eye(count + 1))

    def __repr__(self) -> str:
        return (
            f"ScoreFamily(t={self.t:g}, {len(self.points)} points, {len(self.bandwidths)} bandwidths up to {float(self.bandwidths[-1]):g})"
        )

    def member(self, h: float) -> Callable[[Tensor, float], Tensor]:
        """`f_h`, as a function of x and t."""
        return self._member(h)

    def closest(self, score: Score, *, resamples: int = 200, level: float = 0.95, generator: Seed) -> ClosestBandwidth:
        """The member nearest to `score`, with intervals at `level` from `resamples` bootstrap samples of the points."""
        resamples, level, chance = as_count("resamples", resamples, minimum=2), as_probability("level", level), as_generator(generator)
        with torch.no_grad():
            value = score_function(score)(self.points, self.t)
        if not isinstance(value, Tensor) or value.shape != self.points.shape:
            raise reject("score", score, f"a score whose values have the shape of the points, {tuple(self.points.shape)}")
        error = value.double() - self.values
        gram = torch.einsum("knd,lnd->nkl", error, error).cpu().numpy()
        size = float(self.values[0].square().sum(-1).mean())
        n, members = gram.shape[:2]
        rows = torch.randint(n, (resamples, n), generator=chance, device=chance.device).cpu().numpy()
        counts = np.stack([np.ones(n), *(np.bincount(row, minlength=n) for row in rows)]) / n
        u, at_zero, least = self._minimize((counts @ gram.reshape(n, -1)).reshape(-1, members, members))
        if not at_zero[0] > SAME * size:
            u[:] = 0.0
        least = np.where(u == 0, at_zero, least.clip(min=0.0))
        h = self.smallest * np.expm1(u)
        with np.errstate(invalid="ignore", divide="ignore"):
            explained = np.where(at_zero > SAME * size, 1 - least / at_zero, np.nan)
        tail = (1 - level) / 2
        return ClosestBandwidth(
            h=float(h[0]),
            interval=_between(h[1:], tail),
            explained=float(explained[0]),
            explained_interval=_between(explained[1:], tail),
            distance=_relative(at_zero[0], size),
            left=_relative(least[0], size),
            end="zero" if u[0] == 0 else "largest" if u[0] == self._knots[-1] else "",
            resampled=torch.from_numpy(np.stack((h[1:], explained[1:]), -1)),
        )

    def _minimize(self, form: Float[np.ndarray, "b H H"]) -> tuple[Float[np.ndarray, " b"], ...]:
        """For each quadratic form `Q(u) = w(u)' form w(u)`: the u of its minimum, `Q(0)`, and the minimum."""
        knots, last = self._knots, len(self._knots) - 1
        table = np.diagonal(form, axis1=1, axis2=2)
        nearest = table.argmin(1)
        u, least = np.empty(len(form)), np.empty(len(form))
        for place in np.unique(nearest):
            chosen = nearest == place
            low, high = knots[max(place - 1, 0)], knots[min(place + 1, last)]
            fine = np.linspace(low, high, 2 * FINE + 1)
            weights = self._weights(fine)
            values = np.einsum("jk,bkl,jl->bj", weights, form[chosen], weights, optimize=True)
            best = values.argmin(1)
            u[chosen], least[chosen] = _vertex(fine, values, best)
        return u, table[:, 0].copy(), least


def _relative(square: float, size: float) -> float:
    """`sqrt(square/size)`, also where the size is 0."""
    return math.sqrt(square / size) if size > 0 else (math.inf if square > 0 else 0.0)


def closest_bandwidth(
    score: Score,
    base: Score,
    t: float,
    *,
    family: Family = "mollified",
    points: ArrayLike | None = None,
    draws: int = 256,
    largest: float | None = None,
    smallest: float | None = None,
    per_decade: int = 8,
    accuracy: float = 1e-2,
    resamples: int = 200,
    level: float = 0.95,
    generator: Seed,
) -> ClosestBandwidth:
    r"""The bandwidth h at which a family that starts at `base` comes nearest to `score`, at noise variance `t`; see the top of this module.

    `base` is usually the `Empirical` law of the training data. The distance is the mean square over `points` (n, d); if none are given,
    over `draws` draws of the base diffused to t. Other arguments as for `ScoreFamily`, which is the way to compare many
    scores with one family. `generator` draws the points and the bootstrap samples.

    Where `end` is "zero", smoothing in this way brings the base no nearer; bandwidths below a hundredth of `smallest` count as zero. Where
    it is "largest" the minimum may lie beyond. Members of the mollified family are exact up to `accuracy`, so where the score is closer to
    the base than that neither h nor `explained` mean much.

    >>> from kss.distributions import Empirical
    >>> from kss.kernels import GaussianKernel
    >>> from kss.scores import Mollified
    >>> base = Empirical([[-1.0], [0.2], [1.0]])
    >>> found = closest_bandwidth(Mollified(base, GaussianKernel(0.09)), base, 0.05, generator=0)
    >>> abs(found.h - 0.09) < 1e-4, round(found.explained, 4)
    (True, 1.0)
    """
    chance = as_generator(generator)
    if points is None:
        if not isinstance(base, Distribution):
            raise reject("points", points, "points (n, d): a base that is not a Distribution cannot be drawn from")
        points = base.diffuse(as_count("draws", draws), as_positive("t", t), chance)
    table = ScoreFamily(base, t, points, family=family, largest=largest, smallest=smallest, per_decade=per_decade, accuracy=accuracy)
    return table.closest(score, resamples=resamples, level=level, generator=chance)


def _members(base: Score, family: Family, t: float, accuracy: float, most_nodes: int) -> Callable[[float], Callable]:
    """The function from h to the member `f_h`."""
    start = score_function(base)
    if callable(family):
        return lambda h: start if h == 0 else score_function(family(h))
    if family == "mollified":
        return lambda h: start if h == 0 else Mollified(base, GaussianKernel(h), accuracy=accuracy, most_nodes=max(most_nodes, 128)).score
    if family == "later":
        return lambda h: TimeShifted(base, h).score
    if family == "tempered":
        return lambda h: lambda x, t: (1 + h / t) * start(x, t + h)
    raise reject("family", family, f"a function of h, or one of {', '.join(get_args(Name))}")


def _vertex(
    fine: Float[np.ndarray, " J"], values: Float[np.ndarray, "b J"], best: np.ndarray
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """The minimum of the parabola through the least of the values and its two neighbors; at an end, that end."""
    rows, step = np.arange(len(values)), fine[1] - fine[0]
    middle = np.clip(best, 1, len(fine) - 2)
    left, mid, right = (values[rows, middle + i] for i in (-1, 0, 1))
    bend = left - 2 * mid + right
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(bend > 0, (left - right) / (2 * bend), 0.0)
    shift = np.where(middle == best, np.clip(shift, -0.5, 0.5), best - middle)
    at = mid + shift * (right - left) / 2 + shift**2 * bend / 2
    return fine[middle] + shift * step, at


def _between(sample: Float[np.ndarray, " b"], tail: float) -> tuple[float, float]:
    low, high = np.quantile(sample, (tail, 1 - tail))
    return float(low), float(high)
