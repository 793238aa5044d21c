"""What the ledger refuses to take in."""

import pytest
from scratch import attach, enter, ledger

from kss.claims import LEDGER, get
from kss.claims.registry import Registry
from kss.theory import heat


@pytest.mark.parametrize("id", ["nodot", "Upper.case", "two.dots.here", "space .x", ""])
def test_ids_are_topic_dot_name(id):
    with pytest.raises(ValueError, match=r"expected topic\.name in lower case"):
        enter(Registry(), id=id)


def test_claims_have_known_verdicts_and_enter_once():
    registry = ledger()
    with pytest.raises(ValueError, match="the claim exists already"):
        enter(registry)
    with pytest.raises(ValueError, match=r"verdict = 'true' of a\.b: expected one of holds, holds in regime"):
        enter(registry, id="a.b", verdict="true")


@pytest.mark.parametrize(("verdict", "missing"), [("open", ""), ("holds", "an integral")])
def test_an_open_claim_names_what_is_missing_and_no_other_does(verdict, missing):
    with pytest.raises(ValueError, match=r"missing = .*expected for open claims, and only for them"):
        enter(Registry(), verdict=verdict, missing=missing)


def test_checks_say_how_and_against_what():
    registry = ledger()
    with pytest.raises(ValueError, match="a statistical check states both"):
        attach(registry, name="other", by="statistics", alpha=1e-9)
    with pytest.raises(ValueError, match="a statistical check states both"):
        attach(registry, name="other", by="statistics", detects="5 % with power 0.99")
    with pytest.raises(ValueError, match="no such claim"):
        attach(registry, id="no.claim")
    with pytest.raises(ValueError, match="the name is taken"):
        attach(registry)


def test_the_prediction_under_test_is_a_function_of_kss():
    def own(t):
        return -1 / t

    for wrong in (own, max):

        def check(predict=wrong, *, generator):
            return {}

        with pytest.raises(ValueError, match="expected a function of kss as default"):
            attach(ledger(), function=check, name="other")

    def right(predict=heat.density_rate, *, generator):
        return {}

    assert attach(ledger(), function=right, name="other").predict is heat.density_rate


def test_selection_and_ancestors():
    registry = ledger()
    enter(registry, id="scratch.next", uses=["scratch.bound"])
    enter(registry, id="scratch.last", uses=["scratch.next"])
    assert registry.ancestors("scratch.last") == {"scratch.bound", "scratch.next"}
    assert [entry.id for entry in registry.select(["scratch.last", "scratch.bound"])] == ["scratch.bound", "scratch.last"]
    assert len(registry.select([])) == 3
    with pytest.raises(ValueError, match=r"unknown claim id: a\.a, z\.z; known are scratch\.bound, "):
        registry.select(["z.z", "a.a", "scratch.bound"])


def test_get_is_the_claim_itself():
    entry = next(iter(LEDGER.claims.values()))
    assert get(entry.id) is entry
    with pytest.raises(ValueError, match="unknown claim id"):
        get("no.claim")
