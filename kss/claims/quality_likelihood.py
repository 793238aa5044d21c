"""Chapter "Swiss roll, digits, MNIST", how quality is measured: held-out likelihood through the probability flow."""

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy import special, stats

from kss.claims.quality import CHAPTER, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.diagnostics import likelihood
from kss.distributions import Empirical, Gaussian, GaussianMixture
from kss.testing.compare import agree, require

TOLERANCE = 1e-8


def _allowed(t_min: float, t_max: float, size: Any) -> Any:
    """A Dormand-Prince step of local error `TOLERANCE (1 + |state|)` is followed, in log u, by a flow that expands by at most
    `(t_max/t_min)^(1/2)`; the scores here take fewer than 200 steps.
    """
    return 200 * TOLERANCE * math.sqrt(t_max / t_min) * (10 + np.abs(size))


claim(
    "quality.flow_likelihood",
    title="Log-likelihood through the probability flow",
    statement=r"""Let $q_t$ be the law that the flow $\frac{dY_u}{du} = -\frac12\tilde s_u(Y_u)$ generates from $q_T$, run from
$T$ down to $t$. With $Y_t = x$,

$$\log q_t(x) = \log q_T(Y_T) - \frac12\int_t^T \operatorname{div}\tilde s_u(Y_u)\,du .$$

If $\tilde s_u = \nabla\log p_u$ and $q_T = p_T$ this is $\log p_t(x)$. For $\tilde s_u(x) = -a\,x/(1 + u)$ and
$q_T = \mathcal N(0, (1 + T)I_d)$ it is the log-density of $\mathcal N\big(0, (1 + T)\big(\tfrac{1 + t}{1 + T}\big)^a I_d\big)$. With
$v^\top(\nabla\tilde s_u)\,v$ in place of the divergence it is unbiased for random signs $v$ that stay the same along the path.""",
    source="Chen et al., arXiv 1806.07366; Song et al., arXiv 2011.13456, section 4.3; Grathwohl et al., arXiv 1810.01367, for the probes",
    regime=r"""$0 < t < T$; $\tilde s$ is continuous in $u$ and continuously differentiable in $x$, with at most linear growth,
so that the flow exists.""",
    chapter=CHAPTER,
    verdict="holds",
)


def _flow(score: Any, x: Any, **options: Any) -> likelihood.FlowLogLikelihood:
    return likelihood.flow_log_likelihood(score, x, **options)


def _doubled(score: Any, x: Any, **options: Any) -> likelihood.FlowLogLikelihood:
    function = getattr(score, "score", score)
    return _flow(lambda y, t: 2 * function(y, t), x, **options)


def _other_sign(score: Any, x: Any, *, reference: Any, t_min: float, t_max: float, **options: Any) -> likelihood.FlowLogLikelihood:
    field = likelihood.exact_field(score)
    arrived, change = likelihood.follow_flow(field, x, t_min, t_max, TOLERANCE)
    zero = torch.zeros(len(x), dtype=torch.float64)
    return likelihood.FlowLogLikelihood(reference.log_density(arrived, t_max) + change[:, 0], zero, zero)


def _start_not_blurred(score: Any, x: Any, *, reference: Any, t_max: float, **options: Any) -> likelihood.FlowLogLikelihood:
    return _flow(score, x, reference=Empirical(reference.sample(1, 0)), t_max=t_max, **options)


EXACT_MUTANTS = {
    "off by 1e-3 nats": returns(lambda found, *_, **__: found._replace(value=found.value + 1e-3)),
    "negative": returns(lambda found, *_, **__: found._replace(value=-found.value)),
    "drift not halved": instead(_doubled),
    "divergence with the other sign": instead(_other_sign),
    "start from a point": instead(_start_not_blurred),
}


