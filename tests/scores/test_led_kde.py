"""The normalized LED-KDE against sums and integrals written from its definition."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from kss.distributions import Empirical, Gaussian
from kss.kernels import BallKernel, GaussianKernel
from kss.scores import LedKde, Mollified
from kss.scores import led_kde as module

LINE = {"one point": [[0.7]], "two points": [[-1.0], [1.0]], "duplicates": [[-1.0], [-1.0], [2.0]]}


def log_kde(points: np.ndarray, y: np.ndarray, t: float) -> np.ndarray:
    exponent = -((y[:, None] - points[None]) ** 2).sum(-1) / (2 * t)
    top = exponent.max(1)
    return top + np.log(np.exp(exponent - top[:, None]).sum(1))


def by_definition(points: np.ndarray, t: float, offsets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fine grid on the line and the density on it: `exp(sum_j w_j log p(x + v_j))`, divided by its integral (Simpson)."""
    reach = 12 * math.sqrt(t)
    x = np.linspace(points.min() - reach, points.max() + reach, 801)
    values = np.stack([weights @ log_kde(points, place + offsets[:, None], t) for place in x])
    density = np.exp(values - values.max())
    return x, density / integrate.simpson(density, x=x)


@pytest.mark.parametrize("name", LINE)
@pytest.mark.parametrize(("t", "h"), [(0.1, 0.02), (0.1, 0.5), (1.0, 0.001), (0.02, 1.0)])
def test_on_the_line_it_is_the_definition_normalized(name, t, h):
    points = np.array(LINE[name])
    u = np.linspace(-9, 9, 2001)
    x, exact = by_definition(points, t, math.sqrt(h) * u, np.exp(-(u**2) / 2) / np.exp(-(u**2) / 2).sum())
    density = LedKde(Empirical(points), GaussianKernel(h), t)
    found = density.log_density(x[::40, None]).exp().numpy()
    assert density.error <= 1e-4
    np.testing.assert_allclose(found, exact[::40], atol=1e-3 * exact.max(), rtol=0)
    where = exact[::40] > math.exp(-20) * exact.max()
    off = np.abs(np.log(found[where]) - np.log(exact[::40][where])).max()
    # Of both the reference (Simpson on 801 points: 1e-6) and the grid.
    assert off <= max(density.error, 1e-4 / 4) + 5e-6
    assert abs(integrate.simpson(np.exp(density.log_density(x[:, None]).numpy()), x=x) - 1) <= density.error + 1e-5


