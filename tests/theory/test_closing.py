"""The support of the LED-KDE of discs against brute force and raster morphology."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from kss.theory import closing

RNG = np.random.default_rng(0)
GRID = np.stack(np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0], indexing="ij"), -1).reshape(-1, 2)
CIRCLE = np.stack((np.cos(np.arange(8) * math.pi / 4), np.sin(np.arange(8) * math.pi / 4)), -1)
DATA = {
    "one point": np.array([[0.3, -0.2]]),
    "two points": np.array([[-1.0, 0.0], [1.0, 0.4]]),
    "collinear": np.array([[-1.0, 0.0], [0.0, 0.0], [0.5, 0.0], [2.0, 0.0]]),
    "duplicates": np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
    "cocircular": CIRCLE,
    "grid": GRID,
    "random": RNG.standard_normal((12, 2)),
}


def distance(y: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.sqrt(((y[..., None, :] - points) ** 2).sum(-1)).min(-1)


def on_a_fine_grid(points: np.ndarray, x: np.ndarray, b: float) -> tuple[float, float]:
    """The largest distance at the nodes of a polar grid, and by how much that can fall short: the distance has slope at most 1."""
    radii, angles = np.linspace(0, b, 101), np.linspace(0, 2 * math.pi, 401)[:-1]
    nodes = x + (radii[:, None, None] * np.stack((np.cos(angles), np.sin(angles)), -1)).reshape(-1, 2)
    return float(distance(nodes, points).max()), math.hypot(b / 200, math.pi * b / 400)


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("b", [0.05, 0.5, 1.5])
def test_emptiness_is_the_largest_distance_within_the_disc(name, b):
    points = DATA[name]
    # Among them a data point, a midpoint, and places far away.
    places = np.concatenate((points[:1], (points[:1] + points[-1:]) / 2, RNG.uniform(-2, 2, (8, 2)), [[30.0, 0.0]]))
    found = closing.emptiness(points, places, b).numpy()
    for place, value in zip(places, found, strict=True):
        largest, short = on_a_fine_grid(points, place, b)
        assert largest - 1e-12 <= value <= largest + short
        angle, radius = RNG.uniform(0, 2 * math.pi, 2000), b * np.sqrt(RNG.uniform(0, 1, 2000))
        inside = place + radius[:, None] * np.stack((np.cos(angle), np.sin(angle)), -1)
        assert distance(inside, points).max() <= value + 1e-12


def test_values_known_by_hand():
    one = closing.emptiness([[0.0, 0.0]], [[0.0, 0.0], [3.0, 4.0]], 0.5)
    torch.testing.assert_close(one, torch.tensor([0.5, 5.5], dtype=torch.float64))
    # The corners of a square: the center is sqrt 2 away, and is the emptiest place of any disc about it that holds no farther one.
    square = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
    assert float(closing.emptiness(square, [[0.0, 0.0]], 0.5)) == pytest.approx(math.sqrt(2), rel=1e-15)
    assert float(closing.emptiness(square, [[0.2, 0.1]], 0.5)) == pytest.approx(math.sqrt(2), rel=1e-15)
    # Two points 2 apart, from the middle with b = 1/2: the top of the circle, on the bisector.
    assert float(closing.emptiness([[-1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0]], 0.5)) == pytest.approx(math.sqrt(1.25), rel=1e-15)


def test_blocks_and_many_points_do_not_change_the_answer(monkeypatch):
    points, places = RNG.standard_normal((20, 2)), RNG.standard_normal((30, 2))
    expected, density = closing.emptiness(points, places, 0.7), closing.unnormalized_log_density(points, places, 1.2, 0.7)
    monkeypatch.setattr(closing, "BLOCK", 500)
    assert torch.equal(closing.emptiness(points, places, 0.7), expected)
    torch.testing.assert_close(closing.unnormalized_log_density(points, places, 1.2, 0.7), density, rtol=1e-13, atol=1e-13)


def test_moves_turns_and_copies_change_nothing():
    points, places, turn = RNG.standard_normal((7, 2)), RNG.standard_normal((20, 2)), np.array([[0.6, -0.8], [0.8, 0.6]])
    expected = closing.emptiness(points, places, 0.6)
    torch.testing.assert_close(closing.emptiness(points @ turn.T + 3, places @ turn.T + 3, 0.6), expected)
    torch.testing.assert_close(closing.emptiness(2 * points, 2 * places, 1.2), 2 * expected)
    assert torch.equal(closing.emptiness(np.repeat(points, 3, 0), places, 0.6), expected)


CELL = 0.02
AXIS = np.arange(-2.4, 2.4, CELL)
RASTER = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1)


def far_from(mask: np.ndarray, radius: float) -> np.ndarray:
    """Cells farther than `radius` from every cell of the mask (Euclidean distance transform)."""
    return ndimage.distance_transform_edt(~mask, sampling=CELL) > radius


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.3), (0.45, 0.45), (0.3, 0.35)])
def test_the_support_is_the_morphological_one(a, b):
    points = np.concatenate((CIRCLE * 0.8, [[0.3, 0.1]]))
    near = distance(RASTER, points)
    sample = (slice(None, None, 3),) * 2
    support = closing.in_support(points, RASTER[sample].reshape(-1, 2), a, b).numpy().reshape(near[sample].shape)
    # Discs of radius a, then eroded by b: x is kept if no cell outside the discs is within b.
    slack = 1.5 * CELL
    inner = far_from(near > a - slack, b + slack)[sample]
    outer = far_from(near > a + slack, b - slack)[sample]
    assert (inner <= support).all()
    assert (support <= outer).all()
    if a >= b:
        # The closing by b of the data dilated by a - b: dilate those by b, which are the discs of radius a again, and erode by b.
        small = near <= a - b + CELL
        closed_inner = far_from(far_from(near <= max(a - b, CELL) - slack, b - slack), b + slack)[sample] if a > b + 2 * slack else inner
        closed_outer = far_from(far_from(small, b + slack), b - slack)[sample]
        assert (closed_inner <= support).all()
        assert (support <= closed_outer).all()
        assert support[distance(RASTER, points)[sample] <= a - b - CELL].all()  # a closing holds what it closes
    assert outer.sum() - inner.sum() < outer.size / 4  # the two bounds are not empty talk


@pytest.mark.slow
def test_for_equal_radii_it_is_the_alpha_hull():
    # The complement of all open discs of radius b that miss the data: looked for on a fine grid of centers.
    points, b = np.array([[0.0, 0.0], [0.5, 0.0], [0.2, 0.45], [1.8, 1.5]]), 0.6
    places = RNG.uniform(0.0, 0.5, (150, 2))
    centers = np.stack(np.meshgrid(np.linspace(-0.8, 1.4, 441), np.linspace(-0.8, 1.4, 441), indexing="ij"), -1).reshape(-1, 2)
    gap = 0.005  # between centers
    empty = centers[distance(centers, points) >= b + gap]
    barely = centers[distance(centers, points) >= b - gap]
    found = closing.in_support(points, places, b, b).numpy()
    assert not found[distance(places, empty) < b - gap].any()
    assert found[distance(places, barely) > b + gap].all()
    assert 10 < found.sum() < 140
    assert closing.in_support(points, points + 1e-9, b + 1e-8, b).all()


def test_no_disc_of_a_smaller_radius_holds_a_larger_one():
    assert not closing.in_support([[0.0, 0.0]], RNG.standard_normal((50, 2)) / 10, 0.4, 0.5).any()
    assert closing.in_support([[0.0, 0.0]], [[0.0, 0.0]], 0.5, 0.4).all()


def test_the_density_is_minus_infinity_off_the_support_and_a_mean_of_logarithms_on_it():
    points, a, b = RNG.standard_normal((6, 2)) / 2, 1.2, 0.5
    places = RNG.uniform(-2, 2, (40, 2))
    found, support = closing.unnormalized_log_density(points, places, a, b).numpy(), closing.in_support(points, places, a, b).numpy()
    assert ((found > -math.inf) == support).all()
    assert 5 < support.sum() < 35
    disc = np.stack(np.meshgrid(np.linspace(-b, b, 201), np.linspace(-b, b, 201), indexing="ij"), -1).reshape(-1, 2)
    disc = disc[(disc**2).sum(-1) <= b**2]
    for place, value in zip(places[support], found[support], strict=True):
        count = (((place + disc)[:, None] - points) ** 2).sum(-1) <= a**2
        # "A few percent": of the largest logarithm there is.
        assert value == pytest.approx(np.log(np.maximum(count.sum(1), 1)).mean(), abs=0.05 * math.log(6))
    inside = closing.unnormalized_log_density([[0.0, 0.0], [0.0, 0.0]], [[0.1, 0.0]], 1.0, 0.5)
    assert float(inside) == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: closing.emptiness([[0.0]], [[0.0, 0.0]], 1.0), r"^points = .*expected points of dimension 2"),
        (lambda: closing.emptiness([[0.0, 0.0]], [0.0, 0.0], 1.0), r"^x = .*expected a non-empty array of shape \(n, d\)"),
        (lambda: closing.emptiness([[0.0, 0.0]], [[0.0, 0.0]], 0.0), r"^b = 0\.0: expected"),
        (lambda: closing.emptiness([[0.0, math.nan]], [[0.0, 0.0]], 1.0), r"^points = .*expected finite numbers"),
        (lambda: closing.in_support([[0.0, 0.0]], [[0.0, 0.0]], -1.0, 1.0), r"^a = -1\.0: expected"),
        (lambda: closing.unnormalized_log_density([[0.0, 0.0]], [[0.0, 0.0]], 1.0, 1.0, nodes=2), r"^nodes = 2: expected an integer >= 4"),
        (lambda: closing.unnormalized_log_density([[0.0, 0.0]], [[0.0, 0.0]], math.inf, 1.0), r"^a = inf: expected"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
