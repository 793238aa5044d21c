"""What `check_score` found: one result for each check, as text and as HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Outcome = Literal["passed", "failed", "expected failure", "unexpected pass", "not run", "reported"]


@dataclass(frozen=True)
class ScoreResult:
    """What one check of a score found."""

    name: str
    title: str
    outcome: Outcome
    message: str
    """What was seen, in a sentence or two; for a check that did not run, why."""
    measured: float | None = None
    """The number that was compared, at the worst of the times."""
    tolerance: float | None = None
    basis: str = ""
    """Where the tolerance comes from."""
    power: str = ""
    """What the check would have found."""
    by_time: Mapping[float, float] = field(default_factory=dict)
    """The measured number at each noise variance."""
    details: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """More numbers, by name and noise variance."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Neither a failure nor a failure that was expected and did not come."""
        return self.outcome not in ("failed", "unexpected pass")

    @property
    def numbers(self) -> str:
        """Measured number and tolerance, in a few characters."""
        if self.measured is None:
            return ""
        return f"{self.measured:.3g}" if self.tolerance is None else f"{self.measured:.3g} (allowed {self.tolerance:.3g})"


@dataclass(frozen=True)
class ScoreReport:
    """The results of `check_score`."""

    subject: str
    """What was checked, where, and in which arithmetic."""
    results: tuple[ScoreResult, ...]

    @property
    def ok(self) -> bool:
        """No check failed, and none passed that was expected to fail. Checks that did not run do not count."""
        return all(result.ok for result in self.results)

    @property
    def exit_code(self) -> int:
        """0 if `ok`, else 1."""
        return 0 if self.ok else 1

    def __getitem__(self, name: str) -> ScoreResult:
        """The result of the check with this name; `KeyError` if there is none."""
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(f"{name}: expected one of {', '.join(result.name for result in self.results)}")

    @property
    def summary(self) -> str:
        """How many checks had which outcome."""
        outcomes = [result.outcome for result in self.results]
        return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))

    def __str__(self) -> str:
        lines = [f"score: {self.subject}"]
        for result in self.results:
            lines.append(f"{result.outcome:<16} {result.name:<11} {result.numbers}".rstrip())
            lines += [f"    {line}" for line in result.message.splitlines()]
            if result.outcome == "passed" and result.power:
                lines.append(f"    would find: {result.power}")
        return "\n".join([*lines, self.summary])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row"><code>{escape(r.name)}</code></th><td><strong>{escape(r.outcome)}</strong></td>'
            f"<td>{escape(r.numbers)}</td><td>{escape(r.message)}{_details(r)}</td></tr>"
            for r in self.results
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in ("check", "outcome", "measured", "what was seen"))
        return (
            f'<table class="kss-report"><caption>{escape(self.subject)}: {escape(self.summary)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _details(result: ScoreResult) -> str:
    parts = [("Asks", result.title), ("Tolerance", result.basis), ("Power", result.power)]
    said = "".join(f"<br>{name}: {escape(text)}" for name, text in parts if text)
    return f"<details><summary>what it asks, and what it would find</summary>{said.removeprefix('<br>')}</details>"
