"""Networks of every convention, built from an exact law, give its score back."""

import math
import subprocess
import sys

import pytest
import torch

from kss.distributions import GaussianMixture
from kss.scores import EDM, DiscreteVariancePreserving, VarianceExploding, VariancePreserving, from_denoiser

LAW = GaussianMixture(means=[[-1.0, 0.5], [1.0, 0.0]], covariances=[[[0.1, 0.02], [0.02, 0.3]], [[0.2, 0.0], [0.0, 0.05]]])
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ALPHAS = torch.cumprod(1 - BETAS, 0)
TIMES = (1e-3, 0.1, 1.0, 30.0)
SCHEDULES = {
    "ve": VarianceExploding(),
    "edm": EDM(0.7),
    "vp": VariancePreserving(),
    "vp constant rate": VariancePreserving(beta_min=7.0, beta_max=7.0, label_scale=999.0),
    "discrete": DiscreteVariancePreserving(ALPHAS),
}
PREDICTIONS = {"ve": ("x0", "eps", "score"), "edm": ("x0", "eps", "score", "F")}


def closed_form_time(name, c):
    """The variance a label stands for, by the definition of each process and not by the schedule's own formulas."""
    if name in ("ve", "edm"):
        return c**2
    if name == "vp":
        return torch.exp(0.1 * c + 19.9 * c**2 / 2) - 1
    if name == "vp constant rate":
        return torch.exp(7.0 * c / 999) - 1
    before = c.floor().long().clamp(0, 998)
    log_alpha = ALPHAS.log()[before] + (c - before) * (ALPHAS.log()[before + 1] - ALPHAS.log()[before])
    return torch.exp(-log_alpha) - 1


def network(name, prediction):
    """What a perfectly trained network of this convention returns, written from the definitions `Y = alpha X_0 + sigma Z`."""

    def model(y, c):
        if prediction == "F":
            sigma, data = torch.exp(4 * c)[:, None], 0.7
            x = y * (sigma**2 + data**2).sqrt()
            mean = LAW.denoise(x, sigma[:, 0] ** 2)
            skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2).sqrt()
            return (mean - skip * x) / out
        t = closed_form_time(name, c)[:, None]
        alpha = 1.0 if name in ("ve", "edm") else 1 / (1 + t).sqrt()
        sigma = alpha * t.sqrt()
        mean = LAW.denoise(y / alpha, t[:, 0])
        noise = -t.sqrt() * LAW.score(y / alpha, t[:, 0])
        return {"x0": mean, "eps": noise, "v": alpha * noise - sigma * mean, "score": -noise / sigma}[prediction]

    return model


CASES = [(name, prediction) for name in SCHEDULES for prediction in PREDICTIONS.get(name, ("x0", "eps", "v", "score"))]


@pytest.mark.parametrize(("name", "prediction"), CASES, ids=[f"{n}-{p}" for n, p in CASES])
def test_round_trip(name, prediction):
    score = from_denoiser(network(name, prediction), schedule=SCHEDULES[name], prediction=prediction)
    for t in TIMES:
        x = LAW.diffuse(50, t, generator=0)
        # The label is rounded, and exp(B) or a quotient by sqrt(t) amplifies that; "x0" loses digits in (D - x)/t.
        size = LAW.score(x, t).norm(dim=-1) + x.norm(dim=-1) / t * 1e-3 + 1 / math.sqrt(t)
        assert float(((score.score(x, t) - LAW.score(x, t)).norm(dim=-1) / size).max()) < 1e-12
        assert float((score.denoise(x, t) - LAW.denoise(x, t)).norm(dim=-1).max()) < 1e-12 * (1 + math.sqrt(t))


@pytest.mark.parametrize("name", SCHEDULES)
def test_label_and_time_are_inverse(name):
    t = torch.logspace(-3, 2, 40, dtype=torch.float64)
    label = SCHEDULES[name].label(t)
    assert torch.allclose(SCHEDULES[name].time(label), t, rtol=1e-11, atol=0)
    assert torch.allclose(closed_form_time(name, label), t, rtol=1e-10, atol=0)
    assert bool((label.diff() > 0).all())


def test_f_with_unit_data_is_minus_v():
    f = from_denoiser(lambda y, c: torch.sin(y) + y, schedule=EDM(1.0), prediction="F")
    v = from_denoiser(lambda y, c: -torch.sin(y) - y, schedule=VariancePreserving(), prediction="v")
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(f.score(x, 0.3), v.score(x, 0.3), rtol=1e-13)
    assert torch.allclose(f.denoise(x, 0.3), v.denoise(x, 0.3), rtol=1e-13)


def test_the_steps_of_a_discrete_schedule():
    t = (1 - ALPHAS) / ALPHAS
    steps = torch.arange(1000, dtype=torch.float64)
    assert torch.allclose(DiscreteVariancePreserving(ALPHAS).label(t), steps, atol=1e-9)
    between = DiscreteVariancePreserving(ALPHAS, interpolate=False).label((t[:-1] * t[1:]).sqrt())
    assert bool((between == between.round()).all())
    assert float((between - steps[:-1]).min()) >= 0
    assert float((between - steps[1:]).max()) <= 0


