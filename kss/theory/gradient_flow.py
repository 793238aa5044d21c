r"""Reverse diffusion as a gradient flow that is pushed.

Driven by the score of a density `pi` (at reversed time tau: the LED-KDE, or `p_t` itself) the reverse SDE
`dY = grad log pi dtau + dB` moves a density q by

    d_tau q = -div(q v),        v = -(1/2) grad log(q/pi) + (1/2) grad log pi.

The first part is steepest descent of `(1/2) KL(q || pi)` in the Wasserstein metric, the second pushes q uphill on `log pi`, towards the
`pi` of the next moment. The functions use arithmetic only: they take numbers, tensors or symbolic expressions alike.
"""

from typing import Any


def descent_velocity(score_of_q: Any, score_of_pi: Any) -> Any:
    """`-(1/2) grad log(q/pi)`: minus the Wasserstein gradient of `(1/2) KL(q || pi)`, zero at q = pi."""
    return (score_of_pi - score_of_q) / 2


def push_velocity(score_of_pi: Any) -> Any:
    """`(1/2) grad log pi`: the probability flow of `pi`, all that is left at q = pi."""
    return score_of_pi / 2
