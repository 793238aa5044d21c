r"""Densities and scores from their definitions, in 150-digit ball arithmetic: the reference that shares no code with `kss`.

A law is written as `sum_k pi_k N(mu_k, S_k)` (a data set has `S_k = 0`) or as the uniform law on a sphere in R^d, and

    log p_t(x) = log sum_k pi_k N(x; mu_k, S_k + t I)
    or  -(d/2) log(2 pi t) - (r^2 + R^2)/2t + log Gamma(nu + 1) (2/kappa)^nu I_nu(kappa),     kappa = r R/t,  nu = d/2 - 1;

a flat torus is the product of circles, a law on a subspace its product with a Gaussian law in the complement.

The score and the Hessian are difference quotients of that, with a step so small that their error is below 1e-60: no formula
of the theory enters. `Reference.allowance` says by how much a result in double precision may differ: by what moving every
input by a few units in the last place changes, plus `1e-12` of the value.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from flint import arb, arb_mat, ctx

from kss.distributions import Distribution, Embedded, Empirical, FlatTorus, GaussianMixture, Sphere

BITS = 500
STEP = 2.0**-120
"""Step of the difference quotients, in units of `sqrt(t)`: truncation about STEP^2, cancellation about 2^-BITS/STEP^2."""
ULPS = 4.0
"""How many units in the last place the inputs are moved by."""
INVISIBLE = 1e-55
"""Difference quotients are blind below about 2^-BITS/STEP^2; weights of that size decide nothing in double precision."""
SAFETY = 16.0
"""Three random moves see less than the worst one does: the moves are uniform, and their effects add like a random walk."""

Vector = list[Any]


class Reference:
    """Exact parameters of a law: weights, means and covariances of a Gaussian mixture, or the radii of a product of spheres."""

    def __init__(self, law: Distribution) -> None:
        self.axes: np.ndarray | None = None
        if isinstance(law, Embedded):
            self.ambient = law.dim
            self.axes = None if law.rotation is None else law.rotation.double().numpy()[:, : law.distribution.dim]
            law = law.distribution
        else:
            self.ambient = law.dim
        self.dim = law.dim
        self.radii: np.ndarray | None = None
        if isinstance(law, Sphere):
            self.radii = np.array([law.radius])
        elif isinstance(law, FlatTorus):
            self.radii = law.radii.numpy()
        elif isinstance(law, Empirical):
            self.means = law.points.double().numpy()
            self.weights = np.full(len(self.means), 1 / len(self.means))
            self.covariances = None
        elif isinstance(law, GaussianMixture):
            self.means, self.weights = law.means.double().numpy(), law.weights.numpy()
            self.covariances = law.covariances.double().numpy()
        else:
            raise ValueError(f"law = {law!r}: expected a law whose density is a finite sum")

    def moved(self, rng: np.random.Generator) -> "Reference":
        """The same law with every parameter moved by up to `ULPS` units in the last place."""
        other = object.__new__(Reference)
        other.ambient, other.dim, other.axes = self.ambient, self.dim, None if self.axes is None else _moved(self.axes, rng)
        other.radii = self.radii if self.radii is None else _moved(self.radii, rng)
        if self.radii is None:
            other.means, other.weights, other.covariances = _moved(self.means, rng), self.weights, self.covariances
            if self.covariances is not None:
                # Eigenvalues are known only to the rounding of the largest entry.
                size = np.abs(self.covariances).max((1, 2), keepdims=True)
                noise = rng.uniform(-1, 1, self.covariances.shape) * np.finfo(float).eps * ULPS * size
                other.covariances = self.covariances + (noise + noise.transpose(0, 2, 1)) / 2
        return other

    def at(self, t: float) -> "Field":
        """The law under noise of variance t."""
        return Field(self, t)


class Field:
    """`log p_t` and its derivatives at one noise variance."""

    def __init__(self, reference: Reference, t: Any) -> None:
        ctx.prec = BITS
        self.t, self.law = arb(t), reference
        self.step = (self.t.sqrt() * arb(STEP)).mid()
        self._pieces: list[tuple[Any, Any, Any]] = []
        if reference.radii is None and reference.covariances is not None:
            eye = np.eye(reference.means.shape[1])
            for weight, mean, covariance in zip(reference.weights, reference.means, reference.covariances, strict=True):
                if weight > 0:
                    matrix = arb_mat(covariance.tolist()) + arb_mat(eye.tolist()) * self.t
                    log_weight = arb(float(weight)).log() - matrix.det().log() / 2
                    self._pieces.append((log_weight, matrix.inv(), [arb(v) for v in mean.tolist()]))

    def log_density(self, x: Vector) -> Any:
        """`log p_t(x)`."""
        law = self.law
        if law.ambient == law.dim and law.axes is None:
            return self._inner(x)
        if law.axes is None:
            inside, normal = x[: law.dim], sum((v * v for v in x[law.dim :]), arb(0))
        else:
            axes = [[arb(v) for v in row] for row in law.axes.T.tolist()]
            inside = [sum((a * v for a, v in zip(axis, x, strict=True)), arb(0)) for axis in axes]
            rest = [v - sum((y * axis[i] for y, axis in zip(inside, axes, strict=True)), arb(0)) for i, v in enumerate(x)]
            normal = sum((v * v for v in rest), arb(0))
        return self._inner(inside) - normal / (2 * self.t) - arb(law.ambient - law.dim) / 2 * (2 * arb.pi() * self.t).log()

    def _inner(self, x: Vector) -> Any:
        d = len(x)
        normalizer = arb(d) / 2 * (2 * arb.pi()).log()
        if self.law.radii is not None:
            width = d // len(self.law.radii)
            return sum((self._sphere(x[i * width : (i + 1) * width], arb(float(r))) for i, r in enumerate(self.law.radii)), arb(0))
        if self.law.covariances is None:
            logs = [-sum(((a - b) ** 2 for a, b in zip(x, row, strict=True)), arb(0)) / (2 * self.t) for row in self.law.means.tolist()]
            return _log_sum(logs) - arb(len(logs)).log() - arb(d) / 2 * self.t.log() - normalizer
        logs = []
        for log_weight, inverse, mean in self._pieces:
            offset = arb_mat([[a - b] for a, b in zip(x, mean, strict=True)])
            logs.append(log_weight - (offset.transpose() * inverse * offset)[0, 0] / 2)
        return _log_sum(logs) - normalizer

    def _sphere(self, x: Vector, radius: Any) -> Any:
        square, nu = sum((v * v for v in x), arb(0)), arb(len(x)) / 2 - 1
        result = -(square + radius**2) / (2 * self.t) - (nu + 1) * (2 * arb.pi() * self.t).log()
        if square == 0:
            return result
        kappa = square.sqrt() * radius / self.t
        log_bessel = kappa.bessel_i(nu, scaled=True).log() + kappa
        return result + log_bessel + (nu + 1).gamma().log() + nu * (2 / kappa).log()

    def score(self, x: Vector) -> Vector:
        """`grad log p_t(x)` by central differences."""
        return [(self._shifted(x, (i, 1)) - self._shifted(x, (i, -1))) / (2 * self.step) for i in range(len(x))]

    def hessian(self, x: Vector) -> list[Vector]:
        """`Hess log p_t(x)` by central differences."""
        d, center = len(x), self.log_density(x)
        plus, minus = [self._shifted(x, (i, 1)) for i in range(d)], [self._shifted(x, (i, -1)) for i in range(d)]
        matrix = [[arb(0)] * d for _ in range(d)]
        for i in range(d):
            matrix[i][i] = (plus[i] - 2 * center + minus[i]) / self.step**2
            for j in range(i):
                corners = self._shifted(x, (i, 1), (j, 1)) + self._shifted(x, (i, -1), (j, -1))
                corners -= self._shifted(x, (i, 1), (j, -1)) + self._shifted(x, (i, -1), (j, 1))
                matrix[i][j] = matrix[j][i] = corners / (4 * self.step**2)
        return matrix

    def mean(self, x: Vector) -> Vector:
        """`E[X_0 | X_t = x]` of a data set, by the definition: an average with the weights `exp(-|x - x_i|^2/2t)`."""
        assert self.law.radii is None
        assert self.law.covariances is None
        rows = self.law.means.tolist()
        logs = [-sum(((a - b) ** 2 for a, b in zip(x, row, strict=True)), arb(0)) / (2 * self.t) for row in rows]
        total = _log_sum(logs)
        weights = [(value - total).exp() for value in logs]
        return [sum((w * arb(row[i]) for w, row in zip(weights, rows, strict=True)), arb(0)) for i in range(len(x))]

    def _shifted(self, x: Vector, *moves: tuple[int, int]) -> Any:
        y = list(x)
        for i, sign in moves:
            y[i] = y[i] + sign * self.step
        return self.log_density(y)


def exact(x: torch.Tensor) -> Vector:
    """The coordinates of a point, exactly."""
    return [arb(v) for v in x.tolist()]


def to_float(value: Any) -> Any:
    """Balls as floats, in nested lists as arrays; fails if they are too wide for double precision of the largest one.

    A ball around zero is as good as zero once its radius is below 1e-60.
    """
    balls = _flatten(value)
    largest = max(abs(ball.mid()) for ball in balls)
    if any(not (ball.rad() <= largest * arb(2.0**-60) + arb(2.0**-200)) for ball in balls):
        raise ArithmeticError(f"the reference lost its digits: {value}")
    return _midpoints(value)


def _flatten(value: Any) -> Vector:
    return [ball for part in value for ball in _flatten(part)] if isinstance(value, list) else [value]


def _midpoints(value: Any) -> Any:
    return np.array([_midpoints(part) for part in value]) if isinstance(value, list) else float(value.mid())


def evaluate(
    law: Distribution, x: torch.Tensor, t: float, quantity: Callable[[Field, Vector], Any], rng: np.random.Generator
) -> tuple[Any, Any]:
    """A quantity of the law at (x, t), and the error allowed to a double-precision computation of it.

    The allowance is `SAFETY` times the largest change when every input moves by a few units in the last place, in three
    random ways, plus `1e-12` of the largest entry, plus what the difference quotients cannot see.
    """
    ctx.prec = BITS
    reference = Reference(law)
    value = to_float(quantity(reference.at(t), exact(x)))
    change = np.zeros_like(np.asarray(value))
    for _ in range(3):
        moved_x = torch.from_numpy(_moved(x.double().numpy(), rng))
        other = to_float(quantity(reference.moved(rng).at(float(_moved(np.float64(t), rng))), exact(moved_x)))
        change = np.maximum(change, np.abs(other - value))
    return value, SAFETY * change.max() + 1e-12 * np.abs(value).max() + INVISIBLE


def _moved(values: Any, rng: np.random.Generator) -> Any:
    return values + rng.uniform(-ULPS, ULPS, np.shape(values)) * np.spacing(np.abs(values))


def _log_sum(logs: Vector) -> Any:
    most = max(logs, key=lambda v: v.mid())
    return most + sum(((value - most).exp() for value in logs), arb(0)).log()
