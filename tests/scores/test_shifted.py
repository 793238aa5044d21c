"""The score at a later time against closed forms."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.scores import TimeShifted

X = torch.tensor([[0.3, 0.4], [1.5, -0.2], [0.0, 3.0]], dtype=torch.float64)


def pair_score(x, t):
    """Of the points (1, 0) and (-1, 0): `(tanh(x_1/t) e_1 - x)/t`."""
    pull = torch.zeros_like(x)
    pull[..., 0] = torch.tanh(x[..., 0] / t)
    return (pull - x) / torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1)


PAIR = Empirical([[1.0, 0.0], [-1.0, 0.0]])
SHIFTS = {
    "number": (0.7, lambda t: 0.7),
    "zero": (0.0, lambda t: 0.0),
    "tensor": (torch.tensor(0.7, dtype=torch.float64), lambda t: 0.7),
    "function": (lambda t: 2 * t, lambda t: 2 * t),
    "constant function": (lambda t: 0.1, lambda t: 0.1),
}


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("t", [1e-3, 0.5, 20.0])
def test_it_is_the_score_at_t_plus_h(name, t):
    shift, exact = SHIFTS[name]
    shifted = TimeShifted(PAIR, shift)
    expected = pair_score(X, t + exact(t))
    torch.testing.assert_close(shifted.score(X, t), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shifted.denoise(X, t), X + t * expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2), (1,)])
def test_each_place_has_its_own_noise(shape):
    x = torch.randn(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 2.0, math.prod(shape), dtype=torch.float64).reshape(shape)
    for shift, exact in SHIFTS.values():
        found = TimeShifted(PAIR, shift).score(x, t)
        torch.testing.assert_close(found, pair_score(x, t + exact(t)), rtol=1e-12, atol=1e-12)


def test_a_gaussian_and_any_base():
    law = Gaussian([1.0, 0.0], 2.0)
    expected = -(X - torch.tensor([1.0, 0.0])) / (2.0 + 0.3 + 0.4)
    asked = []

    def only_floats(x, t):
        asked.append(t)
        assert isinstance(t, float)
        return law.score(x, t)

    for base in (law, law.score, only_floats):
        torch.testing.assert_close(TimeShifted(base, 0.4).score(X, 0.3), expected, rtol=1e-13, atol=1e-13)
    assert asked == [pytest.approx(0.7)]


def test_gradients_types_and_what_is_shown():
    x = X.clone().requires_grad_()
    TimeShifted(Gaussian([0.0, 0.0], 1.0), 0.5).score(x, 0.5).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(X, -0.5))
    narrow = TimeShifted(Empirical(torch.zeros(1, 2)), 0.5)
    assert narrow.score(torch.ones(2), 0.5).dtype == narrow.denoise(torch.ones(2), 0.5).dtype == torch.float32
    assert narrow.score(np.ones(2), 0.5).dtype == torch.float64
    assert narrow.score(torch.zeros(0, 2), 0.5).shape == (0, 2)
    assert repr(TimeShifted(Empirical([[0.0]]), 0.5)) == "TimeShifted(Empirical([[0.0]]), 0.5)"
    assert repr(TimeShifted(Empirical([[0.0]]), lambda t: t)) == "TimeShifted(Empirical([[0.0]]), function of t)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TimeShifted(PAIR, -0.1), r"^shift = -0\.1: expected a variance >= 0"),
        (lambda: TimeShifted(PAIR, math.nan), r"^shift = nan: expected finite numbers"),
        (lambda: TimeShifted(PAIR, [0.1, 0.2]), r"^shift = \[0\.1, 0\.2\]: expected a variance >= 0"),
        (lambda: TimeShifted(PAIR, np.eye(2)), r"^shift = .*\(2, 2\).*expected a variance >= 0"),
        (lambda: TimeShifted(PAIR, lambda t: -t).score(X, 1.0), r"^shift\(t\) = .*expected a variance >= 0, or one for each t"),
        (lambda: TimeShifted(PAIR, lambda t: np.eye(2)).score(X, 1.0), r"^shift\(t\) = .*\(2, 2\).*expected a variance >= 0, or one"),
        (lambda: TimeShifted(PAIR, 0.1).score(0.3, 1.0), r"^x = .*expected points of shape"),
        (lambda: TimeShifted(PAIR, 0.1).score([math.nan, 0.0], 1.0), r"^x = .*expected finite numbers"),
        (lambda: TimeShifted(PAIR, 0.1).score(X, 0.0), r"^t = 0\.0: expected a noise variance t > 0"),
        (lambda: TimeShifted(PAIR, 0.1).score(X, [1.0, 2.0]), r"^t = .*expected a number or a shape that broadcasts"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
