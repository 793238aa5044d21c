r"""Averages over space and over noise levels: a score at places displaced by V and at times delayed by tau.

    s~_t(x) = E s_{t + tau}(x + V),        V ~ K,  tau ~ rho >= 0, independent.

With one delay 0 it is `Mollified`, with a kernel that is a point and one delay `TimeShifted`. A delay smooths the noise of an
empirical score as a Gaussian kernel of the same variance does, but what it averages are scores of other laws: across a manifold the
stiffness `1/t` becomes `E 1/(t + tau)`.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_query, as_tensor, reject
from kss.kernels import Kernel
from kss.scores.mollified import Averaged, Mollified
from kss.scores.protocol import Score
from kss.scores.shifted import TimeShifted


def exponential_delays(mean: float, nodes: int = 8) -> tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"]]:
    """Delays and weights that average polynomials of degree `2 nodes - 1` over the exponential law exactly (Gauss and Laguerre)."""
    if as_count("nodes", nodes) > 150:
        raise reject("nodes", nodes, "at most 150: the weights of more underflow")
    at, weights = special.roots_laguerre(nodes)
    return as_positive("mean", mean) * torch.from_numpy(at), torch.from_numpy(weights / weights.sum())


def uniform_delays(longest: float, nodes: int = 8) -> tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"]]:
    """Delays and weights that average polynomials of degree `2 nodes - 1` over the uniform law on [0, longest] exactly (Gauss).

    >>> delays, weights = uniform_delays(3.0)
    >>> weights @ delays**2
    tensor(3.0000, dtype=torch.float64)
    """
    at, weights = special.roots_legendre(as_count("nodes", nodes))
    return as_positive("longest", longest) * torch.from_numpy((1 + at) / 2), torch.from_numpy(weights / weights.sum())


class SpaceTime:
    """`sum_j w_j K * s_{t + tau_j}`: the mean of a score over a kernel and over delays.

    Arguments: `base`, a `Distribution` or any score; `kernel`, whose functions of t are asked at t, not at `t + tau`; `delays`
    tau_j >= 0 (variances), a number or several; `weights` w_j >= 0 of the delays, divided by their sum, equal if omitted; the others as for
    `Mollified`. The law of the delays is the rule that is given (`exponential_delays` and `uniform_delays` make some): the error
    estimate is that of the averages over the kernel.

    >>> from kss.distributions import Gaussian
    >>> from kss.kernels import GaussianKernel
    >>> SpaceTime(Gaussian([0.0], 1.0), GaussianKernel(0.5), [0.0, 1.0]).score([[3.0]], t=1.0)  # -3 (1/2 + 1/3)/2
    tensor([[-1.2500]], dtype=torch.float64)
    """

    def __init__(
        self,
        base: Score,
        kernel: Kernel,
        delays: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        accuracy: float | None = None,
        most_nodes: int = 2**16,
        scrambling: int = 0,
    ) -> None:
        self.delays = np.atleast_1d(as_tensor("delays", delays).detach().cpu().double().numpy())
        if self.delays.ndim != 1 or len(self.delays) == 0 or bool((self.delays < 0).any()):
            raise reject("delays", delays, "variances >= 0, at least one")
        shares = (
            np.ones(len(self.delays)) if weights is None else np.atleast_1d(as_tensor("weights", weights).detach().cpu().double().numpy())
        )
        if shares.shape != self.delays.shape or bool((shares < 0).any()) or not shares.sum() > 0:
            raise reject("weights", weights, f"{len(self.delays)} numbers >= 0, not all 0")
        self.base, self.kernel, self.weights = base, kernel, shares / shares.sum()
        self._parts = [
            Mollified(
                TimeShifted(base, float(delay)) if delay else base,
                kernel,
                accuracy=accuracy,
                most_nodes=most_nodes,
                scrambling=scrambling,
            )
            for delay in self.delays
        ]

    def __repr__(self) -> str:
        return f"SpaceTime({self.base!r}, {self.kernel!r}, {self.delays.tolist()}, {self.weights.tolist()})"

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """The averaged score, of the shape (..., d) of `x`."""
        return self.score_with_error(x, t).value

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`x + t s~_t(x)`: where this score points, used at noise variance t."""
        x, score = as_tensor("x", x), self.score(x, t)
        points, noise, _ = as_query(x, t, like=x)
        return (points + noise * score.double()).to(score.dtype)

    def score_with_error(self, x: ArrayLike, t: ArrayLike) -> Averaged:
        """The score (..., d) and the estimated error (...) of the averages over the kernel: the weighted sum of theirs."""
        found = [part.score_with_error(x, t) for part in self._parts]
        value, error = (sum(w * each[i] for w, each in zip(self.weights.tolist(), found, strict=True)) for i in (0, 1))
        assert isinstance(value, Tensor)
        assert isinstance(error, Tensor)
        return Averaged(value, error)
