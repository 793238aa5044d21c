"""The noise's covariance: tiny and huge t, far away, shapes and dtypes, gradients, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from kss.distributions import Circle, Embedded, Empirical, FlatTorus, Gaussian, GaussianMixture, Sphere, SwissRoll
from kss.testing import strategies
from kss.theory import clt

CIRCLE = Circle()
ON = torch.tensor([1.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("t", [1e-3, 1e-6, 1e-12, 1e-40, 1e-100, 1e-300])
def test_small_times_keep_their_digits(t):
    sigma, leading = clt.covariance(CIRCLE, ON, ON, t), clt.small_time_covariance(CIRCLE, ON, t)
    assert float(sigma[1, 1] / leading[1, 1]) == pytest.approx(1, rel=t / 2 + 1e-12)
    if t > 1e-200:  # below, the normal eigenvalue is no double
        assert float(sigma[0, 0] / sigma[1, 1]) == pytest.approx(3 * t / 8, rel=2 * t + 1e-12)
    assert float(sigma[0, 1]) == 0


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_spheres_have_their_closed_constants(k):
    law, t, x = Sphere(k), 1e-5, torch.eye(k + 1, dtype=torch.float64)[0]
    sigma = clt.covariance(law, x, x, t)
    tangential = t ** (1 - k / 2) * (4 * math.pi) ** (-k / 2) / 2 * law.volume
    torch.testing.assert_close(sigma.diagonal()[1:], torch.full((k,), tangential, dtype=torch.float64), rtol=10 * k * t, atol=0)
    assert float(sigma[0, 0]) / tangential == pytest.approx(k * (k + 2) * t / 8, rel=1e-3)


def test_a_normal_law_in_closed_form():
    v, t, x, y = 0.7, 0.3, 0.4, -0.9
    law, z = Gaussian([0.0], v), (x + y) / 2

    def density(at, variance):
        return math.exp(-(at**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)

    factor = density(x - y, 2 * t) * density(z, v + t / 2) / density(x, v + t) / density(y, v + t)
    half, whole = v / (v + t / 2), v / (v + t)
    expected = factor * (half * t / 2 + (half * z - whole * x) * (half * z - whole * y))
    found = clt.covariance(law, [x], [y], t)
    torch.testing.assert_close(found, torch.tensor([[expected]], dtype=torch.float64), rtol=1e-13, atol=0)


def test_large_times_give_the_variance_of_a_mean():
    # All weights equal: m_t^N is the mean of the data.
    for law in (CIRCLE, FlatTorus(2, [1.0, 2.0]), Empirical([[0.0, 0.0], [3.0, 1.0], [1.0, 1.0]])):
        x = torch.zeros(law.dim, dtype=torch.float64) + 0.3
        spread = law.posterior(x, 1e12).covariance()
        torch.testing.assert_close(clt.covariance(law, x, -x, 1e12), spread, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("distance", [1e3, 1e5])
def test_far_from_a_manifold(distance):
    # Seen from far away, the noise is that of the law with weights exp(x.X/t): the nearest arc, widened.
    t, x = 1.0, torch.tensor([distance, 0.0], dtype=torch.float64)
    sigma = clt.covariance(CIRCLE, x, x, t)
    kappa = distance / t
    angle = np.linspace(-12, 12, 4001) / math.sqrt(kappa)
    weight = np.exp(-kappa * (1 - np.cos(angle)))
    p = weight / weight.sum()
    points = np.stack((np.cos(angle) - 1, np.sin(angle)), -1)
    away = points - p @ points
    mass = 2 * math.pi / (angle[1] - angle[0])  # nodes on a whole turn
    expected = mass * (p[:, None] ** 2 * away).T @ away
    np.testing.assert_allclose(sigma.numpy(), expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_where_no_digit_is_left_it_is_refused_and_data_are_not():
    far = torch.tensor([1e9, 0.0], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"x = .*nearer to the data"):
        clt.covariance(CIRCLE, far, far, 1e-3)
    with pytest.raises(ValueError, match="nearer to the data"):
        clt.finite_sample_bias(CIRCLE, far, 1e-3, 10)
    data = Empirical([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert torch.equal(clt.covariance(data, far, far, 1e-3), torch.zeros(2, 2, dtype=torch.float64))
    huge = torch.tensor([1e200, 3e200], dtype=torch.float64)
    assert torch.equal(clt.covariance(data, huge, huge, 1e-3), torch.zeros(2, 2, dtype=torch.float64))
    # Far out the noise of a normal law is larger than any double.
    assert clt.covariance(Gaussian([0.0], 1.0), [1e5], [1e5], 1e-3).item() == math.inf


def test_points_far_apart_do_not_know_each_other():
    for law in (CIRCLE, SwissRoll(2), GaussianMixture([[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])):
        x, y = law.sample(2, 1)
        y = y if float((x - y).norm()) > 0 else y + 1
        assert float(clt.covariance(law, x, y, 1e-15).abs().max()) == 0


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(strategies.cases(strategies.distributions(), low=-2.0, high=1.0))
def test_exchanging_the_points_transposes(case):
    y = case.x + math.sqrt(case.t) / 2
    one, other = clt.covariance(case.law, case.x, y, case.t), clt.covariance(case.law, y, case.x, case.t)
    torch.testing.assert_close(one, other.mT, rtol=1e-8, atol=1e-10 * float(one.abs().max()) + 1e-300)
    diagonal = clt.covariance(case.law, case.x, case.x, case.t)
    assert float(torch.linalg.eigvalsh(diagonal).min()) >= -1e-9 * float(diagonal.abs().max())


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(strategies.cases(strategies.datasets().map(Empirical), low=-2.0, high=1.0))
def test_weights_and_posteriors_agree_on_data(case):
    pair = clt._pair(case.law, case.x, case.x, case.t, with_covariance=True)
    from_posteriors = clt._scaled(pair.middle + pair.from_x.unsqueeze(-1) * pair.from_y.unsqueeze(-2), pair, case.x)
    from_weights = clt.plug_in_covariance(case.law.points, case.x, case.t)
    # What is lost is the rounding of the exponents and of the mean, whose size is that of the data.
    size = float(case.law.points.abs().max()) ** 2
    loss = 1e-13 * (1 + float(((case.law.points - case.x) ** 2).sum(-1).max()) / case.t)
    # Where one point has nearly all weight, what counts is a product of differences of means, N |w|^2 e e' at the most.
    product = 1e-15 * math.sqrt(size * len(case.law) * float(from_weights.abs().max()))
    atol = product + len(case.law) * (1e-28 + loss * 1e-12) * (1 + size)
    torch.testing.assert_close(from_weights, from_posteriors, rtol=loss, atol=atol)
    torch.testing.assert_close(clt.covariance(case.law, case.x, case.x, case.t), from_weights, rtol=0, atol=0)


def test_shapes_dtypes_blocks_and_gradients(monkeypatch):
    data = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    law = Empirical(data)
    x, y = data[:12].reshape(3, 4, 3) + 0.1, data[20:24]
    t = torch.tensor([[0.1], [0.5], [2.0]], dtype=torch.float64)
    whole = clt.covariance(law, x, y, t)
    assert whole.shape == (3, 4, 3, 3)
    torch.testing.assert_close(whole[2, 1], clt.covariance(law, x[2, 1], y[1], 2.0), rtol=1e-12, atol=1e-15)
    monkeypatch.setattr(clt, "BLOCK", 300)
    torch.testing.assert_close(clt.covariance(law, x, y, t), whole)
    assert clt.covariance(CIRCLE, x[..., :2], y[:, :2], t).shape == (3, 4, 2, 2)
    assert clt.covariance(CIRCLE, torch.ones(2), torch.ones(2), 0.1).dtype == torch.float64  # the law's parameters are
    assert clt.plug_in_covariance(data.float(), x.float(), 0.1).dtype == torch.float32
    assert clt.covariance(law, np.zeros((0, 3)), np.zeros((0, 3)), 0.1).shape == (0, 3, 3)
    for function in (lambda z: clt.covariance(CIRCLE, z, z + 0.1, 0.3), lambda z: clt.plug_in_covariance(data[:, :2], z, 0.3)):
        start = torch.tensor([0.9, 0.2], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(function, (start,))


def test_embedding_adds_nothing():
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    law, x = Embedded(CIRCLE, 4, turn), torch.tensor([1.02, 0.1], dtype=torch.float64)
    inside = turn[:, :2] @ clt.covariance(CIRCLE, x, x, 0.01) @ turn[:, :2].mT
    place = turn @ torch.tensor([1.02, 0.1, 0.3, -0.2], dtype=torch.float64)
    torch.testing.assert_close(clt.covariance(law, place, place, 0.01), inside, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        clt.small_time_covariance(law, place, 0.01), turn[:, :2] @ clt.small_time_covariance(CIRCLE, x, 0.01) @ turn[:, :2].mT
    )


def test_offsets_are_projected_and_zero_is_the_small_time_limit():
    zero = clt.tangential_covariance(CIRCLE, ON, [0.0, 0.0], 0.01)
    assert torch.equal(zero, clt.small_time_covariance(CIRCLE, ON, 0.01))
    assert torch.equal(clt.tangential_covariance(CIRCLE, ON, [5.0, 0.0], 0.01), zero)
    along = clt.tangential_covariance(CIRCLE, ON, [[0.0, 0.1], [0.0, 0.2]], 0.01)
    assert along.shape == (2, 2, 2)
    assert float(along[1, 1, 1]) < 0


def test_normal_ratio_by_hand():
    torch.testing.assert_close(clt.normal_ratio([[[1.0]]], 0.8), torch.tensor([[0.3]], dtype=torch.float64))
    assert torch.equal(clt.normal_ratio(np.zeros((2, 2, 3)), 0.1), torch.zeros(3, 3, dtype=torch.float64))
    minimal = [[[1.0], [0.0]], [[0.0], [-1.0]]]  # H = 0, and noise all the same
    torch.testing.assert_close(clt.normal_ratio(minimal, 0.4), torch.tensor([[0.2]], dtype=torch.float64))


def test_score_covariance_and_bias_scale():
    sigma, t = clt.covariance(CIRCLE, ON, ON, 0.1), 0.1
    torch.testing.assert_close(clt.score_covariance(CIRCLE, ON, ON, t, 50), sigma / t**2 / 50)
    torch.testing.assert_close(clt.finite_sample_bias(CIRCLE, ON, t, 100), clt.finite_sample_bias(CIRCLE, ON, t, 50) / 2)
    assert float(clt.score_covariance(CIRCLE, ON, ON, 1e-200, 10)[1, 1]) == pytest.approx(
        1e299 * math.pi / math.sqrt(4 * math.pi), rel=1e-9
    )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: clt.covariance(CIRCLE, [1.0, 0.0], [1.0, 0.0], 0.0), "t"),
        (lambda: clt.covariance(CIRCLE, [1.0], [1.0], 0.1), "x"),
        (lambda: clt.covariance(CIRCLE, [math.nan, 0.0], [1.0, 0.0], 0.1), "x"),
        (lambda: clt.plug_in_covariance(np.zeros((0, 2)), [1.0, 0.0], 0.1), "points"),
        (lambda: clt.score_covariance(CIRCLE, [1.0, 0.0], [1.0, 0.0], 0.1, 0), "n"),
        (lambda: clt.finite_sample_bias(CIRCLE, [1.0, 0.0], 0.1, 0), "n"),
        (lambda: clt.normal_ratio([[1.0, 2.0]], 0.1), "second_form"),
    ],
)
def test_bad_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()
