r"""Two data points and a smoothing window: when the flow fills the gap, and when it does not.

The data are `-a` and `a` on the line, the denoiser is `m_t(x) = a tanh(a x/t)`, and as `t -> 0` it is `a sign(x)`. A window averages it:

    box of half-width w     m~(x) = a clip(x/w, -1, 1)              (t -> 0)
    Gaussian of variance h  m~(x) = a erf(x/sqrt(2 h))              (t -> 0)

and the probability flow of the averaged score is, in the logarithm of the noise variance t,

    dx/d(log t) = (x - m~(x))/2.

For a box the right-hand side is linear on each side of `|x| = w`, so the flow is known in closed form, whether the window is fixed or
shrinks with t. For a Gaussian its rest points solve `x = a erf(x/sqrt(2 h))`, and branch at `h = 2 a^2/pi`.
(The setting of two points and a window that opens like `sqrt t` is that of Chen, arXiv 2502.19499; the formulas are derived here.)

In more dimensions the same holds along the axis through the two points; across it every averaged score is `-(distance)/t`.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, as_positive, as_tensor, reject

SOLVED = 200
"""Halvings of [0, 1]: more than double precision can tell apart."""


def box_denoiser(x: ArrayLike, w: ArrayLike, t: ArrayLike = 0.0, a: float = 1.0) -> Float[Tensor, "*batch"]:
    r"""The mean of `a tanh(a u/t)` over `[x - w, x + w]`; for t = 0 its limit `a clip(x/w, -1, 1)`, for w = 0 no mean.

    `(t/2w) log[cosh(a (x + w)/t)/cosh(a (x - w)/t)]`, within `t log 2/(2w)` of the limit. Lengths `x`, `w >= 0`, variance `t >= 0`;
    broadcast.

    >>> box_denoiser([0.5, 2.0], w=1.0), box_denoiser([0.5, 2.0], w=1.0, t=0.2)
    (tensor([0.5000, 1.0000], dtype=torch.float64), tensor([0.4993, 1.0000], dtype=torch.float64))
    """
    place, width, noise = (as_tensor(name, value).double() for name, value in (("x", x), ("w", w), ("t", t)))
    for name, value, given in (("w", width, w), ("t", noise, t)):
        if bool((value < 0).any()):
            raise reject(name, given, "a number >= 0")
    a = as_positive("a", a)
    place, width, noise = torch.broadcast_tensors(place, width, noise)
    away, positive = place.abs(), noise > 0
    u = torch.where(positive, noise, 1.0) / a  # the length over which tanh turns
    small = torch.minimum(away, width) < u
    # Where one of the two is short the hyperbolic tangents keep their digits, elsewhere the exponentials.
    turned = torch.atanh(torch.tanh(away / u) * torch.where(small, torch.tanh(width / u), 0.0))
    by_tangents = turned / torch.where(width > 0, width / u, 1.0)
    ends = torch.log1p(torch.exp(-2 * (away + width) / u)) - torch.log1p(torch.exp(-2 * (away - width).abs() / u))
    scale = torch.where(width > 0, width, 1.0)
    by_exponentials = torch.minimum(away, width) / scale + ends * u / (2 * scale)
    mean = torch.where(small, by_tangents, by_exponentials)
    limit = torch.where(width > 0, torch.minimum(away, width) / scale, (away > 0).double())
    narrow = width / u < 1e-150  # the mean is the value
    mean = torch.where(narrow, torch.tanh(away / u), mean)
    return a * torch.sign(place) * torch.where(positive, mean, limit)


def window_exponent(w: Any, a: Any = 1.0) -> Any:
    """`(1 - a/w)/2`: inside a fixed window of half-width w the flow is `x ~ t^this`. Arithmetic only: numbers, tensors or symbols."""
    return (1 - a / w) / 2


def fixed_window_flow(x: ArrayLike, t: float, s: float, w: float, a: float = 1.0) -> Float[Tensor, "*batch"]:
    """Where the flow with a fixed box of half-width w > 0 carries `x` from the noise variance t down to s, `0 <= s <= t`.

    In the limit `m = a sign(x)`: inside the box `x ~ t^{(1 - a/w)/2}`, outside `|x| - a ~ sqrt t`. For s = 0 the end point: +-a for w < a
    (0 stays), x for w = a and `|x| <= a`, 0 for w > a.

    >>> fixed_window_flow([0.25, 3.0], t=1.0, s=0.0, w=0.5), fixed_window_flow([0.25, 3.0], t=1.0, s=1e-4, w=2.0)
    (tensor([1., 1.], dtype=torch.float64), tensor([0.0250, 0.2828], dtype=torch.float64))
    """
    place = as_tensor("x", x).double()
    t, s = _times(t, s)
    w, a = as_positive("w", w), as_positive("a", a)
    away, power = place.abs(), window_exponent(w, a)
    start = torch.where(away > 0, away, 1.0)
    left = math.log(s) - math.log(t) if s > 0 else -math.inf  # log(s/t); the ratios below can be too small for a number
    if w < a:  # from inside, the rim is reached when log(s/t) has fallen to log(w/|x|)/power, and then left outwards
        exit_at = torch.where(away < w, torch.log(w / start) / power, 0.0)
        inside = start * torch.exp(torch.as_tensor(power * left, dtype=torch.float64))
        outside = a + (torch.clamp(away, min=w) - a) * torch.exp((left - exit_at).clamp(max=0.0) / 2)
        moved = torch.where((away < w) & (left >= exit_at), inside, outside)
    else:  # from outside, the rim is reached when |x| - a has fallen to w - a, and then left inwards
        beyond = away > w
        entry_at = torch.where(beyond, 2 * torch.log((w - a) / torch.where(beyond, away - a, 1.0)), 0.0)
        outside = a + (away - a) * math.exp(left / 2)
        inside = torch.clamp(away, max=w) * (torch.exp(power * (left - entry_at).clamp(max=0.0)) if power > 0 else 1.0)
        moved = torch.where(beyond & (left >= entry_at), outside, inside)
    return torch.sign(place) * torch.where(away > 0, moved, 0.0)


def opening_window_flow(x: ArrayLike, t: float, s: float, kappa: float, a: float = 1.0, beta: float = 0.5) -> Float[Tensor, "*batch"]:
    r"""The same for a box that opens to the half-distance as t falls: half-width `w_t = a - kappa t^beta`, `kappa >= 0`, `beta > 0`.

    Inside the box `x ~ w_t^{1/(2 beta)}`, outside `|x| - a ~ sqrt t`. For `beta = 1/2` the rim is a path of the flow, and

        x_0 = x_t a/w_t   if |x_t| <= w_t,   else +-a.

    For `beta < 1/2` some paths that start inside leave, and end at +-a; for `beta > 1/2` all that start with `|x| < a` end inside.
    `ValueError` unless `w_t > 0`.

    >>> opening_window_flow([0.2, 0.4, 0.9], t=0.25, s=0.0, kappa=1.0)
    tensor([0.4000, 0.8000, 1.0000], dtype=torch.float64)
    """
    place = as_tensor("x", x).double()
    t, s = _times(t, s)
    a, beta = as_positive("a", a), as_positive("beta", beta)
    start_width, end_width = _opening_width(t, kappa, a, beta), _opening_width(s, kappa, a, beta)
    away, power, tuned = place.abs(), 1 / (2 * beta), beta == 0.5
    # From inside: x_s = c (w_s/a)^power, as long as it is at most w_s.
    c = away * (a / start_width) ** power
    inside = c * (end_width / a) ** power
    if beta < 0.5:
        rim = a * (torch.clamp(c, min=a) / a) ** (1 / (1 - power))
        exit_time = ((a - rim) / max(kappa, 1e-300)) ** (1 / beta) if kappa > 0 else torch.zeros_like(rim)
        leaves = (c > a) & (s < exit_time)
        ratio = torch.where(leaves, s / torch.where(exit_time > 0, exit_time, 1.0), 1.0)
        inside = torch.where(leaves, a + (rim - a) * ratio.sqrt(), inside)
    # From outside: x_s = a + (x - a) sqrt(s/t), until the rim catches up.
    outside = a + (away - a) * math.sqrt(s / t)
    if beta > 0.5 and kappa > 0:
        slope = (a - away).clamp(min=0.0) / math.sqrt(t)
        entry_time = (slope / kappa) ** (1 / (beta - 0.5))
        rim = a - kappa * entry_time**beta
        caught = (slope > 0) & (s < entry_time)
        outside = torch.where(caught, rim * (end_width / torch.where(caught, rim, a)) ** power, outside)
    within = (away <= start_width) if not tuned else (away <= start_width * (1 + 4 * torch.finfo(torch.float64).eps))
    return torch.sign(place) * torch.where(within, inside, outside)


def limit_path_error(t: float, s: float, kappa: float, a: float = 1.0) -> float:
    """`(log 2/4) w_s int_s^t du/w_u^2`, `w_u = a - kappa sqrt u`: by how much paths of the exact score may differ from
    `opening_window_flow`.

    Both start at the same place at t, and end at s; beta = 1/2. At most `a (t - s) log 2/(4 w_t^2)`.

    >>> round(limit_path_error(0.01, 0.0, 0.3), 6)
    0.001805
    """
    t, s = _times(t, s)
    a = as_positive("a", a)
    closed, wide = _opening_width(t, kappa, a, 0.5), _opening_width(s, kappa, a, 0.5)
    # With u = r^2 and w = w_t e^y the integral is 2 int expm1(y) dy/kappa^2 + 2 sqrt(s) (sqrt t - sqrt s)/(w_t w_s).
    low, high = math.sqrt(s), math.sqrt(t)
    opened = math.log1p(kappa * (high - low) / closed)
    node, weight = special.roots_legendre(60)
    share = (1 + node) / 2
    growth = special.expm1(opened * share) / opened if opened > 0 else share
    ratio = opened / kappa if opened > 0 else (high - low) / closed
    integral = ratio**2 * float(weight @ growth) + 2 * low * (high - low) / (closed * wide)
    return math.log(2) / 4 * wide * integral


def atom_mass(t: ArrayLike, kappa: float, a: float = 1.0) -> Float[Tensor, "*batch"]:
    """The probability with which the flow of `opening_window_flow` (beta = 1/2), started from the noisy law of the two points at t, ends
    at +a.

    `P(X_t > w_t)` with `X_t ~ (N(-a, t) + N(a, t))/2`; the other half of the copies end at -a.
    """
    root = _start(t, kappa, a)
    return (torch.special.ndtr(torch.as_tensor(float(kappa), dtype=torch.float64)) + torch.special.ndtr(kappa - 2 * a / root)) / 2


def filled_log_density(x: ArrayLike, t: ArrayLike, kappa: float, a: float = 1.0) -> Float[Tensor, "*batch"]:
    """`log[(w_t/a) p_t(w_t x/a)]` on (-a, a), and minus infinity elsewhere: what the same flow puts between the points, besides the atoms.

    Its integral is `1 - 2 atom_mass(t, kappa, a)`.
    """
    place = as_tensor("x", x).double()
    root = _start(t, kappa, a)
    # (w x/a -+ a)/sqrt t, without the subtraction of a from w = a - kappa sqrt t.
    pieces = torch.stack([-(((place - center) / root - kappa * place / a) ** 2) / 2 for center in (-a, a)])
    value = torch.logsumexp(pieces, 0) - math.log(2.0) - 0.5 * math.log(2 * math.pi) - root.log() + torch.log1p(-kappa * root / a)
    return torch.where(place.abs() < a, value, -torch.inf)


def gaussian_denoiser(x: ArrayLike, h: ArrayLike, a: float = 1.0) -> Float[Tensor, "*batch"]:
    """`a erf(x/sqrt(2h))`: the mean of `a sign(x + sqrt(h) Z)`; for h = 0 no mean.

    >>> gaussian_denoiser(1.0, h=1.0)
    tensor(0.6827, dtype=torch.float64)
    """
    place, variance = as_tensor("x", x).double(), _variance(h)
    scaled = place / torch.where(variance > 0, (2 * variance).sqrt(), 1.0)
    return as_positive("a", a) * torch.where(variance > 0, torch.erf(scaled), torch.sign(place))


def critical_bandwidth(a: Any = 1.0) -> Any:
    """`2 a^2/pi`: the variance of a Gaussian window at which the two rest points merge. Arithmetic only."""
    return 2 * a**2 / math.pi


def rest_point(h: ArrayLike, a: float = 1.0) -> Float[Tensor, "*batch"]:
    """The largest `x >= 0` with `x = a erf(x/sqrt(2h))`: positive for `h < 2 a^2/pi`, 0 from there on, a for h = 0.

    Together with its mirror image this is where the flow ends as t -> 0 (from every start but 0).

    >>> rest_point([0.0, 0.3, 0.63, 0.7])
    tensor([1.0000, 0.8994, 0.1407, 0.0000], dtype=torch.float64)
    """
    variance, a = _variance(h), as_positive("a", a)
    scale = a / torch.where(variance > 0, (2 * variance).sqrt(), 1.0)
    low, high = torch.zeros_like(scale), torch.ones_like(scale)
    for _ in range(SOLVED):
        middle = (low + high) / 2
        above = torch.erf(scale * middle) > middle
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    found = torch.where(variance < critical_bandwidth(a), low, 0.0)
    return a * torch.where((variance > 0) & (torch.erf(scale) < 1), found, 1.0)


def growth_rate(x: ArrayLike, h: ArrayLike, a: float = 1.0) -> Float[Tensor, "*batch"]:
    """`(m~'(x) - 1)/2` for the Gaussian window: a small offset from a rest point x grows like `t^{-this}` as t falls.

    Negative at a stable rest point, positive at an unstable one, 0 for the middle at the critical bandwidth. `h > 0`.
    """
    place, variance = as_tensor("x", x).double(), _variance(h)
    if bool((variance == 0).any()):
        raise reject("h", h, "a variance > 0")
    slope = as_positive("a", a) * torch.exp(-(place**2) / (2 * variance)) * (2 / (math.pi * variance)).sqrt()
    return (slope - 1) / 2


def branch_square(h: Any, a: Any = 1.0) -> Any:
    """`3 (h_c - h) - (9/10)(h_c - h)^2/h_c`: the square of `rest_point` just below `h_c = 2 a^2/pi`. Arithmetic only."""
    below = critical_bandwidth(a) - h
    return 3 * below - 9 * below**2 / (10 * critical_bandwidth(a))


def merging_bandwidth(t: ArrayLike, a: float = 1.0) -> Float[Tensor, "*batch"]:
    """The variance h of a Gaussian window at which the two modes of the LED-KDE of the points `-a`, `a` merge, at the noise variance t.

    It solves `E sech^2(a sqrt(h) Z/t) = t/a^2`. It falls from `2 a^2/pi` at t = 0 (given for t = 0) to 0 at `t = a^2`, where the two
    blurred points merge by themselves; 0 beyond.

    >>> merging_bandwidth([0.0, 0.5, 0.9, 1.0])
    tensor([0.6366, 0.4470, 0.0994, 0.0000], dtype=torch.float64)
    """
    noise, a = as_tensor("t", t).double(), as_positive("a", a)
    if bool((noise < 0).any()):
        raise reject("t", t, "a noise variance t >= 0")
    scaled = noise / a**2  # with lengths in units of a
    two = (scaled > 0) & (scaled < 1)
    u = torch.where(two, scaled, 0.5)
    low, high = torch.zeros_like(u), torch.full_like(u, critical_bandwidth())
    for _ in range(64):
        middle = (low + high) / 2
        c = middle.sqrt() / u
        above = _mean_square_sech(c) > c.clamp(min=1.0) * u
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    found = torch.where(two, (low + high) / 2, critical_bandwidth() * (scaled == 0).double())
    return a**2 * found


def _mean_square_sech(c: Tensor) -> Tensor:
    """`max(c, 1) E sech^2(c Z)`: trapezoidal sums, in Z where c < 1 and in c Z elsewhere; both are exact to rounding."""
    z = torch.linspace(-9, 9, 361, dtype=torch.float64)
    v = torch.linspace(-20, 20, 801, dtype=torch.float64)
    c = c.unsqueeze(-1)
    wide, narrow = c.clamp(min=1.0), c.clamp(max=1.0)
    by_z = (torch.exp(-(z**2) / 2) / torch.cosh(narrow * z) ** 2).sum(-1) * 0.05
    by_v = (torch.exp(-((v / wide) ** 2) / 2) / torch.cosh(v) ** 2).sum(-1) * 0.05
    return torch.where(c.squeeze(-1) < 1, by_z, by_v) / math.sqrt(2 * math.pi)


def _times(t: float, s: float) -> tuple[float, float]:
    """A noise variance t > 0 and an earlier one, `0 <= s <= t`."""
    t, last = as_positive("t", t), float(as_tensor("s", s))
    if not 0 <= last <= t:
        raise reject("s", s, f"a noise variance between 0 and t = {t}")
    return t, last


def _opening_width(t: float, kappa: float, a: float, beta: float) -> float:
    rate = float(as_tensor("kappa", kappa))
    opened = float(torch.as_tensor(t, dtype=torch.float64) ** beta)  # infinite where it is too large
    width = a - (rate * opened if rate > 0 else 0.0)
    if rate < 0 or width <= 0:
        raise reject("kappa", kappa, f"a number >= 0 with kappa t^beta < a, here below {a / opened:.6g}")
    return width


def _start(t: ArrayLike, kappa: float, a: float) -> Tensor:
    """The root of the noise variance, if the window is open."""
    noise, a, rate = as_tensor("t", t).double(), as_positive("a", a), float(as_tensor("kappa", kappa))
    if bool((noise <= 0).any()):
        raise reject("t", t, "a noise variance t > 0")
    root = noise.sqrt()
    if rate < 0 or bool((rate * root >= a).any()):
        raise reject("kappa", kappa, "a number >= 0 with kappa sqrt(t) < a")
    return root


def _variance(h: ArrayLike) -> Tensor:
    variance = as_tensor("h", h).double()
    if bool((variance < 0).any()):
        raise reject("h", h, "a variance >= 0")
    return variance
