"""The Swiss roll against rigorous integration of its definition, and its segment against the error function, in ball arithmetic."""

import math
import sys

import flint
import numpy as np
import pytest
import torch
from ball_swiss_roll import END, START, exact
from flint import arb
from sklearn.datasets import make_swiss_roll

from kss.distributions import Manifold, SwissRoll
from kss.distributions.segment import segment_posterior
from kss.distributions.swiss_roll import CHUNK, _pieces
from kss.theory.heat import burgers_residual

pytestmark = pytest.mark.slow  # the core, which `make quick` tests, has the circle

EPSILON = sys.float_info.epsilon
CURVE, SHEET = SwissRoll(), SwissRoll(2)
both = pytest.mark.parametrize("law", [CURVE, SHEET], ids=["curve", "sheet"])


@pytest.fixture(autouse=True)
def _double():
    yield
    flint.ctx.prec = 53


def spiral(theta: float) -> np.ndarray:
    return CURVE.scale * theta * np.array([math.cos(theta), math.sin(theta)])


def center_of_curvature(theta: float) -> np.ndarray:
    first = np.array([math.cos(theta) - theta * math.sin(theta), math.sin(theta) + theta * math.cos(theta)])
    normal = np.array([-first[1], first[0]]) / np.linalg.norm(first)
    return spiral(theta) + CURVE.scale * (1 + theta**2) ** 1.5 / (2 + theta**2) * normal


POINTS = {
    "on the curve": spiral(7.0),
    "near the curve": spiral(12.3) + np.array([3e-3, 1e-3]),
    "between two turns": (spiral(6.0) + spiral(6.0 + 2 * math.pi)) / 2,
    "at the center": np.zeros(2),
    "where the curve bends around": center_of_curvature(9.0),
    "where it bends around its start": center_of_curvature(START) * 1.01,
    "the first end": spiral(START),
    "the last end": spiral(END),
    "beyond the last end": spiral(END) + np.array([-0.3, 0.1]),
    "before the first end": spiral(START) + np.array([-0.2, -0.05]),
    "barely two minima": np.array([-0.09, 0.03]),
    "outside": np.array([2.0, 1.5]),
    "far away": np.array([-40.0, 70.0]),
}


def check(name: str, t: float) -> None:
    """Displacement, mean, density, covariance and Jacobian; allowed are 1e-12 and what 4 eps of x and of the roll would change."""
    x = POINTS[name]
    want, found = exact(CURVE.scale, x, t), CURVE.posterior(x, t)
    noise = 4 * EPSILON * (np.linalg.norm(x) + 1.5)
    stretch = np.linalg.norm(want.covariance, 2) / t  # dm/dx
    size = np.linalg.norm(want.displacement)
    allowed = 1e-12 * max(size, math.sqrt(t) if size < math.sqrt(t) else 0.0) + noise * (1 + stretch)
    assert np.linalg.norm(found.displacement.numpy() - want.displacement) <= allowed
    assert np.linalg.norm(CURVE.score(x, t).numpy() - want.displacement / t) <= allowed / t
    assert np.linalg.norm(found.mean.numpy() - want.mean) <= 1e-13 + noise * stretch
    assert abs(float(found.log_evidence) - want.log_density) <= 1e-13 * max(1.0, abs(want.log_density)) + noise * size / t
    # Moving x changes C by a third moment over t, at most |C|^{3/2}/t for one peak, and |C| times the distance of two over t for more.
    spread = 1e-12 + noise * min(stretch**0.5 / math.sqrt(t) * 4, 3 / t)
    largest = np.linalg.norm(want.covariance, 2)
    assert np.abs(found.covariance().numpy() - want.covariance).max() <= spread * largest
    assert float(found.covariance_trace) == pytest.approx(np.trace(want.covariance), rel=2 * spread)
    jacobian = (want.covariance / t - np.eye(2)) / t
    assert np.abs(CURVE.score_jacobian(x, t).numpy() - jacobian).max() <= (spread * largest / t + 4 * EPSILON) / t


