"""Nearest data: small distances keep their digits, whatever the dimension and however many ties there are."""

import pytest
import torch

from kss.diagnostics.neighbors import distinct, nearest_data


def random(n, d, seed):
    return torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("d", [1, 3, 12, 13, 40])
@pytest.mark.parametrize("N", [1, 2, 9, 300])
def test_against_all_distances(d, N):
    points, queries, count = random(N, d, 1) + 100, random(50, d, 2) + 100, min(N, 3)
    found = nearest_data(points, queries, count)
    every = (queries.unsqueeze(1) - points).norm(dim=-1).topk(count, largest=False)
    torch.testing.assert_close(found.distance, every.values, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.which, every.indices)


@pytest.mark.parametrize("d", [3, 30])
def test_a_copy_far_from_the_origin_is_as_near_as_it_is(d):
    points = random(500, d, 3) * 1e3 + 1e5
    shift = torch.zeros(d, dtype=torch.float64)
    shift[0] = 2.0**-20
    found = nearest_data(points, points + shift, 2)
    assert (found.which[:, 0] == torch.arange(500)).all()
    torch.testing.assert_close(found.distance[:, 0], torch.full((500,), 2.0**-20, dtype=torch.float64), rtol=1e-3, atol=0)
    assert (nearest_data(points, points, 1).distance == 0).all()


def test_many_points_at_almost_one_distance():
    # On a sphere around the query, at distances that the matrix product cannot tell apart.
    directions = torch.randn(100, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    directions = directions / directions.norm(dim=-1, keepdim=True)
    lengths = 1 + 1e-15 * torch.randperm(100, generator=torch.Generator().manual_seed(5))
    points = torch.cat((directions * lengths.unsqueeze(1), torch.full((1, 40), 50.0, dtype=torch.float64)))
    query = torch.zeros(1, 40, dtype=torch.float64)
    found = nearest_data(points, query, 1)
    assert abs(float(found.distance) - float(points.norm(dim=-1).min())) <= 4e-16


def test_a_tight_cluster_far_from_the_center():
    # Squared distances of 1e-12 beside squared lengths of 1e9: the matrix product sees nothing.
    cluster = 1e-6 * random(100, 20, 6) + 1e4
    points, queries = torch.cat((cluster, -cluster)), 1e-6 * random(30, 20, 7) + 1e4
    found = nearest_data(points, queries, 2)
    every = (queries.unsqueeze(1) - points).norm(dim=-1).topk(2, largest=False)
    torch.testing.assert_close(found.which, every.indices)


@pytest.mark.parametrize("d", [2, 30])
@pytest.mark.parametrize("far", [1e100, 1e200, 1e300])
def test_a_query_far_away_does_not_disturb_the_others(d, far):
    points = random(60, d, 8)
    queries = torch.cat((points[:3] + 1e-9, far * torch.eye(d, dtype=torch.float64)[:1]))
    found = nearest_data(points, queries, 2)
    assert found.which[:3, 0].tolist() == [0, 1, 2]
    torch.testing.assert_close(found.distance[:3, 0], torch.full((3,), 1e-9 * d**0.5, dtype=torch.float64), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.distance[3], torch.full((2,), far, dtype=torch.float64), rtol=1e-12, atol=0)


def test_distinct_points():
    points = torch.tensor([[0.0, 1.0], [2.0, 1.0], [-0.0, 1.0], [2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    assert distinct(points).tolist() == [0, 1, 4]
    assert distinct(points.T[:1].T).tolist() == [0, 1, 4]
