"""Gaussian laws and mixtures against linear algebra in ball arithmetic."""

import math
import sys

import flint
import numpy as np
import pytest
import torch
from flint import arb, arb_mat

from kss.distributions import Gaussian, GaussianMixture

EPSILON = sys.float_info.epsilon


@pytest.fixture(autouse=True)
def bits():
    flint.ctx.prec = 400
    yield
    flint.ctx.prec = 53


def column(v):
    return arb_mat([[arb(float(e))] for e in v])


def component(mean, covariance, x, t, weight):
    """`log(pi N(x; mu, S + tI))` and its gradient; and what `8 d eps` of |S| + t, x and mu could change in each."""
    dim = len(mean)
    matrix = arb_mat([[arb(float(covariance[i, j])) + (arb(float(t)) if i == j else 0) for j in range(dim)] for i in range(dim)])
    centered = column(x) - column(mean)
    score = -1 * matrix.solve(centered)
    form = (centered.transpose() * score)[0, 0] / 2
    log = arb(float(weight)).log() + form - matrix.det().log() / 2 - arb(dim) / 2 * (2 * arb.pi()).log()
    s = np.array([float(score[i, 0]) for i in range(dim)])
    inverse = np.array([[float(v) for v in row] for row in matrix.inv().tolist()])
    blur = 8 * dim * EPSILON * (np.linalg.norm(covariance, 2) + t)
    moved = 8 * EPSILON * (np.linalg.norm(x) + np.linalg.norm(mean))
    score_moved = np.linalg.norm(inverse, 2) * (blur * np.linalg.norm(s) + moved)
    log_moved = blur * (s @ s) / 2 + moved * np.linalg.norm(s) + blur * np.abs(np.trace(inverse)) / 2
    return log, score, float(log_moved), float(score_moved)


def exact(means, covariances, weights, x, t):
    """Score and log-density of the mixture, and what is allowed for each."""
    parts = [component(*part[:2], x, t, part[2]) for part in zip(means, covariances, weights, strict=True) if part[2] > 0]
    most = max((log for log, *_ in parts), key=float)
    shares = [(log - most).exp() for log, *_ in parts]
    total = sum(shares, arb(0))
    score = sum((part[1] * (share / total) for part, share in zip(parts, shares, strict=True)), arb_mat(len(x), 1))
    score = np.array([float(score[i, 0]) for i in range(len(x))])
    r = np.array([float(share / total) for share in shares])
    each = np.array([[float(v) for v in part[1].entries()] for part in parts])
    log_moved, score_moved = np.array([part[2] for part in parts]), np.array([part[3] for part in parts])
    spread = np.linalg.norm(each - score, axis=1)
    log = float(most + total.log())
    return (
        score,
        log,
        max(1e-12 * np.linalg.norm(score), float(r @ score_moved + r @ ((log_moved + r @ log_moved) * spread))),
        max(1e-12 * abs(log), float(r @ log_moved) + 8 * len(x) * EPSILON),
    )


