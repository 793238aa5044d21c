"""Chapter "Two clocks of training", first part: the model, exactly."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import integrate

from kss.claims.registry import check, claim, instead, returns
from kss.learned import gaussian_equivalent as equivalent
from kss.learned import random_features as features
from kss.learned.training import GradientFlow
from kss.testing.compare import agree

CHAPTER = "training_clocks"
PAPER = "Bonnaire, Urfin, Biroli and Mezard, arXiv 2505.17638"
MODEL = r"""Data $x$ in $\mathbb R^d$, noisy points $x_\Delta = \sqrt{1-\Delta}\,x + \sqrt\Delta\,\xi$ with $\xi \sim \mathcal N(0, I_d)$,
$0 < \Delta < 1$; $s_A(y) = \frac{1}{\sqrt p}A\varphi(y)$, $\varphi(y) = \tanh(Wy/\sqrt d)$, fixed rows $w_i$ of $W$ with
$|w_i| = \sqrt d$; all noise draws in every mean. Population: $x \sim \mathcal N(0, I_d)$; training: $x$ uniform on $n$ fixed points,
any."""

Numbers = dict[str, Any]
Array = np.ndarray


@cache
def _line(step: float, reach: float) -> tuple[Array, Array]:
    """Nodes and weights of the trapezoid rule for a standard normal variable.

    For tanh(m + r g), r <= 1, the error is below `exp(-pi^2/step)`, and what lies beyond the reach below `exp(-reach^2/2)`.
    """
    nodes = np.arange(-reach, reach + step / 2, step)
    weights = step * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return nodes, weights


@cache
def _space(dim: int, step: float, reach: float) -> tuple[Array, Array]:
    """The same for N(0, I) in `dim` dimensions: nodes (m, dim), weights (m,)."""
    nodes, weights = _line(step, reach)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*[nodes] * dim, indexing="ij")], -1)
    mass = np.ones(1)
    for _ in range(dim):
        mass = np.multiply.outer(mass, weights).ravel()
    return grid, mass


def _pair(m: float, k: float, overlap: float, variance: float) -> float:
    """`E tanh(m + sqrt(v) g) tanh(k + sqrt(v) h)` for standard normal g, h with the correlation `overlap`, on a plane grid."""
    g, weight = _space(2, 0.2, 8.4)
    second = overlap * g[:, 0] + math.sqrt(max(0.0, 1 - overlap**2)) * g[:, 1]
    return float(weight @ (np.tanh(m + math.sqrt(variance) * g[:, 0]) * np.tanh(k + math.sqrt(variance) * second)))


@cache
def _weights(p: int, d: int, seed: int) -> torch.Tensor:
    """Rows of norm `sqrt(d)`; the second is the first, the third its negative."""
    rows = np.random.default_rng(seed).standard_normal((p, d))
    rows[1], rows[2] = rows[0], -rows[0]
    return torch.from_numpy(rows * math.sqrt(d) / np.linalg.norm(rows, axis=1, keepdims=True))


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def _points(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed + 1).standard_normal((n, d)))


def _linear_only(weights: torch.Tensor, noise: float) -> features.Moments:
    """What remains of the population's moments if tanh is replaced by its linear part off the diagonal."""
    exact, slope = features.population_moments(weights, noise), float(features.tanh_coefficients()[1])
    second = slope**2 * weights @ weights.mT / weights.shape[1]
    second.diagonal().copy_(exact.second.diagonal())
    return exact._replace(second=second)


def _factorials(weights: torch.Tensor, noise: float) -> features.Moments:
    """Coefficients of Hermite polynomials that are not normalized, with a k! too many."""
    c, overlap = features.tanh_coefficients(), weights @ weights.mT / weights.shape[1]
    second = sum((float(c[k] ** 2) / math.factorial(k) * overlap**k for k in range(1, 30, 2)), torch.zeros_like(overlap))
    return features.population_moments(weights, noise)._replace(second=second)


# --- Moments --------------------------------------------------------------------------------------------------------------

