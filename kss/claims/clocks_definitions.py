"""Chapter "Two clocks of training", fourth part: other definitions, other laws."""

from collections.abc import Callable
from typing import Any

import torch

from kss.claims.clocks import LINE, THAT, drawn, half, slope
from kss.claims.clocks_model import CHAPTER, PAPER
from kss.claims.clocks_spectrum import ALPHA, DETECTS, SMALL, Numbers, mostly
from kss.claims.registry import check, claim, instead, returns
from kss.learned.training import GradientFlow, best_time, generalization_time, memorization_time

# --- Definitions ----------------------------------------------------------------------------------------------------------

claim(
    "clocks.absolute_gap",
    title="The memorization time is proportional to n, whatever gap one calls memorized",
    statement=r"""Refuted: the time at which $L_{\mathrm{test}} - L_{\mathrm{train}}$ reaches $0.05$ has a slope in $\log n$ between 1.4
and 2.4. The time at which it reaches a tenth of its limit has one between 0.95 and 1.5.""",
    source="counterexample found here",
    regime=SMALL + THAT,
    uses=("clocks.linear",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


def _definition(time: Callable[[GradientFlow], float], low: float, high: float, generator: torch.Generator) -> str:
    return mostly("slope in log n", [slope(row, time) for row in drawn(LINE, generator)], low, high)


@check(
    "clocks.absolute_gap",
    by="counterexample",
    lane="full",
    alpha=2 * ALPHA,
    detects=DETECTS,
    mutants={
        "proportional to n": returns(lambda time, flow, **_: float(flow.n)),
        "one power less": returns(lambda time, flow, **_: time / flow.n),
        "half of the final gap": instead(lambda flow, level, relative_to: half(flow)),
        "generalization": instead(lambda flow, level, relative_to: generalization_time(flow, threshold=0.25)),
    },
)
def slopes_of_other_gaps(predict: Any = memorization_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8: six draws of weights and nested data."""
    state = generator.get_state()
    absolute = _definition(lambda flow: float(predict(flow, level=0.05, relative_to="absolute")), 1.4, 2.4, generator)
    generator.set_state(state)  # the same draws
    tenth = _definition(lambda flow: float(predict(flow, level=0.1, relative_to="final gap")), 0.95, 1.5, generator)
    return {"slope, gap 0.05": absolute, "slope, a tenth of the final gap": tenth}


claim(
    "clocks.least_error",
    title="The score error doubles at a time proportional to n",
    statement=r"""Refuted: the time at which $E$ is twice its minimum has a slope in $\log n$ between 0.2 and 0.7.""",
    source="counterexample found here",
    regime=SMALL + THAT,
    uses=("clocks.linear",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "clocks.least_error",
    by="counterexample",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "proportional to n": returns(lambda time, flow, **_: float(flow.n)),
        "root of n more": returns(lambda time, flow, **_: time * flow.n**0.5),
        "half of the final gap": instead(lambda flow, level, relative_to: half(flow)),
        "generalization": instead(lambda flow, level, relative_to: generalization_time(flow, threshold=0.25)),
    },
)
def slope_of_the_doubling(predict: Any = memorization_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8: six draws of weights and nested data."""
    return {"slope": _definition(lambda flow: float(predict(flow, level=2.0, relative_to="least error")), 0.2, 0.7, generator)}


claim(
    "clocks.best_time",
    title="The best time to stop does not depend on the number of data",
    statement=r"""Refuted: the time at which the error of the score (so the test loss, too) is least has a slope in $\log n$
between 0.15 and 0.4.""",
    source="counterexample found here",
    regime=SMALL + THAT,
    uses=("clocks.generalization", "clocks.denoising"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "clocks.best_time",
    by="counterexample",
    lane="full",
    alpha=ALPHA,
    detects=DETECTS,
    mutants={
        "independent of n": returns(lambda time, flow: 100.0),
        "root of n more": returns(lambda time, flow: time * flow.n**0.5),
        "generalization": instead(lambda flow: generalization_time(flow, threshold=0.25)),
        "half of the final gap": instead(half),
    },
)
def slope_of_the_best_time(predict: Any = best_time, *, generator: torch.Generator) -> Numbers:
    """Slopes over n/d = 2, 4, 8: six draws of weights and nested data."""
    return {"slope": _definition(lambda flow: float(predict(flow)), 0.15, 0.4, generator)}


claim(
    "clocks.networks",
    title="Two clocks in a network",
    statement=r"""For U-Nets trained on images, the time to generalize does not depend on the number of images, and the time to memorize is
proportional to it.""",
    source=PAPER,
    regime=r"""Networks and data sets of the paper, which we know from a summary only.""",
    uses=("clocks.linear", "clocks.generalization"),
    chapter=CHAPTER,
    verdict="open",
    missing="""training a U-Net to memorization on image sets of at least four sizes, several times each, with both times defined
beforehand: days of
a graphics processor, and data that this book does not download""",
)