@pytest.mark.parametrize("t", [1e-2, 0.3])
@pytest.mark.parametrize("name", POINTS)
def test_curve(name, t):
    check(name, t)


@pytest.mark.parametrize("t", [1e2, 1e8])
@pytest.mark.parametrize("name", ["on the curve", "at the center", "far away"])
def test_curve_with_much_noise(name, t):
    check(name, t)


@pytest.mark.parametrize(
    ("name", "t"),
    [("near the curve", 1e-8), ("beyond the last end", 1e-8), ("between two turns", 1e-6), ("where it bends around its start", 1e-5)],
)
def test_curve_with_little_noise(name, t):
    check(name, t)


@pytest.mark.slow
@pytest.mark.parametrize("t", [1e-8, 1e-6, 1e-4, 1e-3, 1e1])
@pytest.mark.parametrize("name", POINTS)
def test_curve_everywhere(name, t):
    check(name, t)


def test_pieces_are_monotone():
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.uniform(-15, 15, (300, 2)), rng.uniform(-2.5, 2.5, (300, 2)), 1e3 * rng.standard_normal((20, 2)), np.zeros((1, 2))]
    )
    pieces = _pieces(torch.from_numpy(x))
    # They cover the interval once, ...
    torch.testing.assert_close(pieces.width.sum(-1), torch.full((len(x),), END - START, dtype=torch.float64), rtol=1e-13, atol=0)
    sign = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)
    steps = torch.linspace(0, 1, 301, dtype=torch.float64)
    theta = pieces.low[..., None] + (sign * pieces.width)[..., None] * steps
    assert float(theta.min()) >= START - 1e-12
    assert float(theta.max()) <= END + 1e-12
    # ... and from the lower end on, the distance grows.
    curve = theta[..., None] * torch.stack((theta.cos(), theta.sin()), -1)
    square = (curve - torch.from_numpy(x)[:, None, None]).square().sum(-1)
    falls = square.diff(dim=-1) < -1e-12 * (1 + square.amax((1, 2))[:, None, None])
    assert not falls.any()


@pytest.mark.parametrize("t", [1e-8, 1e-3, 0.1, 3.0, 1e3, 1e8])
@pytest.mark.parametrize("z", [0.0, 1e-5, 0.3, 1.0, 1.7, 2.0, -1e-6, -0.5, 2.4, 300.0])
def test_segment_is_the_truncated_gaussian(z, t):
    if abs(z) > 10 and t < 1e-2:
        pytest.skip("the error function underflows in balls, too")
    # The moments cancel as (h^2/t)^2 and more for large t, and the error function underflows far out.
    flint.ctx.prec = 6000 if abs(z) > 10 else 600
    h, time, place = arb(2), arb(t), arb(z)
    root = (2 * time).sqrt()

    def mass(lower: arb, upper: arb) -> arb:  # int exp(-u^2/2t) du
        if lower > 0:
            return (arb.pi() * time / 2).sqrt() * ((lower / root).erfc() - (upper / root).erfc())
        if upper < 0:
            return mass(-upper, -lower)
        return (arb.pi() * time / 2).sqrt() * ((upper / root).erf() - (lower / root).erf())

    a, b = -place, h - place
    total, at_a, at_b = mass(a, b), (-(a**2) / (2 * time)).exp(), (-(b**2) / (2 * time)).exp()
    ahead = time * (at_a - at_b) / total
    second = time * (1 + (a * at_a - b * at_b) / total)
    found = segment_posterior(torch.tensor(z, dtype=torch.float64), torch.tensor(t, dtype=torch.float64), 2.0)
    moved = 8 * EPSILON * (abs(z) + 2)
    variance = float(second - ahead * ahead)
    assert float(found.displacement) == pytest.approx(float(ahead), rel=1e-12 + moved**2 / t, abs=moved * abs(variance / t - 1) + 1e-300)
    assert float(found.mean) == pytest.approx(float(ahead + place), rel=1e-12, abs=1e-15)
    assert float(found.variance) == pytest.approx(variance, rel=1e-12 + moved / math.sqrt(t))
    slope = float((second - ahead * ahead) / time - 1) / t
    assert float(found.slope) == pytest.approx(slope, rel=1e-12 + 3 * moved / t, abs=1e-140)  # what 600 bits leave
    log_density = float((total / h).log() - (2 * arb.pi() * time).log() / 2)
    assert float(found.log_density) == pytest.approx(log_density, rel=1e-12, abs=1e-14 + moved * abs(float(ahead)) / t)


