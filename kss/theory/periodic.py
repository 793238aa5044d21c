r"""Empirical laws on a periodic box, blurred exactly: the laboratory in which the spectral statements can be measured.

For data `x_1..x_N` on the box with sides L (see `kss.theory.spectral`), `p_t^N(x) = (1/N) sum_i W_t(x - x_i)`. On a grid that resolves the
noise its modes give it at once::

    vol p_t^N(x) = sum_xi e^{-|xi|^2 t/2} ((1/N) sum_i e^{-i xi.x_i}) e^{i xi.x},

to rounding of its largest value; where it is far below that, or where the grid is too coarse, `log p_t^N` is a sum over data and images in
log space. The logarithm is not linear: `log(1 + delta) = delta - delta^2/2 + ...`, with every order in `delta = p_t^N/p_t - 1` feeding
modes that the order below lacks. `expansion` has its spectrum through the fourth.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.theory.spectral import as_lengths, excess_trace, grid, log_heat_kernel

INVISIBLE = 39.0
"""Modes with `|xi|^2 t/2` beyond are left out: exp(-39) = 1e-17."""
FAINT = 1e-4
"""Where the density is below this share of its largest value, its logarithm is computed anew in log space: the sum of modes has 1e-16
of it."""


class PeriodicSample:
    """Data on a periodic box; `points` (N, k), or (batch, N, k) for many data sets at once, with k = 1 or 2; `lengths` (k,).

    Points outside the box are brought into it by the period.

    >>> PeriodicSample([[0.25], [0.75]], lengths=1.0).log_density(t=1e-4, nodes=4)
    tensor([-308.8138,    2.9931, -308.8138,    2.9931], dtype=torch.float64)
    """

    def __init__(self, points: ArrayLike, lengths: ArrayLike) -> None:
        self.lengths = as_lengths(lengths)
        data = as_tensor("points", points).detach().double()
        k = len(self.lengths)
        if k > 2:
            raise reject("lengths", lengths, "one or two sides")
        if data.ndim not in (2, 3) or data.shape[-1] != k or data.numel() == 0:
            raise reject("points", points, f"a non-empty array of shape (N, {k}) or (batch, N, {k})")
        self.points = data

    @property
    def volume(self) -> float:
        """The product of the sides."""
        return math.prod(self.lengths.tolist())

    def modes(self, most: list[int]) -> Complex[Tensor, "*modes"]:
        """`(1/N) sum_i e^{-i xi.x_i}` for `|n_j| <= most[j]`: shape `(*batch, 2 most[0] + 1, ...)`, n from -most up."""
        tables = []
        for j, side in enumerate(self.lengths.tolist()):
            n = torch.arange(as_count("most", most[j], minimum=0) + 1, dtype=torch.float64)
            phase = -2 * math.pi / side * self.points[..., j : j + 1] * n
            half = torch.complex(phase.cos(), phase.sin())
            tables.append(torch.cat((half[..., 1:].conj().flip(-1), half), -1))
        if len(tables) == 1:
            return tables[0].mean(-2)
        return tables[0].transpose(-1, -2) @ tables[1] / self.points.shape[-2]

    def log_density(self, t: float, nodes: int) -> Float[Tensor, "*values"]:
        """`log p_t^N` on `kss.theory.spectral.grid(lengths, nodes)`: shape `(*batch, nodes)` or `(*batch, nodes, nodes)`."""
        t, nodes, k = as_positive("t", t), as_count("nodes", nodes), len(self.lengths)
        most = [math.ceil(side / (2 * math.pi) * math.sqrt(2 * INVISIBLE / t)) for side in self.lengths.tolist()]
        batch, axes = self.points.shape[:-2], tuple(range(-k, 0))
        shape = (*batch, *[nodes] * k)
        if 2 * max(most) < nodes:
            spectrum = self.modes(most)
            for axis, (bound, side) in enumerate(zip(most, self.lengths.tolist(), strict=True)):
                xi = 2 * math.pi / side * torch.arange(-bound, bound + 1, dtype=torch.float64)
                spectrum = spectrum * torch.exp(-(xi**2) * t / 2).reshape(-1, *[1] * (k - 1 - axis))
            padded = torch.zeros(shape, dtype=torch.complex128)
            corner: Any = (..., *[slice(2 * bound + 1) for bound in most])
            padded[corner] = spectrum
            padded = torch.roll(padded, [-bound for bound in most], axes)
            relative = torch.fft.ifftn(padded, dim=axes).real * nodes**k
            faint = relative < FAINT * relative.amax(axes, keepdim=True)
            values = torch.log(relative.clamp_min(torch.finfo(torch.float64).tiny)) - math.log(self.volume)
        else:
            faint, values = torch.ones(shape, dtype=torch.bool), torch.empty(shape, dtype=torch.float64)
        if bool(faint.any()):
            places = grid(self.lengths, nodes)
            flat = self.points.reshape(-1, *self.points.shape[-2:])
            for data, where, row in zip(
                flat, faint.reshape(len(flat), *shape[len(batch) :]), values.view(len(flat), *shape[len(batch) :]), strict=True
            ):
                row[where] = self._in_log_space(data, places[where], t)
        return values

    def _in_log_space(self, data: Float[Tensor, "N k"], x: Float[Tensor, "m k"], t: float) -> Float[Tensor, " m"]:
        block = max(1, 2**17 // len(data))  # with the images, some ten megabytes at a time
        parts = [torch.logsumexp(log_heat_kernel(part[:, None] - data, t, self.lengths), -1) for part in x.split(block)]
        return torch.cat(parts) - math.log(len(data)) if parts else x.new_empty(0)


def coefficients(values: Float[Tensor, "*values"], k: int) -> Complex[Tensor, "*values"]:
    """`(1/vol) int f e^{-i xi.x} dx` by the sum over the grid, its last k axes; in the order of `kss.theory.spectral.wave_vectors`."""
    return torch.fft.fftn(values, dim=tuple(range(-k, 0)), norm="forward")


def filtered(values: Float[Tensor, "*values"], transfer: Float[Tensor, "*nodes"]) -> Float[Tensor, "*values"]:
    """`K * f` on the grid, the modes of f times the transfer function `K_xi = K_{-xi}`, given on all wave vectors of the grid."""
    axes = tuple(range(-transfer.ndim, 0))
    return torch.fft.ifftn(torch.fft.fftn(values, dim=axes) * transfer, dim=axes).real


def gradient(values: Float[Tensor, "*values"], lengths: ArrayLike) -> Float[Tensor, "*values k"]:
    """The gradient of the trigonometric polynomial through the values: of `log_density`, the score on a grid that resolves it."""
    sides = as_lengths(lengths)
    k, nodes = len(sides), values.shape[-1]
    axes = tuple(range(-k, 0))
    waves = torch.fft.fftfreq(nodes, 1 / nodes, dtype=torch.float64)
    waves = torch.where(2 * waves == -nodes, 0.0, waves)  # the mode at the end has no direction
    spectrum = torch.fft.fftn(values, dim=axes)
    parts = []
    for axis, side in enumerate(sides.tolist()):
        factor = (2 * math.pi / side * waves).reshape(-1, *[1] * (k - 1 - axis))
        parts.append(torch.fft.ifftn(1j * factor * spectrum, dim=axes).real)
    return torch.stack(parts, -1)


class Expansion(NamedTuple):
    """Expectations through the fourth order in `delta`, for N uniform data."""

    spectrum: Float[Tensor, "*nodes"]
    """`E|a_xi|^2` of `log p_t^N - log p_t`, xi in the order of `kss.theory.spectral.wave_vectors`; 0 at xi = 0."""
    kl: float
    """`E KL(p_t || p_t^N)`."""


def expansion(t: float, lengths: ArrayLike, count: int, nodes: int) -> Expansion:
    r"""Noise of the logarithm for N uniform data, by the moments of `delta`; the grid has to resolve the heat kernel's cube.

    With `w = vol W_t - 1` (one datum) and `u = vol W_{2t} - 1` (`u/N` is the covariance of `delta`), the averages over the box in `<>` and
    modes as subscripts,

        E|a_xi|^2 = u_xi/N - w_xi (w^2)_xi/N^2 + [2 (N-1) (u^2)_xi + (w^2)_xi^2]/4N^3 + 2 [3 (N-1) u_xi u(0) + w_xi (w^3)_xi]/3N^3,
        E KL      = u(0)/2N - <w^3>/3N^2 + [3 (N-1) u(0)^2 + <w^4>]/4N^3.
    """
    sides, n = as_lengths(lengths), float(as_count("count", count))  # not an int: N^3 may exceed what a tensor takes
    k, volume = len(sides), math.prod(sides.tolist())
    places = grid(sides, nodes)
    w = volume * log_heat_kernel(places, as_positive("t", t), sides).exp() - 1
    u = volume * log_heat_kernel(places, 2 * t, sides).exp() - 1
    w1, w2, w3, u1, u2 = (coefficients(f, k).real for f in (w, w**2, w**3, u, u**2))
    top = excess_trace(t, sides)
    spectrum = u1 / n - w1 * w2 / n**2 + (2 * (n - 1) * u2 + w2**2) / (4 * n**3) + 2 * (3 * (n - 1) * u1 * top + w1 * w3) / (3 * n**3)
    spectrum[(0,) * k] = 0.0
    kl = top / (2 * n) - float((w**3).mean()) / (3 * n**2) + (3 * (n - 1) * top**2 + float((w**4).mean())) / (4 * n**3)
    return Expansion(spectrum, kl)


def exact_kl(t: float, lengths: ArrayLike, count: int) -> float:
    r"""`E KL(p_t || p_t^N)` for N uniform data on a box with one or two sides, at every N: one integral over the box inside another.

    By Frullani's `E log S = int_0^inf (e^{-s} - E e^{-sS}) ds/s` for `S = vol p_t^N(x)`, a mean of N independent variables at every x,

        E KL = -int_0^inf (e^{-s} - phi(s/N)^N) ds/s,    phi(s) = (1/vol) int e^{-s vol W_t(x)} dx.

    The integrands are analytic and periodic in x, and vanish at both ends of `log s`: the sums below err by 1e-12 or so, absolutely.
    The cost
    grows like `(L^2/t)^{k+1}`: a second at `t = 1e-4 L^2` for k = 1, half of one at `t = 0.004 L^2` for k = 2.

    >>> round(exact_kl(t=0.01, lengths=1.0, count=100), 6), round(excess_trace(0.01, 1.0) / 200, 6)  # and its first order
    (0.009268, 0.009105)
    """
    sides, n, t = as_lengths(lengths), as_count("count", count), as_positive("t", t)
    if len(sides) > 2:
        raise reject("lengths", lengths, "one or two sides")
    # The kernel falls by a factor e in a step of at least 2t/L; three nodes for each, on one half of every axis: exp(-3 pi^2).
    nodes = [max(32, math.ceil(0.75 * side**2 / t)) for side in sides.tolist()]
    axes = [side * (torch.arange(m, dtype=torch.float64) + 0.5) / (2 * m) for side, m in zip(sides.tolist(), nodes, strict=True)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(sides))
    level = log_heat_kernel(places, t, sides) + math.log(math.prod(sides.tolist()))
    step = 0.25  # e^{-e^v} is analytic for |Im v| < pi/2: the trapezoid rule errs by exp(-pi^2/step)
    v = torch.arange(-40.0, max(0.0, -float(level.min())) + math.log(n) + 6, step, dtype=torch.float64)
    total = 0.0
    for part in v.split(max(1, 2**20 // len(level))):
        # log phi from phi - 1, to rounding: a power N of phi itself would lose log10 N digits.
        log_phi = torch.log1p(torch.expm1(-torch.exp((part - math.log(n)).unsqueeze(-1) + level)).mean(-1))
        total += float((torch.exp(-torch.exp(part)) - torch.exp(n * log_phi)).sum())
    return -step * total
