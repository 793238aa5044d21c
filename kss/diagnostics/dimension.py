r"""Intrinsic dimension of a data set, read off the noise of its own empirical score.

On a k-dimensional manifold the re-weighted PCA has a trace that scales as `t^{1-k/2}` (see `kss.theory.clt`), so its slope on logarithmic
axes is `1 - k/2`. For data `x_1..x_N` and a data point `x = x_i`, left out of the sums,

    T_i(t) = N sum_j w_j^2 D_j = N S_2 / S_1^2,    S_1 = sum_j g_j,   S_2 = sum_j g_j^2 D_j,   g_j = exp(-D_j/2t),   `D_j = |x_j - x|^2`:

the moment about x, which lies on the manifold, in place of that about m: they differ by a factor 1 + O(t), and this one needs distances
only. Given x, both sums have independent terms. Each has an effective number of them, `n = (sum of terms)^2 / (sum of squares)`, and
`log S` is on average too small by `1/2n`, which is added. The mean of `log T_i(t)` over i is the *profile*; twice one minus its slope
is the dimension that the data show at the scale t.

Which scales count is found, not assumed:

- *Below*, where the central limit theorem ends: at three quarters of the places both sums have at least `LEAST` effective terms.
- *Above*, where the weights stop selecting: no more than a quarter of the data have weight at the median place. (Beyond, the weights
  become equal, the slope tends to 0, and every data set would seem to have dimension 2.)
- Between them a *window*: at least a factor 4 in t in which the slope is flat, which means that every octave of t in it gives the
  window's dimension to `FLAT`. Of these the one that starts lowest is taken, and extended upward as long as it stays flat.

The corrections to the power law are O(t) on a closed manifold, so the estimate comes from a least-squares fit of
`a + (1 - k/2) log t + c t` to the window. The interval is the estimate plus or minus the sum of two terms: Student's quantile times the
standard error of a jackknife that leaves out one of `GROUPS` random groups of the data; and, for what is not chance, the larger of

- the amount by which the term `c t` changed the estimate, and
- the mean of `|m - x|^2/t` over the places, less its noise `S_2/(t S_1^2)`, in the middle of the window. Inside a manifold it is
  `t |H|^2/4 + t |grad log p_M|^2`, on an edge 2/pi, and so of order sqrt(t) on average where there are edges: it has the size of the
  corrections to the power law, also of those that change the slope evenly and cannot be seen in it.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_probability

LEAST = 12.0
"""Effective terms a sum needs before its logarithm, corrected to first order, is trusted."""
SHARE = 0.25
"""The most of the data that may have weight; and the most of the places that may have less than `LEAST`."""
FLAT = 0.05
"""By how much an octave of a window may differ from the whole, in dimensions."""
STEPS = 2
"""Steps of t per octave."""
SPAN = 2 * STEPS
"""Steps in the shortest window: two octaves."""
GROUPS = 20
"""Groups of the jackknife."""
BLOCK = 2**22
"""At most so many distances are held at once."""


@dataclass(frozen=True, eq=False)
class Profile:
    """What the data show at each scale: arrays of one length, for those `t` at which the sums may be trusted.

    `t` (n,); `log_trace` (n,), the mean of `log T_i(t)` up to a constant; `effective` (n,), the median number of data that have weight;
    `replicates` (GROUPS, n), the log-traces with one group left out; `displacement` (n,), the mean of `|m - x|^2/t` less its noise; `data`,
    how many distinct points there were.
    """

    t: Float[np.ndarray, " n"]
    log_trace: Float[np.ndarray, " n"]
    effective: Float[np.ndarray, " n"]
    replicates: Float[np.ndarray, "groups n"]
    displacement: Float[np.ndarray, " n"]
    data: int

    def local_dimension(self) -> Float[np.ndarray, " m"]:
        """The dimension that each octave of t shows, `t[i]` to `t[i + STEPS]`; empty if there is no whole octave."""
        count = max(0, len(self.t) - STEPS)
        return np.array([_plain(self.t[i : i + STEPS + 1], self.log_trace[i : i + STEPS + 1]) for i in range(count)])


@dataclass(frozen=True, eq=False)
class DimensionEstimate:
    """An estimate `dimension` with its interval `[low, high]`, the `window` (least and largest t) it comes from, and the `profile`.

    `standard_error` is the jackknife's; `systematic` is the part of the interval's half-width that is not due to chance.
    """

    dimension: float
    low: float
    high: float
    standard_error: float
    systematic: float
    window: tuple[float, float]
    profile: Profile = field(repr=False)


class NoScalingWindow(ValueError):
    """The data show no range of scales with one dimension. The message says why; `profile` holds what they do show."""

    def __init__(self, message: str, profile: Profile) -> None:
        super().__init__(message)
        self.profile = profile


def intrinsic_dimension(points: ArrayLike, generator: Seed, *, queries: int = 1000, confidence: float = 0.95) -> DimensionEstimate:
    """The dimension k of the manifold that `points` (N, d) were drawn from, with an interval, from the slope of the re-weighted PCA.

    At `queries` randomly chosen data points (at all of them, if there are fewer), with `generator`, a `torch.Generator` or an int, which
    also divides the data into the groups of the jackknife. Only distances enter, so d costs nothing beyond computing them; time is
    proportional to `N * queries`. Duplicates are removed first. `confidence` is nominal and belongs to the jackknife; see the module for
    what else the interval holds.

    Raises `NoScalingWindow`, a `ValueError`, where no window is found: too few data (a window asks for about `N >= 100 * 2^k`), edges,
    bends or noise at every scale the data resolve. Where noise of one size and a manifold of another both give a window, the one at
    smaller scales is taken: noise off the manifold has all dimensions.
    """
    data, queries, generator = as_points("points", points), as_count("queries", queries), as_generator(generator)
    confidence = as_probability("confidence", confidence)
    profile = scaling_profile(data, generator, queries=queries)
    t, trace = profile.t, profile.log_trace
    if len(t) <= SPAN:
        raise NoScalingWindow(
            f"points: {profile.data} distinct ones leave {max(0, len(t) - 1) / STEPS:g} octaves of t between too few data with weight "
            f"(under {LEAST:g}) and too many (over a quarter); expected 2 octaves, for which dimension k needs about 100 * 2^k points",
            profile,
        )
    local = profile.local_dimension()

    def flat(first: int, last: int) -> bool:
        whole = _plain(t[first : last + 1], trace[first : last + 1])
        return bool((np.abs(local[first : last - STEPS + 1] - whole) <= FLAT).all())

    first = next((i for i in range(len(t) - SPAN) if flat(i, i + SPAN)), None)
    if first is None:
        raise NoScalingWindow(
            f"points: the dimension they show runs from {local[0]:.2f} at t = {t[0]:.3g} to {local[-1]:.2f} at t = {t[-1]:.3g} "
            f"and is nowhere constant to {FLAT:g} over two octaves",
            profile,
        )
    last = max(j for j in range(first + SPAN, len(t)) if flat(first, j))
    window = slice(first, last + 1)
    dimension, plain = _corrected(t[window], trace[window]), _plain(t[window], trace[window])
    without = np.array([_corrected(t[window], row[window]) for row in profile.replicates])
    error = math.sqrt((GROUPS - 1) / GROUPS * ((without - without.mean()) ** 2).sum())
    systematic = max(abs(dimension - plain), float(profile.displacement[(first + last) // 2]))
    half = float(stats.t.ppf((1 + confidence) / 2, GROUPS - 1)) * error + systematic
    return DimensionEstimate(
        dimension=dimension,
        low=dimension - half,
        high=dimension + half,
        standard_error=error,
        systematic=systematic,
        window=(float(t[first]), float(t[last])),
        profile=profile,
    )


def scaling_profile(points: ArrayLike, generator: Seed, *, queries: int = 1000) -> Profile:
    """The mean of `log T_i(t)` against t, on the scales at which the data determine it; arguments as in `intrinsic_dimension`."""
    data = torch.unique(as_points("points", points).double(), dim=0)
    generator = as_generator(generator)
    n = len(data)
    # At unit scale, and around 0: distances neither overflow nor lose digits to a common offset.
    data = data - (data.amin(0) + data.amax(0)) / 2
    scale = float(data.abs().max()) or 1.0
    data = (data / scale)[torch.randperm(n, generator=generator, device=generator.device).to(data.device)]
    count = min(queries, n)
    if n < 8 * LEAST:  # the numbers with weight have no room to double between LEAST and a quarter
        return Profile(np.empty(0), np.empty(0), np.empty(0), np.empty((GROUPS, 0)), np.empty(0), n)
    group = torch.arange(n, device=data.device) % GROUPS
    # Column 0 keeps all, column g + 1 all but group g.
    kept = torch.cat((torch.ones(n, 1), (group.unsqueeze(1) != torch.arange(GROUPS)).double()), 1).double()
    square = _squares(data[: min(count, max(1, BLOCK // n))], data, 0)
    nearest, typical = float(square.kthvalue(8, 1).values.median()) / 8, float(square[square.isfinite()].median())
    times = nearest * 2 ** torch.arange(0, STEPS * math.log2(max(2.0, typical / nearest)), dtype=torch.float64).div(STEPS)
    sums = [_log_sums(data, start, min(count, start + max(1, BLOCK // n)), times, kept) for start in range(0, count, max(1, BLOCK // n))]
    traces, numbers, moves = (torch.cat(parts, 1) for parts in zip(*sums, strict=True))  # (T, Q, G + 1), (T, Q), (T, Q)

    resolved = (numbers >= LEAST).double().mean(1) >= 1 - SHARE
    selective = numbers.median(1).values <= SHARE * n
    chosen = (resolved & selective).nonzero().squeeze(1)
    if len(chosen) == 0:
        return Profile(np.empty(0), np.empty(0), np.empty(0), np.empty((GROUPS, 0)), np.empty(0), n)
    # One and the same set of places at every scale: without those that lie far from all others.
    member = kept[:count] * (numbers[chosen[0]] >= LEAST / 4).double().unsqueeze(1)
    means = torch.where(member > 0, traces[chosen], 0.0).sum(1) / member.sum(0)  # (T, G + 1)
    return Profile(
        t=(times[chosen] * scale**2).numpy(),
        log_trace=means[:, 0].numpy(),
        effective=numbers[chosen].median(1).values.numpy(),
        replicates=means[:, 1:].T.numpy(),
        displacement=moves[chosen][:, member[:, 0] > 0].mean(1).clamp_min(0.0).numpy(),
        data=n,
    )


def _squares(places: Float[Tensor, "q d"], data: Float[Tensor, "n d"], start: int) -> Float[Tensor, "q n"]:
    """Squared distances; that of place i to itself, data point `start + i`, is infinite."""
    square = torch.cdist(places, data) ** 2
    own = torch.arange(len(places))
    square[own, start + own] = math.inf
    return square


def _log_sums(data: Tensor, start: int, stop: int, times: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For every t and place: `log(S_2/S_1^2)`, corrected, also for every left-out group; the smaller effective number; `|m - x|^2/t`.

    The last is without its noise, which `S_2/S_1^2` estimates.
    """
    square = _squares(data[start:stop], data, start)
    least = square.amin(1, keepdim=True)
    distance = torch.where(square.isfinite(), square, 0.0)
    traces, numbers, moves = [], [], []
    for t in times.tolist():
        g = torch.exp((least - square) / (2 * t))  # a common factor of the row cancels in S_2/S_1^2
        moment = g * g * distance
        first, second = (g @ kept).clamp_min(1e-300), (moment @ kept).clamp_min(1e-300)
        n_first, n_second = first**2 / ((g * g) @ kept).clamp_min(1e-300), second**2 / ((moment * moment) @ kept).clamp_min(1e-300)
        traces.append(second.log() - 2 * first.log() + 0.5 / n_second.clamp_min(1.0) - 1 / n_first.clamp_min(1.0))
        numbers.append(torch.minimum(n_first, n_second)[:, 0])
        displacement = (g @ data) / first[:, :1] - data[start:stop]
        moves.append(((displacement**2).sum(1) - (second / first**2)[:, 0]) / t)
    return torch.stack(traces), torch.stack(numbers), torch.stack(moves)


def _plain(t: np.ndarray, log_trace: np.ndarray) -> float:
    """`k = 2 (1 - slope)` from a straight line."""
    u = np.log(t / t[0])
    u = u - u.mean()
    return float(2 * (1 - (u @ log_trace) / (u @ u)))


def _corrected(t: np.ndarray, log_trace: np.ndarray) -> float:
    """`k` from a fit of `a + (1 - k/2) log t + c t`."""
    design = np.stack((np.ones_like(t), np.log(t / t[0]), t / t[-1]), 1)
    return float(2 * (1 - np.linalg.lstsq(design, log_trace, rcond=None)[0][1]))