claim(
    "clocks.population",
    title="The population's moments are power series in the overlaps of the weights",
    statement=r"""With $K = WW^\top/d$ and $c_k = \mathbb E\tanh(g)h_k(g)$, orthonormal
Hermite polynomials $h_k$ and $g \sim \mathcal N(0,1)$,

$$U^*_{ij} = \mathbb E\,\varphi_i\varphi_j = \sum_{k\ \mathrm{odd}} c_k^2 K_{ij}^k, \qquad
V^* = \mathbb E\,\varphi\xi^\top = \sqrt{\Delta/d}\;c_1 W .$$

Stopped before the order $k$, an entry of $U^*$ is off by at most $|K_{ij}|^k\sum_{j \ge k}c_j^2$.""",
    source="derived here (Mehler's formula, Stein's identity)",
    regime=MODEL,
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "clocks.population",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda m, *_: m._replace(second=m.second * (1 + 1e-9))),
        "linear part only": instead(_linear_only),
        "factorial too many": instead(_factorials),
        "D for sqrt(D)": returns(lambda m, weights, noise: m._replace(cross=m.cross * math.sqrt(noise))),
        "root of d forgotten": returns(lambda m, weights, noise: m._replace(cross=m.cross * math.sqrt(weights.shape[1]))),
    },
)
def population_by_plane_grids(predict: Any = features.population_moments, *, generator: torch.Generator) -> Numbers:
    """Every entry as an integral over the plane, in dimensions 2 to 5, for weights that are equal, opposite and neither."""
    worst, seed = 0.0, _seed(generator)
    g, weight = _space(2, 0.2, 8.4)
    for d, noise in ((2, 0.02), (3, 0.5), (5, 0.9)):
        w = _weights(5, d, seed)
        moments = predict(w, noise)
        rows = w.numpy()
        for i, j in itertools.combinations_with_replacement(range(5), 2):
            expected = _pair(0.0, 0.0, float(rows[i] @ rows[j]) / d, 1.0)
            # Grid and rounding 1e-12; the rest is what the package says of its own expansion.
            worst = max(worst, agree(f"U* {i} {j}, d = {d}", moments.second[i, j], expected, 1e-12 + moments.truncation))
        # xi enters tanh(w.x_D/sqrt d) by its component along w alone.
        along = float(weight @ (np.tanh(math.sqrt(1 - noise) * g[:, 0] + math.sqrt(noise) * g[:, 1]) * g[:, 1]))
        worst = max(worst, agree(f"V*, d = {d}", moments.cross, along * rows / math.sqrt(d), 1e-12))
    return {"worst error/allowance": worst}


def _averaged_first(weights: torch.Tensor, points: torch.Tensor, noise: float) -> features.Moments:
    """The features averaged over the noise before they are multiplied."""
    exact = features.train_moments(weights, points, noise)
    g, weight = _line(0.2, 8.4)
    means = math.sqrt((1 - noise) / points.shape[1]) * (weights @ points.mT).numpy()
    mean = torch.from_numpy(np.tanh(means[..., None] + math.sqrt(noise) * g) @ weight)
    second = mean @ mean.mT / len(points)
    second.diagonal().copy_(exact.second.diagonal())
    return exact._replace(second=second)


