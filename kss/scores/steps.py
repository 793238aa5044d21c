"""Variance preserving noise in numbered steps: the linear schedule of DDPM, the cosine schedule, or any list of `alphas_cumprod`.

Sources: Ho et al. 2020 (arXiv 2006.11239); Nichol and Dhariwal 2021 (arXiv 2102.09672).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.scores.schedules import Preserving, require_range


@dataclass(frozen=True, eq=False)
class DiscreteVariancePreserving(Preserving):
    r"""`Y_k = sqrt(A_k) X_0 + sqrt(1 - A_k) Z` for steps k = 0, ..., K - 1, labeled by k; `alphas_cumprod` (K,) lists the A_k.

    Step k is the variance `t_k = (1 - A_k)/A_k`. Between steps the label is the fraction of a step at which `log A`,
    interpolated linearly between the steps, has the value `-log(1 + t)`; networks that embed the label by sines accept
    fractions. With `interpolate=False` it is the nearest step, for networks that look their label up in a table: the score is then
    exact at the t_k, and between them that of a network told a slightly wrong noise level. Variances outside `[t_0, t_{K-1}]` raise
    `ValueError`, because the network never saw them. Source: Ho et al. 2020, equation 4.
    """

    alphas_cumprod: Any
    interpolate: bool = True

    def __post_init__(self) -> None:
        alphas = as_tensor("alphas_cumprod", self.alphas_cumprod).double()
        if alphas.ndim != 1 or len(alphas) < 2:
            raise reject("alphas_cumprod", alphas, "a list of at least 2 numbers, one for each step")
        if not bool(((alphas > 0) & (alphas < 1)).all()) or not bool((alphas.diff() < 0).all()):
            raise reject("alphas_cumprod", self.alphas_cumprod, "decreasing numbers in (0, 1)")
        object.__setattr__(self, "alphas_cumprod", alphas)

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> "DiscreteVariancePreserving":
        """`A_k = prod_{j <= k} (1 - beta_j)`, the betas from `first` to `last` in equal distances. Source: Ho et al. 2020, section 4."""
        first, last = as_positive("first", first), as_positive("last", last)
        betas = torch.linspace(first, last, as_count("steps", steps, minimum=2), dtype=torch.float64)
        return cls(torch.cumprod(1 - betas, 0))

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> "DiscreteVariancePreserving":
        """`beta_k = min(1 - f_{k+1}/f_k, largest)`, `f_k = cos^2((k/K + offset)/(1 + offset) pi/2)`, K steps; `A_k` as in `linear`.

        Source: Nichol and Dhariwal 2021, equation 17.
        """
        steps, offset, largest = as_count("steps", steps, minimum=2), as_positive("offset", offset), as_positive("largest", largest)
        place = (torch.arange(steps + 1, dtype=torch.float64) / steps + offset) / (1 + offset)
        level = (place * math.pi / 2).cos() ** 2
        return cls(torch.cumprod(1 - (1 - level[1:] / level[:-1]).clamp_max(largest), 0))

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        levels, level = -self.alphas_cumprod.log().to(t.device), t.log1p()  # log(1 + t_k) = -log A_k
        require_range(level, float(levels[0]), float(levels[-1]))
        after = torch.searchsorted(levels, level.detach().contiguous()).clamp(1, len(levels) - 1)
        step = after - 1 + (level - levels[after - 1]) / (levels[after] - levels[after - 1])
        step = step.clamp(0, len(levels) - 1)
        return step if self.interpolate else step.round()

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        step, last = as_tensor("label", label).double(), len(self.alphas_cumprod) - 1
        if not bool(((step >= 0) & (step <= last)).all()):
            raise reject("label", label, f"steps in [0, {last}]")
        levels = -self.alphas_cumprod.log().to(step.device)
        before = step.detach().floor().long().clamp_max(last - 1)
        return torch.expm1(levels[before] + (step - before) * (levels[before + 1] - levels[before]))
