"""The tempered score against closed forms."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TemperatureSmoothed

X = torch.tensor([[0.3, 0.4], [1.5, -0.2], [0.0, 3.0]], dtype=torch.float64)
PAIR = Empirical([[1.0, 0.0], [-1.0, 0.0]])
TEMPERATURES = {
    "number": (3.0, lambda t: 3.0),
    "one": (1.0, lambda t: 1.0),
    "below one": (0.25, lambda t: 0.25),
    "tensor": (torch.tensor(3.0), lambda t: 3.0),
    "function": (lambda t: 1 + 2 * t, lambda t: 1 + 2 * t),
    "constant function": (lambda t: 2.0, lambda t: 2.0),
}


def pair_denoised(x, u):
    """Of the points (1, 0) and (-1, 0): `tanh(x_1/u) e_1`."""
    pull = torch.zeros_like(x)
    pull[..., 0] = torch.tanh(x[..., 0] / u)
    return pull


@pytest.mark.parametrize("name", TEMPERATURES)
@pytest.mark.parametrize("t", [1e-3, 0.5, 20.0])
def test_weights_at_temperature_and_stiffness_of_now(name, t):
    temperature, exact = TEMPERATURES[name]
    smoothed, later = TemperatureSmoothed(PAIR, temperature), t * float(exact(t))
    denoised = pair_denoised(X, later)
    torch.testing.assert_close(smoothed.score(X, t), (denoised - X) / t, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(smoothed.denoise(X, t), denoised, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2), (1,)])
def test_each_place_has_its_own_noise(shape):
    x = torch.randn(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 2.0, math.prod(shape), dtype=torch.float64).reshape(shape)
    for temperature, exact in TEMPERATURES.values():
        later = t * torch.as_tensor(exact(t))
        expected = (pair_denoised(x, later) - x) / t.unsqueeze(-1)
        torch.testing.assert_close(TemperatureSmoothed(PAIR, temperature).score(x, t), expected, rtol=1e-12, atol=1e-12)


def test_any_base():
    law, asked = Gaussian([1.0, 0.0], 2.0), []
    expected = -3 * (X - torch.tensor([1.0, 0.0])) / (2.0 + 3 * 0.3)

    def only_floats(x, t):
        asked.append(t)
        assert isinstance(t, float)
        return law.score(x, t)

    for base in (law, law.score, only_floats, Mollified(law, GaussianKernel(0.5))):
        smoothed = TemperatureSmoothed(base, 3.0)
        torch.testing.assert_close(smoothed.score(X, 0.3), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(smoothed.denoise(X, 0.3), X + 0.3 * expected, rtol=1e-9, atol=1e-9)
    assert asked == [pytest.approx(0.9)] * 2


@pytest.mark.parametrize("base", [PAIR, Mollified(PAIR, GaussianKernel(0.2), accuracy=1e-9)], ids=["density", "LED-KDE"])
def test_the_score_is_the_gradient_of_the_log_density(base):
    x = X.clone().requires_grad_()
    smoothed = TemperatureSmoothed(base, lambda t: 1 + t)
    (gradient,) = torch.autograd.grad(smoothed.unnormalized_log_density(x, 0.8).sum(), x)
    torch.testing.assert_close(gradient, smoothed.score(X, 0.8), rtol=1e-6, atol=1e-6)


def test_the_log_density_of_a_normal_law():
    value = TemperatureSmoothed(Gaussian([0.0], 1.0), 2.0).unnormalized_log_density([[3.0]], 0.5)
    assert float(value) == pytest.approx(2 * (-9 / 4 - math.log(4 * math.pi) / 2))


def test_gradients_types_and_what_is_shown():
    x = X.clone().requires_grad_()
    TemperatureSmoothed(Gaussian([0.0, 0.0], 1.0), 2.0).score(x, 0.5).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(X, -1.0))
    narrow = TemperatureSmoothed(Empirical(torch.zeros(1, 2)), 2.0)
    assert narrow.score(torch.ones(2), 0.5).dtype == narrow.denoise(torch.ones(2), 0.5).dtype == torch.float32
    assert narrow.unnormalized_log_density(torch.ones(2), 0.5).dtype == torch.float32
    assert narrow.score(np.ones(2), 0.5).dtype == torch.float64
    assert narrow.score(torch.zeros(0, 2), 0.5).shape == (0, 2)
    assert repr(TemperatureSmoothed(Empirical([[0.0]]), 2.0)) == "TemperatureSmoothed(Empirical([[0.0]]), 2.0)"
    assert repr(TemperatureSmoothed(Empirical([[0.0]]), lambda t: t)) == "TemperatureSmoothed(Empirical([[0.0]]), function of t)"


@pytest.mark.parametrize("t", [1e-300, 1e-100, 1e100, 1e300])
def test_extreme_noise_one_point_and_duplicates(t):
    for points in ([[1.0, 0.0]], [[1.0, 0.0]] * 3):
        smoothed = TemperatureSmoothed(Empirical(points), 4.0)
        torch.testing.assert_close(smoothed.score([[3.0, 0.0]], t), torch.tensor([[-2.0 / t, 0.0]], dtype=torch.float64))
    far = TemperatureSmoothed(PAIR, 4.0).denoise([[1e150, 1.0]], t)
    assert bool(far.isfinite().all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TemperatureSmoothed(PAIR, 0.0), r"^temperature = 0\.0: expected a temperature > 0"),
        (lambda: TemperatureSmoothed(PAIR, -1), r"^temperature = -1: expected a temperature > 0"),
        (lambda: TemperatureSmoothed(PAIR, math.nan), r"^temperature = nan: expected finite numbers"),
        (lambda: TemperatureSmoothed(PAIR, [1.0, 2.0]), r"^temperature = \[1\.0, 2\.0\]: expected a temperature > 0"),
        (
            lambda: TemperatureSmoothed(PAIR, lambda t: -t).score(X, 1.0),
            r"^temperature\(t\) = .*> 0, or one for each t",
        ),
        (
            lambda: TemperatureSmoothed(PAIR, lambda t: np.ones(2)).score(X, 1.0),
            r"^temperature\(t\) = .*expected a temperature > 0, or one",
        ),
        (
            lambda: TemperatureSmoothed(PAIR, 10.0).score(X, 1e308),
            r"^temperature \* t = inf: expected a noise variance > 0",
        ),
        (lambda: TemperatureSmoothed(PAIR, 2.0).score(0.3, 1.0), r"^x = .*expected points of shape"),
        (lambda: TemperatureSmoothed(PAIR, 2.0).score([math.nan, 0.0], 1.0), r"^x = .*expected finite numbers"),
        (lambda: TemperatureSmoothed(PAIR, 2.0).score(X, 0.0), r"^t = 0\.0: expected a noise variance t > 0"),
        (lambda: TemperatureSmoothed(PAIR, 2.0).score(X, [1.0, 2.0]), r"^t = .*expected a number or a shape that broadcasts"),
        (lambda: TemperatureSmoothed(PAIR.score, 2.0).unnormalized_log_density(X, 1.0), r"^base = .*expected an object with a log_density"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