claim(
    "clocks.train",
    title="The training moments are known exactly too, for infinitely many noise draws",
    statement=r"""With $m_{i\nu} = \sqrt{1-\Delta}\,\langle w_i, x_\nu\rangle/\sqrt d$ and
$f_k(m) = \mathbb E\tanh(m + \sqrt\Delta\,g)\,h_k(g)$,

$$U_{ij} = \sum_{k \ge 0} K_{ij}^k\;\frac1n\sum_\nu f_k(m_{i\nu})f_k(m_{j\nu}), \qquad
V = \frac{1}{\sqrt d}\,\mathrm{diag}\Big(\frac1n\sum_\nu f_1(m_{i\nu})\Big)W .$$

The $k$-th term is at most $|K_{ij}|^k\sqrt{D^k_iD^k_j}$ with $D^k_i = \frac1n\sum_\nu f_k(m_{i\nu})^2$, so the rest of the series is at
most $|K_{ij}|^k$ times the geometric
mean of what the entries $ii$ and $jj$, known from $\mathbb E\tanh^2$, still lack.""",
    source="derived here (Mehler's formula around a mean that is not zero)",
    regime=MODEL,
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "clocks.train",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda m, *_: m._replace(second=m.second * (1 + 1e-9))),
        "averaged over the noise first": instead(_averaged_first),
        "population": instead(lambda weights, points, noise: features.population_moments(weights, noise)),
        "sum for mean": returns(lambda m, weights, points, noise: m._replace(second=len(points) * m.second)),
        "D for sqrt(D)": returns(lambda m, weights, points, noise: m._replace(cross=m.cross * math.sqrt(noise))),
        "data not contracted": instead(
            lambda weights, points, noise: features.train_moments(weights, points / math.sqrt(1 - noise), noise)
        ),
    },
)
def training_by_plane_grids(predict: Any = features.train_moments, *, generator: torch.Generator) -> Numbers:
    """Every entry as a mean over the data of integrals over the plane of the noise."""
    worst, seed = 0.0, _seed(generator)
    g, weight = _line(0.2, 8.4)
    for d, n, noise in ((2, 3, 0.02), (3, 1, 0.5), (5, 2, 0.95)):
        w, x = _weights(5, d, seed), _points(n, d, seed)
        moments = predict(w, x, noise)
        rows, means = w.numpy(), math.sqrt((1 - noise) / d) * (w @ x.mT).numpy()
        for i, j in itertools.combinations_with_replacement(range(5), 2):
            overlap = float(rows[i] @ rows[j]) / d
            expected = np.mean([_pair(means[i, v], means[j, v], overlap, noise) for v in range(n)])
            worst = max(worst, agree(f"U {i} {j}, d = {d}", moments.second[i, j], expected, 2e-12 + moments.truncation))
        along = (np.tanh(means[..., None] + math.sqrt(noise) * g) * g) @ weight
        worst = max(worst, agree(f"V, d = {d}", moments.cross, along.mean(1, keepdims=True) * rows / math.sqrt(d), 1e-12))
    return {"worst error/allowance": worst}


# --- Losses ---------------------------------------------------------------------------------------------------------------


def _residuals(a: Array, w: Array, clean: Array, xi: Array, noise: float) -> Array:
    """`|sqrt(D) s_A(x_D) + xi|^2/d` at each row."""
    p, d = w.shape
    score = np.tanh((math.sqrt(1 - noise) * clean + math.sqrt(noise) * xi) @ w.T / math.sqrt(d)) @ a.T / math.sqrt(p)
    return ((math.sqrt(noise) * score + xi) ** 2).sum(-1) / d


def _direct_train_loss(a: Array, w: Array, x: Array, noise: float) -> float:
    """The training loss as it is defined, by integration over the noise in the plane (d = 2) or on the line."""
    xi, weight = _space(x.shape[1], 0.2, 8.4)
    return float(np.mean([weight @ _residuals(a, w, point, xi, noise) for point in x]))


def _direct_test_loss(a: Array, w: Array, noise: float) -> float:
    """The same with x ~ N(0, I): by integration in four dimensions for d = 2, error below 1e-7 for residuals of order 1."""
    d = w.shape[1]
    grid, weight = _space(2 * d, 0.5 if d == 2 else 0.2, 6.5)
    return float(weight @ _residuals(a, w, grid[:, :d], grid[:, d:], noise))


def _direct_error(a: Array, w: Array) -> float:
    """`(1/d) E|s_A(y) + y|^2` over y ~ N(0, I)."""
    y, weight = _space(w.shape[1], 0.2, 8.4)
    score = np.tanh(y @ w.T / math.sqrt(w.shape[1])) @ a.T / math.sqrt(len(w))
    return float(weight @ ((score + y) ** 2).sum(-1)) / w.shape[1]


CASES = ((2, 5, 2, 0.1), (1, 3, 3, 0.4), (2, 3, 1, 0.8))
"""d, p, n, noise: small enough to integrate, and no two ratios alike."""

