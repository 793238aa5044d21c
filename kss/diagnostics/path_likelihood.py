r"""Held-out likelihood along the path: a bound that needs the score alone, in any dimension.

Let `q_t` be the law that the reverse SDE of a score s generates from a law `q_T` at the noise variance `T = t_max`, in continuous time.
For held-out x and `X_u = x + sqrt(u) Z` (one standard normal Z for each u will do),

    log q_t(X_t)  >=  log q_T(X_T) - (1/2) int_t^T ( |s_u(X_u) + Z/sqrt(u)|^2 - d/u ) du        in the mean over x and Z.

Derivation: by Girsanov's theorem `KL(p_t || q_t) <= KL(p_T || q_T) + (1/2) int E|grad log p_u - s_u|^2 du`. Denoising score matching turns
the integrand into `E|s_u + Z/sqrt(u)|^2 - d/u + E|grad log p_u|^2`, and de Bruijn's identity says that half the integral of the
last term is the entropy of `p_T` less that of `p_t`. What is left has no `p` in it but through the held-out points. There is equality
where `s_u` is the score of `q_u` on the whole path, as the unsmoothed empirical score is of a kernel density estimate. Source: the bound
of Song, Durkan, Murray and Ermon (arXiv 2101.09258, theorem 3), in the time of this package; equality derived here.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, reject
from kss.distributions import Distribution
from kss.scores.protocol import Score, score_function


class PathLikelihood(NamedTuple):
    """What `path_log_likelihood` found, in nats."""

    value: float
    """An estimate of the bound, unbiased but for the quadrature over u: the mean of `each`."""
    error: float
    """Its standard error over the held-out points, their noise included."""
    each: Float[Tensor, " n"]
    """The contributions of the held-out points (n,): of two scores with the same `generator` they can be subtracted."""


def path_log_likelihood(
    score: Score,
    held_out: ArrayLike,
    *,
    t_min: float,
    t_max: float,
    start: Distribution,
    generator: Seed,
    nodes: int = 16,
) -> PathLikelihood:
    """A lower bound on the mean of `log q_t(X_t)` at `t = t_min` over `held_out` (n, d), formula and derivation in the module.

    The held-out points are given noise of variance `t_min`, as the samples carry it: the density of noisy data is what is estimated.
    `start`: the law whose diffusion at `t_max` the sampler starts from. The integral over log u is a Gauss-Legendre sum
    of `nodes` terms, each with noise of its own; it errs where the score changes within a node's share of the range. The mean over
    Z is taken of `|s|^2 + 2 s.Z/sqrt(u)`, which leaves out `(|Z|^2 - d)/u`, whose mean is 0.

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0], 1.0)
    >>> found = path_log_likelihood(law, law.sample(4000, 1), t_min=0.1, t_max=10.0, start=law, generator=2)
    >>> abs(found.value + math.log(2 * math.pi * math.e * 1.1) / 2) < 5 * found.error  # minus the entropy of N(0, 1.1)
    True
    """
    x = as_points("held_out", held_out).detach().double()
    t_min, t_max, nodes = as_positive("t_min", t_min), as_positive("t_max", t_max), as_count("nodes", nodes)
    if t_min >= t_max:
        raise reject("t_min", t_min, f"a noise variance below t_max = {t_max:g}")
    if len(x) < 2:
        raise reject("held_out", x, "at least two points, for the standard error")
    if start.dim != x.shape[1]:
        raise reject("start", start, f"a law on R^{x.shape[1]}")
    s, chance = score_function(score), as_generator(generator)
    half = math.log(t_max / t_min) / 2
    places, weights = np.polynomial.legendre.leggauss(nodes)

    def noise() -> Tensor:
        return torch.randn(x.shape, generator=chance, dtype=torch.float64, device=chance.device).to(x.device)

    each = start.log_density(x + math.sqrt(t_max) * noise(), t_max).double()
    with torch.no_grad():
        for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
            u = t_min * math.exp((1 + place) * half)
            z = noise()
            value = s(x + math.sqrt(u) * z, u).double()
            # du = u d(log u)
            each = each - half * weight / 2 * (u * value.square().sum(-1) + 2 * math.sqrt(u) * (value * z).sum(-1))
    return PathLikelihood(float(each.mean()), float(each.std() / math.sqrt(len(each))), each)
