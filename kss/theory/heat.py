r"""The heat flow of densities and what it makes of scores.

With noise variance t as time, `p_t = G_t * p_*` solves the heat equation, and `s = grad log p` a viscous Burgers equation:

    d_t p     = (1/2) Lap p
    d_t log p = (1/2) (Lap log p + |grad log p|^2)
    d_t s     = (1/2) Lap s + (grad s) s

These are equations between derivatives, so the functions below use arithmetic only: they take numbers, tensors or
symbolic expressions alike. `burgers_residual` evaluates the last one on any score, by automatic differentiation.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_positive, as_tensor
from kss.scores.protocol import Score, score_function


def score_from_mean(mean: Any, x: Any, t: Any) -> Any:
    """`s_t(x) = (m_t(x) - x)/t` (Tweedie)."""
    return (mean - x) / t


def jacobian_from_covariance(covariance: Any, t: Any, identity: Any) -> Any:
    """`grad s_t(x) = C_t(x)/t^2 - I/t` (second-order Tweedie); `identity` is I, or an entry of it."""
    return covariance / t**2 - identity / t


def hessian_bound(t: Any) -> Any:
    """`-1/t`: no eigenvalue of `Hess log p_t` lies below it."""
    return -1 / t


def density_rate(laplacian: Any) -> Any:
    """`d_t p = (1/2) Lap p`."""
    return laplacian / 2


def log_density_rate(laplacian_of_log: Any, score_square: Any) -> Any:
    """`d_t log p = (1/2) (Lap log p + |s|^2)`."""
    return (laplacian_of_log + score_square) / 2


def burgers_rate(laplacian_of_score: Any, convection: Any) -> Any:
    """`d_t s = (1/2) Lap s + (grad s) s`; `convection` is `(grad s) s`."""
    return laplacian_of_score / 2 + convection


def burgers_residual(score: Score, x: ArrayLike, t: float) -> Float[Tensor, "*batch d"]:
    r"""`d_t s - (1/2) Lap s - (grad s) s` at `x` (..., d): zero for the score of a diffused law, and for no other field in general.

    The derivatives come from automatic differentiation, so `score` must be differentiable twice in `x` and once in a
    tensor `t`; the result is exact up to rounding, which the factor `1/t^2` in the score's derivatives amplifies.
    """
    s: Callable[[Tensor, Any], Tensor] = score_function(score)
    points = as_tensor("x", x)
    flat = points.reshape(-1, points.shape[-1])
    time = torch.full(flat.shape[:1], as_positive("t", t), dtype=flat.dtype, device=flat.device)

    def derivative(f: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor) -> Tensor:
        return torch.func.jvp(f, (at,), (direction,))[1]

    value = s(flat, time)
    rate = derivative(lambda u: s(flat, u), time, torch.ones_like(time))
    convection = derivative(lambda y: s(y, time), flat, value)
    laplacian = torch.zeros_like(flat)
    for axis in torch.eye(flat.shape[-1], dtype=flat.dtype, device=flat.device):
        direction = axis.expand_as(flat)

        def slope(y: Tensor, direction: Tensor = direction) -> Tensor:
            return derivative(lambda z: s(z, time), y, direction)

        laplacian = laplacian + derivative(slope, flat, direction)
    return (rate - burgers_rate(laplacian, convection)).reshape(points.shape)
