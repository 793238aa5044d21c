r"""Gaussian laws and their mixtures, with full covariances.

For `p_* = N(mu, S)`, `S = Q diag(lambda) Q^T`, the posterior under noise of variance `t` is Gaussian with

    m_t(x) - x = -t (S + t I)^{-1} (x - mu),     C_t = t S (S + t I)^{-1},     p_t = N(mu, S + t I),

and for a mixture `sum_k pi_k N(mu_k, S_k)` it is the mixture of these with the responsibilities
`r_k(x) ∝ pi_k N(x; mu_k, S_k + t I)`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, Seed, as_count, as_generator, as_points, as_query, as_tensor, reject
from kss.distributions.base import Distribution, Posterior

LARGEST = 1e300
"""Stands for "too large to matter": finite, so that 0 * LARGEST is 0 and never NaN."""


class GaussianMixture(Distribution):
    r"""`sum_k pi_k N(mu_k, S_k)`.

    Arguments: `means` (K, d); `covariances` (K, d, d), or (d, d) for one shared by all, symmetric and positive
    semidefinite (a singular one is a law on an affine subspace); `weights` (K,), nonnegative, normalized here; equal if omitted.

    >>> law = GaussianMixture(means=[[-1.0], [1.0]], covariances=[[0.25]])
    >>> law.score([[0.0]], t=0.5)
    tensor([[0.]], dtype=torch.float64)
    """

    def __init__(self, means: ArrayLike, covariances: ArrayLike, weights: ArrayLike | None = None) -> None:
        self.means = as_points("means", means)
        count, self.dim = self.means.shape
        self.covariances, self._eigenvalues, self._eigenvectors = _decompose(covariances, count, self.dim, self.means)
        self.weights = _normalize(weights, count, self.means)
        # Between distinct affine pieces the support has the dimension of the largest one.
        scale = self._eigenvalues.amax(-1, keepdim=True)
        rank = (self._eigenvalues > self.dim * torch.finfo(torch.float64).eps * scale).sum(-1)
        self.intrinsic_dim = int(rank[self.weights > 0].max())

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(means={self.means.tolist()}, covariances={self.covariances.tolist()}, weights={self.weights.tolist()})"
        )

    def sample(self, n: int, generator: Seed) -> Float[Tensor, "n d"]:
        n, generator = as_count("n", n), as_generator(generator)
        device = self.means.device
        which = torch.multinomial(self.weights.to(generator.device), n, replacement=True, generator=generator).to(device)
        noise = torch.randn(n, self.dim, dtype=torch.float64, generator=generator, device=generator.device).to(device)
        spread = self._eigenvectors * self._eigenvalues.sqrt().unsqueeze(-2)
        return (self.means.double()[which] + (spread[which] @ noise.unsqueeze(-1)).squeeze(-1)).to(self.means.dtype)

    def bounds(self) -> Float[Tensor, "2 d"]:
        reach = 8.3 * self.covariances.diagonal(dim1=-2, dim2=-1).double().sqrt()  # P(|Z| > 8.3) = 1e-16
        present = self.weights > 0
        means = self.means.double()
        return torch.stack(((means - reach)[present].amin(0), (means + reach)[present].amax(0))).to(self.means.dtype)

    def _components(self, query: Query) -> "_Components":
        x, t = query.x.unsqueeze(-2), query.t.unsqueeze(-2)  # (..., 1, d), (..., 1, 1)
        variances = self._eigenvalues + t  # (..., K, d)
        centered = torch.einsum("...kd,kde->...ke", x - self.means.double(), self._eigenvectors)  # (..., K, d), eigenbasis
        # Far away the quadratic forms overflow; their differences, taken at unit scale, do not.
        whitened = (centered / variances.sqrt()).clamp(-LARGEST, LARGEST)
        scale = whitened.detach().abs().amax((-2, -1), keepdim=True).clamp_min(1.0)
        form = ((whitened / scale) ** 2).sum(-1) / 2  # (..., K)
        least = form.amin(-1, keepdim=True)
        square = (scale.squeeze(-1) ** 2).clamp_max(LARGEST)
        log_weight = self.weights.log() - variances.log().sum(-1) / 2 + (least - form) * square
        log_total = torch.logsumexp(log_weight, -1)
        log_evidence = log_total - (least.squeeze(-1) * square.squeeze(-1)) - self.dim / 2 * math.log(2 * math.pi)
        return _Components(
            responsibility=(log_weight - log_total.unsqueeze(-1)).exp(),
            mean=self.means.double() + self._to_ambient(self._eigenvalues / variances * centered),
            displacement=self._to_ambient(-(query.t.unsqueeze(-2) / variances) * centered),
            score=self._to_ambient((-centered / variances).clamp(-LARGEST, LARGEST)),
            variances=variances,
            log_evidence=log_evidence,
        )

    def _to_ambient(self, v: Float[Tensor, "*batch K d"]) -> Float[Tensor, "*batch K d"]:
        return torch.einsum("kde,...ke->...kd", self._eigenvectors, v)

    def _matrix(self, values: Float[Tensor, "*batch K d"]) -> Float[Tensor, "*batch K d d"]:
        return (self._eigenvectors * values.unsqueeze(-2)) @ self._eigenvectors.mT

    def posterior(self, x: ArrayLike, t: ArrayLike) -> Posterior:
        query = as_query(x, t, like=self.means)
        parts = self._components(query)
        displacement = parts.average(parts.displacement)

        def covariance() -> Float[Tensor, "*batch d d"]:
            within = self._matrix(self._eigenvalues * (query.t.unsqueeze(-2) / parts.variances))
            return parts.average(within) + parts.spread(parts.displacement, displacement)

        return Posterior(
            mean=parts.average(parts.mean),
            displacement=displacement,
            log_evidence=parts.log_evidence,
            covariance=covariance,
            dtype=query.dtype,
        )

    def score_jacobian(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`grad s = Cov_r(s_k) - sum_k r_k (S_k + t I)^{-1}`, with `s_k` the components' scores: nothing cancels."""
        query = as_query(x, t, like=self.means)
        parts = self._components(query)
        jacobian = parts.spread(parts.score, parts.average(parts.score)) - parts.average(self._matrix(1 / parts.variances))
        return jacobian.to(query.dtype)


