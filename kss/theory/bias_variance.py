r"""Bias and variance of the mollified score, and the bandwidths that balance them.

For N independent data the mean square error at a point splits exactly,

    E |K * s_t^N - s_t|^2 = |K * E s_t^N - s_t|^2 + Var(K * s_t^N).

In the CLT regime (many data within `sqrt(t)` of x) `E s_t^N` is `s_t` up to O(1/N), so the first term is the square of the
**bias** `K * s_t - s_t`, and with the covariance `Sigma_t(u, v)/N` of the denoiser's noise

    Var = (1/(N t^2)) int int K(x - u) K(x - v) tr Sigma_t(u, v) du dv,

    tr Sigma_t(u, v) = G_{2t}(u - v) p_{t/2}(z)/(p_t(u) p_t(v)) E[<X - m_t(u), X - m_t(v)> | X_{t/2} = z],    z = (u + v)/2.

As t and h become small compared with the squared reach of a k-manifold of mean curvature H and density p_M,

    |bias|^2 = h^2 |H|^2/(4 t^2),        Var = k (4 pi)^{-k/2} (t + h)^{-1-k/2}/(2 N p_M).

Two problems ask for a bandwidth. **Pointwise**: the least of their sum at one t. **Path**: the least path KL of a bandwidth held
constant along the reverse diffusion, `(1/2) int_t E |s_u - K * s_u^N|^2 du`, which is

    h^2 <|H|^2>/(8 t) + (4 pi (t + h))^{-k/2} vol(M)/(2 N).

Formulas between numbers use arithmetic only and take numbers, tensors or symbolic expressions.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_query, as_tensor, reject
from kss.distributions.base import Distribution
from kss.kernels import GRID_DIM, LEVELS, GaussianKernel
from kss.scores.mollified import GRID_MEMORY, GRID_SAFETY, SPREAD, UNSEEN, Averaged, Mollified
from kss.theory import mollification
from kss.theory.clt import covariance

Number = float | int

ACCURACY = {1: 1e-9, 2: 1e-9, 3: 1e-6}
"""Default relative accuracy of the smoothed score whose bias is asked for, by dimension; `SOBOL_ACCURACY` for all others."""
SOBOL_ACCURACY = 1e-2
VARIANCE_ACCURACY = {1: 1e-7, 2: 1e-6, 3: 1e-4}
"""Default relative accuracy of the variance, by dimension; `SOBOL_ACCURACY` for all others."""
MOST_PAIRS = 2**26
"""Terms of the largest double sum."""
MOST_SOBOL = 2**16
"""Sobol points at the most."""
BLOCK = 2**20
"""Pairs that are held at once."""
EDGE = 0.9
"""Where the outer tenth of the nodes still matters, the rest of the integral may lie outside of them all: it counts as error."""


class Decomposition(NamedTuple):
    """Mean square error of an estimator and its two parts."""

    squared_bias: Float[Tensor, "*batch"]
    variance: Float[Tensor, "*batch"]

    @property
    def mean_square_error(self) -> Float[Tensor, "*batch"]:
        """Their sum."""
        return self.squared_bias + self.variance


def decompose(estimates: ArrayLike, truth: ArrayLike) -> Decomposition:
    """`|E e - s|^2` and `E |e - E e|^2`, E the mean over the first axis of `estimates` (n, ..., d); `truth` s is of shape (..., d).

    For every data set that is possible these are the two parts themselves, for a sample of them estimates: their sum is one
    without bias, but the first is too large by `Var/n`.

    >>> decompose([[0.0], [2.0]], [3.0]).mean_square_error
    tensor(5., dtype=torch.float64)
    """
    values, target = as_tensor("estimates", estimates), as_tensor("truth", truth)
    if values.ndim < 2 or len(values) == 0 or values.shape[1:] != target.shape:
        raise reject("estimates", estimates, f"shape (n, *{tuple(target.shape)}), n >= 1, as truth has shape {tuple(target.shape)}")
    mean = values.mean(0)
    return Decomposition((mean - target).square().sum(-1), (values - mean).square().sum(-1).mean(0))


# --- At fixed t and h, by quadrature --------------------------------------------------------------------------------------


def bias(law: Distribution, x: ArrayLike, t: Number, h: ArrayLike, *, accuracy: float | None = None) -> Averaged:
    """`K * s_t - s_t` at x (..., d), with the error (...) of the quadrature; `h` is a variance, or a covariance (d, d).

    `accuracy` is relative to the smoothed score.

    >>> from kss.distributions import Circle
    >>> bias(Circle(), [1.0, 0.0], t=0.01, h=0.001).value[0]  # near -h/2t
    tensor(-0.0500, dtype=torch.float64)
    """
    t = as_positive("t", float(t))
    chosen = accuracy or ACCURACY.get(law.dim, SOBOL_ACCURACY)
    smoothed, error = Mollified(law, GaussianKernel(h), accuracy=chosen).score_with_error(x, t)
    return Averaged(smoothed - law.score(x, t), error)


def first_order_bias(law: Distribution, x: ArrayLike, t: Number, h: ArrayLike) -> Float[Tensor, "*batch d"]:
    """`(h/2) Lap s_t` at x (..., d): the bias as h -> 0 at fixed t; `h` is a number.

    `Lap s = grad tr grad s`, because `grad s` is the symmetric Hessian of `log p_t`.
    """
    points = as_tensor("x", x).detach().double().requires_grad_()
    trace = law.score_jacobian(points, as_positive("t", float(t))).diagonal(dim1=-2, dim2=-1).sum()
    if not trace.requires_grad:  # a score that is linear everywhere
        return torch.zeros_like(points).detach()
    (laplacian,) = torch.autograd.grad(trace, points)
    return mollification.leading_bias(laplacian, as_tensor("h", h))


def variance(
    law: Distribution, x: ArrayLike, t: Number, h: ArrayLike, N: Number, *, accuracy: float | None = None, most_pairs: int = MOST_PAIRS
) -> Averaged:
    """Variance of the mollified empirical score at x (..., d) in the CLT regime, and the error of the quadrature; both (...).

    The double integral above, which needs the posterior of the law at t and at t/2 only: for d <= 3 by a double sum over a lattice,
    refined until it changes by less than the relative `accuracy` (1e-7, 1e-6, 1e-4 for d = 1, 2, 3) or has `most_pairs` terms; for
    d > 3 by Sobol points (1e-2). `h` is a variance, or a covariance (d, d). Where the integral diverges (a normal law with h
    above `(t + v)(t + 2v)/v`) the error is of the size of the value, or infinite.

    >>> from kss.distributions import Circle
    >>> variance(Circle(), [1.0, 0.0], t=0.004, h=0.004, N=3142).value
    tensor(0.3962, dtype=torch.float64)
    """
    query = as_query(x, as_positive("t", float(t)), like=law.bounds())
    t, N = float(t), as_positive("N", float(N))
    kernel, most_pairs = GaussianKernel(h), as_count("most_pairs", most_pairs, minimum=LEVELS[1] ** (2 * GRID_DIM))
    accuracy = as_positive("accuracy", accuracy) if accuracy else VARIANCE_ACCURACY.get(law.dim, SOBOL_ACCURACY)
    one = _on_lattice if law.dim <= GRID_DIM else _by_sobol
    with torch.no_grad():
        found = [one(law, point, t, kernel, accuracy, most_pairs) for point in query.x.reshape(-1, law.dim)]
    value, error = (torch.tensor(column, dtype=torch.float64).reshape(query.x.shape[:-1]) / N for column in zip(*found, strict=True))
    return Averaged(value, error)


def _on_lattice(
    law: Distribution, x: Float[Tensor, " d"], t: Number, kernel: GaussianKernel, accuracy: float, most: int
) -> tuple[float, float]:
    """The variance at N = 1 and its error, by lattices with more and more nodes."""
    value, change, error = math.inf, math.inf, math.inf
    for place, n in enumerate(LEVELS):
        if place > 1 and kernel.grid(law.dim, n).size ** 2 > most:
            break
        new, edge = _double_sum(law, x, t, kernel, n)
        # As for an average over the kernel: see kss.scores.mollified.
        last = abs(new - value)
        error = GRID_SAFETY * (last if math.isinf(change) else max(last, GRID_MEMORY * change)) + edge
        value, change = new, last
        if not math.isfinite(value):
            return math.inf, math.inf
        if place > 1 and error <= accuracy * value:
            break
    return value, max(error, UNSEEN * accuracy * value)


def _double_sum(law: Distribution, x: Float[Tensor, " d"], t: Number, kernel: GaussianKernel, n: int) -> tuple[float, float]:
    """`t^-2 sum_jk w_j w_k tr Sigma_t(u_j, u_k)` over a lattice, and what its outermost nodes contribute.

    The midpoints of a lattice's nodes are a lattice of half the step, so that few of them differ.
    """
    d, rule = law.dim, kernel.grid(law.dim, n)
    nodes, time = rule.nodes[0], torch.tensor([t], dtype=torch.float64)
    low, reach, side = nodes.min(), nodes.norm(dim=-1).max(), 2 * n - 1
    step = -2 * low / (n - 1)
    digits = side ** torch.arange(d)
    key = ((nodes - low) / step).round().long() @ digits
    middle = low + step / 2 * torch.cartesian_prod(*[torch.arange(side)] * d).reshape(-1, d).flip(-1)
    inside = middle.norm(dim=-1) <= reach * (1 + 1e-9)
    row_of = inside.cumsum(0) - 1
    offset, between = kernel.stretch(nodes, time)[0], kernel.stretch(middle[inside], time)[0]
    now, half = law.posterior(x + offset, t).unrounded(), law.posterior(x + between, t / 2).unrounded()
    # Means and nodes are counted from x.
    mean, mean_half = now.displacement + offset, half.displacement + between
    log_single = rule.weights.log() - now.log_evidence - offset.square().sum(-1) / (4 * t)
    second = half.covariance_trace + mean_half.square().sum(-1)
    outer = nodes.norm(dim=-1) > EDGE * reach
    total = edge = 0.0
    for part in torch.arange(len(nodes)).split(max(1, BLOCK // len(nodes))):
        row = row_of[key[part].unsqueeze(1) + key]
        exponent = log_single[part].unsqueeze(1) + log_single + half.log_evidence[row] + offset[part] @ offset.T / (2 * t)
        moment = second[row] + mean[part] @ mean.T
        for a in range(d):  # -<m_z, m_u + m_v>
            moment -= mean_half[:, a][row] * (mean[part, a].unsqueeze(1) + mean[:, a])
        terms = exponent.exp() * moment
        total += float(terms.sum())
        edge += float(terms[outer[part]].abs().sum()) + float(terms[:, outer].abs().sum())
    scale = math.exp(-d / 2 * math.log(4 * math.pi * t)) / t**2
    return scale * total, scale * edge


def _by_sobol(
    law: Distribution, x: Float[Tensor, " d"], t: Number, kernel: GaussianKernel, accuracy: float, most: int
) -> tuple[float, float]:
    """The same by Sobol points for `z - x` and `r = u - v` together.

    Under the kernel z and r are independent, of covariances S/2 and 2S. Then `tr Sigma_t` holds a factor near `exp(-r.C r/(4 t^2))`, with C
    the posterior covariance at x (of rank k next to a manifold): with it the law of r is still normal, and r is drawn from that.
    """
    d = law.dim
    eigenvalues, vectors = torch.linalg.eigh(kernel.covariance(t, d))
    root = vectors * eigenvalues.clamp_min(0.0).sqrt()
    precision = torch.eye(d, dtype=torch.float64) + root.mT @ law.posterior(x, t).unrounded().covariance() @ root / t**2
    p, turn = torch.linalg.eigh(precision)
    narrow = turn * p.rsqrt()
    parts, error = None, math.inf
    for rule in GaussianKernel(1.0).sobol(2 * d, min(most, MOST_SOBOL), 0):
        first, last = rule.nodes[..., :d], rule.nodes[..., d:]
        unit = last @ narrow.mT
        z, r = x + first @ root.mT / math.sqrt(2), math.sqrt(2) * unit @ root.mT
        weight = (last.square().sum(-1) - unit.square().sum(-1) - p.log().sum()) / 2
        trace = covariance(law, z + r / 2, z - r / 2, t).diagonal(dim1=-2, dim2=-1).sum(-1)
        new = (weight.exp() * trace).mean(-1) / t**2
        parts = new if parts is None else (parts + new) / 2
        error = SPREAD * float((parts - parts.mean()).norm())
        if error <= accuracy * float(parts.mean()):
            break
    assert parts is not None
    value = float(parts.mean())
    return (value, max(error, UNSEEN * accuracy * value)) if math.isfinite(value) else (math.inf, math.inf)


# --- Small t and h, near a manifold ---------------------------------------------------------------------------------------


def small_time_variance(k: Any, t: Any, h: Any, N: Any, density: Any) -> Any:
    """`k (4 pi)^{-k/2} (t + h)^{-1-k/2}/(2 N p_M)`: the variance at a point of a k-manifold, `density` p_M with respect to its volume.

    CLT regime at t itself, t and h far below the squared reach.
    """
    return k * (4 * math.pi) ** (-k / 2) * (t + h) ** (-1 - k / 2) / (2 * N * density)


def small_time_noise(t: Number, tangential: ArrayLike, N: Number, density: Number) -> Float[Tensor, "k k"]:
    """`(4 pi)^{-k/2} det(tI + B)^{-1/2} (tI + B)^{-1}/(2 N p_M)`: the covariance of the noise along the manifold for a kernel `N(0, S)`.

    `tangential` B (k, k) is the block of S in the tangent space. The other blocks of S do not enter.
    """
    matrix = as_tensor("tangential", tangential).double()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not bool(torch.equal(matrix, matrix.mT)):
        raise reject("tangential", tangential, "a symmetric matrix (k, k)")
    total = matrix + as_positive("t", float(t)) * torch.eye(len(matrix), dtype=torch.float64)
    if float(torch.linalg.eigvalsh(matrix).min()) < -1e-12 * float(matrix.abs().max()):
        raise reject("tangential", tangential, "a positive semidefinite matrix")
    size = -(torch.logdet(total) + len(matrix) * math.log(4 * math.pi)) / 2
    return size.exp() * torch.linalg.inv(total) / (2 * as_positive("N", float(N)) * as_positive("density", float(density)))


def sample_size_gain(k: Any, t: Any, h: Any) -> Any:
    """`((t + h)/t)^{1+k/2}`: how many times more data the unmollified score needs for the same variance."""
    return ((t + h) / t) ** (1 + k / 2)


def small_time_squared_bias(curvature_square: Any, t: Any, h: Any) -> Any:
    """`h^2 |H|^2/(4 t^2)` at a point of a manifold with mean-curvature vector H (`|H|^2 = k^2/R^2` on a k-sphere of radius R)."""
    return mollification.normal_bias(1, h, t) ** 2 * curvature_square


def sphere_mean_squared_bias(k: Any, radius: Any, t: Any, h: Any) -> Any:
    """`k^2 h^2/(4 R^2 t^2) (1 + 4 (3 - k) t/R^2 + (3/2)(2 - k) h/R^2)`: squared bias averaged over `p_t`, uniform law on a k-sphere.

    For t and h far below `R^2`, to the next order; on a circle and for h << t the factor is `1 + 8 t/R^2`.
    """
    size = radius**2
    return small_time_squared_bias((k / radius) ** 2, t, h) * (1 + 4 * (3 - k) * t / size + 3 * (2 - k) * h / (2 * size))


# --- A normal law: no bias ------------------------------------------------------------------------------------------------


def gaussian_mean_variance(v: Any, t: Any, h: Any, N: Any, d: Any) -> Any:
    """`(d/N) v/(t (t + v)) ((t + v)/t)^d (1 - y^2)^{-1-d/2}`, `y = h v/(t (t + v))`: CLT variance averaged over `p_t`, law `N(0, v I)`.

    It grows with h, and is finite for `h < t (1 + t/v)` only; beyond, the formula means nothing.
    """
    return d * v / (N * t * (t + v)) * ((t + v) / t) ** d * (1 - (h * v / (t * (t + v))) ** 2) ** (-1 - d / 2)


# --- Bandwidths -----------------------------------------------------------------------------------------------------------


def two_term_error(h: Any, t: Any, N: Any, *, k: Any, curvature_square: Any, density: Any, problem: str, regular: bool = False) -> Any:
    """Squared bias and variance together: what `optimal_bandwidth` minimizes, with its arguments.

    "pointwise": `h^2 |H|^2/(4 t^2) + k (4 pi)^{-k/2} (t + h)^{-1-k/2}/(2 N p_M)`, a mean square error.
    "path": `h^2 <|H|^2>/(8 t) + (4 pi (t + h))^{-k/2}/(2 N p_M)` with `p_M = 1/vol(M)`, a KL divergence.
    """
    if problem == "pointwise":
        return h**2 * curvature_square / (4 if regular else 4 * t**2) + small_time_variance(k, t, h, N, density)
    if problem == "path":
        return h**2 * curvature_square / (8 if regular else 8 * t) + (4 * math.pi * (t + h)) ** (-k / 2) / (2 * N * density)
    raise reject("problem", problem, '"path" or "pointwise"')


def optimal_bandwidth(
    t: Number, N: Number, *, k: int, curvature_square: Number, density: Number, problem: str, regular: bool = False
) -> float:
    """The h that minimizes `two_term_error`, to rounding, with the sum `t + h` as it stands: no `h >> t` is assumed.

    `problem="path"`: a bandwidth held constant along the reverse diffusion down to t, least path KL. `curvature_square` is the mean of
    `|H|^2` over the manifold and `density` is `1/vol(M)`. `problem="pointwise"`: least mean square error of the score at one point and
    one t, with `|H|^2` and `p_M` at that point. With `regular=True` for flat compact laws, whose bias has no power of t: then
    `curvature_square` is `|grad Lap log p|^2` at the point, or its mean over `p_u` integrated over u from t on.

    `N` may be any number > 0. Without bias (`curvature_square = 0`) the answer is infinite; for k = 0 (no noise) it is 0. `ValueError`
    for other arguments that are not positive.

    >>> from math import pi
    >>> round(optimal_bandwidth(1e-3, 400, k=1, curvature_square=1.0, density=1 / (2 * pi), problem="path"), 4)
    0.0066
    """
    level, power = _stationarity(t, N, k, curvature_square, density, problem, regular)
    if math.isinf(level):
        return math.exp(level)
    # log h + power log(t + h) = level; the left side increases in log h with a slope between 1 and 1 + power.
    log_t, start = math.log(t), level / (1 + power)

    def excess(y: float) -> float:
        return y + power * float(np.logaddexp(log_t, y)) - level

    off = abs(excess(start)) + 1
    return math.exp(optimize.brentq(excess, start - off, start + off, xtol=1e-15, rtol=1e-15))


def leading_bandwidth(
    t: Number, N: Number, *, k: int, curvature_square: Number, density: Number, problem: str, regular: bool = False
) -> float:
    """The same for `h >> t`, in closed form (k >= 1).

    Path: `[k (4 pi)^{-k/2}/(<|H|^2> p_M) t/N]^{2/(k+4)}`. Pointwise: `[k (k + 2) (4 pi)^{-k/2}/(2 |H|^2 p_M) t^2/N]^{2/(k+6)}`. With
    `regular=True` without the power of t.
    """
    level, power = _stationarity(t, N, k, curvature_square, density, problem, regular)
    return math.exp(level / (1 + power))


def _stationarity(
    t: Number, N: Number, k: int, curvature_square: Number, density: Number, problem: str, regular: bool
) -> tuple[float, float]:
    """`log(D/2A)` and q in `2 A h = D (t + h)^{-q}`: where the derivative of the two terms vanishes. Infinite if A or D is 0."""
    k, t, N, density = (
        as_count("k", k, minimum=0),
        as_positive("t", float(t)),
        as_positive("N", float(N)),
        as_positive("density", float(density)),
    )
    curvature = float(as_tensor("curvature_square", curvature_square))
    if curvature < 0:
        raise reject("curvature_square", curvature_square, "a number >= 0")
    if problem not in ("path", "pointwise"):
        raise reject("problem", problem, '"path" or "pointwise"')
    pointwise = problem == "pointwise"
    if k == 0:
        return -math.inf, 1.0
    if curvature == 0:
        return math.inf, 1.0
    log_noise = math.log(k / 4 * (k + 2 if pointwise else 1)) - k / 2 * math.log(4 * math.pi) - math.log(N) - math.log(density)
    log_slope = math.log(curvature) - math.log(2 if pointwise else 4) - (0 if regular else (2 if pointwise else 1) * math.log(t))
    return log_noise - log_slope, k / 2 + (2 if pointwise else 1)
