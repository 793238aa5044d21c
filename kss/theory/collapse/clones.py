r"""What a noisy point tells about the data point it came from, for any finite data set: exactly, in log space, without running anything.

Exact reverse dynamics with the empirical score, from x at noise variance t, end at the data point `x_i` with probability

    w_i(x) = softmax_i(-|x - x_i|^2/2t),

because they are the conditional law of the path given `X_t = x`, and this is Bayes' rule. So two independent runs from x, **clones**,
end at the same data point with probability

    Y(x) = sum_i w_i^2 = (4 pi t)^{-d/2} p_{t/2}^N(x)/(N p_t^N(x)^2),

whose inverse is the number of data with weight. And the mutual information of the index I and `X_t = x_I + sqrt(t) Z`, I uniform, is

    I^N(t) = log N - E Ent(w(X_t)),        Ent(w) = -sum_i w_i log w_i.

Duplicates among the data count as different points throughout.
"""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_points, as_positive, as_query, reject
from kss.distributions import Empirical
from kss.theory.kl.path import Estimate

BLOCK = 2**21
"""How many weights are held at a time."""
LARGE = 1e150
"""Stands for infinity where its square must not overflow."""


def endpoint_probabilities(points: ArrayLike | Empirical, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch N"]:
    r"""`w_i(x)`: where exact reverse dynamics with the empirical score end that start from x at noise variance t.

    Arguments: the data `points` (N, d), or an `Empirical`; `x` (..., d); `t` > 0, a number or of shape (...). Returns (..., N), rows that
    sum to 1. All weights are held at once: for many queries and data prefer the sums below.

    >>> endpoint_probabilities([[0.0], [2.0]], [[1.0], [5.0]], 1e-3)
    tensor([[0.5000, 0.5000],
            [0.0000, 1.0000]], dtype=torch.float64)
    """
    # Duplicates share one column of the weights; `which` says which.
    distinct = _Distinct(points)
    return _evaluate(distinct, x, t, lambda log_weight: log_weight.exp()[:, distinct.which])


def clone_probability(points: ArrayLike | Empirical, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`Y(x) = sum_i w_i(x)^2`: two independent reverse runs from x at noise variance t end at the same data point.

    Arguments as for `endpoint_probabilities`; returns (...), between 1/N and 1. Blocks bound the memory.

    >>> float(clone_probability([[0.0], [2.0]], [1.0], t=0.1))
    0.5
    """
    distinct = _Distinct(points)
    return _evaluate(distinct, x, t, lambda log_weight: ((2 * log_weight).exp() * distinct.copies).sum(-1))


def posterior_entropy(points: ArrayLike | Empirical, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`Ent(w(x)) = -sum_i w_i log w_i` in nats: how open it is, from x at noise variance t, where reverse dynamics end.

    Arguments as for `endpoint_probabilities`; returns (...), between 0 and log N.
    """
    distinct = _Distinct(points)
    return _evaluate(distinct, x, t, lambda log_weight: -(log_weight.exp() * log_weight * distinct.copies).sum(-1) + 0.0)


def density_information(law: Empirical, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`-log p_t^N(x) - (d/2) log(2 pi e t)`: what one noisy point adds to the estimate of the information from the density.

    Its mean over `x ~ p_t^N` is `I^N(t)`, as that of `log N - Ent(w(x))` is. But it is not bounded by log N: as `t -> 0` it is
    `log N + (|Z|^2 - d)/2` with `Z` the noise of x, and exceeds log N with probability `P(chi^2_d > d)`, from 0.32 for d = 1 to one half.
    """
    log_density = law.log_density(x, t)
    return -log_density - law.dim / 2 * (1 + math.log(2 * math.pi) + torch.as_tensor(t, dtype=torch.float64).log()).to(log_density.dtype)


def empirical_information(
    points: ArrayLike | Empirical,
    t: float,
    *,
    samples: int,
    generator: Seed,
    estimator: str = "entropy",
) -> Estimate:
    r"""`I^N(t) = I(I; X_t)` in nats by Monte Carlo over `samples` draws of `X_t = x_I + sqrt(t) Z`, and its standard error.

    With the estimator "entropy", the mean of `log N - Ent(w(X_t))`: every term is between 0 and log N, and so is the estimate. With
    "density", the mean of `density_information`: right on average, but noisier, and it may exceed log N.
    """
    law, t = _as_law(points), as_positive("t", t)
    x = law.diffuse(as_count("samples", samples, minimum=2), t, generator)
    if estimator == "entropy":
        terms = (math.log(len(law)) - posterior_entropy(law, x, t).double()).clamp_min(0.0)
    elif estimator == "density":
        terms = density_information(law, x, t).double()
    else:
        raise reject("estimator", estimator, "'entropy' or 'density'")
    return Estimate(float(terms.mean()), float(terms.std() / len(terms) ** 0.5))


def _as_law(points: ArrayLike | Empirical) -> Empirical:
    return points if isinstance(points, Empirical) else Empirical(points)


class _Distinct:
    """The distinct data points, in units of a power of two near the largest coordinate, and how often each occurs."""

    def __init__(self, points: ArrayLike | Empirical) -> None:
        self.given = points.points if isinstance(points, Empirical) else as_points("points", points).detach()
        distinct, self.which, copies = self.given.double().unique(dim=0, return_inverse=True, return_counts=True)
        self.copies, self.log_copies = copies.double(), copies.double().log()
        self.scale = 2.0 ** (math.frexp(float(distinct.abs().max()) or 1.0)[1] - 1)
        self.points = distinct / self.scale

    def log_weights(self, x: Float[Tensor, "b d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b U"]:
        """The logarithm of the weight of one copy of each point.

        `|x - x_i|^2 = |x - x_r|^2 + 2 (x - x_r).(x_r - x_i) + |x_r - x_i|^2`, where `x_r` is the nearest point, or nearly so. The first
        term is common to all and left out: far from the data it would drown the others. Nothing is centered: an outlier would take digits
        from the rest. So every exponent errs by what moving x, `x_r` and `x_i` by units in the last place would change it by.
        """
        x = x / self.scale
        size = x.abs().amax(-1, keepdim=True).clamp_min(1.0)
        reference = ((x / size) @ self.points.T - (self.points**2).sum(-1) / (2 * size)).argmax(-1)
        at = self.points[reference]
        offset = x - at
        length = offset.abs().amax(-1, keepdim=True)
        inner = torch.where(length > 0, offset / length, 0.0) @ self.points.T
        inner = inner.gather(-1, reference.unsqueeze(-1)) - inner
        noise = (self.scale / t.sqrt()).clamp_max(LARGE).unsqueeze(-1)
        apart = torch.cdist(at, self.points, compute_mode="donot_use_mm_for_euclid_dist") * noise
        log_weight = -(apart.clamp_max(LARGE) ** 2) / 2 - (inner * noise) * (length * noise).clamp_max(LARGE)
        log_weight = log_weight.clamp(-(LARGE**2), LARGE**2)
        log_weight = log_weight - log_weight.amax(-1, keepdim=True)
        return log_weight - torch.logsumexp(log_weight + self.log_copies, -1, keepdim=True)


def _evaluate(distinct: _Distinct, x: ArrayLike, t: ArrayLike, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """`reduce` of the log-weights (b, U) of every query, block by block."""
    query = as_query(x, t, like=distinct.given)
    shape = query.x.shape[:-1]
    with torch.no_grad():
        parts = [reduce(distinct.log_weights(*part)) for part in _blocks(query.x, query.t, len(distinct.points))]
    result = torch.cat(parts)
    return result.reshape((*shape, *result.shape[1:])).to(query.dtype)


def _blocks(x: Tensor, t: Tensor, n: int) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, BLOCK // n)
    yield from zip(x.reshape(-1, x.shape[-1]).split(size), t.reshape(-1).split(size), strict=True)
