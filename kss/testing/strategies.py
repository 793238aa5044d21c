"""Hypothesis strategies for laws, data sets, points and noise variances, the degenerate ones included.

Imported by checks only while they run: the package itself does not need Hypothesis.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kss.distributions import Circle, Distribution, Embedded, Empirical, FlatTorus, Gaussian, GaussianMixture, Sphere

Draw = Callable[..., Any]
"""Hypothesis calls it `DrawFn`, a type that cannot be checked at run time."""
DECADES = (-6.0, 6.0)
"""Noise variances cover twelve decades around the squared scale of the laws, which is 1."""


def variances(low: float = DECADES[0], high: float = DECADES[1]) -> st.SearchStrategy[float]:
    """Noise variances `10^u`, u uniform-ish on [low, high]."""
    return st.floats(low, high).map(lambda u: 10.0**u)


def arrays(*shape: int, bound: float = 3.0) -> st.SearchStrategy[np.ndarray]:
    """Arrays of numbers in [-bound, bound], with few decimals often, so that ties and zeros turn up."""
    coarse = st.integers(-6, 6).map(lambda i: i * bound / 6)
    return hnp.arrays(np.float64, shape, elements=st.one_of(coarse, st.floats(-bound, bound, width=32)))


@st.composite
def datasets(draw: Draw, dim: int | None = None, most: int = 8) -> torch.Tensor:
    """Data sets (N, d), d = 1..8: plain, one point, duplicates, collinear, with a far outlier, or on a sphere (equal norms)."""
    d = dim if dim is not None else draw(st.integers(1, 8))
    kind = draw(st.sampled_from(("plain", "one point", "duplicates", "collinear", "outlier", "sphere")))
    n = 1 if kind == "one point" else draw(st.integers(2, most))
    points = draw(arrays(n, d))
    if kind == "duplicates":
        points[-1] = points[0]
    elif kind == "collinear":
        points = points[:1] + draw(arrays(n, 1)) * draw(arrays(1, d))
    elif kind == "outlier":
        points[-1] += 10.0 ** draw(st.integers(1, 4))
    elif kind == "sphere":
        points += 1e-3  # no zero vector
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return torch.from_numpy(points)


@st.composite
def covariances(draw: Draw, dim: int) -> torch.Tensor:
    """Covariance matrices `Q diag(v) Q^T` with v in [1e-3, 10], sometimes singular."""
    factor = draw(arrays(dim, dim, bound=1.0)) + np.eye(dim)
    q, _ = np.linalg.qr(factor)
    v = 10.0 ** draw(hnp.arrays(np.float64, dim, elements=st.floats(-3, 1)))
    if draw(st.booleans()) and dim > 1:
        v[0] = 0.0
    matrix = (q * v) @ q.T
    return torch.from_numpy((matrix + matrix.T) / 2)


@st.composite
def mixtures(draw: Draw, dim: int) -> GaussianMixture:
    """Gaussian mixtures of one to three components on R^dim."""
    count = draw(st.integers(1, 3))
    weights = np.array(draw(st.lists(st.floats(0.05, 1.0), min_size=count, max_size=count)))
    parts = torch.stack([draw(covariances(dim)) for _ in range(count)])
    return GaussianMixture(draw(arrays(count, dim)), parts, weights)


@st.composite
def curved(draw: Draw, dim: int) -> Distribution:
    """Uniform laws on spheres and flat tori in R^dim, dim >= 3, and on those of subspaces, along the axes or not."""
    kind = draw(st.sampled_from(("sphere", "embedded") + (("torus",) if dim % 2 == 0 else ())))
    if kind == "sphere":
        return Sphere(dim - 1, draw(st.floats(0.1, 3.0)))
    if kind == "torus":
        return FlatTorus(dim // 2, draw(st.lists(st.floats(0.1, 3.0), min_size=dim // 2, max_size=dim // 2)))
    width = draw(st.integers(2, dim - 1))
    inner = Sphere(width - 1, draw(st.floats(0.1, 3.0)))
    if draw(st.booleans()):
        return Embedded(inner, dim)
    rotation, _ = np.linalg.qr(draw(arrays(dim, dim, bound=1.0)) + 3 * np.eye(dim))
    return Embedded(inner, dim, rotation[:, : draw(st.sampled_from((width, dim)))])


@st.composite
def distributions(draw: Draw, dim: int | None = None) -> Distribution:
    """Any law of the package, on R^d with d = 1..8."""
    d = dim if dim is not None else draw(st.integers(1, 8))
    kinds = ["gaussian", "mixture", "empirical"] + (["circle"] if d == 2 else ["curved"] if d > 2 else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "gaussian":
        return Gaussian(draw(arrays(d)), draw(covariances(d)))
    if kind == "mixture":
        return draw(mixtures(d))
    if kind == "circle":
        return Circle(draw(st.floats(0.1, 3.0)))
    if kind == "curved":
        return draw(curved(d))
    return Empirical(draw(datasets(dim=d)))


Law = TypeVar("Law", bound=Distribution)


@dataclass(frozen=True)
class Case(Generic[Law]):
    """A law, a point and a noise variance."""

    law: Law
    x: torch.Tensor
    t: float


@st.composite
def cases(draw: Draw, laws: st.SearchStrategy[Law], low: float = DECADES[0], high: float = DECADES[1]) -> Case[Law]:
    """A law with a point at which `p_t` has mass: a draw of the law, moved by up to three standard deviations of the noise.

    One time in four the point is exactly a draw of the law, where the score of a small `t` is smallest; one time in eight it is
    the origin, the center of a circle.
    """
    law = draw(laws)
    t = draw(variances(low, high))
    clean = law.sample(1, draw(st.integers(0, 2**32 - 1)))[0]
    kind = draw(st.integers(0, 7))
    if kind < 2:
        return Case(law, clean, t)
    if kind == 2:
        return Case(law, torch.zeros_like(clean), t)
    return Case(law, clean + t**0.5 * torch.from_numpy(draw(arrays(law.dim))), t)
