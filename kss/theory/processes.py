r"""The theorems of the other modules, in the variables of another process.

Let `Y_c = a X_t` (`kss.scores.schedules`). At one label c, `Y_c = a X_0 + sigma Z` with `sigma^2 = a^2 t`: the setting of this package with

    noise variance  t -> sigma^2,     bandwidth  h -> H = a^2 h,     data manifold  M -> a M  (curvatures 1/a, volume a^k, density a^{-k}).

So everything said at one noise level carries over by putting these in; the functions below do it the other way round, by going to
variance time, which gives the same. What is summed over noise levels needs the clock as well: `dt = (g/a)^2 dc`.

    bandwidth            H(c) = a^2 h(t)
    score noise          N Cov(q^N) -> Sigma_t(y/a)/(a t)^2  ~  t^{-1-k/2} (4 pi)^{-k/2}/(2 a^2 p_M(y/a)) P
    curvature bias       G_H * q - q  ~  (H/2 sigma^2) H_x/a
    reversed             dY = (g^2 q - f Y) dc' + g dB,  and the flow dY = (g^2 q/2 - f Y) dc'
    path divergence      (1/2) int g^2 E|q - q~|^2 dc = (1/2) int E|s - s~|^2 dt
    best bandwidth       H* = a^2 h*(t)
    critical size        N_c(t)

A bandwidth that is constant in the process is not constant in variance time where a changes: if `1/a^2 = 1 + gamma t` it is
`h(t) = H (1 + gamma t)`, with `gamma = 2 theta/g^2` for the Ornstein-Uhlenbeck process and 1 for every variance preserving one.
`affine_path_kl` says what that does.
"""

import math
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.distributions import Distribution, Manifold
from kss.kernels import Bandwidth, variances
from kss.scores.mollified import Averaged
from kss.scores.schedules import Coefficients, Schedule, coefficients
from kss.theory import bias_variance, clt
from kss.theory.kl import regimes


def bandwidth_in_variance_time(bandwidth: Bandwidth, schedule: Schedule) -> Callable[[ArrayLike], Tensor]:
    """`h(t) = H(c)/a^2`, a function of t for `GaussianKernel`: smoothing with it is smoothing the process's score with H.

    `bandwidth` H is a variance, a covariance (d, d), or a function of the labels (n,) that gives either, all in the process's units.

    >>> import torch
    >>> from kss.scores import OrnsteinUhlenbeck
    >>> bandwidth_in_variance_time(0.1, OrnsteinUhlenbeck())(torch.tensor([3.0], dtype=torch.float64))
    tensor([0.4000], dtype=torch.float64)
    """

    def place(t: ArrayLike) -> tuple[Tensor, Tensor]:
        t = as_tensor("t", t).double()
        return schedule.label(t) if callable(bandwidth) else t, schedule.scale(t) ** -2

    return _rescaled(bandwidth, schedule, place)


def bandwidth_in_process(bandwidth: Bandwidth, schedule: Schedule) -> Callable[[ArrayLike], Tensor]:
    """`H(c) = a^2 h(t)`, a function of the label: the inverse of `bandwidth_in_variance_time`.

    `bandwidth` h is a variance, a covariance (d, d), or a function of t (n,) that gives either.
    """

    def place(label: ArrayLike) -> tuple[Tensor, Tensor]:
        t = schedule.time(label).double()
        return t, schedule.scale(t) ** 2

    return _rescaled(bandwidth, schedule, place)


