r"""Checks of a score through its derivatives: gradient field, Hessian bound, Burgers' equation.

For the score s of a diffused law, whatever the law,

    grad s = (grad s)^T,        grad s >= -I/t,        d_t s = (1/2) Lap s + (grad s) s

(see `kss.theory.heat`). Each is an identity, or a sharp inequality, so the tolerances are those of rounding and of difference quotients
alone, measured at the points themselves (`kss.testing.score_probe`): a score in float32 is not blamed for float32.
"""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from kss.testing.score_probe import FLOOR, MOVES, SAFETY, Measured, Probe, Terms, agrees, measure, root_mean_square
from kss.testing.score_report import ScoreResult
from kss.theory.heat import burgers_rate, hessian_bound

DENSE = 16
"""Up to this dimension the whole Jacobian is formed."""
DIRECTIONS = 3
"""Random directions at each point beyond that, for the gradient field."""
STEPS = 16
"""Steps of Lanczos' method beyond that, for the smallest eigenvalue."""
LAPLACIANS = 1024
"""Points times dimension in a Laplacian, about."""
MISSED = 1e-3
"""Probability with which Lanczos' method may miss what the power statement says."""

Points = Mapping[float, Float[Tensor, "n d"]]


def rounding_basis(probe: Probe) -> str:
    """Where the tolerance of an identity comes from, in words."""
    quotients = "" if probe.by_autograd else f", {SAFETY:g} times the error of the difference quotients"
    return (
        f"{probe.arithmetic} rounding: {SAFETY:g} times what moving x and t in the last place changes{quotients}, "
        f"and {FLOOR:g} units in the last place of the largest term"
    )


def gradient_field(probe: Probe, points: Points, generator: torch.Generator) -> ScoreResult:
    """Is the Jacobian symmetric? Measured is the share of its antisymmetric part, in the Frobenius norm."""
    name, title = "gradient", "Is the score the gradient of a function, that is, is its Jacobian symmetric?"
    if probe.dim == 1:
        return ScoreResult(name, title, "not run", "on the line every field is a gradient")
    found: dict[float, Measured] = {}
    for t, x in points.items():
        if probe.dim <= DENSE:
            directions = torch.eye(probe.dim, dtype=torch.float64, device=x.device).unsqueeze(1).expand(-1, *x.shape)
        else:
            directions = probe.normal((DIRECTIONS, *x.shape), generator)
        found[t] = measure(probe, _antisymmetric(probe, directions), x, t, math.sqrt(probe.dim) / t, generator)
    worst = _worst(found)
    passed, count = all(m.value <= m.allowed for m in found.values()), len(points[worst])
    power = f"an antisymmetric part above {found[worst].allowed:.2g} of the Jacobian (root mean squares over the points)"
    if probe.dim > DENSE:
        power = (
            f"estimated from {DIRECTIONS} random directions at each point; a share of {10 * found[worst].allowed:.2g} at every point "
            f"is missed with probability below 2^-{count}"
        )
    message = f"the antisymmetric part is {found[worst].value:.2g} of the Jacobian at t = {worst:g}"
    return ScoreResult(
        name,
        title,
        "passed" if passed else "failed",
        message if not passed else f"symmetric, up to rounding: {message}",
        measured=found[worst].value,
        tolerance=found[worst].allowed,
        basis=rounding_basis(probe),
        power=power,
        by_time={t: m.value for t, m in found.items()},
    )


def _worst(found: Mapping[float, Measured]) -> float:
    """The time of the largest defect among those not allowed; if all are, the one nearest to its tolerance."""
    failing = [t for t, m in found.items() if not m.value <= m.allowed]
    return max(failing, key=lambda t: found[t].value) if failing else max(found, key=lambda t: found[t].value / found[t].allowed)


