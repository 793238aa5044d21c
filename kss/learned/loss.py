r"""The loss that training lowers, and the part of it that training can lower.

For data `x_1..x_N` of variance v per coordinate the weighted denoising loss at noise variance t is

    L_t(D) = w(t) E |D(x_i + sqrt(t) Z, t) - x_i|^2,        w(t) = (t + v)/(v t) = 1/t + 1/v.

Given `X_t = x` the clean point has mean `m_t^N(x)` and covariance `C_t^N(x)`, so, with `X_t ~ p_t^N`,

    L_t(D) = w(t) E tr C_t^N(X_t) + w(t) E |D(X_t, t) - m_t^N(X_t)|^2        (Pythagoras):

a floor that no denoiser undercuts, and the excess. In scores the excess is `w(t) t^2 E |s - s_t^N|^2`. Each function returns what is
under the expectation, at given points. Sources: Vincent 2011 (Neural Computation 23, 1661); for the weight, Karras et al. 2022 (arXiv
2206.00364).
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_positive, as_query, as_tensor, reject
from kss.distributions import Distribution


@runtime_checkable
class Denoiser(Protocol):
    """An estimate of the clean point."""

    def denoise(self, x: Tensor, t: Any) -> Tensor:
        """`E[X_0 | X_t = x]`, or what is taken for it: of the shape of `x` (..., d)."""
        ...


def denoising_loss(denoiser: Denoiser, clean: ArrayLike, x: ArrayLike, t: ArrayLike, *, variance: float) -> Float[Tensor, "*batch"]:
    """`w(t) |D(x, t) - clean|^2` for noisy points `x` (..., d) made from `clean` (..., d) at noise variance `t`, a number or (...)."""
    clean, x = as_tensor("clean", clean), as_tensor("x", x)
    if clean.shape != x.shape:
        raise reject("clean", clean, f"points of the shape of x, {tuple(x.shape)}")
    return _weighted(denoiser, x, t, clean, variance)


def excess_loss(denoiser: Denoiser, law: Distribution, x: ArrayLike, t: ArrayLike, *, variance: float) -> Float[Tensor, "*batch"]:
    """`w(t) |D(x, t) - m_t(x)|^2` at `x` (..., d): its mean over `p_t` is the part of the loss that training can lower.

    `law` is that of the clean points: for the training loss the `Empirical` law of the data, for the loss on new points the law they
    come from.
    """
    x = as_tensor("x", x)
    return _weighted(denoiser, x, t, law.denoise(x, t), variance)


def least_loss(law: Distribution, x: ArrayLike, t: ArrayLike, *, variance: float) -> Float[Tensor, "*batch"]:
    """`w(t) tr C_t(x)` at `x` (..., d): its mean over `p_t` is the loss of the exact denoiser, below which there is none."""
    posterior = law.posterior(x, t)
    noise = torch.as_tensor(t, dtype=torch.float64)
    return ((1 / noise + 1 / as_positive("variance", variance)) * posterior.covariance_trace.double()).to(posterior.dtype)


def _weighted(denoiser: Denoiser, x: Tensor, t: ArrayLike, target: Tensor, variance: float) -> Float[Tensor, "*batch"]:
    variance = as_positive("variance", variance)
    noise = as_query(x, t, like=x).t.squeeze(-1)
    value = denoiser.denoise(x, noise if isinstance(t, Tensor) and t.ndim else t)
    if value.shape != target.shape:
        raise reject("denoiser", denoiser, f"a denoiser whose values have the shape of the points, {tuple(target.shape)}")
    root = (1 / noise.sqrt()).unsqueeze(-1) * (1 + noise / variance).sqrt().unsqueeze(-1)
    loss = (root * (value.double() - target.double())).square().sum(-1)
    return loss.to(torch.promote_types(value.dtype, target.dtype))
