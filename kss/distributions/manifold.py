r"""Laws on a submanifold `M` of R^d, and the geometry that small-time expansions need.

For a law with a density `p_M` with respect to the k-dimensional volume of `M`, the score's noise and its curvature bias depend, as
`t -> 0`, only on `p_M`, on the projector `P_x` on the tangent space and on the mean-curvature vector `H_x`, the trace of the second
fundamental form: it points to the inside of the bend, `|H| = 1/R` on a circle and `k/R` on a k-sphere.

All of them are functions on `M`. Here they take any point x of R^d and answer for the point of `M` nearest to it.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, as_query
from kss.distributions.base import Distribution


class Manifold(Distribution):
    """A law with a density on a k-dimensional submanifold `M` of R^d, k = `intrinsic_dim`.

    The geometry is answered at the point of `M` nearest to x, of shape (..., d). Where there is none, or more than one without a reason
    to prefer any, it raises `ValueError`.
    """

    @property
    @abstractmethod
    def volume(self) -> float:
        """The k-dimensional volume of `M`."""

    @abstractmethod
    def project(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """The point of `M` nearest to x, of shape (..., d)."""

    @abstractmethod
    def tangent_projector(self, x: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`P`, the orthogonal projector on the tangent space of `M` at the point nearest to x, of shape (..., d, d)."""

    @abstractmethod
    def mean_curvature(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`H`, the trace of the second fundamental form of `M` at the point nearest to x, of shape (..., d)."""

    @abstractmethod
    def manifold_density(self, x: ArrayLike) -> Float[Tensor, "*batch"]:
        """`p_M`, the density of the law with respect to volume, at the point nearest to x, of shape (...)."""


def as_location(x: ArrayLike, like: Tensor) -> Query:
    """Points x of shape (..., d), in float64, and the dtype the caller expects back."""
    return as_query(x, 1.0, like=like)


def identity(like: Float[Tensor, "*batch d"]) -> Float[Tensor, "d d"]:
    """The identity of the width, dtype and device of `like`."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