def _antisymmetric(probe: Probe, directions: Float[Tensor, "m n d"]) -> Callable[[Tensor, float], Terms]:
    """The antisymmetric part between directions, scaled so that its root mean square estimates the Frobenius norm."""
    # For unit vectors along the axes the sum over pairs is the norm; for normal ones each pair estimates it.
    pairs = 1 if probe.dim <= DENSE else len(directions) * (len(directions) - 1)
    ways = 1 if probe.dim <= DENSE else len(directions)

    def terms(x: Tensor, t: float) -> Terms:
        image, truncation = probe.along_each(x, t, directions)  # J v_j
        between = torch.einsum("ind,jnd->nij", directions, image)
        defect = (between - between.mT) / 2 / math.sqrt(pairs)
        size = root_mean_square(image.transpose(0, 1)) / math.sqrt(ways)
        return Terms(defect, size, truncation * math.sqrt(len(directions) / ways))

    return terms


def hessian_is_bounded(probe: Probe, points: Points, generator: torch.Generator) -> ScoreResult:
    """Is `grad s >= -I/t`? Measured is by how much the smallest eigenvalue of `t grad s` falls below -1, at the worst point."""
    values, excess, allowed = {}, {}, {}
    for t, x in points.items():
        start = probe.normal((STEPS, *x.shape), generator)
        value, size, truncation = _least(probe, x, t, start)
        changes = [(_least(probe, *probe.moved(x, t, generator), start)[0] - value).abs() for _ in range(MOVES)]
        change = torch.stack(changes).amax(0)
        change = torch.maximum(change, change.median())
        tolerance = SAFETY * (change + truncation) + FLOOR * probe.epsilon * (size + 1)
        below = hessian_bound(1.0) - value
        row = int((below - tolerance).argmax())
        values[t], excess[t], allowed[t] = float(value.min()), max(0.0, float(below[row])), float(tolerance[row])
    worst = max(excess, key=lambda t: excess[t] - allowed[t])
    passed = all(excess[t] <= allowed[t] for t in excess)
    power = f"an eigenvalue below -(1 + {allowed[worst]:.2g})/t at one of the points"
    if probe.dim > DENSE:
        # Kuczynski and Wozniakowski, SIAM J. Matrix Anal. Appl. 13 (1992), theorem 4.2, for the largest eigenvalue of a - grad s >= 0.
        spread = (math.log(1.648 * math.sqrt(probe.dim) / MISSED) / (2 * STEPS - 1)) ** 2
        power = (
            f"{STEPS} steps of Lanczos' method from a random vector: where the score is a gradient, an eigenvalue below "
            f"-(1 + {allowed[worst]:.2g})/t by more than {spread:.2g} of the spread of all eigenvalues is missed with probability below "
            f"{MISSED:g} at each point"
        )
    return ScoreResult(
        "hessian",
        "Is no eigenvalue of the Jacobian below -1/t, the one of pure noise?",
        "passed" if passed else "failed",
        f"the smallest eigenvalue of t grad s is {values[worst]:.6g} at t = {worst:g}; the bound is -1",
        measured=excess[worst],
        tolerance=allowed[worst],
        basis=f"in directions without data -1 is attained; {rounding_basis(probe)}",
        power=power,
        by_time=excess,
        details={"least": values},
    )


