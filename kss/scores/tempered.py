r"""The score with tempered weights: the denoiser of a later time, the stiffness of this one.

Raise the weights `exp(-|x - x_j|^2/2t)` of the empirical score to the power 1/T, and leave the factor 1/t before it alone:

    s_T(x) = (m_{Tt}(x) - x)/t = T s_{Tt}(x) = T grad log p_{Tt}(x).

Tempering the factor as well gives `s_{Tt}`, which is a time shift.
"""

from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_query, as_tensor, reject
from kss.kernels import Bandwidth
from kss.scores.protocol import Score, score_function


class TemperatureSmoothed:
    """`T s_{Tt}`, for a `temperature` T > 0: a number, or a function of the noise variance t. With T = 1 it is the score itself.

    Langevin dynamics at a fixed t with this score has the stationary density `p_{Tt}^T`, normalized (Zhou, Zhang and Wright, arXiv
    2601.19285, temper the weights in this way; in their schedule T is the larger of 1 and `sqrt(t_c/t)`, see
    `kss.theory.temperature.collapse_schedule`). `base` is anything with a score; a product `T t` that is not a positive float is a
    `ValueError`.

    >>> from kss.distributions import Gaussian
    >>> TemperatureSmoothed(Gaussian([0.0], 1.0), 2.0).score([[3.0]], t=0.5)  # -T x/(1 + T t)
    tensor([[-3.]], dtype=torch.float64)
    """

    def __init__(self, base: Score, temperature: Bandwidth) -> None:
        self._base = score_function(base)
        self.base, self.temperature = base, temperature
        if not callable(temperature):
            _temperature("temperature", temperature)

    def __repr__(self) -> str:
        return f"TemperatureSmoothed({self.base!r}, {'function of t' if callable(self.temperature) else self.temperature})"

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`(m_{Tt}(x) - x)/t = T s_{Tt}(x)`, of the shape of `x` (..., d)."""
        x, temperature, later = self._asked(x, t)
        score = self._base(x, later)
        return (temperature.to(score.device).unsqueeze(-1) * score.double()).to(score.dtype)

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`m_{Tt}(x)`, where this score points; from the base's own `denoise` if it has one."""
        x, _, later = self._asked(x, t)
        own = getattr(self.base, "denoise", None)
        if own is not None:
            denoised: Tensor = own(x, later)
            return denoised
        score = self._base(x, later)
        points, noise, _ = as_query(x, later, like=x)
        return (points + noise * score.double()).to(score.dtype)

    def unnormalized_log_density(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
        """`T log p_{Tt}(x)`, of shape (...), whose gradient is the score. The base must have a log-density, normalized or not."""
        x, temperature, later = self._asked(x, t)
        for name in ("log_density", "unnormalized_log_density"):
            if hasattr(self.base, name):
                value = getattr(self.base, name)(x, later)
                return (temperature.to(value.device) * value.double()).to(value.dtype)
        raise reject("base", self.base, "an object with a log_density: a score alone does not give it")

    def _asked(self, x: ArrayLike, t: ArrayLike) -> tuple[Tensor, Tensor, Tensor | float]:
        """The points, the temperature in float64 and the noise variance T t, a number if `t` was one."""
        x = as_tensor("x", x)
        if x.ndim == 0:
            raise reject("x", x, "points of shape (..., d)")
        as_query(x, t, like=x)  # says what is wrong with x or t
        noise = as_tensor("t", t, like=x)
        if callable(self.temperature):
            temperature = _temperature("temperature(t)", self.temperature(noise), noise)
        else:
            temperature = _temperature("temperature", self.temperature)
        temperature = temperature.to(noise.device).double()
        later = temperature * noise.double()
        if not bool(((later > 0) & later.isfinite()).all()):
            raise reject("temperature * t", later.tolist(), "a noise variance > 0 that is a finite float")
        return x, temperature, later.to(noise.dtype) if later.ndim else float(later)


def _temperature(name: str, value: ArrayLike, t: Tensor | None = None) -> Tensor:
    """A number > 0, or one for each `t`."""
    temperature = as_tensor(name, value)
    if not bool((temperature > 0).all()) or (temperature.ndim and (t is None or temperature.shape != t.shape)):
        raise reject(name, value, "a temperature > 0" + ("" if t is None else ", or one for each t"))
    return temperature
