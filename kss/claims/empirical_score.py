"""Chapter "The empirical score remembers": softmax, attention, hull, symmetry, collapse, training, copies."""

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy import optimize, stats

from kss import data, dynamics
from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.testing.compare import agree, require
from kss.testing.properties import for_all, numpy_generator
from kss.testing.statistics import dkw_test
from kss.theory import collapse, heat

CHAPTER = "empirical_score"
EPSILON = torch.finfo(torch.float64).eps
EVERY_DATA_SET = r"""Every finite data set $x_1, \dots, x_N \in \mathbb R^d$ (ties, duplicates and $N = 1$ included), every
$x \in \mathbb R^d$, every $t > 0$."""

Numbers = dict[str, Any]


def _attention(points: torch.Tensor, x: torch.Tensor, t: float, bias: bool) -> torch.Tensor:
    """PyTorch's attention with query x/t, keys and values the data, and the bias `-|x_i|^2/2t` per key, or without it."""
    query, keys = (x / t).reshape(1, -1), points.double()
    mask = (-(keys**2).sum(-1) / (2 * t)).unsqueeze(0) if bias else None
    return torch.nn.functional.scaled_dot_product_attention(query, keys, keys, attn_mask=mask, scale=1.0).squeeze(0)


# --- The denoiser as an average -------------------------------------------------------------------------------------------

claim(
    "empirical.softmax",
    title="The empirical denoiser is a softmax average of the data",
    statement=r"""$$m_t^N(x) = \sum_{i=1}^N w_i x_i, \qquad w_i = \operatorname{softmax}_i\left(-\frac{|x - x_j|^2}{2t}\right).$$""",
    source="Bayes' rule for a finite prior; Karras et al., arXiv 2206.00364, appendix B.3",
    regime=EVERY_DATA_SET,
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "empirical.softmax",
    by="property",
    mutants={
        "off by 1e-9": returns(lambda mean, *_: mean * (1 + 1e-9)),
        "exp(-r^2/t)": instead(lambda law, x, t: law.denoise(x, t / 2)),
        "exp(-r/t)": instead(lambda law, x, t: torch.softmax(-torch.linalg.norm(x - law.points, dim=-1) / t, 0) @ law.points),
        "nearest point": instead(lambda law, x, t: law.points[collapse.nearest(law.points, x).which]),
    },
)
def average_by_definition(predict: Any = Empirical.denoise, *, generator: torch.Generator) -> Numbers:
    """The package's denoiser against the weighted average, in 150 digits."""
    from kss.testing import reference, strategies

    rng, worst = numpy_generator(generator), 0.0

    def test(case: strategies.Case[Empirical]) -> None:
        nonlocal worst
        expected, allowed = reference.evaluate(case.law, case.x, case.t, reference.Field.mean, rng)
        allowed += 8 * EPSILON * float(case.law.points.abs().max())  # a convex combination rounds like what it combines
        worst = max(worst, agree(f"denoiser of {case}", predict(case.law, case.x, case.t), expected, allowed))

    cases = strategies.cases(strategies.datasets().map(Empirical))
    return for_all(cases, test, generator=generator, examples=50) | {"worst error/allowance": worst}


