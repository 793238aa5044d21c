"""The test for copies: what it decides, with and without held-out data, and on every awkward input."""

import pytest
import torch

from kss.diagnostics import intrinsic_dimension, memorization_test
from kss.diagnostics.calibrated import count_p_value
from kss.diagnostics.memorization import MemorizationTest
from kss.distributions import Sphere
from kss.theory.copies import ratio_threshold

LAW = Sphere(2)
TRAINING, HELD_OUT, FRESH = LAW.sample(300, 1), LAW.sample(150, 2), LAW.sample(100, 3)
NEAR = TRAINING[:100] + 1e-5


@pytest.mark.parametrize("held_out", [HELD_OUT, None])
def test_copies_and_fresh_points(held_out):
    fresh = memorization_test(FRESH, TRAINING, held_out, generator=0, dimension=2)
    assert not fresh.decision
    assert not fresh.copies.any()
    assert fresh.p_value > 0.01
    copied = memorization_test(NEAR, TRAINING, held_out, generator=0, dimension=2)
    assert copied.decision
    assert copied.copies.all()
    assert copied.p_value < 1e-20
    assert copied.nearest.tolist() == list(range(100))
    torch.testing.assert_close(copied.nearest_distance, torch.full((100,), 1e-5 * 3**0.5, dtype=torch.float64), rtol=1e-6, atol=0)
    assert copied.ratio.decision
    assert copied.ratio.flagged.all()
    assert copied.distance.share == pytest.approx(1.0)


def test_a_mixture_is_counted_when_it_cannot_be_named():
    found = memorization_test(torch.cat((FRESH[:90], NEAR[:10])), TRAINING, HELD_OUT, generator=0, dimension=2)
    assert found.decision
    assert found.distance.below[90:].all()
    assert not found.copies.any()  # no rank p-value is below 1/151
    assert any("which ones" in note for note in found.notes)
    assert found.ratio.flagged.nonzero().flatten().tolist() == list(range(90, 100))
    assert found.ratio.share == pytest.approx(0.1, abs=0.03)


def test_halves_are_joined_by_bonferroni():
    some = torch.cat((FRESH[:96], NEAR[:4]))
    result = memorization_test(some, TRAINING, generator=1, dimension=2)
    singles = [count_p_value(t.below, 100, round(t.rate * 151), 151 - round(t.rate * 151)) for t in result.distance.thresholds]
    assert len(singles) == 2
    assert result.p_value == pytest.approx(2 * min(singles))
    assert result.distance.rate == pytest.approx(sum(t.rate for t in result.distance.thresholds))


def test_an_estimated_dimension_counts_at_its_low_end():
    found = intrinsic_dimension(TRAINING, 0, confidence=0.99)
    limit = memorization_test(FRESH, TRAINING, HELD_OUT, generator=0).ratio.thresholds[0]
    assert limit.value == pytest.approx(ratio_threshold(0.01, found.low))
    assert limit.value < ratio_threshold(0.01, found.dimension)


def test_how_many_copies_could_be_named():
    # With halves of 150 each calls its own half of the copies at half the level: 4/(151 * 0.05).
    few = torch.cat((FRESH[:90], NEAR[:10]))
    note = " ".join(memorization_test(few, TRAINING, generator=0, dimension=2).notes)
    assert "only if they were 53% of the samples or more" in note


def test_the_generator_alone_decides_the_halves():
    first = memorization_test(FRESH, TRAINING, generator=7, dimension=2)
    again = memorization_test(FRESH, TRAINING, generator=torch.Generator().manual_seed(7), dimension=2)
    other = memorization_test(FRESH, TRAINING, generator=8, dimension=2)
    assert torch.equal(first.distance.p_values, again.distance.p_values)
    assert not torch.equal(first.distance.p_values, other.distance.p_values)


def test_what_it_says():
    printed = str(memorization_test(NEAR, TRAINING, HELD_OUT, generator=0))
    text = " ".join(printed.split())
    assert text.startswith("COPIES (p = ")
    assert "100 generated, 300 training, 150 held-out points in R^3" in text
    assert "assumes: held-out points and fresh samples are independent draws of one law" in text
    assert "low end of an estimate of 2" in text
    assert max(map(len, printed.splitlines())) <= 110
    assert str(memorization_test(FRESH, TRAINING, generator=0, dimension=2)).startswith("no copies found (p = ")