@pytest.mark.parametrize("t", [1e-4, 0.02, 1.0, 1e3])
def test_sheet_is_the_product(t):
    x = SHEET.diffuse(8, t, generator=0)
    flat, found = CURVE.posterior(x[:, :2], t), SHEET.posterior(x, t)
    segment = segment_posterior(x[:, 2], torch.full((8,), t, dtype=torch.float64), 21 / (3 * math.pi))
    torch.testing.assert_close(found.mean, torch.cat((flat.mean, segment.mean[:, None]), -1), rtol=0, atol=0)
    torch.testing.assert_close(found.displacement, torch.cat((flat.displacement, segment.displacement[:, None]), -1), rtol=0, atol=0)
    torch.testing.assert_close(found.log_evidence, flat.log_evidence + segment.log_density, rtol=1e-15, atol=1e-15)
    covariance, jacobian = found.covariance(), SHEET.score_jacobian(x, t)
    torch.testing.assert_close(covariance[:, :2, :2], flat.covariance(), rtol=0, atol=0)
    torch.testing.assert_close(jacobian[:, :2, :2], CURVE.score_jacobian(x[:, :2], t), rtol=0, atol=0)
    assert torch.equal(covariance[:, 2, 2], segment.variance)
    assert torch.equal(jacobian[:, 2, 2], segment.slope)
    assert not covariance[:, 2, :2].any()
    assert not jacobian[:, :2, 2].any()


@pytest.mark.parametrize(("law", "t"), [(CURVE, 1e-4), (SHEET, 0.02), (SHEET, 20.0)], ids=["curve", "sheet", "noisy sheet"])
def test_gradients_agree_with_the_formulas(law, t):
    x = law.diffuse(2, t, generator=5)
    for point in x:
        found = torch.func.grad(lambda y: law.log_density(y, t))(point)
        torch.testing.assert_close(found, law.score(point, t), rtol=1e-11, atol=1e-11 / t**0.5)
        torch.testing.assert_close(
            torch.func.jacfwd(lambda y: law.score(y, t))(point), law.score_jacobian(point, t), rtol=0, atol=1e-11 / t
        )
    torch.testing.assert_close(torch.func.jacrev(lambda y: law.score(y, t))(x[0]), law.score_jacobian(x[0], t), rtol=0, atol=1e-11 / t)
    assert float(burgers_residual(law, x, t).abs().max()) <= 1e-11 * (1 + 1 / t**1.5)


@both
@pytest.mark.parametrize("t", [1e-300, 1e-100, 1e-30, 1e-12, 1.0, 1e30, 1e300])
def test_is_never_nan(law, t):
    flat = [
        [0.0, 0.0],
        [1.0, 0.0],
        [1e150, -1e150],
        [1e200, 1.0],
        [1e-300, 0.0],
        [-1e200, -1e200],
        [0.0, 5 / 6],
        spiral(START),
        spiral(9.0),
    ]
    along = [[]] if law is CURVE else [[0.0], [0.5], [1e200], [-1e-300], [-3.0]]
    x = torch.tensor([[*pair, *z] for pair in flat for z in along], dtype=torch.float64)
    posterior = law.posterior(x, t)
    for value in (posterior.displacement, posterior.mean, posterior.log_evidence, posterior.covariance(), law.score_jacobian(x, t)):
        assert not value.isnan().any()
    assert float(posterior.mean[:, :2].norm(dim=-1).max()) <= 1.5 * (1 + 1e-14)
    assert float(posterior.mean[:, 2:].abs().sum()) <= len(x) * 2.3
    if 1e-200 < t < 1e200:
        assert posterior.covariance().isfinite().all()
        far = x.abs().amax(-1) < 1e140
        assert law.score(x[far], t).isfinite().all()


