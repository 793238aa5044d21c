"""Chapter "Interpolation and geometry", fourth part: flat data and arbitrary kernels."""

import itertools
import math
from typing import Any

import numpy as np
import torch

from kss.claims.interpolation import CHAPTER, EPSILON, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Embedded, Empirical
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import barycenters

claim(
    "interpolation.split",
    title="On flat data every kernel splits the score",
    statement=r"""Let the data lie in $\mathbb R^k \times \{0\}$ and let $\xi = (\xi_\parallel, \xi_\perp)$ have any law, which may depend
on the place $x = (y, n)$. Then for every $x$ and $t$, exactly and for every finite data set,

$$\mathbb E\, s^N_t(x + \xi) = \Big(\mathbb E\, s^{N,k}_t(y + \xi_\parallel),\; -\frac{n + \mathbb E\,\xi_\perp}{t}\Big),$$

with $s^{N,k}$ the score of the data in $\mathbb R^k$. Across the data only the mean of the kernel enters.""",
    source="""Farghly and co-authors (a proposition of this kind, as reported); Gabriel et al., arXiv 2505.22841 v1, Proposition 1;
generality derived here""",
    regime=r"""Data exactly in a flat subspace; $\mathbb E|\xi| < \infty$. Symmetry, independence of $\xi_\parallel$ and $\xi_\perp$, a
kernel that is the same everywhere or was chosen without looking at the data: none is needed. For Gaussian kernels and the density:
{claim}`mollified.linear_manifold`.""",
    uses=("heat.tweedie", "mollified.linear_manifold"),
    chapter=CHAPTER,
    verdict="holds",
)


