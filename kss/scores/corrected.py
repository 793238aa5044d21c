r"""Mollification with its leading biases taken off.

For a Gaussian kernel `K_h * s = exp(h Lap/2) s`, so averages with 1, 2, ..., r times the variance can be combined until the first r - 1
powers of h cancel (Richardson's extrapolation):

    s^ = sum_j w_j K_{jh} * s,    w_j = (-1)^{j-1} binom(r, j),    s^ - s = -(1 - exp(h Lap/2))^r s = -(-h/2)^r Lap^r s + O(h^{r+1}).

Order r = 1 is mollification, r = 2 is `2 K_h - K_2h`. For any symmetric kernel with as many moments, of covariance hS, the same powers
cancel. The kernel is signed from r = 2 on: what rests on Jensen's inequality or on log-concavity is lost.
"""

import math
from fractions import Fraction

from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_query, as_tensor
from kss.kernels import Kernel
from kss.scores.mollified import Averaged, Mollified
from kss.scores.protocol import Score


def richardson_weights(order: int) -> tuple[Fraction, ...]:
    """`w_j = (-1)^{j-1} binom(r, j)` for j = 1, ..., r: `sum w_j = 1` and `sum w_j j^m = 0` for m = 1, ..., r - 1.

    The next moment is `sum w_j j^r = (-1)^{r-1} r!`. Exact; derived here (the r-th difference of a power).

    >>> [int(w) for w in richardson_weights(3)]
    [3, -3, 1]
    """
    order = as_count("order", order)
    return tuple(Fraction((-1) ** (j - 1) * math.comb(order, j)) for j in range(1, order + 1))


class BiasCorrected:
    """`sum_j w_j K_{jh} * s_t` with `richardson_weights(order)`; `K_{jh}` is the kernel with j times the variance.

    Order 2, the default, is `2 K_h * s_t - K_2h * s_t`; order 1 is `Mollified`. Options as for `Mollified`, and so is the kernel: its
    bandwidth may be a function of t.

    >>> from kss.distributions import Gaussian
    >>> from kss.kernels import GaussianKernel
    >>> BiasCorrected(Gaussian([0.0], 1.0), GaussianKernel(0.5)).score([[1.0]], t=0.5)
    tensor([[-0.6667]], dtype=torch.float64)
    """

    def __init__(
        self,
        base: Score,
        kernel: Kernel,
        order: int = 2,
        *,
        accuracy: float | None = None,
        most_nodes: int = 2**16,
        scrambling: int = 0,
    ) -> None:
        self.weights = tuple(float(w) for w in richardson_weights(order))
        self.averages = tuple(
            Mollified(base, kernel if j == 0 else kernel.scaled(j + 1.0), accuracy=accuracy, most_nodes=most_nodes, scrambling=scrambling)
            for j in range(len(self.weights))
        )

    @property
    def order(self) -> int:
        """How many averages are combined: the bias is of this order in h."""
        return len(self.weights)

    @property
    def narrow(self) -> Mollified:
        """The average with the kernel as given."""
        return self.averages[0]

    @property
    def wide(self) -> Mollified:
        """The average with `order` times its variance."""
        return self.averages[-1]

    def __repr__(self) -> str:
        order = "" if self.order == 2 else f", order={self.order}"
        return f"BiasCorrected({self.narrow.base!r}, {self.narrow.kernel!r}{order})"

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`sum_j w_j K_{jh} * s_t`, of the shape of `x` (..., d)."""
        return self.score_with_error(x, t).value

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`x + t s^_t(x)`."""
        x, score = as_tensor("x", x), self.score(x, t)
        points, noise, _ = as_query(x, t, like=x)
        return (points + noise * score.double()).to(score.dtype)

    def score_with_error(self, x: ArrayLike, t: ArrayLike) -> Averaged:
        """The score (..., d) and a bound on its error (...): `sum_j |w_j| error_j` of the averages' estimates."""
        return self._combined([average.score_with_error(x, t) for average in self.averages])

    def unnormalized_log_density(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
        """`sum_j w_j K_{jh} * log p_t`, of shape (...), whose gradient the score is; the base must be a `Distribution`."""
        return self._combined([average.unnormalized_log_density_with_error(x, t) for average in self.averages]).value

    def _combined(self, parts: list[Averaged]) -> Averaged:
        value, error = self.weights[0] * parts[0].value, abs(self.weights[0]) * parts[0].error
        for weight, part in zip(self.weights[1:], parts[1:], strict=True):
            value, error = value + weight * part.value, error + abs(weight) * part.error
        return Averaged(value, error)