def test_far_away_the_farthest_point_in_the_direction_wins():
    # Seen from infinity the score is that of the point of the roll which lies farthest towards x.
    theta = np.linspace(START, END, 200001)
    curve = CURVE.scale * theta[:, None] * np.stack((np.cos(theta), np.sin(theta)), -1)
    for direction in ([1.0, 0.0], [0.6, -0.8], [-0.6, -0.8], [0.0, 1.0]):
        best = curve[(curve @ direction).argmax()]
        for far in (1e8, 1e100, 1e200):
            mean = CURVE.denoise(far * np.array(direction), 1e-2).numpy()
            np.testing.assert_allclose(mean, best, rtol=0, atol=1e-4)


def test_long_batches_are_the_short_ones():
    x = torch.randn(CHUNK + 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(CURVE.score(x, 0.1)[-3:], CURVE.score(x[-3:], 0.1), rtol=1e-14, atol=1e-14)
    assert CURVE.score(torch.zeros(0, 2), 1.0).shape == (0, 2)


@both
def test_scaling(law):
    k, height = law.intrinsic_dim, None if law.height is None else 4 * law.height
    other, x = SwissRoll(k, 4 * law.scale, height), law.diffuse(5, 0.1, generator=0)
    torch.testing.assert_close(other.score(4 * x, 1.6), law.score(x, 0.1) / 4, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(other.log_density(4 * x, 1.6), law.log_density(x, 0.1) - law.dim * math.log(4), rtol=1e-13, atol=0)


def test_draws_follow_the_law():
    n, law = 40_000, SwissRoll(2, 1.0, 3.0)
    drawn = law.sample(n, generator=7)
    theta = torch.hypot(drawn[:, 0], drawn[:, 1])
    torch.testing.assert_close(drawn[:, 0], theta * theta.cos(), rtol=0, atol=1e-12)
    torch.testing.assert_close(drawn[:, 1], theta * theta.sin(), rtol=0, atol=1e-12)
    # Dvoretzky-Kiefer-Wolfowitz: P(distance > e) <= 2 exp(-2 n e^2) = 1e-12, for each of two uniform laws.
    for level in ((theta - START) / (END - START), drawn[:, 2] / 3):
        ordered, ranks = level.sort().values, torch.arange(n + 1, dtype=torch.float64) / n
        assert float(torch.maximum(ranks[1:] - ordered, ordered - ranks[:-1]).max()) < math.sqrt(math.log(2e12) / (2 * n))
    # Independent: Hoeffding for the product of two numbers in [-1/2, 1/2].
    product = ((theta - START) / (END - START) - 0.5) * (drawn[:, 2] / 3 - 0.5)
    assert abs(float(product.mean())) < math.sqrt(math.log(2e12) / (8 * n))


def test_convention_of_scikit_learn():
    points, _ = make_swiss_roll(500, random_state=0)
    law, ours = SwissRoll(2, scale=1.0), points[:, [0, 2, 1]]
    torch.testing.assert_close(law.project(ours), torch.from_numpy(ours), rtol=0, atol=1e-12)
    assert law.height == 21.0


@both
def test_geometry(law):
    rng, step, d = np.random.default_rng(2), 1e-4, law.dim
    for theta, z in zip(rng.uniform(START + 0.1, END - 0.1, 8), rng.uniform(0.1, 2, 8), strict=True):

        def chart(u: float, w: float) -> np.ndarray:
            return np.array([*spiral(u), w])[: law.dim]

        def along(u: float, w: float) -> np.ndarray:
            return (chart(u + step, w) - chart(u - step, w)) / (2 * step)

        y, first = chart(theta, z), along(theta, z)
        speed = np.linalg.norm(first)
        tangent, second = first / speed, (chart(theta + step, z) - 2 * y + chart(theta - step, z)) / step**2
        bend = (second - tangent * (tangent @ second)) / speed**2
        x = y + 0.1 * bend / np.linalg.norm(bend) * rng.choice([-1, 1])
        np.testing.assert_allclose(law.project(x).numpy(), y, rtol=0, atol=1e-8)
        np.testing.assert_allclose(law.mean_curvature(x).numpy(), bend, rtol=1e-5, atol=1e-6)
        projector = np.outer(tangent, tangent) + (np.diag([0.0, 0.0, 1.0]) if d == 3 else 0.0)
        np.testing.assert_allclose(law.tangent_projector(x).numpy(), projector, rtol=0, atol=1e-7)
        area = 1.0 if law.height is None else law.height
        assert float(law.manifold_density(x)) == pytest.approx(1 / (3 * math.pi * speed * area), rel=1e-7)
        # Nearest by brute force as well.
        grid = np.linspace(START, END, 20001)
        turns = CURVE.scale * grid[:, None] * np.stack((np.cos(grid), np.sin(grid)), -1)
        assert np.linalg.norm(law.project(x).numpy()[:2] - x[:2]) <= np.linalg.norm(turns - x[:2], axis=1).min() + 1e-12
    assert isinstance(law, Manifold)


@both
def test_volume_and_density_integrate(law):
    theta = np.linspace(START, END, 20001)
    speed, area = CURVE.scale * np.hypot(1, theta), 1.0 if law.height is None else law.height
    assert law.volume == pytest.approx(np.trapezoid(speed, theta) * area, rel=1e-8)
    points = np.zeros((len(theta), law.dim))
    points[:, :2] = CURVE.scale * theta[:, None] * np.stack((np.cos(theta), np.sin(theta)), -1)
    density = law.manifold_density(points[::20]).numpy()
    assert np.trapezoid(density * speed[::20], theta[::20]) * area == pytest.approx(1.0, rel=1e-5)


def test_beyond_the_edges_the_nearest_point_is_on_them():
    np.testing.assert_allclose(SHEET.project([*POINTS["beyond the last end"], 9.0]).numpy(), [*spiral(END), SHEET.height], atol=1e-14)
    np.testing.assert_allclose(SHEET.project([0.0, 0.0, -1.0]).numpy(), [*spiral(START), 0.0], atol=1e-14)


def test_small_time_score_is_half_the_mean_curvature_plus_half_the_slope_of_the_density():
    # s_t -> (H + grad log p_M)/2 on the roll: from the heat expansion of p_t at a point of it.
    theta, t = 8.0, 1e-6
    speed = CURVE.scale * math.hypot(1, theta)
    x = spiral(theta)
    tangent = np.array([math.cos(theta) - theta * math.sin(theta), math.sin(theta) + theta * math.cos(theta)]) / math.hypot(1, theta)
    drift = -theta / (1 + theta**2) / speed * tangent  # d/ds log (1/speed)
    want = CURVE.mean_curvature(x).numpy() / 2 + drift
    np.testing.assert_allclose(CURVE.score(x, t).numpy(), want, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0,), "k"), ((3,), "k"), ((1, 0.0), "scale"), ((1, math.nan), "scale"), ((2, 1.0, -1.0), "height"), ((1, 1.0, 1.0), "height")],
)
def test_bad_parameters_are_refused(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name} = .*expected"):
        SwissRoll(*arguments)


def test_repr():
    assert repr(SwissRoll(2, 1.0)) == "SwissRoll(2, scale=1.0, height=21.0)"
    assert repr(SwissRoll(1, 1.0)) == "SwissRoll(1, scale=1.0)"
