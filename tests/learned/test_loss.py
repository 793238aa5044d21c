"""The denoising loss and its two parts."""

import math

import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.learned import denoising_loss, excess_loss, least_loss

POINTS = torch.tensor([[-1.0, 0.5], [1.0, 0.25], [0.5, -1.0]], dtype=torch.float64)


class Zero:
    def denoise(self, x, t):
        return torch.zeros_like(x)


def test_values_of_a_denoiser_that_says_zero():
    x = POINTS + 0.1
    w = 1 / 0.5 + 1 / 2.0
    torch.testing.assert_close(denoising_loss(Zero(), POINTS, x, 0.5, variance=2.0), w * POINTS.square().sum(-1))
    law = Gaussian([0.0, 0.0], 3.0)  # m = 3 x/3.5, tr C = 2 * 3 * 0.5/3.5
    torch.testing.assert_close(excess_loss(Zero(), law, x, 0.5, variance=2.0), w * (3 / 3.5) ** 2 * x.square().sum(-1))
    torch.testing.assert_close(least_loss(law, x, 0.5, variance=2.0), torch.full((3,), w * 2 * 3 * 0.5 / 3.5, dtype=torch.float64))


def test_the_exact_denoiser_has_no_excess_and_one_point_no_floor():
    law = Empirical(POINTS)
    assert excess_loss(law, law, POINTS, 0.1, variance=1.0).tolist() == [0.0] * 3
    assert least_loss(Empirical([[1.0, 2.0]]), POINTS, 0.1, variance=1.0).tolist() == [0.0] * 3


def test_shapes_dtypes_and_extreme_noise():
    law, t = Empirical(POINTS), torch.tensor([1e-300, 1.0, 1e300], dtype=torch.float64)
    for value in (
        denoising_loss(law, POINTS, POINTS, t, variance=1.0),
        excess_loss(law, law, POINTS, t, variance=1.0),
        least_loss(law, POINTS, t, variance=1.0),
    ):
        assert value.shape == (3,)
        assert torch.isfinite(value).all()
    narrow = Empirical(POINTS.float())
    assert least_loss(narrow, POINTS.float(), 0.1, variance=1.0).dtype == torch.float32
    assert excess_loss(narrow, narrow, POINTS.float(), 0.1, variance=1.0).dtype == torch.float32


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan])
def test_bad_variances_are_named(variance):
    with pytest.raises(ValueError, match="variance = "):
        least_loss(Empirical(POINTS), POINTS, 0.1, variance=variance)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="clean = "):
        denoising_loss(Zero(), POINTS[:2], POINTS, 0.1, variance=1.0)

    class Short:
        def denoise(self, x, t):
            return x[:1]

    with pytest.raises(ValueError, match="expected a denoiser whose values"):
        denoising_loss(Short(), POINTS, POINTS, 0.1, variance=1.0)
    with pytest.raises(ValueError, match=r"t = 0.0: expected a noise variance"):
        denoising_loss(Zero(), POINTS, POINTS, 0.0, variance=1.0)
