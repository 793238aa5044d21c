"""`check_score`: exact scores pass, and each check fails on a score that is wrong in the way it looks for."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from kss.distributions import Circle, Empirical, Gaussian, GaussianMixture
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.testing import check_score, score_data
from kss.testing.score_checks import NAMES
from kss.testing.score_probe import Probe
from kss.theory.heat import burgers_residual

TIMES = (0.05, 1.0)
EXACT = ("interface", "repeatable", "rows", "times", "gradient", "hessian", "burgers")


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mixture(dim, seed=0):
    return GaussianMixture(normal(3, dim, seed=seed), 0.3 * torch.eye(dim, dtype=torch.float64))


LAW = mixture(2)
DATA = LAW.sample(300, 1)


def failed(report):
    return {r.name for r in report.results if r.outcome == "failed"}


def wrong(score, dim=2, **options):
    """What fails, on a few points at two times."""
    return check_score(score, dim=dim, **({"times": TIMES, "count": 8, "draws": 4000} | options))


LAWS = {
    "gaussian": lambda d: Gaussian(normal(d), 2.0),
    "singular gaussian": lambda d: Gaussian(torch.zeros(d), torch.diag(torch.arange(d) % 2).double()),
    "mixture": mixture,
    "empirical": lambda d: Empirical(normal(50, d)),
    "data on a plane": lambda d: Empirical(normal(50, max(1, d // 2)) @ normal(max(1, d // 2), d)),
    "one point": lambda d: Empirical(normal(1, d)),
}


CASES = [
    ("data on a plane", 2),
    *(pytest.param(name, dim, marks=pytest.mark.slow) for name in ("gaussian", "mixture", "empirical", "one point") for dim in (1, 2)),
    *(pytest.param(name, 8, marks=pytest.mark.slow) for name in ("mixture", "empirical")),
    *(pytest.param(name, 64, marks=pytest.mark.slow) for name in ("singular gaussian", "data on a plane")),
]


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_exact_scores_pass_from_small_to_large_noise(name, dim):
    law = LAWS[name](dim)
    report = check_score(law, dim=dim, times=(1e-4, 0.3, 100.0), count=4, points=None if dim < 8 else law.diffuse(4, 1e-4, 0))
    assert report.ok, report
    assert [report[n].outcome for n in EXACT] == ["passed"] * 4 + ["not run" if dim == 1 else "passed"] + ["passed"] * 2
    assert report["burgers"].tolerance < 1e-4


def test_a_circle_passes_in_float32_and_without_derivatives():
    law = Circle(1.0)
    assert wrong(law).ok

    def single(x, t):
        return law.score(x.float(), t.float() if isinstance(t, torch.Tensor) else t)

    def through_numpy(x, t):
        return torch.as_tensor(law.score(x.numpy(), float(t)).numpy())

    report = wrong(single)
    assert report.ok
    assert report.subject.endswith("in float32")
    assert 1e-8 < report["gradient"].tolerance < 1e-2
    report = wrong(through_numpy)
    assert report.ok
    assert report["times"].outcome == "not run"
    assert "difference quotients" in report["burgers"].basis
    assert report["burgers"].tolerance < 1e-5


def test_a_detached_score_is_differentiated_by_differences():
    report = wrong(lambda x, t: LAW.score(x.detach(), t) + 0.01 * x.detach() @ ROTATION)
    assert "not differentiable" in report["interface"].message
    assert {"gradient", "burgers"} <= failed(report)


def test_points_are_handed_over_in_float32_where_float64_is_refused():
    weights = torch.eye(2)
    report = wrong(lambda x, t: -(x @ weights) / (1 + torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1)))
    assert report.ok
    assert "takes float32" in report["interface"].message


ROTATION = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


def column(t):
    return torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1)


def noisy():
    chance = torch.Generator().manual_seed(0)
    return lambda x, t: LAW.score(x, t) + 1e-3 * torch.randn(x.shape, dtype=x.dtype, generator=chance)


# What is wrong with a score, and which checks must fail: these and, among the ones that look at the field itself, no others.
WRONG = {
    "a rotation added": (lambda x, t: LAW.score(x, t) + 0.01 * x @ ROTATION, {"gradient", "burgers"}),
    "multiplied by 1.1": (lambda x, t: 1.1 * LAW.score(x, t), {"burgers"}),
    "pulls twice as hard as noise": (lambda x, t: -2 * x / column(t), {"hessian", "burgers"}),
    "read at t/2": (lambda x, t: LAW.score(x, t / 2), {"burgers"}),
    "a standard deviation for the variance": (lambda x, t: LAW.score(x, t**2), {"burgers"}),
    "mollified": (Mollified(Empirical(DATA[:6]), GaussianKernel(0.05), most_nodes=128, accuracy=0.1), {"burgers"}),
    "chance": (noisy(), {"repeatable"}),
    "depends on the batch": (lambda x, t: LAW.score(x - x.mean(0), t), {"rows"}),
    "depends on how the time is given": (lambda x, t: LAW.score(x, t) * (1.01 if isinstance(t, torch.Tensor) else 1.0), {"times"}),
    "one time for all rows": (lambda x, t: LAW.score(x, t.reshape(-1)[0] if isinstance(t, torch.Tensor) else t), {"times"}),
    "wrong shape": (lambda x, t: LAW.score(x, t)[:, :1], {"interface"}),
    "not a tensor": (lambda x, t: LAW.score(x, t).tolist(), {"interface"}),
    "integers": (lambda x, t: LAW.score(x, t).long(), {"interface"}),
    "not a number": (lambda x, t: LAW.score(x, t) * math.nan, {"interface"}),
    "raises": (lambda x, t: LAW.score(x), {"interface"}),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "mollified" else ()) for n in WRONG])
def test_every_check_fails_on_what_it_looks_for(name):
    score, expected = WRONG[name]
    report = wrong(score, count=3 if name == "mollified" else 8)
    # A wrong time or a factor may also break the bound, by how much depends on the law.
    assert expected <= failed(report) <= expected | {"hessian", "burgers"}, report
    assert report.exit_code == 1
    for check in expected - {"interface"}:
        assert report[check].measured > report[check].tolerance


@pytest.mark.parametrize(
    ("score", "clock"),
    [(lambda x, t: LAW.score(x, t / 2), lambda t: 0.5), (lambda x, t: LAW.score(x, t**2), lambda t: 2 * t)],
    ids=["half", "standard deviation"],
)
def test_a_wrong_clock_is_read_off(score, clock):
    result = wrong(score)["burgers"]
    assert all(math.isclose(result.details["clock"][t], clock(t), rel_tol=1e-9) for t in TIMES)
    assert "standard deviation" in result.message


def test_the_residual_is_that_of_the_theory():
    def score(x, t):
        return 1.1 * LAW.score(x, t)

    x = normal(12, 2)
    result = wrong(score, points=x)["burgers"]
    for t in TIMES:
        residual = burgers_residual(score, x, t).norm()
        rate = burgers_residual(LAW, x, t)  # rounding
        assert float(rate.norm()) < 1e-9 * float(residual)
        # |1.1 (r - f) - ...| over the sum of the terms' sizes is at most the residual over its largest term.
        assert 0 < result.by_time[t] < 0.1


@pytest.mark.parametrize("dim", [17, 64])
def test_random_directions_see_a_rotation_and_lanczos_an_eigenvalue(dim):
    skew = normal(dim, dim)
    skew = (skew - skew.T) / dim

    def law(x, t):
        return -x / (1 + column(t))

    def bent(x, t):
        # One direction out of dim pulls three times as hard as noise.
        return law(x, t) - 2 * x[:, :1] / column(t) * torch.eye(dim, dtype=x.dtype)[0]

    def rotated(x, t):
        return law(x, t) + 1e-8 * x @ skew

    assert wrong(law, dim, most_laplacian_dim=1)["burgers"].outcome == "not run"
    assert failed(wrong(rotated, dim, most_laplacian_dim=1)) == {"gradient"}
    assert failed(wrong(bent, dim, most_laplacian_dim=1)) == {"hessian"}


def test_lanczos_finds_the_smallest_eigenvalue_of_a_known_jacobian():
    values = torch.cat((torch.tensor([-1.7]), torch.linspace(-0.9, 0.0, 63))).double()
    report = wrong(lambda x, t: x * values / column(t), 64)
    assert report["hessian"].measured == pytest.approx(0.7, abs=1e-6)


# Data.


def test_the_empirical_score_passes_against_its_data_and_fails_against_others():
    few = DATA[:120]
    report = wrong(Empirical(few), data=few, held_out=LAW.sample(400, 2), times=(0.05,))
    assert report["tweedie"].outcome == "passed"
    assert report["held_out"].outcome == "failed"  # it knows its own points only
    assert "it is the empirical score" in report["bandwidth"].message
    assert wrong(LAW, held_out=LAW.sample(400, 2), times=(0.05,))["held_out"].outcome == "passed"
    assert wrong(LAW, held_out=DATA[:50], times=(0.05,))["held_out"].outcome == "not run"


def test_a_time_that_becomes_float32_is_named():
    report = wrong(lambda x, t: LAW.score(x, torch.as_tensor(t, dtype=torch.float32) if isinstance(t, float) else t), times=(0.1,))
    assert report["times"].outcome == "failed"
    assert "float32 on the way" in report["times"].message


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (lambda x, t: 1.3 * Empirical(DATA).score(x, t), "multiplied by 1.3"),
        (lambda x, t: Empirical(DATA).score(x, t / 2), "read at t/2"),
        (lambda x, t: Empirical(DATA).score(x, t) + 0.3 * x @ ROTATION / math.sqrt(t), "a rotation added"),
        (lambda x, t: Empirical(DATA).score(x, t) + 0.2 / math.sqrt(t), "a constant added"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tweedie_finds_wrong_scores(score, name):
    probe = Probe(score, 2, torch.device("cpu"))
    chance = torch.Generator().manual_seed(0)
    assert score_data.tweedie(probe, DATA, [0.5], 20_000, 1e-6, chance).outcome == "failed"


@pytest.mark.parametrize("name", ["tweedie", "held_out"])
def test_false_alarms_are_as_rare_as_stated_and_deviations_are_found(name):
    # The stated alpha is a bound, so most runs stay far below it: at alpha = 0.2 at most 0.2 of the runs may fail. With 20 runs
    # more than 13 failures would have probability 2e-6 at a rate of 0.2.
    alarms, found = 0, 0
    for seed in range(20):
        chance = torch.Generator().manual_seed(seed)
        law = mixture(2, seed)
        data = law.sample(200, chance)
        check, truth = (score_data.tweedie, Empirical(data)) if name == "tweedie" else (score_data.held_out, law)
        alarms += check(Probe(truth, 2, data.device), data, [0.1], 1000, 0.2, chance).outcome == "failed"
        shifted = Probe(lambda x, t, truth=truth: truth.score(x, t) + 0.7 / math.sqrt(t), 2, data.device)
        found += check(shifted, data, [0.1], 1000, 1e-6, chance).outcome == "failed"
    assert alarms <= 13
    assert found == 20


def test_bernstein_condition_of_the_noise():
    # E|xi|^p <= p!/2 b^(p-2): for p = 3 by Cauchy-Schwarz, for p = 4..40 from 2^p E|Z|^p.
    b = score_data.BERNSTEIN
    moments = [2 ** (p / 2) * math.gamma((p + 1) / 2) / math.sqrt(math.pi) for p in range(41)]
    fourth = 2**4 * moments[4]
    assert math.sqrt(1.0 * fourth) <= 3 * b * (1 + 1e-12)
    for p in range(4, 41):
        bound = 2**p * moments[p] if p % 2 == 0 else math.sqrt(2 ** (p - 1) * moments[p - 1] * 2 ** (p + 1) * moments[p + 1])
        assert bound <= math.factorial(p) / 2 * b ** (p - 2)


@pytest.mark.slow
def test_the_bandwidth_of_a_mollified_score_is_found():
    base = Empirical(DATA)
    score = Mollified(base, GaussianKernel(0.05), most_nodes=256, accuracy=1e-2)
    probe = Probe(score, 2, torch.device("cpu"))
    result = score_data.bandwidth(probe, DATA, [0.02, 0.1], None, torch.Generator().manual_seed(0))
    assert result.outcome == "reported"
    for t in (0.02, 0.1):
        assert result.by_time[t] == pytest.approx(0.05, rel=0.15)
        assert result.details["low"][t] <= result.by_time[t] <= result.details["high"][t]
        assert result.details["explained"][t] > 0.97


# The report.


def test_expected_failures_carry_their_reason():
    def score(x, t):
        return 1.1 * LAW.score(x, t)

    report = wrong(score, expected_failures={"burgers": "scaled on purpose"})
    assert report.ok
    assert report.exit_code == 0
    assert report["burgers"].outcome == "expected failure"
    assert "scaled on purpose" in report["burgers"].message
    report = wrong(LAW, expected_failures={"burgers": "a mistake"})
    assert report["burgers"].outcome == "unexpected pass"
    assert report.exit_code == 1
    assert "1 unexpected pass" in report.summary


def test_tolerances_of_the_caller():
    def score(x, t):
        return 1.1 * LAW.score(x, t)

    assert wrong(score, tolerances={"burgers": 0.1}).ok
    assert failed(wrong(score, tolerances={"burgers": 0.01})) == {"burgers"}


def test_the_report_says_all_as_text_and_as_html():
    report = wrong(LAW.score)
    assert [r.name for r in report.results] == list(NAMES)
    assert str(report).count("passed") >= 7
    page = report._repr_html_()
    assert page.count("<tr>") == 1 + len(NAMES)
    assert "<caption>score at 8 points of R^2, t = 0.05, 1, in float64: 7 passed, 3 not run</caption>" in page
    assert all(r.basis and r.power for r in report.results if r.outcome == "passed" and r.name != "interface")
    with pytest.raises(KeyError, match="no such"):
        report["no such"]


def test_the_same_seed_gives_the_same_report():
    first, second = (wrong(LAW, held_out=DATA, times=(0.1,), generator=3) for _ in range(2))
    assert [(r.outcome, r.measured) for r in first.results] == [(r.outcome, r.measured) for r in second.results]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim = 0: expected an integer >= 1"),
        ({"times": ()}, "times = (): expected at least one noise variance"),
        ({"times": (-1.0,)}, "times = -1.0"),
        ({"data": np.zeros((3, 5))}, "data = Tensor of shape (3, 5)"),
        ({"points": np.zeros(3)}, "points = Tensor of shape (3,)"),
        ({"alpha": 2.0}, "alpha = 2.0: expected a probability strictly between 0 and 1"),
        ({"count": 1}, "count = 1: expected an integer >= 2"),
        ({"expected_failures": {"burger": "x"}}, "expected_failures = 'burger': expected names of checks that can fail: interface"),
        ({"expected_failures": {"burgers": " "}}, "expected_failures['burgers'] = ' ': expected a reason, in words"),
        ({"tolerances": {"tweedie": 1.0}}, "tolerances = 'tweedie': expected names of checks with a tolerance"),
        ({"tolerances": {"burgers": 0.0}}, "tolerances['burgers'] = 0.0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_score(LAW, **({"dim": 2} | options))


def test_the_lines_of_the_readme_run():
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    scope: dict = {}
    exec(block, scope)
    assert scope["report"].ok


def test_a_field_that_is_zero_is_the_score_of_nothing():
    report = check_score(lambda x, t: 0 * x, dim=2)
    assert report["interface"].outcome == "failed"
    assert "0 at every point" in report["interface"].message
    # At a critical point that the caller names it may be 0.
    assert check_score(lambda x, t: -x, dim=2, points=torch.zeros(1, 2), times=(0.1,))["interface"].outcome == "passed"


def test_rounding_so_coarse_that_passing_means_nothing_is_said():
    report = check_score(lambda x, t: (-x / (1 + t)).bfloat16().to(x.dtype), dim=2, times=(0.1,))
    assert report["burgers"].outcome == "not run"
    assert "too noisy" in report["burgers"].message
