r"""What averaging a score over a small kernel does: the first terms, in general and near a manifold.

For a centered kernel of variance h per coordinate and `s = grad log p_t`,

    K * s - s                          = (h/2) Lap s + O(h^2)
    log (K * p_t) - K * log p_t        = (h/2) |s|^2 + O(h^2)          gap in Jensen's inequality, never negative

and next to a k-dimensional manifold with mean-curvature vector H, where `s` is mostly `-(distance)/t` along the normal, the first
line becomes `(h/2t) H`: a pull towards the centers of curvature. These are equations between a few numbers, so the functions
below use arithmetic only: they take numbers, tensors or symbolic expressions alike.
"""

from typing import Any


def leading_bias(laplacian_of_score: Any, h: Any) -> Any:
    """`(h/2) Lap s`: what smoothing with variance h adds to a score, to first order; `Lap s = grad Lap log p_t`."""
    return h * laplacian_of_score / 2


def jensen_gap(score_square: Any, h: Any) -> Any:
    """`(h/2) |s|^2`: by how much `log p_{t+h}` exceeds `G_h * log p_t`, to first order."""
    return h * score_square / 2


def normal_bias(mean_curvature: Any, h: Any, t: Any) -> Any:
    """`(h/2t) H`: the bias at a point of the manifold, for t and h far below the squared reach; H is the mean-curvature vector."""
    return h * mean_curvature / (2 * t)


def tangential_bias(curvature: Any, slope: Any, offset: Any, h: Any, t: Any) -> Any:
    """`(h n/2t) dkappa/ds + (h^2/4t) kappa dkappa/ds`: the bias along a plane curve, at the distance n ("offset") on its inner side.

    `curvature` is kappa, `slope` its derivative in arc length. Beside it stands a term O(h) that t does not enter.
    """
    return h * offset * slope / (2 * t) + h**2 * curvature * slope / (4 * t)


def ridge_offset(k: Any, radius: Any, t: Any, h: Any) -> Any:
    """`-k (t + h)/(2R)`: where, from the k-sphere of radius R outwards, the smoothed score's radial component vanishes; h = 0 for `p_t`."""
    return -k * (t + h) / (2 * radius)


def led_normal_variance(t: Any, h: Any) -> Any:
    """`t`: the LED-KDE's variance across a linear manifold; the smoothing kernel's variance h does not enter."""
    return t + 0 * h


def kde_normal_variance(t: Any, h: Any) -> Any:
    """`t + h`: the variance across a linear manifold of a kernel density estimate with both kernels."""
    return t + h
