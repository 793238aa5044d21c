r"""Smoothing near a sphere: how far a flat kernel moves the density, and a kernel that follows the sphere instead.

For the uniform law on the k-sphere of radius R, `p_t` has its ridge at `R - k t/2R` and, to leading order, the width `sqrt t`. A Gaussian
kernel of variance h moves the ridge by `-k h/2R` and keeps the width, so the smoothed density q (the LED-KDE) and `p_t` are two nearly
Gaussian profiles, displaced:

    D_q(p_t || q_t) = q k^2 h^2/(8 R^2 t)      Renyi divergence of order q; q = 1 is Kullback-Leibler.

A kernel of rotations Q about the center averages `log p_t(Q x)`; its gradient turns each score back:

    s~_t(x) = E[Q^T s_t(Q x)].

It moves nothing across the spheres `|x| = r`. (Kernels adapted to a manifold, and the bound in terms of K/(reach x t): Farghly et al., as
reported; the formulas here are derived here.)
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_positive, as_tensor, reject
from kss.distributions.base import Distribution
from kss.scores.protocol import Score, score_function


def ridge_shift(k: Any, radius: Any, h: Any) -> Any:
    """`-k h/(2R)`: by how much a Gaussian kernel of variance h moves the density across the k-sphere of radius R. Arithmetic only."""
    return -k * h / (2 * radius)


def marginal_mode_offset(k: Any, radius: Any, t: Any, h: Any) -> Any:
    """`k (t - h)/(2R)`: where, from R outwards, the density of the *radius*, `r^k q_t(r)`, of the LED-KDE has its maximum; h = 0 for `p_t`.

    The ridge of the density itself is at `-k (t + h)/(2R)`, see `mollification.ridge_offset`: the two differ by `k t/R`. Arithmetic only.
    """
    return k * (t - h) / (2 * radius)


def curvature_divergence(k: Any, radius: Any, t: Any, h: Any, order: Any = 1) -> Any:
    """`q k^2 h^2/(8 R^2 t)`: the Renyi divergence of order q between `p_t` and the LED-KDE on the k-sphere, leading order. Arithmetic only.

    Order 1 is the Kullback-Leibler divergence. The dimension of the surrounding space does not enter.
    """
    return order * k**2 * h**2 / (8 * radius**2 * t)


def curvature_divergence_correction(k: Any, radius: Any, t: Any, h: Any, order: Any = 1) -> Any:
    """`[(10 - 9k/2) t + (3 + k/2 - k q) h]/R^2`: the next order of `curvature_divergence`, relative to it, for t and h of the same
    order.
    """
    return ((20 - 9 * k) * t + (6 + k - 2 * k * order) * h) / (2 * radius**2)


def reported_bound(codimension: int, reach: float, t: float, h: float) -> float:
    """`K/(reach t)` with `K = sqrt((d - k) h)`: the order of Farghly's bound as it is reported to us; constants and conditions unknown.

    The unit is one over an area, so a constant is missing; that t is the variance and not its root is a reading.
    """
    return math.sqrt(as_count("codimension", codimension) * as_positive("h", h)) / (as_positive("reach", reach) * as_positive("t", t))


def turned_score(base: Score, x: ArrayLike, t: float, rotations: ArrayLike, weights: ArrayLike | None = None) -> Float[Tensor, "n d"]:
    """`sum_j w_j Q_j^T s_t(Q_j x)` at `x` (n, d): the gradient of `turned_log_density`.

    `rotations` (J, d, d) are orthogonal matrices, about the origin; `weights` (J,) nonnegative, divided by their sum; equal if omitted.

    >>> from kss.distributions import Circle
    >>> x = [[0.9, 0.2]]
    >>> change = turned_score(Circle(), x, t=0.01, rotations=circle_kernel(0.04)[0]) - Circle().score(x, t=0.01)
    >>> bool(change.abs().max() < 1e-12)
    True
    """
    places, turns, shares = _turns(x, rotations, weights)
    turned = torch.einsum("jab,nb->nja", turns, places)
    values = score_function(base)(turned.flatten(0, 1), as_positive("t", t)).unflatten(0, turned.shape[:2])
    return torch.einsum("j,jab,nja->nb", shares, turns, values)


def turned_log_density(
    law: Distribution, x: ArrayLike, t: float, rotations: ArrayLike, weights: ArrayLike | None = None
) -> Float[Tensor, " n"]:
    """`sum_j w_j log p_t(Q_j x)` at `x` (n, d). Its mean over every sphere about the origin is that of `log p_t`."""
    if not isinstance(law, Distribution):
        raise reject("law", law, "a Distribution, which has a log-density")
    places, turns, shares = _turns(x, rotations, weights)
    turned = torch.einsum("jab,nb->nja", turns, places)
    return law.log_density(turned.flatten(0, 1), as_positive("t", t)).unflatten(0, turned.shape[:2]) @ shares


def circle_kernel(h: float, radius: float = 1.0, nodes: int = 65) -> tuple[Float[Tensor, "nodes 2 2"], Float[Tensor, " nodes"]]:
    """Rotations of the plane and weights: a normal angle of variance `h/R^2`, that is a variance h along the circle of radius R.

    A grid of `nodes` angles over six and a half standard deviations to each side.
    """
    h, radius, count = as_positive("h", h), as_positive("radius", radius), as_count("nodes", nodes)
    z = torch.linspace(-6.5, 6.5, count, dtype=torch.float64) if count > 1 else torch.zeros(1, dtype=torch.float64)
    angle = z * math.sqrt(h) / radius
    cos, sin = angle.cos(), angle.sin()
    turns = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    weights = torch.exp(-(z**2) / 2)
    return turns, weights / weights.sum()


def _turns(x: ArrayLike, rotations: ArrayLike, weights: ArrayLike | None) -> tuple[Tensor, Tensor, Tensor]:
    places = as_points("x", x)
    d = places.shape[1]
    turns = as_tensor("rotations", rotations, like=places)
    if turns.ndim != 3 or turns.shape[1:] != (d, d) or len(turns) == 0:
        raise reject("rotations", rotations, f"matrices of shape (J, {d}, {d})")
    dtype = torch.promote_types(places.dtype, turns.dtype)
    places, turns = places.to(dtype), turns.to(dtype)
    wrong = (turns @ turns.mT - torch.eye(d, dtype=dtype, device=turns.device)).abs().max()
    if bool(wrong > 64 * d * torch.finfo(dtype).eps):
        raise reject("rotations", rotations, "orthogonal matrices")
    shares = torch.ones_like(turns[:, 0, 0]) if weights is None else as_tensor("weights", weights, like=places).to(dtype)
    if shares.shape != (len(turns),) or bool((shares < 0).any()) or bool(shares.sum() == 0):
        raise reject("weights", weights, f"{len(turns)} numbers >= 0, not all 0")
    return places, turns, shares / shares.sum()
