"""Searching for a counterexample with Hypothesis, from inside a check."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kss.testing.effort import current_effort


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """A NumPy generator seeded by one draw of `generator`, for checks that compute their reference in NumPy."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def for_all(strategy: Any, test: Callable[[Any], None], *, generator: torch.Generator, examples: int = 100) -> dict[str, int]:
    """Call `test` on `examples` cases drawn from a Hypothesis strategy; what it raises comes through, simplest case first.

    The cases follow from `generator`, the version of Hypothesis and the numbers it finds in the loaded source. Returns how many
    were tried.
    """
    import hypothesis
    from hypothesis import HealthCheck, Phase

    chosen, tried = current_effort(), 0

    def counted(case: Any) -> None:
        nonlocal tried
        tried += 1
        test(case)

    phases = [Phase.explicit, Phase.generate, Phase.target] + ([Phase.shrink] if chosen.shrink else [])
    search = hypothesis.settings(
        max_examples=max(1, round(examples * chosen.examples)),
        phases=phases,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )(hypothesis.given(strategy)(counted))
    seed = int(torch.randint(2**62, (), generator=generator))
    hypothesis.seed(seed)(search)()
    return {"cases": tried}
