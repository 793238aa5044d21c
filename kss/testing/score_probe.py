r"""A score under test, as the checks see it: called on points and times, differentiated, and its rounding measured.

Rounding is measured, not guessed: the fourth difference of a smooth function over a tiny step is nothing but rounding (More and
Wild, SIAM J. Sci. Comput. 33, 2011). Derivatives are those of automatic differentiation where they agree with difference
quotients, and otherwise the difference quotients, extrapolated from two steps h and 2h; the change from the first to the second
is then counted as their error. A quantity made of derivatives is evaluated a few more times with every input moved by a few
units in the last place of the score's arithmetic: by how much it changes says what rounding does to it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss.scores.protocol import Score, score_function

MOVES = 2
"""How often a quantity is evaluated again at moved inputs."""
ULPS = 4.0
"""By how many units in the last place the inputs are moved."""
SAFETY = 16.0
"""Two random moves see less than the worst one does, and errors inside the score may exceed those of its inputs."""
FLOOR = 256.0
"""Rounding allowed in any case, in units in the last place of the largest term: the sums in a score have that many terms, or more."""
ARITHMETICS = {"float64": 2.0**-52, "float32": 2.0**-23, "half": 2.0**-8}
"""Spacing of the numbers around 1; `half` stands for bfloat16, the coarser of the two."""
REPEAT = FLOOR * ARITHMETICS["float32"]
"""Two calls may differ by this fraction: sums in float32 whose order is not fixed."""
ROWS = 4096
"""Points handed over at a time where there are many."""


class Unusable(Exception):
    """The score could not be called, or what it returned is not a score; the message says why."""


class Probe:
    """A score on R^dim that takes points of `dtype` on `device`; `epsilon` is the spacing of its arithmetic around 1."""

    def __init__(self, score: Score, dim: int, device: torch.device) -> None:
        self._function: Callable[[Tensor, Any], Any] = score_function(score)
        self.dim, self.device, self.dtype, self.arithmetic = dim, device, torch.float64, "float64"
        self.by_autograd = True

    @property
    def epsilon(self) -> float:
        return ARITHMETICS[self.arithmetic]

    def __call__(self, x: Float[Tensor, "n d"], t: Any) -> Float[Tensor, "n d"]:
        """The score in float64; `Unusable` unless it is finite and has the shape of x."""
        value = self.raw(x, t)
        if not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).any(-1).sum())
            raise Unusable(f"NaN or infinity at {count} of {len(x)} points, t = {_show(t)}")
        return value

    def raw(self, x: Float[Tensor, "n d"], t: Any) -> Float[Tensor, "n d"]:
        """The score in float64, finite or not."""
        try:
            value = self._function(x.to(self.dtype), t.to(self.dtype) if isinstance(t, Tensor) else t)
        except Exception as error:  # whatever the user's code raises
            raise Unusable(f"score(x, t) raised {type(error).__name__} at t = {_show(t)}: {error}") from error
        if not isinstance(value, Tensor):
            raise Unusable(f"score(x, t) returned {type(value).__name__}, expected a torch tensor of the shape of x, {tuple(x.shape)}")
        if value.shape != x.shape:
            raise Unusable(f"score(x, t) has shape {tuple(value.shape)}, expected that of x, {tuple(x.shape)}")
        if not value.is_floating_point():
            raise Unusable(f"score(x, t) has dtype {value.dtype}, expected a floating one")
        return value.double().to(self.device)

    def many(self, x: Float[Tensor, "n d"], t: float) -> Float[Tensor, "n d"]:
        """The score at many points, without gradient, some at a time."""
        with torch.no_grad():
            return torch.cat([self(rows, t) for rows in x.split(ROWS)])

    def settle_dtype(self, x: Float[Tensor, "n d"], t: float) -> None:
        """Hand points over in float64, or in float32 if the score takes nothing else; `Unusable` if it takes neither."""
        try:
            self.raw(x, t)
        except Unusable as refusal:
            self.dtype, self.arithmetic = torch.float32, "float32"
            try:
                self.raw(x, t)
            except Unusable:
                self.dtype, self.arithmetic = torch.float64, "float64"
                raise refusal from None

    def measure_rounding(self, x: Float[Tensor, "n d"], t: float, generator: torch.Generator) -> None:
        """Lower `arithmetic` if the score is noisier than its dtype explains."""
        with torch.no_grad():
            direction = self.normal(x.shape, generator)
            step = 2.0**-20 * math.sqrt(t)
            values = [self(x + i * step * direction, t) for i in range(-2, 3)]
            again = self(x, t)
        fourth = values[0] - 4 * values[1] + 6 * values[2] - 4 * values[3] + values[4]
        noise = root_mean_square(fourth) / math.sqrt(70.0)  # 1 + 16 + 36 + 16 + 1
        size = root_mean_square(values[2]) + 1 / math.sqrt(t)
        if root_mean_square(again - values[2]) > REPEAT * size:
            return  # chance, not rounding
        relative = noise / size
        names = list(ARITHMETICS)
        seen = "float64" if relative < 2.0**-34 else "float32" if relative < 2.0**-16 else "half"
        self.arithmetic = max(self.arithmetic, seen, key=names.index)

    def normal(self, shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
        """Standard normal numbers in float64 on the device of the points."""
        return torch.randn(shape, dtype=torch.float64, generator=generator, device=generator.device).to(self.device)

    def moved(self, x: Float[Tensor, "n d"], t: float, generator: torch.Generator) -> tuple[Float[Tensor, "n d"], float]:
        """Points and time moved by a few units in the last place of the arithmetic."""
        uniform = 2 * torch.rand((x.numel() + 1,), dtype=torch.float64, generator=generator, device=generator.device).to(self.device) - 1
        size = ULPS * self.epsilon
        return x * (1 + size * uniform[1:].reshape(x.shape)), t * (1 + size * float(uniform[0]))

    def settle_derivatives(self, x: Float[Tensor, "n d"], t: float, generator: torch.Generator) -> None:
        """Use automatic differentiation in x only where it agrees with differences: code may detach, and then it says 0."""
        direction = self.normal(x.shape, generator)
        try:
            exact = self._jvp(x, t, direction)
        except Exception:  # operations without a derivative raise all kinds of errors
            self.by_autograd = False
            return
        quotient, _ = self._difference(x, t, direction)
        self.by_autograd = self.by_autograd and root_mean_square(exact - quotient) <= 0.1 * (
            root_mean_square(quotient) + self.epsilon * 1e3 / t
        )

    def along(self, x: Float[Tensor, "n d"], t: float, direction: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], float]:
        """The derivative of the score along `direction`, and the root mean square of its truncation error."""
        return (self._jvp(x, t, direction), 0.0) if self.by_autograd else self._difference(x, t, direction)

    def along_each(self, x: Float[Tensor, "n d"], t: float, directions: Float[Tensor, "m n d"]) -> tuple[Float[Tensor, "m n d"], float]:
        """The derivatives along several directions at each point, in one batch, and their truncation error."""
        m, n, d = directions.shape
        value, error = self.along(x.repeat(m, 1), t, directions.reshape(m * n, d))
        return value.reshape(m, n, d), error

    def _jvp(self, x: Tensor, t: Any, direction: Tensor) -> Tensor:
        return torch.func.jvp(lambda y: self.raw(y, t), (x,), (direction,))[1].detach()

    def _difference(self, x: Tensor, t: float, direction: Tensor) -> tuple[Tensor, float]:
        # Two steps extrapolated: truncation h^4, rounding epsilon/h, in units of sqrt(t); least at h = epsilon^(1/5).
        step = self.epsilon**0.2 * math.sqrt(t) / (root_mean_square(direction) + 1e-300)
        with torch.no_grad():
            one, two = ((self(x + h * direction, t) - self(x - h * direction, t)) / (2 * h) for h in (step, 2 * step))
        return (4 * one - two) / 3, root_mean_square(one - two) / 3


def agrees(exact: Tensor, quotient: Tensor, error: float) -> bool:
    """Whether a derivative is within a tenth of a difference quotient, or within ten times the error of that."""
    return root_mean_square(exact - quotient) <= 0.1 * root_mean_square(quotient) + 10 * error


class Terms(NamedTuple):
    """Parts of an equation at some points, for the size that rounding is compared with."""

    defect: Tensor
    """What should vanish."""
    size: float
    """Root mean square of the terms it is made of."""
    truncation: float
    """Root mean square of the error of difference quotients; 0 with automatic differentiation."""


class Measured(NamedTuple):
    """A relative defect and what rounding (and difference quotients) may make of it."""

    value: float
    allowed: float


def measure(
    probe: Probe, terms: Callable[[Tensor, float], Terms], x: Tensor, t: float, natural: float, generator: torch.Generator
) -> Measured:
    """`|defect|/size`, root mean squares over the points, and what it is allowed to be when the score is exact.

    Allowed are `SAFETY` times the change when the inputs move in the last place, `SAFETY` times the truncation of difference
    quotients, and `FLOOR` units in the last place of the largest term, at least of the `natural` size.
    """
    first = terms(x, t)
    change = max(root_mean_square(terms(*probe.moved(x, t, generator)).defect - first.defect) for _ in range(MOVES))
    size = first.size + 1e-300
    allowed = (SAFETY * (change + first.truncation) + FLOOR * probe.epsilon * (first.size + natural)) / size
    return Measured(root_mean_square(first.defect) / size, allowed)


def root_mean_square(value: Tensor) -> float:
    """Root mean square over the points of the Euclidean norm."""
    return float(value.detach().double().reshape(len(value), -1).square().sum(-1).mean().sqrt())


def _show(t: Any) -> str:
    return f"{float(t.reshape(-1)[0]):.6g} for each row" if isinstance(t, Tensor) else f"{t:.6g}"
