r"""What mollification shares with a time shift, and what it does not: smoothing scores against waiting.

Waiting for a time h carries `s_t` to `s_{t+h}`; smoothing with a Gaussian of variance h carries it to `K_h * s_t`. Both start along

    d s_{t+h} / dh     = (1/2) Lap s + (grad s) s        diffusion and convection: Burgers' equation
    d (K_h * s_t) / dh = (1/2) Lap s                     diffusion alone

so they part at first order, by the convection `(grad s) s = grad |s|^2 / 2` (and their potentials by `|s|^2 / 2`, see
`mollification.jensen_gap`). Convection can be undone by asking at another point, where it carries the value:

    s_{t+h}(x - h s_t(x))     = K_h * s_t(x) + O(h^2)    explicit
    s_{t+h}(x - h sigma(x))   = sigma(x) + O(h^2)        implicit, sigma = K_h * s_t

The second is one step of operator splitting: diffuse for a time h, then carry `sigma` along the straight characteristics of
Burgers' equation without viscosity. Formulas between derivatives use arithmetic only and take numbers, tensors or symbolic expressions.
"""

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kss._validation import ArrayLike, as_points, as_positive, as_query, as_tensor, reject
from kss.scores.protocol import Score, score_function


def first_order_gap(convection: Any, h: Any) -> Any:
    """`s_{t+h} - K_h * s_t` to first order in h; `convection` is `(grad s_t) s_t`."""
    return h * convection


def compensating_point(x: Any, score: Any, h: Any) -> Any:
    """`x - h s`: where to ask at the later time t + h for the smoothed score at x."""
    return x - h * score


def explicit_gap(stretching: Any, contraction: Any, h: Any) -> Any:
    """`K_h * s_t(x) - s_{t+h}(x - h s_t(x))` to second order in h.

    `stretching` is `(grad s) Lap s` and `contraction` is `sum_jk (d_j s_k)(d_j d_k s)`; on the line both are `s' s''`.
    """
    return -(h**2) * (stretching + contraction) / 2


def implicit_gap(contraction: Any, h: Any) -> Any:
    """`sigma(x) - s_{t+h}(x - h sigma(x))` with `sigma = K_h * s_t`, to second order in h; `contraction` as in `explicit_gap`."""
    return -(h**2) * contraction / 2


def moved_score(base: Score, x: ArrayLike, t: float, h: float, along: Score | None = None) -> Float[Tensor, "*batch d"]:
    """`s_{t+h}(x - h v)` with `v = along(x, t)`: the score `s_t` itself if omitted; `K_h * s_t` for the implicit version.

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0], 1.0)
    >>> moved_score(law, [[3.0]], t=0.5, h=0.5), law.score([[3.0]], t=0.5)  # a Gaussian is not changed by smoothing
    (tensor([[-2.]], dtype=torch.float64), tensor([[-2.]], dtype=torch.float64))
    """
    points, shift = as_tensor("x", x), as_tensor("h", h)
    as_query(points, t, like=points)  # says what is wrong with x or t
    if shift.ndim > 0 or float(shift) < 0:
        raise reject("h", h, "a number >= 0")
    t, h = float(t), float(shift)
    now = score_function(base if along is None else along)
    return score_function(base)(compensating_point(points, now(points, t), h), t + h)


def explicit_gap_on_manifold(mean_curvature: Any, t: Any, h: Any) -> Any:
    """`K_h * s_t(x) - s_{t+h}(x - h s_t(x))` for x on a curved manifold and t + h small, whatever h/t: `(H/2) h^2/(t (t + h))`.

    There `K_h * s_t = (1 + h/t) H/2` and the other is `(1 + h/(t + h)) H/2`, with H the mean-curvature vector.
    """
    return mean_curvature / 2 * h**2 / (t * (t + h))


def linear_noise_mode(points: ArrayLike, wave_vector: ArrayLike, t: float) -> Complex[Tensor, ""]:
    r"""A Fourier mode of the linearized noise `(p_t^N - p_t)/p_t`, for the uniform law on a periodic box and data `points` (N, k).

    `(1/vol) int (p_t^N/p_t - 1) e^{-i xi.x} dx = (1/N) sum_i e^{-i xi.x_i} e^{-|xi|^2 t/2}`; `wave_vector` xi (k,), not 0, has the
    entries `2 pi n_j/L_j`.
    """
    data, xi = as_points("points", points).double(), as_tensor("wave_vector", wave_vector).double()
    if xi.shape != data.shape[1:]:
        raise reject("wave_vector", wave_vector, f"a vector of length {data.shape[1]}")
    phase = data @ xi
    damping = torch.exp(-(xi**2).sum() * as_positive("t", t) / 2)
    return damping * torch.complex(phase.cos().mean(), -phase.sin().mean())


def copy_variance(t: Any, h: Any, t_max: Any) -> Any:
    """`v = t + h - h ((t + h)/(t_max + h))^2`: the noise about a lone data point that the reverse SDE of `s_{t+h}` ends with.

    Per coordinate, at the noise variance t, started from the point plus noise of variance `t_max`. It solves `dv/du = 2 v/(u + h) - 1`;
    for h = 0 it is t. Derived here.

    >>> copy_variance(1.0, 1.0, 3.0)
    1.75
    """
    return t + h - h * ((t + h) / (t_max + h)) ** 2