def _full_score(data: np.ndarray, x: np.ndarray, t: float, draws: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average over the displacements (n, M, d) of the score of data in R^d, by its definition; and a scale for its rounding."""
    places = x[:, None] + draws
    away = data - places[..., None, :]
    square = (away**2).sum(-1)
    share = np.exp(-(square - square.min(-1, keepdims=True)) / (2 * t))
    score = (share[..., None] * away).sum(-2) / share.sum(-1, keepdims=True) / t
    return (weights[..., None] * score).sum(1) / weights.sum(1, keepdims=True)


def _flat_cases(rng: np.random.Generator) -> Any:
    """Data on R^k, places, displacements that depend on them and are neither centered nor symmetric, and weights."""
    for k, d, n, m, t in ((1, 2, 3, 4, 0.3), (1, 4, 5, 3, 0.05), (2, 3, 6, 5, 0.5), (3, 7, 4, 2, 1.5)):
        data, x = rng.standard_normal((n, k)), rng.standard_normal((8, d))
        draws = rng.exponential(0.5, (8, m, d)) - 0.2 + 0.3 * x[:, None]
        draws[..., k:] += draws[..., :1] ** 2  # normal and tangential parts depend on each other
        yield data, x, t, draws, rng.exponential(1.0, (8, m))


@check(
    "interpolation.split",
    by="property",
    mutants={
        "leaks": instead(
            lambda law, x, t, draws, weights: torch.cat(
                (barycenters.split_score(law, x, t, draws, weights)[:, : law.dim], -torch.as_tensor(x)[:, law.dim :] / (t + 0.25)), -1
            )
        ),
        "mean across forgotten": instead(
            lambda law, x, t, draws, weights: torch.cat(
                (barycenters.split_score(law, x, t, draws, weights)[:, : law.dim], -torch.as_tensor(x)[:, law.dim :] / t), -1
            )
        ),
        "weights forgotten": instead(lambda law, x, t, draws, weights: barycenters.split_score(law, x, t, draws)),
        "one kernel for all": instead(lambda law, x, t, draws, weights: barycenters.split_score(law, x, t, draws[0], weights[0])),
        "off by 1e-9": returns(lambda score, *_: score * (1 + 1e-9)),
    },
)
def score_in_the_whole_space(predict: Any = barycenters.split_score, *, generator: torch.Generator) -> Numbers:
    """The score of the data in R^d, by its definition, at every displaced point; k = 1, 2, 3 in d = 2 to 7."""
    worst = 0.0
    for data, x, t, draws, weights in _flat_cases(numpy_generator(generator)):
        k, d = data.shape[1], x.shape[1]
        expected = _full_score(np.pad(data, ((0, 0), (0, d - k))), x, t, draws, weights)
        size = 1 + (np.abs(x).max() + np.abs(draws).max() + np.abs(data).max()) ** 2 / t
        got = predict(Empirical(data), x, t, draws, weights)
        worst = max(worst, agree(f"k = {k}, d = {d}", got, expected, 64 * EPSILON * size * (1 + np.abs(expected).max())))
    return {"worst error/allowance": worst}


@check(
    "interpolation.split",
    by="property",
    mutants={
        "not smoothed": instead(lambda law, x, t, draws, weights: law.score(x, t)),
        "weights forgotten": instead(lambda law, x, t, draws, weights: barycenters.drawn_score(law, x, t, draws)),
        "tangential displacements only": instead(
            lambda law, x, t, draws, weights: barycenters.drawn_score(
                law, x, t, draws * (np.arange(x.shape[1]) < law.distribution.dim), weights
            )
        ),
        "off by 1e-9": returns(lambda score, *_: score * (1 + 1e-9)),
    },
)
def average_over_displacements(predict: Any = barycenters.drawn_score, *, generator: torch.Generator) -> Numbers:
    """The package's average of the score in R^d: its two parts from sums over the data in R^k alone, and from means."""
    worst = 0.0
    for data, x, t, draws, weights in _flat_cases(numpy_generator(generator)):
        k, d = data.shape[1], x.shape[1]
        law = Embedded(Empirical(data), d)
        along = _full_score(data, x[:, :k], t, draws[..., :k], weights)
        mean = (weights[..., None] * draws[..., k:]).sum(1) / weights.sum(1, keepdims=True)
        expected = np.concatenate((along, -(x[:, k:] + mean) / t), -1)
        size = 1 + (np.abs(x).max() + np.abs(draws).max() + np.abs(data).max()) ** 2 / t
        worst = max(
            worst,
            agree(f"k = {k}, d = {d}", predict(law, x, t, draws, weights), expected, 64 * EPSILON * size * (1 + np.abs(expected).max())),
        )
    return {"worst error/allowance": worst}


claim(
    "interpolation.split_breaks",
    title="For every kernel the smoothed score belongs to a product law",
    statement=r"""*"On flat data the smoothed score is that of a law along the data times a law across."* Refuted for kernels that
depend on the normal coordinate. Let $K_x = \mathcal N(0, h(n))$ along a line, with $h$ a function of the distance $n$ across. The
components split as in {claim}`interpolation.split`, but

$$\partial_n \tilde s_\parallel - \partial_y \tilde s_\perp = \tfrac12\, h'(n)\,\big(G_{h(n)} * s^{N,1}_t\big)''(y),$$

so $\tilde s$ is not a gradient where $h' \ne 0$, unless the smoothed score is affine in $y$. With $h$ a function of $y$ alone it is the
score of a product.""",
    source="derived here",
    regime=r"""Data on a line in the plane, Gaussian kernel along it; in general the tangential marginal of $K_x$ must not depend on $n$,
nor the mean of the normal one on $y$; and for $k > 1$ the average along the data must itself be a gradient, as it is for a kernel that is
the same everywhere.""",
    uses=("interpolation.split",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "interpolation.split_breaks",
    by="counterexample",
    mutants={
        "a gradient": instead(lambda slope, second: 0 * second),
        "1/2 forgotten": returns(lambda value, *_: 2 * value),
        "sign": returns(lambda value, *_: -value),
        "slope squared": instead(lambda slope, second: slope**2 * second / 2),
        "off by 1e-4": returns(lambda value, *_: value * (1 + 1e-4)),
    },
)
def curl_of_a_kernel_that_widens(predict: Any = barycenters.curl, *, generator: torch.Generator) -> Numbers:
    """Three points on a line, `h(n) = 0.2 + 0.5 n^2` and `h(n) = 0.4 + 0.3 sin n`, two noise variances: the derivative in n by a
    difference of smoothed scores, those by sums; the second one in y too.

    Central differences with steps 1e-3 and 1e-2 (of fourth order): errors below 1e-5 of the derivatives' size.
    """
    points, step, e, largest = np.array([[-1.0], [0.2], [1.3]]), 1e-3, 1e-2, 0.0
    widths = ((lambda n: 0.2 + 0.5 * n**2, lambda n: n), (lambda n: 0.4 + 0.3 * math.sin(n), lambda n: 0.3 * math.cos(n)))
    for t, (width, slope), y, n in itertools.product((0.3, 0.7), widths, (-0.6, 0.1, 0.9), (0.3, -0.7)):

        def along(y: float, h: float, t: float = t) -> float:
            return float(sums.smoothed_score(points, np.array([y]), t, h)[0])

        across = (along(y, width(n + step)) - along(y, width(n - step))) / (2 * step)
        values = [along(y + j * e, width(n)) for j in (-2, -1, 0, 1, 2)]
        second = (-values[0] + 16 * values[1] - 30 * values[2] + 16 * values[3] - values[4]) / (12 * e**2)
        agree(f"curl at y = {y}, n = {n}, t = {t}", predict(slope(n), second), across, 2e-5 * (1 + abs(across)))
        largest = max(largest, abs(across))
    require(largest > 0.05, f"the curl is small everywhere: {largest}")
    return {"largest curl": largest}
