r"""Mollification with a kernel whose shape follows the data: long where they are spread out, thin where they are not.

About each point the score is averaged over

    N(0, S(x)),     S(x) = scale C_h(x) + floor I,     C_h(x) = Cov[X_0 | X_h = x],

the posterior covariance, at noise variance h, of a law that stands for the data (their empirical law, say). Where the law is normal with
variance v in some direction, `C_h` has `h v/(h + v)` there: nearly h if `v >> h`, nearly v if `v << h`. Near a smooth k-manifold it is
h times the projector on the tangent space, up to terms of order `h^2/R^2`: the kernel smooths along the manifold and not
across. (The noise covariance `Sigma_t` has a shape like `C_{t/2}`, which is too round: it sees every variance far above t as t/2.)

    s~_t(x) = E s_t(x + S(x)^{1/2} U),    U ~ N(0, I).

Because S moves with x this is in general *not* a gradient: it is no density's score, so there is no LED-KDE here, and Jensen's inequality
and log-concavity, which come with one, are lost. It is a field that drives a reverse diffusion all the same.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_positive, as_query, as_tensor, reject
from kss.distributions.base import Distribution
from kss.distributions.empirical import Empirical
from kss.kernels import Bandwidth, GaussianKernel, matrix_root
from kss.scores.mollified import Offsets, Smoothed
from kss.scores.protocol import Score


class AdaptivelyMollified(Smoothed):
    """`E s_t(x + V)` with `V ~ N(0, scale C_h(x) + floor I)`; `h`, `floor` and `t` are variances.

    Arguments: `base`, a `Distribution` or any score; `data`, the law whose posterior covariance gives the shape, or points (N, d), which
    stand for their empirical law; `h > 0`, a number or a function of the noise variances t (n,) that gives one, or one for each;
    `scale > 0`; `floor >= 0`; the others as for `Mollified`, with an error estimate of the same meaning.

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.01]])
    >>> AdaptivelyMollified(law, law, 0.2).shape([[1.0, 0.0]], t=0.1)
    tensor([[[0.1905, 0.0000],
             [0.0000, 0.0095]]], dtype=torch.float64)
    """

    def __init__(
        self,
        base: Score,
        data: Distribution | ArrayLike,
        h: Bandwidth,
        *,
        scale: float = 1.0,
        floor: float = 0.0,
        accuracy: float | None = None,
        most_nodes: int = 2**16,
        scrambling: int = 0,
    ) -> None:
        super().__init__(base, GaussianKernel(1.0), accuracy=accuracy, most_nodes=most_nodes, scrambling=scrambling)
        self.data = data if isinstance(data, Distribution) else Empirical(data)
        if isinstance(base, Distribution) and base.dim != self.data.dim:
            raise reject("data", data, f"a law or points in R^{base.dim}, as base is")
        if not callable(h) and as_tensor("h", h).numel() != 1:
            raise reject("h", h, "a variance > 0, or a function of t")
        self.h = h if callable(h) else as_positive("h", float(as_tensor("h", h)))
        self.scale, self.floor = as_positive("scale", scale), float(floor)
        if not 0 <= self.floor < float("inf"):
            raise reject("floor", floor, "a variance >= 0")

    def __repr__(self) -> str:
        h = "function of t" if callable(self.h) else self.h
        return f"AdaptivelyMollified({self.base!r}, {self.data!r}, {h}, scale={self.scale}, floor={self.floor})"

    def shape(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`S(x) = scale C_h(x) + floor I`, of shape (..., d, d), in float64; `t` matters only where h is a function of it."""
        query = as_query(x, t, like=self.data.bounds())
        flat = query.x.reshape(-1, query.x.shape[-1])
        return self._shape(flat, query.t.reshape(-1)).reshape(*query.x.shape, query.x.shape[-1])

    def _shape(self, x: Float[Tensor, "n d"], time: Float[Tensor, " n"]) -> Float[Tensor, "n d d"]:
        if callable(self.h):
            h = as_tensor("h(t)", self.h(time)).double()
            if tuple(h.shape) not in ((), tuple(time.shape)) or not bool((h > 0).all()):
                raise reject("h(t)", h, "a variance > 0, or one for each t")
        else:
            h = torch.tensor(self.h, dtype=torch.float64)
        covariance = self.data.posterior(x.double(), h.to(x.device).expand(time.shape)).unrounded().covariance()
        eye = torch.eye(x.shape[-1], dtype=torch.float64, device=x.device)
        return self.scale * (covariance + covariance.mT) / 2 + self.floor * eye

    def _offsets(self, x: Float[Tensor, "n d"], time: Float[Tensor, " n"]) -> Offsets:
        root = matrix_root(self._shape(x, time))
        return lambda nodes, which: torch.einsum("nab,mb->nma", root[which], nodes)

    def _fast(self, x: Tensor, time: Tensor) -> None:
        """None: the points share no nodes."""
