r"""A law carried into a space of more dimensions: data on a flat subspace.

For a law `q` on R^d and a matrix `B` (D, d) with orthonormal columns, `X_0 = B Y` with `Y ~ q` lives on a d-dimensional subspace of
R^D. With `N` an orthonormal basis of its complement, `y = B^T x` and `n = N^T x`, the noise in the complement is independent of
everything, and

    log p_t(x) = log q_t(y) - |n|^2/(2t) - ((D - d)/2) log(2 pi t),
    m_t(x) - x = B (m^q_t(y) - y) - N n,      m_t(x) = B m^q_t(y),      C_t(x) = B C^q_t(y) B^T,
    grad s_t(x) = B grad s^q_t(y) B^T - (1/t) N N^T.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, Seed, as_count, as_query, as_tensor, reject
from kss.distributions.base import Distribution, Posterior
from kss.distributions.manifold import Manifold, as_location

LARGEST = 1e300
"""Stands for an infinite entry in a rotated matrix, where 0 times infinity would be NaN."""


class Embedded(Manifold):
    """`distribution`, a law on R^d, carried into R^D, D = `ambient_dim` >= d; the intrinsic dimension remains.

    By the first d coordinate axes, or by the first d columns of `rotation`, an orthogonal matrix (D, D) or orthonormal columns (D, d).
    The geometry (`project`, `tangent_projector`, ...) is that of the carried law, and raises `ValueError` if it has none.

    >>> from kss.distributions import Circle
    >>> Embedded(Circle(1.0), ambient_dim=3).score([1.0, 0.0, 0.5], t=0.01)[2]
    tensor(-50., dtype=torch.float64)
    """

    def __init__(self, distribution: Distribution, ambient_dim: int, rotation: ArrayLike | None = None) -> None:
        if not isinstance(distribution, Distribution):
            raise reject("distribution", distribution, "a kss.distributions.Distribution")
        self.distribution, self.intrinsic_dim = distribution, distribution.intrinsic_dim
        self.dim = as_count("ambient_dim", ambient_dim, minimum=distribution.dim)
        self.rotation: Tensor | None = None
        frame = distribution.sample(1, 0)[0].new_zeros(self.dim)  # of the law's dtype, on its device
        self._axes: Tensor | None = None
        if rotation is not None:
            self.rotation = given = as_tensor("rotation", rotation, like=frame).detach()
            self._axes = _complete(given, distribution.dim, self.dim).to(frame.device)
            frame = frame.to(torch.promote_types(frame.dtype, given.dtype))
        self._frame = frame

    def __repr__(self) -> str:
        rotation = "" if self.rotation is None else f", rotation=<{tuple(self.rotation.shape)}>"
        return f"Embedded({self.distribution!r}, {self.dim}{rotation})"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n D"]:
        drawn = self.distribution.sample(n, generator)
        return self._lift(drawn.double()).to(self._frame.dtype)

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self._frame)
        y, normal = self._split(query)
        inner = self.distribution.posterior(y, query.t.squeeze(-1)).unrounded()
        codim, t = self.dim - self.distribution.dim, query.t.squeeze(-1)
        form = ((normal / (math.sqrt(2) * query.t.sqrt())) ** 2).sum(-1)
        return Posterior(
            mean=self._lift(inner.mean),
            displacement=self._lift(inner.displacement, -normal),
            log_evidence=inner.log_evidence - form - codim / 2 * (math.log(2 * math.pi) + t.log()),
            covariance=lambda: self._lift_matrix(inner.covariance(), torch.zeros_like(t)),
            covariance_trace=lambda: inner.covariance_trace,
            dtype=query.dtype,
        )

    def score_jacobian(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch D D"]:
        """The carried law's Jacobian, and `-1/t` in the normal directions."""
        query = as_query(x, t, like=self._frame)
        t = query.t.squeeze(-1)
        inner = self.distribution.score_jacobian(self._split(query)[0], t)
        return self._lift_matrix(inner, -1 / t).to(query.dtype)

    def bounds(self) -> Float[Tensor, "2 D"]:
        low, high = self.distribution.bounds().double()
        center, half = self._lift((low + high) / 2), (high - low) / 2
        reach = self._lift(half) if self._axes is None else self._axes[:, : len(half)].abs() @ half
        return torch.stack((center - reach, center + reach)).to(self._frame.dtype)

    @property
    def volume(self) -> float:
        """That of the carried law's manifold."""
        return self._carried().volume

    def project(self, x: ArrayLike) -> Float[Tensor, "*batch D"]:
        query = as_location(x, self._frame)
        return self._lift(self._carried().project(self._split(query)[0])).to(query.dtype)

    def tangent_projector(self, x: ArrayLike) -> Float[Tensor, "*batch D D"]:
        query = as_location(x, self._frame)
        inner = self._carried().tangent_projector(self._split(query)[0])
        return self._lift_matrix(inner, torch.zeros_like(query.x[..., 0])).to(query.dtype)

    def mean_curvature(self, x: ArrayLike) -> Float[Tensor, "*batch D"]:
        query = as_location(x, self._frame)
        return self._lift(self._carried().mean_curvature(self._split(query)[0])).to(query.dtype)

    def manifold_density(self, x: ArrayLike) -> Float[Tensor, "*batch"]:
        query = as_location(x, self._frame)
        return self._carried().manifold_density(self._split(query)[0]).to(query.dtype)

    def _carried(self) -> Manifold:
        if not isinstance(self.distribution, Manifold):
            raise reject("distribution", self.distribution, "a law with a density on a manifold, for its geometry")
        return self.distribution

    def _split(self, query: Query) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch codim"]]:
        """`B^T x` and `N^T x`."""
        turned = query.x if self._axes is None else query.x @ self._axes
        d = self.distribution.dim
        return turned[..., :d], turned[..., d:]

    def _lift(self, y: Float[Tensor, "*batch d"], normal: Float[Tensor, "*batch codim"] | None = None) -> Float[Tensor, "*batch D"]:
        """`B y + N n`."""
        if normal is None:
            normal = y.new_zeros(*y.shape[:-1], self.dim - self.distribution.dim)
        turned = torch.cat((y, normal), -1)
        return turned if self._axes is None else turned @ self._axes.mT

    def _lift_matrix(self, inner: Float[Tensor, "*batch d d"], normal: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch D D"]:
        """`B inner B^T + normal N N^T`."""
        d = self.distribution.dim
        corner = normal[..., None, None] * torch.eye(self.dim - d, dtype=normal.dtype, device=normal.device)
        upper = torch.cat((inner, inner.new_zeros(*inner.shape[:-1], self.dim - d)), -1)
        lower = torch.cat((corner.new_zeros(*corner.shape[:-1], d), corner), -1)
        turned = torch.cat((upper, lower), -2)
        return turned if self._axes is None else self._axes @ turned.clamp(-LARGEST, LARGEST) @ self._axes.mT


def _complete(given: Tensor, d: int, ambient: int) -> Float[Tensor, "D D"]:
    """An orthogonal matrix in float64 whose first columns are those given."""
    if given.shape not in ((ambient, ambient), (ambient, d)):
        raise reject("rotation", given, f"shape ({ambient}, {ambient}) or ({ambient}, {d})")
    axes = given.double()
    eye = torch.eye(axes.shape[1], dtype=axes.dtype, device=axes.device)
    error = float((axes.mT @ axes - eye).abs().max())
    if error > 16 * ambient * torch.finfo(given.dtype).eps:
        raise reject("rotation", given, f"orthonormal columns (B^T B differs from I by {error:.3g})")
    for _ in range(2):  # towards the nearest orthogonal matrix; leaves an exact one as it is
        axes = axes @ (3 * eye - axes.mT @ axes) / 2
    if axes.shape[1] == ambient:
        return axes
    return torch.cat((axes, torch.linalg.qr(axes, mode="complete").Q[:, axes.shape[1] :]), -1)
