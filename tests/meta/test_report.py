"""Results as text and as HTML."""

from scratch import attach, enter

from kss.claims.registry import CheckFailed, Registry, returns
from kss.claims.report import Report, killed_of, line_of, numbers_of
from kss.claims.runner import run_check
from kss.theory import heat

HOSTILE = "<script>alert('&')</script>"


def result(function=None, **options):
    registry = Registry()
    enter(registry)
    return run_check(attach(registry, function=function, **options))


def test_a_line_says_what_ran_and_below_it_what_went_wrong():
    good = result()
    assert line_of(good).startswith("passed scratch.bound at_two (property), mutants killed 2 of 2, ")
    assert line_of(good).endswith("value -0.5")
    bad = result(mutants={"the same": returns(lambda value, *_: value)})
    assert killed_of(bad) == "0 of 1"
    assert "\n    mutant 'the same' survived: the check passed on a wrong version" in line_of(bad)

    def false(predict=heat.hessian_bound, *, generator):
        raise CheckFailed("one\ntwo")

    assert "failed scratch.bound" in line_of(result(false))
    assert "\n    one\n    two" in line_of(result(false))


def test_a_report_is_good_if_all_of_it_is():
    good, bad = result(), result(mutants={"the same": returns(lambda value, *_: value)})
    assert Report([good]).ok
    assert not Report([good, bad]).ok
    assert str(Report([good, bad])) == repr(Report([good, bad])) == line_of(good) + "\n" + line_of(bad)
    assert str(Report([])) == "nothing to run"


def test_html_escapes_whatever_a_check_says():
    def hostile(predict=heat.hessian_bound, *, generator):
        return {HOSTILE: HOSTILE}

    found = Report([result(hostile)])._repr_html_()
    assert "<script" not in found
    assert "&lt;script&gt;" in found
    assert "scratch.bound" in found
    assert "killed 0 of 2" in found


def test_numbers_are_short():
    assert numbers_of(result()) == "value -0.5"
