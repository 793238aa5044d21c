r"""Smoothing over space against smoothing over noise levels.

On the noise of an empirical score, in the CLT regime and along a flat manifold, a delay tau acts as a Gaussian kernel of variance tau:
averages `E s_{t + tau}(x + V)`, `V ~ N(0, S)`, have the noise of the scale mixture

    sum_ij w_i w_j C(t I + S + (tau_i + tau_j)/2 I),     C(M) = (4 pi)^{-k/2} det(M)^{-1/2} M^{-1}/(2 N p_M).

Across the manifold they differ. Space keeps the stiffness 1/t; where the manifold is flat it costs nothing. A delay makes it
`1/(t + tau)`: the law that is sampled leaks, with the variance t + tau for t in each of the d - k normal directions, whether by
Langevin dynamics at t or by a reverse diffusion from far away. Both move the ridge of a curved manifold inwards by the same amount.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_positive, as_tensor, as_variances, reject
from kss.theory.bias_variance import small_time_noise

Number = float | int


def space_time_noise(
    t: Number, tangential: ArrayLike, delays: ArrayLike, weights: ArrayLike, N: Number, density: Number
) -> Float[Tensor, "k k"]:
    """Covariance of the noise along a manifold for a kernel with the tangential block S and delays tau_j >= 0 with weights w_j.

    `weights` are >= 0 and sum to 1. One delay 0: `small_time_noise`. Derived here.

    >>> space_time_noise(0.1, [[0.2]], [0.3], [1.0], N=100, density=1.0) / space_time_noise(0.1, [[0.5]], [0.0], [1.0], N=100, density=1.0)
    tensor([[1.]], dtype=torch.float64)
    """
    block, (tau, w) = as_tensor("tangential", tangential).double(), _rule(delays, weights)
    total = torch.zeros_like(block)
    for i in range(len(tau)):
        for j in range(i + 1):
            matrix = block + (tau[i] + tau[j]) / 2 * torch.eye(len(block), dtype=torch.float64)
            total = total + (1 + (j < i)) * w[i] * w[j] * small_time_noise(t, matrix, N, density)
    return total


def leak(codimension: Any, t: Number, delay: Number, direction: str = "p to q") -> Any:
    """Divergence between the normal parts `p = N(0, t)` and `q = N(0, t + tau)` in `codimension` d - k directions, in nats.

    "p to q": `KL(p || q) = (d-k)/2 (t/(t + tau) - 1 - log(t/(t + tau)))`, which is also the path divergence
    `(1/2) int_t^oo E_{p_u}|s_u - s_{u+tau}|^2 du`; "q to p": `KL(q || p) = (d-k)/2 (tau/t - log(1 + tau/t))`. Derived here.
    """
    tau, t = float(as_tensor("delay", delay)), as_positive("t", float(t))
    if tau < 0:
        raise reject("delay", delay, "a variance >= 0")
    log = math.log1p(tau / t) if tau < 1e300 * t else math.log(tau) - math.log(t)
    return codimension / 2 * (log - tau / (t + tau) if _forward(direction) else tau / t - log)


def ridge_cost(k: Any, radius: Any, t: Any, h: Any, delay: Any, direction: str = "p to q") -> Any:
    """`(k (h - tau)/2R)^2/(2 v)`: what the shift of the radius of a k-sphere costs, with `v = t + tau` (p to q), t (q to p).

    Space and delay both shift the ridge of the density inwards, by k/2R times their variance. But the delayed law is wider as well, so that
    the volume r^k moves its mean radius out by twice as much: `R + k (t + tau - h)/2R`. Space and delay of the same variance cancel.
    With no delay it is `curved_kernels.curvature_divergence`. Leading order for t, h, tau << R^2. Arithmetic
    only. Derived here.
    """
    width = t + delay if _forward(direction) else t
    return (k * (h - delay) / (2 * radius)) ** 2 / (2 * width)


def space_cost(k: Any, radius: Any, t: Number, h: Number) -> Any:
    """`k^2 h^2/(8 R^2 t)`, in both directions: smoothing over space on a k-sphere, leading order for t, h << R^2."""
    return ridge_cost(k, radius, t, h, 0.0)


def time_cost(k: Any, radius: Any, t: Number, delay: Number, codimension: Any, direction: str = "p to q") -> Any:
    """`leak + ridge_cost`: a delay on a k-sphere in R^d, `codimension` d - k; leading order for t, tau << R^2."""
    return leak(codimension, t, delay, direction) + ridge_cost(k, radius, t, 0.0, delay, direction)


def space_is_cheaper(k: Any, radius: Any, t: Number, h: Number, codimension: Any, direction: str = "p to q") -> bool:
    """Is smoothing over space by h cheaper than a delay of h, which removes as much noise? `space_cost < time_cost`.

    "q to p": always. "p to q": if `k^2 h^3/(8 R^2 t (t + h)) < (d-k)/2 (log(1 + h/t) - h/(t + h))`. On a k-sphere, t, h << R^2.

    >>> space_is_cheaper(1, 1.0, t=0.01, h=0.005, codimension=1), space_is_cheaper(1, 1.0, t=1e-4, h=0.1, codimension=1)
    (True, False)
    """
    return bool(space_cost(k, radius, t, h) < time_cost(k, radius, t, h, codimension, direction))


def delayed_variance(t_max: Any, t: Any, delay: Any) -> Any:
    """`t + tau - tau ((t + tau)/(t_max + tau))^2`: variance across a flat manifold that the reverse SDE generates with the delayed score.

    Started from the right variance `t_max`. Arithmetic only. Derived here.
    """
    return t + delay - delay * ((t + delay) / (t_max + delay)) ** 2


def denoiser_variance(variance: Number, t: Number, delays: ArrayLike, weights: ArrayLike) -> float:
    """`t / sum_j w_j (t + tau_j)/(v + t + tau_j)`: variance sampled at t with `(E m_{t+tau}(x) - x)/t`, for a normal law of variance v.

    Right across a flat manifold (v = 0: t). Along it (the right one: v + t) too small; for one delay and `v >> t + tau` it is the
    right one divided by `(t + tau)/t`, a temperature. Langevin dynamics at t. Derived here.
    """
    tau, w = _rule(delays, weights)
    spread, t = float(as_variances([variance])[0]), as_positive("t", float(t))
    slope = 1 - (w * spread / (spread + t + tau)).sum()
    return t / float(slope)


def _rule(delays: ArrayLike, weights: ArrayLike) -> tuple[Float[Tensor, " j"], Float[Tensor, " j"]]:
    tau, w = as_tensor("delays", delays).double(), as_tensor("weights", weights).double()
    if tau.ndim != 1 or len(tau) == 0 or bool((tau < 0).any()):
        raise reject("delays", delays, "variances >= 0, at least one")
    if w.shape != tau.shape or bool((w < 0).any()) or abs(float(w.sum()) - 1) > 1e-9:
        raise reject("weights", weights, "numbers >= 0 that sum to 1, one for each delay")
    return tau, w


def _forward(direction: str) -> bool:
    if direction not in ("p to q", "q to p"):
        raise reject("direction", direction, "'p to q' or 'q to p'")
    return direction == "p to q"
