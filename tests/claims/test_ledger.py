"""The ledger itself: every check on the truth, every check on each of its mutants, and the ledger as a whole."""

from pathlib import Path

import pytest

from kss.claims import LEDGER
from kss.claims.audit import audit
from kss.claims.registry import Check
from kss.claims.report import line_of
from kss.claims.runner import run_check

ROOT = Path(__file__).resolve().parents[2]


def parameters():
    for check in LEDGER.all_checks():
        marks = [pytest.mark.slow] if check.lane == "full" else []
        yield pytest.param(check, id=f"{check.claim}:{check.name}", marks=marks)


@pytest.mark.usefixtures("types_on_the_truth_alone")
@pytest.mark.parametrize("check", list(parameters()))
def test_the_truth_passes_and_every_mutant_is_killed(check: Check, evidence):
    result = run_check(check)
    evidence.append(result)
    assert result.ok, line_of(result)


def test_the_ledger_is_consistent_with_itself_and_with_the_book():
    assert audit(LEDGER, ROOT / "book") == []
