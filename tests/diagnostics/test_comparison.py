"""Methods on the same trials, with the same chance."""

import math

import numpy as np
import pytest
import torch

from kss.data import handwriting
from kss.diagnostics import (
    Comparison,
    Method,
    Protocol,
    Trial,
    attempt,
    choose_knob,
    divide,
    median_interval,
    path_log_likelihood,
    sign_p_value,
)
from kss.distributions import Circle, Empirical, Gaussian
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TimeShifted

RAW = Method("raw", lambda data, knob, seed: data, (0.0,))
SHIFTED = Method("shifted", lambda data, h, seed: TimeShifted(data, h), (0.0, 0.01, 100.0))
PROTOCOL = Protocol(t_max=4.0, t_min=0.01, steps=8, samples=20, nodes=6)


def trial(seed: int) -> Trial:
    law = Circle()
    return Trial(law.sample(12, 10 * seed), law.sample(30, 10 * seed + 1), seed)


def test_the_same_score_makes_the_same_samples_under_any_name() -> None:
    first = attempt(RAW, 0.0, trial(1), PROTOCOL)
    second = attempt(SHIFTED, 0.0, trial(1), PROTOCOL)
    assert torch.equal(first.samples, second.samples)
    assert first.path_log_likelihood().each.equal(second.path_log_likelihood().each)
    assert first.seconds > 0
    assert not torch.equal(first.samples, attempt(RAW, 0.0, trial(2), PROTOCOL).samples)


def test_fewer_held_out_points() -> None:
    assert len(attempt(RAW, 0.0, trial(1), PROTOCOL).path_log_likelihood(5).each) == 5


def test_the_knob_is_the_most_likely_and_a_broken_score_is_never_chosen() -> None:
    choice = choose_knob(SHIFTED, [trial(3), trial(4)], PROTOCOL)
    assert choice.knob == 0.01
    assert not choice.at_end
    assert choice.likelihood[0.01] > max(choice.likelihood[0.0], choice.likelihood[100.0])

    def broken(data: Empirical, knob: float, seed: int) -> object:
        return (lambda x, t: x * math.nan) if knob else data

    assert choose_knob(Method("broken", broken, (1.0, 0.0)), [trial(3)], PROTOCOL).knob == 0.0
    assert not choose_knob(RAW, [trial(3)], PROTOCOL).at_end


def test_bad_methods_and_trials() -> None:
    with pytest.raises(ValueError, match="at least one knob"):
        choose_knob(Method("none", RAW.make, ()), [trial(1)], PROTOCOL)
    with pytest.raises(ValueError, match="trials"):
        choose_knob(RAW, [], PROTOCOL)


def test_parts_are_disjoint_and_depend_on_the_seed() -> None:
    points = torch.arange(20.0, dtype=torch.float64).unsqueeze(-1)
    parts = divide(points, 8, 5, 7, generator=3)
    assert [len(part) for part in parts] == [8, 5, 7]
    assert torch.cat(parts).flatten().sort().values.equal(points.flatten())
    assert not torch.cat(parts).equal(torch.cat(divide(points, 8, 5, 7, generator=4)))
    assert divide(points, 20, generator=0)[0].shape == (20, 1)
    for sizes in ((21,), (), (10, 11)):
        with pytest.raises(ValueError, match="sizes"):
            divide(points, *sizes, generator=0)


def test_intervals_of_small_and_constant_samples() -> None:
    assert median_interval([2.0]) == (2.0, 2.0, 2.0, 0.0)
    assert median_interval([5.0] * 9)[:3] == (5.0, 5.0, 5.0)
    assert median_interval([3.0, 1.0])[:3] == (2.0, 1.0, 3.0)
    assert median_interval(list(map(float, range(11))))[1:3] == (1.0, 9.0)
    for bad in ([], [[1.0]]):
        with pytest.raises(ValueError, match="values"):
            median_interval(bad)
    with pytest.raises(ValueError, match="confidence"):
        median_interval([1.0], confidence=1.0)
    with pytest.raises(ValueError, match="finite"):
        median_interval([math.nan])


