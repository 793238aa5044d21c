"""Runs checks: the truth, which must pass, and each mutant, which must raise `CheckFailed`."""

import hashlib
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from kss.claims.registry import Check, CheckFailed, Claim, Lane, Registry
from kss.testing.effort import Effort, effort

Outcome = Literal["passed", "failed", "error"]
Fate = Literal["killed", "survived", "error"]


@dataclass
class Result:
    """What happened when a check ran, with its mutants."""

    check: Check
    outcome: Outcome
    numbers: Mapping[str, Any]
    message: str
    seconds: float
    seed: int
    mutants: dict[str, Fate] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    """For mutants that were not killed by `CheckFailed`: what they raised instead."""

    @property
    def ok(self) -> bool:
        """The truth passed and every mutant was killed."""
        return self.outcome == "passed" and all(fate == "killed" for fate in self.mutants.values())


def seed_of(check: Check, base: int) -> int:
    """The seed of a check: its own, fixed by its name and the base seed of the run, and never chosen."""
    return int.from_bytes(hashlib.sha256(f"{base}:{check.claim}:{check.name}".encode()).digest()[:6], "big")


def run_truth(check: Check, *, base_seed: int = 0, examples: float = 1.0) -> Result:
    """Run a check on the function it tests."""
    seed, started = seed_of(check, base_seed), time.perf_counter()
    outcome: Outcome = "passed"
    numbers: Mapping[str, Any] = {}
    message = ""
    try:
        with effort(Effort(examples=examples, shrink=True)):
            numbers = dict(check.function(generator=torch.Generator().manual_seed(seed)))
    except CheckFailed as failure:
        outcome, message = "failed", str(failure)
    except Exception:  # a broken check is reported, whatever broke it
        outcome, message = "error", traceback.format_exc()
    return Result(check, outcome, numbers, message, time.perf_counter() - started, seed)


def run_mutant(check: Check, name: str, *, base_seed: int = 0, examples: float = 1.0) -> tuple[Fate, str]:
    """Run a check on one of its mutants: killed by `CheckFailed`, survived, or an error of the check."""
    wrong = check.mutants[name].make(check.predict)
    try:
        with effort(Effort(examples=examples)):
            check.function(wrong, generator=torch.Generator().manual_seed(seed_of(check, base_seed)))
    except CheckFailed as failure:
        return "killed", str(failure)
    except Exception:  # anything but CheckFailed is a broken check, and is reported as one
        return "error", traceback.format_exc()
    return "survived", "the check passed on a wrong version"


def run_check(check: Check, *, base_seed: int = 0, examples: float = 1.0) -> Result:
    """Run a check and all its mutants, which see the same random numbers."""
    result = run_truth(check, base_seed=base_seed, examples=examples)
    started = time.perf_counter()
    for name in check.mutants:
        fate, message = run_mutant(check, name, base_seed=base_seed, examples=examples)
        result.mutants[name] = fate
        if fate != "killed":
            result.messages[name] = message
    result.seconds += time.perf_counter() - started
    return result


def select_checks(registry: Registry, claims: Iterable[Claim], lane: Lane) -> list[Check]:
    """The checks of these claims in a lane; the full lane includes the quick one."""
    return [c for entry in claims for c in registry.checks_of(entry.id) if lane == "full" or c.lane == "quick"]


def run(checks: Iterable[Check], *, base_seed: int = 0, examples: float = 1.0) -> Iterator[Result]:
    """Run checks one after the other, yielding each result as it comes."""
    for check in checks:
        yield run_check(check, base_seed=base_seed, examples=examples)
