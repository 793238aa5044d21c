r"""Few data per cell: an expectation over a Poisson process, exact where the central limit theorem has nothing to say.

Setting. Seen from close by, N independent data on a k-dimensional manifold are a Poisson process on R^k of intensity
`lambda = N/vol`, and lengths are measured in spacings: the raw score knows only `c = lambda t^{k/2}`, the mean number of data in a
cell of size sqrt(t). Its path divergence is the mean of `-log(S)`, with `S = sum_i G_t(x - x_i)/lambda` of mean one. For any positive
variable `E log S = int_0^inf (e^{-s} - E e^{-sS}) ds/s` (Frullani), and for a Poisson process (Campbell)

    -log E e^{-sS} = lambda int (1 - exp(-s G_t(y)/lambda)) dy = c v_k E (2 (a - log E))_+^{k/2},    a = log(s / (c (2 pi)^{k/2})),

with E exponential of mean one and v_k the volume of the unit ball.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import integrate

from kss._validation import as_count, as_positive

LAST = 45.0
"""`exp(-45)` = 3e-20 is where integrals are cut."""


def poisson_kl(c: float, k: int) -> float:
    """`E KL(p_t || p_t^N)` for uniform data at `N/vol = c t^{-k/2}`, `t << R^2` and large N; from `c -> 0` to the delta method's `1/c`.

    The raw score's path divergence, because for it Girsanov's inequality is an equality.

    >>> f"{poisson_kl(0.1, 1):.3f}, {poisson_kl(10.0, 1):.5f}"
    '23.558, 0.01441'
    """
    c, k = as_positive("c", c), as_count("k", k)
    unit = math.log(c) + k / 2 * math.log(2 * math.pi)

    def integrand(q: float) -> float:  # q = log s
        return math.exp(-c * _covered(q - unit, k)) - math.exp(-math.exp(min(q, 5.0)))

    # Beyond log s = 5 only the first part is left. It decays like exp(-c v_k (2 log s)^{k/2}).
    ball = math.pi ** (k / 2) / math.gamma(k / 2 + 1)
    end = math.sqrt(max((LAST / (c * ball)) ** (2 / k) / 2 + unit, 0.0) + LAST)
    near = integrate.quad(integrand, -LAST, 5.0, points=[-10.0, -2.0, 2.0], limit=400, epsabs=1e-13, epsrel=1e-10)[0]
    far = integrate.quad(lambda y: 2 * y * integrand(y * y), math.sqrt(5.0), end, limit=400, epsabs=1e-13, epsrel=1e-10)[0]
    return float(near + far)


def _covered(a: float, k: int) -> float:
    """`int (1 - exp(-e^{a - |y|^2/2})) dy` over R^k."""
    ball = math.pi ** (k / 2) / math.gamma(k / 2 + 1)
    if a > 40:  # E (2 (a + G))_+^{k/2} for a Gumbel variable G = -log E, which stays above -4
        gumbel, weight = _GUMBEL
        return float(ball * (weight @ (2 * (a + gumbel)) ** (k / 2)))
    end = math.sqrt(2 * (max(a, 0.0) + LAST))
    r, weight = end * _RADII[0], end * _RADII[1]
    return float(ball * k * (weight @ (r ** (k - 1) * -np.expm1(-np.exp(a - r**2 / 2)))))


def _legendre(pieces: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Points and weights on [0, 1]: 16 in each of so many pieces."""
    x, w = np.polynomial.legendre.leggauss(16)
    x = (np.arange(pieces)[:, None] + (1 + x) / 2) / pieces
    return x.reshape(-1), np.tile(w / (2 * pieces), pieces)


_RADII = _legendre(24)
_POINTS = -4.0 + (LAST + 4.0) * _legendre(24)[0]
_DENSITY = np.exp(-_POINTS - np.exp(-_POINTS)) * _legendre(24)[1]
_GUMBEL = (_POINTS, _DENSITY / _DENSITY.sum())
