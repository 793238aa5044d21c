r"""A score averaged over a kernel, with the error of the average.

For a base score s and a symmetric probability kernel K (GaussianKernel, BallKernel, ...) with covariance S,

    s~_t(x) = (K * s_t)(x) = E s_t(x + V) = (E m_t(x + V) - x)/t,      V ~ K,

with `m_t = x + t s_t` the denoiser. The mean over nodes is taken of the *denoiser*, which stays bounded where t is tiny and s is not (the
nodes' own mean is 0, so it is the same sum). If `s = grad log p_t`, then s~ is the gradient of `K * log p_t`, the
unnormalized log-density of the **LED-KDE** (log-exponential double kernel density estimate; Gabriel et al., arXiv
2505.22841, definition 1 and section 4), which is

    q_t = exp(K * log p_t) / Z_t,        Z_t = integral of exp(K * log p_t).

Every average comes with an error estimate: on a grid (d <= 3) from the last two changes of the rule, for Sobol points (d > 3) from the
spread of independent scramblings. Rules are refined, point by point, until the estimate is below `accuracy` or the number of nodes
would exceed `most_nodes`. The estimate never vouches for more than a tenth of `accuracy`: it cannot see what no node has met, such as
a far cell of data with little weight.

A base may know a faster way to the same sums where many points share their nodes. It then has a method

    mollified_displacement(x (n, d), t (), nodes (r, m, d), weights (k, m)) -> (sums (k, r, n, d), error (n,)), or None,

with `sums[k, r, n] = sum_j weights[k, j] (m_t(x_n + nodes[r, j]) - x_n)` and a bound `error` on what rounding has changed in
`sums[0].mean(0)`. None says that it cannot, for instance because derivatives are asked for. Points whose error
is not small beside `accuracy` are done again by asking the base at every node.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_query, as_tensor, reject
from kss.distributions.base import Distribution
from kss.kernels import FEWEST, GRID_DIM, REPLICATES, Kernel, Rule
from kss.scores.protocol import Score, score_function

BLOCK = 2**21
"""Numbers in the array of all nodes of a block of points (16 MiB)."""
ACCURACY = {1: 1e-7, 2: 1e-7, 3: 1e-4}
"""Default relative accuracy by dimension, on a grid; `SOBOL_ACCURACY` for all others."""
SOBOL_ACCURACY = 3e-2
ROUNDING = 64 * torch.finfo(torch.float64).eps
GRID_SAFETY = 2.0
"""Where a grid does not resolve the integrand its errors are like chance, and the last change may be smaller than the error left."""
GRID_MEMORY = 0.1
"""For the same reason this part of the change before last counts as well."""
SPREAD = float(stats.t.ppf(0.995, REPLICATES - 1)) / (REPLICATES * (REPLICATES - 1)) ** 0.5
"""From the root of the summed squares about the mean to a bound on the mean's error (Student's t). At 99 %, because refinement stops at the
first estimate that is small enough, and that favors estimates that are too small."""
UNSEEN = 0.1
"""The part of `accuracy` that an estimate never goes below."""
FAST_ERROR = 1e-3
"""The part of `accuracy` that the base's fast way may add; of 1e-7 where a larger one is asked for, so that neither differences
of scores nor a change of batch show which way was taken."""
FEW = 4
"""Points that share their noise variance, on average, from where it pays to do one noise variance after another."""

Integrand = Callable[[Tensor, Tensor], Tensor]
"""Offsets (n, m, d) of the nodes, and which of the points (n,): values (n, m, v)."""
Offsets = Callable[[Tensor, Tensor], Tensor]
"""Nodes (m, d) of the standard variable, and which of the points (n,): displacements (n, m, d)."""
Fast = Callable[[Rule, Tensor, Tensor], tuple[Tensor, Tensor] | None]
"""A rule, weights (k, m), and which of the points (n,): sums (k, r, n, v) and their error (n,); or None."""


class Averaged(NamedTuple):
    """A value (..., v) or (...), and the estimated error (...): of its Euclidean norm, at most this in 95 % of cases or more."""

    value: Tensor
    error: Float[Tensor, "*batch"]


class Smoothed:
    """A score averaged over the nodes of a kernel about each point; where they lie is what `_offsets` says."""

    def __init__(self, base: Score, kernel: Kernel, *, accuracy: float | None = None, most_nodes: int = 2**16, scrambling: int = 0) -> None:
        self._base = score_function(base)
        if not isinstance(kernel, Kernel):
            raise reject("kernel", kernel, "a kernel such as GaussianKernel(h)")
        self.base, self.kernel = base, kernel
        self.accuracy = None if accuracy is None else as_positive("accuracy", accuracy)
        self.most_nodes = as_count("most_nodes", most_nodes, minimum=FEWEST * REPLICATES)
        self.scrambling = as_count("scrambling", scrambling, minimum=0)

    def _offsets(self, x: Float[Tensor, "n d"], time: Float[Tensor, " n"]) -> Offsets:
        """Where the nodes of the standard variable lie about each of the points."""
        return lambda nodes, which: self.kernel.stretch(nodes, time[which])

    def score(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`(K * s_t)(x)`, of the shape (..., d) of `x`."""
        return self.score_with_error(x, t).value

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch d"]:
        """`E m_t(x + V)`: where the smoothed score points, `x + t s~_t(x)`."""
        query = self._query(x, t)
        value = self._displacement(query).value.reshape(query.x.shape)
        return (query.x.double() + value).to(query.dtype)

    def score_with_error(self, x: ArrayLike, t: ArrayLike) -> Averaged:
        """The score (..., d) and the estimated error (...) of the average, in the Euclidean norm."""
        query = self._query(x, t)
        value, error = self._displacement(query)
        value = value.reshape(query.x.shape) / query.t.unsqueeze(-1)
        return Averaged(value.to(query.dtype), (error.reshape(query.shape) / query.t).to(query.dtype))

    def _query(self, x: ArrayLike, t: ArrayLike) -> "_Query":
        x = as_tensor("x", x)
        if x.ndim == 0 or x.shape[-1] == 0:
            raise reject("x", x, "points of shape (..., d)")
        points, noise, dtype = as_query(x, t, like=x)
        time = as_tensor("t", t, like=x)
        if isinstance(self.base, Distribution):  # which knows its width and its dtype, and computes in float64
            first = self.base.posterior(x.reshape(-1, x.shape[-1])[:1], time.reshape(-1)[:1] if time.ndim else time)
            return _Query(points, noise.squeeze(-1), first.dtype, None)
        return _Query(points.to(dtype), noise.squeeze(-1), dtype, None if time.ndim else float(time))

    def _displacement(self, query: "_Query") -> Averaged:
        """`E m_t(x + V) - x` (n, d) and its error (n,)."""
        x, time = query.flat()

        def pulled(offset: Tensor, which: Tensor) -> Tensor:
            """`m_t(x + V) - x` at the nodes."""
            y, u = x[which].unsqueeze(-2) + offset.to(x.dtype), time[which].unsqueeze(-1)
            if isinstance(self.base, Distribution):
                return self.base.posterior(y, u).unrounded().displacement + offset
            flat, each = y.reshape(-1, y.shape[-1]), u.expand(y.shape[:-1]).reshape(-1).to(y.dtype)
            # Who was given one time may know only one time.
            value = self._base(flat, each if query.number is None else query.number)
            if not isinstance(value, Tensor) or value.shape != flat.shape:
                raise reject("base", self.base, f"a score of shape {tuple(flat.shape)}, as x has; it gave {_kind(value)}")
            return u.unsqueeze(-1) * value.reshape(y.shape).double() + offset

        return self._average(x, time, pulled, self._fast(x, time), absolute=False)

    def _fast(self, x: Tensor, time: Tensor) -> Fast | None:
        """The base's own way to the sums of `m_t(x + V) - x`, one noise variance after another."""
        base = getattr(self.base, "mollified_displacement", None)
        if base is None:
            return None

        def sums(rule: Rule, weights: Tensor, which: Tensor) -> tuple[Tensor, Tensor] | None:
            noises, group = time[which].detach().unique(return_inverse=True)
            if len(noises) > max(1, len(which) // FEW):
                return None
            nodes = rule.nodes.to(time.device)
            found = x.new_zeros(len(weights), len(nodes), len(which), x.shape[-1], dtype=torch.float64)
            error = torch.zeros_like(time[which])
            for number in range(len(noises)):
                rows = (group == number).nonzero().squeeze(-1)
                one = time[which[rows[:1]]]
                offset = self.kernel.stretch(nodes.flatten(0, 1), one)[0].unflatten(0, nodes.shape[:2])
                answer = base(x[which[rows]], one[0], offset, weights)
                if answer is None:
                    return None
                found[:, :, rows], error[rows] = answer
            return found, error

        return sums

    def _average(self, x: Tensor, time: Float[Tensor, " n"], integrand: Integrand, fast: Fast | None = None, *, absolute: bool) -> Averaged:
        """The mean of the integrand (n, v) over the kernel and its error (n,), refined for each point by itself."""
        dim, offsets = x.shape[-1], self._offsets(x, time)
        on_grid = dim <= GRID_DIM
        accuracy = self.accuracy or (ACCURACY[dim] if on_grid else SOBOL_ACCURACY)
        rules = self.kernel.grids(dim, self.most_nodes) if on_grid else self.kernel.sobol(dim, self.most_nodes, self.scrambling)
        rows = torch.arange(len(time), device=time.device)
        mean = change = parts = error = tilted = None
        for rule in rules:
            weights = rule.weights.unsqueeze(0)
            if on_grid:
                tilt = rule.nodes[0] @ torch.linspace(1.0, 0.5, dim, dtype=torch.float64)
                weights = torch.stack((rule.weights, rule.weights * tilt))
            means, rounding = self._sums(rule, weights, offsets, rows, integrand, fast, FAST_ERROR * min(accuracy, 1e-7))
            if on_grid:  # a new rule replaces the one before
                new, tilts = means[0, 0], means[1, 0].detach()
                last = torch.full_like(rounding, torch.inf) if mean is None else (new - mean[rows]).detach().norm(dim=-1)
                estimate = GRID_SAFETY * (last if change is None else torch.maximum(last, GRID_MEMORY * change[rows]))
                change = last if change is None else change.index_copy(0, rows, last)
                # By symmetry the mean can be exact on every grid, at the middle between two data for instance, while its derivative is
                # not. That along g depends on the mean of f u.g, which has to settle as well.
                unsettled = last if tilted is None else GRID_SAFETY * (tilts - tilted[rows]).norm(dim=-1)
                tilted = tilts if tilted is None else tilted.index_copy(0, rows, tilts)
                settled = unsettled <= accuracy * (torch.ones_like(rounding) if absolute else tilts.norm(dim=-1)) + rounding
            else:  # a new piece of the sequences is as long as all pieces before
                parts = means[0] if parts is None else parts.index_copy(1, rows, (parts[:, rows] + means[0]) / 2)
                new = parts[:, rows].mean(0)
                estimate = SPREAD * (parts[:, rows] - new).detach().square().sum((0, 2)).sqrt()
                settled = torch.ones_like(rounding, dtype=torch.bool)
            target = accuracy * (torch.ones_like(rounding) if absolute else new.detach().norm(dim=-1))
            mean = new if mean is None else mean.index_copy(0, rows, new)
            known = (torch.maximum(estimate, UNSEEN * target) + rounding).nan_to_num(nan=torch.inf)
            error = known if error is None else error.index_copy(0, rows, known)
            rows = rows[(estimate > target + rounding) | ~settled]
            if len(rows) == 0:
                break
        assert mean is not None
        assert error is not None
        return Averaged(mean, error)

    def _sums(
        self,
        rule: Rule,
        weights: Float[Tensor, "k m"],
        offsets: Offsets,
        rows: Tensor,
        integrand: Integrand,
        fast: Fast | None,
        tolerance: float,
    ) -> tuple[Tensor, Tensor]:
        """Sums of the integrand over each replicate, by each of the weights (k, r, n, v), and their error by rounding (n,)."""
        weights = weights.to(rows.device)
        answer = None if fast is None else fast(rule, weights, rows)
        if answer is None:
            sums, size = self._apply(rule.nodes, weights, offsets, rows, integrand)
            return sums, self._rounding() * size
        sums, error = answer
        left = (~(error <= tolerance * sums[0].mean(0).norm(dim=-1))).nonzero().squeeze(-1)
        if len(left):
            sums[:, :, left], size = self._apply(rule.nodes, weights, offsets, rows[left], integrand)
            error[left] = self._rounding() * size
        return sums, error

    def _rounding(self) -> float:
        """What a value of the base errs by, relative to it."""
        return max(ROUNDING, getattr(self.base, "tol", None) or 0.0)

    def _apply(
        self, nodes: Float[Tensor, "r m d"], weights: Float[Tensor, "k m"], offsets: Offsets, rows: Tensor, integrand: Integrand
    ) -> tuple[Tensor, Tensor]:
        """Sums of the integrand over each replicate, by each of the weights (k, r, n, v), and the mean size of its values (n,)."""
        nodes = nodes.to(rows.device)
        together = max(1, BLOCK // nodes[0].numel())  # replicates in one call
        step = max(1, BLOCK // nodes[:together].numel())
        columns, sizes = [], []
        for which in rows.split(step):
            pieces = []
            size = torch.zeros(len(which), dtype=torch.float64, device=rows.device)
            for replicates in nodes.split(together):
                offset = offsets(replicates.flatten(0, 1), which)
                values = integrand(offset, which).unflatten(1, replicates.shape[:2])
                pieces.append(torch.einsum("nrmv,km->krnv", values, weights))
                size = size + torch.einsum("nrm,m->n", values.detach().norm(dim=-1), weights[0]) / len(nodes)
            columns.append(torch.cat(pieces, 1))
            sizes.append(size)
        return torch.cat(columns, 2), torch.cat(sizes)


class Mollified(Smoothed):
    """`K * s_t` for a base score and a kernel; `h` and `t` are variances.

    Arguments: `base`, a `Distribution` or any score; `kernel`; `accuracy`, the relative error at which refinement stops (1e-7
    for d <= 2, 1e-4 for d = 3, 3e-2 beyond, if omitted); `most_nodes`, of the largest rule: where it stops in any case (but on a grid two
    rules are always tried, and before the third the error is unknown: infinite); `scrambling`, a number >= 0 that chooses among independent
    tables of Sobol points (d > 3), so that the score is one fixed function of (x, t).
    Not a `Distribution`: nothing diffuses into it.

    >>> from kss.distributions import Empirical
    >>> from kss.kernels import GaussianKernel
    >>> Mollified(Empirical([[-1.0], [1.0]]), GaussianKernel(0.5)).score([[0.5]], t=0.1)
    tensor([[0.1694]], dtype=torch.float64)
    """

    def __repr__(self) -> str:
        return f"Mollified({self.base!r}, {self.kernel!r})"

    def unnormalized_log_density(self, x: ArrayLike, t: ArrayLike) -> Float[Tensor, "*batch"]:
        """`(K * log p_t)(x)`, of shape (...): the logarithm of the LED-KDE up to a constant. The base must have a `log_density`."""
        return self.unnormalized_log_density_with_error(x, t).value

    def unnormalized_log_density_with_error(self, x: ArrayLike, t: ArrayLike) -> Averaged:
        """The same with its estimated error; refined until that is below `accuracy` nats."""
        law = self._law()
        query = self._query(x, t)
        x, time = query.flat()
        with torch.no_grad():
            slope = law.posterior(x, time).unrounded().displacement

        def flattened(offset: Tensor, which: Tensor) -> Tensor:
            # Plus the parabola |V|^2/2t - V.s, whose mean is known: most of what log p_t varies by is taken away.
            u = time[which].unsqueeze(-1)
            root = u.sqrt().unsqueeze(-1)
            parabola = (offset / root * (offset / 2 - slope[which].unsqueeze(-2)) / root).sum(-1)
            return (law.posterior(x[which].unsqueeze(-2) + offset, u).unrounded().log_evidence + parabola).unsqueeze(-1)

        mean, error = self._average(x, time, flattened, absolute=True)
        value = mean.squeeze(-1) - self.kernel.trace(time, x.shape[-1]) / 2 / time
        # Infinity minus infinity: only where the mean of |x + V - data|^2/2t is too large for a float.
        value = torch.where(value.isnan(), -torch.inf, value)
        return Averaged(value.reshape(query.shape).to(query.dtype), error.reshape(query.shape).to(query.dtype))

    def _law(self) -> Distribution:
        if not isinstance(self.base, Distribution):
            raise reject("base", self.base, "a Distribution: the LED-KDE needs log p_t, which a score alone does not give")
        return self.base


def _kind(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


class _Query(NamedTuple):
    """Points in the dtype the base is asked in, noise variances in float64, and the dtype of the answer."""

    x: Float[Tensor, "*batch d"]
    t: Float[Tensor, "*batch"]
    dtype: torch.dtype
    number: float | None
    """The noise variance, if it was given as one number."""

    @property
    def shape(self) -> torch.Size:
        return self.t.shape

    def flat(self) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        return self.x.reshape(-1, self.x.shape[-1]), self.t.reshape(-1)
