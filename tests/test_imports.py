"""What importing the package costs, and what it answers where no type checker stands in front of it."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.xdist_group("imports")  # one process answers for all
HEAVY = ("hypothesis", "sympy", "pytest", "matplotlib", "beartype", "flint", "grimp")
IMPORTS = """
import sys, kss, kss.claims, kss.testing, kss.claims.audit, kss.claims.evidence, kss.testing.statistics, kss.testing.properties
import kss.testing.simulation, kss.testing.effort, kss.distributions, kss.dynamics, kss.theory, json
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
# Each of these breaks an annotation as well, so the hook of tests/conftest.py would stop it first.
WRONG = """
import json, warnings
from kss.claims.registry import Registry
from kss.distributions import Empirical
from kss.dynamics import sample_reverse_sde
from kss.scores.protocol import score_function
law = Empirical([[0.0]])
run = dict(t_max=1.0, t_min=0.5, steps=2, generator=0)
calls = {
    "score": lambda: score_function(3),
    "method": lambda: sample_reverse_sde(law, [[0.0]], method="magic", **run),
    "steps": lambda: sample_reverse_sde(law, [[0.0]], **(run | {"steps": 1.5})),
    "t_max": lambda: sample_reverse_sde(law, [[0.0]], **(run | {"t_max": "late"})),
    "n": lambda: law.sample(2.5, generator=0),
    "generator": lambda: law.sample(1, generator=None),
    "x": lambda: law.score(object(), 1.0),
    "t": lambda: law.score([0.0], None),
    "by": lambda: Registry().check("a.b", by="luck", mutants={}),
}
said = {}
for name, call in calls.items():
    try:
        call()
    except ValueError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


def output_of(code: str):
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_importing_the_package_does_not_import_what_only_checks_need():
    assert sorted(set(HEAVY) & set(output_of(IMPORTS))) == []


@pytest.fixture(scope="module")
def said():
    return output_of(WRONG)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("score", "score = 3: expected an object with a method score(x, t), or a function of x and t"),
        ("method", "method = 'magic': expected 'bridge' or 'euler'"),
        ("steps", "steps = 1.5: expected an integer >= 1"),
        ("t_max", "t_max = 'late': expected a number > 0"),
        ("n", "n = 2.5: expected an integer >= 1"),
        ("generator", "generator = None: expected a torch.Generator or an int seed"),
        ("x", "expected an array of real numbers"),
        ("t", "t = None: expected an array of real numbers"),
        ("by", "by = 'luck' in a check of a.b: expected one of proof, property"),
    ],
)
def test_the_wrong_type_is_named_with_its_value_and_what_was_expected(said, name, message):
    assert message in said.get(name, "no ValueError")
