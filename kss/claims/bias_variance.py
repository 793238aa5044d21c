"""Chapter "Bias and variance", first part: the error of a mollified score at one point, and its two terms."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import special

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Circle, Distribution, Empirical, GaussianMixture
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.scores.mollified import Averaged
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.rates import HALVINGS, order_of
from kss.theory import bias_variance, clt
from kss.theory.bias_variance import Decomposition

CHAPTER = "bias_variance"
PAPER = "Gabriel, Ged, Han Veiga and Schertzer, arXiv 2505.22841 v1, Theorem 3"
CLT = r"""CLT regime: $N p_M t^{k/2} \gg 1$ **at $t$ itself**, not at $t + h$"""

Numbers = dict[str, Any]


# --- References -----------------------------------------------------------------------------------------------------------


def influence(points: np.ndarray, weights: np.ndarray, x: np.ndarray, t: float, spread: Any) -> tuple[float, float]:
    """For a law that sits on weighted points: `E |int K(x - u) G_t(u - X)(X - m(u))/p(u) du|^2`, and the same without `X - m`.

    By the definitions, `p` and `m` being sums over the points. K is normal with covariance `spread`, a number or a matrix.
    """
    d = points.shape[1]
    root = np.linalg.cholesky(spread) if np.ndim(spread) else math.sqrt(spread) * np.eye(d)
    # Along a manifold the integrand is K times a normal density of variance t. A step of 0.9 of its standard deviation errs by
    # exp(-2 pi^2/0.81) = 3e-11, a cut at 6 standard deviations of K by 2e-9.
    count = max(15, math.ceil(12 * math.sqrt(1 + np.linalg.norm(root, 2) ** 2 / t) / 0.9))
    offsets, kernel = sums.gaussian_nodes(d, 1.0, count, 6.0)
    nodes, kernel = x + offsets @ root.T, kernel / kernel.sum()
    exponent = -((nodes[:, None] - points) ** 2).sum(-1) / (2 * t) + np.log(weights)
    posterior = np.exp(exponent - exponent.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    mean, smoothed = posterior @ points, kernel @ posterior
    pulled = points * smoothed[:, None] - posterior.T @ (kernel[:, None] * mean)
    return float(((pulled**2).sum(1) / weights).sum()), float((smoothed**2 / weights).sum())


@cache
def circle_modes(t: float, h: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """On the unit circle with a uniform law: the factors of `count` modes of the noise, in the smoothed `p_t^N/p_t` and its radial slope.

    Fourier modes of the linearized noise are independent, of variance 1/N. At radius r the mode m has the factor `I_m(r/t)/I_0(r/t)`; the
    kernel leaves an integral over r, with another Bessel function.
    """
    step = 0.4 * math.sqrt(h)  # of what is as smooth as the kernel: exp(-2 pi^2/0.16)
    r = np.arange(max(step, 1 - 8.5 * math.sqrt(h)), 1 + 8.5 * math.sqrt(h), step) if h > 0 else np.ones(1)
    m = np.arange(count)[:, None]
    factor = special.ive(m, r / t) / special.i0e(r / t)
    if h > 0:
        weight = np.exp(-((1 - r) ** 2) / (2 * h)) * r / h * step
        around = special.ive(m, r / h)
        slope = (special.ive(m + 1, r / h) + special.ive(abs(m - 1), r / h)) / 2
        value = (factor * around * weight).sum(1)
        radial = (factor * (r / h * slope - around / h) * weight).sum(1)
    else:
        value, bessel = factor[:, 0], special.ive(np.arange(len(m) + 1), 1 / t)
        derivative = (np.append(bessel[1], bessel[:-2]) + bessel[1:]) / 2
        # (I_m/I_0)'
        radial = (derivative / bessel[0] - bessel[:-1] * bessel[1] / bessel[0] ** 2) / t
    return value, radial


def circle_noise(t: float, h: float) -> tuple[float, float]:
    """N times the CLT variance of the smoothed score on the unit circle, and that of the smoothed `p_t^N/p_t` plus 1."""
    value, radial = circle_modes(t, h, math.ceil(7 / math.sqrt(t + h)) + 2)  # beyond, e^{-49} is left
    along = np.arange(len(value)) * value
    return float(2 * (along[1:] ** 2 + radial[1:] ** 2).sum()), float(value[0] ** 2 + 2 * (value[1:] ** 2).sum())


def torus_noise(k: int, t: float, h: float) -> float:
    """N times the CLT variance on the product of k unit circles: one circle's noise in the score, the others' in the density."""
    score, density = circle_noise(t, h)
    return k * score * density ** (k - 1)


@cache
def circle_bias(t: float, h: float, radius: float = 1.0) -> float:
    """Radial bias at a point of the circle, from Bessel functions."""
    law = sums.Sphere(1, radius)
    return float(law.smoothed_score(radius, t, h) - law.score(radius, t)) if h > 0 else 0.0


# --- The two terms --------------------------------------------------------------------------------------------------------

claim(
    "bias.decomposition",
    title="The error of a mollified score is squared bias plus variance",
    statement=r"""$$\mathbb E\,|K * s_t^N - s_t|^2 = \big|K * \mathbb E s_t^N - s_t\big|^2
