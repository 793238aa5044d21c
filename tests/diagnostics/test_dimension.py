"""The intrinsic dimension: known manifolds, refusals, invariances, and published estimators beside it."""

import math

import numpy as np
import pytest
import torch

from kss.data import digits
from kss.diagnostics import dimension
from kss.diagnostics.dimension import NoScalingWindow, intrinsic_dimension, scaling_profile
from kss.distributions import Circle, Empirical, FlatTorus, Gaussian, Sphere, SwissRoll
from kss.theory import clt

CLEAN = {
    "circle": (Circle(), 800),
    "sphere": (Sphere(2), 1200),
    "torus": (FlatTorus(2), 1500),
    "Swiss roll": (SwissRoll(2), 3000),
    "spiral": (SwissRoll(), 1500),
    "normal law": (Gaussian([0.0, 0.0], 1.0), 1200),
}


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("seed", [0, 1])
def test_known_manifolds(name, seed):
    law, n = CLEAN[name]
    found = intrinsic_dimension(law.sample(n, 100 + seed), seed, queries=300)
    assert found.low <= law.intrinsic_dim <= found.high
    # Five standard deviations, and for the Swiss roll its edges: on fewer data its neighboring turns add a tenth.
    assert found.dimension == pytest.approx(law.intrinsic_dim, abs=0.2)
    assert found.high - found.low < 0.7
    low, high = found.window
    assert high / low >= 3.99
    assert low in found.profile.t
    assert high in found.profile.t


@pytest.mark.parametrize("name", ["circle", "sphere", "torus"])
def test_published_estimators_agree(name):
    skdim = pytest.importorskip("skdim")
    law, n = CLEAN[name]
    points = law.sample(n, 5)
    found = intrinsic_dimension(points, 0, queries=300)
    for rival in (skdim.id.TwoNN(), skdim.id.MLE()):
        assert found.dimension == pytest.approx(rival.fit(points.numpy()).dimension_, abs=0.3)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.zeros((500, 2)), "1 distinct"),
        (np.array([[0.0, 1.0]]), "1 distinct"),
        (Circle().sample(50, 0).numpy(), "50 distinct ones leave 0 octaves"),
        (Gaussian([0.0] * 10, 1.0).sample(1500, 0).numpy(), "octaves of t between too few"),
        (FlatTorus(3).sample(3000, 0).numpy(), "nowhere constant"),
        (digits().points.numpy(), "octaves of t between too few"),
    ],
    ids=["zeros", "one point", "too few", "10 dimensions", "curved at every scale", "digits"],
)
def test_refusals(points, reason):
    with pytest.raises(NoScalingWindow, match=reason) as refusal:
        intrinsic_dimension(points, 0, queries=300)
    assert isinstance(refusal.value, ValueError)
    profile = refusal.value.profile
    assert len(profile.t) == len(profile.log_trace) == len(profile.effective) == len(profile.displacement) == profile.replicates.shape[1]


def test_clusters_are_refused_or_zero_dimensional():
    # Three heaps far narrower than their distances: between the scales nothing has a dimension.
    heaps = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    points = Empirical(heaps).diffuse(900, 1e-8, 0)
    try:
        found = intrinsic_dimension(points, 0, queries=300)
    except NoScalingWindow:
        return
    assert found.dimension == pytest.approx(2, abs=0.2)  # of the heaps, at their scale
    assert found.window[1] < 1e-6


def test_noise_has_all_dimensions_at_its_own_scale():
    found = intrinsic_dimension(Circle().diffuse(3000, 0.2**2, 5), 0, queries=300)
    assert found.low <= 2 <= found.high
    assert found.window[1] < 0.2**2


def test_moves_scales_turns_duplicates_and_extra_coordinates():
    points = Sphere(2).sample(1000, 3)
    first = intrinsic_dimension(points, 0, queries=200)
    turn = torch.linalg.qr(torch.randn(7, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).Q
    # `unique` orders the points, so another frame is another random choice of places and groups.
    for other in (points @ turn.mT * 1e-5 + 4.0, torch.cat((points, points)), 1e150 * points):
        found = intrinsic_dimension(other, 0, queries=200)
        assert found.dimension == pytest.approx(first.dimension, abs=4 * first.standard_error + 0.02)
    again = intrinsic_dimension(torch.cat((points, points)), 0, queries=200)
    assert again.dimension == first.dimension
    scaled = intrinsic_dimension(4 * points, 0, queries=200)
    assert scaled.dimension == pytest.approx(first.dimension, abs=1e-9)
    assert scaled.window[0] == pytest.approx(16 * first.window[0])


def test_outliers_are_left_out():
    points = torch.cat((Circle().sample(1000, 3), 50 + 100 * torch.rand(20, 2, generator=torch.Generator().manual_seed(0)).double()))
    found = intrinsic_dimension(points, 0, queries=400)
    assert found.dimension == pytest.approx(1, abs=0.1)


def test_the_profile_is_the_trace_of_the_exact_law():
    # Differences of the mean log-trace against the formula's, whose moment is about m: they agree to O(t) and the sampling error.
    law, n = Circle(), 3000
    profile = scaling_profile(law.sample(n, 4), 0, queries=300)
    inside = (profile.t > 1e-4) & (profile.t < 0.05)
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    exact = np.array([float(clt.covariance(law, x, x, float(t)).trace().log()) for t in profile.t[inside]])
    difference = profile.log_trace[inside] - exact
    assert np.ptp(difference) < 0.06
    counts = n / law.volume * np.sqrt(4 * math.pi * profile.t[inside])
    np.testing.assert_allclose(profile.effective[inside], counts, rtol=0.25)


def test_blocks_do_not_matter(monkeypatch):
    points = Sphere(2).sample(400, 3)
    whole = scaling_profile(points, 0)
    monkeypatch.setattr(dimension, "BLOCK", 400 * 64)
    parts = scaling_profile(points, 0)
    # The grid of t starts at a median over the first block.
    shared = min(len(whole.t), len(parts.t))
    assert shared > 4
    np.testing.assert_allclose(parts.local_dimension()[1:-1].mean(), whole.local_dimension()[1:-1].mean(), atol=0.05)


def test_chance_needs_a_source_and_arguments_are_checked():
    points = Circle().sample(500, 0)
    one, two = intrinsic_dimension(points, 3, queries=100), intrinsic_dimension(points, torch.Generator().manual_seed(3), queries=100)
    assert one.dimension == two.dimension
    assert intrinsic_dimension(points, 3, queries=100, confidence=0.5).high < one.high
    assert intrinsic_dimension(points.numpy().astype(np.float32), 3, queries=100).dimension == pytest.approx(one.dimension, abs=0.1)
    for bad, name in (
        (lambda: intrinsic_dimension(points, 3, queries=0), "queries"),
        (lambda: intrinsic_dimension(points, 3, confidence=1.0), "confidence"),
        (lambda: intrinsic_dimension([[math.nan]], 3), "points"),
    ):
        with pytest.raises(ValueError, match=f"^{name} = "):
            bad()
