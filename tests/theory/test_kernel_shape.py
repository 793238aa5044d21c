"""Shape of kernels: closed forms against each other and against laws of the package; what is rejected."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Circle, FlatTorus, Gaussian
from kss.theory import clt, mollification
from kss.theory.kernels import shape


def test_round_kernels_see_the_mean_curvature():
    torus = FlatTorus(2, radius=[1.0, 2.0])
    form = np.zeros((2, 2, 2))
    form[0, 0, 0], form[1, 1, 1] = -1.0, -0.5
    found = shape.curvature_term(form, 0.02 * np.eye(2), 0.01)
    expected = mollification.normal_bias(torus.mean_curvature([1.0, 0.0, 2.0, 0.0])[[0, 2]], 0.02, 0.01)
    torch.testing.assert_close(found, expected)
    assert float(shape.circle_bias(2.0, 1e-9, 1e-9, 1e-9)) == pytest.approx(-0.25, rel=1e-8)
    saddle = [[[1.0, 0.0], [0.0, -1.0]]]
    assert float(shape.curvature_term(saddle, np.ones((2, 2)), 0.1)) == 0.0


def test_covariances_of_normal_laws():
    spread, t = [4.0, 0.1, 0.0], 0.02
    law = Gaussian([0.0, 0.0, 0.0], np.diag(spread))
    x = torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(shape.gaussian_noise(spread, t), clt.covariance(law, x, x, t).diagonal(), rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(shape.local_variances(spread, t), law.posterior(x, t).covariance().diagonal(), rtol=1e-10, atol=1e-15)
    assert float(shape.gaussian_noise([0.0, 0.0], 1e-300)[0]) == 0.0
    assert float(shape.local_variances([1e-300], 1e300)) == pytest.approx(1e-300)


def test_the_posterior_covariance_across_a_circle():
    h = 1e-3
    across = Circle(2.0).posterior(torch.tensor([2.0, 0.0], dtype=torch.float64), h).covariance()[0, 0]
    assert float(shape.normal_covariance([[[-0.5]]], h)) == pytest.approx(float(across), rel=2e-3)


def test_the_kernel_of_scaled_data():
    A = np.array([[2.0, 1.0], [0.0, 0.5]])
    kernel = shape.data_scale_kernel(A, 0.3).numpy()
    np.testing.assert_allclose(np.linalg.inv(A) @ kernel @ np.linalg.inv(A).T, 0.3 * np.eye(2), atol=1e-15)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: shape.curvature_term([[[1.0, 2.0], [0.0, 1.0]]], np.eye(2), 0.1), "second_form"),
        (lambda: shape.curvature_term([[1.0]], np.eye(1), 0.1), "second_form"),
        (lambda: shape.curvature_term([[[1.0]]], np.eye(2), 0.1), "tangential"),
        (lambda: shape.curvature_term([[[1.0]]], [[-1.0]], 0.1), "tangential"),
        (lambda: shape.curvature_term([[[1.0]]], [[1.0]], 0.0), "t"),
        (lambda: shape.gaussian_noise([-1.0], 0.1), "variances"),
        (lambda: shape.local_variances([1.0], math.nan), "h"),
        (lambda: shape.normal_covariance([[[1.0]]], -1.0), "h"),
        (lambda: shape.data_scale_kernel([[1.0, 1.0], [1.0, 1.0]], 1.0), "scale"),
        (lambda: shape.data_scale_kernel([[1.0]], 0.0), "size"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()
