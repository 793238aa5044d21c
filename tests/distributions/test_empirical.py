"""The empirical law against more than fifty digits, at every size that its arguments can have."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from criterion import DATA_SETS, DIMENSIONS, RELATIVE, beyond_criterion, data_set
from high_precision import NEGLIGIBLE, EmpiricalReference

from kss.distributions import Empirical


@pytest.mark.parametrize("dim", DIMENSIONS)
@pytest.mark.parametrize("kind", DATA_SETS)
def test_errs_by_no_more_than_its_inputs_do(kind, dim):
    assert beyond_criterion(data_set(kind, 24, dim), [10.0**k for k in range(-8, 9, 2)]) == []


@pytest.mark.parametrize("dim", DIMENSIONS)
@pytest.mark.parametrize("kind", ["plain", "pairs"])
def test_errs_by_no_more_than_its_inputs_do_for_a_thousand_points(kind, dim):
    only = ("on a point", "near the midpoint", "typical", "1e4 away")
    assert beyond_criterion(data_set(kind, 1000, dim), [1e-8, 1e-2, 1.0, 1e8], only) == []


@pytest.mark.slow
@pytest.mark.parametrize("dim", DIMENSIONS)
@pytest.mark.parametrize("kind", DATA_SETS)
def test_errs_by_no_more_than_its_inputs_do_for_a_thousand_points_of_every_kind(kind, dim):
    assert beyond_criterion(data_set(kind, 1000, dim), [10.0**k for k in (-8, *range(-7, 8, 2), 8)]) == []


EXTREMES = [1e-300, 1e-150, 1e-20, 1e20, 1e150, 1e300]


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e20, 1e150])
@pytest.mark.parametrize("dim", [1, 8])
def test_is_never_nan_and_infinite_only_where_the_truth_is(scale, dim):
    rng = np.random.default_rng(dim)
    base = rng.standard_normal((6, dim))
    points = scale * np.concatenate((base, base + 1e-4 * rng.standard_normal(base.shape), base[:2]))
    direction = rng.standard_normal(dim)
    direction /= np.linalg.norm(direction)
    # The exponents need |x|^2/t to the last of its 4700 binary digits.
    reference, law = EmpiricalReference(points, bits=5200), Empirical(points)
    for t in EXTREMES:
        where = np.stack([points[0], points[0] + math.sqrt(t) * direction, 1e200 * direction, -1e100 * direction])
        posterior = law.posterior(where, t)
        score = law.score(where, t)
        for value in (*vars_of(posterior), score, law.score_jacobian(where, t)):
            assert not value.isnan().any(), f"t = {t:g}"
        # The mean stays in the box around the data, and is not what is left of x.
        outside = np.maximum(posterior.mean.numpy() - points.max(0), points.min(0) - posterior.mean.numpy())
        assert outside.max() <= 8 * sys.float_info.epsilon * np.abs(points).max()
        for x, found, log_density in zip(where, score.numpy(), posterior.log_evidence.numpy(), strict=True):
            with np.errstate(all="ignore"):  # what an ulp could cause overflows, and is not asked for
                exact = reference.at(x, t)
            assert np.isfinite(exact.score).all() == np.isfinite(found).all()
            assert np.isfinite(exact.log_density) == np.isfinite(log_density)
            if np.isfinite(log_density):
                # Relative alone is enough: none of these places is a near tie.
                np.testing.assert_allclose(log_density, exact.log_density, rtol=RELATIVE)
            if np.isfinite(found).all():
                with np.errstate(over="ignore"):
                    left_out = len(points) * math.exp(NEGLIGIBLE) * np.abs(points).max() / t
                assert (np.abs(found - exact.score) <= RELATIVE * np.abs(exact.score).max() + left_out).all()


def vars_of(posterior):
    return posterior.displacement, posterior.mean, posterior.log_evidence, posterior.covariance(), posterior.covariance_trace


@pytest.mark.parametrize("t", [1e-300, 1e-8, 1.0, 1e8, 1e300])
@pytest.mark.parametrize("copies", [1, 3])
def test_one_point_is_exact(t, copies):
    point, x = 0.7, 0.3
    law = Empirical([[point]] * copies)
    exact = (Fraction(point) - Fraction(x)) / Fraction(t)
    assert float(law.score([x], t)) == pytest.approx(float(exact), rel=RELATIVE, abs=0)
    # The logarithm of t and the square are each right to a few ulps of the larger of the two.
    log_density = -(float((Fraction(x) - Fraction(point)) ** 2 / (2 * Fraction(t)))) - math.log(2 * math.pi * t) / 2
    assert float(law.log_density([x], t)) == pytest.approx(log_density, rel=RELATIVE)
    assert float(law.posterior([x], t).covariance_trace) == 0.0
    assert float(law.score_jacobian([x], t)) == pytest.approx(-1 / t, rel=RELATIVE, abs=0)


@pytest.mark.parametrize("t", [1e-300, 1e-30, 1e-8, 1.0, 1e8, 1e300])
def test_an_exact_tie_is_kept(t):
    # Every number here is a float, so at the midpoint the weights are 1/2 whatever t.
    posterior = Empirical([[-1.0, 4.0], [1.0, 4.0]]).posterior([0.0, 5.0], t)
    assert posterior.displacement.tolist() == [0.0, -1.0]
    torch.testing.assert_close(posterior.covariance(), torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64), rtol=RELATIVE, atol=0)


@pytest.mark.parametrize("exponent", [-1.0, -36.0, -300.0, -560.0])
def test_small_weights_keep_their_relative_accuracy_at_the_origin(exponent):
    # x and its nearest point are zero, whose ulp is nothing: the answer is the weight of the other point.
    t = -1 / (2 * exponent)
    weight = math.exp(exponent) / (1 + math.exp(exponent))
    # exp amplifies the rounding of its argument, up to half an ulp, by the argument.
    rel = 4 * abs(exponent) * sys.float_info.epsilon + RELATIVE
    assert float(Empirical([[0.0], [1.0]]).posterior([0.0], t).displacement) == pytest.approx(weight, rel=rel, abs=0)


@pytest.mark.parametrize("t", [10.0**k for k in range(-16, 1)])
def test_a_sum_that_the_fast_route_cannot_resolve(t):
    # A pair 2^-13 apart seen from 1e4 away is exactly tied, while a matrix product on centered data errs by up to 1e4 in the
    # exponents at t = 1e-16, and by 1e-4 at t = 1e-8, which the covariance would feel.
    half = 2.0**-14
    law = Empirical(np.array([[-half, 0.0], [half, 0.0], [0.3, -3.1]]))
    x = np.array([[0.0, 1e4 * (1 + k / 7)] for k in range(8)])
    found = law.posterior(x, t)
    assert found.mean[:, 0].abs().max() <= 1e-12 * 1e4
    np.testing.assert_allclose(found.displacement[:, 1].numpy(), -x[:, 1], rtol=RELATIVE)
    np.testing.assert_allclose(found.covariance_trace.numpy(), np.full(8, half**2), rtol=RELATIVE)
    np.testing.assert_allclose(found.covariance()[:, 0, 0].numpy(), np.full(8, half**2), rtol=RELATIVE)


# --- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1e-3, 1e-1, 1e2])
@pytest.mark.parametrize(("n", "offset"), [(20, 0.0), (20, 1e6), (6000, 0.0)])
def test_gradients_flow_through_x_by_either_route(t, n, offset):
    # With the large offset rows are done again by differences, so the second route is differentiated too.
    law = Empirical(torch.from_numpy(data_set("plain", n, 3)) * torch.tensor([1.0, 1.0, 1e-3]) + offset)
    x = (law.points[:5] + 0.03).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_density(x, t).sum(), x)
    score = law.score(x, t)
    # The derivative of a sum is as accurate as the sum: 1e-12 of the largest term, |x - x_i|/t.
    size = float((x.detach()[:, None] - law.points).norm(dim=-1).max()) / t
    torch.testing.assert_close(gradient, score.detach(), rtol=0, atol=1e-11 * size)
    rows = [torch.autograd.grad(score[:, k].sum(), x, retain_graph=True)[0] for k in range(3)]
    jacobian = law.score_jacobian(x.detach(), t)
    size = 1 / t + float((law.points - law.points.mean(0)).norm(dim=-1).max()) ** 2 / t**2
    torch.testing.assert_close(torch.stack(rows, 1), jacobian, rtol=0, atol=1e-11 * size)
    torch.testing.assert_close(jacobian, jacobian.mT, rtol=0, atol=1e-14 * size)


# --- the contract of every argument -------------------------------------------------------------------------------------


def test_float32_comes_back_as_float32_and_is_computed_in_float64():
    points, x = torch.from_numpy(data_set("plain", 30, 4)).float(), torch.zeros(2, 4)
    narrow, wide = Empirical(points), Empirical(points.double())
    assert narrow.score(x, 0.1).dtype == torch.float32
    torch.testing.assert_close(narrow.score(x, 0.1), wide.score(x.double(), 0.1).float(), rtol=0, atol=0)
    assert narrow.score(x.double(), 0.1).dtype == torch.float64
    assert wide.score(x, 0.1).dtype == torch.float64
    # A scalar t does not widen; and its float64 value is what is divided by.
    assert narrow.score(x, torch.tensor(0.1, dtype=torch.float64)).dtype == torch.float32
    assert narrow.score(x, torch.full((2,), 0.1, dtype=torch.float64)).dtype == torch.float64
    assert torch.isfinite(Empirical(torch.ones(1, 1)).score(torch.ones(1), 1e-300)).all()


def test_arrays_and_lists_are_accepted_and_tensors_come_back():
    points = data_set("plain", 10, 2)
    expected = Empirical(torch.from_numpy(points)).score(torch.zeros(2, dtype=torch.float64), 0.5)
    for given in (points, points.tolist()):
        found = Empirical(given).score(np.zeros(2), np.float64(0.5))
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, expected)
    assert Empirical(np.array([[0, 1], [1, 0]])).score([0, 0], 1).dtype == torch.float64


@pytest.mark.parametrize(
    ("x_shape", "t_shape", "batch"),
    [((3,), (), ()), ((5, 3), (), (5,)), ((5, 3), (5,), (5,)), ((3,), (4,), (4,)), ((2, 1, 3), (5,), (2, 5)), ((0, 3), (), (0,))],
)
def test_x_and_t_broadcast(x_shape, t_shape, batch):
    law, generator = Empirical(data_set("plain", 10, 3)), torch.Generator().manual_seed(0)
    x = torch.randn(x_shape, dtype=torch.float64, generator=generator)
    t = torch.rand(t_shape, dtype=torch.float64, generator=generator) + 0.1
    assert law.log_density(x, t).shape == batch
    assert law.score(x, t).shape == law.denoise(x, t).shape == (*batch, 3)
    assert law.score_jacobian(x, t).shape == law.posterior(x, t).covariance().shape == (*batch, 3, 3)
    assert law.posterior(x, t).covariance_trace.shape == batch
    for index in np.ndindex(batch):
        one = law.score(x.expand(*batch, 3)[index], t.expand(batch)[index])
        torch.testing.assert_close(law.score(x, t)[index], one, rtol=1e-12, atol=1e-12)


def test_sampling_draws_the_points_uniformly():
    law, n = Empirical([[0.0], [1.0], [2.0], [3.0]]), 100_000
    drawn = law.sample(n, generator=7)
    counts = torch.tensor([(drawn == k).sum() for k in range(4)])
    assert counts.sum() == n
    # Hoeffding and a union bound: P(any |count/n - 1/4| > e) <= 8 exp(-2 n e^2) = 1e-9.
    assert (counts / n - 0.25).abs().max() < math.sqrt(math.log(8e9) / (2 * n))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda law: law.score([0.0, 0.0], 0.0), r"^t = 0\.0: expected a noise variance t > 0"),
        (lambda law: law.score([0.0, 0.0], -1.0), r"^t = -1\.0: expected a noise variance t > 0"),
        (lambda law: law.score([0.0, 0.0], float("nan")), r"^t = nan: expected finite numbers"),
        (lambda law: law.score([0.0, 0.0], float("inf")), r"^t = inf: expected finite numbers"),
        (lambda law: law.score([[0.0, 0.0]] * 3, [1.0, 1.0]), r"^t = .*expected a number or a shape that broadcasts with \(3,\)"),
        (lambda law: law.score([0.0, float("nan")], 1.0), r"^x = .*expected finite numbers"),
        (lambda law: law.score([0.0], 1.0), r"^x = .*\(1,\).*expected points of shape \(\.\.\., 2\)"),
        (lambda law: law.score(0.0, 1.0), r"^x = .*expected points of shape \(\.\.\., 2\)"),
        (lambda law: law.score([1j, 0.0], 1.0), r"^x = .*expected"),
        (lambda law: law.score("ab", 1.0), r"^x = 'ab': expected an array of real numbers"),
        (lambda law: law.sample(0, generator=0), r"^n = 0: expected an integer >= 1"),
        (lambda law: law.sample(1, generator=True), r"^generator = True: expected"),
        (lambda law: law.diffuse(1, 0.0, generator=0), r"^t = 0\.0: expected"),
        (lambda law: Empirical([]), r"^points = .*expected a non-empty array of shape \(n, d\)"),
        (lambda law: Empirical(torch.zeros(0, 2)), r"^points = .*\(0, 2\).*expected a non-empty array"),
        (lambda law: Empirical(torch.zeros(3, 0)), r"^points = .*\(3, 0\).*expected a non-empty array"),
        (lambda law: Empirical([0.0, 1.0]), r"^points = .*\(2,\).*expected a non-empty array"),
        (lambda law: Empirical([[0.0], [math.inf]]), r"^points = .*expected finite numbers"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call(Empirical([[0.0, 0.0], [1.0, 1.0]]))


# --- memory ---------------------------------------------------------------------------------------------------------------

GROWTH = """
import resource, torch
from kss.distributions import Empirical
torch.set_num_threads(1)
law = Empirical(torch.randn({n}, {d}, generator=torch.Generator().manual_seed(0)))
x = torch.randn({b}, {d}, generator=torch.Generator().manual_seed(1)) + {offset}
law.score(x[:2], 0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
law.score(x, 0.5)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in kilobytes on Linux only")
@pytest.mark.parametrize(("n", "d", "b", "offset"), [(200_000, 8, 1000, 0.0), (20_000, 8, 500, 1e6)])
def test_memory_is_bounded(n, d, b, offset):
    # All pairs at once would take 1600 MB; with the offset, by differences, 640 MB.
    run = subprocess.run([sys.executable, "-c", GROWTH.format(n=n, d=d, b=b, offset=offset)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 200
