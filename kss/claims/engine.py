"""Appendix "The engine": what makes it fast, and what bounds its errors."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy import optimize, special

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical, ShardedEmpirical
from kss.testing.compare import agree, require
from kss.testing.properties import for_all
from kss.theory import softmax

CHAPTER = "engine"
EPSILON = torch.finfo(torch.float64).eps
DERIVED = "derived here"
PROMISED = 1e-12
"""Relative error of what the package computes in float64."""

Numbers = dict[str, Any]


# --- Parts of the data ----------------------------------------------------------------------------------------------------

claim(
    "engine.merge",
    title="Sums over parts of the data merge",
    statement=r"""For a part $A$ of the data let $\ell_A = \log\sum_{i\in A} e^{L_i}$, and let $\mu_A$ be the mean over $A$, with
weights $e^{L_i - \ell_A}$, of any quantity of the points ($x_i$, $|x_i|^2$, $x_i x_i^\top$). For disjoint parts

$$\ell_{A\cup B} = \log\left(e^{\ell_A} + e^{\ell_B}\right), \qquad
\mu_{A\cup B} = e^{\ell_A - \ell_{A\cup B}}\,\mu_A + e^{\ell_B - \ell_{A\cup B}}\,\mu_B .$$

The operation is associative and commutative, so the posterior of all data comes from those of any parts, merged in any order.""",
    source="classical; for softmax in one pass: Milakov and Gimelshein, arXiv 1805.02867",
    regime="Every finite data set in disjoint, non-empty parts, every $x$, every $t > 0$. In floating point the order matters by rounding.",
    uses=("empirical.softmax",),
    chapter=CHAPTER,
    verdict="holds",
)


def _altered(posterior: Any, **changes: Any) -> SimpleNamespace:
    """The three numbers of a posterior that are checked, some of them changed."""
    kept = {name: getattr(posterior, name) for name in ("log_evidence", "mean", "covariance_trace")}
    return SimpleNamespace(**kept | changes)


def _mixed(law: ShardedEmpirical, x: torch.Tensor, t: float, *, by_counts: bool) -> SimpleNamespace:
    """The posteriors of the shards, averaged: by counts, which is wrong throughout, or by weights, wrong for the covariance alone."""
    parts = [Empirical(shard).posterior(x, t) for shard in law._shards]
    logs = torch.tensor([math.log(len(shard)) for shard in law._shards], dtype=torch.float64)
    if not by_counts:
        logs = logs + torch.stack([part.log_evidence for part in parts])
    share, log_evidence = torch.softmax(logs, 0), torch.logsumexp(logs, 0) - math.log(len(law))
    mean = sum(w * part.mean for w, part in zip(share, parts, strict=True))
    trace = sum(w * part.covariance_trace for w, part in zip(share, parts, strict=True))
    return SimpleNamespace(log_evidence=log_evidence, mean=mean, covariance_trace=trace)


@check(
    "engine.merge",
    by="property",
    mutants={
        "density off by 1e-9": returns(lambda posterior, *_: _altered(posterior, log_evidence=posterior.log_evidence * (1 + 1e-9))),
        "mean off by 1e-9": returns(lambda posterior, *_: _altered(posterior, mean=posterior.mean * (1 + 1e-9))),
        "one part only": instead(lambda law, x, t: ShardedEmpirical(law._shards[-1:]).posterior(x, t)),
        "weights by counts": instead(lambda law, x, t: _mixed(law, x, t, by_counts=True)),
        "spread of the means forgotten": instead(lambda law, x, t: _mixed(law, x, t, by_counts=False)),
    },
)
def parts_in_any_order(predict: Any = ShardedEmpirical.posterior, *, generator: torch.Generator) -> Numbers:
    """Random data cut into parts of random sizes, in random order: the merged posterior against plain sums over all data."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    worst = 0.0

    def test(case: tuple[torch.Tensor, float, int]) -> None:
        nonlocal worst
        points, t, seed = case
        rng = np.random.default_rng(seed)
        x = points[rng.integers(len(points))] + math.sqrt(t) * torch.from_numpy(rng.standard_normal(points.shape[1]))
        shuffled = points[torch.from_numpy(rng.permutation(len(points)))]
        cuts = np.flatnonzero(rng.random(len(points) - 1) < 0.4) + 1
        shards = list(torch.tensor_split(shuffled, cuts.tolist()))
        got = predict(ShardedEmpirical(shards), x, t)

        difference = (points - x).numpy()
        exponent = -(difference**2).sum(-1) / (2 * t)
        weight = special.softmax(exponent)
        moved = weight @ difference
        log_density = special.logsumexp(exponent) - math.log(len(points)) - points.shape[1] / 2 * math.log(2 * math.pi * t)
        trace = weight @ ((difference - moved) ** 2).sum(-1)
        # Differences round by the size of what is subtracted, on both sides; exponents by d + 2 times their own size.
        size = float(points.abs().max() + x.abs().max())
        reach = float(np.linalg.norm(difference, axis=-1).max())
        off = 2 * EPSILON * ((points.shape[1] + 2) * reach**2 + 2 * math.sqrt(points.shape[1]) * size * reach) / (2 * t)
        off = min(off, 1.0)
        shift = float(softmax.mean_shift(off, math.sqrt(trace), 2 * reach))
        what = f"{len(shards)} parts of {points.tolist()} at x = {x.tolist()}, t = {t}"
        allowed = PROMISED * (1 + abs(log_density)) + off
        worst = max(worst, agree(f"log-density, {what}", got.log_evidence, log_density, allowed))
        allowed = shift + PROMISED * float(np.linalg.norm(moved)) + 16 * EPSILON * size
        worst = max(worst, agree(f"denoiser, {what}", got.mean, x.numpy() + moved, allowed))
        # An average of squares, each weight off by a factor within exp(2 off), and of squares of differences that round.
        allowed = math.expm1(2 * off) * trace + PROMISED * trace + 8 * EPSILON * (size * math.sqrt(trace) + EPSILON * size**2)
        worst = max(worst, agree(f"trace of the covariance, {what}", got.covariance_trace, trace, allowed))

    cases = st.tuples(strategies.datasets(most=12), strategies.variances(-2.0, 3.0), st.integers(0, 2**32 - 1))
    return for_all(cases, test, generator=generator, examples=30) | {"worst error/allowance": worst}


