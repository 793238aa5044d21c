"""Averages over kernel and delays: against sums written out, closed forms, and the two scores that they contain."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from kss.distributions import Empirical, Gaussian
from kss.kernels import BallKernel, GaussianKernel
from kss.scores import Mollified, SpaceTime, TimeShifted, exponential_delays, uniform_delays

PAIR = Empirical([[-1.0], [1.0]])


def test_against_integrals_over_the_kernel():
    x, t, delays, weights = 0.4, 0.3, [0.0, 0.2, 1.0], [2.0, 1.0, 1.0]

    def smoothed(u, h):
        def integrand(z):
            y = x + math.sqrt(h) * z
            return (math.tanh(y / u) - y) / u * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

        return integrate.quad(integrand, -9, 9, epsabs=1e-13)[0]

    for kernel in (GaussianKernel(0.5 * t), GaussianKernel(lambda s: 0.5 * s)):  # a function is asked at t, not later
        score = SpaceTime(PAIR, kernel, delays, weights)
        expected = sum(w / 4 * smoothed(t + tau, 0.5 * t) for tau, w in zip(delays, weights, strict=True))
        value, error = score.score_with_error([[x]], t)
        assert abs(float(value) - expected) <= min(float(error), 1e-6 * abs(expected))
        assert float(score.denoise([[x]], t)) == pytest.approx(x + t * expected, abs=1e-7)


def test_rules_of_delays():
    for mean, longest in ((0.7, 3.0), (1e-3, 1e2)):
        at, weights = exponential_delays(mean)
        exact = [math.factorial(n) * mean**n for n in range(16)]
        np.testing.assert_allclose([float(weights @ at**n) for n in range(16)], exact, rtol=1e-11)
        at, weights = uniform_delays(longest)
        np.testing.assert_allclose([float(weights @ at**n) for n in range(16)], [longest**n / (n + 1) for n in range(16)], rtol=1e-11)
    assert math.isclose(float(exponential_delays(1.0, 150)[1].sum()), 1.0)
    with pytest.raises(ValueError, match=r"^nodes = 151: "):
        exponential_delays(1.0, 151)
    # E 1/(1 + tau), which is what becomes of the stiffness
    at, weights = uniform_delays(1.0, 12)
    assert float(SpaceTime(Empirical([[0.0]]), GaussianKernel(0.1), at, weights).score([[-1.0]], 1.0)) == pytest.approx(
        math.log(2), rel=1e-9
    )


def test_limits_and_contract():
    x = torch.tensor([[0.3], [1.7]], dtype=torch.float64)
    torch.testing.assert_close(SpaceTime(PAIR, GaussianKernel(0.2), 0.0).score(x, 0.4), Mollified(PAIR, GaussianKernel(0.2)).score(x, 0.4))
    torch.testing.assert_close(SpaceTime(PAIR, GaussianKernel(0.0), 0.5).score(x, 0.4), TimeShifted(PAIR, 0.5).score(x, 0.4))
    law = Gaussian([0.0, 0.0], 2.0)
    at = torch.tensor([[1.0, -2.0]])
    found = SpaceTime(law, BallKernel(0.7), [0.5, 2.0]).score(at, torch.tensor([0.5]))
    torch.testing.assert_close(found.double(), -at.double() * (1 / 3 + 1 / 4.5) / 2, rtol=1e-6, atol=1e-7)
    assert SpaceTime(PAIR, GaussianKernel(0.2), [0.1, 0.2]).score(torch.zeros(0, 1), 0.3).shape == (0, 1)
    assert repr(SpaceTime(PAIR, GaussianKernel(0.5), 1.0)) == "SpaceTime(Empirical([[-1.0], [1.0]]), GaussianKernel(0.5), [1.0], [1.0])"
    for delays, weights, text in (
        ([-1.0], None, "delays"),
        ([], None, "delays"),
        ([1.0], [0.0], "weights"),
        ([1.0], [1.0, 1.0], "weights"),
    ):
        with pytest.raises(ValueError, match=f"^{text} = "):
            SpaceTime(PAIR, GaussianKernel(0.5), delays, weights)
