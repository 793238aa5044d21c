r"""What tempering the weights of the empirical score does: `s_T = T s_{Tt}`, with a temperature T > 0.

At a fixed noise variance t, Langevin dynamics with `s_T` samples `p_{Tt}^T`, normalized. A normal law shows what that means. For
data `N(0, v)` the score `-T x/(v + T t)` is exactly that of data `N(0, v/T)` at noise t: narrower by the factor T in variance, and
none of it along normals, where v = 0. Formulas between a few numbers use arithmetic only and take numbers, tensors or symbols.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_positive, as_tensor, reject

MOST = 10**6
"""Barycenters in one list."""


def tempered_variance(variance: Any, t: Any, temperature: Any) -> Any:
    """`(v + T t)/T = v/T + t`: the variance of `p_{Tt}^T` for data `N(0, v)`."""
    return (variance + temperature * t) / temperature


def flow_variance(variance: Any, start: Any, t_max: Any, t: Any, temperature: Any) -> Any:
    """Variance at t of the probability flow with `s_T` from `N(0, start)` at `t_max`, for data `N(0, v)` and a constant T."""
    return start * (variance + temperature * t) / (variance + temperature * t_max)


def sde_variance(variance: Any, start: Any, t_max: Any, t: Any, temperature: Any) -> Any:
    """The same for the reverse SDE: `v/T + t`, plus `start - v/T - t_max` times `((v + T t)/(v + T t_max))^2`."""
    contraction = (variance + temperature * t) / (variance + temperature * t_max)
    return variance / temperature + t + (start - variance / temperature - t_max) * contraction**2


def collapse_schedule(t_collapse: float) -> Callable[[ArrayLike], Tensor]:
    """`T(t) = max(sqrt(t_c/t), 1)`: the temperature of Zhou, Zhang and Wright (arXiv 2601.19285), for noise variances t.

    (They write `max(sigma_c/sigma, 1)` with standard deviations.)

    >>> collapse_schedule(0.04)([0.01, 0.04, 1.0])
    tensor([2., 1., 1.], dtype=torch.float64)
    """
    t_collapse = as_positive("t_collapse", t_collapse)

    def temperature(t: ArrayLike) -> Tensor:
        noise = as_tensor("t", t)
        if not bool((noise > 0).all()):
            raise reject("t", t, "noise variances t > 0")
        return (math.sqrt(t_collapse) / noise.sqrt()).clamp_min(1.0)

    return temperature


def scheduled_flow_variance(variance: Any, t_collapse: Any) -> Any:
    """`v^2/(v + t_c)`: the variance at t = 0 of the probability flow with this schedule, from `v + t_c` at `t_c`, for data `N(0, v)`."""
    return variance**2 / (variance + t_collapse)


def scheduled_sde_variance(variance: Any, t_collapse: Any) -> Any:
    """`v (a + a^2 + a^3)/3` with `a = v/(v + t_c)`: the same for the reverse SDE. (The flow has `v a`.)"""
    left = variance / (variance + t_collapse)
    return variance * (left + left**2 + left**3) / 3


def expansion(distance: Any, t: Any, temperature: Any) -> Any:
    """`D^2/(4 T t)`: the largest eigenvalue of the Jacobian of `m_{Tt}` anywhere, for two points at distance D; a bound for diameter D."""
    return distance**2 / (4 * temperature * t)


def critical_temperature(distance: Any, t: Any) -> Any:
    """`D^2/(4 t)`: from this temperature on `m_{Tt}` brings points no farther apart, for data of diameter D."""
    return distance**2 / (4 * t)


def normal_score(mean_curvature: Any, temperature: Any) -> Any:
    """`(T/2) H`: the normal part of `s_T` at a point of a manifold with mean-curvature vector H, to leading order as t -> 0."""
    return temperature * mean_curvature / 2


def ridge_offset(k: Any, radius: Any, t: Any, temperature: Any) -> Any:
    """`-k T t/(2R)`: where, from the k-sphere of radius R outwards, the radial component of `s_T` vanishes; to leading order."""
    return -k * temperature * t / (2 * radius)


def noise_variance(k: Any, t: Any, temperature: Any, n: Any, density: Any) -> Any:
    """`T^(1-k/2)` times `k (4 pi)^(-k/2) t^(-1-k/2)/(2 N p)`: `E |s_T^N - s_T|^2` on a k-manifold, CLT regime at T t, small T t."""
    return temperature ** (1 - k / 2) * k * (4 * math.pi) ** (-k / 2) * t ** (-1 - k / 2) / (2 * n * density)


class Barycenters(NamedTuple):
    """A mixture of `N(center, t I)`."""

    centers: Float[Tensor, "n d"]
    log_weights: Float[Tensor, " n"]
    """They sum to one, exponentiated."""


def barycenters(points: ArrayLike, t: float, temperature: int) -> Barycenters:
    r"""`(p_{Tt}^N)^T`, normalized, for an integer T: the mixture of `N(center, t I)` over the T-tuples of the data.

    The product of T normal densities of variance `T t` around `y_1..y_T` is one of variance t around their mean, times
    `exp(-sum_a |y_a - mean|^2/(2 T t))`. Tuples that differ in order only are taken together, C(N + T - 1, T) of them.

    >>> barycenters([[0.0], [1.0]], t=0.25, temperature=2).centers
    tensor([[0.0000],
            [0.5000],
            [1.0000]], dtype=torch.float64)
    """
    data, t, order = as_points("points", points).double(), as_positive("t", t), as_count("temperature", temperature)
    if math.comb(len(data) + order - 1, order) > MOST:
        raise reject("temperature", temperature, f"at most {MOST} combinations of {len(data)} points")
    tuples = torch.tensor(list(itertools.combinations_with_replacement(range(len(data)), order)))
    chosen = data[tuples]
    centers = chosen.mean(1)
    scatter = ((chosen - centers.unsqueeze(1)) / math.sqrt(2 * order * t)).square().sum((-1, -2))
    # T!/(n_1! n_2! ...) orders: n_j! is the product of how often j has occurred up to and including each place.
    occurred = torch.stack([(tuples[:, : place + 1] == tuples[:, place : place + 1]).sum(1) for place in range(order)], 1)
    return Barycenters(centers, torch.log_softmax(-scatter - occurred.double().log().sum(1), 0))
