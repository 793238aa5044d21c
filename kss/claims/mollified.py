"""Chapter "Mollified scores and the LED-KDE": gradients, Jensen, Gaussian laws, linear manifolds, curvature, compact kernels."""

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import optimize, special

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Circle, Empirical, Gaussian, GaussianMixture, Sphere
from kss.kernels import BallKernel, GaussianKernel
from kss.scores import BiasCorrected, LedKde, Mollified, TimeShifted
from kss.testing.compare import agree, require
from kss.testing.properties import for_all, numpy_generator
from kss.theory import closing, gradient_flow, heat, mollification

CHAPTER = "mollified"
EPSILON = torch.finfo(torch.float64).eps
PAPER = "Gabriel, Ged, Han Veiga and Schertzer, arXiv 2505.22841 v1"

Numbers = dict[str, Any]


# --- References: averages over a kernel by sums of their own -----------------------------------------------------------------


def _log_density(points: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """`log p_t^N` of data (N, d) at x (..., d), which may be complex; without the power of 2 pi t."""
    exponent = -((x[..., None, :] - points) ** 2).sum(-1) / (2 * t)
    most = exponent.real.max(-1, keepdims=True)
    return np.log(np.exp(exponent - most).sum(-1)) + most[..., 0]


def _nodes(dim: int, h: float, count: int, reach: float = 8.5) -> tuple[np.ndarray, np.ndarray]:
    """A plain grid for `N(0, h I)`: offsets (m, d) and weights, with the same reach on every axis."""
    axis = np.linspace(-reach, reach, count)
    grid = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), -1).reshape(-1, dim)
    weight = np.exp(-(grid**2).sum(-1) / 2)
    return math.sqrt(h) * grid, weight / weight.sum()


def _smoothed_log_density(points: np.ndarray, x: np.ndarray, t: float, h: float) -> np.ndarray:
    """`(G_h * log p_t^N)(x)` at one x (d,), up to the power of 2 pi t; x may be complex."""
    offsets, weight = _nodes(points.shape[1], h, 2001 if points.shape[1] == 1 else 121)
    return (weight * _log_density(points, x + offsets, t)).sum()


def _smoothed_score(points: np.ndarray, x: np.ndarray, t: float, h: float) -> np.ndarray:
    """Its gradient, by a complex step: `Im f(x + i e)/e` has no difference to lose digits in."""
    step = 1e-30 * math.sqrt(t)
    return np.array([_smoothed_log_density(points, x + 1j * step * e, t, h).imag / step for e in np.eye(len(x))])


def _cases(dims: tuple[int, ...], low: float, high: float) -> Any:
    """Data (N, d), x, t and h, with h/t between 1/30 and 30 on the line, 3 in the plane, where the reference has fewer nodes per axis."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    def at(d: int) -> Any:
        widest = 1.5 if d == 1 else 0.5
        return st.tuples(strategies.datasets(dim=d, most=6), strategies.arrays(d), strategies.variances(low, high), st.floats(-1.5, widest))

    return st.sampled_from(dims).flatmap(at).map(lambda c: (c[0].clamp(-4, 4), c[1], c[2], c[2] * 10 ** c[3]))


def _radial_score(k: int, radius: float, r: Any, t: float) -> Any:
    """Radial component of the score of the uniform law on a k-sphere, from Bessel functions: `(R I_{nu+1}/I_nu - r)/t`, nu = (k-1)/2."""
    kappa = r * radius / t
    return (radius * special.ive((k + 1) / 2, kappa) / special.ive((k - 1) / 2, kappa) - r) / t


def _smoothed_radial_score(k: int, radius: float, r: float, t: float, h: float) -> float:
    """`(G_h * s)(r e_1) . e_1` in R^{k+1}: Gauss-Hermite along e_1, Gauss-Laguerre for the squared length across."""
    z, wz = special.roots_hermitenorm(80)
    u, wu = special.roots_genlaguerre(40, k / 2 - 1)  # |across|^2 = 2 h u
    along, across = r + math.sqrt(h) * z[:, None], 2 * h * u
    length = np.sqrt(along**2 + across)
    value = _radial_score(k, radius, length, t) * along / length
    return float((wz[:, None] * wu * value).sum() / (wz.sum() * wu.sum()))


def _spiral_bias(theta: float, t: float, h: float) -> tuple[float, float, float, float]:
    """On the spiral `gamma = theta (cos theta, sin theta)`, uniform in theta on [5, 14], at one of its points: the bias along and across.

    Then the curvature there, and its derivative in arc length. Sums over 30000 points of the curve and a grid for the kernel.
    """
    angle = np.linspace(5, 14, 30001)
    curve = angle[:, None] * np.stack((np.cos(angle), np.sin(angle)), -1)
    radial, turn = np.array([math.cos(theta), math.sin(theta)]), np.array([-math.sin(theta), math.cos(theta)])
    x, speed = theta * radial, math.sqrt(1 + theta**2)
    tangent = (radial + theta * turn) / speed
    curve = curve[np.linalg.norm(curve - x, axis=-1) < 9 * math.sqrt(h) + 18 * math.sqrt(t)]
    offsets, weight = _nodes(2, h, 35, reach=7.0)
    offsets, weight = offsets[weight > 1e-12], weight[weight > 1e-12]
    total = np.zeros(2)
    for place, mass in ((x, -1.0), *zip(x + offsets, weight / weight.sum(), strict=True)):
        chord = curve - place
        exponent = -(chord**2).sum(-1) / (2 * t)
        w = np.exp(exponent - exponent.max())
        total += mass * (w @ chord) / (w.sum() * t)
    curvature, slope = (theta**2 + 2) / speed**3, -theta * (theta**2 + 4) / speed**6
    return float(total @ tangent), float(total @ np.array([-tangent[1], tangent[0]])), curvature, slope


# --- Definition -----------------------------------------------------------------------------------------------------------

claim(
    "mollified.led_kde",
    title="A mollified score is the score of a density, the LED-KDE",
    statement=r"""Let $K \ge 0$ be a centered kernel with finite second moment. The mollified empirical score is a gradient,

$$\tilde s_t^N = K * s_t^N = \nabla\left(K * \log p_t^N\right),$$

and $q_t = \exp(K * \log p_t^N)/Z$, the **LED-KDE**, is a probability density, with $0 < Z \le 1$. Beyond any half-space that holds the
data its score points back at least as strongly as for one point,

$$\langle \tilde s_t^N(x), n\rangle \le -\frac{\delta}{t} \qquad\text{if } \langle x - x_i, n \rangle \ge \delta \ \text{ for all } i,
\quad |n| = 1.$$""",
    source=f"{PAPER}, definition 1 and section 4 (the density); the bound derived here",
    regime=r"""Every finite data set, every $x$, every $t > 0$; $K$ a symmetric probability kernel with finite second moment, the same
