"""Simulations are shared, and sharing them changes nothing."""

import pytest
import torch

from kss.testing import simulation as module
from kss.testing.simulation import simulation


@pytest.fixture
def counted():
    calls = []

    @simulation
    def draw(n: int, *, generator: torch.Generator) -> torch.Tensor:
        """Doc."""
        calls.append(n)
        return torch.rand(n, generator=generator)

    return draw, calls


def test_the_same_call_runs_once_and_leaves_the_generator_where_it_was_left(counted):
    draw, calls = counted
    one, two = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    first, second = draw(5, generator=one), draw(5, generator=two)
    assert torch.equal(first, second)
    assert calls == [5]
    assert torch.equal(one.get_state(), two.get_state())
    # What follows draws the same numbers, remembered or not.
    plain = torch.Generator().manual_seed(1)
    torch.rand(5, generator=plain)
    assert torch.equal(torch.rand(3, generator=two), torch.rand(3, generator=plain))


def test_other_arguments_and_other_states_run_again(counted):
    draw, calls = counted
    generator = torch.Generator().manual_seed(1)
    first = draw(5, generator=generator)
    assert not torch.equal(draw(5, generator=generator), first)
    draw(6, generator=torch.Generator().manual_seed(1))
    draw(5, generator=torch.Generator().manual_seed(2))
    assert calls == [5, 5, 6, 5]


def test_only_a_few_are_kept(counted):
    draw, calls = counted
    for n in range(1, module.KEPT + 2):
        draw(n, generator=torch.Generator().manual_seed(0))
    draw(module.KEPT + 1, generator=torch.Generator().manual_seed(0))
    assert len(calls) == module.KEPT + 1
    draw(1, generator=torch.Generator().manual_seed(0))  # the oldest was dropped
    assert len(calls) == module.KEPT + 2


def test_it_keeps_its_name(counted):
    assert (counted[0].__name__, counted[0].__doc__) == ("draw", "Doc.")
