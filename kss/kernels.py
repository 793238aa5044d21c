r"""What smooths: symmetric probability kernels K on R^d, each with its cubature nodes.

A kernel is the law of `A U`, with `U` a standard variable (normal, or uniform in the unit ball) and `A` a matrix that may
depend on the noise variance t. An average over it is a sum over nodes,

    (K * f)(x) = E f(x + A U) ~ sum_j w_j f(x + A u_j),        sum_j w_j = 1,

on a sequence of rules with more and more nodes, so that the caller can go on until the sum has settled:

* Gaussian, d <= 3: the trapezoid rule on a grid. For integrands analytic in a strip it converges exponentially, and at n nodes per axis
  on [-L, L] with `L^2 = pi n` its two errors, of step and of truncation, are both of size `exp(-pi n/2)`.
* Ball, d <= 3: Gauss nodes in the squared radius, times a rule for the sphere that is exact for polynomials.
* d > 3: scrambled Sobol points (Owen, Ann. Statist. 25, 1997), in `REPLICATES` independent scramblings, whose spread is the error estimate.

Every rule has the mean of U and `E |U|^2` exactly; Gaussian grids and Sobol points are shifted and stretched to that end. So a linear
function of V, and `|V|^2` where S is a multiple of I, may be added to f without changing the error of its average.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject

Bandwidth = ArrayLike | Callable[[Tensor], ArrayLike]
"""A variance `h`, a covariance (d, d), or a function of the noise variances t (n,) that returns either, for all or for each."""
REPLICATES = 8
"""Independent scramblings of the Sobol points."""
FEWEST = 16
"""Points per scrambling in the first rule."""
GRID_DIM = 3
"""Up to this dimension a grid beats Sobol points."""
WIDEST = 7.5
"""A grid reaches this many standard deviations; the mass beyond is 6e-14 in one dimension, 1e-11 in three."""
LEVELS = tuple((m << e) + (m == 4) for e in range(1, 15) for m in (3, 4))
"""Nodes per axis, 6, 9, 12, 17, 24, ...: even and odd by turns, because rules without a node at 0 all agree on a step that is near it."""
KEPT = 2**17
"""Numbers in a table of Sobol points that is kept for the next call: 256 tables of 1 MiB at the most."""


class Rule(NamedTuple):
    """Nodes `u_j` of the standard variable and their weights; with several replicates, each of them is a rule by itself."""

    nodes: Float[Tensor, "replicates m d"]
    weights: Float[Tensor, " m"]

    @property
    def size(self) -> int:
        """How many nodes, all replicates together."""
        return self.nodes.shape[0] * self.nodes.shape[1]


class Kernel(ABC):
    """A symmetric probability kernel on R^d, for every d that its bandwidth allows."""

    @abstractmethod
    def grid(self, dim: int, n: int) -> Rule:
        """The rule with (about) n nodes per axis, for `dim` <= `GRID_DIM`."""

    @abstractmethod
    def standardize(self, uniform: Float[Tensor, "*m p"]) -> Float[Tensor, "*m d"]:
        """Standard variables from uniform numbers in (0, 1): what Sobol points are turned into. `p` is `sobol_dim(d)`."""

    @abstractmethod
    def sobol_dim(self, dim: int) -> int:
        """How many uniform numbers make one standard variable in R^dim."""

    @abstractmethod
    def square(self, dim: int) -> float:
        """`E |U|^2`, for the standard variable in R^dim."""

    @abstractmethod
    def stretch(self, nodes: Float[Tensor, "m d"], t: Float[Tensor, " n"]) -> Float[Tensor, "n m d"]:
        """`A(t) u_j`: the displacements of the nodes at each noise variance."""

    @abstractmethod
    def covariance(self, t: float, dim: int) -> Float[Tensor, "d d"]:
        """The covariance matrix S of K at noise variance t."""

    @abstractmethod
    def trace(self, t: Float[Tensor, " n"], dim: int) -> Float[Tensor, " n"]:
        """`tr S` at each noise variance: the mean of `|V|^2`."""

    @abstractmethod
    def scaled(self, factor: float) -> "Kernel":
        """The same kernel with `factor` times the variance."""

    def grids(self, dim: int, most_nodes: int) -> Iterator[Rule]:
        """Grid rules with more and more nodes, `most_nodes` at most (but the first two in any case); for `dim` <= `GRID_DIM`."""
        for place, n in enumerate(LEVELS):
            rule = self.grid(dim, n)
            if place > 1 and rule.size > most_nodes:
                return
            yield rule

    def sobol(self, dim: int, most_nodes: int, scrambling: int) -> Iterator[Rule]:
        """Successive pieces of Sobol sequences: the first one, another as long, another as long as both, ..."""
        for place in itertools.count():
            count = FEWEST << max(place - 1, 0)
            if place > 0 and 2 * count * REPLICATES > most_nodes:
                return
            nodes = torch.stack([self._sobol(dim, count * (place > 0), count, scrambling, r) for r in range(REPLICATES)])
            yield Rule(nodes, torch.full((count,), 1 / count, dtype=torch.float64))

    def _sobol(self, dim: int, skip: int, count: int, scrambling: int, replicate: int) -> Float[Tensor, "count d"]:
        draw = _kept_uniform if count * dim <= KEPT else _uniform
        nodes = self.standardize(draw(self.sobol_dim(dim), skip, count, scrambling, replicate))
        # To the exact mean and mean square. The bias of order 1/count of the one cancels that of the other.
        nodes = nodes - nodes.mean(0)
        return nodes * (self.square(dim) / nodes.square().sum(-1).mean()).sqrt()


class GaussianKernel(Kernel):
    """`N(0, h I)`, or `N(0, S)`.

    `bandwidth` is the variance `h >= 0` (the square of the standard deviation), a covariance matrix `S` (d, d), or a function of t
    that gives either. With 0 the kernel is a point, and smooths nothing.

    >>> GaussianKernel(0.25).covariance(t=1.0, dim=1)
    tensor([[0.2500]], dtype=torch.float64)
    """

    def __init__(self, bandwidth: Bandwidth) -> None:
        self.bandwidth = bandwidth
        if not callable(bandwidth):
            variance = variances("bandwidth", bandwidth)
            if variance.ndim not in (0, 2):
                raise reject("bandwidth", bandwidth, "a number, a covariance matrix, or a function of t")

    def __repr__(self) -> str:
        return f"GaussianKernel({_show(self.bandwidth)})"

    def grid(self, dim: int, n: int) -> Rule:
        return _gaussian_grid(dim, n)

    def sobol_dim(self, dim: int) -> int:
        return dim

    def standardize(self, uniform: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d"]:
        return torch.special.ndtri(uniform)

    def square(self, dim: int) -> float:
        return float(dim)

    def stretch(self, nodes: Float[Tensor, "m d"], t: Float[Tensor, " n"]) -> Float[Tensor, "n m d"]:
        variance = self._at(t, nodes.shape[-1])
        if variance.ndim <= 1:
            return _root(variance).expand(t.shape)[:, None, None] * nodes
        return (nodes @ matrix_root(variance).mT).expand(len(t), *nodes.shape)

    def covariance(self, t: float, dim: int) -> Float[Tensor, "d d"]:
        variance = self._at(torch.tensor([as_positive("t", t)], dtype=torch.float64), dim)
        eye = torch.eye(dim, dtype=torch.float64)
        return variance.reshape(-1)[0] * eye if variance.ndim <= 1 else variance.expand(1, dim, dim)[0]

    def trace(self, t: Float[Tensor, " n"], dim: int) -> Float[Tensor, " n"]:
        variance = self._at(t, dim)
        return (dim * variance if variance.ndim <= 1 else variance.diagonal(dim1=-2, dim2=-1).sum(-1)).expand(t.shape)

    def scaled(self, factor: float) -> "GaussianKernel":
        factor, given = as_positive("factor", factor), self.bandwidth
        if callable(given):
            function = given
            return GaussianKernel(lambda t: factor * variances("bandwidth(t)", function(t)))
        return GaussianKernel(factor * variances("bandwidth", given))

    def _at(self, t: Float[Tensor, " n"], dim: int) -> Tensor:
        """A variance () or (n,), or a covariance (d, d) or (n, d, d)."""
        called = callable(self.bandwidth)
        variance = variances("bandwidth(t)", self.bandwidth(t)) if callable(self.bandwidth) else variances("bandwidth", self.bandwidth)
        variance = variance.to(t.device)
        fits = ((), (dim, dim), *(((len(t),), (len(t), dim, dim)) if called else ()))
        if tuple(variance.shape) not in fits:
            raise reject("bandwidth", variance, f"a number, a ({dim}, {dim}) covariance, or a function of t that gives such")
        return variance


class BallKernel(Kernel):
    """The uniform law in the ball of the given `radius >= 0` (a length, or a function of t): covariance `radius^2/(d + 2) I`.

    >>> BallKernel(2.0).covariance(t=1.0, dim=2)
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """

    def __init__(self, radius: Bandwidth) -> None:
        self.radius = radius
        if not callable(radius) and _length(radius, "radius").ndim:
            raise reject("radius", radius, "a number, or a function of t")

    def __repr__(self) -> str:
        return f"BallKernel({_show(self.radius)})"

    def grid(self, dim: int, n: int) -> Rule:
        return _ball_grid(dim, n)

    def sobol_dim(self, dim: int) -> int:
        return dim + 1

    def standardize(self, uniform: Float[Tensor, "*m p"]) -> Float[Tensor, "*m d"]:
        normal = torch.special.ndtri(uniform[..., 1:])
        return uniform[..., :1] ** (1 / normal.shape[-1]) * normal / normal.norm(dim=-1, keepdim=True)

    def square(self, dim: int) -> float:
        return dim / (dim + 2)

    def stretch(self, nodes: Float[Tensor, "m d"], t: Float[Tensor, " n"]) -> Float[Tensor, "n m d"]:
        return self._at(t).expand(t.shape)[:, None, None] * nodes

    def covariance(self, t: float, dim: int) -> Float[Tensor, "d d"]:
        radius = self._at(torch.tensor([as_positive("t", t)], dtype=torch.float64)).reshape(-1)[0]
        return radius**2 / (dim + 2) * torch.eye(dim, dtype=torch.float64)

    def trace(self, t: Float[Tensor, " n"], dim: int) -> Float[Tensor, " n"]:
        return (self.square(dim) * self._at(t) ** 2).expand(t.shape)

    def scaled(self, factor: float) -> "BallKernel":
        root, given = math.sqrt(as_positive("factor", factor)), self.radius
        if callable(given):
            function = given
            return BallKernel(lambda t: root * _length(function(t), "radius(t)"))
        return BallKernel(root * _length(given, "radius"))

    def _at(self, t: Float[Tensor, " n"]) -> Tensor:
        radius = (_length(self.radius(t), "radius(t)") if callable(self.radius) else _length(self.radius, "radius")).to(t.device)
        if tuple(radius.shape) not in ((), (len(t),) if callable(self.radius) else ()):
            raise reject("radius", radius, "a number, or a function of t that gives one, or one for each t")
        return radius


def _show(value: Bandwidth) -> str:
    if callable(value):
        return "function of t"
    return str(value.tolist() if isinstance(value, Tensor | np.ndarray) else value)


def variances(name: str, value: ArrayLike) -> Tensor:
    """Numbers >= 0, or symmetric positive semidefinite matrices, in float64; anything else is a `ValueError`."""
    given = as_tensor(name, value)
    variance = given.double()
    if variance.ndim < 2:
        if bool((variance < 0).any()):
            raise reject(name, value, "a variance >= 0")
        return variance
    if variance.shape[-1] != variance.shape[-2] or variance.numel() == 0:
        raise reject(name, value, "a symmetric matrix")
    size = variance.detach().abs().amax((-2, -1), keepdim=True)
    rounding = 4 * variance.shape[-1] * torch.finfo(given.dtype).eps * size  # of a product Q diag(v) Q^T
    if bool(((variance - variance.mT).abs() > rounding).any()):
        raise reject(name, value, "a symmetric matrix")
    if bool((torch.linalg.eigvalsh(variance.detach()) < -rounding.squeeze(-1)).any()):
        raise reject(name, value, "a positive semidefinite matrix")
    return (variance + variance.mT) / 2


def matrix_root(variance: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    """A matrix A with `A A^T = S`, for S symmetric and positive semidefinite."""
    root, singular = torch.linalg.cholesky_ex(variance)
    if bool(singular.any()):  # a root all the same; it has no gradient with respect to S where eigenvalues coincide
        eigenvalues, vectors = torch.linalg.eigh(variance)
        root = vectors * eigenvalues.clamp_min(0.0).sqrt().unsqueeze(-2)
    return root


def _length(value: ArrayLike, name: str) -> Tensor:
    length = as_tensor(name, value).double()
    if length.ndim > 1 or bool((length < 0).any()):
        raise reject(name, value, "a length >= 0")
    return length


def _root(variance: Tensor) -> Tensor:
    """The square root, with a gradient that is 0 and not infinite where the variance is 0."""
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve where gradients are asked for as well
def _gaussian_grid(dim: int, n: int) -> Rule:
    reach = min(math.sqrt(math.pi * n), WIDEST)
    axis = reach * (2 * torch.arange(n, dtype=torch.float64) + 1 - n) / n
    nodes = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    square = (nodes**2).sum(-1)
    # The corners of the cube weigh less than what the axes cut off already.
    nodes, square = nodes[square <= reach**2], square[square <= reach**2]
    weights = torch.softmax(-square / 2, 0)
    # The step and the cut have changed the variance: by 3e-3 for n = 6, by 2e-12 at the most for n >= 24.
    return Rule(nodes.unsqueeze(0) * (dim / (weights @ square)).sqrt(), weights)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _ball_grid(dim: int, n: int) -> Rule:
    """Exact for polynomials of degree `2 floor(n/2) - 1` at least."""
    if dim == 1:
        nodes, weights = special.roots_legendre(n)
        return Rule(torch.from_numpy(nodes).reshape(1, -1, 1), torch.from_numpy(weights / weights.sum()))
    # Squared radius u has the density (d/2) u^(d/2 - 1) on [0, 1].
    u, radial = special.roots_jacobi(-(-n // 4), 0, dim / 2 - 1)
    radius = np.sqrt((1 + u) / 2)
    angle = 2 * math.pi * np.arange(n) / n
    circle, sphere_weights = np.stack((np.cos(angle), np.sin(angle)), -1), np.full(n, 1 / n)
    if dim == 3:
        height, weights = special.roots_legendre(max(n // 2, 1))
        flat = np.sqrt(1 - height**2)[:, None, None] * circle
        circle = np.concatenate((flat, np.broadcast_to(height[:, None, None], (len(height), n, 1))), -1).reshape(-1, 3)
        sphere_weights = (weights[:, None] * sphere_weights).reshape(-1)
    nodes = torch.from_numpy((radius[:, None, None] * circle).reshape(1, -1, dim))
    weights = (radial[:, None] * sphere_weights).reshape(-1)
    return Rule(nodes, torch.from_numpy(weights / weights.sum()))


@torch.inference_mode(False)
def _uniform(dim: int, skip: int, count: int, scrambling: int, replicate: int) -> Float[Tensor, "count dim"]:
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=REPLICATES * as_count("scrambling", scrambling, minimum=0) + replicate)
    # 30 bits each; half a step keeps 0 and 1 out.
    return (engine.fast_forward(skip) if skip else engine).draw(count, dtype=torch.float64).clamp_max(1 - 2.0**-30) + 2.0**-31


_kept_uniform = lru_cache(maxsize=256)(_uniform)