@check("quality.flow_likelihood", by="property", lane="full", mutants=EXACT_MUTANTS)
def laws_of_known_density(predict: Any = likelihood.flow_log_likelihood, *, generator: torch.Generator) -> Numbers:
    """Random mixtures in d = 1, 2, 3 by SciPy's densities; with the law's own divergence and by automatic differentiation."""
    numbers = {}
    for d, K, t_min, t_max in ((1, 3, 0.05, 4.0), (2, 2, 0.2, 30.0), (3, 4, 0.5, 9.0)):
        means = 2 * torch.randn(K, d, dtype=torch.float64, generator=generator)
        root = torch.randn(K, d, d, dtype=torch.float64, generator=generator) / 2
        covariances, weights = root @ root.mT, torch.rand(K, dtype=torch.float64, generator=generator) + 0.2
        law = GaussianMixture(means, covariances, weights / weights.sum())
        x = 2 * torch.randn(6, d, dtype=torch.float64, generator=generator)
        parts = [
            stats.multivariate_normal(means[j].numpy(), covariances[j].numpy() + t_min * np.eye(d)).logpdf(x.numpy()) for j in range(K)
        ]
        exact = special.logsumexp(np.array(parts), axis=0, b=(weights / weights.sum()).numpy()[:, None])
        for name, score in (("its own", law), ("differentiated", lambda y, t, law=law: law.score(y, t))):
            found = predict(score, x, t_min=t_min, t_max=t_max, reference=law, tolerance=TOLERANCE)
            require(not found.error.any(), "an error without probes")
            numbers[f"d = {d}, divergence {name}: error/allowed"] = agree("log p_t", found.value, exact, _allowed(t_min, t_max, exact))
    return numbers


@check("quality.flow_likelihood", by="property", mutants=EXACT_MUTANTS)
def scores_that_are_wrong(predict: Any = likelihood.flow_log_likelihood, *, generator: torch.Generator) -> Numbers:
    """A linear score times a: the density of what it generates, not that of the law."""
    numbers = {}
    for a, d, t, T in ((0.5, 1, 0.1, 5.0), (1.0, 2, 0.3, 9.0), (1.6, 3, 0.05, 2.0)):
        x = 2 * torch.randn(5, d, dtype=torch.float64, generator=generator)
        variance = (1 + T) * ((1 + t) / (1 + T)) ** a
        exact = -x.square().sum(1).numpy() / (2 * variance) - d / 2 * math.log(2 * math.pi * variance)
        run = {"t_min": t, "t_max": T, "reference": Gaussian(torch.zeros(d, dtype=torch.float64), 1.0)}
        found = predict(lambda y, u, a=a: -a * y / (1 + u), x, tolerance=TOLERANCE, **run)
        numbers[f"a = {a}: error/allowed"] = agree(f"a = {a}", found.value, exact, _allowed(t, T, exact))
    return numbers


@check(
    "quality.flow_likelihood",
    by="proof",
    lane="full",
    mutants={
        "error forgotten": returns(lambda found, *_, **__: found._replace(error=0 * found.error)),
        "off by 1e-3 nats": returns(lambda found, *_, **__: found._replace(value=found.value + 1e-3)),
        "vectors on the sphere": instead(lambda score, x, *, probes, **options: _flow(score, x, probes=probes / 3**0.5, **options)),
        "two of the signs": instead(lambda score, x, *, probes, **options: _flow(score, x, probes=probes[:2], **options)),
        "one probe for the error": returns(lambda found, *_, **__: found._replace(error=found.error * 8**0.5)),
    },
)
def over_all_signs(predict: Any = likelihood.flow_log_likelihood, *, generator: torch.Generator) -> Numbers:
    """Three fixed data in three dimensions, where the signs differ much: the mean over all 2^3 signs is the exact density, by SciPy;
    the standard error, from each alone.
    """
    data = torch.tensor([[0.0, 0.0, 0.0], [1.5, 1.0, -0.5], [-0.5, 1.0, 2.0]], dtype=torch.float64)
    x = torch.tensor([[0.7, 0.6, -0.2], [-0.3, 0.4, 1.1], [0.4, 1.0, 0.8], [0.3, 0.7, 0.5]], dtype=torch.float64)
    law, t_min, t_max = Empirical(data), 0.3, 6.0
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    run: dict[str, Any] = {"t_min": t_min, "t_max": t_max, "reference": law, "tolerance": TOLERANCE}
    found = predict(law.score, x, probes=signs, **run)
    squares = np.square(x.numpy()[:, None] - data.numpy()[None]).sum(-1)
    exact = special.logsumexp(-squares / (2 * t_min), axis=1) - math.log(3) - 1.5 * math.log(2 * math.pi * t_min)
    allowed = _allowed(t_min, t_max, exact)
    worst = agree("mean over the signs", found.value, exact, allowed)
    # Every point eight times, each time with a sign of its own.
    repeated, own = x.repeat(8, 1), signs.repeat_interleave(4, 0)
    each = likelihood.flow_log_likelihood(law.score, repeated, probes=torch.stack((own, own)), **run).value.reshape(8, 4).numpy()
    require(bool((each.std(0) > 0.1).all()), f"the signs differ by {each.std(0)} only: nothing is averaged")
    agree("standard error", found.error, each.std(0, ddof=1) / math.sqrt(8), 4 * allowed)
    return {"error/allowed": worst, "standard deviation of one probe, nats": float(each.std(0).max())}


