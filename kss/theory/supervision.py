r"""Where training supervises a denoiser: shells about the data.

A network learns from `x_i + sqrt(t) Z`, and in R^d the noise has a length that is nearly fixed, for `|Z|^2` has the chi-squared law
with d degrees of freedom. So the training inputs at noise variance t lie in shells about the data,

    S_i = { x : | |x - x_i|/sqrt(d t) - 1 | <= delta },        delta of the order of 1/sqrt(2 d),

whose union is the *supervision region*. A noisy version `x = c + sqrt(t) Z` of another point c, at the distance D from `x_i`, has

    |x - x_i|^2/t ~ chi^2_d(D^2/t)        (noncentral, with D^2/t for its parameter),

which is all that follows here: with `u = D^2/(d t)` the ratio `|x - x_i|/sqrt(d t)` is about `sqrt(1 + u)`, and the point leaves the shell
where that exceeds `1 + delta`, that is for t below `D^2/(d ((1 + delta)^2 - 1))`. Everything is dimensionless but `t`, a noise variance,
and distances, of the unit of `sqrt(t)`.

Source of the picture: Song, Kim, Chen, Du, Kakade, Sitzmann, arXiv 2510.01378. The formulas are derived here.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_tensor, reject

SURE = 40.0
"""Standard deviations beyond which a normal tail is zero in double precision."""
FAR = 3e3
"""Distance, in standard deviations, from which on a sphere is taken for a paraboloid."""


class Moments(NamedTuple):
    """Mean and standard deviation."""

    mean: float
    spread: float


def shell_radius(dim: int, t: ArrayLike) -> Float[Tensor, "*batch"]:
    """`sqrt(d t)`, the radius of the shell of noise of variance `t` > 0 about a point of R^dim."""
    d, t = as_count("dim", dim), _positive("t", t)
    return math.sqrt(d) * t.sqrt()


def shell_moments(dim: int) -> Moments:
    r"""Mean and standard deviation of `|Z|/sqrt(d)`, Z standard normal in R^dim: about `1 - 1/(4 d)` and `1/sqrt(2 d)`.

    The mean is `sqrt(2/d) Gamma((d+1)/2)/Gamma(d/2)`.
    """
    d = as_count("dim", dim)
    if d < 300:
        mean = math.sqrt(2 / d) * math.gamma((d + 1) / 2) / math.gamma(d / 2)
        return Moments(mean, math.sqrt(1 - mean**2))
    # The gamma functions overflow, and 1 - mean^2 cancels; the series of the variance in 1/d does not.
    e = 1 / d
    variance = e / 2 * (1 - e / 4 - e**2 / 8 + 5 * e**3 / 64 + 23 * e**4 / 128)
    return Moments(math.sqrt(1 - variance), math.sqrt(variance))


def typical_ratio(distance: ArrayLike, dim: int, t: ArrayLike) -> Float[Tensor, "*batch"]:
    """`sqrt(1 + D^2/(d t))`: the root of the mean square of `|c + sqrt(t) Z - x_i|/sqrt(d t)`, for `distance` `D = |c - x_i|` >= 0.

    The mean of the ratio is smaller, by `(1 + 2u)/(4 d (1 + u)^2)` of it to the first order in 1/d, `u = D^2/(d t)`.
    """
    d = as_count("dim", dim)
    u = _spread(_distance(distance), _positive("t", t)) / math.sqrt(d)
    return torch.hypot(torch.ones_like(u), u)


def ratio_spread(distance: ArrayLike, dim: int, t: ArrayLike) -> Float[Tensor, "*batch"]:
    """`sqrt((1 + 2u)/(2 d (1 + u)))`, `u = D^2/(d t)`: the standard deviation of the ratio for large d, from 1/sqrt(2d) to 1/sqrt(d)."""
    d = as_count("dim", dim)
    u = (_spread(_distance(distance), _positive("t", t)) / math.sqrt(d)) ** 2
    share = torch.where(u < 1, u / (1 + u), 1 / (1 + 1 / u))  # u may be infinite
    return ((1 + share) / (2 * d)).sqrt()


def ball_probability(distance: ArrayLike, dim: int, t: ArrayLike, delta: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`P(|c + sqrt(t) Z - x_i| <= (1 + delta) sqrt(d t))`, exactly: the point is not beyond the shell of `x_i`.

    A value of the noncentral chi-squared distribution function, `F(d (1 + delta)^2; d, D^2/t)`. Arguments: `distance` D >= 0,
    `t` > 0 and `delta` >= -1, which broadcast. The absolute error is about 1e-13.
    """
    d, root = as_count("dim", dim), _spread(_distance(distance), _positive("t", t))
    radius = math.sqrt(d) * (1 + _delta(delta, at_least=-1.0))
    return torch.from_numpy(length_probability(radius.numpy(), d, root.numpy()))


