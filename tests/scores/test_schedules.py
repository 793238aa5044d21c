"""Schedules by hand, at both ends, and what they refuse."""

import math
import subprocess
import sys

import pytest
import torch

from kss.scores import (
    EDM,
    AlphaBar,
    BrownianMotion,
    DiscreteVariancePreserving,
    LogSNR,
    OrnsteinUhlenbeck,
    VarianceExploding,
    VariancePreserving,
    coefficients,
    convert,
)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def test_ornstein_uhlenbeck_by_hand():
    process = OrnsteinUhlenbeck(rate=0.5, noise=3.0)
    assert float(process.time(2.0)) == pytest.approx(3 * (math.e**2 - 1), rel=1e-15)
    assert float(process.label(scalar(3 * (math.e**2 - 1)))) == pytest.approx(2.0, rel=1e-15)
    assert float(process.scale(process.time(2.0))) == pytest.approx(math.exp(-1), rel=1e-15)


@pytest.mark.parametrize(
    "process", [OrnsteinUhlenbeck(), OrnsteinUhlenbeck(0.3, 5.0), OrnsteinUhlenbeck(1e-200, 2.0), OrnsteinUhlenbeck(0.0, 0.1)]
)
def test_ornstein_uhlenbeck_loses_nothing_at_small_and_large_times(process):
    s = torch.tensor([0.0, 1e-300, 1e-18, 1e-3, 1.0, 100.0], dtype=torch.float64)
    t = process.time(s)
    torch.testing.assert_close(process.label(t), s, rtol=4e-15, atol=0)
    torch.testing.assert_close(process.scale(t), torch.exp(-process.rate * s), rtol=4e-14, atol=0)


def test_a_rate_near_zero_is_brownian_motion():
    t = torch.logspace(-300, 100, 9, dtype=torch.float64)
    for rate in (0.0, 1e-120):
        torch.testing.assert_close(OrnsteinUhlenbeck(rate, 2.0).label(t), t / 2, rtol=1e-15, atol=0)
        assert bool((OrnsteinUhlenbeck(rate, 2.0).scale(t) == 1).all())


def test_ornstein_uhlenbeck_where_products_overflow():
    process = OrnsteinUhlenbeck(1e10, 1.0)
    t = scalar(1e300)
    assert float(process.scale(t)) == pytest.approx((2e10) ** -0.5 * 1e-150, rel=1e-14)
    assert float(process.label(t)) == pytest.approx((300 * math.log(10) + math.log(2e10)) / 2e10, rel=1e-14)


def test_which_processes_preserve_the_variance():
    yes = (OrnsteinUhlenbeck(), OrnsteinUhlenbeck(0.3, 0.6), VariancePreserving(), AlphaBar(), LogSNR())
    no = (OrnsteinUhlenbeck(1.0, 1.0), OrnsteinUhlenbeck(0.0, 1.0), VarianceExploding(), EDM(), BrownianMotion())
    assert all(process.preserving for process in yes)
    assert not any(process.preserving for process in no)


def test_names_of_the_noise_level_one():
    assert float(convert(1.0, EDM(), AlphaBar())) == 0.5
    assert float(convert(0.5, AlphaBar(), LogSNR())) == 0.0
    assert float(convert(0.0, LogSNR(), BrownianMotion())) == 1.0
    assert float(convert(1.0, BrownianMotion(), OrnsteinUhlenbeck())) == pytest.approx(math.log(2) / 2)
    assert convert(torch.ones(2, 3), EDM(), AlphaBar()).dtype == torch.float64


def test_steps_of_the_linear_schedule():
    schedule = DiscreteVariancePreserving.linear(3, 0.1, 0.3)
    torch.testing.assert_close(schedule.alphas_cumprod, torch.tensor([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7], dtype=torch.float64))


def test_steps_of_the_cosine_schedule():
    schedule = DiscreteVariancePreserving.cosine(2, offset=1.0, largest=0.75)
    level = [math.cos(place * math.pi / 4) ** 2 for place in (1.0, 1.5, 2.0)]
    assert float(schedule.alphas_cumprod[0]) == pytest.approx(max(level[1] / level[0], 0.25))
    assert float(schedule.alphas_cumprod[1]) == pytest.approx(float(schedule.alphas_cumprod[0]) * 0.25)


def test_coefficients_at_the_start_in_batches_and_between_steps():
    found = coefficients(OrnsteinUhlenbeck(2.0, 3.0), torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(found.drift, torch.full((1, 2), -2.0, dtype=torch.float64))
    torch.testing.assert_close(found.noise, torch.full((1, 2), 3.0, dtype=torch.float64))
    steps = coefficients(DiscreteVariancePreserving([0.9, 0.9 * math.exp(-0.2)]), 0.5)
    assert float(steps.drift) == pytest.approx(-0.1)
    assert float(steps.noise) == pytest.approx(0.2)
    with torch.no_grad():
        assert float(coefficients(EDM(), 3.0).noise) == 6.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OrnsteinUhlenbeck(-1.0), "rate = -1.0: expected a finite number > 0"),
        (lambda: OrnsteinUhlenbeck(1.0, 0.0), "noise = 0.0: expected a finite number > 0"),
        (lambda: OrnsteinUhlenbeck().time(-1.0), "label = -1.0: expected times s >= 0"),
        (lambda: OrnsteinUhlenbeck().label(scalar(-1.0)), "t = -1.0: expected a noise variance t >= 0"),
        (lambda: BrownianMotion().time(0.0), "label = 0.0: expected noise variances t > 0"),
        (lambda: EDM().label(scalar(-1.0)), "t = -1.0: expected a noise variance t >= 0"),
        (lambda: LogSNR().label(scalar(0.0)), "t = 0.0: expected a noise variance t > 0"),
        (lambda: convert(-800.0, LogSNR(), EDM()), "label = -800.0: expected labels whose noise variance is below 1e308"),
        (lambda: AlphaBar().time(1.0), "label = 1.0: expected numbers in (0, 1)"),
        (lambda: coefficients(LogSNR(), 1.0), "schedule = LogSNR(): expected labels that grow with the noise"),
        (lambda: coefficients(OrnsteinUhlenbeck(), 1000.0), "label = 1000.0: expected labels whose noise variance is below 1e308"),
        (lambda: DiscreteVariancePreserving.linear(1), "steps = 1: expected an integer >= 2"),
        (lambda: DiscreteVariancePreserving.cosine(offset=-1.0), "offset = -1.0"),
        (lambda: convert(3.0, EDM(), DiscreteVariancePreserving.linear(2)), "t = 9.0: expected a noise variance in ["),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below, as text and not as a pattern
        call()
    assert message in str(caught.value)


WRONG_TYPES = """
from kss.distributions import Gaussian
from kss.scores import EDM, InProcess, convert, to_denoiser
for call in (
    lambda: convert(1.0, "edm", EDM()),
    lambda: convert(1.0, EDM(), "vp"),
    lambda: InProcess(Gaussian([0.0], 1.0), "vp"),
    lambda: to_denoiser(3, schedule=None),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""


def test_wrong_types_are_named():
    # In a process of its own: here the hook of tests/conftest.py would stop them first.
    said = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith("schedule = 'edm': expected a Schedule")
    assert said[1].startswith("target = 'vp': expected a Schedule")
    assert said[2].startswith("schedule = 'vp': expected a Schedule")
    assert said[3].startswith("score = 3: expected an object with a method score(x, t)")