# --- Errors in the exponents ----------------------------------------------------------------------------------------------

claim(
    "engine.perturbation",
    title="What errors in the exponents do to the average",
    statement=r"""Let every exponent err by at most $\delta \ge 0$, whatever the signs. With $m$ the weighted mean,
$\mathrm{sd}$ the root of the trace of the weighted covariance and $D$ the diameter of the points,

$$|m' - m| \le \min\left(\sinh(\delta)\,\mathrm{sd},\ \tanh(\delta/2)\,D\right), \qquad
\left|\log\sum_i e^{L'_i} - \log\sum_i e^{L_i}\right| \le \log\left(1 + r\,(e^\delta - 1)\right) \le \delta,$$

with $r$ the weight, before the error, of the points whose exponents err at all. Both bounds for the mean are attained for every $\delta$,
the first one for the logarithm for every $\delta$ and every $r \in [0, 1]$.""",
    source=DERIVED,
    regime=r"Every finite set of points in $\mathbb R^d$, all exponents, all $\delta \ge 0$ (not only to first order).",
    chapter=CHAPTER,
    verdict="holds",
)


def _tilted(p: float, error: float) -> float:
    """The mean after the exponent of 1 has gone up by `error` and that of 0 down, where before 1 had the weight p and 0 the rest."""
    up, down = p * math.exp(error), (1 - p) * math.exp(-error)
    return up / (up + down)


def _worst(gain: Any) -> float:
    """The largest value over the weight p = 1/(1 + e^-u), found by a search in u."""
    found = optimize.minimize_scalar(lambda u: -gain(float(special.expit(u))), bounds=(-30, 30), method="bounded", options={"xatol": 1e-7})
    return -float(found.fun)