def test_a_ball_on_the_line():
    points, t, radius = np.array(LINE["two points"]), 0.3, 0.8
    offsets = (np.arange(4000) + 0.5) / 2000 - 1
    x, exact = by_definition(points, t, radius * offsets, np.full(4000, 1 / 4000))
    density = LedKde(Empirical(points), BallKernel(radius), t)
    np.testing.assert_allclose(density.log_density(x[::40, None]).exp().numpy(), exact[::40], atol=1e-4 * exact.max())


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [GaussianKernel(0.3), BallKernel(0.7), GaussianKernel([[0.3, 0.25], [0.25, 0.3]])], ids=str)
def test_in_the_plane_it_integrates_to_one(kernel):
    law, t = Empirical([[-1.0, 0.0], [1.0, 0.5]]), 0.3
    density = LedKde(law, kernel, t, accuracy=1e-2)
    x, y = (np.linspace(-1 - 6.5 * math.sqrt(t), 1.5 + 6.5 * math.sqrt(t), 41) for _ in range(2))
    values = density.log_density(np.stack(np.meshgrid(x, y, indexing="ij"), -1)).exp().numpy()
    assert abs(integrate.simpson(integrate.simpson(values, x=y), x=x) - 1) <= density.error + 3e-3
    # And the values on its own grid are the same density.
    i, j = (len(axis) // 2 for axis in density.axes)
    place = [float(density.axes[0][i]), float(density.axes[1][j])]
    assert float(density.log_density(place)) == pytest.approx(float(density.log_values[i, j]), abs=5e-3)
    cell = math.prod(float(axis[1] - axis[0]) for axis in density.axes)
    assert float(density.log_values.exp().sum()) * cell == pytest.approx(1.0, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel", [GaussianKernel(0.5), GaussianKernel(lambda t: t), GaussianKernel([[0.5, 0.45], [0.45, 0.5]]), BallKernel(1.0)], ids=str
)
@pytest.mark.parametrize("t", [0.2, 2.0])
def test_a_gaussian_is_not_changed(kernel, t):
    law, x = Gaussian([0.3, -1.0], [[1.0, 0.4], [0.4, 0.6]]), np.array([[0.3, -1.0], [1.0, 0.5], [-2.0, 0.0]])
    density = LedKde(law, kernel, t, accuracy=1e-2)
    torch.testing.assert_close(density.log_density(x), law.log_density(x, t), atol=density.error + 1e-2, rtol=0)
    assert density.error <= 1e-2


def test_what_one_point_leaves():
    # K * log p is a parabola with a constant taken off: the law at noise t, whatever the kernel.
    for h in (1e-3, 1.0, 50.0, 1e6):
        density = LedKde(Empirical([[0.7]]), GaussianKernel(h), 0.25)
        expected = -((np.array([0.2, 0.7, 2.0]) - 0.7) ** 2) / 0.5 - math.log(2 * math.pi * 0.25) / 2
        np.testing.assert_allclose(density.log_density([[0.2], [0.7], [2.0]]).numpy(), expected, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("law", [Empirical([[-1.0], [1.0]]), Empirical([[0.0, 0.0], [1.0, 1.0]])], ids=repr)
def test_both_routes_agree(law, monkeypatch):
    t, kernel = 0.3, GaussianKernel(0.4)
    fast = LedKde(law, kernel, t, accuracy=4e-3)
    assert fast._convolve
    # A covariance that is 0.4 I but for the last digits is averaged by cubature.
    nearly = GaussianKernel(0.4) if law.dim == 1 else GaussianKernel([[0.4, 0.0], [0.0, 0.4 + 1e-15]])
    if law.dim == 1:
        monkeypatch.setattr(module, "GaussianKernel", BallKernel)
    slow = LedKde(law, nearly, t, accuracy=4e-3)
    assert not slow._convolve
    assert fast.log_normalizer == pytest.approx(slow.log_normalizer, abs=fast.error + slow.error + 2e-3)
    level = len(fast.axes[0]) // 3
    value = fast.log_values[level] if law.dim == 1 else fast.log_values[level, level]
    place = [float(axis[level]) for axis in fast.axes]
    assert float(value) == pytest.approx(float(slow.log_density(place)), abs=fast.error + slow.error + 2e-3)
    smoothed = Mollified(law, kernel, accuracy=1e-6)
    assert float(value) == pytest.approx(float(smoothed.unnormalized_log_density(place, t)) - fast.log_normalizer, abs=fast.error + 1e-6)


@pytest.mark.parametrize("accuracy", [1e-2, 1e-5])
def test_the_error_covers_the_true_error_and_is_as_small_as_asked(accuracy):
    for t, h in ((0.05, 0.3), (0.5, 0.02), (1e-3, 0.2)):
        density = LedKde(Empirical([[-1.0], [0.2], [1.0]]), GaussianKernel(h), t, accuracy=accuracy)
        fine = LedKde(Empirical([[-1.0], [0.2], [1.0]]), GaussianKernel(h), t, accuracy=1e-9)
        assert abs(density.log_normalizer - fine.log_normalizer) <= density.error <= accuracy


def test_small_and_large_scales():
    for scale in (1e-4, 1e4):
        density = LedKde(Empirical([[-scale], [scale]]), GaussianKernel(0.3 * scale**2), 0.2 * scale**2)
        expected = LedKde(Empirical([[-1.0], [1.0]]), GaussianKernel(0.3), 0.2)
        assert float(density.log_density([0.3 * scale])) + math.log(scale) == pytest.approx(float(expected.log_density([0.3])), abs=1e-6)


class Nowhere(Gaussian):
    def posterior(self, x, t):
        raise AssertionError("not to be asked")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LedKde(Gaussian([0.0] * 3, 1.0), GaussianKernel(1.0), 1.0), r"^law = .*expected a Distribution on R or R\^2"),
        (lambda: LedKde(Gaussian([0.0], 1.0), GaussianKernel(1.0), 0.0), r"^t = 0\.0: expected"),
        (lambda: LedKde(Gaussian([0.0], 1.0), GaussianKernel(1.0), 1.0, accuracy=0.0), r"^accuracy = 0\.0: expected"),
        (lambda: LedKde(Gaussian([0.0], 1.0), GaussianKernel(np.eye(2)), 1.0), r"^bandwidth = "),
        (lambda: LedKde(Nowhere([0.0, 0.0], 1.0), GaussianKernel(1.0), 1e-10), r"^t = 1e-10: expected a noise variance for which a grid"),
        (lambda: LedKde(Nowhere([0.0], 1.0), BallKernel(1.0), 1e-14), r"^t = 1e-14: expected a noise variance for which a grid"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
