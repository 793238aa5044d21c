"""The ledger's data: what is claimed, what checks it, and which wrong versions the check has to reject.

A claim is data, a check is a function beside it. The check receives as `predict` the function of `kss` it tests, computes
a reference that shares no code with it, raises `CheckFailed` when they disagree and returns its numbers when they agree:

    claim("heat.tweedie", title=..., statement=..., source=..., regime=..., chapter="scores_and_heat", verdict="holds")

    @check("heat.tweedie", by="property", mutants={"sign": returns(lambda score, *_: -score)})
    def score_is_displacement_over_t(predict=Distribution.score, *, generator): ...

A mutant made by `returns` changes what the tested function returns; one made by `instead` replaces it by what a careless
author would have written. The check must raise `CheckFailed` on each; anything else means that it cannot fail.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from kss.testing.compare import CheckFailed as CheckFailed

Verdict = Literal["holds", "holds in regime", "refuted as stated", "not reproduced", "open"]
Method = Literal["proof", "property", "quadrature", "statistics", "rate", "counterexample"]
Lane = Literal["quick", "full"]


@dataclass(frozen=True)
class Mutant:
    """A wrong version of a prediction: `make(original)` gives the function to test in its place."""

    make: Callable[[Callable[..., Any]], Callable[..., Any]]
    breaks_kss: bool
    """Whether it is the tested function itself, with its result altered."""


def returns(transform: Callable[..., Any]) -> Mutant:
    """The tested function with its result replaced by `transform(result, *args, **kwargs)`."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def altered(*args: Any, **kwargs: Any) -> Any:
            return transform(original(*args, **kwargs), *args, **kwargs)

        return altered

    return Mutant(make, breaks_kss=True)


def instead(wrong: Callable[..., Any]) -> Mutant:
    """`wrong` in place of the tested function: what a careless author would have written."""
    return Mutant(lambda original: wrong, breaks_kss=False)


@dataclass(frozen=True)
class Claim:
    """A statement of the book. Its status is not here: `kss.claims.evidence` computes it from what has run."""

    id: str
    title: str
    statement: str
    """LaTeX in MyST markup."""
    source: str
    regime: str
    """Every hypothesis, in words and symbols."""
    chapter: str
    """Name of the chapter file, without folder and extension."""
    verdict: Verdict
    uses: tuple[str, ...] = ()
    """Ids of the claims it rests on."""
    missing: str = ""
    """For an open claim: the computation that would settle it."""


@dataclass(frozen=True)
class Check:
    """A function that can tell the prediction from its mutants."""

    claim: str
    function: Callable[..., Mapping[str, Any]]
    by: Method
    mutants: Mapping[str, Mutant]
    lane: Lane
    alpha: float
    """Probability that the check rejects a true claim, from a stated tail bound; 0 if chance does not enter."""
    detects: str
    """The deviation that is found, and with which power."""

    @property
    def name(self) -> str:
        """The function's name; with the claim's id it identifies the check."""
        return self.function.__name__

    @property
    def predict(self) -> Callable[..., Any]:
        """The function under test: the default of the check's first parameter."""
        return next(iter(inspect.signature(self.function).parameters.values())).default


@dataclass
class Registry:
    """Claims by id, and checks by the claim they belong to."""

    claims: dict[str, Claim] = field(default_factory=dict)
    checks: dict[str, list[Check]] = field(default_factory=dict)

    def claim(self, id: str, /, *, uses: tuple[str, ...] = (), **data: Any) -> Claim:
        """Enter a claim; `data` are the fields of `Claim`."""
        if not re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", id):
            raise ValueError(f"id = {id!r}: expected topic.name in lower case")
        if id in self.claims:
            raise ValueError(f"id = {id!r}: the claim exists already")
        if data.get("verdict") not in get_args(Verdict):
            raise ValueError(f"verdict = {data.get('verdict')!r} of {id}: expected one of {', '.join(get_args(Verdict))}")
        if (data["verdict"] == "open") != bool(data.get("missing")):
            raise ValueError(f"missing = {data.get('missing', '')!r} of {id}: expected for open claims, and only for them")
        entry = Claim(id=id, uses=uses, **data)
        self.claims[id] = entry
        return entry

    def check(
        self,
        claim_id: str,
        /,
        *,
        by: Method,
        mutants: Mapping[str, Mutant],
        lane: Lane = "quick",
        alpha: float = 0.0,
        detects: str = "",
    ) -> Callable[[Callable[..., Mapping[str, Any]]], Callable[..., Mapping[str, Any]]]:
        """Enter the decorated function as a check of a claim entered before."""
        if by not in get_args(Method):
            raise ValueError(f"by = {by!r} in a check of {claim_id}: expected one of {', '.join(get_args(Method))}")
        if by == "statistics" and not (alpha > 0 and detects):
            raise ValueError(f"alpha = {alpha!r}, detects = {detects!r} in a check of {claim_id}: a statistical check states both")

        def enter(function: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
            entry = Check(claim_id, function, by, dict(mutants), lane, alpha, detects)
            if claim_id not in self.claims:
                raise ValueError(f"claim_id = {claim_id!r} of check {entry.name}: no such claim")
            if any(other.name == entry.name for other in self.checks.get(claim_id, ())):
                raise ValueError(f"check {entry.name} of {claim_id}: the name is taken")
            module = getattr(entry.predict, "__module__", "")
            if not module.startswith("kss.") or module.startswith("kss.claims"):
                raise ValueError(f"predict = {entry.predict!r} of check {entry.name}: expected a function of kss as default")
            self.checks.setdefault(claim_id, []).append(entry)
            return function

        return enter

    def checks_of(self, claim_id: str) -> list[Check]:
        """The checks of one claim, in the order they were written."""
        return self.checks.get(claim_id, [])

    def all_checks(self) -> list[Check]:
        """Every check, claim by claim."""
        return [check for claim_id in self.claims for check in self.checks_of(claim_id)]

    def ancestors(self, claim_id: str) -> set[str]:
        """Every claim that `claim_id` rests on, directly or not."""
        found: set[str] = set()
        pending = list(self.claims[claim_id].uses)
        while pending:
            if (current := pending.pop()) not in found:
                found.add(current)
                pending.extend(self.claims[current].uses if current in self.claims else ())
        return found

    def select(self, ids: list[str]) -> list[Claim]:
        """The claims with these ids, or all if none is given; an unknown id raises `ValueError`."""
        unknown = sorted(set(ids) - set(self.claims))
        if unknown:
            raise ValueError(f"unknown claim id: {', '.join(unknown)}; known are {', '.join(self.claims)}")
        return [entry for entry in self.claims.values() if not ids or entry.id in ids]


LEDGER = Registry()
"""The ledger of this project."""

claim, check = LEDGER.claim, LEDGER.check
