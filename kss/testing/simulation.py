"""Simulations that a check and its mutants share."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch

KEPT = 8
"""How many results are kept; a check and its mutants run one after the other."""


def simulation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember `function(*args, generator=...)`, whose arguments are hashable, by arguments and state of the generator.

    A remembered call leaves the generator where the real one left it, so what follows draws the same numbers.
    """
    kept: OrderedDict[Hashable, tuple[Any, torch.Tensor]] = OrderedDict()

    @functools.wraps(function)
    def remembered(*args: Hashable, generator: torch.Generator) -> Any:
        key = (args, generator.get_state().numpy().tobytes())
        if key not in kept:
            result = function(*args, generator=generator)
            kept[key] = (result, generator.get_state())
            if len(kept) > KEPT:
                kept.popitem(last=False)
        result, state = kept[key]
        generator.set_state(state)
        return result

    return remembered
