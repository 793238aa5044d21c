r"""Which directions of the data does an empirical score lose, and when?

Setting. `X_0 ~ N(0, diag(lambda_1..lambda_d))`, N independent data, noise variance t. In the direction a the Jacobian of a score is
`-(1/t)(1 - C_aa/t)`, with `C` the posterior covariance. The factor

    gap_a = 1 - C_aa/t

is how much of the noise in the direction a the score removes: near 0 along the data, 1 across them, and 1 in every direction where the
posterior has condensed on one data point ("lost"). Its value for the law itself is `t/(lambda_a + t)`. How much information `X_t = x`
gives about `X_0`,

    I(x) = KL(posterior at x || prior) = (1/2) sum_a [ log(1 + lambda_a/t) - lambda_a/(lambda_a + t) + lambda_a x_a^2/(lambda_a + t)^2 ],

says when N data condense at x: about `N e^{-I(x)}` of them are where the posterior of the law is, so at times t below the root of
`I(x) = log N` the weights stand on a few (the random energy model's freezing). The mean of `I(x)` over `p_t` is the mutual information, in
`kss.theory.collapse`.

Sources: the question and the random-energy reading are those of Achilli et al., arXiv 2410.08727; the formulas are derived in the
chapter "Losing dimensions".
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_positive, as_tensor, as_times, as_variances, reject
from kss.distributions import Empirical
from kss.theory.collapse import condensation_time

LARGEST = 1e300
"""Stands for "too large to matter": finite, so that 0 * LARGEST is 0 and never NaN."""


def as_size(n: float | int) -> float:
    """A number of data, `n >= 1`, not necessarily whole: sizes like `e^{0.4 d}` are of interest."""
    try:
        size = math.nan if isinstance(n, bool) else float(n)
    except (TypeError, ValueError, OverflowError):
        size = math.nan
    if not 1 <= size < math.inf:
        raise reject("n", n, "a finite number >= 1")
    return size


def population_gap(variances: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
    """`1 - C_aa/t = t/(lambda_a + t)` for the law `N(0, diag(variances))`, at every x: (...) times t and d directions to (..., d).

    >>> population_gap([1.0, 0.0], t=0.25)
    tensor([0.2000, 1.0000], dtype=torch.float64)
    """
    lam, t = as_variances(variances), as_times(t).unsqueeze(-1)
    return t / (lam + t)


def opening_time(variances: ArrayLike, threshold: float = 0.5) -> Float[Tensor, " d"]:
    """The noise variance at which the population gap falls below `threshold`: `lambda threshold/(1 - threshold)`.

    Below it the direction counts as tangent to the data, above it as noise. The default 1/2 gives lambda itself.
    """
    lam, level = as_variances(variances), as_positive("threshold", threshold)
    if level >= 1:
        raise reject("threshold", threshold, "a number between 0 and 1")
    return lam * level / (1 - level)


def empirical_gaps(points: ArrayLike, x: ArrayLike, t: ArrayLike, directions: ArrayLike | None = None) -> Float[Tensor, "*batch q"]:
    """`1 - <u, C u>/t` for the score of the data `points` (N, d) at `x` (..., d): exact, at any t.

    `directions` are q vectors u, the rows of a (q, d) array, whose lengths do not matter; the coordinate axes if omitted. Values lie in
    `(-inf, 1]`: negative ones occur between two nearly equidistant data points, where the score repels.

    >>> empirical_gaps([[-1.0, 0.0], [1.0, 0.0]], [0.0, 0.0], t=0.5)
    tensor([-1.,  1.], dtype=torch.float64)
    """
    law = Empirical(points)
    posterior = law.posterior(x, t)
    covariance = posterior.unrounded().covariance()
    if directions is None:
        spread = covariance.diagonal(dim1=-2, dim2=-1)
    else:
        rows = as_points("directions", directions, law.dim).double()
        length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        if bool((length == 0).any()):
            raise reject("directions", rows.tolist() if rows.numel() < 10 else rows, "vectors that are not zero")
        rows = (rows / length).to(covariance.device)
        spread = torch.einsum("qi,...ij,qj->...q", rows, covariance, rows)
    return (1 - spread / as_times(t).to(covariance.device).unsqueeze(-1)).to(posterior.dtype)


def block_condensation_time(variance: ArrayLike, dim: int, n: float | int) -> Float[Tensor, "*batch"]:
    """`t_S = lambda/(N^{2/m} - 1)`: where m = `dim` directions of equal `variance`, taken alone, condense; infinite for n = 1.

    It solves `(m/2) log(1 + lambda/t) = log N`.
    """
    lam, m, size = as_tensor("variance", variance).double(), as_count("dim", dim), as_size(n)
    if bool((lam < 0).any()):
        raise reject("variance", lam.tolist(), "numbers >= 0")
    # The time scales with the variance; a block without any is never lost by its own data, except a single one.
    unit = condensation_time(torch.ones(m, dtype=torch.float64), size)
    return torch.full_like(lam, torch.inf) if size == 1 else lam * unit


def block_sample_size(variance: ArrayLike, dim: int, t: ArrayLike) -> Float[Tensor, "*batch"]:
    """`N_S(t) = (1 + lambda/t)^{m/2}`: how many data m = `dim` directions of equal `variance`, taken alone, need at t."""
    lam, m, noise = as_tensor("variance", variance).double(), as_count("dim", dim), as_times(t)
    if bool((lam < 0).any()):
        raise reject("variance", lam.tolist(), "numbers >= 0")
    return torch.exp(m / 2 * torch.log1p(lam / noise))


def information_at(x: ArrayLike, variances: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
    """`I(x) = KL(posterior at x || prior)` in nats, for `x` (..., d); it falls from infinity to 0 as t grows."""
    lam, t = as_variances(variances), as_times(t).unsqueeze(-1)
    place = _as_place(x, lam)
    signal = lam / (lam + t)
    ratio = lam / t  # log(1 + u) - u/(1 + u) cancels for small u, and u overflows
    small = ratio.clamp_max(1.0)
    series = small**2 / 2 - 2 * small**3 / 3 + 3 * small**4 / 4
    logarithm = torch.where(ratio > 1e15, lam.log() - t.log(), torch.log1p(ratio))
    shrink = torch.where(ratio < 1e-4, series, logarithm - signal)
    moved = torch.where(lam > 0, place / torch.sqrt(lam + t), 0.0)  # whatever x is, a direction without variance tells nothing
    return (shrink + signal * moved**2).sum(-1) / 2


def condensation_time_at(x: ArrayLike, variances: ArrayLike, n: float | int) -> Float[Tensor, "*batch"]:
    """The noise variance at which N = `n` data condense at the point `x` (..., d): the root of `I(x) = log N`.

    Infinite for n = 1, and 0 if the root is below 1e-300. At the origin it is `t_*`, the least of all.

    >>> bool(condensation_time_at([0.0, 0.0], [1.0, 1.0], n=100) < condensation_time_at([2.0, 0.0], [1.0, 1.0], n=100))
    True
    """
    lam, size = as_variances(variances), as_size(n)
    place = _as_place(x, lam)
    if not bool((lam > 0).any()):
        raise reject("variances", lam.tolist() if lam.numel() < 10 else lam, "a positive one among them")
    if size == 1:
        return torch.full(place.shape[:-1], torch.inf, dtype=torch.float64)
    low = torch.full(place.shape[:-1], math.log(1e-300), dtype=torch.float64)
    high = torch.full_like(low, math.log(1e300))
    target = math.log(size)
    for _ in range(64):  # 1382/2^64 is below the rounding of log t
        middle = (low + high) / 2
        above = information_at(place, lam, middle.exp()) > target
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    root = ((low + high) / 2).exp()
    lost = information_at(place, lam, torch.full_like(root, 1e-300)) <= target
    return torch.where(lost, 0.0, root)


def stein_gaps(points: ArrayLike, x: ArrayLike, t: float | int, variances: ArrayLike) -> Float[Tensor, "*batch d"]:
    r"""Numbers whose mean over data sets is the mean gap, without its rare events: for normal data, any N, t and x.

        sum_i w_i x_ia (x_ia - m_a^{(-i)}(x)) / lambda_a,         E[ . ] = E[1 - C_aa/t],

    with `m^{(-i)}` the posterior mean without the i-th datum. The right-hand side is carried by near ties, with a variance that grows
    like 1/t; the left-hand side has bounded variance. It is Stein's identity for the denoiser as a function of the data.

    Arguments: `points` (..., N, d), one data set or many, independent draws from `N(0, diag(variances))`; `x` (..., d), fixed or
    independent of the data; shapes before N and d broadcast; `t` a number. A direction without variance has gap 1.
    """
    lam = as_variances(variances)
    data = _as_data_sets(points, lam)
    log_weight = _log_weights(data, _as_place(x, lam), as_positive("t", t))
    weight = log_weight.exp()
    top = log_weight.argmax(-1, keepdim=True)
    # Leaving one out: m + w/(1 - w)(m - x_i) for all but the heaviest, whose 1 - w would cancel.
    rest = log_weight.scatter(-1, top, -torch.inf)
    alone = data.shape[-2] == 1
    others = torch.zeros_like(rest) if alone else torch.softmax(rest, -1)
    mean_of_rest = (others.unsqueeze(-1) * data).sum(-2)
    mean = (weight.unsqueeze(-1) * data).sum(-2)
    light = weight.scatter(-1, top, 0.0)
    factor = light / (1 - light)
    first = (weight.unsqueeze(-1) * data**2).sum(-2)
    heaviest = weight.gather(-1, top)
    heavy_datum = torch.take_along_dim(data.expand(*log_weight.shape, len(lam)), top.unsqueeze(-1), -2).squeeze(-2)
    second = heaviest * heavy_datum * mean_of_rest
    # sum over the light ones of w x (m + f (m - x))
    light_data = (light * (1 + factor)).unsqueeze(-1) * data
    light_squares = (light * factor).unsqueeze(-1) * data**2
    second = second + light_data.sum(-2) * mean - light_squares.sum(-2)
    return torch.where(lam > 0, (first - second) / torch.where(lam > 0, lam, 1.0), 1.0)


def origin_gaps(points: ArrayLike, t: float | int, variances: ArrayLike) -> Float[Tensor, "*batch d"]:
    """`sum_i w_i x_ia^2/lambda_a` at x = 0: nonnegative, and its mean over data sets is the mean gap `E[1 - C_aa/t]` there.

    `points` (..., N, d) as in `stein_gaps`, of which this drops a term that averages to 0 by symmetry. A direction without variance has
    gap 1.
    """
    lam = as_variances(variances)
    data = _as_data_sets(points, lam)
    weight = _log_weights(data, torch.zeros_like(lam), as_positive("t", t)).exp()
    squares = (weight.unsqueeze(-1) * data**2).sum(-2)
    return torch.where(lam > 0, squares / torch.where(lam > 0, lam, 1.0), 1.0)


def _as_data_sets(points: ArrayLike, like: Float[Tensor, " d"]) -> Float[Tensor, "*sets n d"]:
    data = as_tensor("points", points).double()
    if data.ndim < 2 or data.shape[-1] != len(like) or data.shape[-2] == 0:
        raise reject("points", data, f"data sets of shape (..., N, {len(like)})")
    return data


def _as_place(x: ArrayLike, like: Float[Tensor, " d"]) -> Float[Tensor, "*batch d"]:
    place = as_tensor("x", x).double()
    if place.ndim == 0 or place.shape[-1] != len(like):
        raise reject("x", place, f"points of shape (..., {len(like)})")
    return place


def _log_weights(data: Float[Tensor, "*sets n d"], x: Float[Tensor, "*places d"], t: float) -> Float[Tensor, "*batch n"]:
    """`log w_i(x)`, from differences: exact at any t, for ties and duplicates too."""
    difference = data - x.unsqueeze(-2)
    scale = difference.abs().amax((-2, -1), keepdim=True).clamp_min(1e-150)
    form = ((difference / scale) ** 2).sum(-1)
    form = form - form.amin(-1, keepdim=True)
    sharpness = (scale.squeeze(-1) / math.sqrt(t) * scale.squeeze(-1) / math.sqrt(t) / 2).clamp_max(LARGEST)
    return torch.log_softmax(-form * sharpness, -1)