claim(
    "clocks.loss",
    title="Two moments are all the loss knows",
    statement=r"""$$L(A) = \frac1d\,\mathbb E\big|\sqrt\Delta\,s_A(x_\Delta) + \xi\big|^2
= 1 + \frac1d\Big[\frac\Delta p\operatorname{tr}AUA^\top + 2\sqrt{\Delta/p}\,\operatorname{tr}AV\Big],$$

$U = \mathbb E\,\varphi\varphi^\top$ and $V = \mathbb E\,\varphi\xi^\top$ those of the data for the training loss, those of the population
for the test loss.""",
    source=f"model and loss: {PAPER}; written out here",
    regime=MODEL,
    uses=("clocks.population", "clocks.train"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "clocks.loss",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda value, *_: value * (1 + 1e-6)),
        "half the cross term": instead(lambda a, m, noise: features.loss(a, m._replace(cross=m.cross / 2), noise)),
        "sign of the cross term": instead(lambda a, m, noise: features.loss(-a, m, noise)),
        "1/p forgotten": instead(lambda a, m, noise: features.loss(a * math.sqrt(a.shape[1]), m, noise)),
        "D for sqrt(D)": instead(lambda a, m, noise: features.loss(a * math.sqrt(noise), m, noise)),
    },
)
def loss_of_any_matrix(predict: Any = features.loss, *, generator: torch.Generator) -> Numbers:
    """Random A: the loss integrated as it is defined, over the noise for the training loss, over data and noise for the test loss."""
    worst, seed = 0.0, _seed(generator)
    for d, p, n, noise in CASES:
        w, x = _weights(p, d, seed), _points(n, d, seed)
        a = np.random.default_rng(seed + 2).standard_normal((d, p))
        train, population = features.train_moments(w, x, noise), features.population_moments(w, noise)
        got = predict(torch.from_numpy(a), train, noise)
        worst = max(worst, agree(f"training loss, d = {d}", got, _direct_train_loss(a, w.numpy(), x.numpy(), noise), 1e-10))
        got = predict(torch.from_numpy(a), population, noise)
        worst = max(worst, agree(f"test loss, d = {d}", got, _direct_test_loss(a, w.numpy(), noise), 2e-7))
    return {"worst error/allowance": worst}


