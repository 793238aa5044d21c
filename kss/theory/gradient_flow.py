r"""Reverse diffusion as a gradient flow that is pushed, and what it generates when the score has been smoothed.

Driven by the score of a density `pi` (at reversed time tau: the LED-KDE, or `p_t` itself) the reverse SDE
`dY = grad log pi dtau + dB` moves a density q by

    d_tau q = -div(q v),        v = -(1/2) grad log(q/pi) + (1/2) grad log pi.

The first part is steepest descent of `(1/2) KL(q || pi)` in the Wasserstein metric (Jordan, Kinderlehrer and Otto, SIAM J. Math. Anal. 29
(1998), 1), the second pushes q uphill on `log pi`, towards the `pi` of the next moment.

Let now pi be the LED-KDE of a law and a kernel K that is the same at all t: `grad log pi = s~ = K * s`. Smoothing does not commute with the
square in `d_t log p = (1/2)(Lap log p + |s|^2)`, and what is left over is the **defect**

    r = (1/2)(K * |s|^2 - |K * s|^2) = (1/2) Var_V s_t(x + V) >= 0,          V ~ K,

with mean `<r> = E_pi r`. It is what keeps the law q of the reverse SDE from being the LED-KDE:

    d_t log pi      = (1/2)(Lap log pi + |grad log pi|^2) + r - <r>
    d_tau KL(q||pi) = -(1/2) E_q |grad log(q/pi)|^2 + E_q r - E_pi r
    d_tau (q/pi)    = (1/2) Lap (q/pi) + (r - <r>) (q/pi)

The functions without an x use arithmetic only: they take numbers, tensors or symbolic expressions alike.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.distributions.base import Distribution
from kss.kernels import GaussianKernel
from kss.scores.mollified import Mollified
from kss.scores.protocol import score_function


def descent_velocity(score_of_q: Any, score_of_pi: Any) -> Any:
    """`-(1/2) grad log(q/pi)`: minus the Wasserstein gradient of `(1/2) KL(q || pi)`, zero at q = pi."""
    return (score_of_pi - score_of_q) / 2


def push_velocity(score_of_pi: Any) -> Any:
    """`(1/2) grad log pi`: the probability flow of `pi`, all that is left at q = pi."""
    return score_of_pi / 2


def frozen_log_density(log_pi: Any) -> Any:
    """`2 log pi`: up to a constant, the logarithm of the law at rest under `dY = grad log pi dtau + dB`, if pi does not change."""
    return 2 * log_pi


def decay(concavity: Any, tau: Any) -> Any:
    """`exp(-kappa tau)`: bound on `KL(q_tau || pi)/KL(q_0 || pi)` under the descent alone, for a fixed pi with `-Hess log pi >= kappa`."""
    return np.exp(-concavity * tau)


def led_log_rate(laplacian_of_log: Any, score_square: Any, excess: Any) -> Any:
    """`d_t log pi` of the LED-KDE; `excess` is `r - <r>`, for the unnormalized logarithm `K * log p` the defect r itself."""
    return (laplacian_of_log + score_square) / 2 + excess


def kl_rate(fisher: Any, defect_under_q: Any, defect_under_pi: Any) -> Any:
    """`d_tau KL(q || pi)`, with `fisher = E_q |grad log(q/pi)|^2` and the defect's means under q and under the LED-KDE pi."""
    return -fisher / 2 + defect_under_q - defect_under_pi


def ratio_rate(laplacian_of_ratio: Any, excess: Any, ratio: Any) -> Any:
    """`d_tau (q/pi)`: heat, and growth at the rate `r - <r>`; no drift is left."""
    return laplacian_of_ratio / 2 + excess * ratio


def static_over_path(h: Any, t: Any) -> Any:
    """`2h/t`: half the variance of the LED-KDE's logarithm over the path KL, for N data points on a line, `t << (N p)^-2 << h`."""
    return 2 * h / t


def defect(mollified: Mollified, x: ArrayLike, t: float) -> Float[Tensor, " n"]:
    """`r = (1/2) Var_V s_t(x + V)` at points x (n, d): half the variance of the score over the kernel of its smoothed version.

    Good to the accuracy of `mollified`, relative to the mean square of the score. Raises `ValueError` for t <= 0.
    """
    points, t = as_tensor("x", x).double(), as_positive("t", t)
    if points.ndim != 2:
        raise reject("x", x, "points of shape (n, d)")
    base = score_function(mollified.base)

    def square(y: Tensor, u: Any) -> Tensor:
        """`|s|^2` as the first component of a field: fields are what is smoothed."""
        return torch.nn.functional.pad((base(y, u) ** 2).sum(-1, keepdim=True), (0, y.shape[-1] - 1))

    averaged = Mollified(
        square, mollified.kernel, accuracy=mollified.accuracy, most_nodes=mollified.most_nodes, scrambling=mollified.scrambling
    )
    return ((averaged.score(points, t)[:, 0] - (mollified.score(points, t) ** 2).sum(-1)) / 2).clamp_min(0.0)


def leading_log_ratio(law: Distribution, x: ArrayLike, t: float, t_max: float, h: float, *, nodes: int = 24) -> Float[Tensor, " n"]:
    r"""`(h/2) int_t^t_max G_{u-t} * |grad s_u|^2 du` at points x (n, d), the Jacobian in the Frobenius norm.

    To first order in h this is, up to a constant, `log(q/pi)` at t for the law q that reverse diffusion with `G_h * s`, from the LED-KDE at
    `t_max`, has there: the defect is `(h/2)|grad s|^2`, and the ratio collects it along Brownian paths. Gauss-Legendre in `log u` with
    `nodes` nodes; the convolutions are accurate to 1e-7 for d <= 2. Raises `ValueError` unless 0 < t < t_max, h > 0.
    """
    points, t, t_max, h = as_tensor("x", x).double(), as_positive("t", t), as_positive("t_max", t_max), as_positive("h", h)
    if t >= t_max:
        raise reject("t", t, f"a noise variance below t_max = {t_max:g}")

    def steepness(y: Tensor, u: Any) -> Tensor:
        square = (law.score_jacobian(y, u) ** 2).sum((-2, -1))
        return torch.nn.functional.pad(square.unsqueeze(-1), (0, y.shape[-1] - 1))

    z, weights = np.polynomial.legendre.leggauss(as_count("nodes", nodes))
    half = np.log(t_max / t) / 2
    total = torch.zeros(len(points), dtype=torch.float64)
    for u, weight in zip(t * np.exp(half * (z + 1)), weights * half, strict=True):
        total += float(weight * u) * Mollified(steepness, GaussianKernel(float(u - t))).score(points, float(u))[:, 0]
    return h / 2 * total
