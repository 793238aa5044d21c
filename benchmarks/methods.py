"""Ways to compute a posterior mean, a density, a mollified score; each as people would write it with the library it is named after.

A method takes the points and what it needs beside them, prepares, and returns a function of `(x, t)`. What a method has to keep in
memory sets on how many queries at once it can be run; what is left is scaled linearly, and marked so.
"""

import importlib.util
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from kss.distributions import Empirical

Evaluate = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Method:
    """`make(points)` prepares and returns `displacement(x, t)`, that is `m_t(x) - x`, or `log_density(x, t)`."""

    name: str
    make: Callable[[Tensor], Evaluate]
    needs: str = ""
    """A package that may be missing."""
    numbers: float = math.inf
    """Most queries x points x dimension in one call."""
    pairs: float = math.inf
    """Most queries x points in one call."""
    tol: float = 0.0
    """Relative error that was asked for, beside that of rounding."""
    exact: bool = True
    """False for what approximates on purpose: it is measured, and its error shown, but not held to that of rounding."""

    @property
    def installed(self) -> bool:
        """Whether the package it needs is there."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None

    def at_once(self, points: int, dim: int, queries: int) -> int:
        """How many of the queries one call is given."""
        return max(1, int(min(queries, self.numbers / (points * dim), self.pairs / points)))


def ours(method: str = "auto", tol: float | None = None) -> Callable[[Tensor], Evaluate]:
    """The package, by the given route; what is returned comes with the density and everything else of a posterior."""

    def make(points: Tensor) -> Evaluate:
        law = Empirical(points, method=method, tol=tol)
        return lambda x, t: law.posterior(x, t).displacement

    return make


def broadcast(points: Tensor) -> Evaluate:
    """The definition, as a line of array code."""
    return lambda x, t: torch.softmax(-((x[:, None] - points) ** 2).sum(-1) / (2 * t), -1) @ points - x


def cdist(mode: str) -> Callable[[Tensor], Evaluate]:
    """Distances from `torch.cdist`: by default from a matrix product, or from differences."""

    def make(points: Tensor) -> Evaluate:
        return lambda x, t: torch.softmax(-(torch.cdist(x, points, compute_mode=mode) ** 2) / (2 * t), -1) @ points - x

    return make


def keops(points: Tensor) -> Evaluate:
    """A symbolic matrix of KeOps, reduced without being formed; compiles once for each dimension and type of number."""
    import pykeops
    from pykeops.torch import LazyTensor

    pykeops.set_verbose(False)
    data = LazyTensor(points[None])

    def evaluate(x: Tensor, t: float) -> Tensor:
        distance = ((LazyTensor(x[:, None]) - data) ** 2).sum(-1)
        return (-distance / (2 * t)).sumsoftmaxweight(data, axis=1) - x

    return evaluate


def faiss_nearest(k: int) -> Callable[[Tensor], Evaluate]:
    """The k nearest points from `faiss.IndexFlatL2` (float32), and the average over them alone: no bound on what is left out."""

    def make(points: Tensor) -> Evaluate:
        logging.getLogger("faiss.loader").setLevel(logging.WARNING)
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(points.shape[1])
        index.add(points.float().numpy())

        def evaluate(x: Tensor, t: float) -> Tensor:
            _, found = index.search(x.float().numpy(), k)
            difference = points[torch.from_numpy(found)] - x[:, None]
            weight = torch.softmax(-(difference**2).sum(-1) / (2 * t), -1)
            return (weight[:, None] @ difference)[:, 0]

        return evaluate

    return make


POSTERIOR = (
    Method("kss", ours()),
    Method("torch.cdist", cdist("use_mm_for_euclid_dist"), pairs=2**26),
    Method("torch.cdist, differences", cdist("donot_use_mm_for_euclid_dist"), numbers=2**29.5, pairs=2**26),
    Method("pykeops", keops, needs="pykeops", numbers=2**29.5),
    Method("torch broadcast", broadcast, numbers=2**27),
)
"""Posterior means, the package first."""


def our_density(points: Tensor) -> Evaluate:
    """The package; the posterior mean comes with it."""
    law = Empirical(points)
    return lambda x, t: law.posterior(x, t).log_evidence


def sklearn_density(**how: Any) -> Callable[[Tensor], Evaluate]:
    """`KernelDensity`, a tree; fitted outside the timing."""

    def make(points: Tensor) -> Evaluate:
        from sklearn.neighbors import KernelDensity

        fitted: dict[float, Any] = {}

        def evaluate(x: Tensor, t: float) -> Tensor:
            if t not in fitted:
                fitted[t] = KernelDensity(bandwidth=math.sqrt(t), **how).fit(points.numpy())
            return torch.from_numpy(fitted[t].score_samples(x.numpy()))

        return evaluate

    return make


class _Isotropic(stats.gaussian_kde):
    """`gaussian_kde` with the kernel `N(0, t I)`; as it comes, the kernel has the shape of the covariance of the data."""

    def _compute_covariance(self) -> None:
        self.factor = self.covariance_factor()
        self.cho_cov = self.factor * np.eye(self.d)
        self.covariance = self.factor**2 * np.eye(self.d)
        self.log_det = 2 * self.d * math.log(self.factor * math.sqrt(2 * math.pi))


def scipy_density(points: Tensor) -> Evaluate:
    """`gaussian_kde.logpdf`."""
    fitted: dict[float, _Isotropic] = {}

    def evaluate(x: Tensor, t: float) -> Tensor:
        if t not in fitted:
            fitted[t] = _Isotropic(points.numpy().T, bw_method=math.sqrt(t))
        return torch.from_numpy(fitted[t].logpdf(x.numpy().T))

    return evaluate


DENSITY = (
    Method("kss", our_density),
    Method("scikit-learn KernelDensity", sklearn_density(), exact=False),
    Method("scikit-learn, rtol 1e-6", sklearn_density(rtol=1e-6), exact=False),
    Method("scipy gaussian_kde", scipy_density),
)
"""Log-densities, the package first. scikit-learn's tolerances are 0 unless given; in dimension 64 it does not keep to them."""
