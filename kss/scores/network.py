r"""Scores made from denoising networks, whatever convention they were trained in.

A network sees `Y = a X_t`, where `X_t = X_0 + sqrt(t) Z`, and a label c that tells it the noise level. With `sigma = a sqrt(t)`
this reads `Y = a X_0 + sigma Z`. A *schedule* gives a and c for each variance t:

    variance exploding     a = 1,                c = sigma = sqrt(t)
    variance preserving    a = (1 + t)^(-1/2),   a^2 + sigma^2 = 1,  c = the process time tau, or a step number

and a *prediction* says what the network returns, and hence what the score `s_t(x) = grad log p_t(x)` is at `x = Y/a`:

    "x0"      D = E[X_0 | Y]                          s = (D - x)/t
    "eps"     e = E[Z | Y]                            s = -e/sqrt(t)
    "v"       v = E[a Z - sigma X_0 | Y]              s = -a^2 x - a v/sqrt(t)                            variance preserving only
    "score"   q = grad log (density of Y), at Y       s = a q
    "F"       F, the network inside `EDM`             s = -x/(t + S^2) + S F/sqrt(t (t + S^2)),  S = sigma_data

Sources: Ho et al. 2020 (arXiv 2006.11239) for "eps"; Song et al. 2021 (arXiv 2011.13456) for the two families; Salimans and Ho
2022 (arXiv 2202.00512) for "v"; Karras et al. 2022 (arXiv 2206.00364), table 1, for "F".
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, as_positive, as_query, as_tensor, reject

Prediction = Literal["x0", "eps", "v", "score", "F"]
SLACK = 1e-9
"""A variance may exceed the range of a schedule by this fraction: it was probably computed from the end of the range."""


class Schedule(ABC):
    """How a network names the noise variance t, a float64 tensor of any shape: by `scale(t)` = a and `label(t)` = c."""

    preserving: ClassVar[bool] = False
    """Whether `a^2 (1 + t) = 1`, which the prediction "v" needs."""

    @abstractmethod
    def scale(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        """`a`, with which the network's input is `Y = a X_t`."""

    @abstractmethod
    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        """`c`, the network's second argument. `ValueError` if t is outside the range the network was trained on."""

    @abstractmethod
    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        """The variance t that a label stands for: the inverse of `label`."""


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """`Y = X_t`, labeled by the standard deviation `sigma = sqrt(t)` of its noise.

    >>> VarianceExploding().label(torch.tensor([0.25]))
    tensor([0.5000])
    """

    def scale(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        return torch.ones_like(t)

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        return t.sqrt()

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        sigma = as_tensor("label", label)
        if not bool((sigma > 0).all()):
            raise reject("label", label, "standard deviations sigma > 0")
        return sigma**2


@dataclass(frozen=True)
class EDM(VarianceExploding):
    r"""The convention of Karras et al. 2022: `Y = X_t`, labeled by `sigma`.

    The denoiser `D(x; sigma)` with its preconditioning is called as it is, with prediction "x0" (and `sigma_data` is then not
    used). The raw network F inside it is called as `F(x/sqrt(t + S^2), log(sigma)/4)`, with prediction "F" and `S = sigma_data`:

        D(x; sigma) = S^2/(t + S^2) x + sqrt(t) S/sqrt(t + S^2) F(x/sqrt(t + S^2), log(sigma)/4).

    With S = 1, F is -v.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma_data", as_positive("sigma_data", self.sigma_data))


class _Preserving(Schedule):
    preserving: ClassVar[bool] = True

    def scale(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        return (1 + t).rsqrt()


@dataclass(frozen=True)
class VariancePreserving(_Preserving):
    r"""`dY = -(1/2) beta(tau) Y dtau + sqrt(beta(tau)) dB`, `beta` linear from `beta_min` to `beta_max` on [0, 1].

    With `B(tau) = beta_min tau + (beta_max - beta_min) tau^2/2` the scale is `a = exp(-B/2)`, so `t = exp(B) - 1`, and the
    label of t is `label_scale tau(t)` with

        tau(t) = 2 L/(beta_min + sqrt(beta_min^2 + 2 (beta_max - beta_min) L)),    L = log(1 + t).

    `label_scale` is 1 for a network that is given tau itself; some are given `999 tau`. Variances above `time(label_scale)`, the
    one at tau = 1, raise `ValueError`: no such input was in the training. Source: Song et al. 2021, equations 32 and 33.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    label_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("beta_min", "beta_max", "label_scale"):
            object.__setattr__(self, name, as_positive(name, getattr(self, name)))
        if self.beta_max < self.beta_min:
            raise reject("beta_max", self.beta_max, f"a rate of at least beta_min = {self.beta_min:g}")

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        level = t.log1p()
        highest = (self.beta_min + self.beta_max) / 2  # B(1)
        _require_range(level, 0.0, highest)
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * level).sqrt()
        return self.label_scale * (2 * level / (self.beta_min + root)).clamp_max(1.0)

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        tau = as_tensor("label", label) / self.label_scale
        if not bool(((tau > 0) & (tau <= 1)).all()):
            raise reject("label", label, f"labels in (0, {self.label_scale:g}]")
        return torch.expm1(self.beta_min * tau + (self.beta_max - self.beta_min) * tau**2 / 2)