claim(
    "empirical.attention",
    title="It is softmax attention with a bias on every key",
    statement=r"""$m_t^N(x)$ is softmax attention with query $x/t$, the data as keys and values, and the bias
$-|x_i|^2/(2t)$ on key $i$:

$$w_i = \operatorname{softmax}_i\left(\frac{\langle x, x_j\rangle}{t} - \frac{|x_j|^2}{2t}\right).$$""",
    source="derived here (expand the square; the term in $|x|^2$ is common to all)",
    regime=EVERY_DATA_SET,
    uses=("empirical.softmax",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "empirical.attention",
    by="property",
    mutants={
        "off by 1e-9": returns(lambda mean, *_: mean * (1 + 1e-9)),
        "no bias": instead(lambda law, x, t: _attention(law.points, x, t, bias=False)),
        "score for denoiser": instead(lambda law, x, t: law.score(x, t)),
    },
)
def pytorch_attention(predict: Any = Empirical.denoise, *, generator: torch.Generator) -> Numbers:
    """The package's denoiser against PyTorch's attention."""
    from kss.testing import strategies

    worst = 0.0

    def test(case: strategies.Case[Empirical]) -> None:
        nonlocal worst
        points = case.law.points
        # Attention rounds exponents of this size, and each rounding moves the average by up to the size of the data.
        size = float(points.abs().max() * case.law.dim)
        exponent = (size + float(case.x.abs().max()) * case.law.dim) * size / case.t
        allowed = 8 * EPSILON * (1 + exponent) * size
        expected = _attention(points, case.x, case.t, bias=True)
        worst = max(worst, agree(f"attention for {case}", predict(case.law, case.x, case.t), expected, allowed))

    cases = strategies.cases(strategies.datasets().map(Empirical), low=-1.0, high=4.0)
    return for_all(cases, test, generator=generator, examples=60) | {"worst error/allowance": worst}


claim(
    "empirical.attention_without_bias",
    title="The empirical denoiser is plain attention",
    statement=r"""$m_t^N(x)$ is softmax attention with query $x/t$ and the data as keys and values,
$w_i = \operatorname{softmax}_i(\langle x, x_j\rangle/t)$, without a bias.""",
    source="a tempting simplification; the exact condition is derived here",
    regime=r"""Refuted for general data. It is true for all $x$ **if and only if** all norms $|x_i|$ are equal.""",
    uses=("empirical.attention",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "empirical.attention_without_bias",
    by="counterexample",
    mutants={
        "plain attention": returns(lambda mean, law, x, t: _attention(law.points, x, t, bias=False)),
        "attention with the sign of the bias wrong": instead(
            lambda law, x, t: torch.softmax((law.points @ x + (law.points**2).sum(-1) / 2) / t, 0) @ law.points
        ),
    },
)
def two_points_of_different_norm(predict: Any = Empirical.denoise, *, generator: torch.Generator) -> Numbers:
    """Points 0 and 2 seen from 1: by symmetry the mean is 1; plain attention says `2/(1 + exp(-2/t))`, always more.

    And for points of equal norm the two agree. That they agree for no others is proved in the chapter.
    """
    rng, x = numpy_generator(generator), torch.tensor([1.0], dtype=torch.float64)
    law, gaps = Empirical([[0.0], [2.0]]), {}
    for t in (0.1, 1.0, 10.0):
        mean, plain = float(predict(law, x, t)), 2 / (1 + math.exp(-2 / t))
        agree("mean half-way between two points", mean, 1.0, 4 * EPSILON)
        require(plain - mean > 0.01, f"plain attention {plain:.6g} is not distinguished from the mean {mean:.6g} at t = {t}")
        gaps[f"gap at t={t}"] = plain - mean
    for d in (2, 3, 8):
        sphere = rng.standard_normal((6, d))
        points = torch.from_numpy(sphere / np.linalg.norm(sphere, axis=1, keepdims=True))
        y = torch.from_numpy(rng.standard_normal(d))
        agree("equal norms", predict(Empirical(points), y, 0.3), _attention(points, y, 0.3, bias=False), 1e3 * EPSILON)
    return gaps


claim(
    "empirical.hull",
    title="The empirical denoiser never leaves the convex hull of the data",
    statement=r"$m_t^N(x) \in \operatorname{conv}\{x_1, \dots, x_N\}$.",
    source="derived here (the weights are positive and sum to one)",
    regime=EVERY_DATA_SET,
    uses=("empirical.softmax",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "empirical.hull",
    by="property",
    mutants={
        "a little outward": returns(lambda mean, law, x, t: mean + 1e-9 * (mean - law.points.double().mean(0)) + 1e-9),
        "overshooting": instead(lambda law, x, t: x + 2 * law.posterior(x, t).displacement),
        "the point itself": instead(lambda law, x, t: x),
    },
)
def no_separating_plane(predict: Any = Empirical.denoise, *, generator: torch.Generator) -> Numbers:
    """Were m outside, the residual of the nearest convex combination (nonnegative least squares) would separate it from the data."""
    from kss.testing import strategies

    furthest = 0.0

    def test(case: strategies.Case[Empirical]) -> None:
        nonlocal furthest
        points, mean = case.law.points.numpy(), np.asarray(predict(case.law, case.x, case.t))
        size = max(float(np.abs(points).max()), 1e-300)
        matrix = np.vstack((points.T / size, np.ones(len(points))))
        weights, _ = optimize.nnls(matrix, np.append(mean / size, 1.0))
        normal = mean - points.T @ weights
        if (length := np.linalg.norm(normal)) > 0:
            normal /= length
            beyond = float(((mean - points) @ normal).min())
            # A convex combination rounds like the data, wherever x is.
            rounding = 8 * case.law.dim * EPSILON * size
            require(beyond <= rounding, f"the mean is {beyond:.3g} outside the hull for {case}")
            furthest = max(furthest, beyond / rounding)

    cases = strategies.cases(strategies.datasets().map(Empirical))
    return for_all(cases, test, generator=generator, examples=80) | {"furthest outside/rounding": furthest}


claim(
    "empirical.equivariance",
    title="The empirical score moves with the data",
    statement=r"""For $Q$ orthogonal, $b \in \mathbb R^d$ and $a \neq 0$, the data $a Q x_i + b$ have at $aQx + b$ and noise
variance $a^2 t$ the score $a^{-1} Q\, s_t^N(x)$. Listing every point $r$ times changes nothing.""",
    source="derived here (the weights depend on $|x - x_i|^2/t$ only)",
    regime=EVERY_DATA_SET,
    uses=("empirical.softmax",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "empirical.equivariance",
    by="property",
    mutants={
        "anchored at the origin": returns(lambda score, law, x, t: score + 1e-9 * x),
        "absolute noise scale": returns(lambda score, law, x, t: score * (1 + 1e-6 * t / (1 + t))),
        "count not divided out": returns(lambda score, law, x, t: score * (1 + 1e-9 * len(law))),
        "denoiser for score": instead(lambda law, x, t: law.denoise(x, t)),
    },
)
def moved_data(predict: Any = Empirical.score, *, generator: torch.Generator) -> Numbers:
    """The package's score for moved and for repeated data against the 150-digit score of the data as they were."""
    from hypothesis import strategies as st

    from kss.testing import reference, strategies

    rng, worst = numpy_generator(generator), 0.0

    def test(drawn: tuple[strategies.Case[Empirical], float]) -> None:
        nonlocal worst
        case, a = drawn
        d, points = case.law.dim, case.law.points
        q = torch.from_numpy(np.linalg.qr(rng.standard_normal((d, d)))[0])
        b = torch.from_numpy(rng.standard_normal(d))
        before, _ = reference.evaluate(case.law, case.x, case.t, reference.Field.score, rng)
        moved, y, u = Empirical(a * points @ q.T + b), a * (q @ case.x) + b, a**2 * case.t
        # Moving the data rounds them by a few units in the last place, d of which add up in the product with Q.
        _, allowed = reference.evaluate(moved, y, u, reference.Field.score, rng)
        expected = q.numpy() @ np.atleast_1d(before) / a
        worst = max(worst, agree(f"score of moved data for {case}, a = {a}", predict(moved, y, u), expected, d * allowed))
        expected, allowed = reference.evaluate(case.law, case.x, case.t, reference.Field.score, rng)
        agree(f"score of repeated data for {case}", predict(Empirical(points.repeat(3, 1)), case.x, case.t), expected, allowed)

    scales = st.floats(-2, 2).map(lambda e: 10.0**e).flatmap(lambda s: st.sampled_from((s, -s)))
    cases = strategies.cases(strategies.datasets().map(Empirical))
    return for_all(st.tuples(cases, scales), test, generator=generator, examples=50) | {"worst error/allowance": worst}


# --- Collapse -------------------------------------------------------------------------------------------------------------

claim(
    "empirical.collapse",
    title="As the noise vanishes the denoiser snaps to the nearest data point",
    statement=r"""With $x_{\mathrm{nn}}$ the data point nearest to $x$, $r_{(1)} \le r_{(2)}$ the distances from $x$ to its two nearest
data points and $\mathrm{gap} = r_{(2)}^2 - r_{(1)}^2$,

$$|m_t^N(x) - x_{\mathrm{nn}}| \le (N-1)\, e^{-\mathrm{gap}/2t}\, \operatorname{diam}\{x_1, \dots, x_N\}.$$

As $t \to 0$ neither the constant $N - 1$ nor the exponent can be improved.""",
    source="derived here",
    regime=EVERY_DATA_SET
    + r" If the nearest point is tied or duplicated the gap is 0 and the bound is trivial; for $N = 1$ both sides are 0.",
    uses=("empirical.softmax",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "empirical.collapse",
    by="property",
    mutants={
        "half, false for N = 2 already": returns(lambda bound, *_: bound / 2),
        "twice, true but not sharp": returns(lambda bound, *_: 2 * bound),
        "gap/t in the exponent": instead(lambda gap, t, n, diameter: (n - 1) * math.exp(-gap / t) * diameter),
        "N - 1 forgotten": instead(lambda gap, t, n, diameter: math.exp(-gap / (2 * t)) * diameter),
        "diameter squared": returns(lambda bound, gap, t, n, diameter: bound * diameter),
        "gap for its square root": instead(lambda gap, t, n, diameter: (n - 1) * math.exp(-math.sqrt(gap) / (2 * t)) * diameter),
        "N for N - 1": instead(lambda gap, t, n, diameter: n * math.exp(-gap / (2 * t)) * diameter),
    },
)
def bound_holds_and_is_attained(predict: Any = collapse.nearest_point_bound, *, generator: torch.Generator) -> Numbers:
    """Random data in 150 digits; and N - 1 copies of one far point, where bound and truth agree as t -> 0."""
    from flint import arb, ctx

    from kss.testing import reference, strategies

    largest = 0.0

    def test(case: strategies.Case[Empirical]) -> None:
        nonlocal largest
        points, x = [reference.exact(row) for row in case.law.points], reference.exact(case.x)
        ctx.prec = reference.BITS

        def square(a: Any, b: Any) -> Any:
            return sum(((v - w) ** 2 for v, w in zip(a, b, strict=True)), arb(0))

        order = sorted(points, key=lambda row: square(x, row).mid())
        gap = float((square(x, order[1]) - square(x, order[0])).mid()) if len(order) > 1 else math.inf
        diameter = math.sqrt(max(float(square(a, b).mid()) for a in points for b in points))
        # The lower end of the ball: a bound is violated only if it is violated for certain.
        distance = math.sqrt(max(0.0, float(square(reference.Reference(case.law).at(case.t).mean(x), order[0]).lower())))
        bound = float(predict(min(gap, 1e300), case.t, len(points), diameter))
        # Rounding the gap to double precision changes the exponent by this much, relatively.
        slack = 1 + 16 * EPSILON * (1 + gap / case.t) if gap < 700 * 2 * case.t else math.inf
        if slack < math.inf:
            require(distance <= bound * slack, f"|m - x_nn| = {distance:.9g} > {bound:.9g} for {case}")
            largest = max(largest, distance / bound if bound else 0.0)

    for n, diameter, place in itertools.product((2, 3, 50), (0.5, 1.0, 3.0), (-1.0, 0.0, 0.3)):
        # Data 0 and (n - 1) times D on the line, x at `place` D: m = D (n - 1) e/(1 + (n - 1) e) with e = exp(-gap/2t).
        gap = diameter**2 * (1 - 2 * place)
        e, exact_t = math.exp(-30.0), gap / 60
        exact = diameter * (n - 1) * e / (1 + (n - 1) * e)
        bound = float(predict(gap, exact_t, n, diameter))
        agree(f"the bound for {n - 1} copies of a far point", bound, exact, (2 * n * e + 256 * EPSILON) * exact)
        found = collapse.nearest([[0.0]] + [[diameter]] * (n - 1), [place * diameter])
        agree("nearest point, its distance and the gap", [*map(float, found)], [0, abs(place) * diameter, gap], 8 * EPSILON * (1 + gap))
        if n > 2:  # seen from beyond, the copies tie for the nearest
            agree("gap of a tie", float(collapse.nearest([[0.0]] + [[diameter]] * (n - 1), [2 * diameter]).gap), 0.0, 0.0)
    agree("bound for a single point", float(predict(math.inf, 1.0, 1, 0.0)), 0.0, 0.0)
    cases = strategies.cases(strategies.datasets().map(Empirical), low=-3.0, high=2.0)
    return for_all(cases, test, generator=generator, examples=80) | {"largest distance/bound": largest}


# --- Training -------------------------------------------------------------------------------------------------------------

claim(
    "empirical.dsm_minimizer",
    title="Perfect training gives the empirical score",
    statement=r"""At noise variance $t$ the denoising score-matching loss
$L(f) = \frac1N\sum_i \mathbb E\left|f(x_i + \sqrt t Z) + Z/\sqrt t\right|^2$, $Z \sim \mathcal N(0, I)$, satisfies

$$L(f) = L(s_t^N) + \mathbb E_{X \sim p_t^N}|f(X) - s_t^N(X)|^2,$$

so $s_t^N$ is its only minimizer, up to null sets.""",
    source="Vincent, Neural Comput. 23 (2011); Karras et al., arXiv 2206.00364, appendix B.3",
    regime=r"""Every finite data set, every $t > 0$; the expectation is over **all** noise draws (not over finitely many), and
$f$ ranges over all functions in $L^2(p_t^N)$. With several noise levels: each level of positive weight, separately.""",
    uses=("heat.tweedie",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "empirical.dsm_minimizer",
    by="proof",
    mutants={
        "sign": returns(lambda score, *_: -score),
        "denoiser for score": instead(lambda mean, x, t: mean),
        "half": instead(lambda mean, x, t: (mean - x) / (2 * t)),
    },
)
def complete_the_square(predict: Any = heat.score_from_mean, *, generator: torch.Generator) -> Numbers:
    """Given X_t = x the loss is an average over the posterior of X_0; the two moments of X_0 are all that enters."""
    import sympy

    f, x, y, mean, second = sympy.symbols("f x y m M", real=True)
    t = sympy.Symbol("t", positive=True)

    def loss(value: Any) -> Any:
        square = sympy.Poly(sympy.expand((value - (y - x) / t) ** 2), y)
        return square.coeff_monomial(1) + square.coeff_monomial(y) * mean + square.coeff_monomial(y**2) * second

    score = predict(mean, x, t)
    remainder = sympy.simplify(sympy.expand(loss(f) - loss(score) - (f - score) ** 2))
    require(remainder == 0, f"L(f) - L(s) - |f - s|^2 = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "empirical.dsm_minimizer",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda score, *_: score * (1 + 1e-6)),
        "sign": returns(lambda score, *_: -score),
        "noise level off": instead(lambda law, x, t: law.score(x, 1.01 * t)),
    },
)
def loss_is_stationary(predict: Any = Empirical.score, *, generator: torch.Generator) -> Numbers:
    """On the line, `(L(f + phi) - L(f) - E phi^2)/2 = E[(f + Z/sqrt t) phi]` is 0 for every test function phi."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    z = np.arange(-4000, 4001) / 400
    weight = stats.norm.pdf(z) / 400
    worst = 0.0

    def test(drawn: tuple[torch.Tensor, float, float]) -> None:
        nonlocal worst
        points, t, frequency = drawn
        law, root = Empirical(points), math.sqrt(t)
        x = points.numpy()[:, :1] + root * z
        score = predict(law, torch.from_numpy(x).unsqueeze(-1), t)[..., 0].numpy()
        for phi in (np.cos(frequency * x / root), np.sin(frequency * x / root), np.tanh(x / root)):
            derivative = float((weight * (score + z / root) * phi).sum(-1).mean())
            # Z/sqrt t is of size 1/sqrt t; exponents of the size of (range)^2/t are rounded. The trapezoid rule itself errs
            # by less: the nearest pole of the score lies pi sqrt t/(range) from the line, in units of z, and the step is 1/400.
            spread = float(points.max() - points.min()) / root
            allowed = 64 * EPSILON * (10 + spread) ** 2 / root
            worst = max(worst, agree(f"derivative of the loss for {points.tolist()} at t = {t}", derivative, 0.0, allowed))

    small = strategies.arrays(4, 1).map(torch.from_numpy)
    cases = st.tuples(small, strategies.variances(-1.5, 3.0), st.floats(0.2, 2.0))
    return for_all(cases, test, generator=generator, examples=25) | {"worst error/allowance": worst}


claim(
    "empirical.copies",
    title="Reverse diffusion with the exact empirical score returns the training data",
    statement=r"""Started from $p_T^N$ and driven by $s^N$, reverse diffusion down to $t_{\min}$ draws from $p^N_{t_{\min}}$ exactly: a
training point chosen uniformly, plus noise of variance $t_{\min}$. In particular

$$\Pr\left(\operatorname{dist}(Y, \{x_i\})^2 > t_{\min}\, \chi^2_{d,1-\delta}\right) \le \delta .$$""",
    source="Gu et al., arXiv 2310.02664; derived here (reversal applied to the law of the data set)",
    regime=r"""Every finite data set; $T > t_{\min} > 0$; exact score, exact start, exact solution in time. Checked on 300 digits in
$\mathbb R^{64}$, with the bridge sampler in 60 steps, $T = 100$, $t_{\min} = 10^{-3}$.""",
    uses=("heat.reversal_sde", "empirical.softmax"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "empirical.copies",
    by="statistics",
    lane="full",
    alpha=1e-8,
    detects="Kolmogorov distance 0.18, of the squared distances from the chi-squared law or of the digits from the uniform law, with "
    "probability 0.999; distances below 0.01 are tolerated, for the steps",
    mutants={
        "larger by a twentieth": returns(lambda y, *_, **__: 1.05 * y),
        "noise left in": returns(lambda y, *_, t_min, **__: y + math.sqrt(t_min) * torch.sin(1e6 * y)),
        "no noise": returns(lambda y, law, *_, **__: law.points[collapse.nearest(law.points, y).which]),
        "always the same digit": returns(lambda y, law, *_, **__: y - law.points[collapse.nearest(law.points, y).which] + law.points[0]),
        "one sample for many": returns(lambda y, *_, **__: y[:1]),
        "score of a smoothed law": instead(
            lambda score, start, **how: dynamics.sample_reverse_sde(lambda x, t: score.score(x, t + 0.5), start, **how)
        ),
        "drift of the flow": instead(
            lambda score, start, **how: dynamics.sample_reverse_sde(lambda x, t: score.score(x, t) / 2, start, **how)
        ),
    },
)
def digits_come_back(predict: Any = dynamics.sample_reverse_sde, *, generator: torch.Generator) -> Numbers:
    """1000 samples: squared distances to the nearest digit against `t_min chi^2_64`, and which digit against the uniform law.

    Digits are 0.6 apart or more, twenty standard deviations of the noise, so the nearest digit is the one that was returned
    and its distance is that of the noise. Both tests are Dvoretzky-Kiefer-Wolfowitz, at half of alpha each.
    """
    law, t_min = Empirical(data.digits().points[:300]), 1e-3
    start = law.diffuse(1000, 100.0, generator)
    y = predict(law, start, t_max=100.0, t_min=t_min, steps=60, generator=generator)
    require(y.shape == start.shape and bool(torch.isfinite(y).all()), f"{len(start)} starts gave samples of shape {tuple(y.shape)}")
    closest = collapse.nearest(law.points, y)
    noise = dkw_test(closest.distance**2 / t_min, lambda q: torch.from_numpy(stats.chi2.cdf(q.numpy(), law.dim)), alpha=5e-9, slack=0.01)
    # A uniform digit plus a uniform number in [0, 1) is uniform on [0, N).
    place = (closest.which + torch.rand(len(y), dtype=torch.float64, generator=generator)) / len(law)
    which = dkw_test(place, lambda u: u, alpha=5e-9, slack=0.01)
    for name, verdict in (("distances", noise), ("digits", which)):
        require(not verdict.rejected, f"{name}: Kolmogorov distance {verdict.statistic:.4f}, p-value {verdict.p_value:.3g}")
    return {
        "Kolmogorov distance of the distances": noise.statistic,
        "of the digits": which.statistic,
        "p_value": min(1.0, 2 * min(noise.p_value, which.p_value)),
        "detects": noise.detects,
    }
