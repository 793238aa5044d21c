"""Space against time: limits, closed forms of other modules, and what is rejected."""

import math

import numpy as np
import pytest
import torch

from kss.theory import bias_variance, curved_kernels, temperature
from kss.theory.kernels import space_time


def test_noise_of_mixtures():
    block = [[0.03, 0.01], [0.01, 0.02]]
    plain = bias_variance.small_time_noise(0.01, block, 50.0, 0.2)
    torch.testing.assert_close(space_time.space_time_noise(0.01, block, [0.0], [1.0], 50.0, 0.2), plain)
    torch.testing.assert_close(space_time.space_time_noise(0.01, block, [0.0, 0.0], [0.3, 0.7], 50.0, 0.2), plain)
    mixed = float(space_time.space_time_noise(0.1, [[0.0]], [0.0, 0.2], [0.5, 0.5], 1.0, 1.0))
    terms = [0.1**-1.5 / 4, 0.2**-1.5 / 2, 0.3**-1.5 / 4]
    assert mixed == pytest.approx(sum(terms) / (4 * math.sqrt(math.pi)))


def test_costs():
    assert space_time.leak(3, 0.01, 0.005) == pytest.approx(3 * 0.0360658874)
    assert space_time.leak(1, 0.01, 0.0) == 0.0
    assert space_time.leak(2, 1e-300, 1e300) == pytest.approx(600 * math.log(10) - 1)
    assert space_time.ridge_cost(3, 1.0, 0.01, 0.02, 0.02) == 0.0
    for tiny in ("p to q", "q to p"):
        assert space_time.leak(1, 1.0, 1e-5, tiny) == pytest.approx(1e-10 / 4, rel=1e-4)
    assert space_time.space_cost(2, 1.5, 0.01, 0.02) == pytest.approx(curved_kernels.curvature_divergence(2, 1.5, 0.01, 0.02))
    assert space_time.time_cost(1, 1e9, 0.01, 0.02, 2) == pytest.approx(space_time.leak(2, 0.01, 0.02))
    assert space_time.space_is_cheaper(1, 1.0, 1e-4, 0.1, 1, "q to p")
    assert not space_time.space_is_cheaper(1, 1.0, 1e-4, 0.1, 1)
    assert space_time.space_is_cheaper(1, 1.0, 1e-4, 0.1, 20)


def test_variances():
    assert space_time.delayed_variance(5.0, 5.0, 0.3) == pytest.approx(5.0)
    assert space_time.delayed_variance(1e9, 0.1, 0.3) == pytest.approx(0.4)
    assert space_time.denoiser_variance(2.0, 0.1, [0.0], [1.0]) == pytest.approx(2.1)
    tempered = temperature.tempered_variance(2.0, 0.1, 4.0)
    assert space_time.denoiser_variance(2.0, 0.1, [0.3], [1.0]) == pytest.approx(float(tempered))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: space_time.space_time_noise(0.1, [[1.0]], [], [], 1.0, 1.0), "delays"),
        (lambda: space_time.space_time_noise(0.1, [[1.0]], [-1.0], [1.0], 1.0, 1.0), "delays"),
        (lambda: space_time.space_time_noise(0.1, [[1.0]], [1.0], [0.5], 1.0, 1.0), "weights"),
        (lambda: space_time.space_time_noise(0.1, [[-1.0]], [0.0], [1.0], 1.0, 1.0), "tangential"),
        (lambda: space_time.leak(1, 0.0, 0.1), "t"),
        (lambda: space_time.leak(1, 0.1, -0.1), "delay"),
        (lambda: space_time.leak(1, 0.1, 0.1, "both"), "direction"),
        (lambda: space_time.denoiser_variance(-1.0, 0.1, [0.0], [1.0]), "variances"),
        (lambda: space_time.denoiser_variance(1.0, 0.1, np.ones(2), [1.0]), "weights"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()