@check(
    "engine.perturbation",
    by="property",
    mutants={
        "first order": instead(lambda error, spread, diameter=np.inf: np.minimum(error * spread, error / 2 * diameter)),
        "twice the error": instead(lambda error, spread, diameter=np.inf: np.minimum(2 * error * spread, np.tanh(error / 2) * diameter)),
        "off by 1e-6": returns(lambda shift, *_: shift * (1 + 1e-6)),
        "tanh(e) D": instead(lambda error, spread, diameter=np.inf: np.minimum(np.sinh(error) * spread, np.tanh(error) * diameter)),
    },
)
def worst_pair_of_points(predict: Any = softmax.mean_shift, *, generator: torch.Generator) -> Numbers:
    """Two points on a line, the weights that suffer most found by a search: the mean moves exactly as far as the bound says."""
    worst = 0.0
    for error in (1e-2, 0.1, 0.5, 1.0, 2.0, 4.0):
        relative = _worst(lambda p, e=error: (_tilted(p, e) - p) / math.sqrt(p * (1 - p)))
        absolute = _worst(lambda p, e=error: _tilted(p, e) - p)
        # A search that ends within 1e-7 of a smooth maximum misses it by the square of that; the differences round by EPSILON/error.
        worst = max(worst, agree(f"shift over spread, e = {error}", predict(error, 1.0), relative, 1e-10 * relative))
        worst = max(worst, agree(f"shift over distance, e = {error}", predict(error, np.inf, 1.0), absolute, 1e-10 * absolute))
    return {"worst error/allowance": worst}


@check(
    "engine.perturbation",
    by="property",
    mutants={
        "tanh(e) for sinh(e)": instead(
            lambda error, spread, diameter=np.inf: np.minimum(np.tanh(error) * spread, np.tanh(error / 2) * diameter)
        ),
        "a fifth less": returns(lambda shift, *_: 0.8 * shift),
    },
)
def random_points_and_errors(predict: Any = softmax.mean_shift, *, generator: torch.Generator) -> Numbers:
    """Random points, weights and errors, most of them at the limit and of the sign that pulls one way: never beyond the bound."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    closest = 0.0

    def test(case: tuple[torch.Tensor, float, int]) -> None:
        nonlocal closest
        data, error, seed = case
        points, rng = data.numpy(), np.random.default_rng(seed)
        exponent = rng.standard_normal(len(points)) * rng.choice((0.1, 1.0, 5.0))
        # The sign of a linear function is the worst choice for some threshold.
        height = points @ rng.standard_normal(points.shape[1])
        err = error * np.sign(height - rng.choice(height) + 1e-9) * rng.choice((1.0, rng.random()))
        before, after = special.softmax(exponent), special.softmax(exponent + err)
        moved = float(np.linalg.norm((after - before) @ points))
        spread = math.sqrt(before @ ((points - before @ points) ** 2).sum(-1))
        diameter = float(np.linalg.norm(points[:, None] - points, axis=-1).max())
        bound = float(predict(error, spread, diameter))
        require(
            moved <= bound + 64 * EPSILON * float(np.abs(points).max()) * math.cosh(error),
            f"e = {error}, points {points.tolist()}, exponents {exponent.tolist()}: moved by {moved:.6g}, bound {bound:.6g}",
        )
        closest = max(closest, moved / bound if bound > 1e-6 else 0.0)

    cases = st.tuples(strategies.datasets(most=6), st.floats(1e-3, 4.0), st.integers(0, 2**32 - 1))
    found = for_all(cases, test, generator=generator, examples=120)
    return found | {"largest shift/bound": closest}


@check(
    "engine.perturbation",
    by="property",
    mutants={
        "r e": instead(lambda error, share=1.0: share * error),
        "the lower side": instead(lambda error, share=1.0: -np.log1p(share * np.expm1(-error))),
        "share forgotten": instead(lambda error, share=1.0: error),
        "off by 1e-9": returns(lambda shift, *_: shift * (1 + 1e-9)),
    },
)
def log_sum_moves_both_ways(predict: Any = softmax.log_sum_shift, *, generator: torch.Generator) -> Numbers:
    """All errors at the limit, up or down, on a share of the weight: the larger of the two moves of the logarithm is the bound."""
    worst = 0.0
    for error in (1e-3, 0.1, 1.0, 5.0):
        for share in (1e-6, 0.01, 0.3, 0.9, 1.0):
            moves = [math.log(share * math.exp(sign * error) + (1 - share)) for sign in (1, -1)]
            expected = max(abs(move) for move in moves)
            # The logarithm of a number next to 1 has its absolute error.
            worst = max(worst, agree(f"e = {error}, r = {share}", predict(error, share), expected, 4 * EPSILON * (1 + expected)))
            require(float(predict(error, share)) <= error * (1 + 4 * EPSILON), f"e = {error}, r = {share}: more than e")
    return {"worst error/allowance": worst}


# --- Points left out ------------------------------------------------------------------------------------------------------

claim(
    "engine.dropped_mass",
    title="What leaving out faint points costs",
    statement=r"""Leave out $n$ points whose exponents are all at least $g$ below the largest. Their weight is at most