claim(
    "quality.likelihood_of_copies",
    title="What a memorizing flow says of held-out points",
    statement=r"""The flow of the empirical score $s^N_u$ that starts from the blurred data at $T$ generates the kernel density estimate
of bandwidth $t$, so

$$\log q_t(x) = \log\frac1N\sum_i G_t(x - x_i), \qquad
-\frac{D^2}{2t} - \log N \;\le\; \log q_t(x) + \frac d2\log 2\pi t \;\le\; -\frac{D^2}{2t},$$

$D$ the distance from $x$ to the nearest datum. Hence $t\log q_t(x) \to -\frac12D^2$ as $t \to 0$: the likelihood of a fresh point, not
blurred, falls like $e^{-D^2/2t}$, and that of a training point grows like $t^{-d/2}$.""",
    source="derived here",
    regime=r"""Every data set of $N$ points in $\mathbb R^d$, every $0 < t < T$ and $x$; the limit for fixed $x$ and data.""",
    uses=("quality.flow_likelihood",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "quality.likelihood_of_copies",
    by="property",
    lane="full",
    mutants={
        "off by 1e-3 nats": returns(lambda found, *_, **__: found._replace(value=found.value + 1e-3)),
        "N forgotten": returns(lambda found, score, *_, **__: found._replace(value=found.value + math.log(len(score)))),
        "per dimension": returns(lambda found, score, *_, **__: found._replace(value=found.value / (1 + score.dim))),
        "drift not halved": instead(_doubled),
        "start from a point": instead(_start_not_blurred),
    },
)
def kernel_density_of_the_data(predict: Any = likelihood.flow_log_likelihood, *, generator: torch.Generator) -> Numbers:
    """N = 2, 7, 20 data with a repeated one, d = 1, 2, 5; fresh points and data. SciPy's sum of exponentials, and the two bounds."""
    numbers = {}
    for N, d, t_min, t_max in ((2, 1, 0.02, 3.0), (7, 2, 0.05, 5.0), (20, 5, 0.1, 20.0)):
        data = torch.randn(N, d, dtype=torch.float64, generator=generator)
        data[-1] = data[0]
        x = torch.cat((torch.randn(5, d, dtype=torch.float64, generator=generator), data[:1]))
        squares = np.square(x.numpy()[:, None] - data.numpy()[None]).sum(-1)
        exact = special.logsumexp(-squares / (2 * t_min), axis=1) - math.log(N) - d / 2 * math.log(2 * math.pi * t_min)
        law = Empirical(data)
        found = predict(law, x, t_min=t_min, t_max=t_max, reference=law, tolerance=TOLERANCE)
        allowed = _allowed(t_min, t_max, exact)
        numbers[f"N = {N}, d = {d}: error/allowed"] = agree(f"N = {N}", found.value, exact, allowed)
        shifted = found.value.numpy() + d / 2 * math.log(2 * math.pi * t_min) + squares.min(1) / (2 * t_min)
        require(bool((shifted <= allowed).all() and (shifted >= -math.log(N) - allowed).all()), f"bounds broken by {shifted}")
    return numbers
