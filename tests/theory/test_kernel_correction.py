"""Bias and noise of corrected kernels: special cases, symbols, and what is refused."""

import math

import numpy as np
import pytest
import sympy
import torch

from kss.theory import bias_variance
from kss.theory.kernels import correction


def test_order_one_is_mollification() -> None:
    k, R, t, h = sympy.symbols("k R t h", positive=True)
    assert sympy.simplify(correction.sphere_bias(1, k, R, t, h) + k * h / (2 * R * t)) == 0
    for problem in ("pointwise", "path"):
        noise = correction.corrected_noise(0.02, 0.01, 300, order=1, k=3, density=0.4, problem=problem)
        both = bias_variance.two_term_error(0.02, 0.01, 300, k=3, curvature_square=0.0, density=0.4, problem=problem)
        assert noise == pytest.approx(both, rel=1e-14)


def test_order_two_is_the_constant_of_the_sphere() -> None:
    k, R, t, h = sympy.symbols("k R t h", positive=True)
    assert sympy.simplify(correction.sphere_bias(2, k, R, t, h) - 3 * k * (2 - k) * h**2 / (4 * R**3 * t)) == 0
    assert correction.sphere_bias(2, 2, 1.0, 0.1, 0.1) == 0
    assert correction.corrected_sphere_bias(2, 2, 2.0, 0.1, 0.1) == pytest.approx(-2 * 0.01 / 32)
    assert correction.sphere_bias(3, 4, 1.0, 0.1, 0.1) == 0
    assert correction.plane_curve_bias(0.1, 0.01, 0.5, 0.0, 0.0)[0] == pytest.approx(-correction.sphere_bias(2, 1, 2.0, 0.1, 0.01))


def test_without_bandwidth_every_order_is_the_raw_score() -> None:
    raw = correction.corrected_noise(0.0, 0.01, 100, order=1, k=2, density=0.1, problem="path")
    for order in (2, 3, 5):
        assert correction.corrected_noise(0.0, 0.01, 100, order=order, k=2, density=0.1, problem="path") == pytest.approx(raw, rel=1e-12)


def test_noise_takes_arrays_and_factors_are_its_limit() -> None:
    h = np.array([1.0, 2.0])
    noise = correction.corrected_noise(h, 1e-9, 50, order=3, k=1, density=0.2, problem="pointwise")
    plain = correction.corrected_noise(h, 1e-9, 50, order=1, k=1, density=0.2, problem="pointwise")
    np.testing.assert_allclose(noise / plain, correction.noise_factor(3, 1, "pointwise"), rtol=1e-6)


def test_the_curvature_bias_of_a_product_of_circles_is_a_vector() -> None:
    form = torch.zeros(2, 2, 2, dtype=torch.float64)
    form[0, 0, 0], form[1, 1, 1] = -1.0, -0.5
    torch.testing.assert_close(
        correction.curvature_bias(form, [[0.2, 0.1], [0.1, 0.4]], 0.1), torch.tensor([-1.0, -1.0], dtype=torch.float64)
    )
    torch.testing.assert_close(correction.curvature_bias(form, torch.zeros(2, 2), 0.1), torch.zeros(2, dtype=torch.float64))
    assert correction.least_curvature_bias(0.5, 0.4, 0.1) == pytest.approx(1.0)


def test_the_ends_of_a_curve() -> None:
    assert correction.end_constant(1) == pytest.approx((math.sqrt(2) - 1) / (3 * math.sqrt(2 * math.pi)), rel=1e-14)
    assert correction.end_bias(0.1, 0.04, 2.0) == pytest.approx(correction.end_constant(1) * 2.0 * 0.008 / 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: correction.sphere_bias(0, 1, 1.0, 0.1, 0.1), r"^order = 0: expected an integer >= 1"),
        (lambda: correction.noise_factor(2, 1, "both"), r'^problem = .both.: expected "path" or "pointwise"'),
        (lambda: correction.curvature_bias([[1.0]], [[-1.0]], 0.1), r"^tangential = .*positive semidefinite"),
        (lambda: correction.curvature_bias([[1.0]], [[1.0, 0.5]], 0.1), r"^tangential = .*symmetric"),
        (lambda: correction.curvature_bias([1.0], [[1.0]], 0.1), r"^second_form = .*shape \(1, 1\)"),
        (lambda: correction.curvature_bias([[1.0]], [[1.0]], 0.0), r"^t = 0\.0"),
    ],
)
def test_what_is_refused(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