$q = n e^{-g}/(1 + n e^{-g})$, and

$$|m - m_{\text{kept}}| \le q\,D, \qquad 0 \le \log\sum_i e^{L_i} - \log\sum_{\text{kept}} e^{L_i} \le \log(1 + n e^{-g}),$$

with $D$ the largest distance between a point that is left out and one that is kept. Both bounds are attained.""",
    source=DERIVED,
    regime=r"Every finite set of points in $\mathbb R^d$, the largest exponent among those kept, all $g$ and $n$.",
    chapter=CHAPTER,
    verdict="holds",
)


def _cost(points: np.ndarray, exponent: np.ndarray, kept: np.ndarray) -> tuple[float, float, float]:
    """How far the mean moves when only `kept` are used, by how much the logarithm of the sum falls, and D."""
    moved = np.linalg.norm(special.softmax(exponent) @ points - special.softmax(exponent[kept]) @ points[kept])
    fall = special.logsumexp(exponent) - special.logsumexp(exponent[kept])
    return float(moved), float(fall), float(np.linalg.norm(points[kept][:, None] - points[~kept], axis=-1).max())


@check(
    "engine.dropped_mass",
    by="property",
    mutants={
        "count forgotten": instead(lambda gap, count: np.exp(-gap) / (1 + np.exp(-gap))),
        "n e^-g": instead(lambda gap, count: count * np.exp(-np.asarray(gap))),
        "g/2": instead(lambda gap, count: count * np.exp(-gap / 2) / (1 + count * np.exp(-gap / 2))),
        "off by 1e-9": returns(lambda share, *_: share * (1 + 1e-9)),
    },
)
def mean_of_the_worst_case(predict: Any = softmax.dropped_share, *, generator: torch.Generator) -> Numbers:
    """One point kept, n left out together, all exactly g below: the mean moves by exactly q D."""
    worst = 0.0
    for gap in (0.0, 1.0, 5.0, 12.0):
        for count in (1, 7, 1000):
            points = np.repeat([[0.0, 0.0], [3.0, 4.0]], [1, count], axis=0)
            exponent = np.repeat([0.7, 0.7 - gap], [1, count])
            moved, _, away = _cost(points, exponent, np.arange(count + 1) == 0)
            # Sums of n equal weights round by a few units, at worst by n.
            expected = float(predict(gap, count)) * away
            worst = max(worst, agree(f"g = {gap}, n = {count}", expected, moved, 2 * EPSILON * (count + 8) * expected))
    return {"worst error/allowance": worst}


@check(
    "engine.dropped_mass",
    by="property",
    mutants={
        "count forgotten": instead(lambda gap, count: np.log1p(np.exp(-gap))),
        "share for logarithm": instead(lambda gap, count: softmax.dropped_share(gap, count)),
        "off by 1e-9": returns(lambda fall, *_: fall * (1 + 1e-9)),
    },
)
def logarithm_of_the_worst_case(predict: Any = softmax.dropped_log_sum, *, generator: torch.Generator) -> Numbers:
    """The same for the logarithm of the sum."""
    worst = 0.0
    for gap in (0.0, 1.0, 5.0, 12.0):
        for count in (1, 7, 1000):
            exponent = np.repeat([0.7, 0.7 - gap], [1, count])
            _, fall, _ = _cost(np.zeros((count + 1, 1)), exponent, np.arange(count + 1) == 0)
            expected = float(predict(gap, count))
            worst = max(worst, agree(f"g = {gap}, n = {count}", expected, fall, 2 * EPSILON * (count + 8) * (1 + expected)))
    return {"worst error/allowance": worst}


@check(
    "engine.dropped_mass",
    by="property",
    mutants={
        "share forgotten: all of D": returns(lambda share, *_: 0.0 * share),
        "gap for 2 g": instead(lambda gap, count: softmax.dropped_share(2 * np.asarray(gap), count)),
    },
)
def random_points_left_out(predict: Any = softmax.dropped_share, *, generator: torch.Generator) -> Numbers:
    """Random points and thresholds: neither the mean nor the logarithm ever moves beyond its bound."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    closest = 0.0

    def test(case: tuple[torch.Tensor, int]) -> None:
        nonlocal closest
        data, seed = case
        points, rng = data.numpy(), np.random.default_rng(seed)
        exponent = rng.standard_normal(len(points)) * rng.choice((0.1, 1.0, 5.0))
        threshold = np.sort(exponent)[rng.integers(1, len(points)) if len(points) > 1 else 0]
        kept = exponent >= threshold
        if kept.all():
            return
        gap, count = float(exponent.max() - exponent[~kept].max()), int((~kept).sum())
        moved, fall, away = _cost(points, exponent, kept)
        share = float(predict(gap, count))
        rounding = 64 * EPSILON * (1 + float(np.abs(points).max()))
        what, limit = f"{points.tolist()}, exponents {exponent.tolist()}", -math.log1p(-share)
        require(moved <= share * away + rounding, f"{what}: mean moved by {moved:.6g}, bound {share * away:.6g}")
        require(fall <= limit + rounding, f"{what}: logarithm fell by {fall:.6g}, bound {limit:.6g}")
        closest = max(closest, moved / (share * away) if share * away > 1e-9 else 0.0)

    cases = st.tuples(strategies.datasets(most=8), st.integers(0, 2**32 - 1))
    return for_all(cases, test, generator=generator, examples=100) | {"largest shift/bound": closest}


