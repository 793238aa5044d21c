"""The mollified score against sums and integrals written from the definition, and its error estimate against the true error."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from kss.distributions import Circle, Empirical, Gaussian, GaussianMixture
from kss.kernels import BallKernel, GaussianKernel
from kss.scores import Mollified
from kss.testing.statistics import binomial_test

RNG = np.random.default_rng(0)
DATA = {
    1: {
        "one point": [[0.7]],
        "two points": [[-1.0], [1.0]],
        "duplicates": [[-1.0], [-1.0], [2.0]],
        "several": RNG.standard_normal((9, 1)),
        "unequal": [[0.0], [0.1], [5.0]],
    },
    2: {
        "one point": [[0.7, -0.2]],
        "two points": [[-1.0, 0.0], [1.0, 0.5]],
        "duplicates": [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]],
        "circle": np.stack((np.cos(np.arange(12) * math.pi / 6), np.sin(np.arange(12) * math.pi / 6)), -1),
    },
    3: {
        "one point": [[0.7, -0.2, 0.0]],
        "two points": [[-1.0, 0.0, 0.0], [1.0, 0.5, 0.0]],
        "several": RNG.standard_normal((6, 3)),
    },
}
PER_AXIS = {1: 20001, 2: 401, 3: 81}
REACH = {1: 10.0, 2: 9.0, 3: 7.0}
RELATIVE = {1: 1e-6, 2: 1e-6, 3: 1e-3}


def weighted(points: np.ndarray, y: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Score (m, d) and log-density (m,) of the empirical law, from the definition."""
    exponent = -((y[:, None] - points[None]) ** 2).sum(-1) / (2 * t)
    top = exponent.max(1, keepdims=True)
    weight = np.exp(exponent - top)
    total = weight.sum(1, keepdims=True)
    density = (top + np.log(total))[:, 0] - math.log(len(points)) - points.shape[1] / 2 * math.log(2 * math.pi * t)
    return (weight / total @ points - y) / t, density


def brute_force(points: np.ndarray, x: np.ndarray, t: float, h: float) -> tuple[np.ndarray, float]:
    """`E s(x + V)` and `E log p(x + V)` for V ~ N(0, h I): a sum over a fine grid."""
    d = points.shape[1]
    axis = np.linspace(-REACH[d], REACH[d], PER_AXIS[d])
    line = np.exp(-(axis**2) / 2)
    line /= line.sum()
    score, density = np.zeros(d), 0.0
    rest = np.array(list(itertools.product(axis, repeat=d - 1)))
    mass = np.exp(-(rest**2).sum(-1) / 2) * line.max() ** (d - 1)
    rest, mass = rest[mass > 1e-16], mass[mass > 1e-16]
    step = max(1, 40_000 // len(rest))
    for start in range(0, len(axis), step):
        first, weight = axis[start : start + step], line[start : start + step]
        u = np.concatenate((np.repeat(first, len(rest))[:, None], np.tile(rest, (len(first), 1))), 1)
        s, log_p = weighted(points, x + math.sqrt(h) * u, t)
        w = (weight[:, None] * mass).reshape(-1)
        score, density = score + w @ s, density + w @ log_p
    return score, density


def agree(points: np.ndarray, x: np.ndarray, t: float, h: float) -> None:
    d = points.shape[1]
    smoothed = Mollified(Empirical(points), GaussianKernel(h))
    found, error = smoothed.score_with_error(x, t)
    score, density = brute_force(points, x, t, h)
    off = np.linalg.norm(found.numpy() - score)
    assert off <= RELATIVE[d] * np.linalg.norm(score) + 1e-12 * math.sqrt(h) / t, (x, t, h)
    assert off <= float(error) + 1e-10 * np.linalg.norm(score) + 1e-12 * math.sqrt(h) / t, (x, t, h)
    value, error = smoothed.unnormalized_log_density_with_error(x, t)
    # The sum, cut at REACH, errs by 1e-9 or less of h d/2t.
    assert abs(float(value) - density) <= min(RELATIVE[d], float(error)) + 1e-9 * (1 + h * d / t)
    torch.testing.assert_close(smoothed.denoise(x, t), torch.from_numpy(x) + t * found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DATA[1])
@pytest.mark.parametrize("ratio", [0.03, 0.3, 3.0, 30.0])
def test_agrees_with_a_fine_sum_on_the_line(name, ratio):
    points = np.array(DATA[1][name])
    for t, place in ((1e-3, 0.35), (0.05, -2.0), (1.0, 0.35), (10.0, -2.0)):
        agree(points, np.array([place]), t, ratio * t)


@pytest.mark.parametrize("name", DATA[2])
@pytest.mark.parametrize(("t", "ratio"), [(0.02, 3.0), (0.1, 0.3), (0.3, 10.0), (1.0, 0.03)])
def test_agrees_with_a_fine_sum_in_the_plane(name, t, ratio):
    agree(np.array(DATA[2][name]), np.array([0.35, 0.9]), t, ratio * t)


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA[3])
@pytest.mark.parametrize(("t", "ratio"), [(0.1, 3.0), (1.0, 0.3)])
def test_agrees_with_a_fine_sum_in_space(name, t, ratio):
    agree(np.array(DATA[3][name]), np.array([0.35, 0.9, -0.4]), t, ratio * t)


