r"""What is diffused, and everything that follows from its posterior.

Setting. `X_0 ~ p_*` on R^d and `X_t = X_0 + sqrt(t) Z` with `Z ~ N(0, I_d)`: `t` is the noise **variance** per coordinate,
and `X_t` has the density `p_t = G_t * p_*`. Write

    m_t(x) = E[X_0 | X_t = x]        posterior mean ("denoiser")
    C_t(x) = Cov[X_0 | X_t = x]      posterior covariance

Then Tweedie's formulas give the score and its Jacobian,

    s_t(x) = grad log p_t(x) = (m_t(x) - x) / t,        grad s_t(x) = C_t(x)/t^2 - I/t,

so a distribution implements `posterior` and nothing else. The posterior holds the *displacement* `m_t(x) - x` beside the mean:
at small `t` the difference of the two nearly equal vectors would lose every digit, and far from the data their sum would, so
no distribution computes one from the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_positive


class Posterior:
    """The law of `X_0` given `X_t = x`, as far as scores need it.

    Attributes: `displacement` (..., d) `= m_t(x) - x`; `mean` (..., d); `log_evidence` (...) `= log p_t(x)`;
    `covariance()` (..., d, d) and `covariance_trace` (...), both computed when asked for; `dtype`, that of them all.
    """

    def __init__(
        self,
        *,
        mean: Float[Tensor, "*batch d"],
        displacement: Float[Tensor, "*batch d"],
        log_evidence: Float[Tensor, "*batch"],
        covariance: Callable[[], Float[Tensor, "*batch d d"]],
        dtype: torch.dtype,
        covariance_trace: Callable[[], Float[Tensor, "*batch"]] | None = None,
    ) -> None:
        self.displacement = displacement.to(dtype)
        self.mean = mean.to(dtype)
        self.log_evidence = log_evidence.to(dtype)
        self.dtype = dtype
        self._exact_mean, self._exact_displacement, self._exact_evidence = mean, displacement, log_evidence
        self._covariance, self._trace = covariance, covariance_trace

    def unrounded(self) -> "Posterior":
        """The same in the dtype it was computed in, for what is computed from it: at t = 1e-60 a displacement is 0 in float32."""
        return Posterior(
            mean=self._exact_mean,
            displacement=self._exact_displacement,
            log_evidence=self._exact_evidence,
            covariance=self._covariance,
            dtype=self._exact_displacement.dtype,
            covariance_trace=self._trace,
        )

    def covariance(self) -> Float[Tensor, "*batch d d"]:
        """`C_t(x)`, symmetric and positive semidefinite."""
        return self._covariance().to(self.dtype)

    @property
    def covariance_trace(self) -> Float[Tensor, "*batch"]:
        """`tr C_t(x)`, without forming the matrix where the law can avoid it."""
        if self._trace is not None:
            return self._trace().to(self.dtype)
        return self._covariance().diagonal(dim1=-2, dim2=-1).sum(-1).to(self.dtype)


class Distribution(ABC):
    """A law `p_*` on R^d, given through the posterior of `X_0` under Gaussian noise.

    Every method takes `x` of shape (..., d) and a noise variance `t` > 0, a number or of shape (...); NumPy arrays are
    accepted and tensors come back. Arithmetic is float64 inside; the result has the dtype that the law's parameters,
    `x` and a non-scalar `t` promote to. Gradients flow through `x`. A NaN, an infinity, a wrong width or `t <= 0`
    raises `ValueError`.
    """

    dim: int
    """Ambient dimension d."""
    intrinsic_dim: int
    """Dimension k of the support."""

    @abstractmethod
    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n d"]:
        """`n` independent draws of `X_0`, of shape (n, d)."""

    @abstractmethod
    def bounds(self) -> Float[Tensor, "2 d"]:
        """Two opposite corners of a box that holds `p_*`, or all but 1e-15 of it."""

    @abstractmethod
    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        """The law of `X_0` given `X_t = x`."""

    def diffuse(self, n: int, t: float, generator: Seed) -> Float[Tensor, "n d"]:
        """`n` independent draws of `X_t = X_0 + sqrt(t) Z`, of shape (n, d)."""
        n, t = as_count("n", n), as_positive("t", t)
        generator = as_generator(generator)
        clean = self.sample(n, generator)
        noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator, device=generator.device)
        return clean + t**0.5 * noise.to(clean.device)

    def log_density(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
        """`log p_t(x)`, of shape (...)."""
        return self.posterior(x, t).log_evidence

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`s_t(x) = grad log p_t(x) = (m_t(x) - x) / t` (Tweedie), of shape (..., d)."""
        posterior = self.posterior(x, t)
        displacement = posterior.unrounded().displacement
        return (displacement / _column(t, displacement)).to(posterior.dtype)

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`m_t(x) = E[X_0 | X_t = x]`, of shape (..., d)."""
        return self.posterior(x, t).mean

    def score_jacobian(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`grad s_t(x) = (C_t(x)/t - I)/t` (second-order Tweedie), of shape (..., d, d).

        Laws for which `C_t/t` is near the identity override it, because the difference cancels.
        """
        posterior = self.posterior(x, t)
        covariance = posterior.unrounded().covariance()
        t = _column(t, covariance).unsqueeze(-1)
        eye = torch.eye(self.dim, dtype=covariance.dtype, device=covariance.device)
        return ((covariance / t - eye) / t).to(posterior.dtype)


def _column(t: ArrayLike, like: Tensor) -> Float[Tensor, "*t 1"]:
    """`t` in float64 with a last axis of length 1."""
    return torch.as_tensor(t, dtype=torch.float64, device=like.device).unsqueeze(-1)