at every point. Checked for Gaussian $K$ on $\mathbb R$ and $\mathbb R^2$.""",
    uses=("empirical.softmax", "heat.tweedie"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.led_kde",
    by="quadrature",
    mutants={
        "off by 1e-5": returns(lambda score, *_: score * (1 + 1e-5)),
        "not smoothed": instead(lambda mollified, x, t: mollified.base.score(x, t)),
        "standard deviation for variance": instead(
            lambda mollified, x, t: Mollified(mollified.base, GaussianKernel(float(mollified.kernel.bandwidth) ** 0.5)).score(x, t)
        ),
        "score of the density smoothed": instead(
            lambda mollified, x, t: TimeShifted(mollified.base, mollified.kernel.bandwidth).score(x, t)
        ),
        "denoiser for score": instead(lambda mollified, x, t: mollified.denoise(x, t)),
    },
)
def gradient_of_the_smoothed_logarithm(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """The package's average of scores against the derivative of a plain sum over logarithms; and the pull from outside."""
    worst = 0.0

    def test(case: tuple[torch.Tensor, np.ndarray, float, float]) -> None:
        nonlocal worst
        points, x, t, h = case
        law = Empirical(points)
        mollified = Mollified(law, GaussianKernel(h))
        expected = _smoothed_score(points.numpy(), x, t, h)
        # Default accuracy is 1e-7; both sums carry the rounding of exponents of size (distance)^2/t.
        size = 1 + (np.abs(x).max() + float(points.abs().max()) + 9 * math.sqrt(h)) ** 2 / t
        allowed = 3e-7 * np.linalg.norm(expected) + 64 * EPSILON * size * math.sqrt(size / t)
        got = predict(mollified, torch.from_numpy(x), t)
        worst = max(worst, agree(f"smoothed score of {points.tolist()} at {x}, t = {t}, h = {h}", got, expected, allowed))
        # In direction n = e_1, from delta beyond the last point.
        for delta in (1e-3, 1.0, 30.0):
            y = torch.from_numpy(x).clone()
            y[0] = points[:, 0].max() + delta
            outward = float(predict(mollified, y, t)[0])
            require(
                outward <= -delta / t + 1e-6 * delta / t + allowed,
                f"outward score {outward:.9g} > -{delta}/{t} for {points.tolist()}, h = {h}",
            )

    tried = for_all(_cases((1, 2), -1.5, 1.0), test, generator=generator, examples=25)
    return tried | {"worst error/allowance": worst}


# --- Jensen ---------------------------------------------------------------------------------------------------------------

claim(
    "mollified.jensen",
    title="Before normalization the LED-KDE lies below the KDE with the same kernels",
    statement=r"""For every probability kernel $K$,

$$K * \log p_t \le \log (K * p_t) ,$$

strictly if $K$ has a density. For $K = G_h$ the right side is $\log p_{t+h}$ and the gap is
$\tfrac h2 |s_t|^2 + O(h^2)$.""",
    source=f"{PAPER}, section 4; Jensen's inequality; the gap derived here",
    regime=r"""Every law $p_*$ with finite second moment, every $t > 0$, $K \ge 0$ with finite second moment; the gap at fixed $x$ and
$t$, $h \to 0$. **Not** for the normalized density, and **not** for signed kernels.""",
    uses=("mollified.led_kde",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.jensen",
    by="proof",
    mutants={
        "half forgotten": returns(lambda gap, *_: 2 * gap),
        "sign": returns(lambda gap, *_: -gap),
        "variance for standard deviation": instead(lambda square, h: h**2 * square / 2),
    },
)
def gap_to_first_order(predict: Any = mollification.jensen_gap, *, generator: torch.Generator) -> Numbers:
    """In three dimensions: `d/dh` at h = 0 of `log (G_h * e^u) - G_h * u` is `(Lap e^u)/(2 e^u) - (Lap u)/2`, for any function u."""
    import sympy

    x, h = sympy.symbols("x1 x2 x3", real=True), sympy.Symbol("h", positive=True)
    u = sympy.Function("u")(*x)
    density = sympy.exp(u)
    rate = sum(sympy.diff(density, a, 2) / density - sympy.diff(u, a, 2) for a in x) / 2
    remainder = sympy.simplify(sympy.expand(h * rate - predict(sum(sympy.diff(u, a) ** 2 for a in x), h)))
    require(remainder == 0, f"gap - prediction = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "mollified.jensen",
    by="quadrature",
    mutants={
        "logarithm of the mean": instead(lambda mollified, x, t: mollified.base.log_density(x, t + float(mollified.kernel.bandwidth))),
        "higher by 1e-5": returns(lambda value, *_: value + 1e-5),
        "not smoothed": instead(lambda mollified, x, t: mollified.base.log_density(x, t)),
        "twice the variance": instead(
            lambda mollified, x, t: Mollified(mollified.base, mollified.kernel.scaled(2.0)).unnormalized_log_density(x, t)
        ),
    },
)
def mean_logarithm_and_the_inequality(predict: Any = Mollified.unnormalized_log_density, *, generator: torch.Generator) -> Numbers:
    """The package's `K * log p_t` against a plain sum, and both below `log p_{t+h}` from the definition."""
    worst, least = 0.0, math.inf

    def test(case: tuple[torch.Tensor, np.ndarray, float, float]) -> None:
        nonlocal worst, least
        points, x, t, h = case
        d = len(x)
        mean = float(_smoothed_log_density(points.numpy(), x, t, h).real) - d / 2 * math.log(2 * math.pi * t) - math.log(len(points))
        size = 1 + (np.abs(x).max() + float(points.abs().max()) + 9 * math.sqrt(h)) ** 2 / t
        allowed = 3e-7 + 64 * EPSILON * size
        got = float(predict(Mollified(Empirical(points), GaussianKernel(h)), torch.from_numpy(x), t))
        worst = max(worst, agree(f"K * log p for {points.tolist()} at {x}, t = {t}, h = {h}", got, mean, allowed))
        above = float(_log_density(points.numpy(), x, t + h)) - d / 2 * math.log(2 * math.pi * (t + h)) - math.log(len(points))
        require(got <= above + allowed, f"K * log p = {got:.9g} > log K * p = {above:.9g} for {points.tolist()} at {x}, t = {t}, h = {h}")
        least = min(least, above - got)

    tried = for_all(_cases((1, 2), -1.5, 1.0), test, generator=generator, examples=25)
    return tried | {"worst error/allowance": worst, "smallest gap": least}


claim(
    "mollified.jensen_normalized",
    title="Normalized, the LED-KDE lies below the KDE; and signed kernels obey Jensen too",
    statement=r"""It is tempting to read {claim}`mollified.jensen` as "LED-KDE $\le$ KDE". Both parts of the title are false.
Normalized, neither lies below the other: for two points at $\pm 1$, $t = 0.05$ and $h = 0.2$ the LED-KDE is larger than the KDE at
$x = 1$ and smaller at $x = 0$. For the signed kernel $2 G_h - G_{2h}$ the inequality fails before normalization: for the same data,
$t = h = 0.1$, at $x = 0$.""",
    source="derived here",
    regime=r"""Two densities with the same integral: one can lie below the other only if they are equal, so this is no accident of the
example. The example is in $\mathbb R$, data $\{-1, 1\}$.""",
    uses=("mollified.jensen",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "mollified.jensen_normalized",
    by="counterexample",
    mutants={
        "not normalized": returns(lambda value, density, x: value + density.log_normalizer),
        "KDE": instead(lambda density, x: density.law.log_density(x, density.t + float(density.kernel.bandwidth))),
        "off by 1 %": returns(lambda value, *_: value + 0.01),
    },
)
def normalized_led_kde_of_two_points(predict: Any = LedKde.log_density, *, generator: torch.Generator) -> Numbers:
    """`q_t` by a sum of its own, normalized by a sum of its own, and its ratio to the KDE at 0 and 1."""
    points, t, h = np.array([[-1.0], [1.0]]), 0.05, 0.2
    grid = np.linspace(-4, 4, 1601)  # the sum of a smooth density that vanishes at both ends is exact to rounding
    logs = np.array([_smoothed_log_density(points, np.array([v]), t, h) for v in grid])
    log_normalizer = math.log(np.exp(logs - logs.max()).sum() * (grid[1] - grid[0])) + logs.max()
    require(log_normalizer - math.log(2) - math.log(2 * math.pi * t) / 2 < 0, "Z > 1, against Jensen's inequality")
    places = np.array([0.0, 1.0])
    expected = np.array([_smoothed_log_density(points, np.array([v]), t, h) for v in places]) - log_normalizer
    got = predict(LedKde(Empirical(points), GaussianKernel(h), t), torch.from_numpy(places).unsqueeze(-1)).numpy()
    agree("log of the LED-KDE at 0 and 1", got, expected, 1e-3)
    kde = _log_density(points, places[:, None], t + h) - math.log(2) - math.log(2 * math.pi * (t + h)) / 2
    ratio = np.exp(got - kde)
    require(ratio[1] > 1.05 and ratio[0] < 0.95, f"LED-KDE/KDE = {ratio[0]:.4f} at 0 and {ratio[1]:.4f} at 1")
    return {"LED-KDE/KDE at 0": float(ratio[0]), "at 1": float(ratio[1])}


@check(
    "mollified.jensen_normalized",
    by="counterexample",
    mutants={
        "positive kernel": instead(lambda corrected, x, t: corrected.narrow.unnormalized_log_density(x, t)),
        "off by 1 %": returns(lambda value, *_: value + 0.01),
        "weights exchanged": instead(
            lambda corrected, x, t: 2 * corrected.wide.unnormalized_log_density(x, t) - corrected.narrow.unnormalized_log_density(x, t)
        ),
    },
)
def signed_kernel_on_two_points(predict: Any = BiasCorrected.unnormalized_log_density, *, generator: torch.Generator) -> Numbers:
    """`2 G_h * log p - G_2h * log p` against `log(2 p_{t+h} - p_{t+2h})` at the middle of two points."""
    points, t, h = np.array([[-1.0], [1.0]]), 0.1, 0.1
    x = np.zeros(1)
    constant = math.log(2) + math.log(2 * math.pi * t) / 2
    expected = 2 * _smoothed_log_density(points, x, t, h) - _smoothed_log_density(points, x, t, 2 * h) - constant

    def density(u: float) -> float:
        return math.exp(-1 / (2 * u)) / math.sqrt(2 * math.pi * u)

    above = math.log(2 * density(t + h) - density(t + 2 * h))
    got = float(predict(BiasCorrected(Empirical(points), GaussianKernel(h)), torch.from_numpy(x), t))
    agree("signed average of log p at 0", got, float(expected), 1e-5)
    require(got > above + 0.5, f"signed average {got:.6f}, logarithm of the signed average {above:.6f}")
    return {"signed average of the logarithm": got, "logarithm of the signed average": above}


# --- What smoothing keeps -----------------------------------------------------------------------------------------------------

claim(
    "mollified.hessian",
    title="Smoothing keeps every bound on the Hessian, log-concavity among them",
    statement=r"""If $A \preceq \nabla^2 \log p_t(y) \preceq B$ for all $y$, then $A \preceq \nabla^2 (K * \log p_t)(x) \preceq B$ for
all $x$, because $\nabla \tilde s_t = K * \nabla s_t$ is an average. In particular $\nabla \tilde s_t \succeq -I/t$, and the LED-KDE of
a log-concave density is log-concave.""",
    source=f"{PAPER}, section 4 (log-concavity); derived here",
    regime=r"""$K \ge 0$ with finite second moment, symmetric; every $p_*$ and $t > 0$. Not for signed kernels.""",
    uses=("mollified.led_kde", "heat.hessian_bound"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.hessian",
    by="quadrature",
    mutants={
        "steeper by 1e-5": returns(lambda score, *_: score * (1 + 1e-5)),
        "not smoothed": instead(lambda mollified, x, t: mollified.base.score(x, t)),
        "signed kernel": instead(lambda mollified, x, t: BiasCorrected(mollified.base, mollified.kernel).score(x, t)),
        "sign": returns(lambda score, *_: -score),
    },
)
def slope_of_a_two_humped_law(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """`N(-a, v)/2 + N(a, v)/2`: the slope of its score is `-1/w + (a/w)^2 sech^2(ax/w)`, w = v + t, log-concave if a^2 <= w."""
    rng, worst, steepest = numpy_generator(generator), 0.0, -math.inf
    for a, v, t in ((0.5, 0.05, 0.2), (0.5, 0.2, 0.3), (1.0, 0.01, 0.2)):
        w = v + t
        law = GaussianMixture([[-a], [a]], [[v]])
        for h, place in itertools.product((0.02, 0.5), rng.uniform(-2, 2, 2)):
            offsets, weight = _nodes(1, h, 4001)
            expected = float((weight * (-1 / w + (a / w) ** 2 / np.cosh(a * (place + offsets[:, 0]) / w) ** 2)).sum())
            mollified = Mollified(law, GaussianKernel(h), accuracy=1e-8)
            x = torch.tensor([place], dtype=torch.float64)
            slope = float(torch.func.jvp(lambda y, m=mollified, t=t: predict(m, y, t), (x,), (torch.ones_like(x),))[1])
            # The average is refined for the score, to 1e-8 of its size; its slope follows on the scale of the law.
            worst = max(worst, agree(f"slope at {place}, a = {a}, w = {w}, h = {h}", slope, expected, 1e-6 / w))
            require(-1 / w - 1e-6 / w <= slope <= -1 / w + (a / w) ** 2 + 1e-6 / w, f"slope {slope:.9g} leaves its bounds at {place}")
            if a * a <= w:
                steepest = max(steepest, slope)
    return {"worst error/allowance": worst, "largest slope of a log-concave law": steepest}


claim(
    "mollified.gaussian",
    title="Smoothing leaves Gaussian laws alone",
    statement=r"""If $p_* = \mathcal N(\mu, S)$ then $K * s_t = s_t$: a linear function is its own average over every centered kernel.
Mollification has no bias on Gaussian laws, at any $h$.""",
    source="derived here",
    regime=r"""$p_*$ Gaussian, singular or not; $K$ centered with $\int K = 1$ and finite first moment, of either sign; $t > 0$. It is
*not* so for the KDE, whose covariance grows by that of $K$.""",
    uses=("heat.tweedie",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.gaussian",
    by="property",
    mutants={
        "off by 1e-8": returns(lambda score, *_: score * (1 + 1e-8)),
        "score at t + h": instead(
            lambda mollified, x, t: TimeShifted(mollified.base, mollified.kernel.covariance(t, x.shape[-1])[0, 0]).score(x, t)
        ),
        "denoiser for score": instead(lambda mollified, x, t: mollified.denoise(x, t)),
    },
)
def linear_scores_are_their_own_average(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """Random Gaussian laws in dimension 1 to 3 and five kinds of kernel, against `-(S + t I)^{-1}(x - mu)` by a linear solve."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    worst = 0.0

    def test(drawn: tuple[np.ndarray, torch.Tensor, np.ndarray, float, float, int]) -> None:
        nonlocal worst
        mu, covariance, x, t, h, kind = drawn
        d = len(mu)
        scale = torch.diag(torch.arange(1, d + 1, dtype=torch.float64))
        kernel = (
            GaussianKernel(h),
            GaussianKernel(h * scale),
            GaussianKernel(lambda u: h * u),
            BallKernel(math.sqrt(h)),
            GaussianKernel(h * torch.ones(d, d, dtype=torch.float64)),  # singular
        )[kind]
        matrix = covariance.numpy() + t * np.eye(d)
        expected = np.linalg.solve(matrix, mu - x)
        # Nodes at up to 8 standard deviations, each with a relative rounding of a few units, times the condition number.
        reach = np.abs(mu - x).max() + 8 * math.sqrt(3 * h * max(t, 1.0))
        allowed = 64 * EPSILON * np.linalg.cond(matrix) * reach / np.linalg.eigvalsh(matrix)[0]
        got = predict(Mollified(Gaussian(mu, covariance), kernel), torch.from_numpy(x), t)
        worst = max(worst, agree(f"smoothed score of N({mu.tolist()}, {covariance.tolist()}), {kernel}, t = {t}", got, expected, allowed))

    def at(d: int) -> Any:
        variances, vectors = strategies.variances, strategies.arrays(d)
        return st.tuples(vectors, strategies.covariances(d), vectors, variances(-2, 2), variances(-2, 1), st.integers(0, 4))

    return for_all(st.integers(1, 3).flatmap(at), test, generator=generator, examples=40) | {"worst error/allowance": worst}


# --- Linear manifolds -----------------------------------------------------------------------------------------------------

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
    uses=("mollified.led_kde",),
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

    rng, worst = numpy_generator(generator), 0.0

    def test(drawn: tuple[tuple[torch.Tensor, np.ndarray, float, float], int]) -> None:
        nonlocal worst
        (points, along, t, h), d = drawn
        q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        shift, across = rng.standard_normal(d), rng.standard_normal(d - 1) * math.sqrt(t)
        data = points.numpy() @ q[:, :1].T + shift
        x = q @ np.concatenate((along, across)) + shift
        local = np.concatenate((_smoothed_score(points.numpy(), along, t, h), -across / t))
        got = predict(Mollified(Empirical(data), GaussianKernel(h), accuracy=1e-7), torch.from_numpy(x), t)
        size = 1 + (np.abs(x).max() + np.abs(data).max() + 9 * math.sqrt(h)) ** 2 / t
        allowed = 3e-7 * np.linalg.norm(local) + 64 * EPSILON * size * math.sqrt(size / t)
        worst = max(worst, agree(f"score off a line in R^{d}, data {points.tolist()}, t = {t}, h = {h}", got, q @ local, allowed))

    # In three dimensions the package's grid has its limits: bandwidths up to t.
    planar = st.tuples(_cases((1,), -1.0, 1.0), st.just(2))
    spatial = st.tuples(_cases((1,), -1.0, 1.0).map(lambda c: (*c[:3], min(c[3], c[2]))), st.just(3))
    return for_all(st.one_of(planar, spatial), test, generator=generator, examples=16) | {"worst error/allowance": worst}


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


# --- Bias -----------------------------------------------------------------------------------------------------------------

claim(
    "mollified.expansion",
    title="To first order smoothing adds the Laplacian of the score",
    statement=r"""$$K * s_t = s_t + \frac h2 \Delta s_t + O(h^2) = s_t + \frac h2 \nabla \Delta \log p_t + O(h^2).$$""",
    source=f"{PAPER}, section 4; Taylor's formula",
    regime=r"""Every law, fixed $t > 0$, fixed $x$, $h \to 0$; $K$ symmetric with covariance $h I$ and a fourth moment of order $h^2$. The
remainder is of the size of $h^2 \Delta^2 s_t$: between data points the expansion asks for $\sqrt h \ll t/\text{(their distance)}$,
near a manifold for $h$ far below its squared reach.""",
    uses=("mollified.led_kde",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.expansion",
    by="proof",
    mutants={
        "half forgotten": returns(lambda bias, *_: 2 * bias),
        "h squared": instead(lambda laplacian, h: h**2 * laplacian / 2),
        "sign": returns(lambda bias, *_: -bias),
    },
)
def monomials(predict: Any = mollification.leading_bias, *, generator: torch.Generator) -> Numbers:
    """Every monomial of degree <= 4 in three variables: its mean under `N(0, h I)` from the moments, and the coefficient of h."""
    import sympy

    x, z = sympy.symbols("x1 x2 x3", real=True), sympy.symbols("z1 z2 z3", real=True)
    root, h = sympy.Symbol("r", positive=True), sympy.Symbol("h", positive=True)
    count = 0
    for powers in itertools.product(range(5), repeat=3):
        if sum(powers) > 4:
            continue
        f = sympy.Mul(*[a**n for a, n in zip(x, powers, strict=True)])
        shifted = sympy.Poly(sympy.expand(f.subs({a: a + root * b for a, b in zip(x, z, strict=True)}, simultaneous=True)), *z, root)
        # E z^n = (n - 1)!! for even n, else 0; h = r^2.
        moments = [sympy.Mul(*[0 if m % 2 else sympy.factorial2(m - 1) for m in n[:3]]) for n, _ in shifted.terms()]
        first = sum(c * moment * h for (n, c), moment in zip(shifted.terms(), moments, strict=True) if n[3] == 2)
        remainder = sympy.expand(first - predict(sum(sympy.diff(f, a, 2) for a in x), h))
        require(remainder == 0, f"coefficient of h for {f}: off by {remainder}")
        count += 1
    return {"monomials": count}


@check(
    "mollified.expansion",
    by="rate",
    mutants={
        "half forgotten": returns(lambda bias, *_: 2 * bias),
        "standard deviation for variance": instead(lambda laplacian, h: math.sqrt(h) * laplacian / 2),
        "off by 1 %": returns(lambda bias, *_: 1.01 * bias),
    },
)
def remainder_is_of_second_order(predict: Any = mollification.leading_bias, *, generator: torch.Generator) -> Numbers:
    """On the score of two humps: the remainder against `(h^2/8) s^(4)`, within the bound of the next term of Taylor's formula."""
    scale, slopes, worst = 1 / 0.7, [], 0.0  # the part of the score that is not linear is a multiple of tanh(scale x)
    for place in (0.3, 0.9):
        u, remainders = math.tanh(scale * place), []
        second, fourth = -2 * u * (1 - u**2) * scale**2, 8 * u * (1 - u**2) * (2 - 3 * u**2) * scale**4
        for h in (0.016, 0.008, 0.004):
            offsets, weight = _nodes(1, h, 4001)
            smoothed = float((weight * np.tanh(scale * (place + offsets[:, 0]))).sum())
            remainder = smoothed - u - float(predict(second, h))
            # E V^6/720 = h^3/48; the sixth derivative of tanh stays below 300.
            agree(f"remainder at {place}, h = {h}", remainder, h**2 / 8 * fourth, h**3 / 48 * 300 * scale**6 + 1e-14)
            worst = max(worst, abs(remainder / (h**2 / 8 * fourth) - 1))
            remainders.append(abs(remainder))
        slopes += [math.log2(p / q) for p, q in itertools.pairwise(remainders)]
    require(all(1.8 < slope < 2.2 for slope in slopes), f"slopes {slopes}: neither 1 nor 3")
    return {"remainder against h^2 s''''/8, relative": worst, "slopes": str([round(slope, 3) for slope in slopes])}


# --- Curvature ------------------------------------------------------------------------------------------------------------

claim(
    "mollified.curvature",
    title="On a curved manifold smoothing pulls towards the center of curvature",
    statement=r"""At a point of a smooth $k$-dimensional manifold $M$ with mean-curvature vector $H$ (the trace of the second
fundamental form: $|H| = k/R$ on the $k$-sphere of radius $R$), the normal part of the bias is

$$\left(G_h * s_t - s_t\right)^\perp = \frac{h}{2t}\, H + O\left(\frac{h}{tR}\cdot\frac{h + t}{R^2}\right).$$""",
    source=f"{PAPER}, section 4 (the effect); constant derived here",
    regime=r"""$M$ closed; $R$ at most the reach, and a length on which curvature and $\log p_M$ vary (their $j$-th derivatives are of order
$R^{-1-j}$ and $R^{-j}$); $\sqrt t, \sqrt h \ll R$, nothing asked of $h/t$. Derived in general; computed for the uniform law on the
$k$-spheres, $k = 1, 2, 3$, and for a spiral, at points of $M$, $(h + t)/R^2 \le 0.02$.""",
    uses=("mollified.expansion",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "mollified.curvature",
    by="proof",
    mutants={
        "variance for its half": returns(lambda bias, *_: 2 * bias),
        "away from the center": returns(lambda bias, *_: -bias),
        "one over t squared": instead(lambda curvature, h, t: h * curvature / (2 * t**2)),
    },
)
def small_time_expansion_on_spheres(predict: Any = mollification.normal_bias, *, generator: torch.Generator) -> Numbers:
    """Laplace's method gives `log p_t = -(r - R)^2/2t - (k/2) log r + const + O(t)`; `(h/2) d/dr Lap` of it at r = R, times t, as t ->
    0.
    """
    import sympy

    r, radius, t, h, k = sympy.symbols("r R t h k", positive=True)
    log_density = -((r - radius) ** 2) / (2 * t) - k / 2 * sympy.log(r)
    laplacian = sympy.diff(log_density, r, 2) + k / r * sympy.diff(log_density, r)
    bias = (h / 2 * sympy.diff(laplacian, r)).subs(r, radius)
    remainder = sympy.simplify(sympy.limit(sympy.expand(t * bias), t, 0) - t * predict(-k / radius, h, t))
    require(remainder == 0, f"t (bias - prediction) = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "mollified.curvature",
    by="quadrature",
    mutants={
        "k forgotten": instead(lambda curvature, h, t: h / (2 * t) * np.sign(curvature)),
        "half forgotten": returns(lambda bias, *_: 2 * bias),
        "off by 2 %": returns(lambda bias, *_: 1.02 * bias),
        "t + h for t": instead(lambda curvature, h, t: h * curvature / (2 * (t + h))),
    },
)
def bias_on_spheres(predict: Any = mollification.normal_bias, *, generator: torch.Generator) -> Numbers:
    """From Bessel functions: `bias/prediction - 1` is at most `2 (h + t)/R^2` in size, and falls with it, for h/t from 1/10 to 10."""
    worst, numbers = 0.0, {}
    for k, radius, ratio in itertools.product((1, 2, 3), (1.0, 2.5), (0.1, 1.0, 10.0)):
        for total in (1.6e-2, 4e-3, 1e-3):
            t = total * radius**2 / (1 + ratio)
            h = ratio * t
            bias = _smoothed_radial_score(k, radius, radius, t, h) - _radial_score(k, radius, radius, t)
            predicted = float(predict(-k / radius, h, t))
            # The next terms: 3(2 - k)/4 h/R^2 (appendix of the chapter) and a multiple of t/R^2 below k.
            worst = max(
                worst, agree(f"bias for k = {k}, R = {radius}, t = {t:.3g}, h = {h:.3g}", bias, predicted, 2 * total * abs(predicted))
            )
    t, h = 1e-2, 1e-3
    numbers["circle, t = 0.01, h = 0.001"] = _smoothed_radial_score(1, 1.0, 1.0, t, h) - _radial_score(1, 1.0, 1.0, t)
    return numbers | {"worst error/allowance": worst}


@check(
    "mollified.curvature",
    by="quadrature",
    mutants={
        "not smoothed": instead(lambda mollified, x, t: mollified.base.score(x, t)),
        "off by 1e-5": returns(lambda score, *_: score * (1 + 1e-5)),
        "score at t + h": instead(lambda mollified, x, t: TimeShifted(mollified.base, mollified.kernel.bandwidth).score(x, t)),
    },
)
def package_on_circle_and_sphere(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """The package's average of the exact score of circle and 2-sphere, on them and off, against the two-dimensional sum over Bessel
    functions.
    """
    rng, worst = numpy_generator(generator), 0.0
    for k, (t, h) in itertools.product((1, 2), ((1e-2, 1e-3), (3e-2, 3e-2), (0.3, 0.5))):
        for r in (1.0, float(rng.uniform(0.7, 1.3))):
            direction = rng.standard_normal(k + 1)
            x = torch.from_numpy(r * direction / np.linalg.norm(direction))
            law = Circle(1.0) if k == 1 else Sphere(k, 1.0)
            expected = _smoothed_radial_score(k, 1.0, r, t, h)
            got = predict(Mollified(law, GaussianKernel(h), accuracy=1e-7), x, t)
            # Relative to the slope of the score times the kernel's width; the sum over Bessel functions is exact to 1e-7 of it.
            allowed = 1e-6 * (abs(expected) + math.sqrt(h) / t)
            worst = max(worst, agree(f"k = {k}, r = {r}, t = {t}, h = {h}", got, expected * x.numpy() / r, allowed))
    return {"worst error/allowance": worst}


@check(
    "mollified.curvature",
    by="quadrature",
    mutants={
        "half forgotten": returns(lambda bias, *_: 2 * bias),
        "off by 2 %": returns(lambda bias, *_: 1.02 * bias),
        "curvature squared": instead(lambda curvature, h, t: h / (2 * t) * curvature**2),
    },
)
def bias_on_a_spiral(predict: Any = mollification.normal_bias, *, generator: torch.Generator) -> Numbers:
    """Where curvature and density vary: across the curve `bias/prediction - 1` is at most `2 (h + t) kappa^2` in size."""
    worst = 0.0
    for theta, (t, h) in itertools.product((7.0, 11.0), ((0.04, 0.04), (0.02, 0.08), (0.08, 0.02))):
        _, across, curvature, _ = _spiral_bias(theta, t, h)
        predicted = float(predict(curvature, h, t))
        allowed = 2 * (h + t) * curvature**2 * predicted
        worst = max(worst, agree(f"bias across the spiral at {theta}, t = {t}, h = {h}", across, predicted, allowed))
    return {"worst error/allowance": worst}


claim(
    "mollified.tangential",
    title="Along the manifold the bias is smaller, but for h above t not of order h",
    statement=r"""Next to a plane curve with curvature $\kappa(\ell)$, $\ell$ the arc length, at the distance $\nu$ from it (positive on the
side of the center of curvature), the tangential part of the bias is

$$\left(G_h * s_t - s_t\right)^\parallel = \frac{h}{2t}\left(\nu + \frac h2 \kappa\right) \frac{d\kappa}{d\ell}
+ O\left(\frac{h}{tR^2} \left(\frac{|\nu|}{R} + \frac hR\right) \left(\frac{|\nu|}{R} + \frac{h + t}{R^2}\right)\right) + O(h).$$

On the curve it is of order $h$ for $h$ up to $t$ only, and $h^2/t$ beyond; a noise standard deviation away it is of order $h/\sqrt t$.""",
    source="derived here",
    regime=r"""Plane curve; $R$ and the density as in {claim}`mollified.curvature`; $\sqrt t, \sqrt h, |\nu| \ll R$. Computed on a
spiral, at points of the curve; the term in $\nu$ by symbolic expansion only.""",
    uses=("mollified.expansion", "mollified.curvature"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "mollified.tangential",
    by="proof",
    mutants={
        "quarter": returns(lambda bias, *_: bias / 2),
        "sign": returns(lambda bias, *_: -bias),
        "one order in h": instead(lambda curvature, slope, n, h, t: h * (n + curvature / 2) * slope / (2 * t)),
    },
)
def second_laplacian_next_to_a_curve(predict: Any = mollification.tangential_bias, *, generator: torch.Generator) -> Numbers:
    """`(h/2) grad Lap` and `(h^2/8) grad Lap^2` of `-n^2/2t` by a curve, in normal coordinates: metric `(1 - kappa n)^2 ds^2 + dn^2`."""
    import sympy

    s, n = sympy.symbols("s n", real=True)
    t, h = sympy.symbols("t h", positive=True)
    kappa = sympy.Function("kappa")(s)
    width = 1 - kappa * n

    def laplacian(f: Any) -> Any:
        return (sympy.diff(width * sympy.diff(f, n), n) + sympy.diff(sympy.diff(f, s) / width, s)) / width

    once = laplacian(-(n**2) / (2 * t))
    along = [sympy.diff(f, s) / width for f in (once, laplacian(once))]
    expected = h / 2 * n * sympy.diff(along[0], n).subs(n, 0) + h**2 / 8 * along[1].subs(n, 0)
    constant = sympy.simplify(along[0].subs(n, 0))
    remainder = sympy.simplify(expected - predict(kappa, sympy.diff(kappa, s), n, h, t))
    require(remainder == 0 and constant == 0, f"bias - prediction = {remainder}; of order h/t on the curve: {constant}")
    return {"remainder": str(remainder), "of order h/t on the curve": str(constant)}


@check(
    "mollified.tangential",
    by="quadrature",
    mutants={
        "first order only": instead(lambda curvature, slope, n, h, t: h * n * slope / (2 * t)),
        "half": returns(lambda bias, *_: bias / 2),
        "sign": returns(lambda bias, *_: -bias),
        "larger by a tenth": returns(lambda bias, *_: 1.1 * bias),
    },
)
def along_a_spiral(predict: Any = mollification.tangential_bias, *, generator: torch.Generator) -> Numbers:
    """At one h and two t the term O(h) drops out of the difference of the two biases."""
    theta, h, numbers = 7.0, 0.08, {}
    along, _, curvature, slope = _spiral_bias(theta, 0.01, h)
    coarse = _spiral_bias(theta, 0.02, h)[0]
    predicted = float(predict(curvature, slope, 0.0, h, 0.01)) - float(predict(curvature, slope, 0.0, h, 0.02))
    numbers["bias/h at t = 0.01"], numbers["at t = 0.02"] = along / h, coarse / h
    allowed = 8 * h * curvature**2 * abs(predicted)
    numbers["worst error/allowance"] = agree("difference of the biases along", along - coarse, predicted, allowed)
    return numbers


claim(
    "mollified.ridge",
    title="The LED-KDE's ridge moves inwards with t + h, its width only with t",
    statement=r"""For the uniform law on the $k$-sphere of radius $R$ the ridge (the sphere on which the radial component of the score
vanishes) lies at

$$R - \frac{k\,(t + h)}{2R} \left(1 + O\left(\frac{t + h}{R^2}\right)\right)$$

for the LED-KDE with kernels $G_t$, $G_h$, and for the KDE at $t + h$ alike. Across it the LED-KDE has the variance $t$, the KDE the
variance $t + h$, to the same relative accuracy.""",
    source="derived here",
    regime=r"""$t, h \ll R^2$; exact law (no noise of finite $N$), uniform on the sphere. The ridge of the *density* is meant: the
density of the radius, $r^k p_t(r)$, has its maximum outside of $R$, at $R + kt/2R$ for $h = 0$.""",
    uses=("mollified.curvature", "mollified.linear_manifold"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "mollified.ridge",
    by="quadrature",
    mutants={
        "h alone": instead(lambda k, radius, t, h: -k * h / (2 * radius)),
        "t alone": instead(lambda k, radius, t, h: -k * t / (2 * radius)),
        "outwards": returns(lambda offset, *_: -offset),
        "off by 4 %": returns(lambda offset, *_: 1.04 * offset),
        "k forgotten": returns(lambda offset, k, *_: offset / k),
    },
)
def ridges_of_spheres(predict: Any = mollification.ridge_offset, *, generator: torch.Generator) -> Numbers:
    """Zeros of the radial component of smoothed score and score at t + h, from Bessel functions; and the slopes there."""
    worst = 0.0
    for k, radius, (t, h) in itertools.product((1, 2, 3), (1.0, 2.0), ((5e-3, 5e-3), (2e-3, 8e-3), (1e-3, 1e-3))):
        t, h = t * radius**2, h * radius**2
        fields = {
            "LED-KDE": (partial(_smoothed_radial_score, k, radius, t=t, h=h), t),
            "KDE": (partial(_radial_score, k, radius, t=t + h), t + h),
        }
        for name, (field, variance) in fields.items():
            ridge = optimize.brentq(field, 0.8 * radius, 1.1 * radius, xtol=1e-13)
            offset, allowed = ridge - radius, 3 * (t + h) / radius**2
            what = f"ridge of the {name}, k = {k}, R = {radius}, t = {t:g}, h = {h:g}"
            worst = max(worst, agree(what, offset, predict(k, radius, t, h), allowed * abs(offset)))
            step = 1e-4 * math.sqrt(t)
            slope = (field(ridge + step) - field(ridge - step)) / (2 * step)
            agree(f"variance across the {what}", -1 / slope, variance, allowed * variance + 1e-6 * variance)
    # What only the smoothing moves, on the unit circle.
    t, h = 1e-2, 1e-3
    smoothed = optimize.brentq(partial(_smoothed_radial_score, 1, 1.0, t=t, h=h), 0.9, 1.1, xtol=1e-13)
    plain = optimize.brentq(partial(_radial_score, 1, 1.0, t=t), 0.9, 1.1, xtol=1e-13)
    shift = smoothed - plain
    return {"shift by smoothing, circle, t = 0.01, h = 0.001": shift, "worst error/allowance": worst}


# --- What a mollified score generates -----------------------------------------------------------------------------------------

claim(
    "mollified.gradient_flow",
    title="Reverse diffusion descends towards the LED-KDE of the moment, and is pushed",
    statement=r"""Let $\pi = q_t$ be the LED-KDE, $t = T - \tau$. The law $\rho_\tau$ of the reverse SDE
$dY_\tau = \nabla\log\pi(Y_\tau)\,d\tau + dB_\tau$ obeys

$$\partial_\tau \rho = \tfrac12 \nabla\!\cdot\!\left(\rho\, \nabla \log\frac{\rho}{\pi}\right) -
\tfrac12\nabla\!\cdot\!\left(\rho\,\nabla\log\pi\right).$$

The first term is the Wasserstein gradient descent of $\tfrac12 \mathrm{KL}(\rho\,\|\,\pi)$, the second a transport uphill on $\log\pi$. For
$\rho = \pi = p_t$ the first vanishes and the second is the reversed heat flow.""",
    source=f"{PAPER} (the reading); derived here",
    regime=r"""Any positive density $\pi$ with a smooth logarithm, so every LED-KDE with $t > 0$; smooth positive $\rho$. The descent is
towards a target that moves with $\tau$.""",
    uses=("heat.reversal_sde", "mollified.led_kde"),
    chapter=CHAPTER,
    verdict="holds",
)


def _reverse_rate(velocity: Any) -> tuple[Any, Any]:
    """In two dimensions: Fokker-Planck of the reverse SDE with drift `grad log pi`, minus the rate that a velocity gives."""
    import sympy

    x = sympy.symbols("x1 x2", real=True)
    rho, log_pi = sympy.Function("rho", positive=True)(*x), sympy.Function("u")(*x)
    score_of_rho, score_of_pi = [sympy.diff(sympy.log(rho), a) for a in x], [sympy.diff(log_pi, a) for a in x]
    fokker_planck = sum(sympy.diff(rho, a, 2) / 2 - sympy.diff(rho * s, a) for a, s in zip(x, score_of_pi, strict=True))
    moved = -sum(sympy.diff(rho * velocity(r, s), a) for a, r, s in zip(x, score_of_rho, score_of_pi, strict=True))
    return sympy.simplify(sympy.expand(fokker_planck - moved)), x


@check(
    "mollified.gradient_flow",
    by="proof",
    mutants={
        "half forgotten": returns(lambda velocity, *_: 2 * velocity),
        "uphill": returns(lambda velocity, *_: -velocity),
        "no target": instead(lambda score_of_q, score_of_pi: -score_of_q / 2),
    },
)
def descent_part(predict: Any = gradient_flow.descent_velocity, *, generator: torch.Generator) -> Numbers:
    """With the push added, the Fokker-Planck equation; and minus the gradient of the first variation of `(1/2) KL(rho || pi)`."""
    import sympy

    remainder, _ = _reverse_rate(lambda r, s: predict(r, s) + s / 2)
    require(remainder == 0, f"Fokker-Planck - prediction = {remainder}")
    x = sympy.Symbol("x", real=True)
    rho, log_pi, value = sympy.Function("rho", positive=True)(x), sympy.Function("u")(x), sympy.Symbol("r", positive=True)
    variation = sympy.diff(value * (sympy.log(value) - log_pi) / 2, value).subs(value, rho)
    gap = sympy.simplify(predict(sympy.diff(sympy.log(rho), x), sympy.diff(log_pi, x)) + sympy.diff(variation, x))
    require(gap == 0, f"velocity + gradient of the first variation = {gap}")
    return {"remainder": str(remainder)}


@check(
    "mollified.gradient_flow",
    by="proof",
    mutants={
        "whole score": returns(lambda velocity, *_: 2 * velocity),
        "downhill": returns(lambda velocity, *_: -velocity),
    },
)
def push_part(predict: Any = gradient_flow.push_velocity, *, generator: torch.Generator) -> Numbers:
    """With the descent added, the Fokker-Planck equation; alone, for the heat kernel, the heat equation run backward."""
    import sympy

    remainder, _ = _reverse_rate(lambda r, s: (s - r) / 2 + predict(s))
    require(remainder == 0, f"Fokker-Planck - prediction = {remainder}")
    x, t = sympy.Symbol("x", real=True), sympy.Symbol("t", positive=True)
    kernel = sympy.exp(-(x**2) / (2 * t)) / sympy.sqrt(2 * sympy.pi * t)
    backward = sympy.simplify(-sympy.diff(kernel, t) + sympy.diff(kernel * predict(sympy.diff(sympy.log(kernel), x)), x))
    require(backward == 0, f"reversed heat flow - transport = {backward}")
    return {"remainder": str(remainder)}


claim(
    "mollified.not_generated",
    title="Reverse diffusion with a mollified score generates the LED-KDE",
    statement=r"""At every $t$ the mollified score is the score of the LED-KDE $q_t$, which invites the conclusion that the reverse SDE
started from $q_T$ and driven by $\tilde s$ ends in $q_{t_{\min}}$. It does not. It would, if $\tilde s$ solved Burgers' equation, as
the score of a diffused law does ({claim}`heat.burgers`). Instead

$$\partial_t \tilde s = \tfrac12\Delta\tilde s + (\nabla\tilde s)\,\tilde s + \tfrac12\nabla\, \mathrm{Var}_V\, s_t(x + V), \qquad
\mathrm{Var}_V\, s = \mathbb E\,|s|^2 - |\mathbb E s|^2 ,$$

and the last term does not vanish: for the data $\pm 1$, $t = 0.3$, $h = 0.2$ it exceeds $\tfrac12$ in size at $x = 0.3$.""",
    source="derived here",
    regime=r"""Every law and kernel $K \ge 0$ that does not depend on $t$. The term vanishes where the score is affine on the reach of
the kernel: for Gaussian laws always.""",
    uses=("mollified.led_kde", "heat.burgers"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "mollified.not_generated",
    by="counterexample",
    mutants={
        "always zero": returns(lambda residual, *_: 0 * residual),
        "half forgotten": returns(lambda residual, *_: 2 * residual),
        "sign": returns(lambda residual, *_: -residual),
        "not smoothed": instead(lambda mollified, x, t: heat.burgers_residual(mollified.base, x, t)),
    },
)
def residual_is_the_gradient_of_a_variance(predict: Any = heat.burgers_residual, *, generator: torch.Generator) -> Numbers:
    """Residual of the package's mollified score on the line against `d/dx` of half the variance of `s = (tanh(x/t) - x)/t`, by a
    complex step.
    """
    numbers = {}
    for t, h in ((0.3, 0.2), (0.5, 1.0)):
        offsets, weight = _nodes(1, h, 4001)

        def half_variance(x: complex, t: float = t, v: Any = offsets[:, 0], w: Any = weight) -> complex:
            score = (np.tanh((x + v) / t) - (x + v)) / t
            return complex((w * score**2).sum() - (w * score).sum() ** 2) / 2

        places = np.array([-0.8, 0.3, 1.5])
        expected = np.array([half_variance(x + 1e-30j).imag / 1e-30 for x in places])
        score = Mollified(Empirical([[-1.0], [1.0]]), GaussianKernel(h), accuracy=1e-7)
        got = predict(score, torch.from_numpy(places)[:, None], t)[:, 0]
        # Second derivatives of an average that is refined to 1e-7 of its size, on the scale t of the score.
        agree(f"residual at t = {t}, h = {h}", got, expected, 1e-5 / t**2)
        numbers[f"at x = 0.3, t = {t}, h = {h}"] = float(got[1])
        require(abs(float(got[1])) > (0.5 if t == 0.3 else 0.1), f"residual {float(got[1]):.4g} at x = 0.3")
    return numbers


# --- Compact kernels ------------------------------------------------------------------------------------------------------

claim(
    "mollified.closing",
    title="With disc kernels the LED-KDE lives on a dilation followed by an erosion",
    statement=r"""Let $a$ be the radius of the disc put on each data point and $b$ that of the disc that smooths the logarithm. The
unnormalized LED-KDE is positive exactly where $\max_{|y - x| \le b} \operatorname{dist}(y, \{x_i\}) \le a$, that is, on the data dilated by
$a$ and then eroded by $b$ (up to boundaries); there is a LED-KDE if and only if this set has positive area.

- $a > b$: it is the *closing* by $b$ of the data dilated by $a - b$;
- $a = b$: the closing of the data themselves, the complement of all open discs of radius $b$ that miss them;
- $a < b$: that closing by $a$, eroded by $b - a$: empty unless some disc of radius $b$ has every point within $a$ of the data.""",
    source=f"{PAPER}, figure 5 (two radii, whose exact kernels we have not read); $a = b$: the alpha-hull of Edelsbrunner, Kirkpatrick "
    "and Seidel, IEEE Trans. Inf. Theory 29 (1983); derived here",
    regime=r"""Finite data in the plane; uniform kernels on discs, in place of $G_t$ and $K$; $a, b > 0$.""",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.closing",
    by="property",
    mutants={
        "distance from x": instead(lambda points, x, b: torch.cdist(x, points).amin(-1) + 0 * b),
        "distance plus b": instead(lambda points, x, b: torch.cdist(x, points).amin(-1) + b),
        "off by 1 %": returns(lambda value, *_: 1.01 * value),
        "diameter for radius": instead(lambda points, x, b: closing.emptiness(points, x, b / 2)),
    },
)
def farthest_from_the_data_in_a_disc(predict: Any = closing.emptiness, *, generator: torch.Generator) -> Numbers:
    """`max dist(y, data)` over the disc, bracketed: at least that at 20000 points of the disc, at most their spacing more."""
    rng, widest = numpy_generator(generator), 0.0
    radii, angles = np.linspace(0, 1, 121), 2 * math.pi * np.arange(720) / 720
    disc = (radii[:, None, None] * np.stack((np.cos(angles), np.sin(angles)), -1)).reshape(-1, 2)
    spacing = math.hypot(1 / 240, math.pi / 720)  # no point of the unit disc is farther from all of these
    for n in (1, 2, 3, 5, 12):
        points, x, b = rng.uniform(-1, 1, (n, 2)), rng.uniform(-1, 1, (3, 2)), float(rng.uniform(0.1, 1.0))
        if n == 5:
            points[:, 1] = 0.3  # collinear
        got = predict(torch.from_numpy(points), torch.from_numpy(x), b).numpy()
        for place, value in zip(x, got, strict=True):
            least = np.linalg.norm((place + b * disc)[:, None] - points, axis=-1).min(1).max()
            # The distance to the data is a function of slope 1.
            require(
                least - 1e-9 <= value <= least + b * spacing,
                f"emptiness {value:.6f} at {place}: expected {least:.6f} to {b * spacing:.2g} more",
            )
            widest = max(widest, float(value - least) / (b * spacing))
    return {"excess over the sampled maximum/allowance": widest}


@check(
    "mollified.closing",
    by="property",
    mutants={
        "dilation only": instead(lambda points, x, a, b: torch.cdist(x, points).amin(-1) <= a),
        "radii exchanged": instead(lambda points, x, a, b: closing.in_support(points, x, b, a)),
        "opening for closing": instead(lambda points, x, a, b: torch.cdist(x, points).amin(-1) <= a - b),
        "complement": returns(lambda inside, *_: ~inside),
    },
)
def support_by_morphology(predict: Any = closing.in_support, *, generator: torch.Generator) -> Numbers:
    """On a raster, by distance transforms: the three regimes, away from boundaries by more than the raster can tell."""
    from scipy import ndimage

    rng, cell = numpy_generator(generator), 0.02
    axis = np.arange(-2.2, 2.2 + cell / 2, cell)
    raster = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    compared, areas = 0, {}
    for a, b in ((0.6, 0.4), (0.5, 0.5), (0.47, 0.5)):
        points = np.concatenate((rng.uniform(-0.8, 0.8, (9, 2)), 0.3 * np.array([[1, 0], [-0.5, 0.8], [-0.5, -0.8]])))
        distance = np.linalg.norm(raster[:, :, None] - points, axis=-1).min(-1)
        if a > b:  # the closing by b of the data dilated by a - b, step by step
            dilated = ndimage.distance_transform_edt(~(distance <= a - b)) * cell <= b
            depth = ndimage.distance_transform_edt(dilated) * cell
        elif a == b:  # the distance to the nearest center of an open disc of radius b without data
            depth = ndimage.distance_transform_edt(~(distance >= b)) * cell
        else:
            depth = ndimage.distance_transform_edt(distance <= a) * cell
        places = rng.integers(20, len(axis) - 20, (150, 2))
        x, found = raster[places[:, 0], places[:, 1]], depth[places[:, 0], places[:, 1]]
        clear = np.abs(found - b) > 3 * cell
        inside = predict(torch.from_numpy(points), torch.from_numpy(x), a, b).numpy()
        wrong = (inside != (found >= b)) & clear
        require(
            not wrong.any(),
            f"a = {a}, b = {b}: {int(wrong.sum())} of {int(clear.sum())} places differ, the first at {x[wrong][:1].tolist()}",
        )
        compared += int(clear.sum())
        areas[f"share of places inside, a = {a}, b = {b}"] = float(inside.mean())
        require(not bool(predict(torch.from_numpy(points[:1]), torch.from_numpy(points[:1]), min(a, b) * 0.99, b)[0]), "one point, a < b")
    return {"places compared": compared} | areas
