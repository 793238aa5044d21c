r"""The uniform law on a k-sphere in R^{k+1}: curvature in any dimension.

For `X_0` uniform on the sphere of radius R, `r = |x|` and the concentration `kappa = r R / t`, the angle theta between `X_0` and x has
the density `exp(kappa cos theta) sin(theta)^{k-1}` up to a constant (von Mises-Fisher; von Mises for k = 1). With `c = cos theta` and
`A(kappa) = E c = I_{(k+1)/2}(kappa) / I_{(k-1)/2}(kappa)`, its mean resultant length,

    m_t(x) = R A(kappa) x/r,    log p_t(x) = -(d/2) log(2 pi t) - (r - R)^2/(2t) + log E_uniform exp(-kappa (1 - c)),

    C_t(x) = R^2 A'(kappa)  along x,   R^2 A(kappa)/kappa  across,      A' = Var c = 1 - k A/kappa - A^2,   A/kappa = E[1 - c^2]/k.

The combinations that cancel, `1 - A` and `A'`, are computed as moments of `1 - c`, never as differences.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, Seed, as_count, as_generator, as_positive, as_query, reject
from kss.distributions.base import Posterior
from kss.distributions.manifold import Manifold, as_location, identity

NODES = 64
"""Nodes of the quadrature over the angle."""
REACH = 9.5
"""Half-width of its window in standard deviations: what lies outside is of the order `exp(-REACH^2/2)` = 3e-20 of the whole."""
CHUNK = 2**15
"""So many concentrations are integrated at once, to bound the memory."""


class Sphere(Manifold):
    """The uniform law on `{x in R^(k+1) : |x| = radius}`; d = k + 1, k >= 1.

    >>> Sphere(k=2).log_density([0.0, 0.0, 0.0], t=0.5)
    tensor(-2.7171, dtype=torch.float64)
    """

    def __init__(self, k: int, radius: float = 1.0) -> None:
        self.intrinsic_dim = as_count("k", k)
        self.dim = self.intrinsic_dim + 1
        self.radius = as_positive("radius", radius)
        self._frame = torch.zeros(self.dim, dtype=torch.float64)

    def __repr__(self) -> str:
        return f"Sphere({self.intrinsic_dim}, {self.radius})"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n d"]:
        n, generator = as_count("n", n), as_generator(generator)
        normal = torch.randn(n, self.dim, dtype=torch.float64, generator=generator, device=generator.device)
        return self.radius * (normal / normal.norm(dim=-1, keepdim=True))

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self._frame)
        polar = at(query, self.radius)
        return Posterior(
            mean=polar.mean,
            displacement=polar.displacement,
            log_evidence=polar.log_density,
            covariance=polar.covariance,
            dtype=query.dtype,
        )

    def score_jacobian(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`s_t'(r)` along x and `s_t(r)/r` across; on the sphere neither cancels, unlike `(C_t/t - I)/t`."""
        query = as_query(x, t, like=self._frame)
        return at(query, self.radius).score_jacobian().to(query.dtype)

    def bounds(self) -> Float[Tensor, "2 d"]:
        return self.radius * torch.stack((self._frame - 1, self._frame + 1))

    @property
    def volume(self) -> float:
        """`2 pi^{d/2} R^k / Gamma(d/2)`."""
        k = self.intrinsic_dim
        area = 2 * math.pi * self.radius if k % 2 else 4 * math.pi * self.radius * self.radius
        for j in range(4 - k % 2, k + 1, 2):  # two dimensions more: times 2 pi R^2 / (j - 1)
            area *= 2 * math.pi / (j - 1) * self.radius * self.radius
        return area

    def project(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`R x/|x|`; the center, at equal distance from all of the sphere, raises `ValueError`."""
        query = as_location(x, self._frame)
        return (self.radius * direction(query.x)).to(query.dtype)

    def tangent_projector(self, x: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`I - u u^T` with `u = x/|x|`."""
        query = as_location(x, self._frame)
        u = direction(query.x)
        return (identity(u) - u.unsqueeze(-1) * u.unsqueeze(-2)).to(query.dtype)

    def mean_curvature(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`-(k/R) x/|x|`."""
        query = as_location(x, self._frame)
        return (-self.intrinsic_dim / self.radius * direction(query.x)).to(query.dtype)

    def manifold_density(self, x: ArrayLike) -> Float[Tensor, "*batch"]:
        """`1/volume`, everywhere."""
        query = as_location(x, self._frame)
        direction(query.x)  # refuses the center, as the others do
        return torch.full_like(query.x[..., 0], 1 / self.volume, dtype=query.dtype)


def direction(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """`x/|x|`, without overflow on the way."""
    size = x.detach().abs().amax(-1, keepdim=True)
    if bool((size == 0).any()):
        raise reject("x", x.tolist() if x.numel() < 10 else x, "no point at the center, which has no nearest point on the sphere")
    unit = x / size
    return unit / unit.norm(dim=-1, keepdim=True)


class VonMises(NamedTuple):
    """Moments of `c = cos theta` under the density `exp(kappa cos theta) sin(theta)^{k-1}` on [0, pi], up to a constant."""

    kappa: Float[Tensor, "*batch"]
    log_laplace: Float[Tensor, "*batch"]
    """`log E_uniform exp(-kappa (1 - c))`, the logarithm of `exp(-kappa) I_0(kappa)` for k = 1."""
    one_minus_cos: Float[Tensor, "*batch"]
    """`1 - A(kappa) = E[1 - c]`."""
    sin_square: Float[Tensor, "*batch"]
    """`A(kappa)/kappa = E[sin^2 theta]/k`."""
    cos_variance: Float[Tensor, "*batch"]
    """`A'(kappa) = Var c`."""


def von_mises(kappa: Float[Tensor, "*batch"], k: int = 1) -> VonMises:
    r"""The moments above for `kappa` >= 0, to rounding, also where they vanish.

    One Gauss-Legendre rule in theta serves every kappa and k, because the integrand `exp(-2 kappa sin^2(theta/2)) sin(theta)^{k-1}`
    is entire and every moment a sum of positive terms; only its window moves. Let `nu = k - 1`, `theta_m` the mode and `sigma` the
    standard deviation by Laplace's rule,

        cos theta_m = 2 kappa / (nu + sqrt(nu^2 + 4 kappa^2)),      1/sigma^2 = nu (1 + cos^2 theta_m) / sin^2 theta_m,

    (for k = 1, `theta_m = 0`). The log-density has a curvature of at least `1/sigma^2` to the left of the mode. To the right it lies
    below that of a chi law of k degrees in the chord `2 sqrt(kappa) sin(theta/2)`, whose curvature is at least 1 and whose mode is at
    `sqrt(nu)`; and, because `exp(kappa cos theta)` falls there, below the parabola of curvature `nu/2` at the mode. So the
    window from `theta_m - L sigma` to the least of `pi`, chord `sqrt(nu) + L` and `theta_m + L sqrt(2/nu)` leaves out `exp(-L^2/2)`.
    It is at most 24 standard deviations wide, on which the rule with 64 nodes errs by less than 1e-20 on a Gaussian.
    """
    flat = kappa.reshape(-1)
    parts = [_von_mises(piece, k) for piece in flat.split(CHUNK)]
    return VonMises(*(torch.cat(column).reshape(kappa.shape) for column in zip(*parts, strict=True)))


def _von_mises(kappa: Float[Tensor, " n"], k: int) -> VonMises:
    fixed, nu = kappa.detach(), k - 1
    # 1 - c shrinks like 1/kappa, beyond what a double can hold: everything is computed for u = unit (1 - c) instead.
    unit = fixed.clamp_min(1.0)
    low, high, mode, sin_mode = _window(fixed, unit.sqrt(), nu)
    theta = low.unsqueeze(-1) + (high - low).unsqueeze(-1) * _POINTS.to(kappa.device)
    u = 2 * (unit.sqrt().unsqueeze(-1) * torch.sin(theta / 2)) ** 2
    u_mode = 2 * (unit.sqrt() * torch.sin(mode / 2)) ** 2
    # The only place where a gradient enters: the nodes stay where they are, and the moments are differentiated under the integral.
    ratio = kappa / unit
    exponent = -ratio.unsqueeze(-1) * (u - u_mode.unsqueeze(-1))
    log_scale = (high - low).log() - ratio * u_mode - _log_total(k)
    if nu > 0:
        exponent = exponent + nu * (torch.sin(theta) / sin_mode.unsqueeze(-1)).log()
        log_scale = log_scale + nu * sin_mode.log()
    weight = _WEIGHTS.to(kappa.device) * exponent.exp()
    total = weight.sum(-1)
    weight = weight / total.unsqueeze(-1)
    mean = (weight * u).sum(-1)
    return VonMises(
        kappa=kappa,
        log_laplace=total.log() + log_scale,
        one_minus_cos=mean / unit,
        sin_square=(weight * (unit.sqrt().unsqueeze(-1) * torch.sin(theta)) ** 2).sum(-1) / k / unit,
        cos_variance=(weight * (u - mean.unsqueeze(-1)) ** 2).sum(-1) / unit / unit,
    )


def _window(
    kappa: Float[Tensor, " n"], root: Float[Tensor, " n"], nu: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The two ends of the window, the mode of theta and its sine; `root` is the square root of kappa, at least 1."""
    chord = (math.sqrt(nu) + REACH) / kappa.sqrt()
    high = 2 * torch.asin((chord / 2).clamp_max(1.0))
    if nu == 0:
        return torch.zeros_like(kappa), high, torch.zeros_like(kappa), torch.ones_like(kappa)
    h = (nu / 2) / kappa.clamp_min(1e-300)
    cos = 1 / (h + torch.hypot(torch.ones_like(h), h))
    sin = torch.where(h < 1, 2 * h * cos, 1 - cos**2).sqrt()  # sin^2 = 2 h cos, from the equation of the mode
    mode = torch.atan2(sin, cos)
    low = mode - REACH * sin / (nu * (1 + cos**2)).sqrt()
    return low.clamp_min(0.0), torch.minimum(high, mode + REACH * math.sqrt(2 / nu)), mode, sin


def _log_total(k: int) -> float:
    """`log int_0^pi sin(theta)^{k-1} dtheta`, by the recursion `(k - 1)/k` over every second k."""
    return math.log((math.pi if k % 2 else 2.0) * math.prod((j - 1) / j for j in range(k - 1, 1, -2)))


def rule(nodes: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The points and weights of the Gauss-Legendre rule on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy((1 + points) / 2), torch.from_numpy(weights / 2)


_POINTS, _WEIGHTS = rule(NODES)


@dataclass(frozen=True)
class Polar:
    """The posterior of a uniform law on spheres of dimension k, one for each entry of the batch, in polar coordinates."""

    unit: Float[Tensor, "*batch d"]
    """A positive multiple of x."""
    t: Float[Tensor, "*batch"]
    radius: float | Float[Tensor, "..."]
    log_density: Float[Tensor, "*batch"]
    mean: Float[Tensor, "*batch d"]
    displacement: Float[Tensor, "*batch d"]
    stretch: Float[Tensor, "*batch"]
    """`m_t(x) - x = stretch * x`, where that is finite."""
    moments: VonMises

    def covariance(self) -> Float[Tensor, "*batch d d"]:
        """`C_t(x)`."""
        size = torch.as_tensor(self.radius, dtype=self.t.dtype, device=self.t.device)[..., None, None]
        return size * (size * self._frame(self.moments.cos_variance, self.moments.sin_square))

    def score_jacobian(self) -> Float[Tensor, "*batch d d"]:
        """`grad s_t(x)`."""
        steep = self.radius / self.t.sqrt()
        along = (steep * (steep * self.moments.cos_variance) - 1) / self.t
        return self._frame(along, self.stretch / self.t)

    def _frame(self, along: Float[Tensor, "*batch"], across: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch d d"]:
        """The symmetric matrix with eigenvalue `along` in the direction of x and `across` at right angles to it."""
        square = (self.unit**2).sum(-1)[..., None, None]
        outer = self.unit.unsqueeze(-1) * self.unit.unsqueeze(-2) / torch.where(square > 0, square, 1.0)
        # At the center outer = 0, both eigenvalues agree, and the missing direction does not matter.
        rest = identity(self.unit) - outer
        # An eigenvalue may be infinite: 0 times it is 0.
        return torch.where(rest == 0, 0.0, across[..., None, None] * rest) + torch.where(outer == 0, 0.0, along[..., None, None] * outer)


def polar(x: Float[Tensor, "*batch d"], t: Float[Tensor, "*batch"], radius: float | Float[Tensor, "..."]) -> Polar:
    """The posterior at x for spheres in R^d around 0; `radius` is a number or broadcasts with the batch."""
    d = x.shape[-1]
    # Scaled by its largest entry, hypot-like: |x| neither overflows nor vanishes, and has a gradient everywhere but 0.
    size = x.detach().abs().amax(-1).clamp_min(1e-300)
    unit = x / size.unsqueeze(-1)
    square = (unit**2).sum(-1)
    r = size * torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
    # kappa = r R / t, ordered so that tiny t with tiny r keeps its quotient.
    steep = radius / t.sqrt()
    moments = von_mises(((r / t.sqrt()) * steep).clamp_max(1e308), d - 1)
    # R A(kappa) x/r - x two ways: where A < 1/2 from A/kappa, elsewhere from 1 - A, so that r = R loses nothing.
    near_center = moments.one_minus_cos.detach() > 0.5
    safe_r = torch.where(near_center, 1.0, r)
    outward = unit / torch.where(square > 0, square, 1.0).sqrt().unsqueeze(-1)
    pull = steep.unsqueeze(-1) * (steep.unsqueeze(-1) * x) * moments.sin_square.unsqueeze(-1)
    excess = (radius - safe_r) - radius * moments.one_minus_cos
    choose, on_sphere = near_center.unsqueeze(-1), (radius * (1 - moments.one_minus_cos)).unsqueeze(-1) * outward
    return Polar(
        unit=unit,
        t=t,
        radius=radius,
        log_density=-d / 2 * (math.log(2 * math.pi) + t.log()) - ((r - radius) / (math.sqrt(2) * t.sqrt())) ** 2 + moments.log_laplace,
        mean=torch.where(choose, pull, on_sphere),
        displacement=torch.where(choose, pull - x, excess.unsqueeze(-1) * outward),
        stretch=torch.where(near_center, steep**2 * moments.sin_square - 1, excess / safe_r),
        moments=moments,
    )


def at(query: Query, radius: float) -> Polar:
    """The posterior at a query, for one sphere."""
    return polar(query.x, query.t.squeeze(-1), radius)
