r"""The noise of the empirical score: a central limit theorem, with every constant.

Let `p_t^N, m_t^N` belong to N independent draws `X_i` from `p_*`. At fixed `t > 0` and `x`,

    m_t^N(x) - m_t(x) = (1/N) sum_i G_t(x - X_i)(X_i - m_t(x)) / p_t^N(x),

a sum of centered terms divided by a quantity that tends to `p_t(x)`. So `sqrt(N)(m_t^N - m_t)` tends to a Gaussian field, whose
covariance needs no more than the posterior, because `G_t(x - X) G_t(y - X) = G_{2t}(x - y) G_{t/2}(z - X)` with `z = (x + y)/2`:

    Sigma_t(x, y) = E[G_t(x - X) G_t(y - X) (X - m_t(x))(X - m_t(y))^T] / (p_t(x) p_t(y))
                  = G_{2t}(x - y) p_{t/2}(z) / (p_t(x) p_t(y)) * (C_{t/2}(z) + (m_{t/2}(z) - m_t(x))(m_{t/2}(z) - m_t(y))^T).

The noise of the score, `s_t^N - s_t = (m_t^N - m_t)/t`, has the covariance `Sigma_t/(N t^2)`. Near a k-dimensional manifold, as t -> 0,

    Sigma_t(x) ~ t^{1-k/2} (4 pi)^{-k/2} / (2 p_M(x)) * P_x,

and the normal part is one power of t smaller: `(t/8)(H H^T + 2 sum_ij II_ij II_ij^T)` times the tangential eigenvalue.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_query, as_tensor, reject
from kss.distributions import Distribution, Empirical, Manifold

LOST = 1e-4
"""The largest relative error that a logarithm of a density may cause before a covariance is refused."""
BLOCK = 2**22
"""At most so many numbers are held at once in a sum over data."""


class _Pair(NamedTuple):
    """What covariance and bias are made of, at points x and y and their middle z."""

    log_factor: Float[Tensor, "*batch"]
    """`log [G_{2t}(x - y) p_{t/2}(z) / (p_t(x) p_t(y))]`."""
    rounding: Float[Tensor, "*batch"]
    """Its absolute error."""
    middle: Float[Tensor, "*batch d d"] | None
    """`C_{t/2}(z)`."""
    from_x: Float[Tensor, "*batch d"]
    """`m_{t/2}(z) - m_t(x)`."""
    from_y: Float[Tensor, "*batch d"]
    dtype: torch.dtype


def covariance(law: Distribution, x: ArrayLike, y: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
    """`Sigma_t(x, y)`, the covariance of the limit of `sqrt(N)(m_t^N - m_t)` between x and y; for `y = x` the re-weighted PCA.

    Arguments: any law; `x` and `y` of shape (..., d), which broadcast; `t` > 0, a number or of shape (...). Returns (..., d, d), the rows
    belonging to x. For an `Empirical` law it is the covariance of the bootstrap, `N sum_i w_i(x) w_i(y) (x_i - m(x))(x_i - m(y))^T`.

    The relative error is at most about 2e-15 times the largest logarithm of a density that enters (and where nearly all weight is on one
    point, the means' rounding times the root of the result is added). Where that exceeds 1e-4, for a point
    at more than about `3e5 sqrt(t)` from a manifold, no digit would be left worth having, and `ValueError` is raised; not for an
    `Empirical` law, where weights are compared directly, and not where the result is certainly below 1e-308 (0) or above 1e308 (inf).

    Source: Gabriel, Ged, Han Veiga, Schertzer, arXiv 2505.22841 v1, the central limit theorem behind Theorem 2.
    """
    if isinstance(law, Empirical):
        return _bootstrap(law.points, x, y, t)
    pair = _pair(law, x, y, t, with_covariance=True)
    assert pair.middle is not None
    return _scaled(pair.middle + pair.from_x.unsqueeze(-1) * pair.from_y.unsqueeze(-2), pair, x).to(pair.dtype)


def plug_in_covariance(points: ArrayLike, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
    """`N sum_i w_i^2 (x_i - m)(x_i - m)^T`: the estimate of `Sigma_t(x)` from one data set, `w` and `m` its weights and mean at (x, t).

    `points` (N, d), `x` (..., d), `t` > 0 a number or (...); returns (..., d, d). Exactly `covariance` of the empirical law. It estimates
    that of the law behind the data where many of them have weight, `1/sum_i w_i^2 >> 1`; for `t -> 0` it tends to 0.

    Source: arXiv 2505.22841 v1, the re-weighted PCA of Figure 3.
    """
    return _bootstrap(as_points("points", points), x, x, t)


def score_covariance(law: Distribution, x: ArrayLike, y: ArrayLike, t: ArrayLike, n: int) -> Float[Tensor, "*batch d d"]:
    """`Sigma_t(x, y)/(N t^2)`: to leading order the covariance of the score's noise at x and y with `n` data; arguments as `covariance`."""
    n, sigma = as_count("n", n), covariance(law, x, y, t)
    # Divided one after the other: t^2 underflows before the quotient does.
    t = torch.as_tensor(t, dtype=torch.float64, device=sigma.device)[..., None, None]
    return (sigma.double() / t / t / n).to(sigma.dtype)


def finite_sample_bias(law: Distribution, x: ArrayLike, t: ArrayLike, n: int) -> Float[Tensor, "*batch d"]:
    """`-(1/N) (4 pi t)^{-d/2} p_{t/2}(x)/p_t(x)^2 (m_{t/2}(x) - m_t(x))`: the leading term of `E m_t^N(x) - m_t(x)`, of shape (..., d).

    The next is of relative size `(4 pi t)^{-d/2} p_{t/2}/(N p_t^2)`, the inverse number of data that have weight. Refuses points far
    away as `covariance` does.
    """
    n = as_count("n", n)
    pair = _pair(law, x, x, t, with_covariance=False)
    return (-_scaled(pair.from_x.unsqueeze(-1), pair, x).squeeze(-1) / n).to(pair.dtype)


def small_time_covariance(law: Manifold, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
    """`t^{1-k/2} (4 pi)^{-k/2} / (2 p_M(x)) P_x`: the leading term of `Sigma_t(x)` as t -> 0, x on M or within O(sqrt t) of it.

    `x` (..., d), `t` > 0 a number or (...); returns (..., d, d).

    Source: arXiv 2505.22841 v1, Theorem 2 (the exponent); the constant is derived in the chapter on noise.
    """
    return tangential_covariance(law, x, torch.zeros(law.dim, dtype=torch.float64), t)


def tangential_covariance(law: Manifold, x: ArrayLike, offset: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
    """`(1/p_M(x)) (t P/2 - r r^T/4) G_{2t}^{(k)}(r)`: the leading term of `Sigma_t(x, x + r)` as t -> 0 with r of order sqrt(t).

    `x` (..., d) on M or within O(sqrt t) of it; `r` is the tangential part of `offset` (..., d), which broadcasts with x; `t` > 0 a
    number or (...). Returns (..., d, d). It is negative along r for `|r|^2 > 2t`, and decays beyond: the correlation length is sqrt(t).
    Divided by `N t^2` it is the covariance of the score's noise along the manifold.
    """
    if not isinstance(law, Manifold):
        raise reject("law", law, "a kss.distributions.Manifold, which has a tangent space and a density")
    place, shift = torch.broadcast_tensors(as_tensor("x", x), as_tensor("offset", offset))
    query, k = as_query(place, t, like=law.project(place)), law.intrinsic_dim
    projector, t = law.tangent_projector(query.x), query.t.squeeze(-1)
    r = (projector @ shift.double().unsqueeze(-1)).squeeze(-1)
    scaled = r / query.t.sqrt()
    log_factor = -(scaled**2).sum(-1) / 4 - k / 2 * math.log(4 * math.pi) + (1 - k / 2) * t.log() - law.manifold_density(query.x).log()
    matrix = projector / 2 - scaled.unsqueeze(-1) * scaled.unsqueeze(-2) / 4
    return (log_factor.exp()[..., None, None] * matrix).to(query.dtype)


def normal_ratio(second_form: ArrayLike, t: float) -> Float[Tensor, "*batch c c"]:
    r"""`(t/8)(H H^T + 2 sum_ij II_ij II_ij^T)`: the leading normal block of `Sigma_t(x)`, divided by its tangential eigenvalue.

    `second_form` (..., k, k, c) holds the second fundamental form `II(e_i, e_j)` at x in orthonormal bases of the tangent and the normal
    space, `H = sum_i II_ii`; `t` > 0. Returns (..., c, c), of rank at most k(k+1)/2. On the k-sphere of radius R it is `k(k+2) t/8R^2`; on
    a linear manifold 0.
    """
    form = as_tensor("second_form", second_form).double()
    if form.ndim < 3 or form.shape[-3] != form.shape[-2]:
        raise reject("second_form", form, "shape (..., k, k, c)")
    curvature = form.diagonal(dim1=-3, dim2=-2).sum(-1)
    squares = torch.einsum("...ijc,...ije->...ce", form, form)
    return t / 8 * (curvature.unsqueeze(-1) * curvature.unsqueeze(-2) + 2 * squares)


def _pair(law: Distribution, x: ArrayLike, y: ArrayLike, t: ArrayLike, *, with_covariance: bool) -> _Pair:
    start, end = as_tensor("x", x), as_tensor("y", y)
    noise = as_tensor("t", t, like=start)
    at_x = law.posterior(start, noise if noise.ndim else float(noise))
    at_y = at_x if y is x else law.posterior(end, noise if noise.ndim else float(noise))
    dtype = torch.promote_types(at_x.dtype, at_y.dtype)
    half, noise = (end.double() - start.double()) / 2, noise.double()
    at_x, at_y = at_x.unrounded(), at_y.unrounded()
    middle = law.posterior(start.double() + half, noise / 2).unrounded()
    apart = -((half / noise.sqrt().unsqueeze(-1)) ** 2).sum(-1) - law.dim / 2 * (math.log(4 * math.pi) + noise.log())
    terms = torch.broadcast_tensors(apart, middle.log_evidence, -at_x.log_evidence, -at_y.log_evidence)
    return _Pair(
        log_factor=sum(terms, torch.zeros_like(terms[0])),
        rounding=8 * torch.finfo(torch.float64).eps * torch.stack(terms).detach().abs().amax(0),
        middle=middle.covariance() if with_covariance else None,
        # The same difference twice: small t leaves the displacements their digits, a large |x| the means.
        from_x=_smaller(middle.displacement - at_x.displacement + half, at_x.displacement, middle.mean - at_x.mean, at_x.mean),
        from_y=_smaller(middle.displacement - at_y.displacement - half, at_y.displacement, middle.mean - at_y.mean, at_y.mean),
        dtype=dtype,
    )


def _smaller(first: Tensor, first_term: Tensor, second: Tensor, second_term: Tensor) -> Float[Tensor, "*batch d"]:
    """Of two computations of a difference, the one whose terms are smaller."""
    choose = first_term.detach().abs().amax(-1, keepdim=True) <= second_term.detach().abs().amax(-1, keepdim=True)
    return torch.where(choose, first, second)


def _scaled(matrix: Float[Tensor, "*batch a b"], pair: _Pair, x: ArrayLike) -> Float[Tensor, "*batch a b"]:
    """`exp(log_factor) matrix`, where the factor alone may be too large or too small; raises `ValueError` where it has no digits."""
    size = matrix.detach().abs().amax((-2, -1))
    empty = size == 0
    exponent = pair.log_factor + torch.where(empty, 1.0, size).log()
    sure = (exponent + pair.rounding < -750) | (exponent - pair.rounding > 710) | (pair.rounding <= LOST)
    if not bool((empty | (sure & size.isfinite() & pair.rounding.isfinite())).all()):
        raise reject("x", as_tensor("x", x), "points nearer to the data: a density below exp(-1e11) leaves no digits of the ratio")
    safe = torch.where(empty, 0.0, exponent).exp()[..., None, None]
    unit = matrix / torch.where(empty, 1.0, size)[..., None, None]
    return torch.where(unit == 0, 0.0, safe * unit)  # 0 times infinity is 0 here


def _bootstrap(points: Float[Tensor, "N d"], x: ArrayLike, y: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d d"]:
    """`N sum_i w_i(x) w_i(y) (x_i - m(x))(x_i - m(y))^T`, block by block."""
    start, end = as_tensor("x", x, like=points), as_tensor("y", y, like=points)
    (first, noise, dtype), (second, _, other) = as_query(start, t, like=points), as_query(end, t, like=points)
    first, second, noise = (v.broadcast_to(torch.broadcast_shapes(first.shape, second.shape)) for v in (first, second, noise))
    data, shape, d = points.double(), first.shape[:-1], points.shape[1]
    flat = [v.reshape(-1, d) for v in (first, second)]
    noise, step, parts = noise[..., :1].reshape(-1, 1), max(1, BLOCK // data.numel()), []
    for a, b, u in zip(*(v.split(step) for v in flat), noise.split(step), strict=True):
        left = _weighted(data, a, u)
        right = left if y is x else _weighted(data, b, u)
        parts.append(len(data) * (left.mT @ right))
    result = torch.cat(parts) if parts else flat[0].new_zeros(0, d, d)
    return result.reshape(*shape, d, d).to(torch.promote_types(dtype, other))


def _weighted(data: Float[Tensor, "N d"], x: Float[Tensor, "n d"], t: Float[Tensor, "n 1"]) -> Float[Tensor, "n N d"]:
    """`w_i (x_i - m(x))`; everything relative to the nearest point, so that neither distance nor a small t costs digits."""
    with torch.no_grad():
        nearest = torch.cdist(x, data, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
    apart = data - data[nearest].unsqueeze(1)  # x_i - x_ref, (n, N, d)
    # |x - x_ref|^2 - |x - x_i|^2 = 2 (x_i - x_ref).(x - (x_i + x_ref)/2), at unit scale.
    toward = (x - data[nearest]).unsqueeze(1) - apart / 2
    size = toward.detach().abs().amax((-2, -1), keepdim=True).clamp_min(1e-300)
    gain = (apart * (toward / size)).sum(-1)
    logit = torch.where(gain == 0, 0.0, gain * (size.squeeze(-1) / t))
    weight = torch.softmax(logit, -1).unsqueeze(-1)
    return weight * (apart - (weight * apart).sum(1, keepdim=True))