+ \iint K(x-u)\,K(x-v)\,\operatorname{tr}\operatorname{Cov}\big(s_t^N(u), s_t^N(v)\big)\,du\,dv .$$

The expectation is over data sets, at a fixed point $x$.""",
    source=f"{PAPER}, starting point; bias-variance decomposition",
    regime=r"""Every law with a second moment, every $N$, $t > 0$, $x$; $K$ with a finite second moment, so that sums and integrals may be
exchanged ($|s_t^N(u)|$ grows at most like $|u|$). Exact; no CLT.""",
    uses=("mollified.led_kde",),
    chapter=CHAPTER,
    verdict="holds",
)


@cache
def _all_data_sets(d: int) -> tuple[torch.Tensor, np.ndarray]:
    """Three atoms, all data sets of two draws: the package's smoothed scores; squared bias, variance, error, and the true score."""
    atoms = np.array([[-1.0, 0.3], [0.4, -0.6], [1.1, 0.5]])[:, :d]
    x, t, h = np.array([0.3, 0.1])[:d], 0.4, 0.15
    data = [atoms[list(choice)] for choice in itertools.product(range(3), repeat=2)]
    smoothed = torch.stack([Mollified(Empirical(points), GaussianKernel(h), accuracy=1e-5).score(x, t) for points in data])
    offsets, kernel = sums.gaussian_nodes(d, h, 161 if d == 1 else 45, 6.5)
    kernel = kernel / kernel.sum()

    def score(points: np.ndarray, y: np.ndarray) -> np.ndarray:
        weight = special.softmax(-((y[:, None] - points) ** 2).sum(-1) / (2 * t), axis=1)
        return (weight @ points - y) / t

    fields = np.stack([score(points, x + offsets) for points in data])
    truth = score(atoms, x[None])[0]
    mean = fields.mean(0)
    noise = fields - mean
    # Cov between nodes first, then both kernels.
    within = np.sum([kernel @ (noise[..., a].T @ noise[..., a] / len(data)) @ kernel for a in range(d)])
    errors = np.einsum("snd,n->sd", fields, kernel) - truth
    return smoothed, np.array([((kernel @ mean - truth) ** 2).sum(), within, (errors**2).sum(1).mean(), *truth])


@check(
    "bias.decomposition",
    by="quadrature",
    mutants={
        "divided by n - 1": returns(lambda parts, values, *_: Decomposition(parts[0], parts[1] * len(values) / (len(values) - 1))),
        "scatter about the truth": returns(lambda parts, *_: Decomposition(parts[0], parts[0] + parts[1])),
        "mean of squares for square of mean": returns(lambda parts, *_: Decomposition(parts[0] + parts[1], parts[1])),
        "standard deviation": returns(lambda parts, *_: Decomposition(parts[0], parts[1].sqrt())),
        "not squared": instead(
            lambda values, truth: Decomposition((values.mean(0) - truth).norm(dim=-1), (values - values.mean(0)).norm(dim=-1).mean(0))
        ),
    },
)
def every_data_set(predict: Any = bias_variance.decompose, *, generator: torch.Generator) -> Numbers:
    """All data sets of two draws from three atoms: smoothed scores against means and covariances of raw scores on a grid."""
    worst = 0.0
    for d in (1, 2):
        smoothed, expected = _all_data_sets(d)
        parts = predict(smoothed, torch.from_numpy(expected[3:].copy()))
        got = np.array([float(part) for part in (parts.squared_bias, parts.variance, parts.squared_bias + parts.variance)])
        # The package's quadrature is exact to 1e-5 of scores of order 1.
        worst = max(worst, agree(f"squared bias, variance and their sum in R^{d}", got, expected[:3], 1e-5))
    return {"worst error/allowance": worst}


