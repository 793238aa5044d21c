r"""A score learned by random features, with every average over the noise done exactly.

The data are `x ~ N(0, I_d)`, the noisy points `x_D = sqrt(1 - D) x + sqrt(D) xi` with `xi ~ N(0, I_d)`, so `x_D ~ N(0, I_d)` and its
score is `-x_D`. The noise variance `D` (argument `noise`, 0 < D < 1) belongs to the Ornstein-Uhlenbeck time `u` by `D = 1 - e^{-2u}`,
and to the book's noise variance t by `D = t/(1 + t)`: `x_D` is `X_t` divided by `sqrt(1 + t)`. The model and its loss are

    s_A(y) = A phi(y)/sqrt(p),    phi(y) = tanh(W y/sqrt(d)),    L(A) = (1/d) E|sqrt(D) s_A(x_D) + xi|^2,

with fixed weights W (p, d), whose rows have the norm `sqrt(d)`, and a trained matrix A (d, p). The loss needs two moments only:

    L(A) = 1 + (1/d)[(D/p) tr A U A^T + 2 sqrt(D/p) tr A V],    U = E phi phi^T,    V = E phi xi^T.

The mean runs over all noise draws; over x it runs over the data set (training) or over N(0, I) (population). With `K = W W^T/d`, `h_k` the
orthonormal Hermite polynomials, `c_k = E tanh(g) h_k(g)` and `f_k(m) = E tanh(m + sqrt(D) g) h_k(g)` for a standard normal g, Mehler's
formula gives the averages over the noise

    population   U_ij = sum_k c_k^2 K_ij^k,                         V = sqrt(D/d) c_1 W,
    training     U_ij = sum_k K_ij^k mean_x f_k(m_i) f_k(m_j),      V = mean_x f_1(m) W/sqrt(d),      m = sqrt(1 - D) W x/sqrt(d).

The model is that of Bonnaire, Urfin, Biroli and Mezard, arXiv 2505.17638, but for the norms of the rows.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, as_tensor, reject

TOLERANCE = 1e-13
"""Terms of a Hermite expansion are added until what is left of an entry of U is certainly below this."""
MOST_ORDERS = 150
"""`c_k^2` is below 1e-16 from there on, so the sum over k never needs more."""
BLOCK = 2**24
"""At most so many values of the activation are held at once."""


class Moments(NamedTuple):
    """What the loss needs to know of features and noise."""

    second: Float[Tensor, "p p"]
    """`U = E phi phi^T`."""
    cross: Float[Tensor, "p d"]
    """`V = E phi xi^T`."""
    truncation: float
    """No entry of `second` is off by more than this, but for rounding: what the expansion leaves out."""


def noise_at(time: float) -> float:
    """`D = 1 - e^{-2u}`: the noise variance at the Ornstein-Uhlenbeck time u > 0 of `dx = -x du + sqrt(2) dB`.

    >>> round(noise_at(0.01), 6)
    0.019801
    """
    return -math.expm1(-2 * as_positive("time", time))


def as_noise(noise: float) -> float:
    """A noise variance 0 < D < 1."""
    value = as_positive("noise", noise)
    if value >= 1:
        raise reject("noise", noise, "a noise variance D with 0 < D < 1")
    return value


def feature_weights(p: int, d: int, *, generator: Seed) -> Float[Tensor, "p d"]:
    """Weights W: p independent rows, uniform on the sphere of radius `sqrt(d)` in R^d, so that `W x_D/sqrt(d)` has entries N(0, 1)."""
    p, d = as_count("p", p), as_count("d", d)
    source = as_generator(generator)
    rows = torch.randn(p, d, dtype=torch.float64, generator=source)
    return rows * (math.sqrt(d) / rows.norm(dim=1, keepdim=True))


def population_moments(weights: ArrayLike, noise: float) -> Moments:
    """U and V for x ~ N(0, I_d); `weights` (p, d) with rows of norm `sqrt(d)`. U does not depend on the noise."""
    w, dtype = _as_weights(weights)
    d, c = w.shape[1], tanh_coefficients()
    overlap = _overlaps(w)
    largest, power = _largest_off_diagonal(overlap), torch.ones_like(overlap)
    second, left = torch.zeros_like(overlap), _tails(c)
    order = 0
    while order < MOST_ORDERS and largest**order * left[order] > TOLERANCE:
        if order % 2:  # tanh is odd
            second += float(c[order] ** 2) * power
        power *= overlap
        order += 1
    second.fill_diagonal_(float((c**2).sum()))
    cross = math.sqrt(as_noise(noise) / d) * float(c[1]) * w
    return Moments(second.to(dtype), cross.to(dtype), float(largest**order * left[order]))


def train_moments(weights: ArrayLike, points: ArrayLike, noise: float) -> Moments:
    """U and V for the data `points` (n, d), averaged over infinitely many noise draws for each; `weights` as in `population_moments`."""
    w, dtype = _as_weights(weights)
    x = as_points("points", points, dim=w.shape[1])
    dtype, noise = torch.promote_types(dtype, x.dtype), as_noise(noise)
    (p, d), n = w.shape, len(x)
    places = math.sqrt((1 - noise) / d) * (w @ x.double().mT)
    nodes, weight = _nodes(noise)
    overlap = _overlaps(w)
    order = _orders_needed(float(places.abs().max()), noise, _largest_off_diagonal(overlap))
    projector = torch.from_numpy(_hermite(nodes, order) * weight)
    second, powers, square = torch.zeros_like(overlap), torch.ones_like(overlap), torch.zeros(p, dtype=torch.float64)
    linear, found = torch.zeros_like(square), torch.zeros_like(square)
    for block in places.split(max(1, BLOCK // (p * len(nodes))), dim=1):
        values = torch.stack([torch.tanh(block + math.sqrt(noise) * float(z)) for z in nodes])
        coefficients = torch.tensordot(projector, values, dims=1)
        square += torch.einsum("z,zpn->p", torch.from_numpy(weight), values**2) / n
        powers.fill_(1.0)
        for f in coefficients:
            second += powers * (f @ f.mT) / n
            powers *= overlap
        linear += coefficients[1].sum(1) / n
        found += (coefficients**2).sum((0, 2)) / n
    second.diagonal().copy_(square)
    left = float((square - found).clamp_min(0).max()) * _largest_off_diagonal(overlap) ** (order + 1)
    return Moments(second.to(dtype), (linear.unsqueeze(1) * w / math.sqrt(d)).to(dtype), left)


def loss(readout: ArrayLike, moments: Moments, noise: float) -> Float[Tensor, ""]:
    """`L(A) = 1 + (1/d)[(D/p) tr A U A^T + 2 sqrt(D/p) tr A V]`: training or test loss of A (d, p), by the moments given."""
    (p, d), noise = moments.cross.shape, as_noise(noise)
    a = _as_readout(readout, p, d).to(moments.second.dtype)
    quadratic, linear = ((a @ moments.second) * a).sum(), (a * moments.cross.mT).sum()
    return 1 + (noise / p * quadratic + 2 * math.sqrt(noise / p) * linear) / d


def score_error(readout: ArrayLike, weights: ArrayLike) -> Float[Tensor, ""]:
    """`E(A) = (1/d) E|s_A(y) + y|^2` for y ~ N(0, I_d): the mean square error of the score, 1 for A = 0 and 0 for the true score."""
    w, dtype = _as_weights(weights)
    p, d = w.shape
    a, second = _as_readout(readout, p, d).double(), population_moments(w, 0.5).second
    linear = float(tanh_coefficients()[1]) / math.sqrt(d) * (a * w.mT).sum()
    return (1 + (((a @ second) * a).sum() / p + 2 * linear / math.sqrt(p)) / d).to(dtype)


@functools.cache
def tanh_coefficients() -> Float[np.ndarray, " orders"]:
    """`c_k = E tanh(g) h_k(g)` for k = 0 ... 150, zero for even k, to 1e-15; `c_1^2 = 0.3669` holds most of `E tanh(g)^2 = 0.3943`."""
    # The trapezoid rule: tanh is analytic in a strip of half-width pi/2, so its error is below e^(-90); e^(-x^2/4) h_k is bounded.
    step = 0.1
    x = step * np.arange(-130, 131)
    weight = step * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    coefficients = _hermite(x, MOST_ORDERS) @ (weight * np.tanh(x))
    coefficients[::2] = 0.0
    return coefficients


def _hermite(x: Float[np.ndarray, " n"], order: int) -> Float[np.ndarray, "orders n"]:
    """Orthonormal Hermite polynomials of order 0 ... `order`, at least 1."""
    rows = [np.ones_like(x), x]
    for k in range(1, order):
        rows.append((x * rows[k] - math.sqrt(k) * rows[k - 1]) / math.sqrt(k + 1))
    return np.stack(rows)


def _nodes(noise: float) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Nodes for `E f(tanh(m + sqrt(D) g))`: the poles are `pi/(2 sqrt D)` away, and the error falls like `exp(-pi sqrt(n/D))`."""
    nodes, weights = special.roots_hermitenorm(16 + math.ceil(140 * noise))
    return nodes, weights / weights.sum()