def test_agrees_with_adaptive_quadrature():
    t, h, x = 0.2, 0.5, 0.4

    def integrand(v):
        return math.tanh((x + v) / t) * math.exp(-(v**2) / (2 * h)) / math.sqrt(2 * math.pi * h)

    mean, _ = integrate.quad(integrand, -8, 8, points=[-x], epsabs=1e-13, limit=400)
    found = Mollified(Empirical([[-1.0], [1.0]]), GaussianKernel(h)).score([x], t)
    assert float(found) == pytest.approx((mean - x) / t, rel=1e-7)
    radius = 0.9
    mean, _ = integrate.quad(lambda v: math.tanh((x + v) / t) / (2 * radius), -radius, radius, points=[-x], epsabs=1e-13)
    found = Mollified(Empirical([[-1.0], [1.0]]), BallKernel(radius)).score([x], t)
    assert float(found) == pytest.approx((mean - x) / t, rel=1e-7)


# --- exact answers -----------------------------------------------------------------------------------------------------------


NODES = np.linspace(-12.0, 12.0, 20001)
MASS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()


def exact_pair(x, center, half, t, width, v=0.0, nodes=NODES, mass=MASS):
    """`K * s` for `(N(c + a, v I) + N(c - a, v I))/2`: its denoiser is linear plus `a tanh(<y - c, a>/(t + v)) t/(t + v)`.

    `width` times a node is `<V, a>`, which is all of V that enters but for its mean.
    """
    mean = mass @ np.tanh(((x - center) @ half + width * nodes) / (t + v))
    return ((center - x) + half * mean) / (t + v)


def random_pair(rng, d, v):
    half = rng.standard_normal(d) / math.sqrt(d)
    center = rng.standard_normal(d)
    points = np.stack((center + half, center - half))
    return center, half, Empirical(points) if v == 0 else GaussianMixture(points, v * np.eye(d))


def exact_cases(rng, d, count):
    """(error, estimate, size of the answer): two points or two Gaussian bumps, several kernels, scramblings, scales."""
    for case in range(count):
        v = (0.0, 0.0, 0.7)[case % 3]
        center, half, law = random_pair(rng, d, v)
        t = 10 ** rng.uniform(-2, 1)
        h = t * 10 ** rng.uniform(-1.5, 1.5)
        x = center + half + math.sqrt(t + v) * rng.standard_normal(d)
        if case % 2:
            kernel, width = GaussianKernel(h), math.sqrt(h) * np.linalg.norm(half)
            exact = exact_pair(x, center, half, t, width, v)
        else:
            root = math.sqrt(h / d) * rng.standard_normal((d, d))
            kernel, width = GaussianKernel(root @ root.T), np.linalg.norm(half @ root)
            exact = exact_pair(x, center, half, t, width, v)
        found, error = Mollified(law, kernel, scrambling=case).score_with_error(x, t)
        yield np.linalg.norm(found.numpy() - exact), float(error), np.linalg.norm(exact)


@pytest.mark.parametrize("d", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), pytest.param(64, marks=pytest.mark.slow)])
def test_the_estimate_covers_the_true_error_where_that_is_known(d):
    cases = list(exact_cases(np.random.default_rng(d), d, 40 if d > 3 else 30))
    missed = sum(not bool(off <= error + 1e-12 * size) for off, error, size in cases)
    # Were 5 % of the estimates too small, 11 or more of 40 (10 of 30) would be with probability 1e-5 only.
    assert not binomial_test(missed, len(cases), 0.05, alpha=1e-5).rejected
    # And they are not large for safety: what was asked for, 1e-7 ... 3e-2, is reached, and mostly nearly used up at most.
    asked = {1: 1e-7, 2: 1e-7, 3: 1e-4}.get(d, 3e-2)
    assert np.median([error / size for _, error, size in cases]) <= asked * 1.001
    assert np.quantile([off / size for off, _, size in cases], 0.9) <= asked


