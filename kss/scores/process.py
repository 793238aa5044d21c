r"""Anything in variance time, seen in another process: its score, denoiser, density and every prediction a network makes there.

A process with the scale a and the label c (`kss.scores.schedules`) has `Y_c = a X_t`. So `Y_c` has the density `a^{-d} p_t(y/a)`, and

    score          q_c(y) = s_t(y/a)/a
    denoiser       E[X_0 | Y_c = y] = m_t(y/a)
    covariance     Cov[X_0 | Y_c = y] = C_t(y/a)

exactly, for true, empirical and smoothed scores alike. In terms of the score s and of its denoiser `m = x + t s` at `x = y/a`,
the predictions of `kss.scores.network` are

    "x0"  m          "eps"  -sqrt(t) s = (x - m)/sqrt(t)          "score"  s/a
    "v"   -sqrt(t) (a x + s/a) = (a x - m/a)/sqrt(t)
    "F"   sqrt(t)/S (x/r + r s) = (r m - S^2 x/r)/(S sqrt(t)),    r = sqrt(t + S^2),  S = sigma_data,

of each pair the first where t is small, the second where it is large: the other one would cancel.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_tensor, reject
from kss.distributions.base import Distribution
from kss.scores.network import Prediction, require_prediction
from kss.scores.protocol import Score, score_function
from kss.scores.schedules import EDM, Schedule


class _Place(NamedTuple):
    """Where y and its label are in variance time, in float64."""

    x: Float[Tensor, "*batch d"]
    t: Float[Tensor, "*batch"]
    scale: Float[Tensor, "*batch 1"]
    dtype: torch.dtype


class InProcess:
    """A score `base`, in variance time, seen in the process of a `schedule`; `from_denoiser` is the way back.

    `base` is a `Distribution`, or anything with `score(x, t)`; `posterior_covariance` and `log_density` need a `Distribution`.
    Every method takes points y (..., d) of the process and its labels, a number or of shape (...).

    >>> from kss.distributions import Gaussian
    >>> from kss.scores import OrnsteinUhlenbeck
    >>> InProcess(Gaussian([0.0], 1.0), OrnsteinUhlenbeck()).score([[3.0]], 0.7)  # it keeps N(0, 1) as it is
    tensor([[-3.0000]], dtype=torch.float64)
    """

    def __init__(self, base: Score, schedule: Schedule) -> None:
        self._score = score_function(base)
        if not isinstance(schedule, Schedule):
            raise reject("schedule", schedule, "a Schedule, for instance OrnsteinUhlenbeck() or VariancePreserving()")
        self.base, self.schedule = base, schedule

    def __repr__(self) -> str:
        return f"InProcess({self.base!r}, {self.schedule!r})"

    def score(self, y: ArrayLike, label: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`grad log (density of Y_c)` at y: `s_t(y/a)/a`."""
        return self.predict(y, label, "score")

    def denoise(self, y: ArrayLike, label: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`E[X_0 | Y_c = y] = m_t(y/a)`."""
        return self.predict(y, label, "x0")

    def posterior_covariance(self, y: ArrayLike, label: ArrayLike) -> Float[Tensor, "*batch d d"]:
        """`Cov[X_0 | Y_c = y] = C_t(y/a)`."""
        place = self._place(y, label)
        return self._law.posterior(place.x, place.t).covariance().to(place.dtype)

    def moments(self, y: ArrayLike, label: ArrayLike) -> tuple[Tensor, Tensor, Tensor]:
        """`denoise`, `posterior_covariance` and `log_density` together, from one posterior."""
        place = self._place(y, label)
        posterior = self._law.posterior(place.x, place.t)
        log_density = posterior.log_evidence - place.x.shape[-1] * place.scale.squeeze(-1).log()
        return posterior.mean.to(place.dtype), posterior.covariance().to(place.dtype), log_density.to(place.dtype)

    def log_density(self, y: ArrayLike, label: ArrayLike) -> Float[Tensor, "*batch"]:
        """`log p_t(y/a) - d log a`, of shape (...)."""
        place = self._place(y, label)
        return (self._law.log_density(place.x, place.t) - place.x.shape[-1] * place.scale.squeeze(-1).log()).to(place.dtype)

    def predict(self, y: ArrayLike, label: ArrayLike, prediction: Prediction) -> Float[Tensor, "*batch d"]:
        """What a perfect network with this prediction returns at (y, c); for "F" y and c are its own, `x/sqrt(t + S^2)` and `log(sigma)/4`.

        `ValueError` for an unknown prediction, and for "v" and "F" where the schedule has none (as `from_denoiser`).
        """
        require_prediction(prediction, self.schedule)
        if prediction == "F":
            assert isinstance(self.schedule, EDM)
            data = self.schedule.sigma_data
            place = self._place(y, label, raw=data)
            return self._raw(place.x, place.t.unsqueeze(-1), data).to(place.dtype)
        place = self._place(y, label)
        x, a, column = place.x, place.scale, place.t.unsqueeze(-1)
        root = column.sqrt()
        if prediction == "x0":
            return self._mean(place.x, place.t).to(place.dtype)
        if prediction == "v":
            mean = torch.where(column > 1, self._mean(x, place.t), 0.0)
            score = torch.where(column > 1, 0.0, self._values(x, place.t))
            return torch.where(column > 1, (a * x - mean / a) / root, -root * (a * x + score / a)).to(place.dtype)
        score = self._values(x, place.t)
        return (-root * score if prediction == "eps" else score / a).to(place.dtype)

    def _raw(self, x: Tensor, t: Tensor, data: float) -> Tensor:
        late, reach = t > data**2, (t + data**2).sqrt()
        mean, score = self._mean(x, t.squeeze(-1)), self._values(x, t.squeeze(-1))
        return torch.where(late, (reach * mean - data**2 * x / reach) / (data * t.sqrt()), t.sqrt() / data * (x / reach + reach * score))

    @property
    def _law(self) -> Distribution:
        if not isinstance(self.base, Distribution):
            raise reject("base", self.base, "a Distribution: only a law has a density and a posterior")
        return self.base

    def _values(self, x: Tensor, t: Tensor) -> Tensor:
        return self._score(x, t if t.ndim else float(t)).double()

    def _mean(self, x: Tensor, t: Tensor) -> Tensor:
        """`x + t s`, as the base computes it if it does."""
        denoise = getattr(self.base, "denoise", None)
        if denoise is not None:
            return denoise(x, t if t.ndim else float(t)).double()
        return x + t.unsqueeze(-1) * self._values(x, t)

    def _place(self, y: ArrayLike, label: ArrayLike, raw: float | None = None) -> _Place:
        points = as_tensor("y", y)
        if points.ndim == 0:
            raise reject("y", points, "points of shape (..., d)")
        labels = as_tensor("label", label, like=points)
        try:
            shape = torch.broadcast_shapes(points.shape[:-1], labels.shape)
        except RuntimeError as error:
            raise reject("label", labels, f"a number or a shape that broadcasts with {tuple(points.shape[:-1])}") from error
        dtype = points.dtype if labels.ndim == 0 else torch.promote_types(points.dtype, labels.dtype)
        labels = labels.double()
        if raw is None:
            t = self.schedule.time(label if isinstance(label, float | int) else labels).to(points.device)
            scale = self.schedule.scale(t).unsqueeze(-1)
        else:
            t = (8 * labels).exp()
            scale = (t + raw**2).rsqrt().unsqueeze(-1)
        if not bool((torch.isfinite(t) & (t > 0)).all()):
            raise reject("label", label, "labels of noise variances in (0, 1e308)")
        x = points.double() / scale
        # One number stays one number: a law computes more cheaply with it.
        return _Place(x, t if t.ndim == 0 else t.expand(shape), scale, dtype)


def to_denoiser(score: Score, *, schedule: Schedule, prediction: Prediction = "x0") -> Callable[[ArrayLike, ArrayLike], Tensor]:
    """The network `model(y, c)` that `from_denoiser(model, schedule=schedule, prediction=prediction)` turns back into `score`.

    It puts a score of this package, an exact or a smoothed one, into code written for another convention: y (n, d), labels c (n,) or a
    number. `ValueError` as `from_denoiser`.

    >>> from kss.distributions import Gaussian
    >>> from kss.scores import VariancePreserving
    >>> to_denoiser(Gaussian([0.0], 1.0), schedule=VariancePreserving(), prediction="score")([[3.0]], 0.5)
    tensor([[-3.]], dtype=torch.float64)
    """
    seen = InProcess(score, schedule)
    require_prediction(prediction, schedule)
    return lambda y, label: seen.predict(y, label, prediction)
