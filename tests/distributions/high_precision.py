"""The empirical law in ball arithmetic, and how far a few units in the last place of its inputs could move it.

An independent reference: nothing here comes from `kss`, and the formulas are the definitions.
"""

from typing import NamedTuple

import flint
import numpy as np

NEGLIGIBLE = -320.0
"""Points whose weight is below exp(-320) = 1e-139 are left out."""


class Reference(NamedTuple):
    """Exact values, rounded once, and by how much one unit in the last place of every input could move each of them."""

    score: np.ndarray
    log_density: float
    covariance: np.ndarray
    score_per_ulp: np.ndarray
    log_density_per_ulp: float
    covariance_per_ulp: np.ndarray


class EmpiricalReference:
    """The empirical law of `points` (N, d), taken as exact binary numbers.

    420 bits are 126 digits; exponents up to 1e17 leave more than 100 of them in every weight.
    """

    def __init__(self, points: np.ndarray, bits: int = 420) -> None:
        flint.ctx.prec = self.bits = bits
        self.points = np.asarray(points, dtype=np.float64)
        self.matrix = flint.arb_mat([[flint.arb(float(v)) for v in row] for row in self.points])
        self.half_squares = [sum((v * v for v in map(flint.arb, row)), flint.arb(0)) / 2 for row in self.points.tolist()]

    def at(self, x: np.ndarray, t: float) -> Reference:
        flint.ctx.prec = self.bits
        count, dim = self.points.shape
        point, time = [flint.arb(float(v)) for v in x], flint.arb(float(t))
        products = self.matrix * flint.arb_mat([[v] for v in point])
        exponents = [(products[i, 0] - half) / time for i, half in enumerate(self.half_squares)]
        nearest = 0
        for i, exponent in enumerate(exponents):
            if exponent > exponents[nearest]:
                nearest = i
        keep = [i for i, exponent in enumerate(exponents) if not exponent - exponents[nearest] < NEGLIGIBLE]
        weights = [(exponents[i] - exponents[nearest]).exp() for i in keep]
        total = sum(weights, flint.arb(0))
        matrix = self.matrix if len(keep) == count else flint.arb_mat([[self.matrix[i, j] for j in range(dim)] for i in keep])
        mean = flint.arb_mat([[w / total for w in weights]]) * matrix
        displacement = [mean[0, j] - point[j] for j in range(dim)]
        square = sum((v * v for v in point), flint.arb(0))
        log_density = total.log() + exponents[nearest] - square / (2 * time) - flint.arb(count).log()
        log_density -= flint.arb(dim) / 2 * (2 * flint.arb.pi() * time).log()
        return Reference(
            np.array([float(v / time) for v in displacement]),
            float(log_density),
            *self._moved_by_an_ulp(x, t, nearest, keep, np.array([float(v / total) for v in weights]), [*map(float, displacement)]),
        )

    def _moved_by_an_ulp(
        self, x: np.ndarray, t: float, nearest: int, keep: list[int], w: np.ndarray, displacement: list[float]
    ) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        """The covariance; and `sum |derivative| ulp` over all inputs `x_j`, `x_ij`, `t`, for score, log-density and covariance.

        A few digits suffice here, and differences from the nearest point keep them.
        """
        points, dim = self.points[keep], len(x)
        e = points - self.points[nearest]
        a, b, d = e - w @ e, x - points, np.array(displacement)  # a = x_i - m, b = x - x_i
        covariance = (w[:, None] * a).T @ a
        ulp_x, ulp_points, ulp_t = np.spacing(np.abs(x)), np.spacing(np.abs(points)), np.spacing(t) / t
        half_form = (b**2).sum(-1) / (2 * t)

        # dm/dx = C/t; |dm_k/dx_ij| = w_i |delta_kj + (x_i - m)_k (x - x_i)_j/t|; t dm/dt = sum_i w_i (x_i - m) |x - x_i|^2/2t.
        by_x = np.abs(covariance / t - np.eye(dim)) @ ulp_x
        steep = (np.abs(b / t) * ulp_points).sum(-1)
        by_points = w @ (np.abs(a) * steep[:, None] + (np.abs(1 + a * b / t) - np.abs(a * b / t)) * ulp_points)
        by_t = np.abs((w * half_form) @ a - d) * ulp_t
        log_per_ulp = np.abs(d) @ ulp_x / t + w @ steep + abs(w @ half_form - dim / 2) * ulp_t

        # dC = sum_i w_i dL_i ((x_i - m)(x_i - m)^T - C) + sum_i w_i (dx_i (x_i - m)^T + transposed), L_i up to a common shift.
        bend = np.abs(e / t) @ ulp_x + steep + steep[keep.index(nearest)] + np.abs(half_form - half_form[keep.index(nearest)]) * ulp_t
        moved = np.einsum("i,ikl->kl", w * bend, np.abs(a[:, :, None] * a[:, None, :] - covariance)) if dim <= 8 else None
        if moved is None:  # the same, bounded by the triangle inequality, without N d^2 numbers
            moved = (np.abs(a) * (w * bend)[:, None]).T @ np.abs(a) + (w @ bend) * np.abs(covariance)
        carried = (w[:, None] * np.abs(a)).T @ ulp_points
        # Among coinciding points the first order vanishes; the second does not.
        scattered = (w[:, None] * ulp_points).T @ ulp_points
        return covariance, (by_x + by_points + by_t) / t, float(log_per_ulp), moved + carried + carried.T + scattered
