r"""From the error of a score to the KL divergence of what it generates.

Setting. Noise variance u is time; `p_u` is the law of the diffused data, `s_u` its score. The reverse SDE, with unit diffusion
and any score
`s~` for a drift, starts at T from a law `q_T` and has the law `q_u` at u. Both laws solve a Fokker-Planck equation, and the
divergence between
solutions of two of them changes at a rate in which only the drifts count:

    KL(p_t || q_t) = KL(p_T || q_T) + (1/2) int_t^T E_{p_u} |s_u - s~_u|^2 du  -  (1/2) int_t^T E_{p_u} |grad log q_u - s~_u|^2 du.

Without the last term it is Girsanov's inequality, and the last term is what the inequality gives away. It is zero if `s~` is
the score of the
law it generates. The empirical score is: then the inequality is an equality, de Bruijn's identity for two solutions of the heat equation.

The probability flow `dY = (1/2) s~ dtau` has its own identity, without a sign:

    KL(p_t || q_t) = KL(p_T || q_T) + (1/2) int_t^T E_{p_u} (s_u - s~_u) . (s_u - grad log q_u) du.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kss._validation import Seed, as_count, as_generator, as_positive, reject
from kss.distributions.base import Distribution
from kss.scores.protocol import Score, score_function


class Estimate(NamedTuple):
    """A Monte-Carlo estimate and its standard error."""

    value: float
    error: float


def kl_bound(start: Any, energy: Any) -> Any:
    """`KL(p_T || q_T) + energy/2`, with `energy = int E_{p_u} |s_u - s~_u|^2 du`: never below `KL(p_t || q_t)` for the reverse SDE."""
    return start + energy / 2


def bound_surplus(energy: Any) -> Any:
    """`energy/2`: how far `kl_bound` lies above the truth, with `energy = int E_{p_u} |grad log q_u - s~_u|^2 du`."""
    return energy / 2


def flow_kl_change(product: Any) -> Any:
    """`product/2`: what the flow adds to `KL(p_T || q_T)`; `product = int E_{p_u} (s_u - s~_u) . (s_u - grad log q_u) du`."""
    return product / 2


def led_defect(under_p: Any, under_q: Any) -> Any:
    """`(under_p - under_q)/2`: what the LED-KDE's divergence has beyond `kl_bound`.

    The two are `int E Var_V s_u^N(. + V) du`, the variance of the empirical score under its smoothing kernel, averaged over `p_u` and over
    the LED-KDE.
    """
    return (under_p - under_q) / 2


def path_kl_bound(
    law: Distribution, score: Score, *, t_min: float, t_max: float, samples: int, generator: Seed, start: float = 0.0
) -> Estimate:
    r"""Girsanov's bound on `KL(p_t || q_t)` at `t = t_min` for the reverse SDE driven by `score` from `T = t_max`.

        start + (1/2) int_{t_min}^{t_max} E_{p_u} |s_u - s~_u|^2 du

    by Monte Carlo: `log u` is stratified, with two draws of u and of `x ~ p_u` in each of `samples/2` strata (`samples` is
    even), so that the
    value has no bias and the standard error is that of a stratified mean. `start` is `KL(p_T || q_T)`: 0 if the reverse SDE
    starts from `p_T`
    itself. `score` must be one fixed function of (x, t); to a score that is itself a random mean over nodes belongs the square of the
    mean, not the mean of the squares. Source: Girsanov's theorem; see Chen et al., arXiv 2209.11215, section 5.

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0], 1.0)
    >>> path_kl_bound(law, law, t_min=0.1, t_max=1.0, samples=10, generator=0)
    Estimate(value=0.0, error=0.0)
    """
    t_min, t_max, samples = as_positive("t_min", t_min), as_positive("t_max", t_max), as_count("samples", samples, minimum=4)
    if t_min >= t_max:
        raise reject("t_min", t_min, f"a noise variance below t_max = {t_max:g}")
    if samples % 2:
        raise reject("samples", samples, "an even number: two draws in each stratum")
    if not start >= 0:
        raise reject("start", start, "a divergence >= 0")
    generator, other = as_generator(generator), score_function(score)
    width = math.log(t_max / t_min)
    place = torch.rand(2, samples // 2, dtype=torch.float64, generator=generator, device=generator.device)
    place = (torch.arange(samples // 2, device=generator.device) + place) / (samples // 2)
    u = (math.log(t_min) + width * place).exp().flatten()
    x = _diffuse(law, u, generator)
    u = u.to(x.device)
    gap = ((law.score(x, u) - other(x, u)).double() ** 2).sum(-1)
    pairs = kl_bound(0.0, width * u * gap).reshape(2, -1)  # du = u d(log u)
    deviation = (pairs[0] - pairs[1]).square().sum().sqrt() / pairs.numel()
    return Estimate(float(start + pairs.mean()), float(deviation))


def diffused_kl(law: Distribution, other: Distribution, t: float, *, samples: int, generator: Seed) -> Estimate:
    """`KL(p_t || p'_t)` of two laws under noise of variance t, by Monte Carlo: the mean of `log p_t - log p'_t` over draws of `p_t`.

    For `other` an `Empirical` law it is the divergence of what its exact score generates.

    >>> from kss.distributions import Gaussian
    >>> diffused_kl(Gaussian([0.0], 1.0), Gaussian([0.0], 1.0), 0.1, samples=10, generator=0)
    Estimate(value=0.0, error=0.0)
    """
    x = law.diffuse(as_count("samples", samples, minimum=2), t, generator)
    ratio = law.log_density(x, t).double() - other.log_density(x, t).double()
    return Estimate(float(ratio.mean()), float(ratio.std() / len(ratio) ** 0.5))


def _diffuse(law: Distribution, u: Tensor, generator: torch.Generator) -> Tensor:
    """One draw of `p_u` for each noise variance u (n,)."""
    clean = law.sample(len(u), generator)
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator, device=generator.device)
    return clean.double() + (u.sqrt().unsqueeze(-1) * noise).to(clean.device)