def _rescaled(bandwidth: Bandwidth, schedule: Schedule, place: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    if not isinstance(schedule, Schedule):
        raise reject("schedule", schedule, "a Schedule, for instance OrnsteinUhlenbeck() or VariancePreserving()")
    given = bandwidth if callable(bandwidth) else variances("bandwidth", bandwidth)

    def at(where: ArrayLike) -> Tensor:
        argument, factor = place(where)
        value = variances("bandwidth", given(argument)) if callable(given) else given
        return factor * value if value.ndim < 2 else factor[..., None, None] * value

    return at


def score_covariance(law: Distribution, y: ArrayLike, label: ArrayLike, N: int, *, schedule: Schedule) -> Float[Tensor, "*batch d d"]:
    """`Sigma_t(y/a)/(N (a t)^2)`: to leading order in 1/N the covariance of the empirical score of the process at y (..., d).

    `label` is a number or of shape (...). Source: arXiv 2505.22841 v1, the limit theorem behind Theorem 2, after the change
    of time.
    """
    x, t, scale = _place(y, label, schedule)
    return clt.score_covariance(law, x, x, t, N) / scale[..., None, None] ** 2


def small_time_score_covariance(
    law: Manifold, y: ArrayLike, label: ArrayLike, N: int, *, schedule: Schedule
) -> Float[Tensor, "*batch d d"]:
    """`t^{-1-k/2} (4 pi)^{-k/2}/(2 N a^2 p_M(y/a)) P`: its leading term as t -> 0, for y on `a M` or within O(sigma) of it.

    The density and the tangent space are those at `y/a`, not at y. Source: arXiv 2505.22841 v1, Theorem 2, after the change of time.
    """
    x, t, scale = _place(y, label, schedule)
    return clt.small_time_covariance(law, x, t) / (as_count("N", N) * (scale * t)[..., None, None] ** 2)


def small_time_excess(square: Any, variance: Any, growth: Any = 0.0) -> Any:
    """`(1 + gamma v + (2 gamma v - 1) x^2/v)/(4 v)`: the exact noise is its small-time form times `1 + (this) t + O(t^2)`, for N(0, v).

    k = 1; `square` is `x^2 = (y/a)^2`. With `growth` gamma = 0 for the form at `y/a`, as `small_time_score_covariance` has it; with the
    process's gamma for the form taken at y itself, `(g^2 s)^{-3/2} (4 pi)^{-1/2}/(2 N p(y))`.
    """
    return (1 + growth * variance + (2 * growth * variance - 1) * square / variance) / (4 * variance)


def score_bias(law: Distribution, y: ArrayLike, label: ArrayLike, bandwidth: float, *, schedule: Schedule) -> Averaged:
    """`G_H * q - q` at y (..., d) and the error of the quadrature; `label` and H = `bandwidth` are numbers, in the process's units."""
    _one(label)
    x, t, scale = _place(y, label, schedule)
    value, error = bias_variance.bias(law, x, float(t), float(as_positive("bandwidth", bandwidth) / scale**2))
    return Averaged(value / scale, error / scale)


def reverse_sde_drift(y: Any, score: Any, at: Coefficients) -> Any:
    """`g^2 q - f y`: drift of the reversed process, per unit of the label running down; its noise is `g dB`. Numbers, tensors or symbols.

    `score` q is the process's own, at y. Source: Anderson 1982; Song et al. 2021 (arXiv 2011.13456), equation 6.
    """
    return at.noise * score - at.drift * y


def probability_flow_drift(y: Any, score: Any, at: Coefficients) -> Any:
    """`g^2 q/2 - f y`: velocity of the process's probability flow, per unit of the label running down; arguments as `reverse_sde_drift`.

    Source: Song et al. 2021 (arXiv 2011.13456), equation 13.
    """
    return at.noise * score / 2 - at.drift * y


def girsanov_rate(gap_square: Any, label: ArrayLike, schedule: Schedule) -> Any:
    """`g^2 |q - q~|^2/2`: what a gap of two of the process's scores adds to the path divergence, per unit of the label.

    Integrated over labels it is `(1/2) int |s - s~|^2 dt`, because `q - q~ = (s - s~)/a` and `dt = (g/a)^2 dc`.
    """
    return coefficients(schedule, label).noise * gap_square / 2


def optimal_bandwidth(
    label: float, N: float | int, *, schedule: Schedule, k: int, curvature_square: float, density: float, problem: str = "path"
) -> float:
    """`H* = a^2 h*(t)`: the best bandwidth at a label, in the process's units; M, `curvature_square` and `density` are those of the data.

    For `problem="path"` h* is held constant in *variance time* on the way to the label: the process's bandwidth is `a^2 h*` everywhere.

    >>> from kss.scores import EDM
    >>> from math import pi
    >>> round(optimal_bandwidth(1e-3**0.5, 400, schedule=EDM(), k=1, curvature_square=1.0, density=1 / (2 * pi)), 4)
    0.0066
    """
    t = schedule.time(_one(label)).double()
    best = bias_variance.optimal_bandwidth(float(t), N, k=k, curvature_square=curvature_square, density=density, problem=problem)
    return float(schedule.scale(t) ** 2 * best)


def critical_sample_size(
    label: float, *, schedule: Schedule, k: int, volume: float, formula: regimes.Formula, curvature_square: float = 0.0, level: float = 1.0
) -> float:
    """`N_c(t)`: the number of data at which the path divergence down to a label equals `level`; see `kss.theory.kl`."""
    t = float(schedule.time(_one(label)))
    return regimes.critical_sample_size(t, k=k, volume=volume, formula=formula, curvature_square=curvature_square, level=level)


def affine_path_kl(
    h: Any, growth: Any, t: Any, N: Any, *, k: int, volume: float, curvature_square: float, t_max: float, log: Any = math.log
) -> Any:
    """Path divergence from `t_max` down to t for the bandwidth `h (1 + gamma u)` at u, gamma = `growth`: constant in a process.

        (<|H|^2> h^2/8) (1/t - 1/T + 2 gamma log(T/t) + gamma^2 (T - t))
        + (vol/2N) (4 pi)^{-k/2} [(t + h (1 + gamma t))^{-k/2} - (T + h (1 + gamma T))^{-k/2}]/(1 + gamma h)

    which with gamma = 0 and T infinite is `kl.mollified_path_kl`. CLT regime, `T, h << R^2`. Numbers, arrays or symbols (with their `log`).
    """
    bias = h**2 * curvature_square / 8 * (1 / t - 1 / t_max + 2 * growth * log(t_max / t) + growth**2 * (t_max - t))
    noise = (t + h * (1 + growth * t)) ** (-k / 2) - (t_max + h * (1 + growth * t_max)) ** (-k / 2)
    return bias + volume / (2 * N) * (4 * math.pi) ** (-k / 2) * noise / (1 + growth * h)


def constant_bandwidth_gain(h: Any, growth: Any, t: Any, *, k: int, t_max: float, log: Any = math.log) -> Any:
    """`gamma h [1 - (k/2)(1 - r)(log(T/t) - 1)]/(1 + (k/4) r)`, `r = h/(t + h)`: by which fraction the least path divergence falls if the
    bandwidth is held constant in the process, not in variance time.

    h is the best bandwidth in variance time. First order in gamma, for `h, t << T << 1/gamma`. By the envelope theorem the derivative
    with respect to gamma is that of `affine_path_kl` at fixed h; at the minimum the bias is `(k/4) r` times the noise.
    """
    share = h / (t + h)
    return growth * h * (1 - k / 2 * (1 - share) * (log(t_max / t) - 1)) / (1 + k / 4 * share)


def _one(label: ArrayLike) -> Tensor:
    """A single label."""
    number = as_tensor("label", label)
    if number.ndim:
        raise reject("label", label, "one number")
    return number


def _place(y: ArrayLike, label: ArrayLike, schedule: Schedule) -> tuple[Tensor, Tensor, Tensor]:
    """`y/a`, t and a, in float64."""
    points, labels = as_tensor("y", y).double(), as_tensor("label", label).double()
    if points.ndim == 0:
        raise reject("y", points, "points of shape (..., d)")
    t = schedule.time(labels)
    scale = schedule.scale(t)
    return points / scale.unsqueeze(-1), t, scale
