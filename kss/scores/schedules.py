r"""Schedules: how a diffusion process, and a network trained on it, scales its variable and names its noise level.

Every process `dY = f Y dc + g dB` with coefficients that depend on its time c alone is this package's Brownian motion in another clock
and another unit of length: `Y_c = a X_t` with

    a = exp(int f dc),        t = int (g/a)^2 dc,        sigma = a sqrt(t)  the standard deviation of its noise.

A *schedule* gives `a` and the label c for each noise variance t, and t for each label:

    Brownian motion             a = 1                              c = t,  or  sigma = sqrt(t)  (variance exploding, EDM)
    Ornstein-Uhlenbeck          a = exp(-theta c)                  t = (g^2/2 theta)(exp(2 theta c) - 1)
    variance preserving         a = (1 + t)^(-1/2)                 a^2 + sigma^2 = 1,  c = the process time tau, or a step number,
                                                                   or a^2 (alpha bar), or log(a^2/sigma^2) = -log t (log-SNR)

`convert` goes from any label to any other, `coefficients` gives f and g^2 back.

Steps with numbers, as DDPM has them, are in `kss.scores.steps`.

Sources: Uhlenbeck and Ornstein 1930 (Phys. Rev. 36); Song et al. 2021 (arXiv 2011.13456) for the variance exploding and preserving
families; Karras et al. 2022 (arXiv 2206.00364) for EDM; Kingma et al. 2021 (arXiv 2107.00630) for the log-SNR.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_positive, as_tensor, reject

SLACK = 1e-9
"""A variance may exceed the range of a schedule by this fraction: it was probably computed from the end of the range."""
HUGE = 1e300
"""Above it 1 + x is x, and products with it overflow."""


class Schedule(ABC):
    """How a process, or a network, scales its variable and names the noise variance t, a float64 tensor of any shape."""

    @property
    def preserving(self) -> bool:
        """Whether `a^2 (1 + t) = 1`, which the prediction "v" needs."""
        return False

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
        return _variance(t).sqrt()

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


@dataclass(frozen=True)
class BrownianMotion(Schedule):
    """`Y = X_t`, labeled by t itself: the convention of this package, and its name in `convert`."""

    def scale(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        return torch.ones_like(t)

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        return _variance(t)

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        t = as_tensor("label", label)
        if not bool((t > 0).all()):
            raise reject("label", label, "noise variances t > 0")
        return t


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Schedule):
    r"""`dY = -theta Y ds + g dB`, labeled by its time s: theta = `rate` >= 0, `g^2 = noise` > 0, the variance added per unit of time.

        a = exp(-theta s) = (1 + 2 theta t/g^2)^(-1/2),   t = (g^2/2 theta)(exp(2 theta s) - 1),   s = log(1 + 2 theta t/g^2)/(2 theta);

    for theta = 0 the limit, `t = g^2 s`. It keeps a variance of `g^2/2 theta` as it is: 1 with the default, `dY = -Y ds + sqrt(2) dB`.

    >>> OrnsteinUhlenbeck().time(0.5)
    tensor(1.7183, dtype=torch.float64)
    """

    rate: float = 1.0
    noise: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", as_positive("noise", self.noise))
        if self.rate != 0:
            object.__setattr__(self, "rate", as_positive("rate", self.rate))

    @property
    def preserving(self) -> bool:
        return self.noise == 2 * self.rate

    def scale(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        growth = 2 * self.rate / self.noise * t
        late = (math.sqrt(2 * self.rate / self.noise) * t.clamp_min(1.0).sqrt()).reciprocal()
        return torch.where(growth < HUGE, (1 + growth).rsqrt(), late)

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        growth = 2 * self.rate / self.noise * _variance(t)
        early = t / self.noise * _log1p_over(growth.clamp_max(HUGE))
        if self.rate == 0:
            return early
        late = (t.clamp_min(1.0).log() + math.log(2 * self.rate / self.noise)) / (2 * self.rate)
        return torch.where(growth < HUGE, early, late)

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        s = as_tensor("label", label).double()
        if not bool((s >= 0).all()):
            raise reject("label", label, "times s >= 0")
        return self.noise * s * _expm1_over(2 * self.rate * s)


class Preserving(Schedule):
    """A process with `a^2 + sigma^2 = 1`; a subclass gives the labels."""

    @property
    def preserving(self) -> bool:
        return True

    def scale(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        return (1 + t).rsqrt()


@dataclass(frozen=True)
class VariancePreserving(Preserving):
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
        require_range(level, 0.0, highest)
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * level).sqrt()
        return self.label_scale * (2 * level / (self.beta_min + root)).clamp_max(1.0)

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        tau = as_tensor("label", label) / self.label_scale
        if not bool(((tau > 0) & (tau <= 1)).all()):
            raise reject("label", label, f"labels in (0, {self.label_scale:g}]")
        return torch.expm1(self.beta_min * tau + (self.beta_max - self.beta_min) * tau**2 / 2)


@dataclass(frozen=True)
class AlphaBar(Preserving):
    """A variance preserving process labeled by `a^2 = 1/(1 + t)` in (0, 1), the "alpha bar" of Ho et al.; it falls as the noise grows."""

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        return 1 / (1 + _variance(t))

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        square = as_tensor("label", label)
        if not bool(((square > 0) & (square < 1)).all()):
            raise reject("label", label, "numbers in (0, 1)")
        return (1 - square) / square


@dataclass(frozen=True)
class LogSNR(Preserving):
    """A variance preserving process labeled by the logarithm of its signal-to-noise ratio, `log(a^2/sigma^2) = -log t`."""

    def label(self, t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
        if not bool((t > 0).all()):
            raise reject("t", t.tolist() if t.numel() < 10 else t, "a noise variance t > 0")
        return -t.log()

    def time(self, label: ArrayLike) -> Float[Tensor, "*c"]:
        return (-as_tensor("label", label)).exp()


class Coefficients(NamedTuple):
    """Of the process `dY = f Y dc + g dB` at a label c.

    With q its score the reversed process is `dY = (g^2 q - f Y) dc' + g dB`, c' running against c; in the probability flow
    `g^2/2` stands for `g^2`, and there is no noise.
    """

    drift: Float[Tensor, "*c"]
    """`f = d log a/dc`, one over the unit of the label."""
    noise: Float[Tensor, "*c"]
    """`g^2 = a^2 dt/dc`, the variance added per unit of the label."""


def coefficients(schedule: Schedule, label: ArrayLike) -> Coefficients:
    """Drift f and noise g^2 of the process at the labels c, by differentiating the schedule.

    Between the steps of a `DiscreteVariancePreserving` they are those of its interpolation. `ValueError` for labels that fall as the noise
    grows (`AlphaBar`, `LogSNR`): they are not the time of a forward process.

    >>> coefficients(OrnsteinUhlenbeck(rate=3.0, noise=2.0), 0.1)
    Coefficients(drift=tensor(-3.0000, dtype=torch.float64), noise=tensor(2.0000, dtype=torch.float64))
    """
    with torch.enable_grad():
        c = as_tensor("label", label).double().detach().requires_grad_()
        t = _time(schedule, c)
        scale = schedule.scale(t)
        (speed,) = torch.autograd.grad(t.sum(), c, retain_graph=True)
        drift = torch.autograd.grad(scale.log().sum(), c)[0] if scale.requires_grad else torch.zeros_like(c)
    if not bool((speed >= 0).all()):
        raise reject("schedule", schedule, "labels that grow with the noise")
    return Coefficients(drift.detach(), (scale**2 * speed).detach())


def convert(label: ArrayLike, source: Schedule, target: Schedule) -> Float[Tensor, "*c"]:
    """What `target` calls the noise level that `source` calls `label`: `target.label(source.time(label))`, in float64.

    >>> convert(0.5, OrnsteinUhlenbeck(), AlphaBar())  # exp(-2 s)
    tensor(0.3679, dtype=torch.float64)
    """
    if not isinstance(target, Schedule):
        raise reject("target", target, "a Schedule, for instance EDM() or OrnsteinUhlenbeck()")
    return target.label(_time(source, label).double())


def _time(schedule: Schedule, label: ArrayLike) -> Tensor:
    """The variances of labels, all of them finite."""
    if not isinstance(schedule, Schedule):
        raise reject("schedule", schedule, "a Schedule, for instance EDM() or OrnsteinUhlenbeck()")
    t = schedule.time(label)
    if not bool(torch.isfinite(t).all()):
        raise reject("label", label.tolist() if isinstance(label, Tensor) else label, "labels whose noise variance is below 1e308")
    return t


def _variance(t: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
    if not bool((t >= 0).all()):
        raise reject("t", t.tolist() if t.numel() < 10 else t, "a noise variance t >= 0")
    return t


def _log1p_over(x: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
    """`log(1 + x)/x`, 1 at 0."""
    positive = x > 0
    safe = torch.where(positive, x, 1.0)
    return torch.where(positive, torch.log1p(safe) / safe, 1.0)


def _expm1_over(x: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
    """`(exp(x) - 1)/x`, 1 at 0."""
    positive = x > 0
    safe = torch.where(positive, x, 1.0)
    return torch.where(positive, torch.expm1(safe) / safe, 1.0)


def require_range(level: Tensor, low: float, high: float) -> None:
    """`level = log(1 + t)` within the schedule; `ValueError` in terms of t otherwise."""
    slack = SLACK * (high + 1)
    if not bool(((level >= low - SLACK * low) & (level <= high + slack)).all()):
        t = torch.expm1(level.detach())
        extreme = float(t.max()) if bool((level > high + slack).any()) else float(t.min())
        limits = f"[{math.expm1(low):.6g}, {math.expm1(high):.6g}]"
        raise reject("t", float(f"{extreme:.9g}"), f"a noise variance in {limits}, the range of the schedule")
