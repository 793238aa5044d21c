"""The score at a later time: what mollification is often taken for, and is not."""

from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_query, as_tensor, reject
from kss.kernels import Bandwidth
from kss.scores.protocol import Score, score_function


class TimeShifted:
    """`s_{t+h}`, the score of the law diffused for longer by `shift` = h >= 0: a number, or a function of the noise variance t.

    `G_h * p_t = p_{t+h}` for densities; for scores `s_{t+h}` and `G_h * s_t` differ by `h (grad s_t) s_t + O(h^2)`.

    >>> from kss.distributions import Gaussian
    >>> TimeShifted(Gaussian([0.0], 1.0), 0.5).score([[3.0]], t=0.5)
    tensor([[-1.5000]], dtype=torch.float64)
    """

    def __init__(self, base: Score, shift: Bandwidth) -> None:
        self._base = score_function(base)
        self.base, self.shift = base, shift
        if not callable(shift):
            _shift("shift", shift)

    def __repr__(self) -> str:
        return f"TimeShifted({self.base!r}, {'function of t' if callable(self.shift) else self.shift})"

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`s_{t+h}(x)`, of the shape of `x` (..., d)."""
        x = as_tensor("x", x)
        if x.ndim == 0:
            raise reject("x", x, "points of shape (..., d)")
        as_query(x, t, like=x)  # says what is wrong with x or t
        noise = as_tensor("t", t, like=x)
        shift = _shift("shift(t)", self.shift(noise), noise) if callable(self.shift) else _shift("shift", self.shift)
        later = noise + shift.to(noise)
        return self._base(x, later if later.ndim else float(later))

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`x + t s_{t+h}(x)`: where this score points, used at noise variance t."""
        x, score = as_tensor("x", x), self.score(x, t)
        points, noise, _ = as_query(x, t, like=x)
        return (points + noise * score.double()).to(score.dtype)


def _shift(name: str, value: ArrayLike, t: Tensor | None = None) -> Tensor:
    """A number >= 0, or one for each `t`."""
    shift = as_tensor(name, value)
    if bool((shift < 0).any()) or (shift.ndim and (t is None or shift.shape != t.shape)):
        raise reject(name, value, "a variance >= 0" + ("" if t is None else ", or one for each t"))
    return shift