# --- Many nodes, one set of exponentials ----------------------------------------------------------------------------------

claim(
    "engine.factorization",
    title="An average over displaced queries factorizes",
    statement=r"""For queries $x_b$ and displacements $V_j$ that all of them share let
$A_{bi} = (\langle x_b, x_i\rangle - \frac12|x_i|^2)/t$ and $C_{ji} = \langle V_j, x_i\rangle/t$.
With $S_{bj} = \sum_i e^{A_{bi}}e^{C_{ji}}$,

$$\sum_j w_j\,m_t^N(x_b + V_j) = \sum_i q_{bi}\,x_i, \qquad q_{bi} = e^{A_{bi}} \sum_j \frac{w_j}{S_{bj}}\,e^{C_{ji}} .$$

This takes $(B + M)N$ exponentials for $B$ queries, $M$ displacements and $N$ points, in place of $BMN$.""",
    source=DERIVED,
    regime=r"""Every finite data set, all $x_b$, $V_j$, $w_j$ and $t > 0$. Exact as algebra; in floating point, as long as no $S_{bj}$
underflows once the rows of $A$ and $C$ have been shifted to maximum 0.""",
    uses=("empirical.attention",),
    chapter=CHAPTER,
    verdict="holds",
)


def _two_softmaxes(law: Empirical, x: torch.Tensor, t: torch.Tensor, nodes: torch.Tensor, weights: torch.Tensor) -> Any:
    """The two factors normalized each by itself, which they are only together."""
    points = law.points
    a = torch.softmax((x @ points.T - (points**2).sum(-1) / 2) / t, -1)
    c = torch.softmax(nodes @ points.T / t, -1)
    q = a * torch.einsum("km,rmi->kri", weights, c).unsqueeze(-2)
    q = q / q.sum(-1, keepdim=True) * weights.sum(-1)[:, None, None, None]
    return q @ points - weights.sum(-1)[:, None, None, None] * x, None


