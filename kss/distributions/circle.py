r"""The uniform law on a circle in the plane: the smallest curved data manifold.

For `X_0` uniform on the circle of radius R, `r = |x|` and the concentration `kappa = r R / t`, the angle of `X_0` seen from
`x` is von Mises with concentration `kappa`. With `A(kappa) = I_1(kappa)/I_0(kappa)` its mean resultant length,

    m_t(x) = R A(kappa) x/r,    log p_t(x) = -log(2 pi t) - (r - R)^2/(2t) + log(exp(-kappa) I_0(kappa)),

    C_t(x) = R^2 A'(kappa)  along x,   R^2 A(kappa)/kappa  across,      A' = 1 - A/kappa - A^2.

The combinations that cancel, `1 - A` and `A'`, are computed as moments of `1 - cos`, never as differences.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, Seed, as_count, as_generator, as_positive, as_query
from kss.distributions.base import Distribution, Posterior

SERIES_FROM = 30.0
"""Above this concentration the asymptotic series, cut after 26 terms, is exact to rounding."""


class Circle(Distribution):
    """The uniform law on `{x in R^2 : |x| = radius}`; d = 2, k = 1.

    >>> Circle(radius=1.0).log_density([0.0, 0.0], t=0.5)
    tensor(-2.1447, dtype=torch.float64)
    """

    dim, intrinsic_dim = 2, 1

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = as_positive("radius", radius)
        self._frame = torch.zeros(2, dtype=torch.float64)

    def __repr__(self) -> str:
        return f"Circle({self.radius})"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n 2"]:
        n, generator = as_count("n", n), as_generator(generator)
        angle = 2 * math.pi * torch.rand(n, dtype=torch.float64, generator=generator, device=generator.device)
        return self.radius * torch.stack((angle.cos(), angle.sin()), -1)

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self._frame)
        polar = self._polar(query)
        log_evidence = (
            -math.log(2 * math.pi)
            - query.t.squeeze(-1).log()
            - ((polar.r - self.radius) / (math.sqrt(2) * query.t.squeeze(-1).sqrt())) ** 2
            + polar.von_mises.log_i0e
        )

        def covariance() -> Float[Tensor, "*batch 2 2"]:
            moments = polar.von_mises
            return self.radius * (self.radius * polar.frame(moments.cos_variance, moments.sin_square))

        return Posterior(
            mean=polar.mean,
            displacement=polar.displacement,
            log_evidence=log_evidence,
            covariance=covariance,
            dtype=query.dtype,
        )

    def score_jacobian(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch 2 2"]:
        """`s_t'(r)` along x and `s_t(r)/r` across; on the circle neither cancels, unlike `(C_t/t - I)/t`."""
        query = as_query(x, t, like=self._frame)
        polar, t = self._polar(query), query.t.squeeze(-1)
        steep = self.radius / t.sqrt()
        along = (steep * (steep * polar.von_mises.cos_variance) - 1) / t
        return polar.frame(along, polar.stretch / t).to(query.dtype)

    def _polar(self, query: Query) -> "_Polar":
        t = query.t.squeeze(-1)
        # Scaled by its largest entry, hypot-like: |x| neither overflows nor vanishes, and has a gradient everywhere but 0.
        size = query.x.detach().abs().amax(-1).clamp_min(1e-300)
        unit = query.x / size.unsqueeze(-1)
        square = (unit**2).sum(-1)
        r = size * torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
        # kappa = r R / t, ordered so that tiny t with tiny r keeps its quotient.
        moments = von_mises(((r / t.sqrt()) * (self.radius / t.sqrt())).clamp_max(1e308))
        # R A(kappa) x/r - x two ways: at small kappa from A/kappa, elsewhere from 1 - A, so that r = R loses nothing.
        near_center = moments.kappa <= 1.0
        safe_r = torch.where(near_center, 1.0, r)
        direction = unit / torch.where(square > 0, square, 1.0).sqrt().unsqueeze(-1)
        steep = self.radius / t.sqrt()
        pull = steep.unsqueeze(-1) * (steep.unsqueeze(-1) * query.x) * moments.sin_square.unsqueeze(-1)
        excess = (self.radius - safe_r) - self.radius * moments.one_minus_cos
        choose, on_ring = near_center.unsqueeze(-1), (self.radius * (1 - moments.one_minus_cos)).unsqueeze(-1) * direction
        return _Polar(
            r=r,
            unit=unit,
            mean=torch.where(choose, pull, on_ring),
            displacement=torch.where(choose, pull - query.x, excess.unsqueeze(-1) * direction),
            stretch=torch.where(near_center, steep**2 * moments.sin_square - 1, excess / safe_r),
            von_mises=moments,
        )


class VonMises(NamedTuple):
    """Moments of the angle theta under the density `exp(kappa cos theta) / (2 pi I_0(kappa))`."""

    kappa: Float[Tensor, "*batch"]
    log_i0e: Float[Tensor, "*batch"]
    """`log(exp(-kappa) I_0(kappa))`."""
    one_minus_cos: Float[Tensor, "*batch"]
    """`1 - A(kappa) = E[1 - cos theta]`."""
    sin_square: Float[Tensor, "*batch"]
    """`A(kappa)/kappa = E[sin^2 theta]`."""
    cos_variance: Float[Tensor, "*batch"]
    """`A'(kappa) = Var[cos theta]`."""


class _Polar(NamedTuple):
    r: Float[Tensor, "*batch"]
    unit: Float[Tensor, "*batch 2"]
    mean: Float[Tensor, "*batch 2"]
    displacement: Float[Tensor, "*batch 2"]
    stretch: Float[Tensor, "*batch"]
    """`m_t(x) - x = stretch * x`, where that is finite."""
    von_mises: VonMises

    def frame(self, along: Float[Tensor, "*batch"], across: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 2 2"]:
        """The symmetric matrix with eigenvalue `along` in the direction of x and `across` at right angles to it."""
        square = (self.unit**2).sum(-1)[..., None, None]
        outer = self.unit.unsqueeze(-1) * self.unit.unsqueeze(-2) / torch.where(square > 0, square, 1.0)
        # At the center outer = 0, both eigenvalues agree, and the missing direction does not matter.
        rest = torch.eye(2, dtype=outer.dtype, device=outer.device) - outer
        # An eigenvalue may be infinite: 0 times it is 0.
        return torch.where(rest == 0, 0.0, across[..., None, None] * rest) + torch.where(outer == 0, 0.0, along[..., None, None] * outer)


def von_mises(kappa: Float[Tensor, "*batch"]) -> VonMises:
    """The moments above for `kappa` >= 0, to rounding, also where they vanish.

    Up to `SERIES_FROM` by the trapezoid rule on 64 nodes, which on a periodic integrand errs by
    `2 exp(-kappa) I_64(kappa)` < 1e-24; beyond it by the asymptotic series in `1/kappa`.
    """
    small, large = kappa.clamp_max(SERIES_FROM), kappa.clamp_min(SERIES_FROM)
    # Symmetric in theta: half the nodes, the two ends counted once.
    theta = torch.linspace(0, math.pi, 33, dtype=kappa.dtype, device=kappa.device)
    count = torch.full_like(theta, 2.0)
    count[0] = count[-1] = 1.0
    versine = 2 * torch.sin(theta / 2) ** 2
    weight = count / 64 * torch.exp(-small.unsqueeze(-1) * versine)
    total = weight.sum(-1)
    weight = weight / total.unsqueeze(-1)
    one_minus = (weight * versine).sum(-1)
    cos_variance = (weight * (versine - one_minus.unsqueeze(-1)) ** 2).sum(-1)
    sin_square = (weight * torch.sin(theta) ** 2).sum(-1)

    u = 1 / large
    far = kappa > SERIES_FROM
    far_one_minus = _polynomial(_ONE_MINUS_A, u)
    return VonMises(
        kappa=kappa,
        log_i0e=torch.where(far, _polynomial(_I0E, u).log() - (math.log(2 * math.pi) + large.log()) / 2, total.log()),
        one_minus_cos=torch.where(far, far_one_minus, one_minus),
        sin_square=torch.where(far, (1 - far_one_minus) * u, sin_square),
        cos_variance=torch.where(far, _polynomial(_A_PRIME, u), cos_variance),
    )


def _asymptotic_series(terms: int) -> tuple[list[float], list[float], list[float]]:
    """Coefficients in `u = 1/kappa` of `sqrt(2 pi kappa) exp(-kappa) I_0`, of `1 - A` and of `A'`, from exact fractions."""

    def bessel(order: int) -> list[Fraction]:
        series = [Fraction(1)]
        for j in range(1, terms):
            series.append(-series[-1] * Fraction(4 * order**2 - (2 * j - 1) ** 2, 8 * j))
        return series

    i0, i1 = bessel(0), bessel(1)
    ratio: list[Fraction] = []  # A = I_1/I_0 by division of power series
    for j in range(terms):
        ratio.append(i1[j] - sum((i0[j - i] * ratio[i] for i in range(j)), Fraction(0)))
    one_minus = [Fraction(0)] + [-c for c in ratio[1:]]
    # d/dkappa u^j = -j u^{j+1}, so A' = -(1 - A)' has the coefficient j c_j at u^{j+1}.
    derivative = [Fraction(0), *(j * c for j, c in enumerate(one_minus[:-1]))]
    return [float(c) for c in i0], [float(c) for c in one_minus], [float(c) for c in derivative]


def _polynomial(coefficients: list[float], u: Tensor) -> Tensor:
    value = torch.zeros_like(u)
    for c in reversed(coefficients):
        value = value * u + c
    return value


_I0E, _ONE_MINUS_A, _A_PRIME = _asymptotic_series(terms=26)