def far_more_nodes(law, kernel, x, t, scrambling):
    """The same average with many times the nodes, plainly summed in scramblings that are not those of the package: (mean, its error)."""
    d, n, parts = len(x), 2**13, []
    root = np.linalg.cholesky(kernel)
    for r in range(8):
        engine = torch.quasirandom.SobolEngine(d, scramble=True, seed=10_000 + 8 * scrambling + r)
        u = special.ndtri(engine.draw(n, dtype=torch.float64).numpy().clip(1e-10, 1 - 1e-10))
        v = np.concatenate((u, -u)) @ root.T  # with its mirror image the mean is 0
        parts.append(weighted(law, x + v, t)[0].mean(0))
    parts = np.array(parts)
    return parts.mean(0), 5 * np.linalg.norm(parts.std(0, ddof=1)) / math.sqrt(len(parts))


@pytest.mark.slow
def test_the_estimate_covers_the_true_error_for_other_data_in_other_scramblings():
    rng, missed, count = np.random.default_rng(5), 0, 24
    for case in range(count):
        d, n = ((4, 6), (6, 8), (12, 5))[case % 3]
        points = rng.standard_normal((n, d))
        t = 10 ** rng.uniform(-1, 1)
        kernel = t * 10 ** rng.uniform(-1.5, 1.0) * np.eye(d)
        x = points[0] + math.sqrt(t) * rng.standard_normal(d)
        found, error = Mollified(Empirical(points), GaussianKernel(kernel), scrambling=case).score_with_error(x, t)
        reference, slack = far_more_nodes(points, kernel, x, t, case)
        missed += bool(np.linalg.norm(found.numpy() - reference) > float(error) + slack)
    # 9 or more of 24 with probability 1e-5 at 5 %.
    assert not binomial_test(missed, count, 0.05, alpha=1e-5).rejected


def test_a_ball_in_many_dimensions_against_its_projection():
    # The density of one coordinate of a uniform point of the ball is proportional to (1 - z^2)^((d - 1)/2).
    d, rng, missed = 8, np.random.default_rng(3), 0
    z = np.linspace(-1, 1, 20001)
    mass = (1 - z**2) ** ((d - 1) / 2) / ((1 - z**2) ** ((d - 1) / 2)).sum()
    for case in range(20):
        center, half, law = random_pair(rng, d, 0.0)
        t, radius = 0.3, 2.0
        x = center + math.sqrt(t) * rng.standard_normal(d)
        exact = exact_pair(x, center, half, t, radius * np.linalg.norm(half), 0.0, z, mass)
        found, error = Mollified(law, BallKernel(radius), scrambling=case).score_with_error(x, t)
        missed += bool(np.linalg.norm(found.numpy() - exact) > float(error))
    assert not binomial_test(missed, 20, 0.05, alpha=1e-5).rejected


