r"""The periodic box, where smoothing a score multiplies its Fourier modes.

The box is `[0, L_1) x ... x [0, L_k)` with opposite sides glued together. A function on it is a sum of modes::

    f(x) = sum_xi f_xi e^{i xi.x},    f_xi = (1/vol) int f(x) e^{-i xi.x} dx,    xi_j = 2 pi n_j/L_j,

and the density of noise of variance t, the wrapped heat kernel, has two forms (Poisson summation; at x = 0 Jacobi's identity)::

    W_t(x) = sum_m G_t(x + m L) = (1/vol) sum_xi e^{-|xi|^2 t/2} e^{i xi.x}.

For N independent uniform data, `p_t^N/p_t - 1` has the modes `a_xi = e^{-|xi|^2 t/2} (1/N) sum_i e^{-i xi.x_i}`, so that::

    E|a_xi|^2 = e^{-|xi|^2 t}/N,    E KL(p_t || p_t^N) = (1/2N) sum_{xi != 0} e^{-|xi|^2 t} + O(1/N^2),

and a kernel K multiplies `a_xi` by `K_xi = int K(v) e^{-i xi.v} dv`, its transfer function. For a law with modes `c_xi` (of `vol p_*`)
the mode of `vol p_t^N`, filtered, misses that of `vol p_t` by `e^{-|xi|^2 t} [ |1 - K_xi|^2 |c_xi|^2 + |K_xi|^2 (1 - |c_xi|^2)/N ]` in
mean square. The noise variance t is a common factor: the best K does not depend on it.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject

TERMS = 4
"""Terms on either side. Images serve for `2 pi t <= L^2` and modes beyond: what is left out is below exp(-16 pi) = 2e-22 of the rest."""


# --- The box --------------------------------------------------------------------------------------------------------------


def as_lengths(lengths: ArrayLike) -> Float[Tensor, " k"]:
    """The sides of a box, `(k,)`, each > 0; a number is the length of a circle."""
    sides = as_tensor("lengths", lengths).detach().double().reshape(-1)
    if len(sides) == 0 or not bool((sides > 0).all()):
        raise reject("lengths", lengths, "sides > 0")
    return sides


def grid(lengths: ArrayLike, nodes: int) -> Float[Tensor, "*nodes k"]:
    """`(nodes, ..., nodes, k)`: the points `(j_1 L_1/nodes, ..., j_k L_k/nodes)`, j from 0."""
    sides, nodes = as_lengths(lengths), as_count("nodes", nodes)
    axes = [side * torch.arange(nodes, dtype=torch.float64) / nodes for side in sides.tolist()]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def wave_vectors(lengths: ArrayLike, nodes: int) -> Float[Tensor, "*nodes k"]:
    """`(nodes, ..., nodes, k)`: `2 pi n/L` in the order of `torch.fft.fftn`, zero first."""
    sides, nodes = as_lengths(lengths), as_count("nodes", nodes)
    axes = [2 * math.pi / side * torch.fft.fftfreq(nodes, 1 / nodes, dtype=torch.float64) for side in sides.tolist()]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


# --- The heat kernel ------------------------------------------------------------------------------------------------------


def image_sum(x: ArrayLike, t: float, length: float, terms: int = TERMS) -> Tensor:
    """`sum_{|m| <= terms} G_t(x + m L)` on a circle of the given length, x (...) brought to [-L/2, L/2] first: good for small t."""
    return torch.logsumexp(_log_images(_nearest(as_tensor("x", x).double(), length), as_positive("t", t), length, terms), -1).exp()


def mode_sum(x: ArrayLike, t: float, length: float, terms: int = TERMS) -> Tensor:
    """`(1/L) sum_{|n| <= terms} e^{-xi^2 t/2} e^{i xi x}`, xi = 2 pi n/L, on a circle of the given length, x (...): good for large t."""
    phase = 2 * math.pi / as_positive("length", length) * as_tensor("x", x).double()
    n = torch.arange(1, as_count("terms", terms, minimum=0) + 1, dtype=torch.float64, device=phase.device)
    damping = torch.exp(-((2 * math.pi / length * n) ** 2) * as_positive("t", t) / 2)
    return (1 + 2 * (damping * torch.cos(phase.unsqueeze(-1) * n)).sum(-1)) / length


def log_heat_kernel(x: ArrayLike, t: float, lengths: ArrayLike) -> Float[Tensor, "*batch"]:
    """`log W_t(x)`, x (..., k), to rounding at every t > 0: images where t is small beside L^2, modes where it is not.

    >>> log_heat_kernel([[0.5]], t=1e-6, lengths=1.0)  # far below the smallest float64
    tensor([-124993.3180], dtype=torch.float64)
    """
    sides, offsets, t = as_lengths(lengths), as_tensor("x", x).double(), as_positive("t", t)
    if offsets.ndim == 0 or offsets.shape[-1] != len(sides):
        raise reject("x", x, f"points of shape (..., {len(sides)})")
    total = torch.zeros_like(offsets[..., 0])
    for j, side in enumerate(sides.tolist()):
        if 2 * math.pi * t <= side**2:
            total = total + torch.logsumexp(_log_images(_nearest(offsets[..., j], side), t, side, TERMS), -1)
        else:
            total = total + mode_sum(offsets[..., j], t, side).log()
    return total


def _nearest(x: Tensor, length: float) -> Tensor:
    return x - as_positive("length", length) * torch.round(x / length)


def _log_images(x: Tensor, t: float, length: float, terms: int) -> Tensor:
    """The logarithms of the terms of the image sum, on a new last axis."""
    m = torch.arange(-as_count("terms", terms, minimum=0), terms + 1, dtype=torch.float64, device=x.device)
    return -((x.unsqueeze(-1) + length * m) ** 2) / (2 * t) - math.log(2 * math.pi * t) / 2


def excess_trace(t: float, lengths: ArrayLike) -> float:
    """`sum_{xi != 0} e^{-|xi|^2 t} = vol W_{2t}(0) - 1`: the heat trace without its zero mode, to rounding however small it is."""
    t, log_trace = as_positive("t", t), 0.0
    for side in as_lengths(lengths).tolist():
        if 4 * math.pi * t <= side**2:
            tail = 2 * sum(math.exp(-((m * side) ** 2) / (4 * t)) for m in range(1, TERMS + 1))
            log_trace += math.log(side**2 / (4 * math.pi * t)) / 2 + math.log1p(tail)
        else:
            log_trace += math.log1p(2 * sum(math.exp(-((2 * math.pi * n / side) ** 2) * t) for n in range(1, TERMS + 1)))
    return math.expm1(log_trace) if log_trace < 709 else math.inf


# --- Noise ----------------------------------------------------------------------------------------------------------------


def gaussian_transfer(wave_vector: ArrayLike, h: float) -> Float[Tensor, "*batch"]:
    """`e^{-|xi|^2 h/2}`, wave vectors (..., k): what smoothing with `G_h`, or waiting for a time h, does to a mode; squared, to its
    power.
    """
    xi, width = as_tensor("wave_vector", wave_vector).double(), as_tensor("h", h)
    if width.ndim > 0 or float(width) < 0:
        raise reject("h", h, "a number >= 0")
    return torch.exp(-(xi**2).sum(-1) * float(width) / 2)


def noise_spectrum(wave_vector: ArrayLike, t: float, count: int) -> Float[Tensor, "*batch"]:
    """`e^{-|xi|^2 t}/N`, and 0 at xi = 0: `E|a_xi|^2` of `p_t^N/p_t - 1` for N uniform data; wave vectors (..., k)."""
    xi = as_tensor("wave_vector", wave_vector).double()
    power = gaussian_transfer(xi, as_positive("t", t)) ** 2 / as_count("count", count)
    return torch.where((xi == 0).all(-1), 0.0, power)


def log_noise_correction(square: float, t: float, volume: float, k: int) -> float:
    """`r_xi` in `E|a_xi|^2 = (e^{-|xi|^2 t}/N) (1 + r_xi/N + ...)` for the modes of `log p_t^N - log p_t`; `square` is `|xi|^2 > 0`.

    `vol (4 pi t)^{-k/2} [2 - e^{|xi|^2 t/4} + 2^{-1-k/2} e^{|xi|^2 t/2}] - 1`, for t small beside L^2: up to `e^{-L^2/8t}`.
    """
    local = volume / (4 * math.pi * t) ** (k / 2)
    return local * (2 - math.exp(square * t / 4) + 2 ** (-1 - k / 2) * math.exp(square * t / 2)) - 1


def expected_kl(t: float, lengths: ArrayLike, count: int) -> float:
    """`(1/2N) sum_{xi != 0} e^{-|xi|^2 t}`: `E KL(p_t || p_t^N)` for N uniform data, to first order in 1/N.

    >>> round(expected_kl(t=0.01, lengths=[1.0, 1.0], count=100), 6)
    0.034789
    """
    return excess_trace(t, lengths) / (2 * as_count("count", count))


def expected_kl_early(t: Any, volume: Any, k: int, count: Any) -> Any:
    """`(1/2N) [vol (4 pi t)^{-k/2} - 1]`: the limit for `4 t << L^2`; it lacks a share of `2 sum_j e^{-L_j^2/4t}` of the first term."""
    return (volume / (4 * math.pi * t) ** (k / 2) - 1) / (2 * count)


def expected_kl_late(t: float, lengths: ArrayLike, count: int) -> float:
    """`(1/N) sum_j e^{-(2 pi/L_j)^2 t}`: the limit for `4 pi^2 t >> L^2`, two modes for every axis."""
    waves = 2 * math.pi / as_lengths(lengths)
    return float(torch.exp(-(waves**2) * as_positive("t", t)).sum()) / as_count("count", count)


def collapsed_kl(t: float, length: float, count: int) -> float:
    """`L^2/(4 (N+1)(N+2) t) + (1/2) log(2 pi N^2 t/L^2)`: `E KL(p_t || p_t^N)` on a circle as t -> 0, each point seeing its nearest
    datum only.
    """
    n, side, t = as_count("count", count), as_positive("length", length), as_positive("t", t)
    return side**2 / (4 * (n + 1) * (n + 2) * t) + math.log(2 * math.pi * t * n**2 / side**2) / 2


# --- Filters: arithmetic only, so numbers, tensors and symbols alike ------------------------------------------------------


def filter_risk(transfer: Any, signal: Any, count: Any) -> Any:
    """`|1 - K|^2 |c|^2 + |K|^2 (1 - |c|^2)/N`: bias and noise of a filtered mode, in units of `e^{-|xi|^2 t}`; `signal` is `|c|^2`."""
    return abs(1 - transfer) ** 2 * signal + abs(transfer) ** 2 * (1 - signal) / count


def wiener_transfer(signal: Any, count: Any) -> Any:
    """`|c|^2/(|c|^2 + (1 - |c|^2)/N)`: the transfer function of least risk, at every t (Watson and Leadbetter 1963).

    For `|c|^2 << 1` this is `|c|^2/(|c|^2 + 1/N)`.
    """
    return count * signal / (1 + (count - 1) * signal)


def score_error(wave_vector: ArrayLike, transfer: ArrayLike, signal: ArrayLike, t: float, count: int) -> float:
    """`sum_xi |xi|^2 e^{-|xi|^2 t} risk_xi`: mean square error of the filtered score of a nearly uniform law, averaged over the box.

    Wave vectors (..., k), real transfer functions and signals `|c_xi|^2` of shape (...).
    """
    xi, gain, power = (as_tensor(n, v).double() for n, v in (("wave_vector", wave_vector), ("transfer", transfer), ("signal", signal)))
    if gain.shape != xi.shape[:-1] or power.shape != xi.shape[:-1]:
        raise reject("transfer", transfer, f"transfer function and signal of shape {tuple(xi.shape[:-1])}")
    square = (xi**2).sum(-1)
    return float((square * torch.exp(-square * as_positive("t", t)) * filter_risk(gain, power, as_count("count", count))).sum())


def best_gaussian_bandwidth(wave_vector: ArrayLike, signal: ArrayLike, t: float, count: int) -> float:
    """The h >= 0 whose `e^{-|xi|^2 h/2}` has the least `score_error` at time t; infinite if it is best to smooth everything away.

    A search on 200 points of log h, then a refinement between the neighbors of the best.
    """
    xi, power, n = as_tensor("wave_vector", wave_vector).double(), as_tensor("signal", signal).double().flatten(), as_count("count", count)
    square = (xi**2).sum(-1).flatten()
    if not bool((square > 0).any()):
        raise reject("wave_vector", wave_vector, "a wave vector other than 0")
    if power.shape != square.shape:
        raise reject("signal", signal, f"one number for each of {len(square)} wave vectors")
    weight = square * torch.exp(-square * as_positive("t", t))

    def error(log_h: ArrayLike) -> Tensor:
        gain = torch.exp(-square * torch.as_tensor(log_h, dtype=torch.float64).exp().unsqueeze(-1) / 2)
        return (weight * filter_risk(gain, power, n)).sum(-1)

    # Below, the filter is 1 to rounding for every mode; above, 0 for every mode but the zero mode.
    low, high = math.log(1e-10 / float(square.max())), math.log(200 / float(square[square > 0].min()))
    places = torch.linspace(low, high, 200, dtype=torch.float64)
    errors = error(places)
    best = int(errors.argmin())
    if errors[best] >= error(-math.inf):
        return 0.0
    if errors[best] >= error(high + 5):
        return math.inf
    bounds = (float(places[max(best - 1, 0)]), float(places[min(best + 1, len(places) - 1)]))
    found = optimize.minimize_scalar(lambda log_h: float(error(log_h)), bounds=bounds, method="bounded", options={"xatol": 1e-10})
    return math.exp(float(found.x))
