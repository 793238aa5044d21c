r"""A small network trained to remove noise, in seconds on one processor core.

Write c and v for the mean of the data and their variance per coordinate, `a = sqrt(v/(t + v))`, `b = sqrt(t/(t + v))`. The denoiser is

    D(x, t) = c + a^2 (x - c) + sqrt(v) b F((x - c)/sqrt(t + v), t),

with a multilayer perceptron F, and its score is

    (D(x, t) - x)/t = -(x - c)/(t + v) + a F((x - c)/sqrt(t + v), t)/sqrt(t).

For `x = x_i + sqrt(t) z` and `y = (x_i - c)/sqrt(v)`, F is asked to turn `a y + b z` into `b y - a z`: input and target have unit
size at every t. The weighted loss of denoising score matching,

    E |F(a y + b z, t) - (b y - a z)|^2 = E (t + v)/(v t) |D(x_i + sqrt(t) z, t) - x_i|^2,        t log-uniform on [t_min, t_max],

is what is minimized, with fresh noise in every step. F depends on t through `cos(pi k w)`, k = 1..6, `w` in [0, 1] linear in log t. Its
last layer starts from 0, and so training starts from the score of the normal law that has the mean and variance of the data.

Sources: Karras et al. 2022 (arXiv 2206.00364), table 1, for scaling and weight; Vincent 2011 (Neural Computation 23, 1661) for the loss.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from kss._validation import ArrayLike, Query, Seed, as_count, as_generator, as_points, as_positive, as_query, as_tensor, reject

HARMONICS = 6
"""Functions of log t that the network sees."""
SLACK = 0.1
"""A noise variance may exceed the range of the training by this fraction, for difference quotients at its ends."""
MEMORY = 9.0
"""The weights returned are an average over the steps n with weight about `n^MEMORY`: over the last tenth, about."""


class TrainedDenoiser:
    """A network made by `train_denoiser`; formulas at the top of `kss.learned.mlp`.

    Attributes: `dim`; `t_min` and `t_max`, the range of its training (equal if it saw one noise variance alone); `steps`, `width`, `depth`;
    `center` (d,) and `variance`, of the data. It is a fixed function, evaluated in float64 on the device of x, smooth in x and t; gradients
    flow through both.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Tensor, Tensor]],
        center: Float[Tensor, " d"],
        variance: float,
        t: tuple[float, float],
        steps: int,
        dtype: torch.dtype,
    ) -> None:
        self.layers = [(weight.detach().double(), bias.detach().double()) for weight, bias in layers]
        self.center, self.variance, self.steps = center, variance, steps
        self.t_min, self.t_max = t
        self.dim, self.depth, self.width = len(center), len(layers) - 1, layers[0][0].shape[1]
        self._dtype = dtype

    def __repr__(self) -> str:
        times = f"{self.t_min:g}" if self.t_min == self.t_max else f"({self.t_min:g}, {self.t_max:g})"
        return f"TrainedDenoiser(dim={self.dim}, width={self.width}, depth={self.depth}, t={times}, steps={self.steps})"

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`D(x, t)`, the network's estimate of `E[X_0 | X_t = x]`, for `x` (..., d) and noise variances `t`, a number or of shape (...).

        `ValueError` for a variance outside the range of the training (by more than a tenth): the network knows nothing about it.
        """
        query, total, output = self._output(x, t)
        a2, b = self.variance / total, (query.t / total).sqrt()
        center = self.center.to(query.x.device)
        value = center + a2 * (query.x - center) + math.sqrt(self.variance) * b * output
        return value.to(query.dtype)

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`(D(x, t) - x)/t`, without the subtraction; arguments as for `denoise`."""
        query, total, output = self._output(x, t)
        a = (self.variance / total).sqrt()
        value = -(query.x - self.center.to(query.x.device)) / total + a * output / query.t.sqrt()
        return value.to(query.dtype)

    def _output(self, x: ArrayLike, t: ArrayLike) -> tuple[Query, Tensor, Tensor]:
        query = as_query(x, t, like=self.center.to(self._dtype))
        low, high = self.t_min * (1 - SLACK), self.t_max * (1 + SLACK)
        if not bool(((query.t >= low) & (query.t <= high)).all()):
            limits = f"[{self.t_min:g}, {self.t_max:g}]"
            raise reject("t", t, f"a noise variance in {limits}, the range the network was trained on")
        total = query.t + self.variance
        device = query.x.device
        seen = _see((query.x - self.center.to(device)) / total.sqrt(), query.t, (self.t_min, self.t_max))
        return query, total, _forward([(weight.to(device), bias.to(device)) for weight, bias in self.layers], seen)


