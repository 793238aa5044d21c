r"""Reverse diffusion: samplers that turn a score into draws.

Time runs down from `t_max` to `t_min` > 0 through a grid `t_0 > t_1 > ... > t_n`. With `tau = t_max - t`,

    reverse SDE            dY = s_t(Y) dtau + dB,
    probability-flow ODE   dY = (1/2) s_t(Y) dtau.

Started from `p_{t_max}` and driven by the true score, both have the marginal `p_t` at every time (Anderson 1982; Song et
al. 2021, arXiv 2011.13456, appendix D.1, in the time of this package, where the noise variance is t). A *score* is anything
with a method `score(x, t)`, or a callable of `(x, t)`.
"""

import itertools
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, reject
from kss.scores.protocol import Score, score_function


def reverse_sde_drift(score: Any) -> Any:
    """Drift of the reverse SDE in `tau`, whose noise is a standard Brownian motion: the score, a tensor or a symbol."""
    return score


def probability_flow_drift(score: Any) -> Any:
    """Drift of the probability-flow ODE in `tau`: half the score, a tensor or a symbol, because nothing diffuses."""
    return score / 2


def geometric_times(t_max: float, t_min: float, steps: int) -> Float[Tensor, " times"]:
    """`t_max = t_0 > ... > t_steps = t_min` with a constant ratio, which resolves every scale of the data alike."""
    t_max, t_min, steps = as_positive("t_max", t_max), as_positive("t_min", t_min), as_count("steps", steps)
    if t_min >= t_max:
        raise reject("t_min", t_min, f"a noise variance below t_max = {t_max:g}")
    times = torch.logspace(0, 1, steps + 1, base=t_min / t_max, dtype=torch.float64) * t_max
    times[0], times[-1] = t_max, t_min
    return times


def sample_reverse_sde(
    score: Score,
    start: ArrayLike,
    *,
    t_max: float,
    t_min: float,
    steps: int,
    generator: Seed,
    method: Literal["bridge", "euler"] = "bridge",
    trajectory: bool = False,
) -> Float[Tensor, "n d"] | Float[Tensor, "times n d"]:
    r"""Euler-Maruyama for the reverse SDE on a geometric grid; weak order 1.

    A step from `t` to `u < t` is `Y <- Y + (t - u) s_t(Y) + sqrt(v) Z` with

        method "euler":    v = t - u,
        method "bridge":   v = u (t - u) / t,

    the second being the law of `X_u` given `X_t = y` and `X_0 = m_t(y)` (a Brownian bridge; the ancestral sampler of Ho
    et al. 2020, arXiv 2006.11239): exact, in one step, when the posterior is a point.

    Arguments: `start` (n, d), draws of `p_{t_max}` (`Distribution.diffuse` makes them); `t_max > t_min > 0` noise variances.
    Returns (n, d), or all times (steps + 1, n, d) with `trajectory`. Shows progress on a terminal if it takes long.
    """
    y, s = as_points("start", start), score_function(score)
    times = geometric_times(t_max, t_min, steps).tolist()
    if method not in ("bridge", "euler"):
        raise reject("method", method, "'bridge' or 'euler'")
    generator = as_generator(generator)
    path = [y]
    for t, u in _steps(times):
        z = torch.randn(y.shape, dtype=y.dtype, generator=generator, device=generator.device).to(y.device)
        variance = (t - u) * (u / t if method == "bridge" else 1.0)
        y = y + (t - u) * reverse_sde_drift(s(y, t)) + variance**0.5 * z
        if trajectory:
            path.append(y)
    return torch.stack(path) if trajectory else y


def sample_probability_flow(
    score: Score, start: ArrayLike, *, t_max: float, t_min: float, steps: int, trajectory: bool = False
) -> Float[Tensor, "n d"] | Float[Tensor, "times n d"]:
    r"""Heun's method for the probability-flow ODE on a geometric grid, in the variable `sqrt(t)`; order 2.

    With `sigma = sqrt(t)` the flow is `dY/dsigma = -sigma s_t(Y)`, a straight line when the posterior is a point (Karras et
    al. 2022, arXiv 2206.00364, algorithm 1). Deterministic: all chance is in `start`. Arguments and result as for
    `sample_reverse_sde`.
    """
    y, s = as_points("start", start), score_function(score)
    times = geometric_times(t_max, t_min, steps).tolist()

    def slope(y: Tensor, t: float) -> Tensor:
        # dY/dsigma = (dY/dtau)(dtau/dsigma), and dtau/dsigma = -2 sigma.
        return -2 * t**0.5 * probability_flow_drift(s(y, t))

    path = [y]
    for t, u in _steps(times):
        step = u**0.5 - t**0.5
        first = slope(y, t)
        y = y + step / 2 * (first + slope(y + step * first, u))
        if trajectory:
            path.append(y)
    return torch.stack(path) if trajectory else y


def _steps(times: list[float]) -> "tqdm[tuple[float, float]]":
    # disable=None: nothing is written where there is no terminal, as in the pages of a book.
    pairs = list(itertools.pairwise(times))
    return tqdm(pairs, desc="reverse diffusion", unit="step", delay=2.0, leave=False, disable=None)