def test_generated_is_training():
    for held_out in (HELD_OUT, None):
        found = memorization_test(TRAINING, TRAINING, held_out, generator=0, dimension=2)
        assert found.decision
        assert (found.nearest_distance == 0).all()
        assert found.ratio.p_value < 1e-100
        assert found.ratio.p_values.max() == 0


def test_copies_of_repeated_training_points_are_found():
    data = TRAINING.repeat_interleave(2, 0)
    found = memorization_test(NEAR, data, HELD_OUT, generator=0, dimension=2)
    assert found.ratio.decision  # with the twin as second neighbor the ratio would be 1
    assert found.decision
    assert any("300 training points repeat others" in note for note in found.notes)


def test_repeats_that_fresh_data_have_too_prove_nothing():
    coarse = (LAW.sample(600, 4) * 2).round()
    found = memorization_test(coarse[:200], coarse[200:400], coarse[400:], generator=0, dimension=2)
    assert not found.decision
    assert any("exact training points" in note for note in found.notes)
    found = memorization_test(coarse[:200], coarse[200:], generator=0, dimension=2)
    assert not found.decision
    assert any("also in the other" in note for note in found.notes)
    assert found.distance.thresholds[0].value == 0
    assert found.distance.thresholds[0].enough == 201  # nothing is below 0
    assert str(found).startswith("NO DECISION IS POSSIBLE")
    assert any("give each training point once" in note for note in found.notes)


def test_blurred_samples_are_not_called_copies_without_a_word():
    # In high dimension the center is nearer to every datum than the data are to each other.
    chance = torch.Generator().manual_seed(8)
    cloud = torch.randn(400, 50, dtype=torch.float64, generator=chance)
    found = memorization_test(0.1 * cloud[:100], cloud[100:], generator=0)
    assert found.decision
    assert not found.ratio.decision
    assert str(found).startswith("COPIES OR ANOTHER LAW")
    assert any("blurred" in note for note in found.notes)


def test_samples_of_another_scale():
    found = memorization_test(255 * TRAINING, TRAINING, HELD_OUT, generator=0, dimension=2)
    assert not found.decision
    assert any("another scale" in " ".join(note.split()) for note in found.notes)


def test_a_few_exact_copies_among_many_samples_are_mentioned():
    found = memorization_test(torch.cat((LAW.sample(2000, 9), TRAINING[:2])), TRAINING, HELD_OUT, generator=0, dimension=2)
    assert not found.decision
    assert any(note.startswith("2 samples are exact training points") for note in found.notes)


def test_the_two_halves_call_at_half_the_level_each():
    for seed in range(40):
        found = memorization_test(LAW.sample(1, 100 + seed), TRAINING[:40], generator=seed, dimension=2, false_discovery_rate=0.3)
        assert bool(found.copies[0]) == (float(found.distance.p_values[0]) <= 0.3)  # p-values are 2 i/21


@pytest.mark.parametrize("scale", [1e-250, 1e250])
@pytest.mark.parametrize("d", [3, 30])
def test_units_do_not_matter(scale, d):
    cloud = torch.randn(160, d, dtype=torch.float64, generator=torch.Generator().manual_seed(10))
    plain, scaled = (memorization_test(c[:40], c[40:120], c[120:], generator=0) for c in (cloud, scale * cloud))
    assert plain.p_value == scaled.p_value
    torch.testing.assert_close(scaled.nearest_distance, scale * plain.nearest_distance, rtol=1e-9, atol=0)


def test_one_training_point():
    found = memorization_test(TRAINING[:1] + 1e-9, TRAINING[:1], HELD_OUT, generator=0)
    assert found.decision
    assert found.ratio is None
    assert found.notes[0] == "no ratio test: it needs 2 distinct training points"
    assert "there is no ratio test" in found.notes[1]
    assert len(found.notes) == 2
    with pytest.raises(ValueError, match=r"^training = "):
        memorization_test(FRESH, TRAINING[:1], generator=0)


