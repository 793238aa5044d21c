"""Every way in which the ledger as a whole can be wrong is found."""

import pytest
from scratch import RIGHT, attach, enter, ledger

from kss.claims.audit import audit
from kss.claims.registry import Registry, instead

BOX = "```{claim} scratch.bound\n```\n"


@pytest.fixture
def book(tmp_path):
    (tmp_path / "page.md").write_text(f"# Title\n\n{BOX}\nSee {{claim}}`scratch.bound`.\n", encoding="utf-8")
    return tmp_path


def test_a_good_ledger_has_no_problems(book):
    assert audit(ledger(), book) == []
    assert audit(ledger()) == []


def test_a_claim_without_check():
    registry = Registry()
    enter(registry)
    assert audit(registry) == ["scratch.bound: has no check"]


def test_an_open_claim_needs_no_check_but_there_may_be_few():
    registry = ledger()
    enter(registry, id="scratch.open", verdict="open", missing="an integral")
    assert audit(registry) == ["1 of 2 claims are open, more than a tenth: scratch.open"]
    for k in range(8):
        enter(registry, id=f"scratch.more_{k}")
        attach(registry, id=f"scratch.more_{k}")
    assert audit(registry) == []  # one of ten


def test_a_claim_without_chapter():
    assert audit(ledger(chapter="")) == ["scratch.bound: has no chapter"]


def test_mutants_are_there_and_one_breaks_the_function_itself():
    registry = ledger()
    attach(registry, name="idle", mutants={})
    assert audit(registry) == ["scratch.bound: check idle has no mutant"]
    registry = Registry()
    enter(registry)
    attach(registry, mutants={"careless": instead(lambda t: -1 / t**2)})
    assert audit(registry) == ["scratch.bound: no mutant breaks the kss function itself"]


def test_false_alarms_add_up():
    registry = ledger()
    for k in range(3):
        attach(registry, name=f"random_{k}", by="statistics", alpha=4e-7, detects="much", mutants=RIGHT)
    assert audit(registry) == ["alpha sums to 1.2e-06, more than 1e-06"]
    registry.checks["scratch.bound"].pop()
    assert audit(registry) == []


def test_what_a_claim_rests_on_exists_and_is_not_itself():
    registry = ledger(uses=["no.claim"])
    assert audit(registry) == ["scratch.bound: uses the unknown id no.claim"]
    registry = ledger(uses=["scratch.next"])
    enter(registry, id="scratch.next", uses=["scratch.bound"])
    attach(registry, id="scratch.next")
    assert audit(registry) == ["scratch.bound: rests on itself", "scratch.next: rests on itself"]


def test_a_box_of_an_unknown_claim(book):
    (book / "page.md").write_text(BOX + "```{claim} no.claim\n```\n", encoding="utf-8")
    assert audit(ledger(), book) == ["page.md: the claim no.claim is not in the ledger"]
    (book / "page.md").write_text(BOX + "{claim}`no.claim`", encoding="utf-8")
    assert audit(ledger(), book) == ["page.md: the claim no.claim is not in the ledger"]


def test_a_box_stands_once_and_on_its_page(book):
    page = book / "page.md"
    page.rename(book / "other.md")
    assert audit(ledger(), book) == ["scratch.bound: its box belongs on page, and stands on other"]
    (book / "other.md").unlink()
    assert audit(ledger(), book) == ["scratch.bound: its box belongs on page, and stands on no page"]
    page.write_text(BOX + "\n" + BOX, encoding="utf-8")
    assert audit(ledger(), book) == ["scratch.bound: its box belongs on page, and stands on page, page"]


def test_both_fences_open_a_box(book):
    (book / "page.md").write_text(":::{claim} scratch.bound\n:::\n", encoding="utf-8")
    assert audit(ledger(), book) == []
    (book / "page.md").write_text("````{claim} scratch.bound\n````\n", encoding="utf-8")
    assert audit(ledger(), book) == []
