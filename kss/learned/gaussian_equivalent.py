r"""What replaces the features of `kss.learned.random_features` when dimensions are large: a Gaussian model with the same first moments.

For `p, n, d -> infinity` with `psi_p = p/d` and `psi_n = n/d` fixed, the training moment of the noisy features of n data behaves like

    U ~ (1/n) G G^T + b^2 W W^T/d + s^2 I,    G = sqrt(1 - D) a W X/sqrt(d) + v Omega,

X (d, n) the data, Omega (p, n) independent and standard normal. With the Hermite coefficients `c_k` of tanh the four constants are

    a = c_1,    b^2 = D c_1^2,    v^2 = sum_{k >= 2} c_k^2 (1 - D)^k,    s^2 = sum_{k >= 2} c_k^2 (1 - (1 - D)^k).

Along each principal direction of the data, `mu` its eigenvalue of `sum_i x_i x_i^T/d`, `U - s^2` is a 2 x 2 matrix when
`psi_p >> psi_n > 1`: one large eigenvalue, learned first and the same for the population, and one small, by which the data are memorized.
The other n - d directions that data give form bulk 1, `s^2 + v^2 (1 +- sqrt(psi_p/psi_n))^2`; the p - n - d that no datum touches
stay at `s^2`. In the features themselves these last form a third bulk, of relative width `sqrt(psi_p/n)`, which closes as n grows.

Source: constants, bulks and the equations for the resolvent, Bonnaire, Urfin, Biroli and Mezard, arXiv 2505.17638 and its code; closed
forms of the constants, the small eigenvalues and what follows from them, derived here.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy import optimize
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.learned.random_features import as_noise, tanh_coefficients


class Constants(NamedTuple):
    """Of the Gaussian equivalent; the last three are squares."""

    a: float
    b2: float
    v2: float
    s2: float


def constants(noise: float) -> Constants:
    """`a, b^2, v^2, s^2` at the noise variance D, to relative 1e-12: `(a^2 + v^2 + s^2)` is `E tanh(g)^2` at every D.

    >>> [round(value, 5) for value in constants(0.0198)]
    [0.60571, 0.00726, 0.02554, 0.00187]
    """
    noise, c = as_noise(noise), tanh_coefficients()
    kept = np.arange(len(c)) * math.log1p(-noise)
    squares = np.where(np.arange(len(c)) >= 2, c**2, 0.0)
    return Constants(float(c[1]), noise * float(c[1] ** 2), float(squares @ np.exp(kept)), float(squares @ -np.expm1(kept)))


def bulk_edges(psi_p: float, psi_n: float, noise: float) -> tuple[float, float]:
    """`s^2 + v^2 (1 -+ sqrt(psi_p/psi_n))^2`: the ends of bulk 1, where n - d eigenvalues of U lie, for `psi_p >> psi_n > 1`."""
    psi_p, psi_n, k = as_positive("psi_p", psi_p), as_positive("psi_n", psi_n), constants(noise)
    ratio = math.sqrt(psi_p / psi_n)
    return k.s2 + k.v2 * (1 - ratio) ** 2, k.s2 + k.v2 * (1 + ratio) ** 2


def untouched_edges(psi_p: float, n: int, noise: float) -> tuple[float, float]:
    """`s^2 (1 -+ sqrt(psi_p/n))^2`: ends of the third bulk, the p - n - d smallest eigenvalues of the features' U at finite n.

    To leading order in D what the Gaussian equivalent calls `s^2 I` is `(D/n d) Y Y^T`, Y with the rows `w_i x (tanh'(m_i.) - c_1)` in
    `R^{nd}`: a Marchenko-Pastur law of aspect `p/(n d) = psi_p/n`. The lower end is 0 from `n = psi_p` on downwards.
    """
    ratio, s2 = math.sqrt(as_positive("psi_p", psi_p) / as_count("n", n)), constants(noise).s2
    return s2 * max(0.0, 1 - ratio) ** 2, s2 * (1 + ratio) ** 2


def mode_time(eigenvalue: ArrayLike, psi_p: float, noise: float) -> Float[Tensor, "*batch"]:
    """`psi_p/(2 D lambda)`: the training time in which an eigenvector of U with this eigenvalue is learned to 1 - 1/e."""
    value = as_tensor("eigenvalue", eigenvalue)
    if not bool((value > 0).all()):
        raise reject("eigenvalue", eigenvalue, "eigenvalues > 0")
    return as_positive("psi_p", psi_p) / (2 * as_noise(noise) * value)


def predicted_generalization_time(threshold: float, noise: float) -> float:
    """`log(1/threshold)/(4 D a^2)`: when the score error passes `threshold`, for `psi_n, psi_p -> infinity`. No n and no p in it."""
    level = as_positive("threshold", threshold)
    if level > 1:
        raise reject("threshold", threshold, "a score error of at most 1, that of an untrained model")
    return -math.log(level) / (4 * as_noise(noise) * constants(noise).a ** 2)


class Memorizing(NamedTuple):
    """The d eigenvectors of U by which the data are memorized, one for each principal direction of the data."""

    eigenvalues: Float[Tensor, " d"]
    weights: Float[Tensor, " d"]
    """What each adds to the final gap between test and training loss."""
    train_loss: float
    """The final training loss."""


def memorizing_modes(second_moments: ArrayLike, psi_p: float, psi_n: float, noise: float) -> Memorizing:
    r"""The modes that memorize: `lambda_j = s^2 + e_j`, with `e_j = (psi_p - psi_n) b^2 v^2/((1 - D) a^2 mu_j + v^2 + psi_n b^2)`.

    `second_moments` (d,): the `mu_j`, eigenvalues of `sum_i x_i x_i^T/d`, positive; about `psi_n`. For small D, `e_j` is near
    `D v^2 (psi_p - psi_n)/mu_j`. Each lowers the training loss by `e_j/(d lambda_j)`, from `1 - D` that the true score has, and adds
    `e_j (e_j (1 - D)/D + v^2)/(d lambda_j^2)` to the gap. Leading order for `psi_p >> psi_n > 1`, `s^2 + e_j` well below bulk 1.
    """
    mu = as_tensor("second_moments", second_moments).double()
    if mu.ndim != 1 or len(mu) == 0 or not bool((mu > 0).all()):
        raise reject("second_moments", second_moments, "positive eigenvalues, shape (d,)")
    psi_p, psi_n, noise = as_positive("psi_p", psi_p), as_positive("psi_n", psi_n), as_noise(noise)
    if not 1 < psi_n < psi_p:
        raise reject("psi_n", psi_n, f"a number between 1 and psi_p = {psi_p:g}")
    k, d = constants(noise), len(mu)
    excess = (psi_p - psi_n) * k.b2 * k.v2 / ((1 - noise) * k.a**2 * mu + k.v2 + psi_n * k.b2)
    values = k.s2 + excess
    weights = excess * (excess * (1 - noise) / noise + k.v2) / values**2 / d
    return Memorizing(values, weights, 1 - noise - float((excess / values).sum()) / d)


def predicted_memorization_time(second_moments: ArrayLike, psi_p: float, psi_n: float, noise: float, *, level: float) -> float:
    """When the gap reaches the fraction `level` of its final value: `sum_j weight_j (1 - e^{-r_j tau})^2 = level sum_j weight_j`.

    Arguments as for `memorizing_modes`, 0 < level < 1. For `s^2 << e_j` proportional to n, to `1/D^2`, and not dependent on p; for
    `e_j << s^2` about `psi_p/(2 D s^2)`.
    """
    modes, fraction = memorizing_modes(second_moments, psi_p, psi_n, noise), as_positive("level", level)
    if fraction >= 1:
        raise reject("level", level, "a fraction of the final gap below 1")
    rates = 1 / mode_time(modes.eigenvalues, psi_p, noise)

    def excess(log_tau: float) -> float:
        grown = torch.expm1(-rates * math.exp(log_tau)) ** 2
        return float(modes.weights @ grown - fraction * modes.weights.sum())

    # Between the times that the fastest and the slowest of the modes alone would give.
    own = [-math.log1p(-math.sqrt(fraction)) / float(rate) for rate in (rates.max(), rates.min())]
    return math.exp(optimize.brentq(excess, math.log(own[0] * 0.99), math.log(own[1] * 1.01), xtol=1e-12))


def stieltjes(z: ArrayLike | complex, psi_p: float, psi_n: float, noise: float) -> Complex[Tensor, "*batch"]:
    r"""`q(z) = lim (1/p) tr (U - z)^{-1}` for Im z > 0: the solution with Im q > 0 of

        y = 1 + (psi_p/psi_n)[(1 - D) a^2 r + v^2 q],        r = q/(1 + psi_p B q),        B = b^2 + (1 - D) a^2/y,
        psi_p (s^2 - z + v^2/y) + (1 - psi_p)/q - r/q^2 = 0.

    Found by continuation in Im z with Newton's method, residual below 1e-9; `RuntimeError` if that fails (Im z below about `1e-6 |z|`).
    """
    z = torch.as_tensor(z, dtype=torch.complex128)
    if not bool((z.imag > 0).all() and torch.isfinite(torch.view_as_real(z)).all()):
        raise reject("z", z, "complex numbers with a positive imaginary part")
    psi_p, psi_n, k = as_positive("psi_p", psi_p), as_positive("psi_n", psi_n), constants(noise)
    target = z.reshape(-1).numpy()
    signal = (1 - noise) * k.a**2

    def step(y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope, shift = k.b2 + signal / y, k.s2 - z + k.v2 / y
        # The last equation, with r inserted, is quadratic in q.
        half = shift - psi_p * slope + slope
        root = np.sqrt(half * half + 4 * shift * psi_p * slope)
        q = np.stack((2 / (half + root), 2 / (half - root)))
        q = np.where(q[0].imag > q[1].imag, q[0], q[1])
        return 1 + psi_p / psi_n * (signal * q / (1 + psi_p * slope * q) + k.v2 * q), q

    y = np.ones_like(target)
    start = np.maximum(30 * np.abs(target) + 10.0, target.imag)
    for share in np.linspace(1, 0, 30):
        z_now = target.real + 1j * start**share * target.imag ** (1 - share)
        for _ in range(40 if share == 1 else 2):
            y = (y + step(y, z_now)[0]) / 2
        for _ in range(10):
            nudge = 1e-6 * y
            residual = step(y, z_now)[0] - y
            better = y - residual * nudge / (step(y + nudge, z_now)[0] - y - nudge - residual)
            y = np.where((better.imag > 0) & np.isfinite(better), better, y + residual / 2)
    check, q = step(y, target)
    if not (np.abs(check - y) <= 1e-9 * np.abs(y)).all() or not (q.imag > 0).all():
        raise RuntimeError(f"the equations for the resolvent were not solved: residual {np.abs(check / y - 1).max():.2g}")
    return torch.from_numpy(q).reshape(z.shape)


def spectral_density(eigenvalue: ArrayLike, psi_p: float, psi_n: float, noise: float, *, width: float = 1e-3) -> Float[Tensor, "*batch"]:
    """`Im q(lambda (1 + i width))/pi` at eigenvalues > 0: the limiting density of U's spectrum, blurred by `width` times lambda."""
    value = as_tensor("eigenvalue", eigenvalue).double()
    if not bool((value > 0).all()):
        raise reject("eigenvalue", eigenvalue, "eigenvalues > 0")
    return stieltjes(value * (1 + 1j * as_positive("width", width)), psi_p, psi_n, noise).imag / math.pi
