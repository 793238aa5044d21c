"""`python -m kss verify` and `python -m kss check`: what they exit with, and what they say."""

import json
import os
import subprocess
import sys

import numpy as np
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


MODULE = """
import torch
from kss.distributions import Empirical, Gaussian

law = Gaussian([0.0, 0.0], 1.0)
data = Empirical(torch.load("points.pt"))
number = 3

class Law(Gaussian):
    def __init__(self):
        super().__init__([0.0], 1.0)

def plain(x, t):
    return -x / (1 + torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1))

def make():
    return plain

def rotated(x, t):
    return plain(x, t) + x @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=x.dtype)

def broken():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A folder with a module `own_scores`, and a function that runs `check` in it."""
    import torch

    points = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.save(points, tmp_path / "points.pt")
    np.save(tmp_path / "points.npy", points.numpy())
    np.save(tmp_path / "flat.npy", points[:, 0].numpy())
    (tmp_path / "own_scores.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_scores", raising=False)

    def check(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["check", *arguments])
        return result.exit_code, result.output

    yield check
    sys.modules.pop("own_scores", None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("own_scores:law",),  # an object, which knows its dimension
        ("own_scores:Law",),  # a class
        ("own_scores:make", "--dim", "2"),  # a function that returns one
        ("own_scores:plain", "--dim", "2", "--times", "0.1,2", "--seed", "5"),
        ("own_scores:law.score", "--dim", "2"),
        ("own_scores:rotated", "--dim", "2", "--expect-failure", "gradient=on purpose", "--expect-failure", "burgers=likewise"),
        ("own_scores:rotated", "--dim", "2", "--tolerance", "gradient=5", "--tolerance", "burgers=5"),
    ],
)
def test_check_zero_when_the_score_passes(own_module, arguments):
    code, output = own_module(*arguments)
    assert code == 0, output
    assert "burgers" in output


def test_check_with_data(own_module):
    code, output = own_module("own_scores:data", "--data", "points.npy", "--held-out", "points.npy", "--times", "0.5", "--draws", "2000")
    assert code == 0, output
    assert "it is the empirical score of the data itself" in output
    assert "the test needs 100" in output


def test_check_one_when_a_check_fails_or_passes_against_expectation(own_module):
    code, output = own_module("own_scores:rotated", "--dim", "2")
    assert code == 1
    assert "2 failed" in output
    code, output = own_module("own_scores:law", "--expect-failure", "burgers=I thought so")
    assert code == 1
    assert "1 unexpected pass" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("own_scores",), "expected MODULE:OBJECT"),
        (("no_such_module:law",), "cannot import no_such_module: ModuleNotFoundError"),
        (("own_scores:nothing",), "own_scores has no nothing"),
        (("own_scores:number", "--dim", "2"), "own_scores:number is 3: expected an object with a method score(x, t)"),
        (("own_scores:broken", "--dim", "2"), "calling it without arguments raised RuntimeError: no weights"),
        (("own_scores:plain",), "the dimension is not known: give --dim"),
        (("own_scores:law", "--times", "soon"), "could not convert"),
        (("own_scores:law", "--times", "0"), "times = 0.0"),
        (("own_scores:law", "--data", "nowhere.npy"), "nowhere.npy"),
        (("own_scores:law", "--data", "flat.npy"), "flat.npy: expected an array of shape (N, d)"),
        (("own_scores:law", "--expect-failure", "burgers"), "--expect-failure burgers: expected NAME=..."),
        (("own_scores:law", "--expect-failure", "luck=bad"), "expected names of checks that can fail"),
    ],
)
def test_check_two_when_not_understood(own_module, arguments, message):
    code, output = own_module(*arguments)
    assert code == 2
    assert message in output