def train_denoiser(
    points: ArrayLike,
    *,
    t: ArrayLike,
    steps: int = 2000,
    width: int = 64,
    depth: int = 3,
    batch: int = 256,
    learning_rate: float = 3e-3,
    teacher: Any = None,
    generator: Seed,
) -> TrainedDenoiser:
    r"""A network of `depth` hidden layers of `width` units, trained to denoise `points` (N, d) by `steps` steps of Adam.

    Arguments: `t`, the range `(t_min, t_max)` of noise variances, or one number: then F does not depend on t; `batch`, noisy points in one
    step, their points and noise drawn at random, their noise variances evenly spread in log t; `learning_rate`, constant; `teacher`, an
    object with `denoise(x, t)` whose answer is the target instead of the clean point (distillation); `generator`, for all of it.

    The weights returned are an average over about the last tenth of the steps, which does the work of a falling learning
    rate. Training is in float32. The same `generator` gives the same network, to the last bit, on the same machine with the same version
    of torch and the same number of threads, whatever torch's global generator does (it is neither read nor moved). Elsewhere the
    same network may come out slightly different: sums are then taken in another order, and training amplifies rounding.

    >>> network = train_denoiser([[-1.0], [1.0]], t=(0.1, 1.0), steps=200, width=16, generator=0)
    >>> network.denoise([[-1.0], [1.0]], t=0.1).sign()
    tensor([[-1.],
            [ 1.]], dtype=torch.float64)
    """
    steps = as_count("steps", steps, minimum=0)
    run = training_run(
        points,
        t=t,
        checkpoints=(steps,),
        width=width,
        depth=depth,
        batch=batch,
        learning_rate=learning_rate,
        teacher=teacher,
        generator=generator,
    )
    return run[steps]


def training_run(
    points: ArrayLike,
    *,
    t: ArrayLike,
    checkpoints: Sequence[int],
    width: int = 64,
    depth: int = 3,
    batch: int = 256,
    learning_rate: float = 3e-3,
    teacher: Any = None,
    generator: Seed,
) -> dict[int, TrainedDenoiser]:
    """The networks after each number of steps in `checkpoints`, of one training; other arguments as for `train_denoiser`.

    Each is what `train_denoiser` with so many steps and the same seed returns. After 0 steps it is the score of a normal law.
    """
    points = as_points("points", points)
    width, depth, batch = as_count("width", width), as_count("depth", depth), as_count("batch", batch)
    learning_rate = as_positive("learning_rate", learning_rate)
    wanted = sorted({as_count("checkpoints", step, minimum=0) for step in checkpoints})
    if not wanted:
        raise reject("checkpoints", checkpoints, "at least one number of steps")
    t_min, t_max = times = _range(t)
    chance = as_generator(generator)
    if chance.device.type != "cpu":
        raise reject("generator", chance, "a generator of the CPU")
    data = points.detach().double().cpu()
    center = data.mean(0)
    variance = float((data - center).square().mean())
    if teacher is not None and variance == 0:
        raise reject("points", points, "points that are not all equal: their variance is the scale of the network")
    clean = ((data - center) / math.sqrt(variance or 1.0)).float()
    ratio = math.log(t_max / t_min) if t_max > t_min else 0.0

    shapes = _shapes(clean.shape[1], width, depth, labeled=t_max > t_min)
    theta = _initial(shapes, chance).requires_grad_()
    average = theta.detach().clone()
    found: dict[int, TrainedDenoiser] = {}
    if wanted == [0]:  # torch takes a second to make its first optimizer
        return {0: TrainedDenoiser(_unpack(average, shapes), center, variance, times, 0, points.dtype)}
    adam = torch.optim.Adam([theta], lr=learning_rate, fused=True)
    for step in range(wanted[-1] + 1):
        if step in wanted:
            found[step] = TrainedDenoiser(_unpack(average, shapes), center, variance, times, step, points.dtype)
        if step == wanted[-1]:
            break
        which = torch.randint(len(clean), (batch,), generator=chance)
        noise = torch.randn(batch, clean.shape[1], generator=chance)
        place = (torch.arange(batch) + torch.rand((), generator=chance)) / batch  # one noise level in each cell
        level = t_min * torch.exp(place.double() * ratio).unsqueeze(-1)
        total = level + variance
        a, b = (variance / total).sqrt().float(), (level / total).sqrt().float()
        y = clean[which]
        seen = _label(a * y + b * noise, place) if t_max > t_min else a * y + b * noise
        if teacher is None:
            target = b * y - a * noise
        else:
            x = data[which] + level.sqrt() * noise.double()
            with torch.no_grad():
                answer = torch.as_tensor(teacher.denoise(x, level.squeeze(-1))).double().cpu()
            target = ((answer - center - variance / total * (x - center)) / (variance * level / total).sqrt()).float()
        with torch.enable_grad():
            loss = (_forward(_unpack(theta, shapes), seen) - target).square().sum(-1).mean()
            (theta.grad,) = torch.autograd.grad(loss, theta)
        adam.step()
        average.lerp_(theta.detach(), 1 - (step / (step + 1)) ** (MEMORY + 1))
    return found


