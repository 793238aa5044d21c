"""Results as text and as HTML, for a terminal and for a cell."""

from dataclasses import dataclass
from html import escape

from kss.claims.runner import Result


class VerificationFailed(AssertionError):
    """A check failed, could not run, or let a mutant pass; the message is the report."""


@dataclass(frozen=True)
class Report:
    """The results of a run."""

    results: list[Result]

    @property
    def ok(self) -> bool:
        """Every check passed and every mutant was killed."""
        return all(result.ok for result in self.results)

    def __str__(self) -> str:
        return "\n".join(line_of(result) for result in self.results) or "nothing to run"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li><strong>{escape(r.outcome)}</strong> <code>{escape(r.check.claim)}</code> {escape(r.check.name.replace('_', ' '))}: "
            f"{escape(r.check.by)}, mutants killed {killed_of(r)}{escape('; ' + numbers_of(r) if r.numbers else '')}</li>"
            for r in self.results
        )
        return f'<ul class="kss-report">{items}</ul>'


def killed_of(result: Result) -> str:
    """How many mutants were killed, of how many."""
    return f"{sum(fate == 'killed' for fate in result.mutants.values())} of {len(result.mutants)}"


def numbers_of(result: Result) -> str:
    """The numbers a check returned, in a line."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.numbers.items())


def line_of(result: Result) -> str:
    """A result in a line, and below it whatever went wrong."""
    check = result.check
    text = f"{result.outcome:6} {check.claim} {check.name} ({check.by}), mutants killed {killed_of(result)}, {result.seconds:.1f} s"
    if result.numbers:
        text += f": {numbers_of(result)}"
    if result.message:
        text += "\n    " + result.message.strip().replace("\n", "\n    ")
    for name, fate in result.mutants.items():
        if fate != "killed":
            text += f"\n    mutant {name!r} {fate}: " + result.messages[name].strip().replace("\n", "\n    ")
    return text
