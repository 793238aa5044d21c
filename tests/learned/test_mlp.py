"""A trained denoiser: reproducible, a score like any other, right where the answer is known."""

import pytest
import torch

from kss.distributions import Empirical, Gaussian
from kss.dynamics import sample_reverse_sde
from kss.kernels import GaussianKernel
from kss.learned import TrainedDenoiser, train_denoiser, training_run
from kss.scores import Mollified
from kss.testing import check_score

POINTS = torch.tensor([[-1.0, 0.5], [1.0, 0.25], [0.5, -1.0], [0.0, 1.5]], dtype=torch.float64)
SMALL = {"steps": 40, "width": 8, "depth": 2, "batch": 32}


def weights(network: TrainedDenoiser):
    return torch.cat([part.flatten() for layer in network.layers for part in layer])


def small(points=POINTS, t=(0.01, 1.0), generator=0, **changes):
    return train_denoiser(points, t=t, generator=generator, **(SMALL | changes))


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not():
    assert torch.equal(weights(small()), weights(small()))
    assert not torch.equal(weights(small()), weights(small(generator=1)))


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = small()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(weights(first), weights(small()))


def test_a_checkpoint_is_the_network_of_a_training_of_that_length():
    run = training_run(POINTS, t=(0.01, 1.0), checkpoints=(40, 7, 0), width=8, depth=2, batch=32, generator=0)
    assert list(run) == [0, 7, 40]
    assert run[7].steps == 7
    assert torch.equal(weights(run[40]), weights(small()))
    assert torch.equal(weights(run[7]), weights(small(steps=7)))


def test_without_training_it_is_the_score_of_a_normal_law():
    network = small(steps=0)
    law = Gaussian(POINTS.mean(0), float((POINTS - POINTS.mean(0)).square().mean()))
    x = 3 * torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (0.01, 0.3, 1.0):
        torch.testing.assert_close(network.score(x, t), law.score(x, t), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(network.denoise(x, t), law.denoise(x, t), rtol=1e-13, atol=1e-13)


def test_scaling_and_moving_the_data_scales_and_moves_the_network():
    plain, scaled = small(), small(4 * POINTS + 8, t=(0.16, 16.0))
    x = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 2)
    torch.testing.assert_close(scaled.denoise(4 * x + 8, 1.6), 4 * plain.denoise(x, 0.1) + 8, rtol=1e-9, atol=0)
    torch.testing.assert_close(scaled.score(4 * x + 8, 1.6), plain.score(x, 0.1) / 4, rtol=1e-9, atol=0)


def test_the_score_is_displacement_over_t():
    network, x = small(), POINTS + 0.3
    for t in (0.01, 0.2, 1.0):
        torch.testing.assert_close(t * network.score(x, t), network.denoise(x, t) - x, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_training_approaches_the_empirical_denoiser():
    law, network = Empirical(POINTS), train_denoiser(POINTS, t=(0.03, 1.0), steps=500, width=32, generator=0)
    for t in (0.03, 0.2, 1.0):
        x = law.diffuse(500, t, 1)
        wrong, size = network.denoise(x, t) - law.denoise(x, t), law.denoise(x, t) - POINTS.mean(0)
        assert float(wrong.square().sum()) < 0.05 * float(size.square().sum())


def test_a_teacher_that_always_says_the_mean():
    class Mean:
        def denoise(self, x, t):
            return POINTS.mean(0).expand_as(x)

    network = small(t=1.0, steps=400, teacher=Mean())
    # The best answer is 0 x + mean, and an untrained network says otherwise.
    error = (network.denoise(POINTS, 1.0) - POINTS.mean(0)).norm()
    untrained = (small(t=1.0, steps=0).denoise(POINTS, 1.0) - POINTS.mean(0)).norm()
    assert float(error) < 0.2 * float(untrained)


@pytest.mark.parametrize("points", [[[2.0, -3.0]], [[2.0, -3.0]] * 3])
def test_points_that_are_all_equal_are_denoised_exactly(points):
    network = small(points)
    x = torch.tensor([[5.0, 1e6]], dtype=torch.float64)
    assert network.denoise(x, 0.1).tolist() == [[2.0, -3.0]]
    torch.testing.assert_close(network.score(x, 0.1), (torch.tensor([[2.0, -3.0]], dtype=torch.float64) - x) / 0.1)


@pytest.mark.parametrize("t", [(1e-300, 1e-290), (1e290, 1e300), 1e-300, 1e300, (1e-12, 1e12)])
def test_extreme_noise_gives_finite_numbers(t):
    network = small(t=t, steps=3)
    time = t if isinstance(t, float) else t[0]
    assert torch.isfinite(network.denoise(POINTS, time)).all()
    assert torch.isfinite(network.score(POINTS, time)).all()


def test_shapes_and_dtypes():
    network = small()
    x = torch.zeros(3, 1, 2, dtype=torch.float64)
    t = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)[:, None].expand(3, 4)
    assert network.score(x, t).shape == network.denoise(x, t).shape == (3, 4, 2)
    assert torch.equal(network.score(x[:, 0], t[:, 0])[1], network.score(x[1, 0], 0.1))
    assert network.score(x.numpy(), 0.1).dtype == torch.float64
    assert network.score(x.float(), 0.1).dtype == torch.float64  # as for the empirical score of these data
    narrow = small(POINTS.float())
    assert narrow.score(x.float(), 0.1).dtype == torch.float32
    assert (narrow.dim, narrow.width, narrow.depth, narrow.steps, narrow.t_min, narrow.t_max) == (2, 8, 2, 40, 0.01, 1.0)


