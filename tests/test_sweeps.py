"""Sweeps: the product of the axes, in order, the same numbers whoever computes them. On a cluster: tests/distributions/test_sharded.py."""

import itertools

import numpy as np
import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.sweeps import sweep

GRID = {"t": [0.01, 1.0], "N": [3, 50], "seed": range(3)}


def test_rows_are_the_product_of_the_axes_in_order():
    rows = sweep(lambda t, N, seed: {"sum": t + N + seed, "kind": "s"}, **GRID)
    assert [(row["t"], row["N"], row["seed"]) for row in rows] == list(itertools.product(*GRID.values()))
    assert all(list(row) == ["t", "N", "seed", "sum", "kind"] and row["sum"] == row["t"] + row["N"] + row["seed"] for row in rows)


def test_a_result_that_is_no_mapping_is_the_value():
    assert sweep(lambda h: h**2, h=np.array([1.0, 3.0])) == [{"h": 1.0, "value": 1.0}, {"h": 3.0, "value": 9.0}]
    assert sweep(lambda: 1) == [{"value": 1}]


def score_at_draws(t, N, seed):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(N, 40, dtype=torch.float64, generator=generator)
    x = Gaussian(torch.zeros(40), torch.eye(40)).diffuse(20, t, generator)
    return Empirical(data).log_density(x, t).sum().item()


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [2, 3])
def test_numbers_do_not_depend_on_the_number_of_workers_or_threads(n_jobs):
    threads = torch.get_num_threads()
    alone = sweep(score_at_draws, **GRID)
    assert len({row["value"] for row in alone}) == 12
    try:
        torch.set_num_threads(2)
        assert sweep(score_at_draws, **GRID) == alone
        assert torch.get_num_threads() == 2  # as found
    finally:
        torch.set_num_threads(threads)
    assert sweep(score_at_draws, n_jobs=n_jobs, **GRID) == alone


def test_every_point_has_one_thread():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert sweep(lambda t: torch.get_num_threads(), t=[1.0]) == [{"t": 1.0, "value": 1}]
        with pytest.raises(ZeroDivisionError):
            sweep(lambda t: 1 / t, t=[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"t": []}, r"^t = \[\]: expected a non-empty list of values"),
        ({"t": [1.0], "N": 3}, r"^N = 3: expected a non-empty list of values"),
        ({"t": "0.1"}, r"^t = '0.1': expected a non-empty list of values"),
        ({"t": [1.0], "value": [2]}, r"^function = \['value'\]: expected a result that names none of the parameters"),
    ],
)
def test_bad_input_is_named(axes, message):
    with pytest.raises(ValueError, match=message):
        sweep(lambda **point: 0.0, **axes)
