"""Chapter "Mollified scores and the LED-KDE", first part: gradients, Jensen, what smoothing keeps."""

import math
from typing import Any

import numpy as np
import torch

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical, Gaussian, GaussianMixture
from kss.kernels import BallKernel, GaussianKernel
from kss.scores import BiasCorrected, LedKde, Mollified, TimeShifted
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.properties import for_all, numpy_generator
from kss.theory import mollification

CHAPTER = "mollified"
EPSILON = torch.finfo(torch.float64).eps
PAPER = "Gabriel, Ged, Han Veiga and Schertzer, arXiv 2505.22841 v1"

Numbers = dict[str, Any]


def kernels_with_covariance(d: int) -> list[tuple[Any, Any]]:
    """Kernels of every kind on R^d, each with its covariance at noise variance t, written out by hand."""
    eye = torch.eye(d, dtype=torch.float64)
    root = torch.tril(torch.arange(1, d * d + 1, dtype=torch.float64).reshape(d, d)) / (2 * d)
    matrix = root @ root.T
    return [
        (GaussianKernel(0.4), lambda t: 0.4 * eye),
        (GaussianKernel(matrix), lambda t: matrix),
        (GaussianKernel(lambda t: 2 * t), lambda t: 2 * t * eye),
        (BallKernel(0.9), lambda t: 0.81 / (d + 2) * eye),
        (BallKernel(lambda t: 2 * t), lambda t: 4 * t**2 / (d + 2) * eye),
        (GaussianKernel(matrix).scaled(3.0), lambda t: 3 * matrix),
        (BallKernel(0.9).scaled(3.0), lambda t: 3 * 0.81 / (d + 2) * eye),
    ]


def data_and_kernels(dims: tuple[int, ...], low: float, high: float) -> Any:
    """Data (N, d), x, t, h and a unit of length; h/t from 1/30 to 30, below what the reference resolves."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    def at(d: int) -> Any:
        data = strategies.datasets(dim=d, most=6).map(lambda points: points.clamp(-4, 4) / (d + 1))
        ratios = st.floats(-1.5, 1.5).map(lambda e: 10.0**e)
        return st.tuples(data, strategies.arrays(d), strategies.variances(low, high), ratios, st.sampled_from((1.0, 1e-3, 1e3)))

    def capped(case: tuple[torch.Tensor, np.ndarray, float, float, float]) -> tuple[torch.Tensor, np.ndarray, float, float, float]:
        points, x, t, ratio, unit = case
        return points, x, t, min(ratio * t, sums.resolved(points.numpy(), t)), unit

    return st.sampled_from(dims).flatmap(at).map(capped)


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
    """The package's average of scores against the derivative of a plain sum over logarithms, in three units; and the pull from outside."""
    worst = 0.0

    def test(case: tuple[torch.Tensor, np.ndarray, float, float, float]) -> None:
        nonlocal worst
        points, x, t, h, unit = case
        expected = sums.smoothed_score(points.numpy(), x, t, h)
        # Default accuracy is 1e-7; both sums carry the rounding of exponents of size (distance)^2/t.
        size = 1 + (np.abs(x).max() + float(points.abs().max()) + 9 * math.sqrt(h)) ** 2 / t
        allowed = 3e-7 * np.linalg.norm(expected) + 64 * EPSILON * size * math.sqrt(size / t)
        mollified = Mollified(Empirical(unit * points), GaussianKernel(unit**2 * h))
        got = unit * predict(mollified, unit * torch.from_numpy(x), unit**2 * t)
        what = f"smoothed score of {points.tolist()} at {x}, t = {t}, h = {h}, unit {unit}"
        worst = max(worst, agree(what, got, expected, allowed))
        # In direction n = e_1, from delta beyond the last point.
        for delta in (1e-3, 1.0, 30.0):
            y = torch.from_numpy(x).clone()
            y[0] = points[:, 0].max() + delta
            outward = float(unit * predict(mollified, unit * y, unit**2 * t)[0])
            require(outward <= -delta / t * (1 - 1e-6) + allowed, f"outward {outward:.9g} > -{delta}/{t}: {what}")

    tried = for_all(data_and_kernels((1, 2), -1.5, 1.0), test, generator=generator, examples=10)
    return tried | {"worst error/allowance": worst}


@check(
    "mollified.led_kde",
    by="quadrature",
    lane="full",
    mutants={
        "unnormalized": returns(lambda value, density, x: value + density.log_normalizer),
        "cell of the line in the plane": returns(lambda value, density, x: value + (density.law.dim - 1) * math.log(0.5)),
        "off by 1e-3": returns(lambda value, *_: value + 1e-3),
        "KDE far out": returns(
            lambda value, density, x: torch.where(
                x.abs().amax(-1) > 1.2,
                density.law.log_density(x, density.t + density.kernel.covariance(density.t, x.shape[-1])[0, 0]),
                value,
            )
        ),
    },
)
def integrates_to_one(predict: Any = LedKde.log_density, *, generator: torch.Generator) -> Numbers:
    """A sum of the density over a grid of its own: on the line and in the plane, for Gaussian, anisotropic and ball kernels."""
    line = Empirical([[-1.0], [0.2], [1.0]])
    plane = Empirical([[-1.0, 0.0], [0.3, 0.8], [0.5, -0.4]])
    anisotropic = torch.tensor([[0.3, 0.1], [0.1, 0.1]], dtype=torch.float64)
    cases = (
        (line, GaussianKernel(0.2), 0.05),
        (line, BallKernel(0.7), 0.05),
        (plane, GaussianKernel(0.3), 0.5),
        (plane, BallKernel(0.8), 0.5),
        (plane, GaussianKernel(anisotropic), 0.5),
    )
    worst = 0.0
    for law, kernel, t in cases:
        # The density vanishes at both ends, to 9 standard deviations of the noise, and a step of half of one is exact to rounding.
        axis = torch.arange(-1.0 - 9 * t**0.5, 1.0 + 9 * t**0.5, t**0.5 / 2, dtype=torch.float64)
        grid = torch.cartesian_prod(*[axis] * law.dim).reshape(-1, law.dim)
        total = float(predict(LedKde(law, kernel, t), grid).exp().sum() * float(axis[1] - axis[0]) ** law.dim)
        # Its values and its normalizer are good to 1e-4 each.
        worst = max(worst, agree(f"integral of the LED-KDE of {law} with {kernel}", total, 1.0, 2e-4))
    return {"worst error/allowance": worst}


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
    uses=("mollified.led_kde", "shift.densities"),
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
    """The package's `K * log p_t` against a plain sum, and below `log p_{t+h}` from the definition; the same for a Gaussian law in R^3."""
    worst, least = 0.0, math.inf

    def test(case: tuple[torch.Tensor, np.ndarray, float, float, float]) -> None:
        nonlocal worst, least
        points, x, t, h, unit = case
        d = len(x)
        constant = math.log(len(points)) + d * math.log(unit)
        mean = sums.smoothed_log_density(points.numpy(), x, t, h).real - d / 2 * math.log(2 * math.pi * t) - constant
        size = 1 + (np.abs(x).max() + float(points.abs().max()) + 9 * math.sqrt(h)) ** 2 / t
        allowed = 3e-7 + 64 * EPSILON * size
        mollified = Mollified(Empirical(unit * points), GaussianKernel(unit**2 * h))
        got = float(predict(mollified, unit * torch.from_numpy(x), unit**2 * t))
        what = f"K * log p for {points.tolist()} at {x}, t = {t}, h = {h}, unit {unit}"
        worst = max(worst, agree(what, got, mean, allowed))
        above = float(sums.log_density(points.numpy(), x, t + h)) - d / 2 * math.log(2 * math.pi * (t + h)) - constant
        # Even for one point the gap is (d/2)(h/t - log(1 + h/t)) - |x|^2 h/(2t(t+h)) + ..., so strict where h is not far below t.
        require(got <= above + allowed, f"{what}: {got:.9g} > log K * p = {above:.9g}")
        require(h < t / 3 or got < above - allowed, f"{what}: no gap to log K * p")
        least = min(least, above - got)

    tried = for_all(data_and_kernels((1, 2), -1.5, 1.0), test, generator=generator, examples=20)
    # A Gaussian law: log p_t is a quadratic, whose mean has -tr(P S)/2 more than its value at x, P the inverse of its covariance.
    covariance = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.2]], dtype=torch.float64)
    x, t = torch.tensor([0.5, -0.2, 0.7], dtype=torch.float64), 0.3
    full = covariance + t * torch.eye(3, dtype=torch.float64)
    precision = torch.linalg.inv(full)
    plain = -float(x @ precision @ x) / 2 - float(torch.linalg.slogdet(full)[1]) / 2 - 1.5 * math.log(2 * math.pi)
    for kernel, spread in kernels_with_covariance(3):
        got = float(predict(Mollified(Gaussian([0.0] * 3, covariance), kernel), x, t))
        worst = max(
            worst, agree(f"K * log p of a Gaussian law with {kernel}", got, plain - float((precision @ spread(t)).trace()) / 2, 1e-10)
        )
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
        "off by 1e-3": returns(lambda value, *_: value + 1e-3),
    },
)
def normalized_led_kde_of_two_points(predict: Any = LedKde.log_density, *, generator: torch.Generator) -> Numbers:
    """`q_t` by a sum of its own, normalized by a sum of its own, and its ratio to the KDE at 0 and 1."""
    points, t, h = np.array([[-1.0], [1.0]]), 0.05, 0.2
    grid = np.linspace(-4, 4, 401)  # the sum of a smooth density that vanishes at both ends is exact to rounding
    logs = np.array([sums.smoothed_log_density(points, np.array([v]), t, h).real for v in grid])
    log_normalizer = math.log(np.exp(logs - logs.max()).sum() * (grid[1] - grid[0])) + logs.max()
    require(log_normalizer - math.log(2) - math.log(2 * math.pi * t) / 2 < 0, "Z > 1, against Jensen's inequality")
    places = np.array([0.0, 1.0, 0.4, -1.3, 2.0])
    expected = np.array([sums.smoothed_log_density(points, np.array([v]), t, h).real for v in places]) - log_normalizer
    got = predict(LedKde(Empirical(points), GaussianKernel(h), t), torch.from_numpy(places).unsqueeze(-1)).numpy()
    agree("log of the LED-KDE", got, expected, 2e-4)
    kde = sums.log_density(points, places[:, None], t + h) - math.log(2) - math.log(2 * math.pi * (t + h)) / 2
    ratio = np.exp(got - kde)
    require(bool(ratio[1] > 1.05 and ratio[0] < 0.95), f"LED-KDE/KDE = {ratio[0]:.4f} at 0 and {ratio[1]:.4f} at 1")
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
    expected = (2 * sums.smoothed_log_density(points, x, t, h) - sums.smoothed_log_density(points, x, t, 2 * h)).real - constant

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
    regime=r"""$K \ge 0$ with finite second moment, symmetric; every $p_*$ and $t > 0$. Not for signed kernels: for two
humps $2G_h - G_{2h}$ leads below $-1/t$. Checked on $\mathbb R$.""",
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
        for h, place in zip((0.02, 0.5), rng.uniform(-2, 2, 2), strict=True):
            offsets, weight = sums.gaussian_nodes(1, h, 4001)
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


@check(
    "mollified.hessian",
    by="counterexample",
    mutants={
        "positive kernel": instead(lambda corrected, x, t: corrected.narrow.score(x, t)),
        "weights exchanged": instead(lambda corrected, x, t: 2 * corrected.wide.score(x, t) - corrected.narrow.score(x, t)),
        "steeper by 1e-5": returns(lambda score, *_: score * (1 + 1e-5)),
    },
)
def signed_kernel_leaves_the_bounds(predict: Any = BiasCorrected.score, *, generator: torch.Generator) -> Numbers:
    """Two humps at a = 1, v = 0.01, t = 0.2: with `2 K_h - K_2h`, h = 0.1, the least slope of the score is below -1/t."""
    a, v, t, h = 1.0, 0.01, 0.2, 0.1
    w, places = v + t, np.linspace(0.0, 1.2, 13)

    def slope(x: np.ndarray, variance: float) -> np.ndarray:
        offsets, weight = sums.gaussian_nodes(1, variance, 6001)
        return (-1 / w + (a / w) ** 2 / np.cosh(a * (x[:, None] + offsets[:, 0]) / w) ** 2) @ weight

    expected = 2 * slope(places, h) - slope(places, 2 * h)
    corrected = BiasCorrected(GaussianMixture([[-a], [a]], [[v]]), GaussianKernel(h), accuracy=1e-8)
    x = torch.from_numpy(places).unsqueeze(-1)
    got = torch.func.jvp(lambda y: predict(corrected, y, t), (x,), (torch.ones_like(x),))[1].squeeze(-1)
    agree("slope of the corrected score", got, expected, 1e-6 / w)
    require(float(got.min()) < -1 / t - 0.1, f"least slope {float(got.min()):.4f}, not below -1/t = {-1 / t}")
    return {"least slope": float(got.min()), "-1/t": -1 / t}


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
    """Random Gaussian laws in dimension 1 to 3 and kernels of every kind, one of them signed, against a linear solve."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    worst = 0.0

    def test(drawn: tuple[np.ndarray, torch.Tensor, np.ndarray, float, int]) -> None:
        nonlocal worst
        mu, covariance, x, t, kind = drawn
        d = len(mu)
        singular = GaussianKernel(torch.ones(d, d, dtype=torch.float64))
        kernel = [*(kernel for kernel, _ in kernels_with_covariance(d)), singular][kind]
        matrix = covariance.numpy() + t * np.eye(d)
        expected = np.linalg.solve(matrix, mu - x)
        # Nodes at up to 8 standard deviations, each with a relative rounding of a few units, times the condition number.
        reach = np.abs(mu - x).max() + 8 * math.sqrt(float(kernel.covariance(t, d).trace()))
        allowed = 64 * EPSILON * np.linalg.cond(matrix) * reach / np.linalg.eigvalsh(matrix)[0]
        law, place = Gaussian(mu, covariance), torch.from_numpy(x)
        what = f"smoothed score of N({mu.tolist()}, {covariance.tolist()}), {kernel}, t = {t}"
        worst = max(worst, agree(what, predict(Mollified(law, kernel), place, t), expected, allowed))
        signed = 2 * predict(Mollified(law, kernel), place, t) - predict(Mollified(law, kernel.scaled(2.0)), place, t)
        worst = max(worst, agree(f"signed {what}", signed, expected, 6 * allowed))

    def at(d: int) -> Any:
        vectors = strategies.arrays(d)
        return st.tuples(vectors, strategies.covariances(d), vectors, strategies.variances(-2.0, 2.0), st.integers(0, 7))

    return for_all(st.integers(1, 3).flatmap(at), test, generator=generator, examples=24) | {"worst error/allowance": worst}
