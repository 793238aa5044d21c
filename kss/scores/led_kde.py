r"""The LED-KDE as a density: normalized, in one and two dimensions.

    q_t = exp(K * log p_t) / Z_t,        Z_t = integral of exp(K * log p_t).

Outside a box that holds the support of `p_*`, the outward component of `K * s_t` is at most minus the distance over t (the denoiser's
values lie in the support's convex hull, and K is centered), so `q_t` falls off at least like `exp(-distance^2/2t)`: a box larger by
`REACH` standard deviations of the noise holds all of it, and a sum over a grid on that box is its integral.
"""

import math

import torch
from jaxtyping import Float
from scipy import signal
from torch import Tensor

from kss._validation import ArrayLike, as_positive, reject
from kss.distributions.base import Distribution
from kss.kernels import WIDEST, GaussianKernel, Kernel
from kss.scores.mollified import Mollified

REACH = 8.0
"""Standard deviations of the noise beyond the support."""
SIGNIFICANT = 25.0
"""Where `q_t` is below `exp(-25)` of its maximum its error does not count."""
MOST = 2**22
"""Points of the largest grid."""
MOST_CUBATURES = 2**18
"""Points of the largest grid with a cubature at each."""


class LedKde:
    """`q_t` for a `Distribution` with d <= 2, a kernel and a noise variance t.

    A grid is refined until the logarithm of the density, where it counts, changes by less than `accuracy`, or until the grid would
    have more than `MOST` points (`MOST_CUBATURES` if each needs a cubature: the kernel is not `h I`, or too narrow or wide for the grid);
    a `t` for which two grids cannot be compared before that is a `ValueError`. Attributes: `axes`, the d coordinates of the grid;
    `log_values` on it, normalized; `log_normalizer` = `log Z_t`; `error`, the last change.

    >>> from kss.distributions import Gaussian
    >>> density = LedKde(Gaussian([0.0], 1.0), GaussianKernel(0.5), t=1.0)  # a Gaussian is not changed
    >>> density.log_density([[0.0]]).exp() * (4 * torch.pi) ** 0.5
    tensor([1.0000], dtype=torch.float64)
    """

    def __init__(self, law: Distribution, kernel: Kernel, t: float, *, accuracy: float = 1e-4) -> None:
        if not isinstance(law, Distribution) or law.dim > 2:
            raise reject("law", law, "a Distribution on R or R^2: in higher dimension a grid cannot normalize")
        self.law, self.kernel, self.t = law, kernel, as_positive("t", t)
        accuracy = as_positive("accuracy", accuracy)
        self._smoothed = Mollified(law, kernel, accuracy=accuracy / 4)
        covariance = kernel.covariance(self.t, law.dim)
        variance = float(covariance[0, 0])
        isotropic = isinstance(kernel, GaussianKernel) and torch.equal(covariance, variance * torch.eye(law.dim, dtype=torch.float64))
        # Convolving values on one grid is cheaper than a cubature for each of its points, where it resolves the kernel and can hold it.
        self._convolve = isotropic and variance >= self.t / 64
        coarsest = self._lay_out(variance)
        if self._convolve and self._size(coarsest, 1) > MOST:
            self._convolve = False
            coarsest = self._lay_out(variance)
        most = MOST if self._convolve else MOST_CUBATURES
        if self._size(coarsest, 1) > most:
            raise reject("t", t, f"a noise variance for which a grid of {most} points resolves the density")
        self.error, level = math.inf, 0
        values, log_normalizer = self._values(coarsest, level, variance)
        while self.error > accuracy and self._size(coarsest, level + 1) <= most:
            level += 1
            finer, finer_normalizer = self._values(coarsest, level, variance)
            shared = finer[(slice(None, None, 2),) * law.dim]
            counts = values > values.max() - SIGNIFICANT
            self.error = float((shared - values)[counts].abs().max()) + abs(finer_normalizer - log_normalizer)
            values, log_normalizer = finer, finer_normalizer
        self.axes = self._axes(coarsest, level, 0.0)
        self.log_values, self.log_normalizer = values - log_normalizer, log_normalizer

    def log_density(self, x: ArrayLike) -> Float[Tensor, "*batch"]:
        """`log q_t(x)` at points (..., d)."""
        return self._smoothed.unnormalized_log_density(x, self.t) - self.log_normalizer

    def _lay_out(self, variance: float) -> float:
        """The box, the coarsest cells in it, and how far beyond it the convolution reaches; returns the width of the cells."""
        self._margin = WIDEST * variance**0.5 if self._convolve else 0.0
        coarsest = (min(self.t, variance) if self._convolve else self.t) ** 0.5 / 2
        low, high = self.law.bounds().double()
        self._low = low - REACH * self.t**0.5
        self._cells = torch.ceil((high - low + 2 * REACH * self.t**0.5) / coarsest).long().tolist()
        return coarsest

    def _axes(self, coarsest: float, level: int, margin: float) -> tuple[Tensor, ...]:
        """Coordinates of the grid, widened by `margin` on all sides; each level halves the cells and keeps every point."""
        spacing = coarsest / 2**level
        extra = math.ceil(margin / spacing)
        steps = [torch.arange(-extra, (n << level) + 1 + extra, dtype=torch.float64) for n in self._cells]
        return tuple(low + spacing * step for low, step in zip(self._low.tolist(), steps, strict=True))

    def _size(self, coarsest: float, level: int) -> int:
        extra = math.ceil(self._margin / coarsest * 2**level)
        return math.prod((n << level) + 1 + 2 * extra for n in self._cells)

    def _values(self, coarsest: float, level: int, variance: float) -> tuple[Tensor, float]:
        """`K * log p_t` on the grid, and the logarithm of the sum of its exponential times the cell."""
        axes, wide = self._axes(coarsest, level, 0.0), self._axes(coarsest, level, self._margin)
        spacing = coarsest / 2**level
        if not self._convolve:
            values = self._smoothed.unnormalized_log_density(_points(axes), self.t).reshape([len(axis) for axis in axes])
        else:
            values = self.law.log_density(_points(wide), self.t).reshape([len(axis) for axis in wide])
            extra = (len(wide[0]) - len(axes[0])) // 2
            offset = spacing * torch.arange(-extra, extra + 1, dtype=torch.float64)
            weights = torch.softmax(-(offset**2) / (2 * variance), 0)
            for place in range(len(axes)):
                along = weights.reshape([-1 if axis == place else 1 for axis in range(len(axes))])
                values = torch.from_numpy(signal.oaconvolve(values.numpy(), along.numpy(), mode="valid", axes=place))
        return values, float(torch.logsumexp(values.flatten(), 0)) + len(axes) * math.log(spacing)


def _points(axes: tuple[Tensor, ...]) -> Float[Tensor, "n d"]:
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))