def test_one_time_for_each_point_shapes_and_dtypes():
    score = from_denoiser(network("vp", "eps"), schedule=VariancePreserving(), prediction="eps")
    x, t = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 1.0, 2.0, 5.0])
    assert torch.allclose(score.score(x, t), LAW.score(x, t), rtol=1e-6)
    assert score.score(x.float(), 1.0).dtype == torch.float32
    assert score.score([0.0, 1.0], 1.0).shape == (2,)

    seen = {}

    def images(y, c):
        seen["shape"], seen["dtype"], seen["labels"] = y.shape, y.dtype, c.shape
        return y

    flat = torch.zeros(5, 48, dtype=torch.float64)
    assert from_denoiser(images, schedule=EDM(), shape=(3, 4, 4), dtype=torch.float32).score(flat, 1.0).shape == (5, 48)
    assert seen == {"shape": (5, 3, 4, 4), "dtype": torch.float32, "labels": (5,)}


def test_a_float32_module_is_called_in_float32_and_gradients_flow():
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, y, c):
            return torch.tanh(self.linear(y)) * c[:, None]

    score = from_denoiser(Small(), schedule=VarianceExploding(), prediction="eps")
    assert score.dtype == torch.float32
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = score.score(x, 0.5)
    assert value.dtype == torch.float64
    (gradient,) = torch.autograd.grad(value.sum(), x)
    exact = torch.func.jvp(lambda y: score.score(y, 0.5).sum(-1), (x.detach(),), (torch.ones_like(x),))[1]
    assert torch.allclose(gradient.sum(-1), exact, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_denoiser(len, schedule=EDM(), prediction="v"), "v is defined where a^2 + sigma^2 = 1"),
        (lambda: from_denoiser(len, schedule=VarianceExploding(), prediction="F"), "the schedule EDM"),
        (lambda: from_denoiser(len, schedule=EDM(), shape=()), "shape = (): expected the shape of one input"),
        (lambda: from_denoiser(len, schedule=EDM(), dtype=torch.int64), "dtype = torch.int64: expected a floating dtype"),
        (lambda: EDM(-1.0), "sigma_data = -1.0"),
        (lambda: VariancePreserving(2.0, 1.0), "beta_max = 1.0: expected a rate of at least beta_min = 2"),
        (lambda: DiscreteVariancePreserving([0.5, 0.6]), "alphas_cumprod = [0.5, 0.6]: expected decreasing numbers in (0, 1)"),
        (lambda: DiscreteVariancePreserving([0.5]), "a list of at least 2 numbers"),
        (lambda: VariancePreserving().label(torch.tensor([1e5], dtype=torch.float64)), "t = 100000.0: expected a noise variance in [0, "),
        (lambda: DiscreteVariancePreserving(ALPHAS).label(torch.tensor([1e-9], dtype=torch.float64)), "t = 1e-09"),
        (lambda: VariancePreserving().time(1.5), "label = 1.5: expected labels in (0, 1]"),
        (lambda: DiscreteVariancePreserving(ALPHAS).time(1000), "label = 1000: expected steps in [0, 999]"),
        (lambda: VarianceExploding().time(0.0), "label = 0.0: expected standard deviations"),
        (lambda: from_denoiser(lambda y, c: y[:, :1], schedule=EDM()).score([[0.0, 1.0]], 1.0), "model's output = Tensor of shape (1, 1)"),
        (lambda: from_denoiser(lambda y, c: y, schedule=EDM()).score([[0.0, 1.0]], -1.0), "t = -1.0: expected a noise variance t > 0"),
        (lambda: from_denoiser(lambda y, c: y, schedule=EDM(), shape=(3,)).score([[0.0, 1.0]], 1.0), "points of shape (..., 3)"),
        (lambda: from_denoiser(lambda y, c: y, schedule=EDM()).score(1.0, 1.0), "points of shape (..., d)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below, as text and not as a pattern
        call()
    assert message in str(caught.value)


WRONG_TYPES = """
from kss.scores import EDM, from_denoiser
for call in (
    lambda: from_denoiser(3, schedule=EDM()),
    lambda: from_denoiser(len, schedule="edm"),
    lambda: from_denoiser(len, schedule=EDM(), prediction="noise"),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""


def test_wrong_types_are_named():
    # In a process of its own: here the hook of tests/conftest.py would stop them first.
    said = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith("model = 3: expected a torch module or a function")
    assert said[1].startswith("schedule = 'edm': expected a Schedule")
    assert said[2].startswith("prediction = 'noise': expected 'x0' or 'eps' or 'v' or 'score' or 'F'")


def test_ends_of_the_range_are_inside():
    vp, discrete = VariancePreserving(), DiscreteVariancePreserving(ALPHAS)
    assert vp.label(vp.time(1.0)) == pytest.approx(1.0)
    assert discrete.label(discrete.time(999)) == pytest.approx(999)
    assert discrete.label(discrete.time(0)) == pytest.approx(0, abs=1e-9)