@pytest.mark.parametrize("d", [1, 2, 3, 5, 32])
@pytest.mark.parametrize("t", [1e-6, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("kernel", [GaussianKernel(0.8), BallKernel(1.5), GaussianKernel(lambda t: 0.1 + t)], ids=str)
def test_a_gaussian_law_is_not_changed(d, t, kernel):
    root = np.random.default_rng(d).standard_normal((d, d)) / math.sqrt(d)
    law, x = Gaussian(np.ones(d), root @ root.T + 0.1 * np.eye(d)), np.linspace(-1, 2, 2 * d).reshape(2, d)
    smoothed, expected = Mollified(law, kernel), law.score(x, t)
    found, error = smoothed.score_with_error(x, t)
    off = (found - expected).norm(dim=-1)
    # Rules average linear functions exactly: what is left is the rounding of the denoiser, over t.
    assert (off <= 1e-13 * expected.norm(dim=-1) + 1e-14 * d / t).all()
    assert (off <= error).all()
    if t >= 1e-2:
        # The quadratic form loses -tr(S (C + t I)^-1)/2, a multiple of the trace only for isotropic laws.
        smoothing = float(kernel.covariance(t, d)[0, 0])
        bend = smoothing * np.trace(np.linalg.inv(root @ root.T + (0.1 + t) * np.eye(d))) / 2
        value, error = smoothed.unnormalized_log_density_with_error(x, t)
        assert ((value - (law.log_density(x, t) - bend)).abs() <= error).all()


@pytest.mark.parametrize("d", [1, 3, 8])
@pytest.mark.parametrize("t", [1e-12, 1.0, 1e12])
def test_one_point_pulls_as_if_there_were_no_kernel(d, t):
    point, x = np.full((1, d), 0.5), np.linspace(-1, 1, d)
    smoothed = Mollified(Empirical(point), GaussianKernel(0.3))
    torch.testing.assert_close(smoothed.score(x, t), torch.from_numpy((point[0] - x) / t), rtol=1e-13, atol=1e-15 / t)
    density = -((point - x) ** 2).sum() / (2 * t) - 0.3 * d / (2 * t) - d / 2 * math.log(2 * math.pi * t)
    assert float(smoothed.unnormalized_log_density(x, t)) == pytest.approx(density, rel=1e-13)


def test_no_bandwidth_is_no_smoothing():
    law = Circle()
    x = np.array([[0.3, 0.4], [1.5, -0.2]])
    for kernel in (GaussianKernel(0.0), BallKernel(0.0), GaussianKernel(np.zeros((2, 2))), GaussianKernel(lambda t: 0 * t)):
        torch.testing.assert_close(Mollified(law, kernel).score(x, 0.2), law.score(x, 0.2), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(Mollified(law, kernel).unnormalized_log_density(x, 0.2), law.log_density(x, 0.2), rtol=1e-13, atol=1e-13)


def test_smoothing_along_a_line_only():
    # A singular covariance: the average over the first coordinate alone.
    law, t = Empirical([[-1.0, 0.0], [1.0, 0.0]]), 0.3
    found = Mollified(law, GaussianKernel([[0.7, 0.0], [0.0, 0.0]])).score([0.2, 0.5], t)
    exact = exact_pair(np.array([0.2, 0.5]), np.zeros(2), np.array([1.0, 0.0]), t, math.sqrt(0.7))
    torch.testing.assert_close(found, torch.from_numpy(exact), rtol=1e-7, atol=1e-7)


# --- any score as base ------------------------------------------------------------------------------------------------------


PAIR = Empirical([[-1.0, 0.2], [1.0, 0.0]])
PLACES = torch.tensor([[0.3, 0.4], [1.5, -0.2], [0.0, 3.0]], dtype=torch.float64)


class Counting:
    """A score that knows only one float t, and counts what it is asked."""

    def __init__(self, law) -> None:
        self.law, self.rows, self.calls = law, 0, []

    def __call__(self, x, t):
        assert isinstance(t, float)
        assert x.ndim == 2
        self.rows += len(x)
        self.calls.append(len(x))
        return self.law.score(x, t)


def test_a_function_that_knows_only_a_float_is_a_base():
    base = Counting(PAIR)
    expected = Mollified(PAIR, GaussianKernel(0.2)).score(PLACES, 0.3)
    torch.testing.assert_close(Mollified(base, GaussianKernel(0.2)).score(PLACES, 0.3), expected)
    torch.testing.assert_close(Mollified(base, GaussianKernel(0.2)).score(PLACES[0], torch.tensor(0.3, dtype=torch.float64)), expected[0])
    assert base.rows > 0
    torch.testing.assert_close(
        Mollified(PAIR.score, GaussianKernel(0.2)).score(PLACES, torch.full((3,), 0.3)), expected, rtol=1e-6, atol=1e-6
    )


def test_a_module_in_single_precision_is_asked_in_single_precision():
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(-0.5))

        def forward(self, x, t):
            assert x.dtype == torch.float32
            return self.weight * x / (1 + torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1))

    network, x = Network(), torch.tensor([[1.0, -2.0]])
    for t in (0.5, torch.tensor([0.5])):
        found = Mollified(network, GaussianKernel(0.4)).score(x, t)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, -0.5 * x / 1.5)
    found.sum().backward()  # and gradients reach its weights
    assert float(network.weight.grad) == pytest.approx(-1.0 / 1.5, rel=1e-5)
    narrow = Mollified(Empirical(torch.tensor([[0.5, 1.0]])), GaussianKernel(0.4))
    for value in (narrow.score(x, 0.5), narrow.denoise(x, 0.5), *narrow.score_with_error(x, 0.5), narrow.unnormalized_log_density(x, 0.5)):
        assert value.dtype == torch.float32
    assert narrow.score(x.double(), 0.5).dtype == narrow.score(x, torch.tensor([0.5], dtype=torch.float64)).dtype == torch.float64
    assert narrow.score(np.ones((1, 2)), 0.5).dtype == narrow.score([[1, 2]], 1).dtype == torch.float64


