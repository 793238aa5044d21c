"""Results of the ledger go into the same evidence file that the command line writes."""

from pathlib import Path

import jaxtyping
import pytest

from kss.claims import runner
from kss.claims.evidence import DEFAULT_PATH, merge

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def evidence():
    results = []
    yield results
    if results:
        merge(results, ROOT / DEFAULT_PATH)


@pytest.fixture
def types_on_the_truth_alone(monkeypatch):
    """Mutants run the same functions as the truth: enforcing types there again would take a fourth of the time and find nothing new."""
    run_mutant = runner.run_mutant

    def unchecked(*args, **kwargs):
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            return run_mutant(*args, **kwargs)
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    monkeypatch.setattr(runner, "run_mutant", unchecked)
