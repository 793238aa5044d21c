r"""Measuring KL divergences of what was generated: from samples alone, and from the exact density of a probability flow.

**Nearest neighbors.** For samples of n points from p and m from q, with `rho_k(i)` the distance from the i-th point of the
first to its k-th
neighbor in the same sample and `nu_k(i)` to its k-th neighbor in the other one,

    KL(p || q) ~ (d/n) sum_i log(nu_k(i)/rho_k(i)) + log(m/(n - 1)).

**Probability flow.** The mean of `log p_t - log q_t`, with `log q_t` from `kss.diagnostics.likelihood`, without sampling from q at all.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from kss._validation import ArrayLike, Seed, as_count, as_points, as_positive, reject
from kss.diagnostics.likelihood import HasDivergence, exact_field, follow_flow
from kss.distributions import Distribution
from kss.scores.protocol import Score
from kss.theory.kl import Estimate


class KnnKl(NamedTuple):
    """What `knn_kl` found."""

    value: float
    error: float
    """Standard error, from disjoint blocks of both samples; the bias is not in it."""
    value_of_blocks: float
    """The mean of the blocks' own estimates. Where it differs from `value` by more than the errors the bias still falls with n."""


def knn_kl(samples_p: ArrayLike, samples_q: ArrayLike, *, neighbors: int = 5, blocks: int = 10) -> KnnKl:
    """`KL(p || q)` from samples (n, d) of p and (m, d) of q alone, by distances to nearest neighbors.

    Consistent for laws with densities; its bias is not bounded in general, grows with d and with the divergence, and is smallest where the
    two samples are equally dense. At least `neighbors + 1` points for each of the `blocks`. A point that has `neighbors` exact copies of
    itself has no density to estimate, and is refused with `ValueError`. Source: Wang, Kulkarni and Verdu, IEEE Trans. Inf.
    Theory 55 (2009), 2392, equation 5; Perez-Cruz, ISIT 2008.

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0], 1.0)
    >>> found = knn_kl(law.sample(2000, 1), law.sample(2000, 2))
    >>> abs(found.value) < 5 * found.error
    True
    """
    p = as_points("samples_p", samples_p).detach().cpu().double().numpy()
    q = as_points("samples_q", samples_q, dim=p.shape[1]).detach().cpu().double().numpy()
    k, blocks = as_count("neighbors", neighbors), as_count("blocks", blocks, minimum=2)
    least = blocks * (k + 1)
    for name, sample in (("samples_p", p), ("samples_q", q)):
        if len(sample) < least:
            raise reject(name, sample, f"at least {least} points, {k + 1} for each of {blocks} blocks")
    whole = _knn(p, q, k)
    # Every block-th point: neighbors in the order of a trajectory do not end up in one block.
    parts = np.array([_knn(p[i::blocks], q[i::blocks], k) for i in range(blocks)])
    return KnnKl(whole, float(parts.std(ddof=1) / math.sqrt(blocks)), float(parts.mean()))


def _knn(p: Float[np.ndarray, "n d"], q: Float[np.ndarray, "m d"], k: int) -> float:
    own = KDTree(p).query(p, [k + 1])[0][:, 0]  # the nearest neighbor is the point itself
    other = KDTree(q).query(p, [k])[0][:, 0]
    for name, distance in (("samples_p", own), ("samples_q", other)):
        if not distance.all():
            copied = p[int(np.argmin(distance))].tolist()
            raise reject(name, copied, f"fewer than {k} exact copies of each point of samples_p (remove them, or ask for more neighbors)")
    return float(p.shape[1] * np.log(other / own).mean() + math.log(len(q) / (len(p) - 1)))


def flow_kl(
    law: Distribution,
    score: Score | HasDivergence,
    *,
    t_min: float,
    t_max: float,
    samples: int,
    generator: Seed,
    start: Distribution | None = None,
    tolerance: float = 1e-6,
) -> Estimate:
    r"""`KL(p_t || q_t)` at `t = t_min`, with `q_t` the law of the probability flow of `score` that starts at `t_max`, and its
    standard error.

    The mean of `log p_t(x) - log q_t(x)` over `samples` draws of `x ~ p_t`, with `log q_t(x)` from the flow followed upwards from x. At
    `t_max` the flow starts from `p_{t_max}`, or from the law `start` under noise of variance `t_max`. `div s` is exact: from the
    posterior covariance of a `Distribution`, from a method `score_and_divergence(x, t)`, or else by automatic differentiation (d passes).
    `tolerance` is that of the solver (Dormand-Prince in log t), relative and absolute. Source: Chen et al., arXiv 1806.07366; Song et al.,
    arXiv 2011.13456, section 4.3.

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0], 1.0)
    >>> abs(flow_kl(law, law, t_min=0.1, t_max=1.0, samples=10, generator=0).value) < 1e-3
    True
    """
    t_min, t_max, tolerance = as_positive("t_min", t_min), as_positive("t_max", t_max), as_positive("tolerance", tolerance)
    if t_min >= t_max:
        raise reject("t_min", t_min, f"a noise variance below t_max = {t_max:g}")
    x = law.diffuse(as_count("samples", samples, minimum=2), t_min, generator).double()
    n, d = x.shape
    first = law if start is None else start
    if first.dim != d:
        raise reject("start", first, f"a law on R^{d}")
    arrived, change = follow_flow(exact_field(score), x, t_min, t_max, tolerance)
    ratio = law.log_density(x, t_min).double().cpu() - first.log_density(arrived, t_max).double().cpu() + change[:, 0]
    return Estimate(float(ratio.mean()), float(ratio.std() / math.sqrt(n)))