@pytest.mark.parametrize("shape", [(), (2,), (3, 2), (2, 3, 2), (0, 2)])
@pytest.mark.parametrize("base", [PAIR, PAIR.score], ids=["law", "function"])
def test_shapes_follow_x(shape, base):
    x = torch.linspace(-1, 2, max(1, math.prod(shape)), dtype=torch.float64)[: math.prod(shape)].reshape(shape) if shape else torch.zeros(2)
    shape, smoothed = tuple(x.shape), Mollified(base, GaussianKernel(0.2))
    value, error = smoothed.score_with_error(x, 0.4)
    assert value.shape == smoothed.denoise(x, 0.4).shape == shape
    assert error.shape == shape[:-1]
    if base is PAIR:
        assert smoothed.unnormalized_log_density(x, 0.4).shape == shape[:-1]
    wide = Mollified(lambda y, t: -y, GaussianKernel(0.2)).score(torch.zeros(*shape[:-1], 5), 0.4)
    assert wide.shape == (*shape[:-1], 5)


def test_each_row_has_its_own_noise_and_bandwidth():
    times = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    for d in (2, 5):
        law = Empirical(np.random.default_rng(d).standard_normal((4, d)))
        x = torch.linspace(-1, 1, 3 * d, dtype=torch.float64).reshape(3, d)
        for bandwidth in (0.3, lambda t: 2 * t, lambda t, d=d: t[:, None, None] * torch.eye(d)):
            smoothed = Mollified(law, GaussianKernel(bandwidth), most_nodes=2**10)
            rows = torch.stack([smoothed.score(x[k], float(times[k])) for k in range(3)])
            torch.testing.assert_close(smoothed.score(x, times), rows, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(
                Mollified(law.score, GaussianKernel(bandwidth), most_nodes=2**10).score(x, times), rows, rtol=1e-9, atol=1e-9
            )
            spread = smoothed.score(x[0], times)  # one place, many noises
            torch.testing.assert_close(spread[0], rows[0], rtol=1e-12, atol=1e-12)
            logs = torch.stack([smoothed.unnormalized_log_density(x[k], float(times[k])) for k in range(3)])
            torch.testing.assert_close(smoothed.unnormalized_log_density(x, times), logs, rtol=1e-12, atol=1e-12)


# --- derivatives ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 5])
def test_derivatives(d):
    law = Empirical(np.random.default_rng(d).standard_normal((4, d)))
    smoothed = Mollified(law, GaussianKernel(lambda t: 0.2 + t), accuracy=1e-2 if d > 3 else None, most_nodes=2**10)
    x, t, step = torch.linspace(-1, 0.5, d, dtype=torch.float64), 0.4, 1e-5
    point = x.clone().requires_grad_()
    value = smoothed.score(point, t)
    jacobian = torch.stack([torch.autograd.grad(value[k], point, retain_graph=True)[0] for k in range(d)])
    moved = [(smoothed.score(x + step * e, t) - smoothed.score(x - step * e, t)) / (2 * step) for e in torch.eye(d, dtype=torch.float64)]
    torch.testing.assert_close(jacobian, torch.stack(moved, 1), rtol=1e-6, atol=1e-6)
    # The log-density's slope is the score, to the accuracy of the rules; with Sobol points those stop at different sizes.
    (slope,) = torch.autograd.grad(smoothed.unnormalized_log_density(point, t), point)
    found, error = smoothed.score_with_error(x, t)
    assert float((slope - found).norm()) <= (20 * float(error) if d > 3 else 1e-6)
    values = [smoothed.unnormalized_log_density(x + s * step * e, t) for e in torch.eye(d, dtype=torch.float64) for s in (1, -1)]
    by_steps = torch.stack([(up - down) / (2 * step) for up, down in zip(values[::2], values[1::2], strict=True)])
    torch.testing.assert_close(slope, by_steps, rtol=1e-5, atol=1e-5)
    time = torch.tensor([t], dtype=torch.float64)
    for function in (smoothed.score, smoothed.unnormalized_log_density):
        _, rate = torch.func.jvp(lambda u, f=function: f(x[None], u), (time,), (torch.ones_like(time),))
        by_steps = (function(x[None], time + step) - function(x[None], time - step)) / (2 * step)
        torch.testing.assert_close(rate, by_steps, rtol=1e-5, atol=1e-5)


def test_a_score_first_asked_without_gradients_has_them_later():
    smoothed = Mollified(PAIR, GaussianKernel(0.217))
    with torch.inference_mode():
        smoothed.score([0.3, 0.4], 0.3)
    x = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)
    smoothed.score(x, 0.3).sum().backward()
    assert x.grad.isfinite().all()


