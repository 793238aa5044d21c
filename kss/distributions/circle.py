"""The uniform law on a circle in the plane: the smallest curved data manifold, `Sphere(k=1)`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import Seed, as_count, as_generator
from kss.distributions.sphere import Sphere


class Circle(Sphere):
    """The uniform law on `{x in R^2 : |x| = radius}`; d = 2, k = 1.

    >>> Circle(radius=1.0).log_density([0.0, 0.0], t=0.5)
    tensor(-2.1447, dtype=torch.float64)
    """

    def __init__(self, radius: float = 1.0) -> None:
        super().__init__(1, radius)

    def __repr__(self) -> str:
        return f"Circle({self.radius})"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n 2"]:
        n, generator = as_count("n", n), as_generator(generator)
        angle = 2 * math.pi * torch.rand(n, dtype=torch.float64, generator=generator, device=generator.device)
        return self.radius * torch.stack((angle.cos(), angle.sin()), -1)
