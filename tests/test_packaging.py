"""The wheel, installed by itself into an empty environment, verifies claims of its own ledger."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kss.claims import LEDGER

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "kss")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run, away from this environment's variables; what was said is in the failure."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "COV_"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.slow
def test_the_wheel_verifies_claims_in_an_empty_environment(tmp_path):
    source, wheels, away = tmp_path / "source", tmp_path / "wheels", tmp_path / "away"
    source.mkdir()
    away.mkdir()
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    # With this environment's setuptools: that pyproject.toml asks for all a build needs is seen whenever `make` makes an environment.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, source, cwd=tmp_path)
    (wheel,) = wheels.glob("kernel_smoothed_scores-*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert "kss/py.typed" in inside
    # All of the package and nothing but the package.
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kss").rglob("*.py")}
    assert {name for name in inside if name.endswith(".py")} == modules

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=away)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    # Compiling all of torch would take longer than everything else here; what is imported is compiled then.
    run(*pip, "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", f"{wheel}[verify]", cwd=away)
    run(*pip, "check", cwd=away)
    where = run(python, "-c", "import kss; print(kss.__file__, kss.__version__)", cwd=away).stdout
    assert where.startswith(str(tmp_path / "venv"))
    for absent in ("pytest", "matplotlib", "sphinx"):
        assert subprocess.run([python, "-c", f"import {absent}"], cwd=away, capture_output=True).returncode == 1

    # One claim of every module is enough: what can break in a wheel is what a module imports. The rest runs in tests/claims.
    firsts = {c.function.__module__: c.claim for c in reversed(LEDGER.all_checks()) if c.lane == "quick"}
    said = run(python, "-m", "kss", "verify", "--quick", *firsts.values(), cwd=away).stderr
    assert " 0 not passed" in said
    evidence = json.loads((away / "_build" / "evidence.json").read_text(encoding="utf-8"))
    assert evidence["versions"]["kernel-smoothed-scores"] == where.split()[-1]
    statuses = {claim["status"] for claim in evidence["claims"]}
    assert statuses <= {"checked", "quick lane only", "not run here", "open"}
    assert "checked" in statuses