claim(
    "bias.curved",
    title="On a curved manifold the squared bias is h^2 |H|^2/(4 t^2)",
    statement=r"""At a point of a $k$-dimensional manifold with mean-curvature vector $H$,

$$|K * s_t - s_t|^2 = \frac{h^2 |H|^2}{4 t^2}\left(1 + O\left(\frac{t+h}{R^2}\right)\right).$$

Averaged over $p_t$, for the uniform law on the $k$-sphere of radius $R$, with the next order:

$$\mathbb E_{p_t}|K * s_t - s_t|^2 = \frac{k^2h^2}{4R^2t^2}\left(1 + \frac{4(3-k)\,t}{R^2} + \frac{3(2-k)\,h}{2R^2}
+ O\Big(\frac{(t+h)^2}{R^4}\Big)\right).$$

On a circle and for $h \ll t$ the factor is $1 + 8t/R^2$.""",
    source=f"{PAPER} (the power); constants derived here, the second display found numerically",
    regime=r"""As {claim}`mollified.curvature`; the law exact, no noise. The first display at points where $|H|$ is of order $1/R$ (where
$H = 0$ the left side is not 0, but of higher order); it is computed on $k$-spheres and on the product of
two circles, the second on $k$-spheres, $k = 1, 2, 3$, for $h/t$ up to 4.""",
    uses=("mollified.curvature",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "bias.curved",
    by="quadrature",
    mutants={
        "off by 2.5 %": returns(lambda square, *_: 1.025 * square),
        "1/2 for 1/4": returns(lambda square, *_: 2 * square),
        "not squared": instead(lambda curvature_square, t, h: h * math.sqrt(curvature_square) / (2 * t)),
        "t + h for t": instead(lambda curvature_square, t, h: h**2 * curvature_square / (4 * (t + h) ** 2)),
    },
)
def at_points_of_spheres_and_of_a_torus(predict: Any = bias_variance.small_time_squared_bias, *, generator: torch.Generator) -> Numbers:
    """From Bessel functions: spheres with `|H| = k/R`, and the product of two circles, whose biases are at right angles."""
    worst = 0.0
    for k, radius, (t, h) in itertools.product((1, 2, 3), (1.0, 2.5), ((2e-3, 8e-3), (4e-3, 1e-3), (1e-3, 1e-3))):
        law, t, h = sums.Sphere(k, radius), t * radius**2, h * radius**2
        square = float(law.smoothed_score(radius, t, h) - law.score(radius, t)) ** 2
        got, allowed = float(predict(k**2 / radius**2, t, h)), 5 * (t + h) / radius**2 * square
        worst = max(worst, agree(f"squared bias, k = {k}, R = {radius}, t = {t:.3g}, h = {h:.3g}", got, square, allowed))
    for t, h in ((2e-3, 4e-3), (1e-3, 1e-3)):
        square = circle_bias(t, h) ** 2 + circle_bias(t, h, 2.0) ** 2
        got = float(predict(1 + 1 / 4, t, h))
        worst = max(worst, agree(f"squared bias on the torus, t = {t}, h = {h}", got, square, 3 * (t + h) * square))
    return {"worst error/allowance": worst}


@cache
def _mean_square(k: int, radius: float, t: float, h: float) -> float:
    """`E |K * s - s|^2` over `p_t` on a k-sphere: Gauss-Hermite in the distance from its center, whose density is `r^k p_t(r)`."""
    z, weight = special.roots_hermitenorm(14)
    r, nu, law = radius + math.sqrt(t) * z, (k - 1) / 2, sums.Sphere(k, radius)
    weight = weight * r**k * special.ive(nu, r * radius / t) * (r * radius / t) ** -nu
    return float(weight @ (law.smoothed_score(r, t, h) - law.score(r, t)) ** 2 / weight.sum())


@check(
    "bias.curved",
    by="rate",
    mutants={
        "off by 1 %": returns(lambda square, *_: 1.01 * square),
        "8 t for every k": instead(
            lambda k, radius, t, h: bias_variance.small_time_squared_bias((k / radius) ** 2, t, h) * (1 + (8 * t + 1.5 * h) / radius**2)
        ),
        "R for its square": instead(
            lambda k, radius, t, h: (
                bias_variance.small_time_squared_bias((k / radius) ** 2, t, h) * (1 + (4 * (3 - k) * t + 1.5 * (2 - k) * h) / radius)
            )
        ),
        "no correction": instead(lambda k, radius, t, h: bias_variance.small_time_squared_bias((k / radius) ** 2, t, h)),
        "no term in h": instead(
            lambda k, radius, t, h: bias_variance.small_time_squared_bias((k / radius) ** 2, t, h) * (1 + 4 * (3 - k) * t / radius**2)
        ),
    },
)
def averaged_over_the_noisy_law(predict: Any = bias_variance.sphere_mean_squared_bias, *, generator: torch.Generator) -> Numbers:
    """On k-spheres of radius 2, 1/2, 1, k = 1, 2, 3: what the formula leaves is of second order in t + h, at fixed h/t."""
    numbers: Numbers = {}
    for (k, radius), ratio in itertools.product(((1, 2.0), (2, 0.5), (3, 1.0)), (0.01, 1.0, 4.0)):
        times = 2e-3 * HALVINGS
        exact = [_mean_square(k, radius, t, ratio * t) for t in radius**2 * times]
        off = np.array([e / float(predict(k, radius, t, ratio * t)) - 1 for e, t in zip(exact, radius**2 * times, strict=True)])
        agree(f"mean square/formula - 1, k = {k}, h/t = {ratio}", off, np.zeros(4), 100 * ((1 + ratio) * times) ** 2)
        numbers[f"order, k = {k}, h/t = {ratio:g}"] = order_of(f"remainder, k = {k}, h/t = {ratio}", abs(off), 2)
    return numbers


claim(
    "variance.double_integral",
    title="In the CLT regime the variance is a double integral of the noise covariance",
    statement=r"""$$\operatorname{Var}\big(K * s_t^N\big)(x) \approx \frac1{N t^2}\iint
K(x-u)\,K(x-v)\,\operatorname{tr}\Sigma_t(u,v)\,du\,dv
= \frac1{N t^2}\,\mathbb E_X\left|\int K(x-u)\,\frac{G_t(u-X)\,(X-m_t(u))}{p_t(u)}\,du\right|^2 ,$$

with $\Sigma_t(u,v)/N$ the covariance of the empirical denoiser. The two integrals are equal for every law.""",
    source=PAPER,
    regime=r"""Every law for which the integral is finite (on the whole space it need not be: for $\mathcal N(0, v)$ it is for
$h < (t+v)(t+2v)/v$ only). The first relation asks for """
    + CLT
    + r""" near $x$, as far as $K$ reaches, and is measured by {claim}`variance.measured`; the second is exact. It is computed for the
circle, two normal laws on the line, one in the plane, and a law with four atoms; kernels $\mathcal N(0, hI)$, and
$\mathcal N(0, S)$ in the plane.""",
    uses=("bias.decomposition",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@cache
def _laws() -> tuple[tuple[str, Distribution, np.ndarray, np.ndarray], ...]:
    """Laws of the package, each with weighted points that stand for it."""
    angle = 2 * math.pi * np.arange(320) / 320
    circle = np.stack((np.cos(angle), np.sin(angle)), -1)
    line = np.linspace(-4.5, 4.5, 181)[:, None]
    humps = np.zeros(len(line))
    for m, v, w in ((-0.8, 0.15, 0.4), (0.7, 0.3, 0.6)):
        humps += w * np.exp(-((line[:, 0] - m) ** 2) / (2 * v)) / math.sqrt(v)
    axis = np.linspace(-1, 1, 41)
    plane = np.stack(np.meshgrid(6 * 0.6 * axis, 6 * 0.4 * axis, indexing="ij"), -1).reshape(-1, 2)
    normal = np.exp(-((plane / [0.6, 0.4]) ** 2).sum(1) / 2)
    atoms = np.array([[0.0, 0.2], [1.0, -0.3], [-0.5, 0.9], [0.4, 0.5]])
    mixture = GaussianMixture([[-0.8], [0.7]], [[[0.15]], [[0.3]]], [0.4, 0.6])
    return (
        ("circle", Circle(), circle, np.full(320, 1 / 320)),
        ("two humps", mixture, line, humps / humps.sum()),
        ("normal law in the plane", GaussianMixture([[0.0, 0.0]], [[[0.36, 0.0], [0.0, 0.16]]]), plane, normal / normal.sum()),
        ("four atoms", Empirical(atoms), atoms, np.full(4, 0.25)),
    )


_CASES: tuple[tuple[int, tuple[float, ...], float, Any], ...] = (
    (0, (1.0, 0.0), 0.01, 0.01),
    (0, (0.95, 0.1), 0.02, 0.04),
    (1, (0.3,), 0.1, 0.2),
    (1, (-1.0,), 0.2, 0.02),
    (2, (0.5, -0.2), 0.2, 0.1),
    (2, (0.0, 0.3), 0.3, ((0.1, 0.05), (0.05, 0.05))),
    (3, (0.3, 0.3), 0.3, 0.2),
)


@cache
def _expected_variance(case: int) -> float:
    which, x, t, spread = _CASES[case]
    _, _, points, weights = _laws()[which]
    return influence(points, weights, np.array(x), t, np.array(spread) if isinstance(spread, tuple) else spread)[0] / t**2


def _once(law: Distribution, x: Any, t: float, h: Any, N: float, **_: Any) -> Averaged:
    """The kernel under one integral only: as if noise were the same all over its support."""
    points = torch.as_tensor(x, dtype=torch.float64) + GaussianKernel(h).stretch(
        GaussianKernel(h).grid(law.dim, 12).nodes[0], torch.tensor([t], dtype=torch.float64)
    )
    trace = clt.covariance(law, points, points, t).diagonal(dim1=-2, dim2=-1).sum(-1)
    value = (GaussianKernel(h).grid(law.dim, 12).weights * trace).sum() / (N * t**2)
    return Averaged(value, torch.zeros_like(value))


def _scaled(factor: Any) -> Any:
    return returns(lambda found, law, x, t, h, N, **_: Averaged(found.value * factor(t, N), found.error))


@check(
    "variance.double_integral",
    by="quadrature",
    lane="full",
    mutants={
        "off by 1e-4": _scaled(lambda t, N: 1 + 1e-4),
        "root of N": _scaled(lambda t, N: math.sqrt(N)),
        "1/t for 1/t^2": _scaled(lambda t, N: t),
        "not smoothed": instead(lambda law, x, t, h, N, **kw: bias_variance.variance(law, x, t, 0.0, N, **kw)),
        "unmollified at t + h": instead(
            lambda law, x, t, h, N, **kw: bias_variance.variance(
                law, x, t + float(np.trace(np.atleast_2d(h)) / np.atleast_2d(h).shape[0]), 0.0, N
            )
        ),
        "kernel on one side only": instead(_once),
        "half the bandwidth": instead(lambda law, x, t, h, N, **kw: bias_variance.variance(law, x, t, np.asarray(h) / 2, N, **kw)),
    },
)
def sums_over_the_law(predict: Any = bias_variance.variance, *, generator: torch.Generator) -> Numbers:
    """The package's double integral against the single one, by sums over a law's points and a grid for the kernel."""
    worst = 0.0
    for case, (which, x, t, spread) in enumerate(_CASES):
        name, law, _, _ = _laws()[which]
        h = np.array(spread) if isinstance(spread, tuple) else spread
        found = predict(law, x, t, h, 7.0, accuracy=1e-6)
        expected = _expected_variance(case) / 7
        worst = max(worst, agree(f"variance, {name}, x = {x}, t = {t}, h = {h}", found.value, expected, 1e-5 * expected))
        require(float(found.error) <= 1e-5 * expected, f"{name}: error estimate {float(found.error):.2g} of {expected:.3g}")
    return {"worst error/allowance": worst}


@check(
    "variance.double_integral",
    by="quadrature",
    mutants={
        "off by 1e-3": _scaled(lambda t, N: 1 + 1e-3),
        "root of N": _scaled(lambda t, N: math.sqrt(N)),
        "not smoothed": instead(lambda law, x, t, h, N, **kw: bias_variance.variance(law, x, t, 0.0, N)),
        "unmollified at t + h": instead(lambda law, x, t, h, N, **kw: bias_variance.variance(law, x, t + h, 0.0, N)),
    },
)
def fourier_modes_of_the_circle(predict: Any = bias_variance.variance, *, generator: torch.Generator) -> Numbers:
    """On the circle, where Fourier modes are independent: sums over modes with Bessel functions; no density of points, no grid in R^2."""
    worst = 0.0
    for t, h in ((0.004, 0.002), (0.004, 0.008), (0.02, 0.0)):
        found, expected = predict(Circle(), (0.6, 0.8), t, h, 7.0, accuracy=1e-5), circle_noise(t, h)[0] / 7
        worst = max(worst, agree(f"circle, t = {t}, h = {h}", found.value, expected, 1e-4 * expected))
    return {"worst error/allowance": worst}
