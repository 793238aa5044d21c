r"""The empirical law of a data set, and hence its exact score.

For points `x_1..x_N` the law `p_0^N = (1/N) sum_i delta_{x_i}` is a distribution like any other - that is the point of
the whole theory. Its posterior mean is softmax attention over the data with a per-key bias,

    m_t^N(x) = sum_i w_i x_i,    w = softmax_i(-|x - x_i|^2/(2t)) = softmax_i(<x, x_i>/t - |x_i|^2/(2t)),

its posterior covariance that of the data under the weights w, and `log p_t^N(x)` a Gaussian kernel density estimate.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, Seed, as_count, as_generator, as_points, as_positive, as_query, reject
from kss.distributions.base import Distribution, Posterior
from kss.engine.data import Data, Sums
from kss.engine.factorized import Averages, averages
from kss.engine.moments import second_moment
from kss.engine.reduce import METHODS, NARROW_TOLERANCE, TOLERANCE, reduce, trace


class Empirical(Distribution):
    """`(1/N) sum_i delta_{x_i}`, for `points` of shape (N, d); ties, duplicates and N = 1 are legal.

    Memory beyond the prepared data is bounded whatever N and the number of queries (when no gradient is asked for).

    `tol` is the relative error of the score, and of 1 plus the log-density, that is allowed. By default it is 5e-13 for results in float64:
    `score` and `log_density` then err by no more than moving `x` and the points by a few units in the last place would
    change them; where that is negligible the relative error is below 1e-12. The posterior mean errs by a few units in the last
    place of the largest coordinate of the data. For results in float32 it is 1e-5, and from 1e-6 on the engine works in float32,
    estimates the error of every row, and does again in float64 what is not good enough.

    `method` names the way to compute, "auto" by default; whichever it is, rows that it cannot serve within `tol` are done again by
    another. "product": matrix products; "attention": the attention kernel of torch; "nearest": only points that carry weight, with
    a bound on the others; "boxes": only regions that carry weight, likewise; "difference": differences to all points, slow and
    always right.

    >>> Empirical([[0.0], [1.0]]).denoise([[0.5]], t=0.1)
    tensor([[0.5000]], dtype=torch.float64)
    """

    intrinsic_dim = 0

    def __init__(self, points: ArrayLike, *, tol: float | None = None, method: str = "auto") -> None:
        points = as_points("points", points)
        self.dim = points.shape[1]
        if tol is not None and as_positive("tol", tol) < TOLERANCE:
            raise reject("tol", tol, f"a relative error of {TOLERANCE} at the least")
        if method not in METHODS:
            raise reject("method", method, f"one of {', '.join(METHODS)}")
        self.tol, self.method = tol, method
        with torch.inference_mode(False):
            # A copy, for what is prepared must stay that of the points.
            self.points = points.detach().clone()
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
        # Copies, for the covariance may be asked for when the caller has changed x.
        flat, noise = query.x.reshape(-1, self.dim).clone(), query.t.reshape(-1).clone()
        tolerance = self.tol or (TOLERANCE if query.dtype == torch.float64 else NARROW_TOLERANCE)
        full_precision = torch.autocast(flat.device.type, enabled=False)
        with full_precision:
            sums = reduce(self._data, flat, noise, tolerance, self.method)

        def second(full: bool) -> Tensor:
            with full_precision:
                if full:
                    return second_moment(self._data, flat, noise, sums, full=True)
                return trace(self._data, flat, noise, sums, tolerance)

        return posterior_from_sums(query, sums, self._data.scale, len(self), second)

    def mollified_displacement(
        self, x: Float[Tensor, "n d"], t: Float[Tensor, ""], nodes: Float[Tensor, "r m d"], weights: Float[Tensor, "k m"]
    ) -> Averages | None:
        """Sums over nodes that all points share, see `kss.scores.Mollified`: by products of two factors, unless a `method` is named."""
        return averages(self._data, x, t, nodes, weights) if self.method == "auto" else None


def posterior_from_sums(query: Query, sums: Sums, scale: float, count: int, second: Callable[[bool], Tensor]) -> Posterior:
    """The posterior at `query`, from the sums over `count` points, for its rows in a line and in units of `scale`.

    `second(full)` is the covariance (full) or its trace, for the rows in a line and in the user's units.
    """
    shape, dim = query.x.shape[:-1], query.x.shape[-1]
    flat, noise = query.x.reshape(-1, dim), query.t.reshape(-1)
    to_reference = sums.reference - flat
    # |x - x_ref|^2/(2t), divided before it is squared: overflows only where the result does.
    form = ((to_reference / (math.sqrt(2) * noise.sqrt()).unsqueeze(-1)) ** 2).sum(-1)
    log_normalizer = math.log(count) + dim / 2 * (math.log(2 * math.pi) + noise.log())
    return Posterior(
        mean=(sums.reference + scale * sums.offset).reshape(*shape, dim),
        displacement=(to_reference + scale * sums.offset).reshape(*shape, dim),
        log_evidence=(sums.log_total - form - log_normalizer).reshape(shape),
        covariance=lambda: second(True).reshape(*shape, dim, dim),
        covariance_trace=lambda: second(False).reshape(shape),
        dtype=query.dtype,
    )