# --- the base's own way ---------------------------------------------------------------------------------------------------------


class Plain(Empirical):
    """Asked at every node."""

    mollified_displacement = None


class Watched(Empirical):
    """Keeps what its own way was asked and gave: (points, served)."""

    def __init__(self, points) -> None:
        super().__init__(points)
        self.asked = []

    def mollified_displacement(self, x, t, nodes, weights):
        answer = super().mollified_displacement(x, t, nodes, weights)
        served = 0 if answer is None else int((answer.error <= 1e-10 * answer.displacement[0].mean(0).norm(dim=-1)).sum())
        self.asked.append((len(x), served))
        return answer

    def share(self) -> float:
        return sum(served for _, served in self.asked) / max(sum(count for count, _ in self.asked), 1)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("kind", ["isotropic", "matrix", "ball", "of t"])
def test_the_bases_own_way_gives_the_same(d, kind):
    rng = np.random.default_rng(d)
    points = rng.standard_normal((30, d))
    root = rng.standard_normal((d, d)) / math.sqrt(d)
    bandwidth = {"isotropic": 0.4, "matrix": root @ root.T, "of t": lambda t: 0.5 * t}.get(kind)
    kernel = BallKernel(1.5) if kind == "ball" else GaussianKernel(bandwidth)
    x = rng.standard_normal((12, d)) * 1.5
    times = np.repeat([0.3, 1.0, 4.0], 4)
    for t in (0.5, times):
        watched = Watched(points)
        found, error = Mollified(watched, kernel, most_nodes=2**10).score_with_error(x, t)
        expected, its_error = Mollified(Plain(points), kernel, most_nodes=2**10).score_with_error(x, t)
        assert watched.share() >= 0.9  # but where the mean is 1e-3 of what it is a mean of
        assert all(count <= (12 if isinstance(t, float) else 4) for count, _ in watched.asked)
        # Exponents are 1e2 at most, and their errors 1e-14 beside sums that add up thirty points.
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(error, its_error, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_where_the_bases_own_way_fails_every_node_is_asked(d):
    rng = np.random.default_rng(d)
    points, x = rng.standard_normal((20, d)), rng.standard_normal((3, d))
    shares = []
    for t in (1e-12, 1e-4, 1e-3, 1e-2, 0.1, 10.0):
        for h in (1e-2 * t, 1.0):
            watched = Watched(points)
            found, error = Mollified(watched, GaussianKernel(h), most_nodes=256).score_with_error(x, t)
            expected, its_error = Mollified(Plain(points), GaussianKernel(h), most_nodes=256).score_with_error(x, t)
            off = (found - expected).norm(dim=-1)
            assert (off <= 1e-2 * torch.minimum(error, its_error)).all(), (t, h)
            assert (off <= 1e-10 * expected.norm(dim=-1) + 1e-12 * (math.sqrt(h) + 1) / t).all(), (t, h)
            shares.append(watched.share())
    assert min(shares) == 0.0
    assert max(shares) == 1.0


def test_what_the_base_cannot_answer_is_asked_node_by_node():
    rng = np.random.default_rng(0)
    points, x = rng.standard_normal((6, 5)), rng.standard_normal((8, 5))
    expected = Mollified(Plain(points), GaussianKernel(0.4)).score_with_error(x, 0.5)

    class Odd(Empirical):
        bad = math.inf

        def mollified_displacement(self, x, t, nodes, weights):
            sums, error = super().mollified_displacement(x, t, nodes, weights)
            sums[:, :, ::2], error[::2] = 1e6, self.bad
            return sums, error

    for Odd.bad in (math.inf, math.nan, 1e6):
        found = Mollified(Odd(points), GaussianKernel(0.4)).score_with_error(x, 0.5)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    # Noises that nobody shares are not done one by one; nor is anything where derivatives are asked for.
    watched = Watched(points)
    Mollified(watched, GaussianKernel(0.4)).score(x, np.linspace(0.5, 1.0, 8))
    assert all(count == 1 for count, _ in watched.asked)  # what is left of them at last
    place, watched = torch.from_numpy(x).requires_grad_(), Watched(points)
    (slope,) = torch.autograd.grad(Mollified(watched, GaussianKernel(0.4)).score(place, 0.5).sum(), place)
    assert watched.asked
    assert watched.share() == 0.0
    (expected,) = torch.autograd.grad(Mollified(Plain(points), GaussianKernel(0.4)).score(place, 0.5).sum(), place)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)


