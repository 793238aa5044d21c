r"""Scores made from denoising networks, whatever convention they were trained in.

A network sees `Y = a X_t`, where `X_t = X_0 + sqrt(t) Z`, and a label c that tells it the noise level. With `sigma = a sqrt(t)`
this reads `Y = a X_0 + sigma Z`. A *schedule* gives a and c for each variance t (see `kss.scores.schedules`), and a
*prediction* says what the network returns, and hence what the score `s_t(x) = grad log p_t(x)` is at `x = Y/a`:

    "x0"      D = E[X_0 | Y]                          s = (D - x)/t
    "eps"     e = E[Z | Y]                            s = -e/sqrt(t)
    "v"       v = E[a Z - sigma X_0 | Y]              s = -a^2 x - a v/sqrt(t)                            variance preserving only
    "score"   q = grad log (density of Y), at Y       s = a q
    "F"       F, the network inside `EDM`             s = -x/(t + S^2) + S F/sqrt(t (t + S^2)),  S = sigma_data

Sources: Ho et al. 2020 (arXiv 2006.11239) for "eps"; Salimans and Ho 2022 (arXiv 2202.00512) for "v"; Karras et al. 2022
(arXiv 2206.00364), table 1, for "F".
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Query, as_query, as_tensor, reject
from kss.scores.schedules import EDM, Schedule

Prediction = Literal["x0", "eps", "v", "score", "F"]


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

    >>> from kss.scores import VariancePreserving
    >>> unit = lambda y, c: -y  # the score of N(0, I), which variance preserving noise leaves as it is
    >>> from_denoiser(unit, schedule=VariancePreserving(), prediction="score").score([[3.0]], t=3.0)
    tensor([[-0.7500]], dtype=torch.float64)
    """
    if not callable(model):
        raise reject("model", model, "a torch module or a function of noisy inputs and labels")
    require_prediction(prediction, schedule)
    sides = None if shape is None else tuple(int(side) for side in shape)
    if sides is not None and (not sides or min(sides) < 1):
        raise reject("shape", shape, "the shape of one input, without the batch, for instance (3, 32, 32)")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise reject("dtype", dtype, "a floating dtype of torch")
    return FromDenoiser(model, schedule, prediction, sides, dtype)


def require_prediction(prediction: str, schedule: Schedule) -> None:
    """`ValueError` unless networks on this schedule can have this prediction."""
    if not isinstance(schedule, Schedule):
        raise reject("schedule", schedule, "a Schedule, for instance VarianceExploding() or VariancePreserving()")
    if prediction not in get_args(Prediction):
        raise reject("prediction", prediction, " or ".join(repr(name) for name in get_args(Prediction)))
    if prediction == "v" and not schedule.preserving:
        raise reject("prediction", prediction, f"'x0', 'eps' or 'score': v is defined where a^2 + sigma^2 = 1, not for {schedule!r}")
    if prediction == "F" and not isinstance(schedule, EDM):
        raise reject("prediction", prediction, f"the schedule EDM(sigma_data) with it, not {schedule!r}")
