"""The kernels: their covariances, and rules that integrate what they say they do."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special

from kss import kernels
from kss.kernels import FEWEST, LEVELS, REPLICATES, BallKernel, GaussianKernel

TIME = torch.tensor([0.25, 1.0, 3.0], dtype=torch.float64)
SHEAR = [[2.0, 0.6, -0.3], [0.6, 1.0, 0.1], [-0.3, 0.1, 0.5]]


def moment(rule, powers) -> float:
    """Of the monomial `prod u_k^powers_k` under the rule, all replicates together."""
    return float((rule.weights * (rule.nodes ** torch.tensor(powers)).prod(-1)).sum() / len(rule.nodes))


def gaussian_moment(powers) -> float:
    return math.prod(0.0 if p % 2 else float(special.factorial2(p - 1, exact=True)) if p else 1.0 for p in powers)


def ball_moment(powers) -> float:
    """By polar coordinates: sphere integrals are ratios of Gamma functions, and `E r^k = d/(d + k)`."""
    if any(p % 2 for p in powers):
        return 0.0
    dim, degree = len(powers), sum(powers)
    sphere = math.prod(math.gamma((p + 1) / 2) for p in powers) / math.gamma((degree + dim) / 2)
    return sphere * math.gamma(dim / 2) / math.gamma(0.5) ** dim * dim / (dim + degree)


# --- rules ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3, *range(4, 18), 24])
def test_ball_rules_are_exact_up_to_their_degree(n, dim):
    rule = BallKernel(1.0).grid(dim, n)
    assert float(rule.weights.sum()) == pytest.approx(1.0, abs=1e-14)
    assert (rule.weights > 0).all()
    assert (rule.nodes.norm(dim=-1) <= 1).all()
    degree = 2 * (n // 2) - 1
    for powers in itertools.product(range(degree + 1), repeat=dim):
        if sum(powers) <= degree:
            assert moment(rule, powers) == pytest.approx(ball_moment(powers), abs=1e-14), powers


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_gaussian_grids_converge_as_the_trapezoid_rule_does(dim):
    previous = math.inf
    for n in LEVELS[:6]:
        rule = GaussianKernel(1.0).grid(dim, n)
        assert rule.nodes.shape == (1, len(rule.weights), dim)
        assert float(rule.weights.sum()) == pytest.approx(1.0, abs=1e-14)
        for k in range(dim):
            unit = [int(j == k) for j in range(dim)]
            assert abs(moment(rule, unit)) < 1e-15
            # The variance is exact: linear and quadratic functions are averaged without error.
            assert moment(rule, [2 * u for u in unit]) == pytest.approx(1.0, abs=1e-14)
        errors = [abs(moment(rule, p) - gaussian_moment(p)) for p in itertools.product(range(0, 7, 2), repeat=dim) if sum(p) in (4, 6)]
        # Theorem: errors of size exp(-pi n/2), times what the powers are where the grid ends, until the cut at 7.5 takes over.
        reach = min(math.sqrt(math.pi * n), 7.5)
        allowed = 40 * reach**6 * (math.exp(-math.pi * n / 2) + math.exp(-(7.5**2) / 2))
        assert max(errors) < allowed
        assert max(errors) < previous / 4 or max(errors) < 3e-7
        previous = max(errors)
    # The mean of cos(u_1 + ... + u_d) is exp(-d/2).
    nodes, weights = GaussianKernel(1.0).grid(dim, 24).nodes[0], GaussianKernel(1.0).grid(dim, 24).weights
    assert float(weights @ nodes.sum(-1).cos()) == pytest.approx(math.exp(-dim / 2), abs=1e-10)


@pytest.mark.parametrize(
    ("kernel", "exact"), [(GaussianKernel(1.0), gaussian_moment), (BallKernel(1.0), ball_moment)], ids=["gaussian", "ball"]
)
def test_sobol_points_have_the_moments(kernel, exact):
    dim, pieces = 5, list(kernel.sobol(5, 2**14, 0))
    counts = [piece.nodes.shape[1] for piece in pieces]
    assert counts == [FEWEST, *(FEWEST << k for k in range(len(counts) - 1))]  # each as long as all before
    assert REPLICATES * sum(counts) == 2**14
    for piece in pieces:
        assert float(piece.weights.sum()) == pytest.approx(1.0, abs=1e-14)
        assert piece.nodes.mean(1).abs().max() < 1e-14
        for replicate in piece.nodes:  # each is a rule by itself
            assert float(replicate.square().sum(-1).mean()) == pytest.approx(dim * exact([2, 0, 0, 0, 0]), rel=1e-13)
    nodes = torch.cat([piece.nodes for piece in pieces], 1)
    covariance = nodes.mT @ nodes / nodes.shape[1]
    eye = torch.eye(dim, dtype=torch.float64) * exact([2, 0, 0, 0, 0])
    # Chance alone leaves 1/sqrt(2048) = 0.022 in each of the replicates; scrambled nets do far better, n^(-3/2) up to logarithms.
    assert (covariance - eye).abs().max() < 0.006
    assert (covariance.mean(0) - eye).abs().max() < 0.002
    for powers in ([4, 0, 0, 0, 0], [0, 2, 0, 2, 0], [2, 2, 2, 0, 0]):
        estimate = (nodes ** torch.tensor(powers)).prod(-1).mean()
        assert float(estimate) == pytest.approx(exact(powers), rel=0.02)
    assert len({tuple(replicate[0].tolist()) for replicate in pieces[0].nodes}) == REPLICATES
    other = next(iter(kernel.sobol(dim, 2**14, 1)))
    assert not torch.isclose(other.nodes[:, None], pieces[0].nodes[None]).all(-1).all(-1).any()  # other scramblings share no table
    assert torch.equal(next(iter(kernel.sobol(dim, 2**14, 0))).nodes, pieces[0].nodes)


def test_sobol_points_fall_off_at_the_rate_of_scrambled_nets():
    # The mean of cos(u_1 + u_2 + u_3/2 + ...) is known; its error in n points falls faster than the n^(-1/2) of chance.
    direction = torch.tensor([1.0, 1.0, 0.5, 0.3, 0.2], dtype=torch.float64)
    exact, parts, sizes, errors = math.exp(-float(direction @ direction) / 2), None, [], []
    for place, piece in enumerate(GaussianKernel(1.0).sobol(5, 2**16, 0)):
        means = (piece.nodes @ direction).cos().mean(1)
        parts = means if parts is None else (parts + means) / 2
        sizes.append(FEWEST << place)
        errors.append(float((parts - exact).square().mean().sqrt()))
    rate = float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])
    assert -1.8 < rate < -0.75


@pytest.mark.parametrize(("dim", "most"), [(1, 128), (2, 300), (3, 5000), (3, 100)])
def test_no_rule_is_larger_than_the_most(dim, most):
    for kernel in (GaussianKernel(1.0), BallKernel(1.0)):
        sizes = [rule.size for rule in kernel.grids(dim, most)]
        assert len(sizes) >= 2
        assert max(sizes[2:], default=0) <= most
        assert sizes == sorted(sizes)
        assert kernel.grid(dim, LEVELS[len(sizes)]).size > most or len(sizes) == 2


def test_large_tables_are_not_kept(monkeypatch):
    monkeypatch.setattr(kernels, "KEPT", 16 * 40)
    before = kernels._kept_uniform.cache_info()
    first = [piece.nodes for piece in GaussianKernel(1.0).sobol(41, 256, 9)]
    assert kernels._kept_uniform.cache_info() == before
    monkeypatch.undo()
    assert all(torch.equal(a, b.nodes) for a, b in zip(first, GaussianKernel(1.0).sobol(41, 256, 9), strict=True))


def test_a_rule_made_without_gradients_serves_where_they_are_asked_for():
    for cached in (kernels._gaussian_grid, kernels._ball_grid, kernels._kept_uniform):
        cached.cache_clear()
    for kernel in (GaussianKernel(1.0), BallKernel(1.0)):
        with torch.inference_mode():
            rules = [kernel.grid(2, 6), kernel.grid(1, 6)]
        for rule in rules:
            assert not rule.nodes.is_inference()
            assert not rule.weights.is_inference()
    with torch.inference_mode():
        assert not kernels._kept_uniform(4, 0, 16, 0, 0).is_inference()


def test_no_global_random_state_is_touched():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    kernels._kept_uniform.cache_clear()
    for kernel in (GaussianKernel(1.0), BallKernel(1.0)):
        list(kernel.sobol(6, 1024, 3))
        kernel.grid(2, 8)
    assert torch.equal(torch.random.get_rng_state(), before)


# --- bandwidths -----------------------------------------------------------------------------------------------------------


def second_moment(kernel, dim: int, t: torch.Tensor) -> torch.Tensor:
    """`E V V^T` at each noise variance, from the rule and `stretch`."""
    rule = kernel.grid(dim, 32)
    moved = kernel.stretch(rule.nodes[0], t)
    assert moved.shape == (len(t), len(rule.weights), dim)
    return torch.einsum("m,nmi,nmj->nij", rule.weights, moved, moved)


ROTATION, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
BANDWIDTHS = {
    "number": (0.3, lambda t: 0.3 * np.eye(3)),
    "zero": (0.0, lambda t: np.zeros((3, 3))),
    "matrix": (SHEAR, lambda t: np.array(SHEAR)),
    "zero matrix": (np.zeros((3, 3)), lambda t: np.zeros((3, 3))),
    "singular": (np.ones((3, 3)), lambda t: np.ones((3, 3))),
    "rank two": (ROTATION @ np.diag([2.0, 0.5, 0.0]) @ ROTATION.T, lambda t: ROTATION @ np.diag([2.0, 0.5, 0.0]) @ ROTATION.T),
    "function, number": (lambda t: 0.5, lambda t: 0.5 * np.eye(3)),
    "function, per row": (lambda t: t**2, lambda t: t**2 * np.eye(3)),
    "function, matrix": (lambda t: SHEAR, lambda t: np.array(SHEAR)),
    "function, matrices": (lambda t: t[:, None, None] * torch.tensor(SHEAR), lambda t: t * np.array(SHEAR)),
    "function, zero": (lambda t: 0 * t, lambda t: np.zeros((3, 3))),
    "integer": (2, lambda t: 2 * np.eye(3)),
    "float32": (torch.tensor(SHEAR), lambda t: np.array(SHEAR)),
}


@pytest.mark.parametrize("name", BANDWIDTHS)
def test_the_covariance_is_that_of_the_nodes(name):
    bandwidth, expected = BANDWIDTHS[name]
    kernel = GaussianKernel(bandwidth)
    exact = np.stack([expected(float(t)) for t in TIME])
    tolerance = 1e-6 if name == "float32" else 1e-12
    np.testing.assert_allclose(second_moment(kernel, 3, TIME).numpy(), exact, atol=tolerance)
    np.testing.assert_allclose(torch.stack([kernel.covariance(float(t), 3) for t in TIME]).numpy(), exact, atol=tolerance)
    np.testing.assert_allclose(kernel.trace(TIME, 3).numpy(), np.trace(exact, axis1=1, axis2=2), atol=tolerance)
    wider = kernel.scaled(2.0)
    assert isinstance(wider, GaussianKernel)
    np.testing.assert_allclose(second_moment(wider, 3, TIME).numpy(), 2 * exact, atol=2 * tolerance)
    np.testing.assert_allclose(wider.trace(TIME, 3).numpy(), 2 * np.trace(exact, axis1=1, axis2=2), atol=6 * tolerance)
    if name not in ("float32", "number"):
        assert kernel.trace(TIME, 3).isfinite().all()


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("radius", [0.0, 1.5, lambda t: 0.7, lambda t: t], ids=["0", "1.5", "function", "per row"])
def test_the_ball_has_the_covariance_it_states(radius, dim):
    kernel = BallKernel(radius)
    lengths = (radius(TIME) if callable(radius) else radius) * torch.ones(3, dtype=torch.float64)
    exact = lengths[:, None, None] ** 2 / (dim + 2) * torch.eye(dim, dtype=torch.float64)
    torch.testing.assert_close(second_moment(kernel, dim, TIME), exact, atol=1e-13, rtol=0)
    torch.testing.assert_close(torch.stack([kernel.covariance(float(t), dim) for t in TIME]), exact, atol=1e-14, rtol=0)
    torch.testing.assert_close(kernel.trace(TIME, dim), dim * exact[:, 0, 0], atol=1e-14, rtol=0)
    torch.testing.assert_close(second_moment(kernel.scaled(3.0), dim, TIME), 3 * exact, atol=1e-13, rtol=0)
    torch.testing.assert_close(kernel.scaled(3.0).trace(TIME, dim), 3 * dim * exact[:, 0, 0], atol=1e-13, rtol=0)


def test_in_many_dimensions_the_points_of_the_ball_are_uniform():
    *_, piece = BallKernel(1.0).sobol(12, 2**14, 0)
    nodes = piece.nodes.reshape(-1, 12)
    # P(|U| <= r) = r^12, within the bound of Dvoretzky, Kiefer, Wolfowitz and Massart for independent points (5e-9).
    level = (nodes.norm(dim=-1).sort().values ** 12 - (torch.arange(2**13) + 0.5) / 2**13).abs().max()
    assert float(level) < math.sqrt(math.log(2 / 5e-9) / (2 * 2**13))
    assert nodes.norm(dim=-1).max() < 1.005  # the shift to the exact mean may take one out a little


def test_a_derivative_with_respect_to_t_passes_through_the_bandwidth():
    def width(t):
        return GaussianKernel(lambda s: 3 * s).stretch(torch.ones(1, 2, dtype=torch.float64), t)

    _, slope = torch.func.jvp(width, (TIME,), (torch.ones_like(TIME),))
    torch.testing.assert_close(slope[:, 0, 0], math.sqrt(3) / 2 * TIME**-0.5)
    t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    width(t).sum().backward()  # a root at 0 has no slope: 0, not NaN
    assert t.grad.tolist() == [0.0]


# --- contract ---------------------------------------------------------------------------------------------------------------


def test_what_is_shown():
    assert repr(GaussianKernel(0.5)) == "GaussianKernel(0.5)"
    assert repr(GaussianKernel(np.eye(2))) == "GaussianKernel([[1.0, 0.0], [0.0, 1.0]])"
    assert repr(GaussianKernel(lambda t: t)) == "GaussianKernel(function of t)"
    assert repr(BallKernel(torch.tensor(2.0))) == "BallKernel(2.0)"
    assert repr(BallKernel(lambda t: t)) == "BallKernel(function of t)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianKernel(-1.0), r"^bandwidth = -1\.0: expected a variance >= 0"),
        (lambda: GaussianKernel(math.nan), r"^bandwidth = nan: expected finite numbers"),
        (lambda: GaussianKernel(math.inf), r"^bandwidth = inf: expected finite numbers"),
        (lambda: GaussianKernel([[1.0, 2.0], [2.0, 1.0]]), r"^bandwidth = .*expected a positive semidefinite matrix"),
        (lambda: GaussianKernel([[1.0, 0.5], [0.0, 1.0]]), r"^bandwidth = .*expected a symmetric matrix"),
        (lambda: GaussianKernel([[1.0, 0.0]]), r"^bandwidth = .*expected a symmetric matrix"),
        (lambda: GaussianKernel(torch.zeros(0, 0)), r"^bandwidth = .*\(0, 0\).*expected a symmetric matrix"),
        (lambda: GaussianKernel([1.0, 2.0]), r"^bandwidth = \[1\.0, 2\.0\]: expected a number, a covariance matrix, or a function of t"),
        (lambda: GaussianKernel(torch.ones(2, 1, 1)), r"^bandwidth = .*\(2, 1, 1\).*expected a number, a covariance matrix"),
        (lambda: GaussianKernel(np.eye(2)).covariance(1.0, 3), r"^bandwidth = .*\(2, 2\).*expected a number, a \(3, 3\) covariance"),
        (lambda: GaussianKernel(lambda t: -t).trace(TIME, 2), r"^bandwidth\(t\) = .*expected a variance >= 0"),
        (lambda: GaussianKernel(lambda t: t * math.nan).trace(TIME, 2), r"^bandwidth\(t\) = .*expected finite numbers"),
        (lambda: GaussianKernel(lambda t: t[:2]).trace(TIME, 2), r"^bandwidth = .*\(2,\).*expected a number"),
        (lambda: GaussianKernel(lambda t: t[:2]).scaled(2.0).trace(TIME, 2), r"^bandwidth = .*\(2,\).*expected a number"),
        (lambda: GaussianKernel(1.0).covariance(0.0, 2), r"^t = 0\.0: expected"),
        (lambda: GaussianKernel(1.0).scaled(0.0), r"^factor = 0\.0: expected"),
        (lambda: BallKernel(-1.0), r"^radius = -1\.0: expected a length >= 0"),
        (lambda: BallKernel([1.0, 2.0]), r"^radius = \[1\.0, 2\.0\]: expected a number, or a function of t"),
        (lambda: BallKernel(np.eye(2)), r"^radius = .*expected a length >= 0"),
        (lambda: BallKernel(math.nan), r"^radius = nan: expected finite numbers"),
        (lambda: BallKernel(lambda t: t[:2]).trace(TIME, 2), r"^radius = .*\(2,\).*expected a number, or a function of t"),
        (lambda: BallKernel(lambda t: -t).trace(TIME, 2), r"^radius\(t\) = .*expected a length >= 0"),
        (lambda: BallKernel(1.0).covariance(-1.0, 2), r"^t = -1\.0: expected"),
        (lambda: BallKernel(1.0).scaled(math.nan), r"^factor = nan: expected"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
