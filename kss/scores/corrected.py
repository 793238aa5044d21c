r"""Mollification with its leading bias taken off.

For a symmetric kernel with covariance S, `K * s = s + (1/2) sum_ij S_ij d_i d_j s + O(S^2)`, and with twice the variance the second
term doubles. So

    s^ = 2 K_h * s - K_2h * s = s + O(h^2):

Richardson's extrapolation. Its kernel is not positive: what rests on Jensen's inequality or on log-concavity is lost.
"""

from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_query, as_tensor
from kss.kernels import Kernel
from kss.scores.mollified import Averaged, Mollified
from kss.scores.protocol import Score


class BiasCorrected:
    """`2 K_h * s_t - K_2h * s_t`, with `K_2h` the kernel of twice the variance; options as for `Mollified`.

    >>> from kss.distributions import Gaussian
    >>> from kss.kernels import GaussianKernel
    >>> BiasCorrected(Gaussian([0.0], 1.0), GaussianKernel(0.5)).score([[1.0]], t=0.5)
    tensor([[-0.6667]], dtype=torch.float64)
    """

    def __init__(self, base: Score, kernel: Kernel, *, accuracy: float | None = None, most_nodes: int = 2**16, scrambling: int = 0) -> None:
        self.narrow = Mollified(base, kernel, accuracy=accuracy, most_nodes=most_nodes, scrambling=scrambling)
        self.wide = Mollified(base, kernel.scaled(2.0), accuracy=accuracy, most_nodes=most_nodes, scrambling=scrambling)

    def __repr__(self) -> str:
        return f"BiasCorrected({self.narrow.base!r}, {self.narrow.kernel!r})"

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`2 K_h * s_t - K_2h * s_t`, of the shape of `x` (..., d)."""
        return self.score_with_error(x, t).value

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`x + t s^_t(x)`."""
        x, score = as_tensor("x", x), self.score(x, t)
        points, noise, _ = as_query(x, t, like=x)
        return (points + noise * score.double()).to(score.dtype)

    def score_with_error(self, x: ArrayLike, t: ArrayLike) -> Averaged:
        """The score (..., d) and a bound on its error (...): twice the estimate of the narrow average plus that of the wide one."""
        return _extrapolate(self.narrow.score_with_error(x, t), self.wide.score_with_error(x, t))

    def unnormalized_log_density(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
        """`2 K_h * log p_t - K_2h * log p_t`, of shape (...), whose gradient the score is; the base must be a `Distribution`."""
        return _extrapolate(
            self.narrow.unnormalized_log_density_with_error(x, t), self.wide.unnormalized_log_density_with_error(x, t)
        ).value


def _extrapolate(narrow: Averaged, wide: Averaged) -> Averaged:
    return Averaged(2 * narrow.value - wide.value, 2 * narrow.error + wide.error)