def test_one_noise_level():
    network = small(t=0.5)
    assert network.t_min == network.t_max == 0.5
    assert network.layers[0][0].shape == (2, 8)  # no label
    assert network.score(POINTS, 0.5).shape == (4, 2)


def test_gradients_flow_through_x():
    x = POINTS.clone().requires_grad_()
    network = small()
    assert torch.autograd.gradcheck(lambda y: network.score(y, 0.1), x)


def test_training_works_where_gradients_are_off():
    with torch.no_grad():
        inside = weights(small())
    assert torch.equal(inside, weights(small()))


@pytest.mark.slow
def test_samplers_kernels_and_checks_accept_it():
    network = small()
    y = sample_reverse_sde(network, torch.zeros(3, 2, dtype=torch.float64), t_max=1.0, t_min=0.01, steps=5, generator=0)
    assert y.shape == (3, 2)
    assert Mollified(network, GaussianKernel(0.1), accuracy=1e-2).score(POINTS, 0.1).shape == (4, 2)
    report = check_score(network, dim=2, times=(0.01, 0.1, 1.0), count=8)
    for name in ("interface", "repeatable", "rows", "times"):
        assert report[name].outcome == "passed", report
    assert report["burgers"].measured is not None  # evaluated up to the ends of the range of t


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.zeros(0, 2)}, "points = "),
        ({"points": [[float("nan")]]}, "points = "),
        ({"t": 0.0}, r"t = 0.0: expected a noise variance t > 0, or a range"),
        ({"t": (1.0, 0.1)}, r"t = \(1.0, 0.1\): expected a noise variance t > 0, or a range"),
        ({"t": (0.1, 0.2, 0.3)}, "t = "),
        ({"steps": -1}, "steps = -1: expected an integer >= 0"),
        ({"width": 0}, "width = 0"),
        ({"depth": 0}, "depth = 0"),
        ({"batch": 0}, "batch = 0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
        ({"points": [[1.0], [1.0]], "teacher": Empirical([[1.0]])}, "points that are not all equal"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_bad_queries_and_checkpoints_are_named():
    network = small()
    for t in (0.001, 2.0):
        with pytest.raises(ValueError, match=r"expected a noise variance in \[0.01, 1\]"):
            network.score(POINTS, t)
    with pytest.raises(ValueError, match=r"x = .*expected points of shape"):
        network.score(torch.zeros(3), 0.1)
    with pytest.raises(ValueError, match=r"checkpoints = \(\): expected at least one"):
        training_run(POINTS, t=1.0, checkpoints=(), generator=0)
