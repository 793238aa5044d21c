r"""How often is one of N strangers within a distance r? From a small data set, for smaller and for larger N.

A datum lies within r of a fresh point x with probability `p_x`; the *closest of N impostors* raises a false alarm with probability

    P(N) = E_x [1 - (1 - p_x)^N].

For n points, `c_i` is the number of the other T = n - 1 within r of the i-th. Then

    pooled           1 - (1 - mean(c)/T)^N                   at least P(N) by Jensen's inequality, when mean(c)/T is E p_x
    rarefaction      (1/n) sum_i [1 - C(T - c_i, N)/C(T, N)]     the mean over all N-subsets of the others: unbiased, N <= T
    beta-binomial    1 - B(a, b + N)/B(a, b)                 p_x ~ Beta(a, b), a and b from two moments: any N

The moments are those without bias, `mean c/T` and `mean c(c-1)/(T(T-1))`.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_positive, as_tensor, reject

BLOCK = 2**22
"""At most so many distances are held at once."""


def close_pairs(points: ArrayLike, radius: float) -> Int[Tensor, " n"]:
    """For each of `points` (n, d), n >= 2, how many of the others lie within a distance below `radius`."""
    data, radius = as_points("points", points).double(), as_positive("radius", radius)
    if len(data) < 2:
        raise reject("points", data, "at least two points")
    near = [
        (torch.cdist(part, data, compute_mode="donot_use_mm_for_euclid_dist") < radius).sum(1)
        for part in data.split(max(1, BLOCK // len(data)))
    ]
    return torch.cat(near) - 1  # without itself


def pooled_false_alarm(hits: ArrayLike, trials: int, sizes: ArrayLike) -> Float[Tensor, "*sizes"]:
    """`1 - (1 - p)^N` with p the share of all pairs that are hits: what all pairs thrown together predict, and too much.

    `hits` (n,), out of `trials` each; `sizes`, the N >= 0.

    >>> pooled_false_alarm([0, 4], 4, [1, 2])
    tensor([0.5000, 0.7500], dtype=torch.float64)
    """
    counts, N = _counts(hits, trials), _sizes(sizes)
    return _binomial(float(counts.mean()) / trials, N)


def rarefied_false_alarm(hits: ArrayLike, trials: int, sizes: ArrayLike) -> Float[Tensor, "*sizes"]:
    """The mean over points of `1 - C(T - c, N)/C(T, N)`, T = `trials`: exactly `P(N)` on average, for every law of the points.

    `hits` (n,); `sizes`, the N, integers from 0 to T.

    >>> rarefied_false_alarm([0, 4], 4, [1, 2])
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    counts, N = _counts(hits, trials), _sizes(sizes)
    if float(N.max()) > trials or not bool((N.round() == N).all()):
        raise reject("sizes", sizes, f"integers up to trials = {trials}: beyond, use fit_beta")
    # C(T - c, N)/C(T, N) = prod_{j < c} (1 - N/(T - j)), which is 0 where fewer than N are left.
    place = torch.arange(int(counts.max()), dtype=torch.float64)
    share = (N.reshape(-1, 1) / (trials - place)).clamp_max(1.0)
    log = torch.cat((torch.zeros(N.numel(), 1, dtype=torch.float64), torch.log1p(-share).cumsum(1)), 1)  # for c = 0, 1, ...
    return -torch.expm1(log[:, counts.long()]).mean(1).reshape(N.shape)


class BetaFit(NamedTuple):
    """A law Beta(a, b) of the probabilities `p_x`; both infinite if all are equal to `mean`, both 0 if each is 0 or 1."""

    a: float
    b: float
    mean: float

    def false_alarm(self, sizes: ArrayLike) -> Float[Tensor, "*sizes"]:
        """`1 - B(a, b + N)/B(a, b)`, for any N >= 0."""
        N = _sizes(sizes)
        if math.isinf(self.a):
            return _binomial(self.mean, N)
        if self.a == 0:
            return torch.where(N > 0, torch.full_like(N, self.mean), 0.0)
        return -torch.special.expm1(torch.as_tensor(special.betaln(self.a, self.b + N.numpy()) - special.betaln(self.a, self.b)))


def fit_beta(hits: ArrayLike, trials: int) -> BetaFit:
    """The beta law whose first two moments are the unbiased estimates `mean c/T` and `mean c(c-1)/(T(T-1))`; T >= 2.

    >>> fit_beta([0, 0, 2, 2], 2)  # all or nothing
    BetaFit(a=0.0, b=0.0, mean=0.5)
    """
    counts = _counts(hits, as_count("trials", trials, minimum=2))
    return beta_from_moments(float(counts.mean()) / trials, float((counts * (counts - 1)).mean()) / (trials * (trials - 1)))


def beta_from_moments(first: float, second: float) -> BetaFit:
    """The law Beta(a, b) with `E p = first` and `E p^2 = second`: `a + b = (first - second)/(second - first^2)`.

    Moments that ask for no variance, or less, give the constant.
    """
    if not 0 <= first <= 1:
        raise reject("first", first, "a mean of probabilities")
    if not 0 <= second <= first:
        raise reject("second", second, "a mean of squared probabilities, at most the mean")
    variance = second - first**2
    if variance <= 1e-12 * first**2 or first in (0.0, 1.0):
        return BetaFit(math.inf, math.inf, first)
    total = (first - second) / variance
    return BetaFit(first * total, (1 - first) * total, first)


class ImpostorCurve(NamedTuple):
    """What `impostor_curve` found, for each of `sizes`."""

    sizes: Float[Tensor, " S"]
    pooled: Float[Tensor, " S"]
    beta_binomial: Float[Tensor, " S"]
    rarefaction: Float[Tensor, " R"]
    """For the sizes that the data reach, N <= n - 1, in the same order."""


def impostor_curve(points: ArrayLike, radius: float, sizes: ArrayLike) -> ImpostorCurve:
    """The false-alarm rate of the closest of N impostors at the distance `radius`, three ways, from `points` (n, d), n >= 3."""
    hits, N = close_pairs(points, radius), _sizes(sizes).reshape(-1)
    trials = len(hits) - 1
    return ImpostorCurve(
        N,
        pooled_false_alarm(hits, trials, N),
        fit_beta(hits, trials).false_alarm(N),
        rarefied_false_alarm(hits, trials, N[trials >= N]),
    )


def _binomial(p: float, N: Float[Tensor, "*sizes"]) -> Float[Tensor, "*sizes"]:
    return torch.where(N > 0, -torch.expm1(N * torch.log1p(torch.tensor(-p, dtype=torch.float64))), 0.0)


def _counts(hits: ArrayLike, trials: int) -> Float[Tensor, " n"]:
    counts, trials = as_tensor("hits", hits).double(), as_count("trials", trials)
    if counts.ndim != 1 or len(counts) == 0 or not bool(((counts >= 0) & (counts <= trials) & (counts == counts.round())).all()):
        raise reject("hits", hits, f"integers from 0 to trials = {trials}, of shape (n,)")
    return counts.cpu()


def _sizes(sizes: ArrayLike) -> Float[Tensor, "*sizes"]:
    N = as_tensor("sizes", sizes).double().cpu()
    if bool((N < 0).any()):
        raise reject("sizes", sizes, "numbers >= 0")
    return N
