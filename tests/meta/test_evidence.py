"""What is written down, and the status that follows from it."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from scratch import attach, enter, ledger

from kss.claims import LEDGER, evidence
from kss.claims.evidence import ancestors_checked, load, merge, record_of, status, summary, versions
from kss.claims.registry import CheckFailed, Registry
from kss.claims.runner import run_check
from kss.theory import heat


def records(registry: Registry, *names: str):
    """What a run of the named checks (all, if none is named) leaves behind."""
    checks = [check for check in registry.all_checks() if not names or check.name in names]
    return {(check.claim, check.name): record_of(run_check(check)) for check in checks}


def only(registry: Registry, id: str = "scratch.bound"):
    return registry.claims[id]


def test_all_six_statuses():
    registry = ledger()
    attach(registry, name="slow_one", lane="full")
    claim, full = only(registry), records(registry)
    assert status(claim, registry, full) == "checked"
    assert status(claim, registry, records(registry, "at_two")) == "quick lane only"
    assert status(claim, registry, {}) == "not run here"
    old = {key: record | {"key": "of other code"} for key, record in full.items()}
    assert status(claim, registry, old) == "stale"
    # One fresh and one stale is stale; one fresh and failing is failing, whatever the other is.
    mixed = old | {("scratch.bound", "at_two"): full["scratch.bound", "at_two"]}
    assert status(claim, registry, mixed) == "stale"
    assert (
        status(claim, registry, mixed | {("scratch.bound", "at_two"): full["scratch.bound", "at_two"] | {"outcome": "failed"}}) == "failing"
    )
    enter(registry, id="scratch.open", verdict="open", missing="an integral")
    assert status(only(registry, "scratch.open"), registry, full) == "open"


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "failed"},
        {"outcome": "error"},
        {"mutants": {"sign": "killed", "missing square": "survived"}},
        {"mutants": {"sign": "error", "missing square": "killed"}},
        {"mutants": {"sign": "killed"}},  # a mutant was added since
        {"mutants": {}},
    ],
)
def test_whatever_is_not_a_pass_with_every_mutant_killed_is_failing(change):
    registry = ledger()
    found = {key: record | change for key, record in records(registry).items()}
    assert status(only(registry), registry, found) == "failing"


def test_a_failing_check_is_failing():
    def false(predict=heat.hessian_bound, *, generator):
        raise CheckFailed("no")

    registry = ledger()
    attach(registry, name="false_one", function=false)
    assert status(only(registry), registry, records(registry)) == "failing"


def test_a_record_without_key_is_stale():
    registry = ledger()
    found = records(registry)
    del found["scratch.bound", "at_two"]["key"]
    assert status(only(registry), registry, found) == "stale"


def test_ancestors_are_checked_all_the_way_up():
    registry = ledger()
    for name, uses in (("scratch.next", ["scratch.bound"]), ("scratch.last", ["scratch.next"])):
        enter(registry, id=name, uses=uses)
        attach(registry, id=name)
    full = records(registry)
    last = only(registry, "scratch.last")
    assert ancestors_checked(last, registry, full)
    assert ancestors_checked(only(registry), registry, {})  # it rests on nothing
    del full["scratch.bound", "at_two"]
    assert not ancestors_checked(last, registry, full)
    enter(registry, id="scratch.lost", uses=["no.claim"])
    assert not ancestors_checked(only(registry, "scratch.lost"), registry, full)


def test_the_file_has_the_shape_of_the_design(tmp_path):
    def tensors(predict=heat.hessian_bound, *, generator):
        if predict(2.0) != -0.5:
            raise CheckFailed
        return {
            "tensor": torch.tensor([1.0, float("nan")]),
            "scalar": torch.tensor(2),
            "inf": float("inf"),
            "pair": (1, "a"),
            "none": None,
            "type": int,
        }

    registry, path = ledger(), tmp_path / "below" / "evidence.json"
    attach(registry, name="tensors", function=tensors, by="statistics", alpha=1e-9, detects="5 %", lane="full")
    merge([run_check(check) for check in registry.all_checks()], path, registry)
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert set(content) == {"claims", "alpha_total", "versions"}
    assert content["alpha_total"] == 1e-9
    assert content["versions"] == versions()
    assert {"python", "torch", "kernel-smoothed-scores", "hypothesis"} <= set(content["versions"])
    (claim,) = content["claims"]
    assert set(claim) == {"id", "verdict", "status", "ancestors_checked", "chapter", "checks"}
    assert (claim["id"], claim["verdict"], claim["status"], claim["chapter"]) == ("scratch.bound", "holds", "checked", "page")
    first, second = claim["checks"]
    assert {"name", "by", "lane", "outcome", "numbers", "mutants", "alpha", "detects", "seconds"} <= set(first)
    assert first["mutants"] == {"sign": "killed", "missing square": "killed"}
    assert second["numbers"] == {"tensor": [1.0, "nan"], "scalar": 2, "inf": "inf", "pair": [1, "a"], "none": None, "type": "<class 'int'>"}
    assert (second["alpha"], second["detects"], second["lane"]) == (1e-9, "5 %", "full")
    assert load(path) == {("scratch.bound", record["name"]): record for record in claim["checks"]}
    assert [entry.name for entry in path.parent.iterdir() if entry.suffix == ".json"] == ["evidence.json"]  # no temporary is left


def test_merging_keeps_what_is_not_run_again_and_drops_what_the_ledger_no_longer_has(tmp_path):
    registry, path = ledger(), tmp_path / "evidence.json"
    attach(registry, name="second")
    one, two = (run_check(check) for check in registry.all_checks())
    merge([one], path, registry)
    assert set(load(path)) == {("scratch.bound", "at_two")}
    merge([two], path, registry)
    assert set(load(path)) == {("scratch.bound", "at_two"), ("scratch.bound", "second")}
    one.outcome = "failed"
    merge([one], path, registry)
    assert load(path)["scratch.bound", "at_two"]["outcome"] == "failed"
    registry.checks["scratch.bound"].pop()
    merge([], path, registry)
    assert set(load(path)) == {("scratch.bound", "at_two")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"x"',
        '{"claims": 3}',
        '{"claims": [3]}',
        '{"claims": [{"id": "a.b"}]}',
        '{"claims": [{"id": [], "checks": [{"name": []}]}]}',
        "\xff",
    ],
)
def test_a_corrupt_file_counts_as_none_and_is_replaced(tmp_path, text):
    path, registry = tmp_path / "evidence.json", ledger()
    path.write_bytes(text.encode("latin-1"))
    assert load(path) == {}
    merge([run_check(check) for check in registry.all_checks()], path, registry)
    assert load(path)["scratch.bound", "at_two"]["outcome"] == "passed"


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [{meta!r}]
from scratch import attach, ledger
from kss.claims.evidence import merge
from kss.claims.runner import run_check
registry = ledger()
for k in range(20):
    attach(registry, name=f"check_{{k}}")
mine = [check for k, check in enumerate(registry.all_checks()) if k % 2 == int(sys.argv[2])]
print("ready", flush=True)
sys.stdin.readline()
for check in mine:
    merge([run_check(check)], Path(sys.argv[1]), registry)
"""


