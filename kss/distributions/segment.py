r"""The uniform law on a segment of the line under noise, and the quadrature rule on a window that it shares with the Swiss roll.

A window starts where the integrand is largest and ends where it has fallen to `exp(-CUT)` of that; on each of its two parts there is a
Gauss-Legendre rule.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss.distributions.sphere import rule

CUT = 42.0
"""Where the integrand has fallen to exp(-CUT) of its largest value, the window ends."""
NODES = 32
"""Nodes on each part of a window."""
SPLIT = 0.3
"""Where the window is parted, as a fraction of it."""
LARGEST = 1e150
"""Its square stands for "too large to matter", and is finite."""


def _two_part_rule() -> tuple[Tensor, Tensor]:
    points, weights = rule(NODES)
    both = torch.cat((SPLIT * points, SPLIT + (1 - SPLIT) * points))
    return both, torch.cat((SPLIT * weights, (1 - SPLIT) * weights)).log()


POINTS, LOG_WEIGHTS = _two_part_rule()
"""On [0, 1]."""


class SegmentPosterior(NamedTuple):
    """Its log-density and posterior at noise variance t."""

    log_density: Float[Tensor, "*batch"]
    mean: Float[Tensor, "*batch"]
    displacement: Float[Tensor, "*batch"]
    variance: Float[Tensor, "*batch"]
    slope: Float[Tensor, "*batch"]
    """The derivative of the score."""


def segment_posterior(z: Float[Tensor, "*batch"], t: Float[Tensor, "*batch"], height: float) -> SegmentPosterior:
    r"""The posterior of the uniform law on [0, height].

    With `Z = int_0^h exp(-(y-z)^2/2t) dy` and the integrand's values f at the two ends, integration by parts gives without cancellation

        m - z = (t/Z) (f(0) - f(h)),      C/t - 1 = -(1/Z) ((h - z) f(h) + z f(0)) - (m - z)^2/t

    for z in the segment; outside, where these cancel, the moments of the distance from the nearer end are sums of positive terms.
    """
    root = t.sqrt()
    near = z.detach().clamp(0.0, height)
    off = (z - near) / root
    sign = torch.tensor([1.0, -1.0], dtype=z.dtype, device=z.device)
    width = torch.stack((height - near, near), -1)
    # (delta^2/2 + s delta)/t = CUT, where s is the distance from the segment; the window, too, stays where it is.
    steep = -(off.detach().unsqueeze(-1) * sign).clamp_max(0.0)
    reach = 2 * CUT / (steep + torch.hypot(steep, torch.full_like(steep, math.sqrt(2 * CUT))))
    window = torch.minimum(reach * root.detach().unsqueeze(-1), width)
    window = torch.where(width > 0, window.clamp_min(1e-300), 0.0)
    delta = sign.unsqueeze(-1) * window.unsqueeze(-1) * POINTS.to(z.device)
    scaled = delta / root[..., None, None]
    exponent = scaled**2 / 2 - scaled * off.clamp(-LARGEST, LARGEST)[..., None, None]
    logit = window.log().unsqueeze(-1) + LOG_WEIGHTS.to(z.device) - exponent
    log_total = torch.logsumexp(logit.flatten(-2), -1)
    weight = torch.softmax(logit.flatten(-2), -1).unflatten(-1, logit.shape[-2:])
    ahead = (weight * delta).sum((-2, -1))

    inside = (z >= 0) & (z <= height)
    held = torch.where(inside, z, 0.0)
    log_z = log_total - torch.where(inside, off, 0.0) ** 2 / 2  # there off is 0, but its derivative is not
    lower, upper = -((held / root) ** 2) / 2 - log_z, -(((height - held) / root) ** 2) / 2 - log_z
    closer = held < height / 2
    # f(0) - f(h) from its larger term; the exponents differ by h (h - 2z)/2t.
    difference = -torch.expm1(-(torch.where(closer, height - 2 * held, 2 * held - height) / root * (height / root)) / 2)
    pull = t * torch.where(closer, lower, upper).exp() * torch.where(closer, difference, -difference)
    displacement = torch.where(inside, pull, ahead - (z - near))
    variance = (weight * (delta - ahead[..., None, None]) ** 2).sum((-2, -1))
    by_parts = -((height - held) * upper.exp() + held * lower.exp()) - (pull / root) ** 2
    return SegmentPosterior(
        log_density=log_total - off**2 / 2 - math.log(height) - (math.log(2 * math.pi) + t.log()) / 2,
        mean=near + ahead,
        displacement=displacement,
        variance=variance,
        slope=torch.where(inside, by_parts, variance / t - 1) / t,
    )