def covariance(kind, dim, rng):
    q, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    match kind:
        case "round":
            return np.eye(dim) * 2.5
        case "full":
            v = np.linspace(0.5, 2.0, dim)
        case "graded":
            v = np.logspace(-4, 1, dim)
        case "singular":
            v = np.where(np.arange(dim) < dim // 2, 0.0, 1.0)
        case _:
            return np.zeros((dim, dim))
    matrix = (q * v) @ q.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("dim", [1, 2, 8])
@pytest.mark.parametrize("kind", ["round", "full", "graded", "singular", "zero"])
@pytest.mark.parametrize("count", [1, 3])
def test_score_and_density(kind, dim, count):
    rng = np.random.default_rng([dim, count])
    means, weights = rng.standard_normal((count, dim)), rng.random(count)
    weights /= weights.sum()
    covariances = np.stack([covariance(kind, dim, rng) for _ in range(count)])
    law = GaussianMixture(means, covariances, weights)
    for t in [10.0**k for k in range(-8, 9, 4)]:
        for x in (means[0], means.mean(0), means[0] + math.sqrt(t) * rng.standard_normal(dim), 1e4 * rng.standard_normal(dim)):
            score, log, score_allowed, log_allowed = exact(means, covariances, law.weights.tolist(), x, t)
            assert np.linalg.norm(law.score(x, t).numpy() - score) <= score_allowed, t
            assert abs(float(law.log_density(x, t)) - log) <= log_allowed, t


@pytest.mark.parametrize("t", [1e-300, 1e-12, 1.0, 1e300])
@pytest.mark.parametrize("far", [0.0, 1.0, 1e100, 1e200])
def test_ends_of_the_float_range(t, far):
    variance = 2.0
    gaussian, law = (
        Gaussian([0.0, 0.0], variance),
        GaussianMixture([[0.0, 0.0], [3.0, 0.0]], np.stack([np.eye(2), np.zeros((2, 2))]), [0.5, 0.5]),
    )
    x = [far, 0.0]
    expected = -far / (variance + t)
    assert gaussian.score(x, t)[0].item() == pytest.approx(expected, rel=1e-14, abs=0)
    posterior = gaussian.posterior(x, t)
    assert posterior.displacement[0].item() == pytest.approx(-far * (t / (variance + t)), rel=1e-14, abs=0)
    assert posterior.mean[0].item() == pytest.approx(far * (variance / (variance + t)), rel=1e-14, abs=1e-323)
    # C = t v/(v + t), in an order that neither over- nor underflows.
    assert posterior.covariance()[0, 0].item() == pytest.approx(variance * (t / (variance + t)), rel=1e-14, abs=0)
    assert gaussian.score_jacobian(x, t)[0, 0].item() == pytest.approx(-1 / (variance + t), rel=1e-14, abs=0)
    for value in (law.score(x, t), law.log_density(x, t), law.posterior(x, t).covariance(), law.score_jacobian(x, t), law.denoise(x, t)):
        assert not value.isnan().any()


def test_a_component_of_weight_zero_changes_nothing():
    with_it = GaussianMixture([[0.0], [1.0], [5.0]], [[[1.0]], [[2.0]], [[9.0]]], [0.25, 0.75, 0.0])
    without = GaussianMixture([[0.0], [1.0]], [[[1.0]], [[2.0]]], [1.0, 3.0])
    for x in ([0.3], [5.0], [1e5]):
        for name in ("score", "log_density", "denoise", "score_jacobian"):
            torch.testing.assert_close(getattr(with_it, name)(x, 0.1), getattr(without, name)(x, 0.1), rtol=1e-14, atol=0)
    assert not (with_it.sample(10_000, generator=0) > 20).any()


def test_intrinsic_dimension_is_that_of_the_widest_component():
    assert Gaussian([0.0, 0.0], 1.0).intrinsic_dim == 2
    assert Gaussian([0.0, 0.0, 0.0], np.diag([1.0, 0.0, 0.0])).intrinsic_dim == 1
    assert Gaussian([0.0], 0.0).intrinsic_dim == 0
    law = GaussianMixture([[0.0, 0.0]] * 2, np.stack([np.diag([1.0, 0.0]), np.eye(2)]), [1.0, 0.0])
    assert law.intrinsic_dim == 1


@pytest.mark.parametrize("kind", ["full", "singular"])
def test_draws_have_the_mean_and_the_covariance(kind):
    rng = np.random.default_rng(5)
    target, n = covariance(kind, 3, rng), 200_000
    law = Gaussian([1.0, -2.0, 0.5], target)
    centered = law.sample(n, generator=3) - torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    size = np.linalg.norm(target, 2)
    # Each mean is N(0, S_ii/n): P(any of 3 beyond 7 sd) < 1e-11; its square enters the covariance below 1e-3 of the bound there.
    assert centered.mean(0).abs().max() <= 7 * math.sqrt(size / n)
    found = (centered.T @ centered / n).numpy()
    # Laurent and Massart (2000), Lemma 1: u^T S u chi^2_n/n is within 2 sqrt(z/n) + 2 z/n of its mean but for 2 exp(-z). With
    # z = 25 and by polarization, over 9 directions, all entries are within twice that: false alarms below 1e-9.
    z = 25.0
    assert np.abs(found - target).max() <= 2 * size * (2 * math.sqrt(z / n) + 2 * z / n)
    if kind == "singular":
        null = np.linalg.eigh(target)[1][:, 0]
        assert (centered.numpy() @ null).std() < 1e-7  # sqrt of the rounding of a zero eigenvalue


def test_diffusing_adds_t_to_every_variance():
    n, t = 200_000, 0.5
    drawn = Gaussian([0.0, 0.0], np.diag([1.0, 0.0])).diffuse(n, t, generator=4)
    z = 25.0
    bound = 2 * math.sqrt(z / n) + 2 * z / n
    torch.testing.assert_close((drawn**2).mean(0), torch.tensor([1.5, 0.5], dtype=torch.float64), rtol=bound, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian([[0.0]], 1.0), r"^mean = .*expected a vector of shape \(d,\)"),
        (lambda: Gaussian([0.0], -1.0), r"^covariances = .*expected positive semidefinite matrices \(least eigenvalue -1\)"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 0.5], [0.2, 1.0]]), r"^covariances = .*expected symmetric matrices"),
        (lambda: Gaussian([0.0, 0.0], np.eye(3)), r"^covariances = .*expected shape \(2, 2\) or \(1, 2, 2\)"),
        (lambda: Gaussian([math.nan], 1.0), r"^mean = .*expected finite numbers"),
        (lambda: GaussianMixture([[0.0]], [[1.0]], [0.0]), r"^weights = \[0\.0\]: expected 1 nonnegative numbers, not all 0"),
        (lambda: GaussianMixture([[0.0], [1.0]], [[1.0]], [1.0]), r"^weights = \[1\.0\]: expected 2 nonnegative numbers"),
        (lambda: GaussianMixture([[0.0], [1.0]], [[1.0]], [2.0, -1.0]), r"^weights = .*expected 2 nonnegative numbers"),
        (lambda: GaussianMixture([], [[1.0]]), r"^means = .*expected a non-empty array"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
