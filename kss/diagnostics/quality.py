r"""How far samples are from held-out data: the sliced Wasserstein distance, and a kernel two-sample statistic.

Both compare two sets of points, and know nothing of the training data: what they say of copies is nothing
({claim}`quality.blind`). Neither is 0 for two samples of one law, so each comes with what such samples show.

**Sliced Wasserstein distance**, between samples with n and m points projected on a direction `theta` of the unit sphere:

    SW_p^p = E_theta W_p^p(theta.x, theta.y),        W_p^p = int_0^1 |F^-1(u) - G^-1(u)|^p du,

where `F^-1` and `G^-1` are step functions with steps at `i/n` and `j/m`.

**Kernel statistic**, the unbiased estimate of `MMD^2 = E k(X, X') + E k(Y, Y') - 2 E k(X, Y)`:

    sum_{i != j} k(x_i, x_j)/(n (n-1)) + sum_{i != j} k(y_i, y_j)/(m (m-1)) - 2 sum_{i, j} k(x_i, y_j)/(n m).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, as_tensor, reject
from kss.diagnostics.neighbors import power_of_two

FACTORS = (0.25, 1.0, 4.0)
"""Default bandwidths, in units of half the median squared distance."""
BLOCK = 2**22
"""At most so many numbers of projected points, or of differences, are held at once."""
PERMUTED = 64
"""Permutations in one matrix product."""


class SlicedWasserstein(NamedTuple):
    """A distance in the units of the points."""

    value: float
    error: float
    """Standard error from the choice of directions, for these two samples. What other samples would give is in the floor."""


class Floor(NamedTuple):
    """What two samples of one law show."""

    value: float
    """Mean over the repeats."""
    spread: float
    """Standard deviation over the repeats, of samples and directions together."""
    sizes: tuple[int, int]
    """Sizes of the samples it was measured for."""


class TwoSample(NamedTuple):
    """A kernel two-sample test."""

    statistic: float
    """Unbiased estimate of MMD^2: 0 on average for samples of one law, and then negative somewhat more often than not."""
    error: float
    """Standard error by the jackknife; its square is on average not below the variance, and about twice that for two samples of one law."""
    p_value: float
    """`(1 + b)/(1 + B)`, where b of the B permuted statistics are at least as large; NaN if B is 0."""


def sliced_wasserstein(
    samples: ArrayLike, held_out: ArrayLike, *, directions: int = 128, power: float | int = 1, generator: Seed
) -> SlicedWasserstein:
    """`(E_theta W_p^p)^(1/p)` between `samples` (n, d) and `held_out` (m, d), n and m any numbers, `p = power >= 1`.

    The mean is over `directions` independent uniform directions, drawn from `generator`; in one dimension there is one direction, and
    the error is 0. The same seed gives the same directions, so that methods can be compared by differences. Source: Rabin et al.,
    SSVM 2011; Bonneel et al., J. Math. Imaging Vis. 51 (2015).

    >>> sliced_wasserstein([[0.0], [1.0]], [[0.0], [1.0], [2.0]], generator=0)
    SlicedWasserstein(value=0.5, error=0.0)
    """
    x, y = _pair(samples, held_out)
    p = as_positive("power", float(power))
    if p < 1:
        raise reject("power", power, "a number >= 1")
    L, chance = as_count("directions", directions, minimum=2), as_generator(generator)
    d = x.shape[1]
    scale = power_of_two(torch.maximum(x.abs().max(), y.abs().max()))
    x, y = x / scale, y / scale
    center = y.mean(0)
    x, y = x - center, y - center  # no direction sees a shift of both, rounding does
    axes = torch.randn(L, d, dtype=torch.float64, generator=chance, device=chance.device).cpu()
    axes = axes / torch.linalg.vector_norm(axes, dim=1, keepdim=True) if d > 1 else torch.ones(1, 1, dtype=torch.float64)
    parts = [_coupled(x @ some.T, y @ some.T, p) for some in axes.split(max(1, BLOCK // (len(x) + len(y))))]
    widest, powers = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    unit = float(widest.max())
    if unit == 0:
        return SlicedWasserstein(0.0, 0.0)
    each = powers * (widest / unit).pow(p)
    mean, error = float(each.mean()), float(each.std() / math.sqrt(L)) if d > 1 else 0.0
    value = unit * mean ** (1 / p) * float(scale)
    return SlicedWasserstein(value, value / (p * mean) * error)  # the slope of the p-th root


def sliced_wasserstein_floor(
    pool: ArrayLike,
    sizes: tuple[int, int],
    *,
    repeats: int = 20,
    directions: int = 128,
    power: float | int = 1,
    generator: Seed,
) -> Floor:
    """What `sliced_wasserstein` gives on average for two samples of one law with these `sizes`, (n, m).

    Disjoint parts of `pool` (M, d), independent draws of the law, are such samples: the mean is unbiased, whatever the law, if
    `n + m <= M`. No score is involved, so training and held-out data together may serve as the pool. If the pool is too small the parts are
    made smaller in proportion, and since `E W_p^p` never grows with n or m, the value is then too large, on average, for p = 1; `sizes` of
    the result says what was done. The repeats share points, so `spread/sqrt(repeats)` is not the error of the mean.

    >>> from kss.distributions import Gaussian
    >>> sliced_wasserstein_floor(Gaussian([0.0, 0.0], 1.0).sample(300, 1), (100, 200), generator=0).sizes
    (100, 200)
    """
    points = as_points("pool", pool).detach().cpu().double()
    n, m = as_count("sizes", sizes[0]), as_count("sizes", sizes[1])
    count = as_count("repeats", repeats, minimum=2)
    M = len(points)
    if M < 2:
        raise reject("pool", points, "two points or more")
    if n + m > M:
        first = min(max(1, round(M * n / (n + m))), M - 1)
        n, m = (min(n, first), min(m, M - first))
    chance, values = as_generator(generator), []
    for _ in range(count):
        order = torch.randperm(M, generator=chance, device=chance.device).cpu()
        a, b = points[order[:n]], points[order[n : n + m]]
        values.append(sliced_wasserstein(a, b, directions=directions, power=power, generator=chance).value)
    return Floor(float(np.mean(values)), float(np.std(values, ddof=1)), (n, m))


def median_bandwidths(points: ArrayLike) -> tuple[float, ...]:
    """Half the median squared distance between two of the `points` (n, d), times `FACTORS`: variances, for `kernel_two_sample`.

    The lower of the two middle ones, if there are two. If it is 0, half the mean squared distance instead; 1 if all points are equal.
    """
    x = as_points("points", points).detach().cpu().double()
    squares = _squares(x, x)[~torch.eye(len(x), dtype=torch.bool)]
    middle = float(squares.median()) if len(squares) else 0.0
    middle = middle or (float(squares.mean()) if len(squares) else 0.0) or 2.0
    if not math.isfinite(middle):
        raise reject("points", points, "points whose squared distances can be represented")
    return tuple(factor * middle / 2 for factor in FACTORS)


def kernel_two_sample(
    samples: ArrayLike,
    held_out: ArrayLike,
    *,
    bandwidths: ArrayLike | None = None,
    permutations: int = 0,
    generator: Seed,
) -> TwoSample:
    """Unbiased MMD^2 between `samples` (n, d) and `held_out` (m, d), n, m >= 3, with the mean of Gaussian kernels `exp(-|x - y|^2/2h)`.

    `bandwidths` are the variances h; if omitted, `median_bandwidths` of both sets together. To compare several sets of samples give all the
    same, from other data, as `median_bandwidths(training)`. The p-value is valid for bandwidths that do not depend on which points are
    samples: for the default and for those from other data, not for those from `held_out`. It then tests the hypothesis that all
    n + m points are exchangeable. Time and memory grow like (n + m)^2. Source: Gretton et al., J. Mach. Learn. Res. 13 (2012), 723,
    lemma 6; Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), 39, for the rank.

    >>> from kss.distributions import Gaussian
    >>> law, moved = Gaussian([0.0], 1.0), Gaussian([3.0], 1.0)
    >>> kernel_two_sample(moved.sample(50, 1), law.sample(60, 2), permutations=99, generator=0).p_value
    0.01
    """
    x, y = _pair(samples, held_out)
    n, m, B, chance = len(x), len(y), as_count("permutations", permutations, minimum=0), as_generator(generator)
    for name, part in (("samples", x), ("held_out", y)):
        if len(part) < 3:
            raise reject(name, part, "three points or more, to estimate an error")
    both = torch.cat((x, y))
    if bandwidths is None:
        both = both / power_of_two(both.abs().max())  # changes nothing but overflows
    widths = as_tensor("bandwidths", median_bandwidths(both) if bandwidths is None else bandwidths).double().cpu().reshape(-1)
    if len(widths) == 0 or not bool((widths > 0).all()):
        raise reject("bandwidths", widths.tolist(), "variances > 0, at least one")
    squares = _squares(both, both)
    kernel = torch.stack([torch.exp(-squares / (2 * h)) for h in widths]).mean(0)
    kernel.fill_diagonal_(0.0)
    mine = torch.zeros(n + m, dtype=torch.float64)
    mine[:n] = 1.0
    statistic = float(_mmd(kernel, mine.unsqueeze(1))[0])
    if B == 0:
        return TwoSample(statistic, _jackknife(kernel, n), math.nan)
    orders = [torch.randperm(n + m, generator=chance, device=chance.device).cpu() for _ in range(B)]
    parts = [torch.stack([mine[order] for order in orders[i : i + PERMUTED]], 1) for i in range(0, B, PERMUTED)]
    permuted = torch.cat([_mmd(kernel, part) for part in parts])
    # The same division of the points, summed in another order, is a tie.
    larger = int((permuted >= statistic - 64 * torch.finfo(torch.float64).eps).sum())
    return TwoSample(statistic, _jackknife(kernel, n), (1 + larger) / (1 + B))


def _pair(samples: ArrayLike, held_out: ArrayLike) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    x = as_points("samples", samples).detach().cpu().double()
    return x, as_points("held_out", held_out, dim=x.shape[1]).detach().cpu().double()


def _coupled(x: Float[Tensor, "n L"], y: Float[Tensor, "m L"], p: float) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"]]:
    """The widest gap of each column, and `W_p^p` in units of its p-th power: so neither is lost, however large p.

    Between two steps of the quantile functions, at multiples of 1/n and 1/m, both are constant.
    """
    n, m = len(x), len(y)
    steps = np.union1d(m * np.arange(n + 1), n * np.arange(m + 1))  # in units of 1/nm, so without rounding
    left = torch.from_numpy(steps[:-1])
    weight = torch.from_numpy(np.diff(steps)).double() / (n * m)
    gap = (x.sort(0).values[left // m] - y.sort(0).values[left // n]).abs()
    widest = gap.max(0).values
    return widest, weight @ (gap / torch.where(widest > 0, widest, 1.0)).pow(p)


def _squares(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def _mmd(kernel: Float[Tensor, "M M"], mine: Float[Tensor, "M B"]) -> Float[Tensor, " B"]:
    """The statistic for each column of labels, 1 for a sample and 0 for a held-out point; the diagonal of `kernel` is 0."""
    n = mine[:, 0].sum()
    m = len(mine) - n
    own, other = kernel @ mine, 1 - mine
    rest = kernel.sum(1, keepdim=True) - own
    return (mine * own).sum(0) / (n * (n - 1)) + (other * rest).sum(0) / (m * (m - 1)) - 2 * (other * own).sum(0) / (n * m)


def _jackknife(kernel: Float[Tensor, "M M"], n: int) -> float:
    """From the statistics without one point, of one set and of the other."""
    m = len(kernel) - n
    xx, xy, yy = kernel[:n, :n], kernel[:n, n:], kernel[n:, n:]
    total = 0.0
    for own, cross, size, other in ((xx, xy.sum(1), n, m), (yy, xy.sum(0), m, n)):
        left = (own.sum() - 2 * own.sum(1)) / ((size - 1) * (size - 2)) - 2 * (cross.sum() - cross) / ((size - 1) * other)
        total += (size - 1) / size * float((left - left.mean()).square().sum())
    return math.sqrt(total)
