r"""The Swiss roll: a curve, or a sheet, that comes back close to itself.

The curve is the spiral `gamma(theta) = a theta (cos theta, sin theta)`, theta uniform on [3 pi/2, 9 pi/2] (the convention of
scikit-learn's `make_swiss_roll`), and the sheet its product with a segment [0, height]. The posterior is an integral in one variable,

    p_t(x) = (1/3pi) int G_t(x - gamma(theta)) dtheta,      m_t(x) = (1/3pi) int gamma(theta) G_t(x - gamma(theta)) dtheta / p_t(x),

and for the sheet the product with that of a uniform law on a segment. The integral is computed by a deterministic quadrature:

1. `D(theta) = |x - gamma(theta)|^2/2` has at most one maximum and one minimum on every turn; they cut the interval in at most six pieces
   on which `D` is monotone.
2. Each piece is integrated from its lower end `theta_*` up to where `(D - D(theta_*))/t` reaches `CUT`, or to its other end: what is left
   out is of the order of `exp(-CUT)` = 6e-19. There is a Gauss-Legendre rule on each of two parts of this window.
3. `D - D(theta_*) = |Delta|^2/2 - n.Delta` with `n = x - gamma(theta_*)` and the chord `Delta = gamma(theta) - gamma(theta_*)`, which is
   computed in the frame at `theta_*`, so that the exponent keeps its digits however small t is; so do the displacement
   `Delta - n` and its centered moments.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_positive, as_query, reject
from kss.distributions.base import Posterior
from kss.distributions.manifold import Manifold, as_location
from kss.distributions.segment import CUT, LARGEST, LOG_WEIGHTS, POINTS, segment_posterior

START, END = 1.5 * math.pi, 4.5 * math.pi
CHUNK = 512
"""So many points are integrated over at once, to bound the memory."""


class SwissRoll(Manifold):
    """The spiral in the plane (k = 1), or times the segment [0, height] in space (k = 2), flat in the last coordinate.

    `scale` is the a of `gamma`: the default makes the radii grow from 1/2 to 3/2. `height` belongs to k = 2 and is 21 a when omitted,
    so that `SwissRoll(2, scale=1.0)` is scikit-learn's roll up to the order of the coordinates. The law is uniform in theta, not in
    length. The score errs by less than 1e-12 of the largest of itself, `1/sqrt(t)` and what moving x and the roll by a few units in
    the last place changes.

    >>> SwissRoll().project([0.0, 1.0])
    tensor([-0.0174,  0.8354], dtype=torch.float64)
    """

    def __init__(self, k: int = 1, scale: float = 1 / (3 * math.pi), height: float | None = None) -> None:
        self.intrinsic_dim = as_count("k", k)
        if k > 2:
            raise reject("k", k, "1 or 2")
        if k == 1 and height is not None:
            raise reject("height", height, "None for k = 1, which is a curve")
        self.dim = self.intrinsic_dim + 1
        self.scale = as_positive("scale", scale)
        self.height = None if k == 1 else as_positive("height", 21 * self.scale if height is None else height)
        self._frame = torch.zeros(self.dim, dtype=torch.float64)

    def __repr__(self) -> str:
        height = "" if self.height is None else f", height={self.height}"
        return f"SwissRoll({self.intrinsic_dim}, scale={self.scale}{height})"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n d"]:
        n, generator = as_count("n", n), as_generator(generator)
        uniform = torch.rand(n, self.intrinsic_dim, dtype=torch.float64, generator=generator, device=generator.device)
        points = self.scale * _spiral(START + (END - START) * uniform[:, 0])
        return points if self.height is None else torch.cat((points, self.height * uniform[:, 1:]), -1)

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self._frame)
        t = query.t.squeeze(-1)
        curve = self._curve(query.x[..., :2], t)
        if self.height is None:
            return Posterior(
                mean=curve.mean,
                displacement=curve.displacement,
                log_evidence=curve.log_density,
                covariance=lambda: curve.covariance,
                dtype=query.dtype,
            )
        segment = segment_posterior(query.x[..., 2], t, self.height)

        return Posterior(
            mean=torch.cat((curve.mean, segment.mean.unsqueeze(-1)), -1),
            displacement=torch.cat((curve.displacement, segment.displacement.unsqueeze(-1)), -1),
            log_evidence=curve.log_density + segment.log_density,
            covariance=lambda: _blocks(curve.covariance, segment.variance),
            dtype=query.dtype,
        )

    def score_jacobian(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`(C_t/t - I)/t` in the plane of the spiral; what cancels there is of the size of what an error of eps in x does."""
        query = as_query(x, t, like=self._frame)
        t = query.t.squeeze(-1)
        flat = (self._curve(query.x[..., :2], t).covariance / t[..., None, None] - torch.eye(2, dtype=t.dtype, device=t.device)) / t[
            ..., None, None
        ]
        if self.height is None:
            return flat.to(query.dtype)
        return _blocks(flat, segment_posterior(query.x[..., 2], t, self.height).slope).to(query.dtype)

    def bounds(self) -> Float[Tensor, "2 d"]:
        reach = END * self.scale
        last = [] if self.height is None else [[0.0, self.height]]
        return torch.tensor([[-reach, reach], [-reach, reach], *last], dtype=torch.float64).T

    @property
    def volume(self) -> float:
        """`(a/2) [theta sqrt(1 + theta^2) + asinh theta]` between the ends, times the height."""
        first, last = (theta * math.hypot(1, theta) + math.asinh(theta) for theta in (START, END))
        return self.scale / 2 * (last - first) * (1.0 if self.height is None else self.height)

    def project(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """The nearest point; one of them, if there are several. Beyond an edge of the roll it lies on the edge."""
        query = as_location(x, self._frame)
        points = self.scale * _spiral(self._nearest(query.x))
        if self.height is not None:
            points = torch.cat((points, query.x[..., 2:].clamp(0.0, self.height)), -1)
        return points.to(query.dtype)

    def tangent_projector(self, x: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`T T^T` with `T = gamma'/|gamma'|`, and the flat direction; on an edge the tangent space is that of the roll continued."""
        query = as_location(x, self._frame)
        theta = self._nearest(query.x)
        radial, around = _polar_frame(theta)
        tangent = (radial + theta.unsqueeze(-1) * around) / torch.hypot(torch.ones_like(theta), theta).unsqueeze(-1)
        projector = tangent.unsqueeze(-1) * tangent.unsqueeze(-2)
        return (projector if self.height is None else _blocks(projector, torch.ones_like(theta))).to(query.dtype)

    def mean_curvature(self, x: ArrayLike) -> Float[Tensor, "*batch d"]:
        """The curvature vector of the spiral, of length `(2 + theta^2)/(a (1 + theta^2)^{3/2})`; the flat direction adds nothing."""
        query = as_location(x, self._frame)
        theta = self._nearest(query.x).unsqueeze(-1)
        radial, around = _polar_frame(theta.squeeze(-1))
        bend = (2 + theta**2) / (1 + theta**2) ** 2 * (around - theta * radial) / self.scale
        return (bend if self.height is None else torch.nn.functional.pad(bend, (0, 1))).to(query.dtype)

    def manifold_density(self, x: ArrayLike) -> Float[Tensor, "*batch"]:
        """`1/(3 pi a sqrt(1 + theta^2))`, divided by the height: uniform in theta, not in length."""
        query = as_location(x, self._frame)
        theta = self._nearest(query.x)
        density = 1 / ((END - START) * self.scale * torch.hypot(torch.ones_like(theta), theta))
        return (density if self.height is None else density / self.height).to(query.dtype)

    def _nearest(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        flat = x[..., :2].reshape(-1, 2) / self.scale
        pieces = _pieces(flat)
        return pieces.low.gather(-1, _reference(flat, pieces.low)).reshape(x.shape[:-1])

    def _curve(self, x: Float[Tensor, "*batch 2"], t: Float[Tensor, "*batch"]) -> "_Curve":
        """The posterior of the curve, computed at unit scale and carried back."""
        a, shape = self.scale, t.shape
        points, noise = x.reshape(-1, 2) / a, (t.reshape(-1) / a) / a
        parts = [_integrate(*chunk) for chunk in zip(points.split(CHUNK), noise.split(CHUNK), strict=True)]
        log_density, mean, displacement, covariance = (torch.cat(column) for column in zip(*parts, strict=True))
        return _Curve(
            log_density=log_density.reshape(shape) - 2 * math.log(a),
            mean=a * mean.reshape(*shape, 2),
            displacement=a * displacement.reshape(*shape, 2),
            covariance=a * (a * covariance.reshape(*shape, 2, 2)),
        )


class _Curve(NamedTuple):
    log_density: Float[Tensor, "*batch"]
    mean: Float[Tensor, "*batch 2"]
    displacement: Float[Tensor, "*batch 2"]
    covariance: Float[Tensor, "*batch 2 2"]


class _Pieces(NamedTuple):
    """The pieces of [START, END] on which `D` is monotone, alternately rising and falling; some are empty."""

    low: Float[Tensor, "n 6"]
    """theta_*, the end where `D` is lower."""
    width: Float[Tensor, "n 6"]
    stationary: Float[Tensor, "n 6"]
    """1 where `D'(theta_*) = 0`, else 0."""


def _pieces(x: Float[Tensor, "n 2"]) -> _Pieces:
    r"""The pieces for points x, at unit scale.

    With `x = rho e(phi)` and `psi = theta - phi - 2 pi j` in [-pi, pi],

        D'/rho  = theta/rho - cos psi + theta sin psi,        D''/rho = 1/rho + 2 sin psi + theta cos psi.

    For psi in [0, pi/2] D is convex, beyond it increases. For psi in [-pi, 0] and `rho > 0.8`, `D''` changes sign once, from - to +:
    `D'` has its least value there, and if that is negative there is one maximum before it and one minimum after it, with
    psi < pi/2. For `rho < 0.8`, `D' > 0` (theta is at least 3 pi/2).
    """
    inverse = (1 / torch.hypot(x[:, 0], x[:, 1])).unsqueeze(-1)
    # The turns j = 1, 2, 3: all other minima and maxima have theta < START or > END.
    center = torch.atan2(x[:, 1], x[:, 0]).unsqueeze(-1) + 2 * math.pi * torch.arange(1.0, 4.0, dtype=x.dtype, device=x.device)

    def slope(psi: Tensor) -> Tensor:
        theta = center + psi
        return theta * inverse - psi.cos() + theta * psi.sin()

    def bend(psi: Tensor) -> Tensor:
        return inverse + 2 * psi.sin() + (center + psi) * psi.cos()

    first, zero = (START - center).clamp(-math.pi, 0.0), torch.zeros_like(center)
    turning = _bisect(lambda psi: bend(psi) < 0, first, zero)
    twofold = (inverse < 1.25) & (slope(turning) < 0)
    highest = torch.where(twofold, _bisect(lambda psi: slope(psi) > 0, first, turning), turning)
    lowest = torch.where(twofold, _bisect(lambda psi: slope(psi) < 0, turning, zero + math.pi / 2), turning)
    maximum, minimum = (center + highest).clamp(START, END), (center + lowest).clamp(START, END)
    inside = (twofold & (minimum > START) & (minimum < END)).to(x.dtype)
    # START rises to M1, falls to m1, rises to M2, falls to m2, rises to M3, falls to END.
    start, end = torch.full_like(minimum[:, 0], START), torch.full_like(minimum[:, 0], END)
    low = torch.stack((start, minimum[:, 0], minimum[:, 0], minimum[:, 1], minimum[:, 1], end), -1)
    off = torch.zeros_like(start)
    stationary = torch.stack((off, inside[:, 0], inside[:, 0], inside[:, 1], inside[:, 1], off), -1)
    return _Pieces(low, (maximum.repeat_interleave(2, -1) - low).abs(), stationary)


def _bisect(before: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int = 54) -> Tensor:
    """The point of [low, high] at which `before` turns false; `low` where it is false everywhere."""
    for _ in range(steps):
        middle = (low + high) / 2
        is_before = before(middle)
        low, high = torch.where(is_before, middle, low), torch.where(is_before, high, middle)
    return low


def _reference(x: Float[Tensor, "n 2"], low: Float[Tensor, "n 6"]) -> Tensor:
    """Which of the lower ends is nearest to x, (n, 1)."""
    offset = x.unsqueeze(-2) - _spiral(low)
    size = offset.abs().amax((-2, -1), keepdim=True).clamp_min(1e-300)
    return ((offset / size) ** 2).sum(-1).argmin(-1, keepdim=True)


def _integrate(x: Float[Tensor, "n 2"], t: Float[Tensor, " n"]) -> _Curve:
    """The posterior at unit scale. Pieces and nodes stay where they are when x moves: gradients go through the integrand."""
    pieces = _pieces(x.detach())
    low, root = pieces.low, t.sqrt().unsqueeze(-1)
    radial, around = _polar_frame(low)
    ends = low.unsqueeze(-1) * radial
    offset = x.unsqueeze(-2) - ends  # n = x - gamma(theta_*), (n, 6, 2)
    sign = torch.tensor([1.0, -1.0] * 3, dtype=x.dtype, device=x.device)
    n_radial, n_around = (offset * radial).sum(-1), (offset * around).sum(-1)

    # Where D is stationary, or falls by rounding, the tangential part of n is noise, which a tiny t would amplify.
    length = torch.hypot(torch.ones_like(low), low)
    along = ((n_radial + low * n_around) / length).detach()
    noise = torch.where((pieces.stationary > 0) | (along * sign > 0), along, 0.0)
    n_radial, n_around = n_radial - noise / length, n_around - noise * low / length
    limit = _excess(offset, root)
    scaled_radial, scaled_around = n_radial / limit / root, n_around / limit / root

    def chord(delta: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Delta in the frame at theta_*, radial and around."""
        sine = torch.sin(delta)
        return delta * torch.cos(delta) - 2 * start * torch.sin(delta / 2) ** 2, (start + delta) * sine

    # The end of the window by bisection in the exponent of 2: a percent is enough.
    def within(power: Tensor) -> Tensor:
        a, b = (c / root for c in chord(sign * torch.exp2(power), low))
        return (a**2 + b**2) / 2 - (a * scaled_radial.detach() + b * scaled_around.detach()) < CUT

    top = pieces.width.clamp_min(1e-300).log2()
    window = torch.exp2(_bisect(within, torch.full_like(top, -1000.0), top, steps=17))
    window = torch.where(window > 0.98 * pieces.width, pieces.width, window)

    start = low.unsqueeze(-1)
    delta = (sign * window).unsqueeze(-1) * POINTS.to(x.device)
    across, beside = chord(delta, start)
    a, b, deep = across / root.unsqueeze(-1), beside / root.unsqueeze(-1), root.unsqueeze(-1)
    exponent = (a**2 + b**2) / 2 - (a * scaled_radial.unsqueeze(-1) + b * scaled_around.unsqueeze(-1))

    # Between the pieces: |n_ref|^2/2t - |n|^2/2t = (gamma - gamma_ref).(n + n_ref)/2t.
    which = _reference(x.detach(), low)
    pick = which.unsqueeze(-1).expand(-1, -1, 2)
    end_ref, offset_ref = ends.gather(1, pick), offset.gather(1, pick)
    apart = ends - end_ref
    middle = (offset + offset_ref) / 2
    gain = ((apart / deep) * (middle / _excess(middle, root).unsqueeze(-1) / deep)).sum(-1)
    # Within each piece first: far away the gains are so large that they would swallow the rest.
    logit = LOG_WEIGHTS.to(x.device) - exponent
    inner = torch.logsumexp(logit, -1)
    outer = gain + window.log() + inner
    total = torch.logsumexp(outer, -1)
    weight = torch.softmax(outer, -1).unsqueeze(-1) * torch.softmax(logit, -1)

    # Everything relative to gamma_ref, so that neither the mean nor the spread is a difference of large numbers.
    place = apart.unsqueeze(-2) + across.unsqueeze(-1) * radial.unsqueeze(-2) + beside.unsqueeze(-1) * around.unsqueeze(-2)
    shift = (weight.unsqueeze(-1) * place).sum((1, 2))
    spread = (place - shift[:, None, None]).flatten(1, 2)
    covariance = (weight.flatten(1).unsqueeze(-1) * spread).mT @ spread
    tangential = noise.unsqueeze(-1) * (radial + start * around) / length.unsqueeze(-1)
    n_ref = (offset - tangential).gather(1, pick).squeeze(1)
    form = ((offset_ref.squeeze(1) / (math.sqrt(2) * root)) ** 2).sum(-1)
    return _Curve(
        log_density=total - form - math.log(END - START) - math.log(2 * math.pi) - t.log(),
        mean=end_ref.squeeze(1) + shift,
        displacement=shift - n_ref,
        covariance=covariance,
    )


def _excess(offset: Float[Tensor, "n 6 2"], root: Float[Tensor, "n 1"]) -> Float[Tensor, "n 6"]:
    """By which factor `offset / root` is too large for its products to be finite; 1 but in absurd cases."""
    return (offset.detach().abs().amax(-1) / (LARGEST * root.detach())).clamp(1.0, 1e300)


def _polar_frame(theta: Tensor) -> tuple[Tensor, Tensor]:
    """`e = (cos theta, sin theta)` and `e' = (-sin theta, cos theta)`."""
    return torch.stack((theta.cos(), theta.sin()), -1), torch.stack((-theta.sin(), theta.cos()), -1)


def _spiral(theta: Tensor) -> Tensor:
    """`theta (cos theta, sin theta)`."""
    return theta.unsqueeze(-1) * torch.stack((theta.cos(), theta.sin()), -1)


def _blocks(flat: Float[Tensor, "*batch 2 2"], last: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """The block-diagonal matrix of a 2 x 2 block and a number."""
    padded = torch.nn.functional.pad(flat, (0, 1, 0, 1))
    corner = torch.nn.functional.pad(last[..., None, None], (2, 0, 2, 0))
    return padded + corner
