r"""How far a smoothed empirical score is from the true one along the whole noise path, on average over data sets.

Setting. For a law `p_*` with marginals `p_u` and scores `s_u`, the empirical score `s_u^N` of N independent draws, and the Gaussian
kernel `G_h`, the quantity of interest is the **path divergence**

    D(t, h) = (1/2) E_data int_t^T E_{x ~ p_u} |s_u(x) - (G_h * s_u^N)(x)|^2 du,

which by Girsanov's theorem bounds what the reverse diffusion driven by `G_h * s^N` loses on the way from T to t, and for h = 0 is
that loss exactly. The average over data sets has heavy tails where data are few, so many data sets matter more than accuracy on each;
what is computed on each therefore only has to be *unbiased*. Three devices, none of which adds a bias:

* u is drawn uniformly in log u, once in each of many equal strata, afresh for each data set;
* `|E_z f(z)|^2 = E f(z) . f(z')` for independent z, z': the average over the kernel is estimated twice, and the two are multiplied;
* each estimate uses Sobol nodes moved by a random shift, and z with -z, which cancels all odd terms, among them `-z sqrt(h)/u`.

The same data, points x and nodes z (scaled by sqrt(h)) serve every bandwidth: common random numbers.

A bias-corrected score, `sum_j w_j G_{jh} * s^N` (`kss.scores.BiasCorrected`), is an average as well, with weights of both signs; each of
the two estimates combines the averages over the same z scaled by `sqrt(jh)`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_positive, as_tensor, reject
from kss.distributions import Distribution
from kss.kernels import variances
from kss.scores.corrected import richardson_weights

Bandwidth = float | int | Callable[[Tensor], Tensor]
"""A variance h, or a function of the noise variances u (...) that gives one for each."""

BLOCK = 2**18
"""Numbers in the largest temporary array: 2 MiB, which stays in the processor's cache."""


class PathDivergence(NamedTuple):
    """What `mean_path_divergence` measured; T start times (no axis for a single one), H bandwidths, S data sets."""

    t: Float[Tensor, "*T"]
    bandwidths: Float[Tensor, " H"]
    """NaN where a function of u was given."""
    values: Float[Tensor, "S *T H"]
    """Unbiased estimates for each data set; those for h > 0 may be negative."""

    @property
    def mean(self) -> Float[Tensor, "*T H"]:
        """The estimate of D(t, h)."""
        return self.values.mean(0)

    @property
    def standard_error(self) -> Float[Tensor, "*T H"]:
        """Of the mean; too small where a few data sets dominate, as they do near the collapse."""
        return self.values.std(0) / math.sqrt(len(self.values))