def test_sign_test_of_zeros_decides_nothing() -> None:
    assert sign_p_value([0.0] * 10) == 1.0
    assert sign_p_value([1.0]) == 1.0
    with pytest.raises(ValueError, match="differences"):
        sign_p_value([])


def test_leaders_are_those_that_none_beats() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(12)
    found = Comparison({"a": noise, "b": noise + 1, "c": noise + 1 + 1e-3 * rng.standard_normal(12)})
    assert found.better("b", "a")
    assert not found.better("a", "b")
    assert found.leaders() == ["b", "c"]
    assert found.difference("b", "a").median == pytest.approx(1.0)
    assert found.interval("a").coverage > 0.95
    assert Comparison({"alone": [1.0]}).leaders() == ["alone"]
    with pytest.raises(ValueError, match="one number for each method and trial"):
        Comparison({"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="level"):
        Comparison({"a": [1.0]}, level=0.0)


def test_bound_of_the_true_score_is_minus_the_entropy() -> None:
    law = Gaussian([1.0, 0.0], 0.5)
    found = path_log_likelihood(law, law.sample(4000, 1), t_min=0.1, t_max=20.0, start=law, generator=2, nodes=24)
    entropy = math.log(2 * math.pi * math.e * 0.6)
    assert abs(found.value + entropy) < 6 * found.error
    assert found.each.shape == (4000,)
    worse = path_log_likelihood(TimeShifted(law, 0.5), law.sample(4000, 1), t_min=0.1, t_max=20.0, start=law, generator=2, nodes=24)
    assert worse.value < found.value


def test_bound_in_one_dimension_for_one_point_and_duplicates() -> None:
    for points in ([[0.3]], [[0.3], [0.3], [0.3]]):
        data = Empirical(points)
        found = path_log_likelihood(data, [[0.0], [1.0]], t_min=1e-3, t_max=1.0, start=data, generator=0)
        assert math.isfinite(found.value)
        assert found.error >= 0


def test_bad_arguments_of_the_bound() -> None:
    law = Gaussian([0.0], 1.0)
    good = {"t_min": 0.1, "t_max": 1.0, "start": law, "generator": 0}
    for change, name in (
        ({"t_min": 1.0}, "t_min"),
        ({"t_max": -1.0}, "t_max"),
        ({"nodes": 0}, "nodes"),
        ({"start": Gaussian([0.0, 0.0], 1.0)}, "start"),
    ):
        with pytest.raises(ValueError, match=name):
            path_log_likelihood(law, [[0.0], [1.0]], **(good | change))
    with pytest.raises(ValueError, match="held_out"):
        path_log_likelihood(law, [[0.0]], **good)


def write_idx(path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_images_from_local_files_run_through_the_comparison(tmp_path, monkeypatch) -> None:
    """Files made here in MNIST's format: squares of two sizes on noise."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 30, (60, 28, 28))
    pixels[::2, 4:20, 4:20] += 200
    pixels[1::2, 10:16, 10:16] += 200
    write_idx(tmp_path / "train-images-idx3-ubyte", pixels)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(60) % 2)
    monkeypatch.setenv("KSS_MNIST", str(tmp_path))
    images = handwriting()
    assert images.points.shape == (60, 784)
    one = Trial(*divide(images.points, 30, 30, generator=0), 0)
    protocol = Protocol(t_max=100.0, t_min=0.01, steps=5, samples=4, nodes=4)
    for make in (lambda data, h, seed: data, lambda data, h, seed: Mollified(data, GaussianKernel(h), most_nodes=128)):
        outcome = attempt(Method("m", make, (0.2,)), 0.2, one, protocol)
        assert outcome.samples.shape == (4, 784)
        assert math.isfinite(outcome.path_log_likelihood(5).value)
    monkeypatch.delenv("KSS_MNIST")
    assert handwriting().shape == (8, 8)