def _least(probe: Probe, x: Tensor, t: float, start: Float[Tensor, "m n d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], float]:
    """Smallest eigenvalue of the symmetric part of `t grad s`, its size, both (n,), and the truncation of difference quotients.

    Beyond `DENSE` dimensions on the Krylov space of a random vector: no eigenvalue there is below the true ones.
    """
    if probe.dim <= DENSE:
        basis = torch.eye(probe.dim, dtype=torch.float64, device=x.device).unsqueeze(1).expand(-1, *x.shape)
        images, truncation = probe.along_each(x, t, basis)
    else:
        vectors: list[Tensor] = []
        columns: list[Tensor] = []
        truncation = 0.0
        for spare in start:
            vectors.append(_next_vector(vectors, columns[-1] if columns else spare, spare))
            image, error = probe.along(x, t, vectors[-1])
            columns.append(image)
            truncation = max(truncation, error)
        basis, images = torch.stack(vectors), torch.stack(columns)
    between = t * torch.einsum("ind,jnd->nij", basis, images)
    eigenvalues = torch.linalg.eigvalsh((between + between.mT) / 2)
    return eigenvalues[:, 0], eigenvalues.abs().amax(-1), t * truncation * math.sqrt(len(basis))


def _next_vector(basis: list[Tensor], image: Float[Tensor, "n d"], spare: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The next vector of an orthonormal basis of the Krylov space; a random one where that space is exhausted."""
    before = image.norm(dim=-1, keepdim=True)
    rest = _orthogonal(basis, image)
    exhausted = rest.norm(dim=-1, keepdim=True) <= 1e-8 * before
    rest = _orthogonal(basis, torch.where(exhausted, spare, rest))
    return rest / rest.norm(dim=-1, keepdim=True)


def _orthogonal(basis: list[Tensor], v: Tensor) -> Tensor:
    for _ in range(2):  # twice is enough
        for b in basis:
            v = v - (v * b).sum(-1, keepdim=True) * b
    return v


def burgers(probe: Probe, points: Points, generator: torch.Generator, most_dim: int) -> ScoreResult:
    """Does the score solve Burgers' equation? Measured is the residual relative to the sizes of the three terms."""
    name, title = "burgers", "Does the score change with t as that of a diffused law, d_t s = (1/2) Lap s + (grad s) s?"
    if probe.dim > most_dim:
        reason = f"the Laplacian costs {probe.dim} second derivatives at each point; ask for it with most_laplacian_dim"
        return ScoreResult(name, title, "not run", reason)
    count = max(4, LAPLACIANS // probe.dim)
    points = {t: x[:count] for t, x in points.items()}
    parts = _Parts(probe, points, generator)
    found, clock, cosine = {}, {}, {}
    for t, x in points.items():
        found[t] = measure(probe, parts.terms, x, t, math.sqrt(probe.dim) * t**-1.5, generator)
        rate, right = parts.sides(x, t)
        product, square = float((rate * right).sum()), float((right * right).sum())
        clock[t] = product / (square + 1e-300)
        cosine[t] = product / (math.sqrt(square) * float(rate.norm()) + 1e-300)
    worst = _worst(found)
    passed = all(m.value <= m.allowed for m in found.values())
    message = f"the residual is {found[worst].value:.2g} of its terms at t = {worst:g}"
    if not passed:
        message += _reading(clock, cosine)
    return ScoreResult(
        name,
        title,
        "passed" if passed else "failed",
        message,
        measured=found[worst].value,
        tolerance=found[worst].allowed,
        basis=rounding_basis(probe) + parts.basis,
        power=(
            f"a residual above {found[worst].allowed:.2g} of |d_t s| + |Lap s|/2 + |(grad s) s| "
            f"(root mean squares over {len(points[worst])} points)"
        ),
        by_time={t: m.value for t, m in found.items()},
        details={"clock": clock, "cosine": cosine},
    )


def _reading(clock: Mapping[float, float], cosine: Mapping[float, float]) -> str:
    """What a residual suggests."""
    # The part of d_t s that no factor explains, against how far the factor is from 1.
    if all(1 - c**2 < 1e-3 * (clock[t] - 1) ** 2 for t, c in cosine.items()):
        rates = ", ".join(f"{rate:.3g} at t = {t:g}" for t, rate in clock.items())
        return (
            f"\na wrong time: d_t s points where it should, but its length is that times {rates}. A score read at another time u(t) is "
            "off by the factor u'(t): 1/2 for u = t/2, 2t for u = t^2 (a standard deviation was asked for, the variance was given), "
            "1/(2 sqrt(t)) for u = sqrt(t) (the reverse)"
        )
    return (
        "\nnot a wrong time alone, which would leave the direction of d_t s right. Smoothing over x with a fixed bandwidth does this: the "
        "convection (grad s) s of an average is not the average of the convection. So do a factor, a field added, and the error of a "
        "trained network"
    )


class _Parts:
    """The terms of Burgers' equation, each by automatic differentiation where that agrees with difference quotients."""

    def __init__(self, probe: Probe, points: Points, generator: torch.Generator) -> None:
        self.probe = probe
        t, x = sorted(points.items())[len(points) // 2]
        self.autograd_in_time = _agree(lambda: self._rate_exact(x, t), lambda: self._rate_quotient(x, t))
        v = probe.normal(x.shape, generator)
        self.autograd_twice = probe.by_autograd and _agree(lambda: self._second_exact(x, t, v), lambda: self._second_quotient(x, t, v))

    @property
    def basis(self) -> str:
        """What was done by difference quotients, in words."""
        quotients = [what for what, exact in (("t", self.autograd_in_time), ("x, twice", self.autograd_twice)) if not exact]
        return f"; difference quotients in {' and '.join(quotients)}" if quotients else ""

    def terms(self, x: Tensor, t: float) -> Terms:
        rate, convection, laplacian, truncation = self._all(x, t)
        size = (rate.norm(dim=-1) + laplacian.norm(dim=-1) / 2 + convection.norm(dim=-1)).unsqueeze(-1)
        return Terms(rate - burgers_rate(laplacian, convection), root_mean_square(size), truncation)

    def sides(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """`d_t s` and what it should be."""
        rate, convection, laplacian, _ = self._all(x, t)
        return rate, burgers_rate(laplacian, convection)

    def _all(self, x: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor, float]:
        with torch.no_grad():
            value = self.probe(x, t)
        convection, error = self.probe.along(x, t, value)
        rate, rate_error = (self._rate_exact(x, t), 0.0) if self.autograd_in_time else self._rate_quotient(x, t)
        # All axes at once: row i d + j is point i with axis j.
        axes = torch.eye(self.probe.dim, dtype=torch.float64, device=x.device).repeat(len(x), 1)
        every = x.repeat_interleave(self.probe.dim, 0)
        second, second_error = (self._second_exact(every, t, axes), 0.0) if self.autograd_twice else self._second_quotient(every, t, axes)
        laplacian = second.reshape(len(x), self.probe.dim, self.probe.dim).sum(1)
        return rate, convection, laplacian, error + rate_error + second_error * self.probe.dim / 2

    def _rate_exact(self, x: Tensor, t: float) -> Tensor:
        time = torch.full(x.shape[:1], t, dtype=torch.float64, device=x.device)
        return torch.func.jvp(lambda u: self.probe.raw(x, u), (time,), (torch.ones_like(time),))[1].detach()

    def _rate_quotient(self, x: Tensor, t: float) -> tuple[Tensor, float]:
        step = self.probe.epsilon**0.2 * t
        with torch.no_grad():
            one, two = ((self.probe(x, t + h) - self.probe(x, t - h)) / (2 * h) for h in (step, 2 * step))
        return (4 * one - two) / 3, root_mean_square(one - two) / 3

    def _second_exact(self, x: Tensor, t: float, v: Tensor) -> Tensor:
        def slope(y: Tensor) -> Tensor:
            return torch.func.jvp(lambda z: self.probe.raw(z, t), (y,), (v,))[1]

        return torch.func.jvp(slope, (x,), (v,))[1].detach()

    def _second_quotient(self, x: Tensor, t: float, v: Tensor) -> tuple[Tensor, float]:
        # Two steps extrapolated: truncation h^4, rounding epsilon/h^2, in units of sqrt(t); least at h = epsilon^(1/6).
        step = self.probe.epsilon ** (1 / 6) * math.sqrt(t) / root_mean_square(v)
        with torch.no_grad():
            middle = self.probe(x, t)
            one, two = ((self.probe(x + h * v, t) - 2 * middle + self.probe(x - h * v, t)) / h**2 for h in (step, 2 * step))
        return (4 * one - two) / 3, root_mean_square(one - two) / 3


def _agree(exact: Callable[[], Tensor], quotient: Callable[[], tuple[Tensor, float]]) -> bool:
    """Whether automatic differentiation works, and agrees with the difference quotient."""
    try:
        value = exact()
    except Exception:  # operations without a derivative raise all kinds of errors
        return False
    return agrees(value, *quotient())
