"""The nearest point and the bound on the distance to it."""

import math
import re

import pytest
import torch

from kss.theory.collapse import nearest, nearest_point_bound

POINTS = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)


def test_nearest_point_distance_and_gap_by_hand():
    found = nearest(POINTS, [[1.0, 0.0], [0.0, 3.0]])
    assert found.which.tolist() == [0, 2]
    torch.testing.assert_close(found.distance, torch.tensor([1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(found.gap, torch.tensor([4.0 - 1.0, 9.0 - 1.0], dtype=torch.float64))


def test_shapes_follow_the_query_and_many_queries_run_in_parts():
    x = torch.zeros(2500, 2, dtype=torch.float64)
    assert nearest(POINTS, x).which.shape == (2500,)
    assert nearest(POINTS, x.reshape(50, 50, 2)).gap.shape == (50, 50)
    assert nearest(POINTS, x[0]).distance.shape == ()


def test_a_small_gap_far_from_the_data_keeps_its_digits():
    # From (1e6, 1e-3) the points (0, 1) and (0, -1) differ by 4e-3 in squared distance, of 1e12.
    gap = float(nearest([[0.0, 1.0], [0.0, -1.0]], [1e6, 1e-3]).gap)
    assert gap == pytest.approx(4e-3, rel=0.1)


def test_one_point_and_duplicates():
    assert float(nearest([[1.0]], [0.0]).gap) == math.inf
    assert float(nearest([[1.0], [1.0], [2.0]], [0.0]).gap) == 0.0


def test_the_bound_by_hand():
    assert float(nearest_point_bound(2.0, 0.5, 11, 3.0)) == pytest.approx(10 * math.exp(-2) * 3)
    assert nearest_point_bound([1.0, 2.0], 0.5, 2, 1.0).shape == (2,)
    assert float(nearest_point_bound(1.0, 1e-300, 5, 1.0)) == 0.0
    assert float(nearest_point_bound(0.0, 1e-300, 1, 1.0)) == 0.0
    # A single point: its gap is infinite, and it is returned exactly.
    assert float(nearest_point_bound(math.inf, 0.5, 1, 0.0)) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap": -1.0}, "gap = -1.0: expected a number >= 0"),
        ({"gap": float("nan")}, "gap = nan: expected a number >= 0"),
        ({"t": 0.0}, "t = 0.0: expected a noise variance t > 0"),
        ({"t": float("nan")}, "t = nan: expected finite numbers (it has NaN or infinity)"),
        ({"n": 0}, "n = 0: expected an integer >= 1"),
        ({"diameter": -1.0}, "diameter = -1.0: expected a number >= 0"),
        ({"diameter": float("inf")}, "diameter = inf: expected finite numbers (it has NaN or infinity)"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        nearest_point_bound(**({"gap": 1.0, "t": 1.0, "n": 3, "diameter": 1.0} | change))


def test_the_bound_is_double_precision_whatever_comes_in():
    assert nearest_point_bound(torch.tensor(1.0), 1.0, 3, 1.0).dtype == torch.float64
    assert float(nearest_point_bound(0.1, 0.3, 2, 1.0)) == pytest.approx(math.exp(-1 / 6), rel=1e-15)
