"""`python -m kss verify`: what it exits with, and what it says."""

import json
import os
import subprocess
import sys

import pytest
from scratch import attach, enter
from typer.testing import CliRunner

from kss.__main__ import app
from kss.claims.registry import LEDGER, CheckFailed, returns
from kss.theory import heat


@pytest.fixture
def scratch_ledger(monkeypatch):
    """The project's ledger, emptied for the length of a test, with one good claim."""
    monkeypatch.setattr(LEDGER, "claims", {})
    monkeypatch.setattr(LEDGER, "checks", {})
    enter(LEDGER)
    attach(LEDGER)
    return LEDGER


def invoke(tmp_path, *arguments: str):
    result = CliRunner().invoke(app, ["verify", "--evidence", str(tmp_path / "evidence.json"), *arguments])
    return result.exit_code, result.output


def page(tmp_path, text="```{claim} scratch.bound\n```\n"):
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    return tmp_path


def false(predict=heat.hessian_bound, *, generator):
    raise CheckFailed("no")


def broken(predict=heat.hessian_bound, *, generator):
    raise ZeroDivisionError


def test_zero_when_all_is_well(tmp_path, scratch_ledger):
    code, output = invoke(tmp_path, "--book", str(page(tmp_path)))
    assert code == 0, output
    assert "passed scratch.bound at_two" in output
    assert "1 claims, 1 checks, 0 not passed, 2 mutants, alpha 0; evidence in" in output
    assert json.loads((tmp_path / "evidence.json").read_text())["claims"][0]["status"] == "checked"


@pytest.mark.parametrize(
    "bad",
    [
        {"function": false},
        {"function": broken},
        {"mutants": {"the same": returns(lambda value, *_: value)}},
        {"mutants": {"broken": returns(lambda value, *_: 1 / 0)}},
    ],
    ids=["failed", "error", "mutant survived", "mutant error"],
)
@pytest.mark.parametrize("arguments", [(), ("scratch.bound",), ("--quick",)])
def test_one_when_a_check_is_not_good_in_any_kind_of_run(tmp_path, scratch_ledger, bad, arguments):
    attach(scratch_ledger, name="bad", **bad)
    assert invoke(tmp_path, *arguments)[0] == 1
    assert json.loads((tmp_path / "evidence.json").read_text())["claims"][0]["status"] == "failing"


def test_one_when_the_ledger_is_not_consistent_but_only_in_a_full_run(tmp_path, scratch_ledger):
    enter(scratch_ledger, id="scratch.idle")
    code, output = invoke(tmp_path)
    assert code == 1
    assert "ledger: scratch.idle: has no check" in output
    assert invoke(tmp_path, "--quick")[0] == 0
    assert invoke(tmp_path, "scratch.bound")[0] == 0


def test_one_when_the_book_and_the_ledger_disagree(tmp_path, scratch_ledger):
    assert invoke(tmp_path, "--book", str(page(tmp_path, "{claim}`no.claim`")))[0] == 1


def test_two_when_the_command_is_not_understood(tmp_path, scratch_ledger):
    code, output = invoke(tmp_path, "no.claim")
    assert code == 2
    assert "unknown claim id: no.claim; known are scratch.bound" in output
    assert not (tmp_path / "evidence.json").exists()
    assert invoke(tmp_path, "--book", str(tmp_path / "nowhere"))[0] == 2
    assert invoke(tmp_path, "--no-such-option")[0] == 2


def test_deep_runs_say_their_seed(tmp_path, scratch_ledger):
    code, output = invoke(tmp_path, "--deep", "scratch.bound")
    assert code == 0
    assert "base seed " in output


@pytest.mark.slow
def test_as_a_process(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "kss", "verify", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"NO_COLOR": "1"},
        )

    good = run("heat.tweedie", "--quick")
    assert good.returncode == 0, good.stderr
    assert "passed heat.tweedie" in good.stderr
    assert (tmp_path / "_build" / "evidence.json").exists()
    bad = run("no.claim")
    assert bad.returncode == 2
    assert "unknown claim id: no.claim" in bad.stderr
    assert "Traceback" not in bad.stderr