claim(
    "clocks.denoising",
    title="Test loss and error of the score are the same clock",
    statement=r"""$$L_{\mathrm{test}}(A) = 1 - \Delta + \Delta\,E(A), \qquad
E(A) = \tfrac1d\,\mathbb E\big|s_A(y) + y\big|^2
= 1 + \frac1d\Big[\frac1p\operatorname{tr}AU^*A^\top + \frac{2c_1}{\sqrt{pd}}\operatorname{tr}AW\Big],$$

$y \sim \mathcal N(0, I_d)$, whose score is $-y$. The true score has the loss $1 - \Delta$, the least there is.""",
    source="classical (denoising score matching); the constant derived here",
    regime=MODEL,
    uses=("clocks.loss",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "clocks.denoising",
    by="quadrature",
    mutants={
        "off by 1e-5": returns(lambda value, *_: value * (1 + 1e-5)),
        "score is +y": instead(lambda a, w: features.score_error(-a, w)),
        "d forgotten": returns(lambda value, a, w: value * w.shape[1] ** 2),
        "distance, not error": instead(lambda a, w: features.score_error(a, w) - 1),
    },
)
def error_from_the_test_loss(predict: Any = features.score_error, *, generator: torch.Generator) -> Numbers:
    """Random A: E from the test loss, integrated as it is defined over data and noise, and from its own definition over y."""
    worst, seed = 0.0, _seed(generator)
    for d, p, _, noise in CASES:
        w, a = _weights(p, d, seed), np.random.default_rng(seed + 2).standard_normal((d, p))
        got = predict(torch.from_numpy(a), w)
        worst = max(worst, agree(f"E, d = {d}", got, _direct_error(a, w.numpy()), 1e-10))
        expected = (_direct_test_loss(a, w.numpy(), noise) - 1 + noise) / noise
        worst = max(worst, agree(f"E from the loss, d = {d}", got, expected, 2e-7 / noise))
    return {"worst error/allowance": worst}


# --- Gradient flow --------------------------------------------------------------------------------------------------------


@cache
def _design(d: int, p: int, n: int, noise: float, seed: int) -> tuple[Array, Array, Array]:
    """Weights (m,), features (m, p) and noise (m, d) at all noise nodes of all data."""
    w, x = _weights(p, d, seed).numpy(), _points(n, d, seed).numpy()
    xi, weight = _space(d, 0.4, 7.6)
    noisy = math.sqrt(1 - noise) * x[:, None] + math.sqrt(noise) * xi
    phi = np.tanh(noisy.reshape(-1, d) @ w.T / math.sqrt(d))
    return np.tile(weight / n, n), phi, np.tile(xi, (n, 1))


@cache
def _integrated(d: int, p: int, n: int, noise: float, seed: int) -> tuple[Array, Array]:
    """Training times, and A at each of them, by a solver for stiff equations applied to the loss at the nodes."""
    weight, phi, xi = _design(d, p, n, noise, seed)
    c = math.sqrt(noise / p)

    def velocity(tau: float, flat: Array) -> Array:
        a = flat.reshape(d, p)
        # -d^2 times the gradient of (1/d) sum_m weight_m |c A phi_m + xi_m|^2.
        return (-2 * d * c * ((c * phi @ a.T + xi) * weight[:, None]).T @ phi).ravel()

    times = np.array([0.3, 3.0, 30.0, 300.0])
    solution = integrate.solve_ivp(velocity, (0, 300.0), np.zeros(d * p), method="Radau", t_eval=times, rtol=1e-8, atol=1e-10)
    return times, solution.y.T.reshape(-1, d, p)


claim(
    "clocks.flow",
    title="Every eigenvector of U is learned at its own rate",
    statement=r"""Gradient flow $\dot A = -d^2\nabla L_{\mathrm{train}}(A)$ from $A = 0$ has, with $U = Q\Lambda Q^\top$, the closed form

$$\sqrt{\Delta/p}\;A(\tau)^\top = -Q\,F(\tau)\,Q^\top V, \qquad F = \operatorname{diag}\frac{1 - e^{-r_j\tau}}{\lambda_j}, \qquad
r_j = \frac{2\Delta\lambda_j}{\psi_p}, \quad \psi_p = \frac pd .$$""",
    source=f"time scales $\\psi_p/2\\Delta\\lambda$: {PAPER}; written out here",
    regime=MODEL,
    uses=("clocks.loss",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "clocks.flow",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda a, *_: a * (1 + 1e-6)),
        "sign": returns(lambda a, *_: -a),
        "rate without 2": instead(lambda flow, tau: flow.readout(tau / 2)),
        "rate without psi_p": instead(lambda flow, tau: flow.readout(tau * flow.p / flow.d)),
        "rate without D": instead(lambda flow, tau: flow.readout(tau / flow.noise)),
        "sum over data for mean": instead(lambda flow, tau: flow.readout(tau * flow.n)),
        "d for d squared": instead(lambda flow, tau: flow.readout(tau / flow.d)),
    },
)
def flow_by_a_solver(predict: Any = GradientFlow.readout, *, generator: torch.Generator) -> Numbers:
    """A(tau) against a numerical solution of the differential equation whose loss is a sum over noise nodes."""
    worst, seed = 0.0, _seed(generator)
    for d, p, n, noise in CASES:
        flow = GradientFlow(_weights(p, d, seed), _points(n, d, seed), noise)
        for tau, expected in zip(*_integrated(d, p, n, noise, seed), strict=True):
            # The solver's tolerance is 1e-8 for a step, and the flow forgets its errors.
            allowed = 1e-7 * np.abs(expected).max()
            worst = max(worst, agree(f"A at {tau}, d = {d}, p = {p}", predict(flow, tau), expected, allowed))
    return {"worst error/allowance": worst}


