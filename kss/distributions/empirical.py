r"""The empirical law of a data set, and hence its exact score.

For points `x_1..x_N` the law `p_0^N = (1/N) sum_i delta_{x_i}` is a distribution like any other - that is the point of
the whole theory. Its posterior mean is softmax attention over the data with a per-key bias,

    m_t^N(x) = sum_i w_i x_i,    w = softmax_i(-|x - x_i|^2/(2t)) = softmax_i(<x, x_i>/t - |x_i|^2/(2t)),

its posterior covariance that of the data under the weights w, and `log p_t^N(x)` a Gaussian kernel density estimate.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_query
from kss.distributions.base import Distribution, Posterior
from kss.engine.data import Data
from kss.engine.difference import second_moment
from kss.engine.reduce import reduce


class Empirical(Distribution):
    """`(1/N) sum_i delta_{x_i}`, for `points` of shape (N, d); ties, duplicates and N = 1 are legal.

    Memory beyond the prepared data is bounded whatever N and the number of queries (when no gradient is asked for).
    `score` and `log_density` err by no more than moving `x` and the points by a few units in the last place would
    change them; where that is negligible the relative error is below 1e-12. The posterior mean errs by a few units in the last
    place of the largest coordinate of the data.

    >>> Empirical([[0.0], [1.0]]).denoise([[0.5]], t=0.1)
    tensor([[0.5000]], dtype=torch.float64)
    """

    intrinsic_dim = 0

    def __init__(self, points: ArrayLike) -> None:
        self.points = as_points("points", points)
        self.dim = self.points.shape[1]
        self._data = Data(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        points = self.points.tolist() if self.points.numel() <= 64 else f"<{len(self)} points in dimension {self.dim}>"
        return f"Empirical({points})"

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n d"]:
        n, generator = as_count("n", n), as_generator(generator)
        return self.points[torch.randint(len(self), (n,), generator=generator, device=generator.device).to(self.points.device)]

    def bounds(self) -> Float[Tensor, "2 d"]:
        return torch.stack((self.points.amin(0), self.points.amax(0)))

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self.points)
        shape = query.x.shape[:-1]
        flat, noise = query.x.reshape(-1, self.dim), query.t.reshape(-1)
        sums = reduce(self._data, flat, noise)
        to_reference = sums.reference - flat
        # |x - x_ref|^2/(2t), divided before it is squared: overflows only where the result does.
        form = ((to_reference / (math.sqrt(2) * noise.sqrt()).unsqueeze(-1)) ** 2).sum(-1)
        log_normalizer = math.log(len(self)) + self.dim / 2 * (math.log(2 * math.pi) + noise.log())

        def covariance() -> Float[Tensor, "*batch d d"]:
            return second_moment(self._data, flat, noise, sums, full=True).reshape(*shape, self.dim, self.dim)

        def covariance_trace() -> Float[Tensor, "*batch"]:
            return second_moment(self._data, flat, noise, sums, full=False).reshape(shape)

        return Posterior(
            mean=(sums.reference + self._data.scale * sums.offset).reshape(*shape, self.dim),
            displacement=(to_reference + self._data.scale * sums.offset).reshape(*shape, self.dim),
            log_evidence=(sums.log_total - form - log_normalizer).reshape(shape),
            covariance=covariance,
            covariance_trace=covariance_trace,
            dtype=query.dtype,
        )