@dataclass(frozen=True)
class _Components:
    """Each component's posterior, and averages over the responsibilities."""

    responsibility: Float[Tensor, "*batch K"]
    mean: Float[Tensor, "*batch K d"]
    displacement: Float[Tensor, "*batch K d"]
    score: Float[Tensor, "*batch K d"]
    variances: Float[Tensor, "*batch K d"]
    log_evidence: Float[Tensor, "*batch"]

    def average(self, values: Tensor) -> Tensor:
        """`sum_k r_k values_k`, over the component axis of `values` (..., K, d) or (..., K, d, d)."""
        weight = self.responsibility.reshape(*self.responsibility.shape, *[1] * (values.ndim - self.responsibility.ndim))
        # What has no weight does not count, infinite or not.
        return torch.where(weight > 0, weight * values, 0.0).sum(self.responsibility.ndim - 1)

    def spread(self, values: Float[Tensor, "*batch K d"], center: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        """`sum_k r_k (v_k - center)(v_k - center)^T`."""
        weight = self.responsibility.unsqueeze(-1)
        offset = torch.where(weight > 0, weight.sqrt() * (values - center.unsqueeze(-2)), 0.0)
        return offset.mT @ offset


class Gaussian(GaussianMixture):
    r"""`N(mu, S)` with `mean` (d,) and `covariance` (d, d), symmetric and positive semidefinite, or a number v for v I.

    >>> Gaussian(mean=[1.0, 0.0], covariance=3.0).score([[5.0, 4.0]], t=1.0)
    tensor([[-1., -1.]], dtype=torch.float64)
    """

    def __init__(self, mean: ArrayLike, covariance: ArrayLike) -> None:
        center = as_tensor("mean", mean)
        if center.ndim != 1:
            raise reject("mean", center, "a vector of shape (d,)")
        covariance = as_tensor("covariance", covariance, like=center)
        if covariance.ndim == 0:
            covariance = covariance * torch.eye(len(center), dtype=covariance.dtype, device=covariance.device)
        super().__init__(center.unsqueeze(0), covariance)


def _decompose(covariances: ArrayLike, count: int, dim: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The covariances (K, d, d) and their eigenvalues and eigenvectors in float64, rounding below zero removed."""
    given = as_tensor("covariances", covariances, like=like)
    if given.shape not in ((dim, dim), (count, dim, dim)):
        raise reject("covariances", given, f"shape ({dim}, {dim}) or ({count}, {dim}, {dim})")
    given = given.expand(count, dim, dim)
    matrix = given.double()
    size = matrix.abs().amax((-2, -1), keepdim=True)
    rounding = 4 * dim * torch.finfo(given.dtype).eps * size  # of a product Q diag(v) Q^T
    if bool(((matrix - matrix.mT).abs() > rounding).any()):
        raise reject("covariances", given, "symmetric matrices")
    eigenvalues, eigenvectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    if bool((eigenvalues < -rounding.squeeze(-1)).any()):
        raise reject("covariances", given, f"positive semidefinite matrices (least eigenvalue {float(eigenvalues.min()):.3g})")
    return given, eigenvalues.clamp_min(0.0), eigenvectors


def _normalize(weights: ArrayLike | None, count: int, like: Tensor) -> Float[Tensor, " K"]:
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64, device=like.device)
    given = as_tensor("weights", weights, like=like).double()
    if given.shape != (count,) or bool((given < 0).any()) or float(given.sum()) <= 0:
        raise reject("weights", given.tolist() if given.numel() < 10 else given, f"{count} nonnegative numbers, not all 0")
    return given / given.sum()
