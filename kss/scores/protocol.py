"""What a score is: anything with a method `score(x, t)`, or a callable of `(x, t)`."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from kss._validation import reject


@runtime_checkable
class HasScore(Protocol):
    """Anything with a score: a `Distribution`, a smoothed score, a user's own object."""

    def score(self, x: Tensor, t: Any) -> Tensor:
        """`grad log p_t(x)`, of the shape of `x` (..., d); `t` is a number, or a tensor that has one for each point."""
        ...


Score = HasScore | Callable[[Tensor, Any], Tensor]


def score_function(score: Score) -> Callable[[Tensor, Any], Tensor]:
    """The function `(x, t) -> score`, from an object that has one or is one."""
    if isinstance(score, HasScore):
        return score.score
    if callable(score):
        return score
    raise reject("score", score, "an object with a method score(x, t), or a function of x and t")
