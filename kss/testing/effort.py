"""How hard a check tries: set by the runner, read by whatever searches."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """`examples` multiplies the number of cases a search tries; `shrink` asks it to simplify what it finds."""

    examples: float = 1.0
    shrink: bool = False


DEFAULT = Effort()
_current: ContextVar[Effort] = ContextVar("effort", default=DEFAULT)


def current_effort() -> Effort:
    """The effort of the run in progress."""
    return _current.get()


@contextmanager
def effort(chosen: Effort) -> Iterator[None]:
    """Within the block, searches use `chosen`."""
    token = _current.set(chosen)
    try:
        yield
    finally:
        _current.reset(token)
