r"""Averages over a kernel by plain sums, and two families of laws by their definitions: references that share no formula with `kss`.

`log p_t^N` has branch points at a distance `pi t/D` from the real line, with D the diameter of the data. A sum with step e in the
standard variable, for a kernel of variance h, therefore errs by about `exp(-2 pi^2 t/(D e sqrt h))`, and `resolved` says which h keeps
that below 1e-14.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import special

from kss.distributions import Distribution, Empirical, GaussianMixture

REACH = 8.5
"""Standard deviations of the kernel on either side; beyond lies 2e-17 of it."""
NODES = {1: 4001, 2: 241}
"""Nodes per axis."""
Radii = Float[np.ndarray, "*r"] | float


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


class Line:
    """A mixture of normals (or points) on the line under noise, by its definition."""

    def __init__(self, law: Distribution) -> None:
        if isinstance(law, Empirical):
            self.centers, self.spread = law.points.numpy()[:, 0], np.zeros(len(law))
            self.weights = np.full(len(law), 1 / len(law))
        else:
            assert isinstance(law, GaussianMixture)
            self.centers, self.spread = law.means.numpy()[:, 0], law.covariances.numpy()[:, 0, 0]
            self.weights = law.weights.numpy()

    def log_density(self, x: np.ndarray, t: float) -> np.ndarray:
        variance = self.spread + t
        logs = np.log(self.weights / np.sqrt(2 * math.pi * variance)) - (x[..., None] - self.centers) ** 2 / (2 * variance)
        return special.logsumexp(logs, axis=-1)

    def score(self, x: np.ndarray, t: float) -> np.ndarray:
        variance, away = self.spread + t, x[..., None] - self.centers
        likelihood = special.softmax(np.log(self.weights / np.sqrt(variance)) - away**2 / (2 * variance), axis=-1)
        return (likelihood * -away / variance).sum(-1)

    def smoothed_score(self, x: np.ndarray, t: float, h: float) -> np.ndarray:
        offsets, weight = gaussian_nodes(1, h, 289, 9.0)  # a step of 1/16: exact for what is smooth on the scale of the kernel
        return self.score(x[..., None] + offsets[:, 0], t) @ weight

    def products(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """`(grad s) Lap s` and `sum_jk (d_j s_k)(d_j d_k s)`: on the line both are `s's''`, from the derivatives of each normal density."""
        variance, away = self.spread + t, x[..., None] - self.centers
        likelihood = special.softmax(np.log(self.weights / np.sqrt(variance)) - away**2 / (2 * variance), axis=-1)
        u = away / variance
        one, two, three = ((likelihood * p).sum(-1) for p in (-u, u**2 - 1 / variance, 3 * u / variance - u**3))  # derivatives of p, over p
        product = (two - one**2) * (three - 3 * one * two + 2 * one**3)
        return product, product


class Sphere:
    """The uniform law on the k-sphere of a radius under noise, along a ray from its center, from Bessel functions."""

    def __init__(self, k: int, radius: float = 1.0) -> None:
        self.half, self.radius = (k + 1) / 2, radius

    def score(self, r: Radii, t: float) -> np.ndarray:
        """Outward component: `log p_t = -(r^2 + R^2)/2t + log [I_{d/2-1}(z) z^{1-d/2}] + const`, z = rR/t and d = k + 1."""
        z = np.asarray(r) * self.radius / t
        return np.asarray((self.radius * special.ive(self.half, z) / special.ive(self.half - 1, z) - r) / t)

    def smoothed_score(self, r: Radii, t: float, h: float) -> np.ndarray:
        """The average of `s(|y|) y/|y|` over y ~ N(x, h I), along x: the angle integrates to a Bessel function."""
        values = []
        for away in np.atleast_1d(r):
            # 1/32 of a standard deviation, ten of them. For small t the score is steep at the origin, where the weight is exp(-r^2/2h),
            # exp(-12) at most: against a step of 1/256 its relative error is 1e-10 at h = 0.04 and below 1e-12 elsewhere.
            step = math.sqrt(h) / 32
            rho = np.arange(max(step, away - 10 * math.sqrt(h)), away + 10 * math.sqrt(h), step)
            weight = (rho / away) ** self.half * away / h * special.ive(self.half, away * rho / h)
            values.append((weight * np.exp(-((away - rho) ** 2) / (2 * h)) * self.score(rho, t)).sum() * step)
        return np.reshape(values, np.shape(r))

    def products(self, r: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """`(grad s) Lap s` and `sum_jk (d_j s_k)(d_j d_k s)` along x, for `s = f(|x|) x/|x|` and `f = (R A(z) - r)/t`, z = rR/t.

        A is a quotient of Bessel functions, `A' = 1 - A^2 - (d - 1) A/z`. With one derivative along x and d - 1 across it, `grad s` has the
        eigenvalues f' and f/r, and the second derivatives of s are, along x, f'' and `(f/r)'`.
        """
        z, across = r * self.radius / t, 2 * self.half - 1
        a = special.ive(self.half, z) / special.ive(self.half - 1, z)
        first = 1 - a**2 - across * a / z
        second = -2 * a * first - across * (first / z - a / z**2)
        f, along, curved = (self.radius * a - r) / t, (self.radius**2 * first / t - 1) / t, self.radius**3 * second / t**3
        turned = along / r - f / r**2
        return along * (curved + across * turned), along * curved + across * f / r * turned
