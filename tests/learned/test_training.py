"""The gradient flow of random features: limits, restrictions, and the two clocks; the ledger integrates the flow."""

import math

import pytest
import torch

from kss.learned.random_features import feature_weights, loss, population_moments, score_error, train_moments
from kss.learned.training import GradientFlow, best_time, generalization_time, memorization_time

NOISE = 0.05
WEIGHTS = feature_weights(96, 8, generator=3)
POINTS = torch.randn(20, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
FLOW = GradientFlow(WEIGHTS, POINTS, NOISE)


def test_losses_are_those_of_the_trained_matrix():
    train, population = train_moments(WEIGHTS, POINTS, NOISE), population_moments(WEIGHTS, NOISE)
    for tau in (0.0, 3.0, 1e3, 1e6, math.inf):
        a = FLOW.readout(tau)
        assert a.shape == (8, 96)
        torch.testing.assert_close(FLOW.train_loss(tau), loss(a, train, NOISE), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(FLOW.test_loss(tau), loss(a, population, NOISE), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(FLOW.score_error(tau), score_error(a, WEIGHTS), rtol=1e-8, atol=1e-10)


def test_shapes_start_and_limit():
    tau = torch.tensor([[0.0, 1.0], [1e5, math.inf]])
    assert FLOW.gap(tau).shape == (2, 2)
    assert FLOW.eigenvalues.shape == FLOW.rates.shape == (96,)
    assert FLOW.train_loss(0.0) == FLOW.test_loss(0.0) == FLOW.score_error(0.0) == 1.0
    torch.testing.assert_close(FLOW.test_loss(1e300), FLOW.test_loss(math.inf))
    assert (FLOW.p, FLOW.d, FLOW.n) == (96, 8, 20)
    torch.testing.assert_close(FLOW.rates, 2 * NOISE * FLOW.eigenvalues / 12)  # psi_p = 12


def test_directions_are_the_moments_along_the_eigenvectors():
    train = train_moments(WEIGHTS, POINTS, NOISE)
    assert FLOW.directions.shape == (96, 8)
    torch.testing.assert_close(FLOW.directions.mT @ FLOW.directions, train.cross.mT @ train.cross)
    quadratic = FLOW.directions.mT @ (FLOW.eigenvalues.unsqueeze(1) * FLOW.directions)
    torch.testing.assert_close(quadratic, train.cross.mT @ train.second @ train.cross)


def test_training_loss_falls_all_the_time():
    losses = FLOW.train_loss(torch.logspace(-2, 9, 200))
    assert bool((losses.diff() <= 1e-14).all())


def test_data_in_single_precision_are_as_good_as_in_double():
    single = GradientFlow(WEIGHTS.float().numpy(), POINTS.float().numpy(), NOISE)
    torch.testing.assert_close(single.test_loss(10.0), FLOW.test_loss(10.0), rtol=1e-5, atol=0.0)


def test_restriction_to_all_or_no_eigenvectors():
    torch.testing.assert_close(FLOW.restricted(96).test_loss(50.0), FLOW.test_loss(50.0))
    none = FLOW.restricted(0)
    assert none.test_loss(50.0) == none.train_loss(math.inf) == 1.0
    few = FLOW.restricted(8)
    assert few.train_loss(math.inf) > FLOW.train_loss(math.inf)
    # Its clock is read off its own curve, also after that of the whole flow has been looked at.
    half = memorization_time(FLOW, level=0.5, relative_to="final gap")
    own = memorization_time(FLOW.restricted(30), level=0.5, relative_to="final gap")
    assert own != half
    assert float(FLOW.restricted(30).gap(own)) == pytest.approx(float(FLOW.restricted(30).gap(math.inf)) / 2, rel=1e-8)
    with pytest.raises(ValueError, match="learned"):
        generalization_time(none, threshold=0.5)
    with pytest.raises(ValueError, match="modes = 97"):
        FLOW.restricted(97)


def test_clocks_are_read_where_the_curves_cross():
    tau = generalization_time(FLOW, threshold=0.5)
    assert float(FLOW.score_error(tau)) == pytest.approx(0.5, rel=1e-8)
    best = best_time(FLOW)
    least = float(FLOW.score_error(best))
    around = FLOW.score_error(best * torch.logspace(-2, 2, 101))
    assert least <= float(around.min()) * (1 + 1e-12)
    half = memorization_time(FLOW, level=0.5, relative_to="final gap")
    assert float(FLOW.gap(half)) == pytest.approx(float(FLOW.gap(math.inf)) / 2, rel=1e-8)
    assert float(FLOW.gap(memorization_time(FLOW, level=0.05, relative_to="absolute"))) == pytest.approx(0.05, rel=1e-7)
    assert float(FLOW.score_error(memorization_time(FLOW, level=2.0, relative_to="least error"))) == pytest.approx(2 * least, rel=1e-8)


def test_what_never_happens_takes_forever():
    assert generalization_time(FLOW, threshold=1e-9) == math.inf
    assert memorization_time(FLOW, level=1e9, relative_to="absolute") == math.inf
    reachable = float(FLOW.gap(math.inf)) * 0.9  # by the whole flow, not by the first eight
    assert memorization_time(FLOW, level=reachable, relative_to="absolute") < math.inf
    assert memorization_time(FLOW.restricted(8), level=reachable, relative_to="absolute") == math.inf
    assert generalization_time(FLOW, threshold=2.0) == 0.0
    far = torch.randn(300, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 5
    harmless = GradientFlow(WEIGHTS[:24], far, NOISE)  # its test loss ends below its training loss
    assert float(harmless.gap(math.inf)) < 0
    assert memorization_time(harmless, level=0.5, relative_to="final gap") == math.inf


@pytest.mark.parametrize("points", [torch.zeros(1, 8, dtype=torch.float64), POINTS[:1].repeat(5, 1)], ids=["origin", "duplicates"])
def test_one_point_is_a_data_set(points):
    flow = GradientFlow(WEIGHTS, points, NOISE)
    values = flow.test_loss(torch.tensor([1.0, 1e6, math.inf]))
    assert bool(torch.isfinite(values).all())
    assert float(flow.train_loss(math.inf)) < 1


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="tau = -1"):
        FLOW.train_loss(-1.0)
    with pytest.raises(ValueError, match="tau = nan"):
        FLOW.score_error(math.nan)
    with pytest.raises(ValueError, match=r"tau = .*one training time"):
        FLOW.readout(torch.ones(3))
    with pytest.raises(ValueError, match="threshold = 0"):
        generalization_time(FLOW, threshold=0.0)
    with pytest.raises(ValueError, match=r"level = 1.0"):
        memorization_time(FLOW, level=1.0, relative_to="final gap")
    with pytest.raises(ValueError, match=r"level = 1.0"):
        memorization_time(FLOW, level=1.0, relative_to="least error")
    with pytest.raises(ValueError, match="noise = 2"):
        GradientFlow(WEIGHTS, POINTS, 2.0)
