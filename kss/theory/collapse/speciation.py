r"""Speciation: when a reverse run commits itself to a cluster of the data, while it is still far from committing itself to a data point.

A direction of the data shows in a noisy point once the noise variance is below the variance of the data along it. Coarse features come
first: the direction of the largest variance, the largest eigenvalue of the covariance, at `t_S = lambda_max`.

Two clusters `N(m, v I)` and `N(-m, v I)`, equally likely, show what happens there. From `x ~ p_t` the exact reverse dynamics end in the
first with probability `rho = sigmoid(2 <m, x>/(v + t))`. Given that x came from it, `<m, x>/(v + t) = a + sqrt(a) Z` with `Z ~ N(0, 1)` and

    signal  a = |m|^2/(v + t),

so everything is a function of a. Two clones of x end in the same cluster with probability `rho^2 + (1 - rho)^2`, on average

    E[rho^2 + (1 - rho)^2] = E rho = 1 - (1/2) E sech^2(a + sqrt(a) Z),

0.7752 at a = 1, whatever the dimension.

Many papers use the clock of the process `dX = -X ds + sqrt(2) dB`, where `s = log(1 + t)/2`: `kss.scores.OrnsteinUhlenbeck`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_tensor, reject

NODES = torch.linspace(-12, 12, 1537, dtype=torch.float64)
"""For the trapezoidal rule: beyond lies 4e-33, and the error of the rule is below 1e-20."""


def speciation_time(covariance: ArrayLike) -> Float[Tensor, ""]:
    """The largest eigenvalue of the `covariance` (d, d), symmetric and positive semidefinite, of the data; or a number, for d = 1.

    >>> float(speciation_time([[4.0, 0.0], [0.0, 1.0]]))
    4.0
    """
    matrix = as_tensor("covariance", covariance).double()
    matrix = matrix.reshape(1, 1) if matrix.ndim == 0 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise reject("covariance", matrix, "a square matrix")
    rounding = 1e-12 * matrix.abs().max()
    if bool(((matrix - matrix.mT).abs() > rounding).any()):
        raise reject("covariance", matrix, "a symmetric matrix")
    eigenvalues = torch.linalg.eigvalsh(matrix)
    if bool((eigenvalues < -len(matrix) * rounding).any()):
        raise reject("covariance", matrix, f"a positive semidefinite matrix (least eigenvalue {float(eigenvalues[0]):.3g})")
    return eigenvalues[-1].clamp_min(0.0)


def cluster_signal(half_distance: ArrayLike, variance: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
    """`a = |m|^2/(v + t)` for two normal clusters of `variance` v >= 0 with centers at distance `2 |m|`; shapes broadcast.

    At the noise variance t > 0, with `half_distance = |m|`. Infinite where it is not representable.
    """
    size, width, noise = (
        as_tensor(name, value).double() for name, value in (("half_distance", half_distance), ("variance", variance), ("t", t))
    )
    if not bool((noise > 0).all()):
        raise reject("t", noise.tolist(), "a noise variance t > 0")
    if not bool((width >= 0).all()):
        raise reject("variance", width.tolist(), "a number >= 0")
    return (size / (width + noise).sqrt()) ** 2


def cluster_agreement(signal: ArrayLike) -> Float[Tensor, "*batch"]:
    """`E[rho^2 + (1 - rho)^2]`, two clones end in the same one of two equal normal clusters, at the `signal` a >= 0: from 1/2 to 1.

    Its complement is computed as such, and correct to 1e-12 of itself while a < 100.

    >>> round(float(cluster_agreement(1.0)), 4)
    0.7752
    """
    a = torch.as_tensor(signal, dtype=torch.float64)
    if not bool((a >= 0).all()):
        raise reject("signal", a.tolist(), "numbers >= 0")
    a = a.clamp_max(1e6).unsqueeze(-1)
    step, weight = NODES[1] - NODES[0], torch.exp(-(NODES**2) / 2) / math.sqrt(2 * math.pi)
    argument = (a + a.sqrt() * NODES).abs()
    square = (2 * torch.exp(-argument) / (1 + torch.exp(-2 * argument))) ** 2
    return 1 - (square @ weight) * step / 2


def cluster_clone_probability(half_distance: ArrayLike, variance: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
    """`cluster_agreement` of `cluster_signal`: two clones of a draw of `p_t` end in the same one of the two clusters. Shapes broadcast."""
    return cluster_agreement(cluster_signal(half_distance, variance, t))
