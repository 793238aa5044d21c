r"""The log-density of what a probability flow generates, at any point.

The flow `dY/du = -(1/2) s~_u(Y)` (u increasing) carries the law `q_u` it generates, and along its paths

    d/du log q_u(Y_u) = (1/2) div s~_u(Y_u),    hence    log q_t(x) = log q_T(Y_T) - (1/2) int_t^T div s~_u(Y_u) du,    Y_t = x:

the density at x to the accuracy of an ODE solver, without sampling from q at all. In many dimensions the divergence is replaced by
`v . (grad s) v` for random signs v, whose mean it is (Hutchinson); v stays the same along a path, so the integral is unbiased too.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy import integrate
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, as_tensor, reject
from kss.distributions import Distribution, Empirical
from kss.dynamics import probability_flow_drift
from kss.scores.protocol import Score, score_function

LOOSER = 10.0
"""The tolerance of the second solution, by which the error of the first is estimated, in units of the first's."""

Field = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""`(x, t) -> (s (n, d), div s (n, K))`, with one column for each estimate of the divergence."""


@runtime_checkable
class HasDivergence(Protocol):
    """A score that knows its divergence, which saves `flow_kl` and `flow_log_likelihood` the automatic differentiation."""

    def score_and_divergence(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """`s(x, t)` (n, d) and `div s(x, t)` (n,)."""
        ...


class FlowLogLikelihood(NamedTuple):
    """Log-densities (n,) in nats, of points of `R^d`."""

    value: Float[Tensor, " n"]
    error: Float[Tensor, " n"]
    """Standard error, from the probes; 0 where the divergence is exact."""
    solver_error: Float[Tensor, " n"]
    """How far a solution with a tolerance `LOOSER` times as large is from `value`: an estimate, as a rule too large."""


def flow_log_likelihood(
    score: Score | HasDivergence,
    x: ArrayLike,
    *,
    t_min: float,
    t_max: float,
    reference: Distribution | None = None,
    probes: int | ArrayLike | None = None,
    generator: Seed | None = None,
    tolerance: float = 1e-6,
) -> FlowLogLikelihood:
    r"""`log q_t(x)` at `t = t_min` for the points `x` (n, d), with `q_t` the law that the probability flow of `score` generates.

    The flow starts at `t_max` from `reference` *under noise of variance `t_max`*: from `p_{t_max}` if that is the law `p`, from the
    blurred data if it is `Empirical(data)`, from `N(m, C + t_max I)` if it is `Gaussian(m, C)`; from `N(0, t_max I)` if omitted.

    `q_t` is a law of *blurred* points. To compare likelihoods with those of other methods, let `x` be held-out points blurred alike,
    `x_0 + sqrt(t_min) Z`; then the mean of `log q_t(x)` is largest for the law of such points, by Gibbs' inequality. At
    points that are not blurred it rewards a density that is too sharp.

    `div s` is exact by default: from the posterior covariance of a `Distribution`, from a method `score_and_divergence(x, t)`, or else by
    automatic differentiation (d passes). With `probes = K >= 2` it is estimated from K vectors of random signs for each point, and needs
    `generator`; `probes` may also be the vectors themselves, (K, d) or (K, n, d), whose mean `v v^T` should be the identity. `tolerance`
    is that of the solver (Dormand-Prince in log t), relative and absolute, in the root mean square over all points: where the score is
    steep at a few of them, as an empirical one at small t, their errors are far larger, so look at `solver_error`. A smaller tolerance
    costs little there. Source: Chen et al., arXiv 1806.07366; Grathwohl et al., arXiv 1810.01367; Song et al., arXiv 2011.13456,
    section 4.3.

    >>> from kss.distributions import Gaussian
    >>> law = Gaussian([0.0], 1.0)
    >>> found = flow_log_likelihood(law, [[0.5]], t_min=0.1, t_max=9.0, reference=law)
    >>> torch.allclose(found.value, law.log_density([[0.5]], 0.1), atol=1e-3)
    True
    """
    points = as_points("x", x).detach().double()
    t_min, t_max, tolerance = as_positive("t_min", t_min), as_positive("t_max", t_max), as_positive("tolerance", tolerance)
    if t_min >= t_max:
        raise reject("t_min", t_min, f"a noise variance below t_max = {t_max:g}")
    n, d = points.shape
    first = Empirical(torch.zeros(1, d, dtype=torch.float64)) if reference is None else reference
    if first.dim != d:
        raise reject("reference", first, f"a law on R^{d}")
    field = exact_field(score) if probes is None else _probed(score, _vectors(probes, n, d, generator).to(points.device))

    def solve(accuracy: float) -> Float[Tensor, "n K"]:
        arrived, change = follow_flow(field, points, t_min, t_max, accuracy)
        return first.log_density(arrived, t_max).double().cpu().unsqueeze(-1) - change

    each, loose = solve(tolerance), solve(min(LOOSER * tolerance, 0.1))
    value = each.mean(-1)
    error = torch.zeros_like(value) if each.shape[-1] == 1 else each.std(-1) / math.sqrt(each.shape[-1])
    return FlowLogLikelihood(value, error, (value - loose.mean(-1)).abs())


def follow_flow(
    field: Field, x: Float[Tensor, "n d"], t_min: float, t_max: float, tolerance: float
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n K"]]:
    """Where the flow that is at `x` at `t_min` is at `t_max`, and `(1/2) int div s du` along it, for each estimate of the divergence.

    `ValueError` where the solver gives up. Both on the CPU, in float64.
    """
    n, d = x.shape
    width = field(x, t_min)[1].shape[-1]

    def rate(log_t: float, state: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        t = math.exp(log_t)
        y = torch.from_numpy(state[: n * d].reshape(n, d).copy()).to(x.device)
        value, divergence = field(y, t)
        velocity = -t * probability_flow_drift(value)  # dY/d(log u)
        log_rate = t * probability_flow_drift(divergence)
        return torch.cat((velocity.detach().double().flatten(), log_rate.detach().double().flatten())).cpu().numpy()

    state = np.concatenate((x.flatten().cpu().numpy(), np.zeros(n * width)))
    path = integrate.solve_ivp(rate, (math.log(t_min), math.log(t_max)), state, rtol=tolerance, atol=tolerance)
    if not path.success:
        raise reject("score", field, f"a field whose flow can be followed: {path.message}")
    end = path.y[:, -1]
    return torch.from_numpy(end[: n * d].reshape(n, d)), torch.from_numpy(end[n * d :].reshape(n, width))


def exact_field(score: Any) -> Field:
    """The function `(x, t) -> (s (n, d), div s (n, 1))`."""
    if isinstance(score, HasDivergence):
        known = score

        def from_score(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
            value, divergence = known.score_and_divergence(x, t)
            return value, divergence.unsqueeze(-1)

        return from_score
    if isinstance(score, Distribution):
        law = score

        def from_posterior(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
            posterior = law.posterior(x, t)
            return posterior.displacement / t, ((posterior.covariance_trace / t - law.dim) / t).unsqueeze(-1)

        return from_posterior
    s = score_function(score)

    def differentiated(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = s(x, t)
            divergence = torch.zeros(len(x), dtype=value.dtype, device=value.device)
            for i in range(x.shape[1]):
                (slope,) = torch.autograd.grad(value[:, i].sum(), x, retain_graph=i + 1 < x.shape[1])
                divergence = divergence + slope[:, i]
        return value.detach(), divergence.detach().unsqueeze(-1)

    return differentiated


def _probed(score: Any, vectors: Float[Tensor, "K n d"]) -> Field:
    """The same with `v . (grad s) v` for K vectors at each point."""
    s = score_function(score)

    def estimated(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = s(x, t)
            columns = []
            for i, v in enumerate(vectors):
                (slope,) = torch.autograd.grad((value * v).sum(), x, retain_graph=i + 1 < len(vectors))
                columns.append((slope * v).sum(-1))
        return value.detach(), torch.stack(columns, -1).detach()

    return estimated


def _vectors(probes: int | ArrayLike, n: int, d: int, generator: Seed | None) -> Float[Tensor, "K n d"]:
    """Random signs, or those given."""
    if isinstance(probes, int | np.integer):
        K = as_count("probes", int(probes), minimum=2)
        if generator is None:
            raise reject("generator", generator, "a torch.Generator or an int seed, for the probes")
        chance = as_generator(generator)
        signs = torch.randint(2, (K, n, d), generator=chance, device=chance.device)
        return 2 * signs.double().cpu() - 1
    given = as_tensor("probes", probes).double()
    if given.ndim not in (2, 3) or given.shape[0] < 2 or given.shape[-1] != d or (given.ndim == 3 and given.shape[1] != n):
        raise reject("probes", given, f"an integer >= 2, or vectors of shape (K, {d}) or (K, {n}, {d}) with K >= 2")
    return given if given.ndim == 3 else given.unsqueeze(1).expand(-1, n, -1)
