"""The runner must notice every way in which a check can go wrong."""

import pytest
import torch
from scratch import attach, enter, ledger

from kss.claims import VerificationFailed, verify
from kss.claims.registry import LEDGER, CheckFailed, Registry, instead, returns
from kss.claims.runner import run, run_check, run_mutant, run_truth, seed_of, select_checks
from kss.testing.effort import current_effort
from kss.theory import heat


def with_check(function=None, **options):
    registry = Registry()
    enter(registry)
    return attach(registry, function=function, **options)


def test_a_good_check_passes_and_kills():
    result = run_check(with_check())
    assert result.ok
    assert (result.outcome, dict(result.numbers), result.message) == ("passed", {"value": -0.5}, "")
    assert result.mutants == {"sign": "killed", "missing square": "killed"}
    assert result.seconds > 0


def test_a_false_claim_fails():
    def false(predict=heat.hessian_bound, *, generator):
        raise CheckFailed("0 is not 1")

    result = run_check(with_check(false))
    assert (result.ok, result.outcome, result.message) == (False, "failed", "0 is not 1")


@pytest.mark.parametrize("error", [ValueError("x"), AssertionError("y"), ZeroDivisionError()])
def test_another_exception_is_an_error_not_a_failure(error):
    def broken(predict=heat.hessian_bound, *, generator):
        raise error

    result = run_check(with_check(broken))
    assert (result.ok, result.outcome) == (False, "error")
    assert type(error).__name__ in result.message
    assert set(result.mutants.values()) == {"error"}


def test_a_check_that_returns_no_numbers_is_an_error():
    def silent(predict=heat.hessian_bound, *, generator):
        return None

    assert run_truth(with_check(silent)).outcome == "error"


def test_a_surviving_mutant_is_reported():
    result = run_check(with_check(mutants={"the same": returns(lambda value, *_: value), "sign": returns(lambda value, *_: -value)}))
    assert result.outcome == "passed"
    assert not result.ok
    assert result.mutants == {"the same": "survived", "sign": "killed"}
    assert "passed on a wrong version" in result.messages["the same"]


def test_a_mutant_that_raises_anything_else_is_an_error():
    result = run_check(with_check(mutants={"too many arguments": instead(lambda: 0.0)}))
    assert not result.ok
    assert result.mutants == {"too many arguments": "error"}
    assert "TypeError" in result.messages["too many arguments"]


def test_a_mutant_sees_result_and_arguments_of_the_original():
    seen = []
    check = with_check(mutants={"spy": returns(lambda value, *args: seen.append((value, args)) or 0.0)})
    assert run_mutant(check, "spy")[0] == "killed"
    assert seen[0] == (-0.5, (2.0,))
    assert check.mutants["spy"].breaks_kss
    assert not instead(abs).breaks_kss


def test_truth_and_mutants_see_the_same_numbers_and_the_seed_is_the_checks_own():
    drawn = []

    def random(predict=heat.hessian_bound, *, generator):
        drawn.append(float(torch.rand((), generator=generator)))
        if predict(1.0) != -1.0:
            raise CheckFailed
        return {}

    check = with_check(random)
    assert run_check(check).mutants["sign"] == "killed"
    run_check(check, base_seed=1)
    assert len(set(drawn[:3])) == len(set(drawn[3:])) == 1
    assert drawn[0] != drawn[3]
    seed = seed_of(check, 0)
    assert seed != seed_of(with_check(random, name="another_name"), 0)


def test_effort_reaches_the_check_and_only_the_truth_shrinks():
    seen = []

    def look(predict=heat.hessian_bound, *, generator):
        seen.append(current_effort())
        return {}

    run_check(with_check(look), examples=10.0)
    assert [(e.examples, e.shrink) for e in seen] == [(10.0, True), (10.0, False), (10.0, False)]
    assert current_effort().examples == 1.0


def test_lanes():
    registry = ledger()
    attach(registry, name="slow_one", lane="full")
    entries = registry.select([])
    assert [c.name for c in select_checks(registry, entries, "quick")] == ["at_two"]
    assert [c.name for c in select_checks(registry, entries, "full")] == ["at_two", "slow_one"]
    assert [result.check.name for result in run(select_checks(registry, entries, "full"))] == ["at_two", "slow_one"]


@pytest.fixture
def scratch_ledger(monkeypatch):
    """The project's ledger, emptied for the length of a test."""
    monkeypatch.setattr(LEDGER, "claims", {})
    monkeypatch.setattr(LEDGER, "checks", {})
    enter(LEDGER)
    return LEDGER


def test_verify_returns_a_report_or_raises_with_it(scratch_ledger):
    attach(scratch_ledger)
    report = verify("scratch.bound")
    assert report.ok
    assert [result.check.name for result in report.results] == ["at_two"]
    attach(scratch_ledger, name="weak", mutants={"the same": returns(lambda value, *_: value)}, lane="full")
    with pytest.raises(VerificationFailed, match="mutant 'the same' survived"):
        verify()
    assert verify(lane="quick").ok
    with pytest.raises(ValueError, match="unknown claim id"):
        verify("no.claim")