@dataclass(frozen=True, eq=False)
class DiscreteVariancePreserving(_Preserving):
    r"""`Y_k = sqrt(A_k) X_0 + sqrt(1 - A_k) Z` for steps k = 0, ..., K - 1, labeled by k; `alphas_cumprod` (K,) lists the A_k.

    Step k is the variance `t_k = (1 - A_k)/A_k`. Between steps the label is the fraction of a step at which `log A`,
    interpolated linearly between the steps, has the value `-log(1 + t)`; networks that embed the label by sines accept
    fractions. With `interpolate=False` it is the nearest step, for networks that look their label up in a table: the score is then
    exact at the t_k, and between them that of a network told a slightly wrong noise level. Variances outside `[t_0, t_{K-1}]` raise
    `ValueError`, because the network never saw them. Source: Ho et al. 2020, equation 4.
    """

    alphas_cumprod: Any
    interpolate: bool = True

    def __post_init__(self) -> None:
        alphas = as_tensor("alphas_cumprod", self.alphas_cumprod).double()
        if alphas.ndim != 1 or len(alphas) < 2:
            raise reject("alphas_cumprod", alphas, "a list of at least 2 numbers, one for each step")
        if not bool(((alphas > 0) & (alphas < 1)).all()) or not bool((alphas.diff() < 0).all()):
            raise reject("alphas_cumprod", self.alphas_cumprod, "decreasing numbers in (0, 1)")
        object.__setattr__(self, "alphas_cumprod", alphas)

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        levels, level = -self.alphas_cumprod.log().to(t.device), t.log1p()  # log(1 + t_k) = -log A_k
        _require_range(level, float(levels[0]), float(levels[-1]))
        after = torch.searchsorted(levels, level.detach().contiguous()).clamp(1, len(levels) - 1)
        step = after - 1 + (level - levels[after - 1]) / (levels[after] - levels[after - 1])
        step = step.clamp(0, len(levels) - 1)
        return step if self.interpolate else step.round()

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        step, last = as_tensor("label", label).double(), len(self.alphas_cumprod) - 1
        if not bool(((step >= 0) & (step <= last)).all()):
            raise reject("label", label, f"steps in [0, {last}]")
        levels = -self.alphas_cumprod.log().to(step.device)
        before = step.detach().floor().long().clamp_max(last - 1)
        return torch.expm1(levels[before] + (step - before) * (levels[before + 1] - levels[before]))


def _require_range(level: Tensor, low: float, high: float) -> None:
    """`level = log(1 + t)` within the schedule; `ValueError` in terms of t otherwise."""
    slack = SLACK * (high + 1)
    if not bool(((level >= low - SLACK * low) & (level <= high + slack)).all()):
        t = torch.expm1(level.detach())
        extreme = float(t.max()) if bool((level > high + slack).any()) else float(t.min())
        limits = f"[{math.expm1(low):.6g}, {math.expm1(high):.6g}]"
        raise reject("t", float(f"{extreme:.9g}"), f"a noise variance in {limits}, the range of the schedule")