def _tails(coefficients: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n1"]:
    """`sum_{j >= k} c_j^2` for k = 0 ... n."""
    return np.append(np.cumsum(coefficients[::-1] ** 2)[::-1], 0.0)


def _orders_needed(reach: float, noise: float, largest: float) -> int:
    """The least order whose tail stays below the tolerance for every mean in [-reach, reach], sampled at 101 of them."""
    nodes, weights = _nodes(noise)
    means = np.linspace(0.0, reach, 101)  # by symmetry
    values = np.tanh(means + math.sqrt(noise) * nodes[:, None])
    found = (_hermite(nodes, min(MOST_ORDERS, len(nodes) - 2)) * weights) @ values
    left = np.cumsum(found[::-1] ** 2, axis=0)[::-1].max(1)
    enough = [k for k in range(1, len(left) - 1) if largest ** (k + 1) * left[k + 1] <= TOLERANCE]
    return enough[0] if enough else len(left) - 1


def _overlaps(w: Float[Tensor, "p d"]) -> Float[Tensor, "p p"]:
    """`K = W W^T/d`, cosines between the rows."""
    return (w @ w.mT / w.shape[1]).clamp(-1.0, 1.0)


def _largest_off_diagonal(overlap: Float[Tensor, "p p"]) -> float:
    return float((overlap - torch.eye(len(overlap), dtype=overlap.dtype)).abs().max())


def _as_weights(weights: ArrayLike) -> tuple[Float[Tensor, "p d"], torch.dtype]:
    """Weights in float64, their rows normalized to the last digit, and the caller's dtype."""
    given = as_points("weights", weights)
    w, target = given.double(), math.sqrt(given.shape[1])
    norms = w.norm(dim=1, keepdim=True)
    if not bool(((norms / target - 1).abs() < 1e-5).all()):
        raise reject("weights", given, f"rows of norm sqrt(d) = {target:.6g}; feature_weights makes them")
    return w * (target / norms), given.dtype


def _as_readout(readout: ArrayLike, p: int, d: int) -> Float[Tensor, "d p"]:
    a = as_tensor("readout", readout)
    if a.shape != (d, p):
        raise reject("readout", a, f"shape (d, p) = ({d}, {p})")
    return a