def test_very_few_points():
    two = memorization_test(FRESH[:1], TRAINING[:2], generator=0)
    assert not two.decision
    assert two.ratio is None
    assert "no number would decide" in str(two)
    assert str(two).startswith("NO DECISION IS POSSIBLE")
    same = memorization_test(FRESH[:3], TRAINING[:1].expand(5, 3), generator=0)
    assert not same.decision
    assert memorization_test(TRAINING[:1], TRAINING[:1].expand(5, 3), generator=0).p_value == 1.0  # fresh draws would be there, too


def test_neighbors_beyond_the_data():
    with pytest.raises(ValueError, match=r"^neighbors = 4: expected at most the number of distinct training points, 3"):
        memorization_test(FRESH, TRAINING[:3].repeat(2, 1), HELD_OUT, generator=0, neighbors=4, dimension=2)
    found = memorization_test(FRESH, TRAINING[:3], HELD_OUT, generator=0, neighbors=3, dimension=2)
    assert found.ratio is not None
    # A half has fewer points than that, which only matters where the ratio is calibrated by ranks.
    assert memorization_test(FRESH, TRAINING[:3], generator=0, neighbors=3).ratio is None
    assert memorization_test(FRESH, TRAINING[:3], generator=0, neighbors=3, dimension=2).ratio is not None


def test_many_dimensions_fall_back_on_ranks():
    chance = torch.Generator().manual_seed(5)
    cloud = torch.randn(700, 100, dtype=torch.float64, generator=chance)
    found = memorization_test(cloud[:100], cloud[100:500], cloud[500:], generator=0)
    assert not found.decision
    assert found.ratio is not None
    assert any("calibrated by ranks" in note for note in found.notes)
    copies = memorization_test(cloud[100:150] + 0.1, cloud[100:500], generator=0)
    assert copies.decision
    assert copies.ratio.decision


def test_noise_left_by_the_sampler():
    noise = 1e-3
    chance = torch.Generator().manual_seed(6)
    noisy = TRAINING + noise**0.5 * torch.randn(300, 3, dtype=torch.float64, generator=chance)
    assert not memorization_test(noisy, TRAINING, HELD_OUT, generator=0, dimension=2).decision
    found = memorization_test(noisy, TRAINING, HELD_OUT, generator=0, dimension=2, noise=noise)
    assert found.distance.thresholds[0].value > 1.2 * memorization_test(noisy, TRAINING, HELD_OUT, generator=0).distance.thresholds[0].value
    assert "noise of variance 0.001" in " ".join(str(found).split())


def test_arrays_and_dtypes():
    found = memorization_test(FRESH.float().numpy(), TRAINING.numpy(), HELD_OUT.float(), generator=3, dimension=2)
    assert isinstance(found, MemorizationTest)
    assert found.distance.p_values.dtype == torch.float64
    assert found.copies.shape == found.nearest.shape == (100,)
    assert memorization_test([[0]], [[1], [2]], [[3], [4]], generator=0).nearest.tolist() == [0]
    assert memorization_test(FRESH.clone().requires_grad_(), TRAINING, generator=3, dimension=2).p_value > 0
    mirrored, frozen = FRESH.numpy()[:, ::-1], TRAINING.numpy()[:, ::-1]
    frozen.setflags(write=False)
    assert memorization_test(mirrored, frozen, generator=3, dimension=2).nearest.shape == (100,)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("generated", {"generated": FRESH[:0]}),
        ("generated", {"generated": FRESH.reshape(25, 4, 3)}),
        ("generated", {"generated": FRESH * float("nan")}),
        ("training", {"training": TRAINING[:, :2]}),
        ("held_out", {"held_out": HELD_OUT[:, :2]}),
        ("alpha", {"alpha": 0.0}),
        ("rate", {"rate": 1.0}),
        ("false_discovery_rate", {"false_discovery_rate": 0.0}),
        ("neighbors", {"neighbors": 1}),
        ("dimension", {"dimension": 0.0}),
        ("noise", {"noise": -1.0}),
        ("generator", {"generator": True}),
    ],
)
def test_bad_input_is_named(name, change):
    options = {"generated": FRESH, "training": TRAINING, "held_out": HELD_OUT, "generator": 0} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        memorization_test(**options)