@check(
    "clocks.flow",
    by="quadrature",
    mutants={
        "off by 1e-5": returns(lambda value, *_: value * (1 + 1e-5)),
        "test loss": instead(GradientFlow.test_loss),
        "quadratic term halved": instead(lambda flow, tau: (flow.train_loss(tau) + 1) / 2),
    },
)
def training_loss_on_the_way(predict: Any = GradientFlow.train_loss, *, generator: torch.Generator) -> Numbers:
    """The training loss at the solver's A, summed over the noise nodes."""
    worst, seed = 0.0, _seed(generator)
    for d, p, n, noise in CASES:
        flow = GradientFlow(_weights(p, d, seed), _points(n, d, seed), noise)
        weight, phi, xi = _design(d, p, n, noise, seed)
        for tau, a in zip(*_integrated(d, p, n, noise, seed), strict=True):
            expected = float(weight @ ((math.sqrt(noise / p) * phi @ a.T + xi) ** 2).sum(-1)) / d
            worst = max(worst, agree(f"training loss at {tau}, d = {d}", predict(flow, tau), expected, 1e-7))
    return {"worst error/allowance": worst}


@check(
    "clocks.flow",
    by="quadrature",
    lane="full",
    mutants={
        "off by 1e-6": returns(lambda value, *_: value * (1 + 1e-6)),
        "training loss": instead(GradientFlow.train_loss),
        "score error": instead(GradientFlow.score_error),
    },
)
def loss_of_fresh_data_on_the_way(predict: Any = GradientFlow.test_loss, *, generator: torch.Generator) -> Numbers:
    """The test loss at the solver's A, integrated over data and noise."""
    worst, seed = 0.0, _seed(generator)
    for d, p, n, noise in CASES:
        flow = GradientFlow(_weights(p, d, seed), _points(n, d, seed), noise)
        for tau, a in list(zip(*_integrated(d, p, n, noise, seed), strict=True))[1::2]:
            expected = _direct_test_loss(a, _weights(p, d, seed).numpy(), noise)
            worst = max(worst, agree(f"test loss at {tau}, d = {d}", predict(flow, tau), expected, 2e-7 * max(1.0, expected)))
    return {"worst error/allowance": worst}


@check(
    "clocks.flow",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda value, *_: value * (1 + 1e-6)),
        "test loss": instead(GradientFlow.test_loss),
        "error of -s": instead(lambda flow, tau: 4 - flow.score_error(tau)),
    },
)
def score_error_on_the_way(predict: Any = GradientFlow.score_error, *, generator: torch.Generator) -> Numbers:
    """The error of the score at the solver's A, integrated over y."""
    worst, seed = 0.0, _seed(generator)
    for d, p, n, noise in CASES:
        flow = GradientFlow(_weights(p, d, seed), _points(n, d, seed), noise)
        for tau, a in zip(*_integrated(d, p, n, noise, seed), strict=True):
            expected = _direct_error(a, _weights(p, d, seed).numpy())
            worst = max(worst, agree(f"E at {tau}, d = {d}", predict(flow, tau), expected, 2e-7 * max(1.0, expected)))
    return {"worst error/allowance": worst}


