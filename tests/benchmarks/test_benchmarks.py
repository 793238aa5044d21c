"""The harness: what it times, and that it refuses to time what is wrong."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import experiments, guarantees, methods, reference, report, timing
from benchmarks.methods import DENSITY, POSTERIOR, Method
from kss.distributions import Empirical, Gaussian

# What other libraries say when they are first imported is theirs.
pytestmark = pytest.mark.filterwarnings("default:::pykeops", "default:::keopscore", "default:::faiss", "default:::importlib")


class Clock:
    """A clock that tasks move on."""

    now = 0.0

    def __call__(self):
        return self.now

    def task(self, *seconds, log=None, name=""):
        left = list(seconds)

        def run():
            self.now += left.pop(0) if len(left) > 1 else left[0]
            if log is not None:
                log.append(name)

        return run


def test_every_round_runs_every_task_once_and_the_order_changes():
    clock, log = Clock(), []
    tasks = {name: clock.task(1.0, log=log, name=name) for name in "abcd"}
    timing.interleave(tasks, 20, budget=1000.0, clock=clock)
    warm, *rounds = [tuple(log[i : i + 4]) for i in range(0, len(log), 4)]
    assert warm == tuple("abcd")
    assert len(rounds) == 20
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len(set(rounds)) > 5


def test_what_is_brief_runs_twice_and_the_second_run_counts():
    clock = Clock()
    # The first run, then a cold one and a warm one in each round.
    measured = timing.interleave({"a": clock.task(0.1, 0.3, 0.2, 0.3, 0.2, 0.3, 0.2)}, 3, clock=clock)
    assert measured.seconds["a"] == pytest.approx([0.2, 0.2, 0.2])


def test_the_first_run_does_not_count_and_medians_ignore_an_interruption():
    clock = Clock()
    # Both slow down together in the third round; "b" alone is interrupted in the last.
    tasks = {"a": clock.task(99.0, 1.0, 1.0, 5.0, 1.0, 1.0), "b": clock.task(99.0, 3.0, 3.0, 15.0, 3.0, 1000.0)}
    measured = timing.interleave(tasks, 5, clock=clock)
    assert measured.median("a") == pytest.approx(1.0)
    assert measured.median("b") == pytest.approx(3.0)
    assert measured.ratio("b", "a") == pytest.approx(3.0)


def test_a_budget_ends_a_long_run_but_not_before_three_rounds():
    clock = Clock()
    assert len(timing.interleave({"a": clock.task(10.0)}, 9, budget=45.0, clock=clock).seconds["a"]) == 5
    assert len(timing.interleave({"a": clock.task(100.0)}, 9, budget=45.0, clock=clock).seconds["a"]) == 3
    assert len(timing.interleave({"a": clock.task(100.0)}, 2, budget=45.0, clock=clock).seconds["a"]) == 2


def test_a_part_is_scaled_to_the_whole():
    clock = Clock()
    measured = timing.interleave({"a": clock.task(1.0), "b": clock.task(1.0)}, 3, share={"b": 0.25}, clock=clock)
    assert measured.median("b") == pytest.approx(4.0)
    assert measured.ratio("b", "a") == pytest.approx(4.0)


def test_the_floor_counts_two_products_and_one_exponential():
    assert timing.floor(points=10, dim=3, queries=5, gemm=1e3, exp=1e2) == pytest.approx(4 * 5 * 10 * 3 / 1e3 + 5 * 10 / 1e2)


def test_rates_are_those_of_the_tasks_that_ran():
    clock = Clock()
    measured = timing.interleave({"gemm": clock.task(2.0), "exp": clock.task(0.5), "x": clock.task(4.0)}, 3, clock=clock)
    gemm, exp = timing.rates(measured)
    assert gemm == [pytest.approx(2 * timing.GEMM_SIDE["cpu"] ** 3 / 2.0)] * 3
    assert exp == [pytest.approx(timing.EXP_SIZE["cpu"] * timing.EXP_TIMES / 0.5)] * 3
    expected = timing.floor(7, 2, 3, gemm[0], exp[0]) / 4.0
    assert timing.fraction(measured, "x", 7, 2, 3) == pytest.approx(expected)


def test_the_limits_compute_a_product_and_an_exponential():
    tasks = timing.limits(torch.float32)
    assert tasks["gemm"]().shape == (timing.GEMM_SIDE["cpu"], timing.GEMM_SIDE["cpu"])
    tasks["exp"]()


def test_the_reference_is_the_gradient_of_a_mixture_density():
    rng = np.random.default_rng(0)
    points, x, t = rng.standard_normal((6, 2)), rng.standard_normal((3, 2)), 0.3
    densities = [np.mean([stats.multivariate_normal(point, t).pdf(row) for point in points]) for row in x]
    np.testing.assert_allclose(reference.log_density(points, x, t), np.log(densities), rtol=1e-12)
    step = 1e-5
    for k, e in enumerate(np.eye(2)):
        slope = (reference.log_density(points, x + step * e, t) - reference.log_density(points, x - step * e, t)) / (2 * step)
        np.testing.assert_allclose(reference.displacement(points, x, t)[:, k] / t, slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", POSTERIOR, ids=lambda method: method.name)
def test_every_posterior_mean_is_the_same(method, dtype):
    if not method.installed:
        pytest.skip(f"{method.needs} is not installed")
    points = Gaussian([0.0, 0.0], 1.0).sample(300, 0).to(dtype)
    x = Empirical(points).diffuse(20, 0.5, generator=1)
    error = experiments.posterior_error(method, method.make(points), points, x, 0.5)
    assert error <= (1e-5 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda good: lambda x, t: good(x, 2 * t),
        lambda good: lambda x, t: good(x, t) + x,
        lambda good: lambda x, t: good(x, t) * (1 + 1e-4),
        lambda good: lambda x, t: torch.full_like(x, math.nan),
    ],
    ids=["exp(-r^2/t)", "mean for displacement", "off by 1e-4", "NaN"],
)
def test_wrong_numbers_are_not_timed(wrong, monkeypatch):
    monkeypatch.setitem(timing.GEMM_SIDE, "cpu", 8)
    method = Method("wrong", lambda points: wrong(methods.broadcast(points)))
    plan = replace(experiments.QUICK, rounds=1, posterior=(("cloud", 200, 2, 16),))
    monkeypatch.setattr(experiments, "POSTERIOR", (POSTERIOR[0], method))
    with pytest.raises(experiments.WrongNumbersError, match="wrong"):
        list(experiments.posterior(plan))


def test_every_density_is_the_same_and_a_wrong_one_is_not_timed():
    points = Gaussian([0.0, 0.0], 1.0).sample(300, 0)
    x = Empirical(points).diffuse(40, 0.5, generator=1)
    for method in DENSITY:
        evaluate = method.make(points)
        assert experiments.density_error(method, evaluate, points, x, 0.5)["median error"] < 1e-6
        for wrong in (lambda x, t, e=evaluate: e(x, t) + math.log(300), lambda x, t, e=evaluate: e(x, 2 * t)):
            with pytest.raises(experiments.WrongNumbersError):
                experiments.density_error(method, wrong, points, x, 0.5)


def test_who_is_not_installed_is_named_and_passed_over(monkeypatch):
    monkeypatch.setitem(timing.GEMM_SIDE, "cpu", 8)
    absent = Method("absent", methods.broadcast, needs="no_such_package_of_that_name")
    monkeypatch.setattr(experiments, "POSTERIOR", (POSTERIOR[0], absent))
    plan = replace(experiments.QUICK, rounds=2, posterior=(("cloud", 200, 2, 16),))
    rows = list(experiments.posterior(plan))
    assert [row["methods"]["absent"] for row in rows] == [{"installed": False}] * 2
    assert "not installed" in report.markdown(*report.posterior_table(rows))


def test_how_many_queries_fit_at_once():
    method = Method("m", methods.broadcast, numbers=1000, pairs=90)
    assert method.at_once(points=10, dim=5, queries=100) == 9
    assert method.at_once(points=10, dim=50, queries=100) == 2
    assert method.at_once(points=10**6, dim=5, queries=100) == 1
    assert POSTERIOR[0].at_once(10**9, 10**4, 1024) == 1024


def test_a_tiny_run_is_saved_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setitem(timing.GEMM_SIDE, "cpu", 8)
    monkeypatch.setattr(experiments, "TIMES", (0.1, 1.0))
    plan = replace(
        experiments.QUICK,
        rounds=2,
        posterior=(("cloud", 200, 2, 16),),
        times=(("cloud", 200, 2, 16),),
        density=(("cloud", 200, 2, 16),),
    )
    results = {"machine": report.machine(), "quick": True}
    for name in ("posterior", "times", "density"):
        results[name] = list(getattr(experiments, name)(plan))
    path = tmp_path / "results.json"
    report.save(results, path)
    again = report.load(path)
    assert again["posterior"][0]["methods"]["kss"]["fraction"] > 0
    assert again["times"][0]["times t = 1"]["1"] == 1.0
    text = path.with_suffix(".md").read_text()
    assert all(name in text for name in ("kss", "torch.cdist", "torch broadcast", "scipy gaussian_kde", again["machine"]["date"]))
    json.dumps(again, allow_nan=False)


@pytest.mark.slow
def test_memory_of_a_call_is_seen_from_outside(monkeypatch):
    if not (found := list(guarantees.memory([2000], queries=256))):
        pytest.skip("needs /proc")
    assert found[0]["bytes"] < 50e6
    # An array of 80 MB, made and forgotten within the call, is found.
    call = "law.score(x, 1.0)\nprint"
    assert call in guarantees._MEMORY
    hungry = guarantees._MEMORY.replace(call, f"torch.ones(10**7, dtype=torch.float64); {call}")
    monkeypatch.setattr(guarantees, "_MEMORY", hungry)
    assert next(iter(guarantees.memory([2000], queries=256)))["bytes"] > 79e6