@pytest.mark.slow
def test_two_processes_at_once_lose_nothing(tmp_path):
    path, code = tmp_path / "evidence.json", WRITER.format(meta=str(Path(__file__).parent))
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), part], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for part in "01"
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert len(load(path)) == 21


# --- staleness: keys ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_keys():
    evidence._module_key.cache_clear()
    yield
    evidence._module_key.cache_clear()


def test_another_version_of_a_library_makes_everything_stale(monkeypatch, fresh_keys):
    check = LEDGER.all_checks()[0]
    key = evidence.key_of(check)
    assert len(key) == 16
    evidence._module_key.cache_clear()
    assert evidence.key_of(check) == key
    evidence._module_key.cache_clear()
    monkeypatch.setattr(evidence, "versions", lambda: versions() | {"torch": "0.0"})
    assert evidence.key_of(check) != key


def test_a_library_that_is_missing_is_a_version_too(monkeypatch):
    monkeypatch.setattr(evidence, "LIBRARIES", ("no-such-library",))
    assert versions()["no-such-library"] == "not installed"


KEYS = """
import json, sys
from pathlib import Path
import kss
from kss.claims import LEDGER, evidence
for change in sys.stdin:
    if change.strip():
        with (Path(kss.__file__).parent / change.strip()).open("a", encoding="utf-8") as file:
            file.write("\\n# changed\\n")
    evidence._module_key.cache_clear()
    print(json.dumps({check.function.__module__: evidence.key_of(check) for check in LEDGER.all_checks()}), flush=True)
"""


@pytest.mark.slow
def test_the_bytes_of_the_code_that_a_check_exercises_are_its_key(tmp_path):
    shutil.copytree(Path(find_spec("kss").origin).parent, tmp_path / "kss", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", KEYS], stdin=pipe, stdout=pipe, text=True, cwd=tmp_path, env=environment) as process:

        def keys_after(change: str) -> dict[str, str]:
            print(change, file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        check_keys(tmp_path, keys_after)


def check_keys(folder: Path, keys_after) -> None:
    before = keys_after("")
    chapter = "kss.claims.scores_and_heat"
    assert chapter in before
    # What no check can see: plots, the command line, the report.
    unseen = next((folder / "kss" / "plots").glob("*.py")).relative_to(folder / "kss")
    assert keys_after(str(unseen)) == keys_after("__main__.py") == keys_after("claims/report.py") == before
    # Another chapter's claims are its own affair ...
    after = keys_after("claims/empirical_score.py")
    assert {module for module in before if after[module] != before[module]} == {"kss.claims.empirical_score"}
    # ... what a check imports is not, directly or not, and nor is what runs it.
    for change in ("theory/heat.py", "engine/data.py", "claims/runner.py"):
        before, after = after, keys_after(change)
        assert after[chapter] != before[chapter], change


def test_a_summary_of_nothing_is_not_run_here():
    registry = ledger()
    assert summary(registry, {})["claims"][0]["status"] == "not run here"
    assert summary(registry, {})["claims"][0]["checks"] == []