claim(
    "clocks.limit",
    title="Trained for ever, the model is the least-squares fit of the noise",
    statement=r"""As $\tau \to \infty$, $\sqrt{\Delta/p}\,A(\tau)^\top \to -U^{-1}V$: the minimizer of the training loss over all $A$,
the linear regression of $-\xi$ on $\sqrt{\Delta/p}\,\varphi(x_\Delta)$ over data and noise. (If $U$ is singular: the minimizer of
least norm.)""",
    source="classical",
    regime=MODEL,
    uses=("clocks.flow",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "clocks.limit",
    by="quadrature",
    mutants={
        "off by 1e-4": returns(lambda a, *_: a * (1 + 1e-4)),
        "stopped": instead(lambda flow, tau: flow.readout(300.0)),
        "noise for minus noise": returns(lambda a, *_: -a),
        "D for sqrt(D)": returns(lambda a, flow, tau: a / math.sqrt(flow.noise)),
    },
)
def limit_by_least_squares(predict: Any = GradientFlow.readout, *, generator: torch.Generator) -> Numbers:
    """LAPACK's least squares on the weighted rows of features at the noise nodes; two of the weights are equal, one opposite."""
    worst, seed = 0.0, _seed(generator)
    for d, p, n, noise in CASES:
        flow = GradientFlow(_weights(p, d, seed), _points(n, d, seed), noise)
        weight, phi, xi = _design(d, p, n, noise, seed)
        root = np.sqrt(weight)[:, None]
        expected = np.linalg.lstsq(math.sqrt(noise / p) * root * phi, -root * xi, rcond=1e-6)[0].T
        # The nodes' error of 1e-10 in U and V, over the least eigenvalue that is not zero.
        least = float(flow.eigenvalues[flow.eigenvalues > 1e-10].min())
        worst = max(worst, agree(f"limit of A, d = {d}", predict(flow, math.inf), expected, 1e-9 / least * np.abs(expected).max()))
    return {"worst error/allowance": worst}


# --- Constants ------------------------------------------------------------------------------------------------------------

claim(
    "clocks.constants",
    title="The four constants of the Gaussian equivalent in closed form",
    statement=r"""With $u, v$ independent standard normal and $\sigma = \tanh(\sqrt{1-\Delta}\,u + \sqrt\Delta\,v)$, the constants

$$a = \frac{\mathbb E[\sigma u]}{\sqrt{1-\Delta}}, \quad b = \mathbb E[v\sigma], \quad
v_\Delta^2 = \mathbb E_u(\mathbb E_v\sigma)^2 - a^2(1-\Delta), \quad s_\Delta^2 = \mathbb E\sigma^2 - a^2(1-\Delta) - v_\Delta^2 - b^2$$

are $a = c_1$, whatever $\Delta$; $b^2 = \Delta c_1^2$; $v_\Delta^2 = \sum_{k\ge2}c_k^2(1-\Delta)^k$;
$s_\Delta^2 = \sum_{k\ge2}c_k^2\big(1 - (1-\Delta)^k\big)$.
So $s_\Delta^2 \simeq \Delta\,\sum_{k \ge 2} k c_k^2$ for small $\Delta$, while $v_\Delta^2$ tends to $\sum_{k \ge 2} c_k^2$.""",
    source=f"definitions: {PAPER} (authors' code); closed forms derived here",
    regime=r"$0 < \Delta < 1$.",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "clocks.constants",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda k, *_: equivalent.Constants(*(value * (1 + 1e-9) for value in k))),
        "b for its square": returns(lambda k, *_: k._replace(b2=math.sqrt(k.b2))),
        "linear part left in v": returns(lambda k, noise: k._replace(v2=k.v2 + k.a**2 * (1 - noise))),
        "b left in s": returns(lambda k, *_: k._replace(s2=k.s2 + k.b2)),
        "a contracted": returns(lambda k, noise: k._replace(a=k.a * math.sqrt(1 - noise))),
        "D of the square root": instead(lambda noise: equivalent.constants(math.sqrt(noise))),
    },
)
def constants_by_their_definition(predict: Any = equivalent.constants, *, generator: torch.Generator) -> Numbers:
    """The definitions as integrals over the plane, for eight noise variances."""
    g, weight = _line(0.2, 8.4)
    worst = 0.0
    for noise in (1e-3, 0.01, 0.0198, 0.1, 0.3, 0.5, 0.8, 0.99):
        sigma = np.tanh(math.sqrt(1 - noise) * g[:, None] + math.sqrt(noise) * g)
        a = float(weight * g @ sigma @ weight) / math.sqrt(1 - noise)
        b = float(weight @ sigma @ (weight * g))
        v2 = float(weight @ (sigma @ weight) ** 2) - a**2 * (1 - noise)
        s2 = float(weight @ sigma**2 @ weight) - a**2 * (1 - noise) - v2 - b**2
        worst = max(worst, agree(f"constants at D = {noise}", predict(noise), [a, b**2, v2, s2], 2e-13))
    return {"worst error/allowance": worst, "at D = 0.0198": str([round(value, 6) for value in equivalent.constants(0.0198)])}