def mean_path_divergence(
    law: Distribution,
    N: int,
    bandwidths: ArrayLike | Sequence[Bandwidth],
    *,
    t_min: ArrayLike,
    t_max: float,
    data_sets: int,
    generator: Seed,
    strata: int = 8,
    nodes: int = 4,
    order: int = 1,
) -> PathDivergence:
    """`(1/2) int_{t_min}^{t_max} E_{p_u}|s_u - G_h * s_u^N|^2 du` for every h in `bandwidths` (H,) at once; h = 0 is the raw score.

    A bandwidth is a variance, or a function h(u) that gives one for each noise variance of a tensor. With `order` = r > 1 the
    score is `sum_j w_j G_{jh} * s_u^N`, j = 1, ..., r, with `richardson_weights(r)`, at r times the cost.

    `t_min` is a number, or increasing start times (T,) that share one path. The integral takes `strata` random times per decade,
    each with one x and, for h > 0, twice `nodes` pairs of nodes (a power of two): `4 nodes strata log10(t_max/t_min)` scores per
    data set and bandwidth. The expectation is exact whatever `strata` and `nodes` are; they set the noise. Data, times, points and
    nodes depend on the generator, `t_min`, `t_max` and the three counts, not on `bandwidths` or `order`. float64; rounding of about
    `1e-16 R^2/t_min` relative, for data of radius R.
    """
    size, count = as_count("N", N), as_count("data_sets", data_sets)
    strata, nodes = as_count("strata", strata), as_count("nodes", nodes)
    if nodes & (nodes - 1):
        raise reject("nodes", nodes, "a power of two")
    widths, weights = _as_bandwidths(bandwidths), [float(w) for w in richardson_weights(order)]
    t_max, given = as_positive("t_max", t_max), as_tensor("t_min", t_min).double()
    edges = torch.cat((given.reshape(-1), torch.tensor([t_max], dtype=torch.float64)))
    if given.ndim > 1 or bool((edges[0] <= 0) | (edges.diff() <= 0).any()):
        raise reject("t_min", t_min, f"increasing start times > 0 below t_max = {t_max}")
    path = _Strata(edges, strata)
    generator = as_generator(generator)
    per_data_set = 4 * nodes * len(path.low) * size
    blocks = []
    for done in range(0, count, step := max(1, BLOCK // per_data_set)):
        blocks.append(_block(law, size, widths, weights, path, min(step, count - done), nodes, generator))
    values = torch.cat(blocks)
    bandwidth = torch.tensor([math.nan if callable(h) else float(h) for h in widths], dtype=torch.float64)
    return PathDivergence(given, bandwidth, values if given.ndim else values.squeeze(1))


def _as_bandwidths(bandwidths: ArrayLike | Sequence[Bandwidth]) -> list[float | Callable[[Tensor], Tensor]]:
    listed = list(bandwidths) if isinstance(bandwidths, list | tuple) else bandwidths
    numbers = [h for h in listed if not callable(h)] if isinstance(listed, list) else listed
    if isinstance(listed, list) and listed and not numbers:
        return listed
    checked = as_tensor("bandwidths", numbers).double()
    if checked.ndim != 1 or not len(checked) or bool((checked < 0).any()):
        raise reject("bandwidths", bandwidths, "a non-empty list of variances >= 0")
    if not isinstance(listed, list):
        return checked.tolist()
    given = iter(checked.tolist())
    return [h if callable(h) else next(given) for h in listed]


class _Strata:
    """Equal intervals of log u between any two neighboring edges."""

    def __init__(self, edges: Float[Tensor, " E"], per_decade: int) -> None:
        decades = (edges[1:] / edges[:-1]).log10()
        number = (decades * per_decade).ceil().long()
        self.segment = torch.repeat_interleave(torch.arange(len(number)), number)
        self.width = (math.log(10) * decades / number)[self.segment]
        within = torch.cat([torch.arange(int(n)) for n in number])
        self.low = edges[self.segment].log() + self.width * within
        self.segments = len(number)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"]]:
        """One time in each stratum, and the weight that makes the sum over strata an unbiased integral over u."""
        u = (self.low + self.width * torch.rand(count, len(self.low), dtype=torch.float64, generator=generator)).exp()
        return u, u * self.width

    def sums(self, values: Float[Tensor, "B M"]) -> Float[Tensor, "B T"]:
        """Over all strata above each of the edges but the last."""
        parts = torch.zeros(len(values), self.segments, dtype=torch.float64).index_add(1, self.segment, values)
        return parts.flip(1).cumsum(1).flip(1)


def _block(
    law: Distribution,
    N: int,
    bandwidths: list[float | Callable[[Tensor], Tensor]],
    weights: list[float],
    path: _Strata,
    count: int,
    nodes: int,
    generator: torch.Generator,
) -> Float[Tensor, "B T H"]:
    points = law.sample(count * N, generator).double().reshape(count, N, law.dim)
    u, weight = path.draw(count, generator)
    clean = law.sample(u.numel(), generator).double().reshape(*u.shape, law.dim)
    x = clean + u.sqrt().unsqueeze(-1) * torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    truth = law.score(x, u)
    z = _pairs(u.shape, nodes, law.dim, generator)
    results = []
    at = u[:, :, None, None].expand(z.shape[:-1])
    for h in bandwidths:
        if not callable(h) and h == 0:
            error = _scores(points, x, u) - truth
            square = error.square().sum(-1)
        else:
            root = _widths(h, u).sqrt()[:, :, None, None, None]
            smoothed = torch.zeros(())
            for j, factor in enumerate(weights, start=1):
                y = x[:, :, None, None] + math.sqrt(j) * root * z  # (B, M, 2, 2 nodes, d)
                smoothed = smoothed + factor * _scores(points, y.flatten(1, 3), at.flatten(1, 3)).reshape(y.shape).mean(3)
            error = smoothed - truth.unsqueeze(2)
            square = (error[:, :, 0] * error[:, :, 1]).sum(-1)
        results.append(path.sums(weight * square / 2))
    return torch.stack(results, -1)


def _widths(h: float | Callable[[Tensor], Tensor], u: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
    if not callable(h):
        return torch.full_like(u, h)
    given = variances("bandwidths(u)", h(u))
    if given.shape not in ((), u.shape):
        raise reject("bandwidths(u)", given, f"a variance for each u, shape {tuple(u.shape)}")
    return given.expand(u.shape)


def _pairs(shape: torch.Size, nodes: int, dim: int, generator: torch.Generator) -> Float[Tensor, "B M 2 n d"]:
    """Standard normal nodes, each with its negative, in two independent sets: Sobol points moved by a uniform shift modulo 1."""
    grid = torch.quasirandom.SobolEngine(dim).draw(nodes, dtype=torch.float64)
    shift = torch.rand(*shape, 2, 1, dim, dtype=torch.float64, generator=generator)
    half = torch.special.ndtri(((grid + shift) % 1.0).clamp(1e-16, 1 - 1e-16))
    return torch.cat((half, -half), -2)


def _scores(points: Float[Tensor, "B N d"], x: Float[Tensor, "B r d"], u: Float[Tensor, "B r"]) -> Float[Tensor, "B r d"]:
    """The empirical score of each data set at its own points x and times u: a batched softmax average."""
    center = points.mean(1, keepdim=True)
    points, x = points - center, x - center
    keys = torch.cat((points, points.square().sum(-1, keepdim=True)), -1).mT  # <x, x_i>/u - |x_i|^2/(2u), by one product
    parts = []
    for rows in _rows(x.shape[1], len(points) * points.shape[1]):
        part, noise = x[:, rows], u[:, rows, None]
        queries = torch.cat((part / noise, -0.5 / noise), -1)
        parts.append((torch.softmax(queries @ keys, -1) @ points - part) / noise)
    return torch.cat(parts, 1)


def _rows(count: int, per_row: int) -> Iterator[slice]:
    step = max(1, BLOCK // per_row)
    return (slice(first, first + step) for first in range(0, count, step))


class EffectiveSize(NamedTuple):
    """What `effective_dataset_size` found: the size, an interval for it, and where it comes from."""

    size: float
    low: float
    high: float
    bandwidth: float
    """The best of the bandwidths offered."""
    divergence: float
    """The path divergence there."""


def effective_dataset_size(
    law: Distribution,
    N: int,
    bandwidths: ArrayLike,
    *,
    t_min: float,
    t_max: float,
    data_sets: int,
    generator: Seed,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> EffectiveSize:
    """The number of data at which the raw score has the path divergence that the best bandwidth (0 among them) reaches with N.

    Raw divergences are measured at N, 2N, 4N, ... until below half that of the best bandwidth, and interpolated linearly in their
    logarithms. The interval is a percentile bootstrap over data sets, choice of the bandwidth included: approximate, and too short
    where a few data sets dominate the means.
    """
    confidence, resamples = as_positive("confidence", confidence), as_count("resamples", resamples)
    if confidence >= 1:
        raise reject("confidence", confidence, "a probability below 1")
    generator = as_generator(generator)
    offered = torch.cat((torch.zeros(1, dtype=torch.float64), as_tensor("bandwidths", bandwidths).double().reshape(-1)))

    def measure(size: int, bandwidth: Tensor) -> Tensor:
        return mean_path_divergence(law, size, bandwidth, t_min=t_min, t_max=t_max, data_sets=data_sets, generator=generator).values

    smoothed = measure(N, offered)
    best = float(smoothed.mean(0).min())
    if best <= 0:
        raise reject("data_sets", data_sets, f"more data sets: the least mean divergence, {best:.3g}, is lost in the noise")
    sizes, raw = [N], [smoothed[:, 0]]
    while float(raw[-1].mean()) > best / 2:
        sizes.append(2 * sizes[-1])
        raw.append(measure(sizes[-1], offered[:1])[:, 0])

    def size_of(pick: list[Tensor]) -> float:
        target = float(smoothed[pick[0]].mean(0).min())
        curve = [float(values[rows].mean()) for values, rows in zip(raw, pick, strict=True)]
        above = max(j for j, value in enumerate(curve) if value >= target * (1 - 1e-12))
        if target <= 0 or above + 1 == len(curve):
            return math.inf
        share = math.log(curve[above] / target) / math.log(curve[above] / curve[above + 1])
        return sizes[above] * (sizes[above + 1] / sizes[above]) ** share

    everything = [torch.arange(data_sets)] * len(raw)
    drawn = [[torch.randint(data_sets, (data_sets,), generator=generator) for _ in raw] for _ in range(resamples)]
    sampled = torch.tensor([size_of(pick) for pick in drawn], dtype=torch.float64).sort().values
    tail = (1 - confidence) / 2 * (resamples - 1)
    low, high = float(sampled[math.floor(tail)]), float(sampled[math.ceil(resamples - 1 - tail)])
    return EffectiveSize(size_of(everything), low, high, float(offered[smoothed.mean(0).argmin()]), best)