def shell_probability(distance: ArrayLike, dim: int, t: ArrayLike, delta: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`P(| |c + sqrt(t) Z - x_i|/sqrt(d t) - 1 | <= delta)`, exactly: the noisy version of c is in the shell of `x_i`.

    `distance` `D = |c - x_i|` >= 0; with D = 0 it is the part of the training inputs of `x_i` that its own shell holds. `delta` >= 0.
    """
    width = _delta(delta)
    return (ball_probability(distance, dim, t, width) - ball_probability(distance, dim, t, -width.clamp(max=1.0))).clamp(0.0, 1.0)


def exit_time(distance: ArrayLike, dim: int, delta: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`D^2/(d ((1 + delta)^2 - 1))`: the noise variance at which the typical ratio is `1 + delta`.

    Above it a noisy version of c is more likely than not within the shell's outer sphere, below it beyond, for large dim.
    `distance` D >= 0, `delta` > 0.
    """
    d, width = as_count("dim", dim), _delta(delta, at_least=None)
    return (_distance(distance) / math.sqrt(d)) ** 2 / (width * (2 + width))


def exit_width(dim: int, delta: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`sqrt(2 (1 + 2u)/d)/u`, `u = (1 + delta)^2 - 1`: the standard deviation of log t at which a noisy version of c leaves.

    `ball_probability` at `t = t_exit e^{s width}` is `Phi(s)` for large dim and small width. For a fixed `delta` > 0 it falls like
    dim^(-1/2); for `delta = z/sqrt(2 dim)`, z standard deviations of the shell, it tends to 1/z and does not fall.
    """
    d, width = as_count("dim", dim), _delta(delta, at_least=None)
    u = width * (2 + width)
    return (2 / d * (1 + 2 * u)).sqrt() / u


def meeting_time(distance: ArrayLike, dim: int, delta: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`D^2/(4 d (1 + delta)^2)`: the shells about two points at distance D have a point in common if and only if t is at least that.

    In R^dim with dim >= 2. `delta` >= 0. How many data there are does not enter.
    """
    d, width = as_count("dim", dim, minimum=2), _delta(delta)
    return (_distance(distance) / math.sqrt(d) / (2 * (1 + width))) ** 2


def length_probability(radius: Any, dim: int, shift: Any) -> Float[np.ndarray, "*batch"]:
    """`P(|Z + shift e| <= radius)`, Z standard normal in R^dim, e a unit vector: arrays that broadcast, 0 <= `shift` <= infinity.

    The root of a noncentral chi-squared variable with the parameter `shift^2`. Absolute error about 1e-13; for shifts above 3000 about
    `dim/(6 shift^3)`, as long as the shift is much larger than dim.
    """
    radius, shift = np.broadcast_arrays(np.maximum(radius, 0.0), shift)
    # |Z + shift e| is within |Z| of the shift, and has a normal component along e: beyond these the answer is 0 or 1.
    outside, inside = shift - radius > SURE, radius - shift > SURE + math.sqrt(dim)
    far = shift > FAR
    plain = ~(outside | inside | far)
    value = np.where(inside, 1.0, 0.0)
    value[plain] = special.chndtr(radius[plain] ** 2, float(dim), shift[plain] ** 2)
    bent = far & ~(outside | inside)
    if bent.any():
        # The mean of Phi(sqrt(radius^2 - W) - shift) over W ~ chi^2_{dim-1}, to second order about the mean of W.
        rest, r = dim - 1, radius[bent]
        z = r - shift[bent] - rest / r / (1 + np.sqrt(np.maximum(1 - rest / r / r, 0.0)))
        value[bent] = special.ndtr(z) - rest * z * np.exp(-np.minimum(z**2, 1400) / 2) / math.sqrt(2 * math.pi) / 4 / r / r
    return np.asarray(np.clip(value, 0.0, 1.0))


def _spread(distance: Tensor, t: Tensor) -> Tensor:
    """`D/sqrt(t)`."""
    return distance / t.sqrt()


def _distance(value: ArrayLike) -> Tensor:
    distance = as_tensor("distance", value).double().cpu()
    if not bool((distance >= 0).all()):
        raise reject("distance", value, "a distance >= 0")
    return distance


def _positive(name: str, value: ArrayLike) -> Tensor:
    number = as_tensor(name, value).double().cpu()
    if not bool((number > 0).all()):
        raise reject(name, value, "a number > 0")
    return number


def _delta(value: ArrayLike, at_least: float | None = 0.0) -> Tensor:
    """Half the relative width of a shell; `at_least` None asks for more than 0."""
    delta = as_tensor("delta", value).double().cpu()
    if at_least is None and not bool((delta > 0).all()):
        raise reject("delta", value, "a relative half-width > 0")
    if at_least is not None and not bool((delta >= at_least).all()):
        raise reject("delta", value, f"a relative half-width >= {at_least:g}")
    return delta
