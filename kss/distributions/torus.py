r"""The uniform law on a flat torus: a product of circles, flat inside and curved in R^{2k}.

`X_0 = (X^1, ..., X^k)` with `X^i` uniform on the circle of radius `R_i` in the plane of the coordinates (2i, 2i + 1). The noise is
independent in the planes, so the posterior is the product of the circles' posteriors (see `kss.distributions.sphere`):

    m_t(x) = (m^1_t(x^1), ..., m^k_t(x^k)),    log p_t(x) = sum_i log p^i_t(x^i),    C_t(x) = diag(C^1_t(x^1), ..., C^k_t(x^k)).

Its mean curvature is `|H|^2 = sum_i 1/R_i^2`: no closed submanifold of R^d has `H = 0`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_query, as_tensor, reject
from kss.distributions.base import Posterior
from kss.distributions.manifold import Manifold, as_location, identity
from kss.distributions.sphere import Polar, direction, polar


class FlatTorus(Manifold):
    """The uniform law on the product of k circles, `radius` a number or one for each of them; d = 2 k.

    >>> FlatTorus(2, radius=[1.0, 2.0]).mean_curvature([3.0, 0.0, 0.0, 1.0])
    tensor([-1.0000, -0.0000, -0.0000, -0.5000], dtype=torch.float64)
    """

    def __init__(self, k: int, radius: ArrayLike = 1.0) -> None:
        self.intrinsic_dim = as_count("k", k)
        self.dim = 2 * self.intrinsic_dim
        radii = as_tensor("radius", radius).detach().double()
        if radii.shape not in ((), (k,)) or not bool((radii > 0).all()):
            raise reject("radius", radius, f"a number > 0, or {k} of them")
        self.radii = radii.expand(self.intrinsic_dim).clone()
        self._frame = torch.zeros(self.dim, dtype=torch.float64, device=radii.device)

    def __repr__(self) -> str:
        return f"FlatTorus({self.intrinsic_dim}, {self.radii.tolist()})"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n d"]:
        n, generator = as_count("n", n), as_generator(generator)
        uniform = torch.rand(n, self.intrinsic_dim, dtype=torch.float64, generator=generator, device=generator.device)
        angle = 2 * math.pi * uniform.to(self.radii.device)
        return (self.radii.unsqueeze(-1) * torch.stack((angle.cos(), angle.sin()), -1)).flatten(-2)

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self._frame)
        circles = self._circles(query.x, query.t)
        return Posterior(
            mean=circles.mean.flatten(-2),
            displacement=circles.displacement.flatten(-2),
            log_evidence=circles.log_density.sum(-1),
            covariance=lambda: _block_diagonal(circles.covariance()),
            dtype=query.dtype,
        )

    def score_jacobian(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """The circles' Jacobians on the diagonal: nothing cancels."""
        query = as_query(x, t, like=self._frame)
        return _block_diagonal(self._circles(query.x, query.t).score_jacobian()).to(query.dtype)

    def bounds(self) -> Float[Tensor, "2 d"]:
        reach = self.radii.repeat_interleave(2)
        return torch.stack((-reach, reach))

    @property
    def volume(self) -> float:
        """`prod_i 2 pi R_i`."""
        return math.prod((2 * math.pi * self.radii).tolist())

    def project(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """Each circle's nearest point; a point at the center of one of them raises `ValueError`."""
        query = as_location(x, self._frame)
        return (self.radii.unsqueeze(-1) * direction(self._planes(query.x))).flatten(-2).to(query.dtype)

    def tangent_projector(self, x: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """The circles' projectors on the diagonal."""
        query = as_location(x, self._frame)
        u = direction(self._planes(query.x))
        return _block_diagonal(identity(u) - u.unsqueeze(-1) * u.unsqueeze(-2)).to(query.dtype)

    def mean_curvature(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`-(1/R_i) x^i/|x^i|` in every plane."""
        query = as_location(x, self._frame)
        return (-direction(self._planes(query.x)) / self.radii.unsqueeze(-1)).flatten(-2).to(query.dtype)

    def manifold_density(self, x: ArrayLike) -> Float[Tensor, "*batch"]:
        """`1/volume`, everywhere."""
        query = as_location(x, self._frame)
        direction(self._planes(query.x))  # refuses the centers, as the others do
        return torch.full_like(query.x[..., 0], 1 / self.volume, dtype=query.dtype)

    def _planes(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch k 2"]:
        return x.unflatten(-1, (self.intrinsic_dim, 2))

    def _circles(self, x: Float[Tensor, "*batch d"], t: Float[Tensor, "*batch 1"]) -> Polar:
        planes = self._planes(x)
        return polar(planes, t.expand(planes.shape[:-1]), self.radii)


def _block_diagonal(blocks: Float[Tensor, "*batch k 2 2"]) -> Float[Tensor, "*batch d d"]:
    k = blocks.shape[-3]
    on_diagonal = torch.eye(k, dtype=torch.bool, device=blocks.device)[:, None, :, None]
    # Selected, not multiplied: an entry may be infinite.
    return torch.where(on_diagonal, blocks.unsqueeze(-2), 0.0).flatten(-2).flatten(-3, -2)