# --- extremes, cost, contract --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1e-300, 1e-12, 1.0, 1e12, 1e300])
@pytest.mark.parametrize("d", [1, 5])
def test_is_never_nan_and_infinite_only_where_the_truth_is(t, d):
    law = Empirical(np.concatenate((np.eye(3, d), -np.eye(3, d))))
    x = torch.tensor([[0.3], [1e8], [1e200]], dtype=torch.float64) * torch.ones(d, dtype=torch.float64)
    for h in (0.0, 1e-300, 1e-12, 1.0, 1e12, 1e300):
        smoothed = Mollified(law, GaussianKernel(h), most_nodes=256)
        value, error = smoothed.score_with_error(x, t)
        assert not value.isnan().any()
        assert not error.isnan().any()
        representable = x[:, 0].log10() - math.log10(t) < 307
        assert (value.isfinite().all(-1) | ~representable).all()
        if h <= 1.0:
            torch.testing.assert_close(value[1:2], -x[1:2] / t, rtol=2e-8, atol=0)
        value, error = smoothed.unnormalized_log_density_with_error(x, t)
        assert not value.isnan().any()
        assert not error.isnan().any()
        representable = torch.maximum(2 * x[:, 0].log10(), torch.tensor(math.log10(h) if h else -math.inf)) - math.log10(t) < 306
        assert (value.isfinite() | ~representable).all()
        assert (value[~value.isfinite()] < 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_step_is_not_taken_for_settled(d):
    # At t = 1e-10 the denoiser is the nearest point and no grid resolves the step; near x all nodes of a symmetric rule may miss it.
    rng, missed = np.random.default_rng(d), 0
    for case in range(30):
        center, half, law = random_pair(rng, d, 0.0)
        width = math.sqrt(0.5) * np.linalg.norm(half)
        level = width * rng.uniform(*((-0.6, 0.6) if case % 2 else (-4.0, 4.0)))
        x = center + half * level / (half @ half)
        exact = (center - x + half * (1 - 2 * special.ndtr(-level / width))) / 1e-10
        found, error = Mollified(law, GaussianKernel(0.5), most_nodes=2**11).score_with_error(x, 1e-10)
        missed += bool(np.linalg.norm(found.numpy() - exact) > float(error))
        assert float(error) <= np.linalg.norm(half) / 1e-10  # half the jump
    assert not binomial_test(missed, 30, 0.05, alpha=1e-5).rejected


def test_the_same_every_time_and_another_scrambling_is_another_table():
    law = Empirical(np.random.default_rng(1).standard_normal((5, 6)))
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    zero, again, one = (Mollified(law, GaussianKernel(0.5), scrambling=s).score(np.full(6, 0.1), 0.3) for s in (0, 0, 1))
    assert torch.equal(zero, again)
    assert not torch.equal(zero, one)
    assert torch.equal(torch.random.get_rng_state(), before)
    # One at a time or together is the same.
    x = torch.linspace(-1, 1, 18, dtype=torch.float64).reshape(3, 6)
    smoothed = Mollified(law, GaussianKernel(0.5), most_nodes=2**12)
    torch.testing.assert_close(smoothed.score(x, 0.3), torch.stack([smoothed.score(row, 0.3) for row in x]), rtol=1e-12, atol=1e-12)


def test_no_more_nodes_than_allowed_and_no_more_than_needed():
    hard = Empirical([[-1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    x = np.full((1, 5), 0.01)
    counts = []
    for most in (128, 1024, 2**13):
        base = Counting(hard)
        Mollified(base, GaussianKernel(1.0), accuracy=1e-9, most_nodes=most).score(x, 1e-3)
        counts.append(base.rows)
    assert counts == [128, 1024, 2**13]  # with Sobol points in all
    for d, most in ((1, 128), (2, 400), (3, 2000)):
        base = Counting(Empirical(np.eye(2, d)))
        Mollified(base, GaussianKernel(1.0), accuracy=1e-15, most_nodes=most).score(x[:, :d], 1e-4)
        assert max(base.calls) <= most  # on a grid, at a time
        assert len(base.calls) >= 3
    base = Counting(Gaussian(np.zeros(5), 1.0))
    Mollified(base, GaussianKernel(1.0)).score(x, 1.0)
    assert base.rows == 128  # linear: settled at once
    base = Counting(hard)
    Mollified(base, GaussianKernel(1.0)).score(np.concatenate((x, np.full((1, 5), 40.0))), 1e-3)
    easy = Counting(hard)
    Mollified(easy, GaussianKernel(1.0)).score(x, 1e-3)
    assert base.rows == easy.rows + 128  # each place is refined by itself


def test_all_nodes_count_alike():
    law, kernel, x = Empirical(np.random.default_rng(2).standard_normal((4, 5))), GaussianKernel(0.6), torch.full((5,), 0.2).double()
    nodes = torch.cat([piece.nodes for piece in kernel.sobol(5, 1024, 7)], 1).reshape(-1, 5)
    assert len(nodes) == 1024
    plain = law.score(x + math.sqrt(0.6) * nodes, 0.3).mean(0)
    found = Mollified(law, kernel, accuracy=1e-9, most_nodes=1024, scrambling=7).score(x, 0.3)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)


def test_the_accuracy_asked_for_is_what_is_given():
    rng = np.random.default_rng(4)
    for accuracy in (1e-1, 1e-2):
        offs, claims = [], []
        for case in range(8):
            center, half, law = random_pair(rng, 5, 0.0)
            x = center + half
            exact = exact_pair(x, center, half, 0.5, math.sqrt(0.5) * np.linalg.norm(half))
            found, error = Mollified(law, GaussianKernel(0.5), accuracy=accuracy, scrambling=case).score_with_error(x, 0.5)
            offs.append(np.linalg.norm(found.numpy() - exact) / np.linalg.norm(exact))
            claims.append(float(error) / np.linalg.norm(exact))
        assert np.median(claims) <= 1.01 * accuracy
        assert np.median(offs) <= accuracy
        assert min(claims) >= 0.09 * accuracy


def test_blocks_do_not_change_the_answer(monkeypatch):
    law, x = PAIR, torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = Mollified(law, GaussianKernel(0.3)).score(x, 0.2)
    monkeypatch.setattr("kss.scores.mollified.BLOCK", 700)
    torch.testing.assert_close(Mollified(law, GaussianKernel(0.3)).score(x, 0.2), expected, rtol=1e-13, atol=1e-13)


def test_the_constructor_keeps_what_it_was_given():
    assert repr(Mollified(Empirical([[0.0]]), GaussianKernel(0.5))) == "Mollified(Empirical([[0.0]]), GaussianKernel(0.5))"


SMOOTHED = Mollified(PAIR, GaussianKernel(0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mollified(PAIR, GaussianKernel(0.5), accuracy=0.0), r"^accuracy = 0\.0: expected"),
        (lambda: Mollified(PAIR, GaussianKernel(0.5), accuracy=math.nan), r"^accuracy = nan: expected"),
        (lambda: Mollified(PAIR, GaussianKernel(0.5), most_nodes=64), r"^most_nodes = 64: expected an integer >= 128"),
        (lambda: Mollified(PAIR, GaussianKernel(0.5), scrambling=-1), r"^scrambling = -1: expected an integer >= 0"),
        (lambda: SMOOTHED.score([0.0], 1.0), r"^x = .*expected points of shape \(\.\.\., 2\)"),
        (lambda: SMOOTHED.score(0.0, 1.0), r"^x = .*expected points of shape"),
        (lambda: SMOOTHED.score(torch.zeros(3, 0), 1.0), r"^x = .*\(3, 0\).*expected points of shape"),
        (lambda: SMOOTHED.score([math.nan, 0.0], 1.0), r"^x = .*expected finite numbers"),
        (lambda: SMOOTHED.score([0.0, 0.0], 0.0), r"^t = 0\.0: expected a noise variance t > 0"),
        (lambda: SMOOTHED.score([0.0, 0.0], math.nan), r"^t = nan: expected finite numbers"),
        (lambda: SMOOTHED.score(torch.zeros(3, 2), torch.ones(2)), r"^t = .*expected a number or a shape that broadcasts"),
        (lambda: Mollified(PAIR, GaussianKernel(np.eye(3))).score([0.0, 0.0], 1.0), r"^bandwidth = .*expected a number, a \(2, 2\)"),
        (lambda: Mollified(lambda x, t: x[:, :1], GaussianKernel(0.5)).score([0.0, 0.0], 1.0), r"^base = .*it gave \(\d+, 1\)"),
        (lambda: Mollified(lambda x, t: x.mT, GaussianKernel(0.5)).score([0.0, 0.0], 1.0), r"^base = .*it gave \(2, \d+\)"),
        (lambda: Mollified(lambda x, t: x.numpy(), GaussianKernel(0.5)).score([0.0, 0.0], 1.0), r"^base = .*it gave a ndarray"),
        (
            lambda: Mollified(PAIR.score, GaussianKernel(0.5)).unnormalized_log_density([0.0, 0.0], 1.0),
            r"^base = .*expected a Distribution",
        ),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
