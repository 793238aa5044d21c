"""Chapter "Mollified scores and the LED-KDE", third part: linear manifolds."""

import itertools
import math
from typing import Any

import numpy as np
import torch

from kss.claims.mollified import CHAPTER, EPSILON, PAPER, Numbers, data_and_kernels
from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TimeShifted
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.properties import for_all, numpy_generator
from kss.theory import mollification

claim(
    "mollified.linear_manifold",
    title="On a linear manifold the LED-KDE does not leak, the KDE does",
    statement=r"""Let the data lie on a $k$-dimensional affine subspace $M$ of $\mathbb R^d$. Then, exactly and for every finite data set,

$$\text{LED-KDE}(G_t, G_h) \;=\; \text{LED-KDE}(G_t, G_h)\text{ on } M \;\otimes\; \mathcal N(0, t\, I_{d-k}).$$

Across $M$ the smoothing kernel does not enter: the variance is $t$. The KDE with the same two kernels has the variance $t + h$ across
$M$.""",
    source=f"{PAPER}, proposition 1; derived here",
    regime=r"""Data exactly on an affine subspace; $K = G_h$ isotropic (for other $K$: its marginal along $M$, and again
no widening across); $t > 0$, $h \ge 0$. On curved manifolds: {claim}`mollified.curvature`.""",
    uses=("mollified.led_kde", "shift.densities"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.linear_manifold",
    by="quadrature",
    mutants={
        "leaks": instead(lambda mollified, x, t: TimeShifted(mollified.base, mollified.kernel.bandwidth).score(x, t)),
        "off by 1e-5": returns(lambda score, *_: score * (1 + 1e-5)),
        "not smoothed": instead(lambda mollified, x, t: mollified.base.score(x, t)),
        "half the variance": instead(lambda mollified, x, t: Mollified(mollified.base, mollified.kernel.scaled(0.5)).score(x, t)),
    },
)
def line_in_two_and_three_dimensions(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """Data on a random line: along it the one-dimensional smoothed score by a plain sum, across it `-distance/t`."""
    from hypothesis import strategies as st

    worst = 0.0

    def test(drawn: tuple[tuple[torch.Tensor, np.ndarray, float, float, float], int, int]) -> None:
        nonlocal worst
        (points, along, t, h, _), d, seed = drawn
        rng = np.random.default_rng(seed)
        h = min(h, 3 * t if d == 2 else t)  # beyond, the package reaches its limit of nodes first
        q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        shift, across = rng.standard_normal(d), rng.standard_normal(d - 1) * math.sqrt(t)
        data = points.numpy() @ q[:, :1].T + shift
        x = q @ np.concatenate((along, across)) + shift
        local = np.concatenate((sums.smoothed_score(points.numpy(), along, t, h), -across / t))
        got = predict(Mollified(Empirical(data), GaussianKernel(h), accuracy=1e-7), torch.from_numpy(x), t)
        size = 1 + (np.abs(x).max() + np.abs(data).max() + 9 * math.sqrt(h)) ** 2 / t
        allowed = 3e-7 * np.linalg.norm(local) + 64 * EPSILON * size * math.sqrt(size / t)
        worst = max(worst, agree(f"score off a line in R^{d}, data {points.tolist()}, t = {t}, h = {h}", got, q @ local, allowed))

    drawn = st.tuples(data_and_kernels((1,), -1.0, 1.0), st.sampled_from((2, 3)), st.integers(0, 2**31))
    return for_all(drawn, test, generator=generator, examples=16) | {"worst error/allowance": worst}


@check(
    "mollified.linear_manifold",
    by="quadrature",
    mutants={
        "not smoothed": instead(lambda mollified, x, t: mollified.base.score(x, t)),
        "leaks in high dimension": instead(
            lambda mollified, x, t: (mollified if x.shape[-1] <= 2 else TimeShifted(mollified.base, 0.3)).score(x, t)
        ),
        "whole covariance along": instead(
            lambda mollified, x, t: Mollified(
                mollified.base, GaussianKernel(float(mollified.kernel.covariance(t, x.shape[-1]).trace()) / x.shape[-1])
            ).score(x, t)
        ),
        "off by 5 %": returns(lambda score, *_: 1.05 * score),
    },
)
def planes_anisotropic_kernels_and_many_dimensions(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """A plane in R^3; a kernel of which only the part along the line counts; lines in R^4 and R^6, within the error estimate."""
    rng, worst = numpy_generator(generator), 0.0

    plane = rng.uniform(-1, 1, (5, 2))
    along, off, t, h = rng.uniform(-1, 1, 2), 0.4, 0.4, 0.3
    h = min(h, sums.resolved(plane, t))
    expected = np.append(sums.smoothed_score(plane, along, t, h), -off / t)
    data = torch.from_numpy(np.pad(plane, ((0, 0), (0, 1))))
    got = predict(Mollified(Empirical(data), GaussianKernel(h), accuracy=1e-7), torch.from_numpy(np.append(along, off)), t)
    worst = max(worst, agree("score off a plane in R^3", got, expected, 1e-6 * np.linalg.norm(expected)))

    line, place = np.array([[-1.0], [0.3], [1.0]]), np.array([0.4])
    matrix = torch.tensor([[0.3, 0.1], [0.1, 0.6]], dtype=torch.float64)
    expected = np.append(sums.smoothed_score(line, place, t, 0.3), -off / t)
    data, x = torch.from_numpy(np.pad(line, ((0, 0), (0, 1)))), torch.tensor([0.4, off], dtype=torch.float64)
    got = predict(Mollified(Empirical(data), GaussianKernel(matrix)), x, t)
    worst = max(worst, agree("score off a line, anisotropic kernel", got, expected, 1e-6 * np.linalg.norm(expected)))

    for d, ratio in itertools.product((4, 6), (0.3, 1.0, 3.0)):
        t = 0.15
        expected = np.concatenate((sums.smoothed_score(line, place, t, ratio * t), np.full(d - 1, -off / t)))
        data = torch.from_numpy(np.pad(line, ((0, 0), (0, d - 1))))
        x = torch.tensor([0.4] + [off] * (d - 1), dtype=torch.float64)
        mollified = Mollified(Empirical(data), GaussianKernel(ratio * t), accuracy=5e-3)
        size = np.linalg.norm(expected)
        allowed = float(mollified.score_with_error(x, t).error) + 5e-3 * size
        got = predict(mollified, x, t)
        worst = max(worst, agree(f"norm of the error in R^{d}, h/t = {ratio}", np.linalg.norm(got.numpy() - expected), 0.0, allowed))
    return {"worst error/allowance": worst}


@check(
    "mollified.linear_manifold",
    by="proof",
    mutants={
        "t + h": instead(lambda t, h: t + h),
        "half": returns(lambda variance, *_: variance / 2),
        "h alone": instead(lambda t, h: h),
    },
)
def logarithm_across(predict: Any = mollification.led_normal_variance, *, generator: torch.Generator) -> Numbers:
    """Off the subspace `log p_t` is a tangential part `- n^2/2t`; the mean of `-(n + sqrt(h) Z)^2/2t` as a function of n."""
    import sympy

    n, z = sympy.symbols("n z", real=True)
    t, h = sympy.symbols("t h", positive=True)
    expanded = sympy.Poly(sympy.expand(-((n + sympy.sqrt(h) * z) ** 2) / (2 * t)), z)
    mean = expanded.coeff_monomial(1) + expanded.coeff_monomial(z**2)  # E Z = 0, E Z^2 = 1
    slope = sympy.simplify(sympy.diff(mean, n) + n / predict(t, h))
    require(slope == 0, f"d/dn of the difference = {slope}")
    return {"remainder": str(slope)}


@check(
    "mollified.linear_manifold",
    by="proof",
    mutants={
        "no leak": instead(lambda t, h: t),
        "standard deviations add": instead(lambda t, h: (t**0.5 + h**0.5) ** 2),
        "twice": returns(lambda variance, *_: 2 * variance),
    },
)
def density_across(predict: Any = mollification.kde_normal_variance, *, generator: torch.Generator) -> Numbers:
    """The convolution of two Gaussian densities by completing the square: its logarithm is quadratic with this variance."""
    import sympy

    n, v = sympy.symbols("n v", real=True)
    t, h = sympy.symbols("t h", positive=True)
    exponent = sympy.Poly(sympy.expand(-((n - v) ** 2) / (2 * t) - v**2 / (2 * h)), v)
    a, b, c = exponent.all_coeffs()
    left = c - b**2 / (4 * a)  # what is left of the exponent after the integral over v
    remainder = sympy.simplify(left + n**2 / (2 * predict(t, h)))
    require(remainder == 0, f"log-density across - prediction = {remainder}")
    return {"remainder": str(remainder)}
