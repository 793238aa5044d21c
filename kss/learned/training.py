r"""Gradient flow on the loss of random features, in closed form at every training time, and the two clocks that are read off it.

Training by `dA/dtau = -d^2 grad L(A)` from A = 0 is linear (notation of `kss.learned.random_features`). With `U = Q Lambda Q^T` for the
moments of the data, each eigenvector is learned at its own rate:

    sqrt(D/p) A(tau)^T = G(tau) = -Q F(tau) Q^T V,    F = diag f_j,    f_j = (1 - e^{-r_j tau})/lambda_j,    r_j = 2 D lambda_j/psi_p,

`psi_p = p/d`. The losses are quadratic in f: `L = 1 + (1/d)[tr G^T U G + 2 tr G^T V]` with the moments of the data (training) or of the
population (test), and the error of the score is `E = 1 + (1/d)[tr G^T U* G/D + 2 c_1 tr G^T W/sqrt(d D)]`, U* that of the population.

Generalization time: when E falls below a threshold. Memorization time: when the gap `L_test - L_train` has grown to what one calls
memorized. Both thresholds are arguments, because the answers depend on them.
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_points, as_positive, reject
from kss.learned.random_features import as_noise, population_moments, tanh_coefficients, train_moments

PER_DECADE = 40
"""Training times per decade among which a crossing is first looked for."""
Relative = Literal["final gap", "absolute", "least error"]


class _Scan(NamedTuple):
    tau: Float[Tensor, " n"]
    gap: Float[Tensor, " n"]
    error: Float[Tensor, " n"]


class GradientFlow:
    """Training of random features on one data set, with infinitely many noise draws.

    Arguments: `weights` W (p, d), rows of norm `sqrt(d)`; `points` (n, d); `noise` D in (0, 1). One eigendecomposition, of cost `p^3`;
    afterwards a training time costs `p^2`. Training times are numbers >= 0, `math.inf` included, or arrays of them of shape (...);
    what comes back has that shape and is float64. Eigenvectors whose eigenvalue is zero to the accuracy of U are not learned.

    Source: the gradient flow and its time scales, Bonnaire, Urfin, Biroli and Mezard, arXiv 2505.17638; exact moments derived here.
    """

    def __init__(self, weights: ArrayLike, points: ArrayLike, noise: float) -> None:
        self.noise = as_noise(noise)
        w = as_points("weights", weights).double()
        train, population = train_moments(w, points, noise), population_moments(w, noise)
        self.p, self.d = w.shape
        self.n = len(as_points("points", points))
        self.eigenvalues, self._q = torch.linalg.eigh(train.second.double())
        """Of U, ascending, (p,)."""
        rounding = 8 * torch.finfo(torch.float64).eps * self.eigenvalues[-1]
        learned = self.eigenvalues > self.p * (train.truncation + rounding)
        self._learned = learned
        self._v = (self._q.mT @ train.cross.double()) * learned.unsqueeze(1)
        self._quadratic = (self._q.mT @ population.second @ self._q) * (self._v @ self._v.mT)
        self._train = (self._v**2).sum(1)
        self._test = (self._v * (self._q.mT @ population.cross)).sum(1)
        self._target = (self._v * (self._q.mT @ w)).sum(1) * float(tanh_coefficients()[1]) / math.sqrt(self.d)

    @property
    def rates(self) -> Float[Tensor, " p"]:
        """`r_j = 2 D lambda_j/psi_p`: how fast each eigenvector of U is learned."""
        return 2 * self.noise * self.d / self.p * self.eigenvalues

    @property
    def directions(self) -> Float[Tensor, "p d"]:
        """`Q^T V`, one row for each eigenvector: the direction, in the space of the data, in which it reads the noise."""
        return self._v

    def restricted(self, modes: int) -> "GradientFlow":
        """The same flow when only the eigenvectors with the `modes` largest eigenvalues are learned."""
        if as_count("modes", modes, minimum=0) > self.p:
            raise reject("modes", modes, f"at most p = {self.p}")
        other = copy.copy(self)
        other.__dict__.pop("_scan", None)
        other._learned = self._learned & (torch.arange(self.p) >= self.p - modes)
        return other

    def train_loss(self, tau: ArrayLike) -> Float[Tensor, "*times"]:
        """`L_train(A(tau))`: falls from 1."""
        f = self._filter(tau)
        return 1 + ((f * f) @ (self.eigenvalues * self._train) - 2 * f @ self._train) / self.d

    def test_loss(self, tau: ArrayLike) -> Float[Tensor, "*times"]:
        """`L_test(A(tau))`, over fresh data: falls, then rises again."""
        f = self._filter(tau)
        return 1 + (((f @ self._quadratic) * f).sum(-1) - 2 * f @ self._test) / self.d

    def gap(self, tau: ArrayLike) -> Float[Tensor, "*times"]:
        """`L_test - L_train` at tau."""
        return self.test_loss(tau) - self.train_loss(tau)

    def score_error(self, tau: ArrayLike) -> Float[Tensor, "*times"]:
        """`E = (1/d) E|s_A(y) + y|^2` over y ~ N(0, I_d), the law of fresh noisy points: 1 at tau = 0."""
        f = self._filter(tau)
        quadratic = ((f @ self._quadratic) * f).sum(-1)
        return 1 + (quadratic / self.noise - 2 * f @ self._target / math.sqrt(self.noise)) / self.d

    def readout(self, tau: ArrayLike) -> Float[Tensor, "d p"]:
        """The trained matrix A(tau) itself."""
        f = self._filter(tau)
        if f.ndim != 1:
            raise reject("tau", tau, "one training time")
        return -math.sqrt(self.p / self.noise) * ((self._q * f) @ self._v).mT

    def _filter(self, tau: ArrayLike) -> Float[Tensor, "*times p"]:
        """`f_j(tau)`; `1/lambda_j` at infinity, 0 for what is not learned."""
        try:
            times = torch.as_tensor(tau, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise reject("tau", tau, "training times >= 0") from error
        if not bool((times >= 0).all()):
            raise reject("tau", tau, "training times >= 0")
        values = torch.where(self._learned, self.eigenvalues, 1.0)
        rates = torch.where(self._learned, self.rates, 0.0)
        grown = -torch.expm1(-rates * times.clamp(max=1e300).unsqueeze(-1))
        return grown / values

    @functools.cached_property
    def _scan(self) -> _Scan:
        """Gap and error on a grid of training times, from before the fastest mode to after the slowest."""
        rates = self.rates[self._learned]
        if len(rates) == 0:
            raise reject("modes", 0, "at least one eigenvector that is learned")
        low, high = math.log10(1e-3 / float(rates.max())), math.log10(1e2 / float(rates.min()))
        tau = torch.logspace(low, high, 2 + math.ceil(PER_DECADE * (high - low)), dtype=torch.float64)
        return _Scan(tau, self.gap(tau), self.score_error(tau))


def generalization_time(flow: GradientFlow, *, threshold: float) -> float:
    """The first training time at which the score error is below `threshold`; infinite if it never is, 0 if `threshold` > 1.

    Found among 40 times per decade, then refined to 10 digits.
    """
    level, scan = as_positive("threshold", threshold), flow._scan
    if level > 1:
        return 0.0
    return _first(lambda tau: level - float(flow.score_error(tau)), level - scan.error, scan.tau)


def best_time(flow: GradientFlow) -> float:
    """The training time at which the score error is least: where early stopping with full knowledge would stop.

    The least of 40 times per decade, refined between its neighbors (to about 8 digits: a minimum is flat).
    """
    scan = flow._scan
    i = int(scan.error.argmin())
    low, high = scan.tau[max(i - 1, 0)].log(), scan.tau[min(i + 1, len(scan.tau) - 1)].log()
    found = optimize.minimize_scalar(
        lambda u: float(flow.score_error(math.exp(u))), bounds=(float(low), float(high)), method="bounded", options={"xatol": 1e-9}
    )
    return math.exp(float(found.x))


def memorization_time(flow: GradientFlow, *, level: float, relative_to: Relative) -> float:
    """The first training time at which the model counts as memorizing, by a definition that the caller chooses.

    With `relative_to` = "final gap": the gap `L_test - L_train` exceeds `level` times its limit for tau -> infinity, 0 < level < 1;
    "absolute": the gap exceeds `level`; "least error": after its minimum the score error exceeds `level` > 1 times the minimum.
    Infinite if that never happens, or if the final gap is not positive (few neurons, data far out). Found among 40 times per decade,
    then refined to 10 digits.

    The definitions disagree, in how the time grows with the number of data too: there is none by default.
    """
    level, scan = as_positive("level", level), flow._scan
    if relative_to == "final gap":
        if level >= 1:
            raise reject("level", level, "a fraction of the final gap below 1")
        limit = float(flow.gap(math.inf))
        if limit <= 0:
            return math.inf
        level *= limit
    elif relative_to == "least error":
        if level <= 1:
            raise reject("level", level, "a multiple of the least error above 1")
        best = best_time(flow)
        level *= float(flow.score_error(best))
        after = scan.tau > best
        return _first(lambda tau: float(flow.score_error(tau)) - level, scan.error[after] - level, scan.tau[after], start=best)
    elif relative_to != "absolute":
        raise reject("relative_to", relative_to, "one of " + ", ".join(repr(name) for name in get_args(Relative)))
    return _first(lambda tau: float(flow.gap(tau)) - level, scan.gap - level, scan.tau)


def _first(excess: Callable[[float], float], values: Float[Tensor, " n"], tau: Float[Tensor, " n"], *, start: float | None = None) -> float:
    """The first tau at which `excess` is positive, given its values on a grid; `start` is a point before the grid where it is not."""
    positive = (values > 0).nonzero()
    if len(positive) == 0:
        return math.inf
    i = int(positive[0, 0])
    low = float(tau[i - 1]) if i else (float(tau[0]) * 1e-3 if start is None else start)
    if excess(low) > 0:
        return low
    return math.exp(optimize.brentq(lambda u: excess(math.exp(u)), math.log(low), math.log(float(tau[i])), xtol=1e-11))
