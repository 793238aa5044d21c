"""Averages over a few displacements: shapes, exact values, degenerate data, and what is refused."""

import math

import numpy as np
import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.theory import barycenters


def test_the_average_of_a_linear_score():
    law = Gaussian([0.0, 0.0], 1.0)
    got = barycenters.drawn_score(law, [[3.0, 1.0]], 1.0, [[1.0, 0.0], [0.0, 4.0]], [3.0, 1.0])
    assert got.tolist() == [[-(3 + 0.75) / 2, -(1 + 1.0) / 2]]
    each = barycenters.drawn_score(law, [[0.0, 0.0], [1.0, 1.0]], 1.0, [[[2.0, 0.0]], [[0.0, 2.0]]])
    assert each.tolist() == [[-1.0, 0.0], [-0.5, -1.5]]


def test_a_function_serves_as_base_and_dtypes_promote():
    x = torch.zeros(2, 1, dtype=torch.float32)
    got = barycenters.drawn_score(lambda y, t: -y / t, x, 0.5, torch.tensor([[1.0], [2.0]], dtype=torch.float32))
    assert got.dtype == torch.float32
    assert got.tolist() == [[-3.0], [-3.0]]
    assert barycenters.drawn_score(lambda y, t: -y / t, x, 0.5, [[1.0]]).dtype == torch.float64


def test_gradients_flow_through_x():
    law, draws = Empirical([[-1.0, 0.0], [1.0, 0.5]]), [[0.1, 0.2], [-0.3, 0.4]]
    x = torch.tensor([[0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: barycenters.drawn_score(law, y, 0.5, draws), (x,))


def test_two_points_and_a_pair_of_draws():
    found = barycenters.rest_points([[-1.0], [1.0]], [[-0.5], [0.5]])
    assert found.x.ravel().tolist() == [-1.0, 0.0, 1.0]
    assert found.margin.tolist() == [0.5, 0.5, 0.5]
    assert found.data.tolist() == [[0, 0], [0, 1], [1, 1]]
    ends = barycenters.end_points([[-1.0], [1.0]], [[-0.6], [0.4], [5.0]], [[-0.5], [0.5]])
    assert ends.x.ravel().tolist() == [-1.0, 0.0, 1.0]
    assert ends.crossings.tolist() == [0, 0, 0]


def test_one_point_copies_and_far_starts():
    alone = barycenters.rest_points([[2.0, 1.0]], [[0.5, 0.0], [0.1, 0.2]])
    assert alone.x.tolist() == [[pytest.approx(1.7), pytest.approx(0.9)]]
    assert alone.margin.tolist() == [math.inf]
    copies = barycenters.rest_points([[1.0], [-1.0], [1.0]], [[-0.5], [0.5]])
    assert copies.x.ravel().tolist() == [-1.0, 0.0, 1.0]
    assert copies.data.tolist() == [[1, 1], [1, 0], [0, 0]]
    ends = barycenters.end_points([[1.0], [-1.0], [1.0]], [[1e6], [-1e6]], [[-0.5], [0.5]])
    assert ends.x.ravel().tolist() == [1.0, -1.0]
    big = barycenters.rest_points([[-1e150], [1e150]], [[-0.5e150], [0.5e150]])
    assert len(big.x) == 3


def test_the_flow_of_one_draw_ends_at_the_nearest_data():
    rng = np.random.default_rng(0)
    data, x = rng.standard_normal((9, 3)), rng.standard_normal((50, 3))
    ends = barycenters.end_points(data, x, np.zeros((1, 3)))
    nearest = data[np.argmin(((x[:, None] - data) ** 2).sum(-1), -1)]
    np.testing.assert_allclose(ends.x.numpy(), nearest, atol=1e-14)
    assert ends.crossings.sum() == 0


def test_the_split_is_that_of_the_law_in_the_whole_space():
    line = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    x, draws = [[0.1, 0.2], [0.4, -1.0]], [[0.3, 0.1], [-0.2, 0.5]]
    whole = barycenters.drawn_score(Empirical(torch.cat((line, 0 * line), 1)), x, 0.3, draws)
    torch.testing.assert_close(barycenters.split_score(Empirical(line), x, 0.3, draws), whole)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: barycenters.drawn_score(Gaussian([0.0], 1.0), [[0.0]], 0.0, [[0.0]]), r"^t = 0\.0: expected"),
        (lambda: barycenters.drawn_score(Gaussian([0.0], 1.0), [[0.0]], 1.0, [[0.0, 1.0]]), r"^draws = .*shape \(M, 1\) or \(1, M, 1\)"),
        (lambda: barycenters.drawn_score(Gaussian([0.0], 1.0), [[0.0]], 1.0, [[0.0]], [-1.0]), r"^weights = .*>= 0"),
        (lambda: barycenters.drawn_score(Gaussian([0.0], 1.0), [[0.0]], 1.0, [[0.0]], [1.0, 1.0]), r"^weights = .*expected 1 weights"),
        (lambda: barycenters.split_score(Gaussian([0.0, 0.0], 1.0), [[0.0]], 1.0, [[0.0]]), r"^base = .*dimension `dim` of at most 1"),
        (lambda: barycenters.barycenter([[0.0, 0.0]], [[0.0]], [[0.0, 0.0]]), r"^x = .*expected points of dimension 2"),
        (lambda: barycenters.rest_points(np.zeros((0, 2)), [[0.0, 0.0]]), r"^points = .*expected a non-empty"),
        (lambda: barycenters.rest_points(np.arange(20.0)[:, None], np.zeros((5, 1))), r"^draws = .*tuples are at most 1000000"),
        (lambda: barycenters.end_points([[0.0]], [[math.nan]], [[0.0]]), r"^x = .*expected finite"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rest_points_block_by_block(monkeypatch):
    rng = np.random.default_rng(0)
    data, draws = rng.standard_normal((7, 2)), rng.standard_normal((3, 2))
    whole = barycenters.rest_points(data, draws)
    monkeypatch.setattr(barycenters, "MOST_NUMBERS", 100)
    for part, expected in zip(barycenters.rest_points(data, draws), whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=0, atol=0)
