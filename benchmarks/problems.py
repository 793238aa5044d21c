"""Data to time on; made here, from a seed, or shipped with scikit-learn: nothing is downloaded."""

import torch
from torch import Tensor

from kss.data import digits
from kss.distributions import Empirical

RANK = 24


def cloud(n: int, dim: int = 2) -> Tensor:
    """`n` draws of the standard normal law."""
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(dim))


def images(n: int, dim: int = 784) -> Tensor:
    """Of the size of MNIST: normal combinations of 24 random patterns, clipped to [-1, 1] as pixels are."""
    generator = torch.Generator().manual_seed(dim)
    patterns = torch.randn(RANK, dim, dtype=torch.float64, generator=generator)
    codes = torch.randn(n, RANK, dtype=torch.float64, generator=generator)
    return (codes @ patterns / RANK**0.5).clamp(-1, 1)


def points_of(name: str, n: int, dim: int) -> Tensor:
    """The data set of a name, (n, dim), in float64."""
    if name == "digits":
        return digits().points[:n]
    return {"cloud": cloud, "images": images}[name](n, dim)


def queries_of(points: Tensor, count: int, t: float, seed: int = 1) -> Tensor:
    """Draws of `p_t`: data with noise of variance t, where a sampler would ask for the score."""
    return Empirical(points).diffuse(count, t, generator=seed)
