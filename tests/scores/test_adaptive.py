"""The kernel that follows the data against sums written from its definition; its shape against closed forms; that it is no gradient."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Circle, Empirical, Gaussian
from kss.kernels import GaussianKernel
from kss.scores import AdaptivelyMollified, Mollified

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((12, 2)) * np.array([2.0, 0.3])
X = np.array([[0.3, 0.1], [-2.0, 0.4], [5.0, -3.0]])


def posterior(points, x, t):
    """Mean and covariance of the data under their weights, from the definition."""
    log_weight = -((x - points) ** 2).sum(-1) / (2 * t)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ points
    centered = points - mean
    return mean, np.einsum("i,ia,ib->ab", weight, centered, centered)


def direct(points, x, t, h, scale, floor):
    """`E s_t(x + V)` by a sum over a fine grid, through the symmetric root of S."""
    values, vectors = np.linalg.eigh(scale * posterior(points, x, h)[1] + floor * np.eye(2))
    root = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
    axis = np.linspace(-8, 8, 161)
    total, mass = np.zeros(2), 0.0
    for u in np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2):
        w = math.exp(-(u @ u) / 2)
        if w > 1e-14:
            y = x + root @ u
            total, mass = total + w * (posterior(points, y, t)[0] - y) / t, mass + w
    return total / mass


@pytest.mark.parametrize(("t", "h", "scale", "floor"), [(0.3, 0.4, 1.0, 0.0), (0.2, 0.1, 2.5, 0.05)])
def test_it_is_the_average_over_the_kernel_of_each_point(t, h, scale, floor):
    score = AdaptivelyMollified(Empirical(POINTS), POINTS, h, scale=scale, floor=floor)
    value, error = score.score_with_error(X, t)
    for x, got, allowed in zip(X, value.numpy(), error.numpy(), strict=True):
        expected = direct(POINTS, x, t, h, scale, floor)
        off = np.linalg.norm(got - expected)
        assert off <= allowed + 1e-9
        assert off <= 1e-6 * np.linalg.norm(expected)
    torch.testing.assert_close(score.denoise(X, t), torch.from_numpy(X) + t * value)
    torch.testing.assert_close(score.score(X[1:2], t), value[1:2], rtol=1e-7, atol=1e-9)


def test_the_shape_is_the_posterior_covariance():
    score = AdaptivelyMollified(Empirical(POINTS), POINTS, lambda t: 2 * t, scale=3.0, floor=0.1)
    times = np.array([0.1, 0.2, 5.0])
    expected = np.stack([3 * posterior(POINTS, x, 2 * t)[1] + 0.1 * np.eye(2) for x, t in zip(X, times, strict=True)])
    np.testing.assert_allclose(score.shape(X, times).numpy(), expected, rtol=1e-10, atol=1e-12)
    law = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.01]])
    shape = AdaptivelyMollified(law, law, 0.2).shape(X, 1.0)
    np.testing.assert_allclose(shape.numpy(), np.broadcast_to(np.diag([0.8 / 4.2, 0.002 / 0.21]), (3, 2, 2)), rtol=1e-12)
    h, tangent = 1e-3, torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64))
    shape = AdaptivelyMollified(Circle(), Circle(), h).shape([[1.0, 0.0]], 1.0)[0]
    assert bool(((shape / h - tangent).abs() < 2 * h).all())


def test_one_datum_smooths_nothing_and_equal_shapes_agree_with_a_fixed_kernel():
    base = Empirical(POINTS)
    torch.testing.assert_close(AdaptivelyMollified(base, [[1.0, 2.0]], 0.5).score(X, 0.2), base.score(X, 0.2), rtol=1e-12, atol=1e-12)
    law = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.01]])
    fixed = Mollified(base, GaussianKernel(law.posterior(X[0], 0.2).covariance()))
    torch.testing.assert_close(AdaptivelyMollified(base, law, 0.2).score(X, 0.2), fixed.score(X, 0.2), rtol=1e-6, atol=1e-7)
    wide = Empirical(RNG.standard_normal((9, 5)))
    found, error = AdaptivelyMollified(wide, wide.points[:1], 1.0, floor=0.1).score_with_error(torch.zeros(2, 5), 0.5)
    reference = Mollified(wide, GaussianKernel(0.1)).score(torch.zeros(2, 5), 0.5)
    assert bool(((found - reference).norm(dim=-1) <= error + 0.03 * reference.norm(dim=-1)).all())


def test_it_is_no_gradient():
    score = AdaptivelyMollified(Empirical(POINTS), POINTS, 0.5)
    x, step = X[0], 1e-3
    a, b = (np.array(e) for e in ([step, 0.0], [0.0, step]))
    values = score.score(np.stack([x + a, x - a, x + b, x - b]), 0.3).numpy() / (2 * step)
    turning = (values[0] - values[1])[1] - (values[2] - values[3])[0]
    assert abs(turning) > 0.01  # central differences of a gradient would give 1e-5
    assert not hasattr(score, "unnormalized_log_density")


def test_contract():
    base = Empirical(POINTS)
    narrow = AdaptivelyMollified(Empirical(torch.zeros(1, 2)), torch.zeros(1, 2), 1.0)
    assert narrow.score(torch.ones(2), 0.5).dtype == torch.float32
    assert AdaptivelyMollified(base, base, 0.5).score(torch.zeros(0, 2), 0.3).shape == (0, 2)
    far = AdaptivelyMollified(base, base, 1e-12).score([[1e6, 0.0]], 1e-12)
    assert bool(far.isfinite().all())
    assert repr(AdaptivelyMollified(base, base, lambda t: t)).endswith("function of t, scale=1.0, floor=0.0)")
    for arguments, text in (
        ({"h": 0.0}, "h = 0.0"),
        ({"h": 1.0, "scale": 0.0}, "scale = 0.0"),
        ({"h": 1.0, "floor": -1.0}, "floor = -1.0"),
        ({"h": 1.0, "floor": math.nan}, "floor = nan"),
    ):
        with pytest.raises(ValueError, match=f"^{text}"):
            AdaptivelyMollified(base, base, **arguments)
    with pytest.raises(ValueError, match=r"^h = "):
        AdaptivelyMollified(base, base, [0.1, 0.2])
    with pytest.raises(ValueError, match=r"^data = "):
        AdaptivelyMollified(base, [[1.0, 2.0, 3.0]], 0.5)
    with pytest.raises(ValueError, match=r"^h\(t\)"):
        AdaptivelyMollified(base, base, lambda t: 0 * t).score(X, 0.1)
    with pytest.raises(ValueError, match=r"^t = 0\.0"):
        AdaptivelyMollified(base, base, 1.0).score(X, 0.0)