def _at_mean_node(law: Empirical, x: torch.Tensor, t: torch.Tensor, nodes: torch.Tensor, weights: torch.Tensor) -> Any:
    """The denoiser at the mean node for the mean of the denoiser."""
    middle = torch.einsum("km,rmd->krd", weights / weights.sum(-1, keepdim=True), nodes)
    value = law.denoise(x + middle.unsqueeze(-2), float(t)) - x
    return weights.sum(-1)[:, None, None, None] * value, None


@check(
    "engine.factorization",
    by="property",
    mutants={
        "off by 1e-9": returns(lambda found, *_: (found[0] * (1 + 1e-9), found[1])),
        "from the displaced queries": returns(
            lambda found, law, x, t, nodes, weights: (found[0] - torch.einsum("km,rmd->krd", weights, nodes).unsqueeze(-2), found[1])
        ),
        "two softmaxes": instead(_two_softmaxes),
        "denoiser at the mean node": instead(_at_mean_node),
    },
)
def nodes_one_by_one(predict: Any = Empirical.mollified_displacement, *, generator: torch.Generator) -> Numbers:
    """Random data, queries, nodes and weights: against the posterior mean at every displaced query by itself, from differences."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    worst = 0.0

    def test(case: tuple[torch.Tensor, float, float, int]) -> None:
        nonlocal worst
        points, t, ratio, seed = case
        rng = np.random.default_rng(seed)
        count, replicates, m, k = (int(n) for n in rng.integers(1, 5, 4))
        dim, law = points.shape[1], Empirical(points)
        x = points.numpy()[rng.integers(len(points), size=count)] + math.sqrt(t) * rng.standard_normal((count, dim))
        nodes = math.sqrt(ratio * t) * rng.standard_normal((replicates, m, dim))
        weights = rng.dirichlet(np.ones(m), size=k)
        found = predict(law, torch.from_numpy(x), torch.tensor(t, dtype=torch.float64), torch.from_numpy(nodes), torch.from_numpy(weights))
        difference = points.numpy() - x[:, None, None, None, :] - nodes[None, :, :, None, :]
        weight = special.softmax(-(difference**2).sum(-1) / (2 * t), -1)
        each = (weight[..., None] * (points.numpy() - x[:, None, None, None, :])).sum(-2)
        expected = np.einsum("km,nrmd->krnd", weights, each)
        # Exponents of products of this size round; so do the differences of the reference.
        size = float(np.linalg.norm(points, axis=-1).max() + np.linalg.norm(x, axis=-1).max() + np.linalg.norm(nodes, axis=-1).max())
        off = min(8 * EPSILON * (dim + 2) * size**2 / (2 * t), 1.0)
        allowed = float(softmax.mean_shift(off, np.inf, 2 * size)) + 32 * EPSILON * size
        worst = max(worst, agree(f"{points.tolist()}, t = {t}, h/t = {ratio}", found[0], expected, allowed))

    plain = strategies.arrays(6, 3).map(torch.from_numpy) | strategies.arrays(5, 1).map(torch.from_numpy)
    cases = st.tuples(plain, strategies.variances(0.0, 3.0), strategies.variances(-2.0, 1.0), st.integers(0, 2**32 - 1))
    return for_all(cases, test, generator=generator, examples=60) | {"worst error/allowance": worst}
