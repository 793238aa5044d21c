"""The solver of the Fokker-Planck equation: its exact properties in one and two dimensions, and what it refuses."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.kernels import GaussianKernel
from kss.scores import LedKde, Mollified
from kss.theory.finite_volume import Box, divergence, hop, hopping_rates, reverse_densities

LINE = Box(low=[-1.0], high=[2.0], cells=[30])
PLANE = Box(low=[-1.0, 0.0], high=[1.0, 3.0], cells=[4, 5])


def test_geometry_of_a_box() -> None:
    assert PLANE.widths == pytest.approx([0.5, 0.6])
    assert PLANE.volume == pytest.approx(0.3)
    assert PLANE.centers().shape == (20, 2)
    torch.testing.assert_close(PLANE.centers()[:2], torch.tensor([[-0.75, 0.3], [-0.75, 0.9]], dtype=torch.float64))
    assert PLANE.faces(0).shape == (15, 2)
    assert PLANE.faces(1).shape == (16, 2)
    torch.testing.assert_close(PLANE.faces(1)[0], torch.tensor([-0.75, 0.6], dtype=torch.float64))
    torch.testing.assert_close(LINE.cumulative(torch.ones(30))[[0, -1]], torch.tensor([0.0, 3.0], dtype=torch.float64))


def test_no_drift_is_the_heat_flow_with_walls() -> None:
    """cos(k pi x/L) decays at the rate of the discrete Laplacian, and the constant stays."""
    width, length = 0.1, 3.0
    mode = torch.cos(2 * math.pi * (LINE.centers()[:, 0] + 1) / length)
    rate = (1 - math.cos(2 * math.pi * width / length)) / width**2
    got = hop(hopping_rates(LINE, [torch.zeros(29)]), 1 + mode, 0.7)
    torch.testing.assert_close(got, 1 + math.exp(-0.7 * rate) * mode, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strength", [0.0, 1.0, 1e4])
def test_law_at_rest_stays_and_everything_tends_to_it(strength: float) -> None:
    drift = strength * torch.linspace(1, -1, 29, dtype=torch.float64)
    log_q = torch.cat((torch.zeros(1), 2 * 0.1 * drift.cumsum(0)))
    at_rest = torch.softmax(log_q, 0)
    rates = hopping_rates(LINE, [drift])
    torch.testing.assert_close(hop(rates, at_rest, 0.05), at_rest, rtol=0, atol=1e-12)
    if strength == 1.0:
        start = torch.zeros(30, dtype=torch.float64)
        start[0] = 1.0
        torch.testing.assert_close(hop(rates, start, 40.0), at_rest, rtol=0, atol=1e-10)


def test_independent_axes_give_products() -> None:
    """A drift along one axis that depends on that coordinate alone: the plane is two lines."""
    along, across = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([1.0, 0.0, -1.0, 4.0])
    lines = [Box(low=[-1.0], high=[1.0], cells=[4]), Box(low=[0.0], high=[3.0], cells=[5])]
    starts = [torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.5, 0.1, 0.1, 0.1, 0.2])]
    first, second = (hop(hopping_rates(b, [d]), q, 0.4) for b, d, q in zip(lines, (along, across), starts, strict=True))
    rates = hopping_rates(PLANE, [along[:, None].expand(3, 5).flatten(), across.expand(4, 4).flatten()])
    got = hop(rates, torch.outer(*starts).flatten(), 0.4)
    torch.testing.assert_close(got, torch.outer(first, second).flatten(), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_normal_law_is_reversed() -> None:
    law, errors = Gaussian([0.3], 0.5), []
    for cells, steps in ((80, 15), (160, 30)):
        box = Box(low=[-6.0], high=[6.0], cells=[cells])
        centers = box.centers()
        densities = reverse_densities(law, law.log_density(centers, 1.0).exp(), box, t_max=1.0, t_min=0.1, steps=steps)
        assert densities.shape == (steps + 1, cells)
        errors.append(divergence(densities[-1], law.log_density(centers, 0.1).exp(), box))
    # Errors of second order, of which the divergence is the square.
    assert errors[1] < errors[0] / 10
    # Smoothing leaves a normal law as it is: the LED-KDE is generated.
    smoothed = Mollified(law, GaussianKernel(0.4))
    again = reverse_densities(smoothed, densities[0], box, t_max=1.0, t_min=0.1, steps=30)
    torch.testing.assert_close(again, densities, rtol=1e-5, atol=1e-10)


def test_every_kind_of_score_and_an_array_will_do() -> None:
    law, box = Empirical([[-1.0], [1.0]]), Box(low=[-5.0], high=[5.0], cells=[40])
    start = np.exp(law.log_density(box.centers(), 1.0).numpy())
    how = {"t_max": 1.0, "t_min": 0.5, "steps": 4}
    a = reverse_densities(law, start, box, **how)
    b = reverse_densities(lambda x, t: law.score(x, t), start, box, **how)
    torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_killing_leaves_the_led_kde() -> None:
    from kss.theory.gradient_flow import defect

    law, kernel, box = Empirical([[-1.0], [1.0]]), GaussianKernel(0.2), Box(low=[-6.0], high=[6.0], cells=[60])
    smoothed = Mollified(law, kernel, accuracy=1e-4)
    before, after = LedKde(law, kernel, 1.0), LedKde(law, kernel, 0.4)
    start = before.log_density(box.centers()).exp()
    killed = reverse_densities(smoothed, start, box, t_max=1.0, t_min=0.4, steps=6, killing=lambda x, t: defect(smoothed, x, t))[-1]
    assert divergence(killed, after.log_density(box.centers()).exp(), box) < 1e-4
    assert float(killed.sum() / start.sum()) == pytest.approx(math.exp(after.log_normalizer - before.log_normalizer), rel=1e-2)


def test_divergence_of_a_law_from_itself_and_from_another() -> None:
    q = torch.arange(30, dtype=torch.float64)  # with a zero
    assert divergence(q, 5 * q, LINE) == 0
    assert divergence(q, torch.ones(30), LINE) > 0
    assert divergence(torch.ones(30), q, LINE) == math.inf


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Box(low=[0.0] * 3, high=[1.0] * 3, cells=[2] * 3), "low"),
        (lambda: Box(low=[0.0], high=[0.0], cells=[3]), "high"),
        (lambda: Box(low=[0.0], high=[1.0, 2.0], cells=[3]), "high"),
        (lambda: Box(low=[0.0], high=[1.0], cells=[3, 3]), "cells"),
        (lambda: Box(low=[0.0], high=[1.0], cells=[1]), "cells"),
        (lambda: PLANE.cumulative(torch.ones(20)), "density"),
        (lambda: LINE.cumulative(torch.ones(29)), "density"),
        (lambda: hopping_rates(LINE, [torch.zeros(30)]), "drift"),
        (lambda: hopping_rates(LINE, [torch.zeros(29), torch.zeros(29)]), "drift"),
        (lambda: hop(hopping_rates(LINE, [torch.zeros(29)]), torch.ones(30), -1.0), "duration"),
        (lambda: divergence(torch.ones(30), -torch.ones(30), LINE), "p"),
        (lambda: reverse_densities(lambda x, t: x, -torch.ones(30), LINE, t_max=1.0, t_min=0.5, steps=2), "start"),
        (
            lambda: reverse_densities(
                lambda x, t: x, torch.ones(30), LINE, t_max=1.0, t_min=0.5, steps=2, killing=lambda x, t: -torch.ones(30)
            ),
            "killing",
        ),
        (lambda: reverse_densities(lambda x, t: x, torch.ones(30), LINE, t_max=1.0, t_min=1.5, steps=2), "t_min"),
    ],
)
def test_what_is_refused(make, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} = "):
        make()