def _range(t: ArrayLike) -> tuple[float, float]:
    """A noise variance, twice, or two of them in order."""
    value = as_tensor("t", t).double()
    ends = value.tolist() if value.shape == (2,) else [float(value)] * 2 if value.ndim == 0 else []
    if not ends or not ends[0] > 0 or (value.ndim == 1 and not ends[0] < ends[1]):
        raise reject("t", t, "a noise variance t > 0, or a range (t_min, t_max) with 0 < t_min < t_max")
    return ends[0], ends[1]


def _label(x: Float[Tensor, "*batch d"], place: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch e"]:
    """The input with functions of the place of log t in its range, in [0, 1], appended."""
    angle = torch.pi * place.unsqueeze(-1) * torch.arange(1, HARMONICS + 1, dtype=x.dtype, device=x.device)
    return torch.cat((x, angle.cos().to(x.dtype)), -1)


def _see(x: Float[Tensor, "*batch d"], t: Float[Tensor, "*batch 1"], times: tuple[float, float]) -> Float[Tensor, "*batch e"]:
    if times[0] == times[1]:
        return x
    place = (t / times[0]).log() / math.log(times[1] / times[0])
    return _label(x, place.squeeze(-1))


def _shapes(dim: int, width: int, depth: int, *, labeled: bool) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer."""
    sizes = [dim + (HARMONICS if labeled else 0), *[width] * depth, dim]
    return list(itertools.pairwise(sizes))


def _initial(shapes: Sequence[tuple[int, int]], generator: torch.Generator) -> Float[Tensor, " p"]:
    """All weights and biases in one vector; the last layer is 0."""
    parts = []
    for rows, columns in shapes[:-1]:
        parts.append(torch.randn(rows * columns, generator=generator) * math.sqrt(2 / rows))
        parts.append(2 * torch.rand(columns, generator=generator) - 1)
    return torch.cat([*parts, torch.zeros((shapes[-1][0] + 1) * shapes[-1][1])])


def _unpack(theta: Float[Tensor, " p"], shapes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    """The weight matrix and the bias of each layer."""
    sizes = [size for rows, columns in shapes for size in (rows * columns, columns)]
    parts = theta.split(sizes)
    return [(parts[2 * i].view(shape), parts[2 * i + 1]) for i, shape in enumerate(shapes)]


def _forward(layers: Sequence[tuple[Tensor, Tensor]], x: Float[Tensor, "*batch e"]) -> Float[Tensor, "*batch d"]:
    for weight, bias in layers[:-1]:
        x = functional.silu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias
