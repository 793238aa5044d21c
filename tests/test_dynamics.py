"""The samplers: their orders by slope, what they do exactly, and their contract."""

import math

import numpy as np
import pytest
import torch
from tqdm import tqdm

from kss import dynamics
from kss.distributions import Empirical, Gaussian
from kss.dynamics import geometric_times, sample_probability_flow, sample_reverse_sde
from kss.scores.protocol import score_function

V, T_MAX, T_MIN = 0.5, 8.0, 0.05
GAUSSIAN = Gaussian([0.0], V)


def linear_score(y: torch.Tensor, t: float) -> torch.Tensor:
    """That of N(0, V) under noise t."""
    return -y / (V + t)


def slope(steps: list[int], errors: list[float]) -> float:
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


# --- orders ----------------------------------------------------------------------------------------------------------------


def test_heun_has_order_two():
    # On N(0, v) the flow map is multiplication by sqrt((v + t_min)/(v + t_max)); every step is linear.
    exact = math.sqrt((V + T_MIN) / (V + T_MAX))
    steps = [32, 64, 128, 256]
    errors = [abs(float(sample_probability_flow(linear_score, [[1.0]], t_max=T_MAX, t_min=T_MIN, steps=n)) - exact) for n in steps]
    # The next term of the error is 1/n relative: at most 0.1 over this range. Orders 1 and 3 are far.
    assert slope(steps, errors) == pytest.approx(2.0, abs=0.1)
    assert errors[-1] < 1e-4


def exact_moments(method: str, steps: int) -> float:
    """The variance after the sampler's steps, read off the sampler itself: each maps y to `a y + b z`, linear and independent.

    One run, many rows: the first starts at the standard deviation of `p_{t_max}` and gets no noise; row k + 1 starts at 0 and
    gets unit noise in step k alone. The variances add up.
    """
    start = torch.zeros(steps + 1, 1, dtype=torch.float64)
    start[0] = math.sqrt(V + T_MAX)
    noise = iter(torch.eye(steps + 1, dtype=torch.float64)[1:].unsqueeze(-1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda *args, **kwargs: next(noise))
        end = sample_reverse_sde(linear_score, start, t_max=T_MAX, t_min=T_MIN, steps=steps, generator=0, method=method)
    assert next(noise, None) is None
    return float((end**2).sum())


@pytest.mark.parametrize("method", ["bridge", "euler"])
def test_the_sde_samplers_have_weak_order_one(method):
    # On a Gaussian law the second moment after n steps is a finite sum, exact up to rounding: no sampling.
    steps = [32, 64, 128]
    errors = [abs(exact_moments(method, n) - (V + T_MIN)) for n in steps]
    # The next term is 1/n relative, 0.15 over this range; orders 1/2 and 2 are far.
    assert slope(steps, errors) == pytest.approx(1.0, abs=0.15)


def test_the_sde_sampler_reaches_the_law_with_its_own_noise():
    # 64 bridge steps; the variance they have, from the sum above, within the fluctuation of a sample.
    n, z = 100_000, 25.0
    start = GAUSSIAN.diffuse(n, T_MAX, generator=1)
    end = sample_reverse_sde(linear_score, start, t_max=T_MAX, t_min=T_MIN, steps=64, generator=2)
    expected = exact_moments("bridge", 64)
    # Laurent and Massart (2000): a chi^2_n/n deviates by more than 2 sqrt(z/n) + 2 z/n with probability below 2 exp(-z) = 3e-11.
    assert abs(float((end**2).mean()) / expected - 1) <= 2 * math.sqrt(z / n) + 2 * z / n
    assert abs(float(end.mean())) <= 7 * math.sqrt(expected / n)


# --- what is exact ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_from_a_single_point_the_bridge_is_exact_in_any_number_of_steps(steps):
    point, n, t_min, z = torch.tensor([[1.0, -2.0]], dtype=torch.float64), 50_000, 0.3, 25.0
    law = Empirical(point)
    end = sample_reverse_sde(law, law.diffuse(n, 5.0, generator=3), t_max=5.0, t_min=t_min, steps=steps, generator=4) - point
    # Exactly N(point, t_min): by the same bound the variance is right, and it would not be for the plain method with few steps.
    bound = 2 * math.sqrt(z / n) + 2 * z / n
    assert ((end**2).mean(0) / t_min - 1).abs().max() <= bound
    assert end.mean(0).abs().max() <= 7 * math.sqrt(t_min / n)
    plain = sample_reverse_sde(law, law.diffuse(n, 5.0, generator=3), t_max=5.0, t_min=t_min, steps=1, generator=4, method="euler") - point
    assert float((plain**2).mean()) > 10 * t_min


def test_from_a_single_point_the_flow_is_a_straight_line():
    law, start = Empirical([[1.0, -2.0]]), [[4.0, 4.0], [-1.0, 0.0]]
    path = sample_probability_flow(law, start, t_max=9.0, t_min=1e-4, steps=5, trajectory=True)
    sigma = geometric_times(9.0, 1e-4, 5).sqrt() / 3.0
    expected = law.points + sigma[:, None, None] * (torch.tensor(start, dtype=torch.float64) - law.points)
    torch.testing.assert_close(path, expected, rtol=1e-13, atol=1e-13)


def test_one_step_is_the_formula():
    x, t, u = torch.tensor([[0.7, -0.3]], dtype=torch.float64), 2.0, 0.5
    z = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(5))

    def score(y, t):
        return -y / (1 + t)

    for method, variance in (("bridge", u * (t - u) / t), ("euler", t - u)):
        found = sample_reverse_sde(score, x, t_max=t, t_min=u, steps=1, generator=5, method=method)
        torch.testing.assert_close(found, x + (t - u) * score(x, t) + variance**0.5 * z, rtol=1e-15, atol=1e-15)


# --- contract ---------------------------------------------------------------------------------------------------------------


def test_times_are_geometric_and_hit_both_ends():
    times = geometric_times(3.0, 1e-7, 20)
    assert times.shape == (21,)
    assert (times[0], times[-1]) == (3.0, 1e-7)
    torch.testing.assert_close(times[1:] / times[:-1], torch.full((20,), (1e-7 / 3.0) ** (1 / 20), dtype=torch.float64), rtol=1e-13, atol=0)
    assert geometric_times(1e300, 1e-300, 3).isfinite().all()


def test_shapes_types_and_trajectories():
    start = GAUSSIAN.diffuse(6, T_MAX, generator=0)
    options = {"t_max": T_MAX, "t_min": T_MIN, "steps": 4}
    for run in (
        lambda **k: sample_reverse_sde(GAUSSIAN, start, generator=1, **options, **k),
        lambda **k: sample_probability_flow(GAUSSIAN, start, **options, **k),
    ):
        path = run(trajectory=True)
        assert path.shape == (5, 6, 1)
        assert torch.equal(path[0], start)
        assert torch.equal(path[-1], run())
        assert run().shape == (6, 1)
    narrow = Gaussian(torch.zeros(1), torch.eye(1))
    assert sample_reverse_sde(narrow, torch.zeros(3, 1), generator=1, **options).dtype == torch.float32
    assert sample_probability_flow(narrow, torch.zeros(3, 1), **options).dtype == torch.float32
    assert sample_probability_flow(GAUSSIAN, np.zeros((3, 1)), **options).dtype == torch.float64


class Named:
    def score(self, x, t):
        return GAUSSIAN.score(x, t)


def test_any_score_will_do():
    options = {"t_max": T_MAX, "t_min": T_MIN, "steps": 4, "generator": 1}
    expected = sample_reverse_sde(GAUSSIAN, [[1.0], [2.0]], **options)
    for score in (Named(), GAUSSIAN.score, lambda x, t: GAUSSIAN.score(x, t)):
        assert torch.equal(sample_reverse_sde(score, [[1.0], [2.0]], **options), expected)
    assert score_function(Named)  # a class is callable, and that is all that can be asked beforehand


def test_the_score_is_asked_at_the_left_end_of_every_step():
    asked = []

    def score(x, t):
        asked.append(t)
        return torch.zeros_like(x)

    sample_reverse_sde(score, [[0.0]], t_max=4.0, t_min=0.25, steps=4, generator=0)
    assert asked == pytest.approx([4.0, 2.0, 1.0, 0.5])
    asked.clear()
    sample_probability_flow(score, [[0.0]], t_max=4.0, t_min=1.0, steps=2)
    assert asked == pytest.approx([4.0, 2.0, 2.0, 1.0])


def test_chance_comes_from_the_generator_alone():
    options = {"t_max": T_MAX, "t_min": T_MIN, "steps": 4}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = sample_reverse_sde(GAUSSIAN, [[1.0]], generator=7, **options)
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(sample_reverse_sde(GAUSSIAN, [[1.0]], generator=generator, **options), one)
    # A generator moves on, an int starts anew.
    assert not torch.equal(sample_reverse_sde(GAUSSIAN, [[1.0]], generator=generator, **options), one)
    assert torch.equal(sample_reverse_sde(GAUSSIAN, [[1.0]], generator=7, **options), one)


def test_nothing_is_written_where_there_is_no_terminal(capfd, monkeypatch):
    # Without the delay after which a bar appears, so that a short run would show one.
    monkeypatch.setattr(dynamics, "tqdm", lambda *args, **options: tqdm(*args, **(options | {"delay": 0, "mininterval": 0})))
    sample_reverse_sde(GAUSSIAN, [[1.0]], t_max=1.0, t_min=0.1, steps=20, generator=0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t_min": 0.0}, r"^t_min = 0\.0: expected a finite number > 0"),
        ({"t_max": math.inf}, r"^t_max = inf: expected a finite number > 0"),
        ({"t_min": 2.0}, r"^t_min = 2\.0: expected a noise variance below t_max = 1"),
        ({"t_min": 1.0}, r"^t_min = 1\.0: expected a noise variance below t_max = 1"),
        ({"steps": 0}, r"^steps = 0: expected an integer >= 1"),
        ({"start": [[math.nan]]}, r"^start = .*expected finite numbers"),
        ({"start": [1.0]}, r"^start = .*expected a non-empty array of shape \(n, d\)"),
        ({"start": [[1.0, 2.0]]}, r"^x = .*expected points of shape \(\.\.\., 1\)"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"start": [[1.0]], "t_max": 1.0, "t_min": 0.1, "steps": 3} | change
    start = arguments.pop("start")
    with pytest.raises(ValueError, match=message):
        sample_reverse_sde(GAUSSIAN, start, generator=0, **arguments)
    with pytest.raises(ValueError, match=message):
        sample_probability_flow(GAUSSIAN, start, **arguments)
