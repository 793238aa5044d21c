r"""Averages over a kernel by plain sums: references for smoothed scores that share no code with `kss`.

`log p_t^N` has branch points at a distance `pi t/D` from the real line, with D the diameter of the data. A sum with step e in the
standard variable, for a kernel of variance h, therefore errs by about `exp(-2 pi^2 t/(D e sqrt h))`, and `resolved` says which h keeps
that below 1e-14.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import special

REACH = 8.5
"""Standard deviations of the kernel on either side; beyond lies 2e-17 of it."""
NODES = {1: 4001, 2: 241}
"""Nodes per axis."""


def log_density(points: Float[np.ndarray, "N d"], x: np.ndarray, t: float) -> np.ndarray:
    """`log p_t^N` of data at x (..., d), which may be complex; without the powers of 2 pi t and N."""
    exponent = -((x[..., None, :] - points) ** 2).sum(-1) / (2 * t)
    most = exponent.real.max(-1, keepdims=True)
    return np.asarray(np.log(np.exp(exponent - most).sum(-1)) + most[..., 0])


def gaussian_nodes(dim: int, h: float, count: int, reach: float = REACH) -> tuple[np.ndarray, np.ndarray]:
    """A plain grid for `N(0, h I)`: offsets (m, d) and weights, with the same reach on every axis, without what weighs nothing."""
    axis = np.linspace(-reach, reach, count)
    grid = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), -1).reshape(-1, dim)
    weight = np.exp(-(grid**2).sum(-1) / 2)
    kept = weight > 1e-17
    return math.sqrt(h) * grid[kept], weight[kept] / weight.sum()


def resolved(points: np.ndarray, t: float) -> float:
    """The largest h for which the sums below, with `NODES`, are exact to 1e-14."""
    diameter = float(np.linalg.norm(points[:, None] - points, axis=-1).max())
    step = 2 * REACH / (NODES[points.shape[1]] - 1)
    return math.inf if diameter == 0 else (2 * math.pi**2 * t / (32 * diameter * step)) ** 2


def smoothed_log_density(points: np.ndarray, x: np.ndarray, t: float, h: float) -> complex:
    """`(G_h * log p_t^N)(x)` at one x (d,), up to the powers of 2 pi t and N; x may be complex."""
    offsets, weight = gaussian_nodes(points.shape[1], h, NODES[points.shape[1]])
    return complex((weight * log_density(points, x + offsets, t)).sum())


def smoothed_score(points: np.ndarray, x: np.ndarray, t: float, h: float) -> np.ndarray:
    """Its gradient, by a complex step: `Im f(x + i e)/e` has no difference to lose digits in."""
    step = 1e-30 * math.sqrt(t)
    return np.array([smoothed_log_density(points, x + 1j * step * e, t, h).imag / step for e in np.eye(len(x))])


def radial_score(k: int, radius: float, r: Float[np.ndarray, "..."] | float, t: float) -> np.ndarray:
    """Radial component of the score of the uniform law on a k-sphere, from Bessel functions: `(R I_{nu+1}/I_nu - r)/t`, nu = (k-1)/2."""
    kappa = np.asarray(r) * radius / t
    return np.asarray((radius * special.ive((k + 1) / 2, kappa) / special.ive((k - 1) / 2, kappa) - r) / t)


def smoothed_radial_score(k: int, radius: float, r: float, t: float, h: float) -> float:
    """`(G_h * s)(r e_1) . e_1` in R^{k+1}: Gauss-Hermite along e_1, Gauss-Laguerre for the squared length across."""
    z, wz = special.roots_hermitenorm(80)
    u, wu = special.roots_genlaguerre(40, k / 2 - 1)  # |across|^2 = 2 h u
    along, across = r + math.sqrt(h) * z[:, None], 2 * h * u
    length = np.sqrt(along**2 + across)
    value = radial_score(k, radius, length, t) * along / length
    return float((wz[:, None] * wu * value).sum() / (wz.sum() * wu.sum()))