class FromDenoiser:
    """The score of a denoising network in variance time; made by `from_denoiser`."""

    def __init__(
        self,
        model: Callable[..., Tensor],
        schedule: Schedule,
        prediction: Prediction,
        shape: tuple[int, ...] | None,
        dtype: torch.dtype | None,
    ) -> None:
        self.model, self.schedule, self.prediction, self.shape = model, schedule, prediction, shape
        own = next((p for p in model.parameters() if p.is_floating_point()), None) if isinstance(model, torch.nn.Module) else None
        self.dtype = dtype if dtype is not None else (None if own is None else own.dtype)
        self._device = None if own is None else own.device

    def __repr__(self) -> str:
        return f"from_denoiser({type(self.model).__name__}, prediction={self.prediction!r}, schedule={self.schedule!r})"

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`s_t(x)` for points `x` (..., d) and noise variances `t` > 0, a number or of shape (...)."""
        query = self._query(x, t)
        return self._score(query.x, query.t, self._output(query)).to(query.dtype)

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`m_t(x) = x + t s_t(x)`, the network's estimate of `X_0`; shapes as for `score`."""
        query = self._query(x, t)
        return self._mean(query.x, query.t, self._output(query)).to(query.dtype)

    def _query(self, x: ArrayLike, t: ArrayLike) -> Query:
        points = as_tensor("x", x)
        if points.ndim == 0:
            raise reject("x", points, "points of shape (..., d)")
        dim = points.shape[-1] if self.shape is None else math.prod(self.shape)
        return as_query(points, t, like=torch.empty(dim, dtype=self.dtype or points.dtype, device=points.device))

    def _output(self, query: Query) -> Float[Tensor, "*batch d"]:
        """The network's output at X_t = x, in float64."""
        x, t = query.x, query.t
        if self.prediction == "F":
            scale, label = (t + self._sigma_data**2).rsqrt(), t.log() / 8
        else:
            scale, label = self.schedule.scale(t), self.schedule.label(t)
        dtype, device = self.dtype or query.dtype, self._device or x.device
        seen = (scale * x).reshape(label.numel(), *(self.shape or x.shape[-1:])).to(dtype=dtype, device=device)
        output = self.model(seen, label.reshape(-1).to(dtype=dtype, device=device))
        if not isinstance(output, Tensor) or output.shape != seen.shape:
            raise reject("model's output", output, f"a tensor of the shape of its input, {tuple(seen.shape)}")
        return output.reshape(x.shape).to(dtype=x.dtype, device=x.device)

    def _score(self, x: Tensor, t: Tensor, output: Tensor) -> Tensor:
        match self.prediction:
            case "x0":
                return (output - x) / t
            case "eps":
                return -output / t.sqrt()
            case "v":
                a = self.schedule.scale(t)
                return -a * (a * x + output / t.sqrt())
            case "score":
                return self.schedule.scale(t) * output
            case "F":
                data, total = self._sigma_data, t + self._sigma_data**2
                return -x / total + data * output / (t.sqrt() * total.sqrt())

    def _mean(self, x: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """`x + t s`, without forming the score: that would lose the digits of the mean at large t."""
        match self.prediction:
            case "x0":
                return output
            case "eps":
                return x - t.sqrt() * output
            case "v":
                a = self.schedule.scale(t)
                return a * (a * x - t.sqrt() * output)
            case "score":
                return x + t * self.schedule.scale(t) * output
            case "F":
                data, total = self._sigma_data, t + self._sigma_data**2
                return data**2 / total * x + data * (t / total).sqrt() * output

    @property
    def _sigma_data(self) -> float:
        assert isinstance(self.schedule, EDM)
        return self.schedule.sigma_data


def from_denoiser(
    model: Callable[..., Tensor],
    *,
    schedule: Schedule,
    prediction: Prediction = "x0",
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> FromDenoiser:
    r"""The score, in variance time, of a network trained in another convention; the formulas are at the top of this module.

    Arguments: `model(y, c)`, a torch module or function that maps noisy inputs y (n, d) and labels c (n,) to predictions of the
    shape of y (wrap one that takes or returns more, `lambda y, c: model(y, c, classes).sample`); `schedule` and `prediction`, its
    convention; `shape`, if the network expects images: the points (..., d) are then handed over as `(n, *shape)`, `d = prod(shape)`;
    `dtype`, that of the network's arithmetic: by default that of its parameters, or of `x` where it has none.

    The result has `score(x, t)` and `denoise(x, t)`. All but the network is float64, and the result has the dtype that `x` and
    the network's promote to, which says nothing of its accuracy: that of a float32 network is float32's, and with "x0" an error e of
    the network becomes `e/t` in the score. Gradients flow through x and t. A module in training mode stays in it: call `eval()` first.

    `ValueError` for an unknown prediction, "v" where the schedule does not preserve the variance (`a^2 + sigma^2 = 1` makes v a
    rotation of `(X_0, Z)`; EDM's analogue is "F"), "F" without `EDM`, a variance outside the range of the schedule, and an
    output of another shape than the input.

    >>> unit = lambda y, c: -y  # the score of N(0, I), which variance preserving noise leaves as it is
    >>> from_denoiser(unit, schedule=VariancePreserving(), prediction="score").score([[3.0]], t=3.0)
    tensor([[-0.7500]], dtype=torch.float64)
    """
    if not callable(model):
        raise reject("model", model, "a torch module or a function of noisy inputs and labels")
    if not isinstance(schedule, Schedule):
        raise reject("schedule", schedule, "a Schedule, for instance VarianceExploding() or VariancePreserving()")
    if prediction not in get_args(Prediction):
        raise reject("prediction", prediction, " or ".join(repr(name) for name in get_args(Prediction)))
    if prediction == "v" and not schedule.preserving:
        raise reject("prediction", prediction, f"'x0', 'eps' or 'score': v is defined where a^2 + sigma^2 = 1, not for {schedule!r}")
    if prediction == "F" and not isinstance(schedule, EDM):
        raise reject("prediction", prediction, f"the schedule EDM(sigma_data) with it, not {schedule!r}")
    sides = None if shape is None else tuple(int(side) for side in shape)
    if sides is not None and (not sides or min(sides) < 1):
        raise reject("shape", shape, "the shape of one input, without the batch, for instance (3, 32, 32)")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise reject("dtype", dtype, "a floating dtype of torch")
    return FromDenoiser(model, schedule, prediction, sides, dtype)
