"""Chapter "Scores and heat": Tweedie, the heat flow, Burgers, reversal. Every law, at a fixed noise variance t > 0."""

import math
from typing import Any

import numpy as np
import torch
from scipy import optimize, stats

from kss import dynamics
from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Distribution, Empirical, Gaussian, GaussianMixture
from kss.scores.protocol import score_function
from kss.testing.compare import agree, require
from kss.testing.properties import for_all, numpy_generator
from kss.testing.statistics import dkw_test
from kss.theory import heat

CHAPTER = "scores_and_heat"
EPSILON = torch.finfo(torch.float64).eps
EVERY_LAW = r"Every probability law $p_*$ on $\mathbb R^d$, every $x \in \mathbb R^d$ and every $t > 0$; no moment is needed."

Numbers = dict[str, Any]


# --- Tweedie's formulas ---------------------------------------------------------------------------------------------------

claim(
    "heat.tweedie",
    title="The score points from x to the posterior mean",
    statement=r"""With $m_t(x) = \mathbb E[X_0 \mid X_t = x]$,

$$\nabla\log p_t(x) = \frac{m_t(x) - x}{t}.$$""",
    source="Robbins 1956; Miyasawa 1961; Efron, J. Amer. Statist. Assoc. 106 (2011)",
    regime=EVERY_LAW,
    chapter=CHAPTER,
    verdict="holds",
)


def _integrated(polynomial: Any, y: Any) -> Any:
    """`E[polynomial(Y) | X_t = x]`: each monomial of y becomes the symbol of its moment, since the kernel is linear in p_*."""
    import sympy

    total = sympy.Integer(0)
    for powers, coefficient in sympy.Poly(sympy.expand(polynomial), *y).terms():
        total += coefficient * (1 if not any(powers) else sympy.Symbol("E" + "".join(map(str, powers))))
    return total


@check(
    "heat.tweedie",
    by="proof",
    mutants={
        "sign": returns(lambda score, *_: -score),
        "standard deviation for variance": instead(lambda mean, x, t: (mean - x) / t**0.5),
        "half": instead(lambda mean, x, t: (mean - x) / (2 * t)),
    },
)
def differentiate_the_kernel(predict: Any = heat.score_from_mean, *, generator: torch.Generator) -> Numbers:
    """`dG/dx = G (y - x)/t`, and integrating against p_* turns 1 into `p_t` and y into `m_t p_t`."""
    import sympy

    x, y = sympy.symbols("x y", real=True)
    t = sympy.Symbol("t", positive=True)
    kernel = sympy.exp(-((x - y) ** 2) / (2 * t))
    score = _integrated(sympy.simplify(sympy.diff(kernel, x) / kernel), [y])
    remainder = sympy.simplify(score - predict(sympy.Symbol("E1"), x, t))
    require(remainder == 0, f"grad p/p - prediction = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "heat.tweedie",
    by="property",
    mutants={
        "sign": returns(lambda score, *_: -score),
        "off by 1e-9": returns(lambda score, *_: score * (1 + 1e-9)),
        "standard deviation for variance": instead(lambda law, x, t: law.posterior(x, t).displacement / t**0.5),
        "score of the kernel at the nearest mean": instead(lambda law, x, t: -x / t),
    },
)
def score_is_the_gradient_of_the_log_density(predict: Any = Distribution.score, *, generator: torch.Generator) -> Numbers:
    """The package's score against difference quotients of the log-density, in 150 digits."""
    from kss.testing import reference, strategies

    rng, worst = numpy_generator(generator), 0.0

    def test(case: strategies.Case[Distribution]) -> None:
        nonlocal worst
        expected, allowed = reference.evaluate(case.law, case.x, case.t, reference.Field.score, rng)
        worst = max(worst, agree(f"score of {case}", predict(case.law, case.x, case.t), expected, allowed))
        # The other half of the formula: x + t s is the posterior mean, up to the rounding of that sum.
        mean = case.x.numpy() + case.t * expected
        size = float(case.x.abs().max()) + case.t * float(np.abs(expected).max()) + float(case.law.sample(16, 0).abs().max())
        rounding = 16 * EPSILON * size
        agree(f"mean of {case}", case.law.denoise(case.x, case.t), mean, case.t * allowed + rounding)

    return for_all(strategies.cases(strategies.distributions()), test, generator=generator, examples=40) | {"worst error/allowance": worst}


claim(
    "heat.tweedie_second",
    title="The Jacobian of the score is the posterior covariance, rescaled and shifted",
    statement=r"""With $C_t(x) = \operatorname{Cov}[X_0 \mid X_t = x]$,

$$\nabla s_t(x) = \frac{C_t(x)}{t^2} - \frac{I}{t}.$$""",
    source="Efron, J. Amer. Statist. Assoc. 106 (2011), section 2, for d = 1; derived here for every d",
    regime=EVERY_LAW,
    uses=("heat.tweedie",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "heat.tweedie_second",
    by="proof",
    mutants={
        "sign of the identity": instead(lambda c, t, identity: c / t**2 + identity / t),
        "covariance over t": instead(lambda c, t, identity: c / t - identity / t),
        "doubled": returns(lambda jacobian, *_: 2 * jacobian),
    },
)
def differentiate_the_kernel_twice(predict: Any = heat.jacobian_from_covariance, *, generator: torch.Generator) -> Numbers:
    """One entry on the diagonal and one off it; every other is one of these by symmetry."""
    import sympy

    x, y = sympy.symbols("x1 x2", real=True), sympy.symbols("y1 y2", real=True)
    t = sympy.Symbol("t", positive=True)
    kernel = sympy.exp(-sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / (2 * t))

    def moment(*variables: Any) -> Any:
        return _integrated(sympy.simplify(sympy.diff(kernel, *variables) / kernel), y)

    e10, e01, e20, e11 = sympy.symbols("E10 E01 E20 E11")
    diagonal = moment(x[0], x[0]) - moment(x[0]) ** 2 - predict(e20 - e10**2, t, 1)
    corner = moment(x[0], x[1]) - moment(x[0]) * moment(x[1]) - predict(e11 - e10 * e01, t, 0)
    remainder = [sympy.simplify(diagonal), sympy.simplify(corner)]
    require(remainder == [0, 0], f"Hess log p - prediction = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "heat.tweedie_second",
    by="property",
    mutants={
        "identity forgotten": returns(lambda jacobian, law, x, t: jacobian + torch.eye(law.dim, dtype=jacobian.dtype) / t),
        "off by 1e-9": returns(lambda jacobian, *_: jacobian * (1 + 1e-9)),
        "covariance not squared": instead(lambda law, x, t: (law.posterior(x, t).covariance() - torch.eye(law.dim)) / t),
    },
)
def jacobian_is_the_hessian_of_the_log_density(predict: Any = Distribution.score_jacobian, *, generator: torch.Generator) -> Numbers:
    """The package's Jacobian against second difference quotients of the log-density, in 150 digits."""
    from kss.testing import reference, strategies

    rng, worst = numpy_generator(generator), 0.0

    def test(case: strategies.Case[Distribution]) -> None:
        nonlocal worst
        expected, allowed = reference.evaluate(case.law, case.x, case.t, reference.Field.hessian, rng)
        # Called through the instance's class, so that laws which override the formula are tested as they are.
        method = type(case.law).score_jacobian if predict is Distribution.score_jacobian else predict
        worst = max(worst, agree(f"Jacobian of {case}", method(case.law, case.x, case.t), expected, allowed))

    return for_all(strategies.cases(strategies.distributions()), test, generator=generator, examples=40) | {"worst error/allowance": worst}


@check(
    "heat.tweedie_second",
    by="property",
    mutants={
        "off by 1e-6": returns(lambda jacobian, *_: jacobian * (1 + 1e-6)),
        "covariance over t": instead(lambda c, t, identity: c / t - identity / t),
        "sign of the identity": instead(lambda c, t, identity: c / t**2 + identity / t),
    },
)
def covariance_gives_the_hessian(predict: Any = heat.jacobian_from_covariance, *, generator: torch.Generator) -> Numbers:
    """The formula, fed with the package's posterior covariance, against second difference quotients in 150 digits."""
    from kss.testing import reference, strategies

    rng, worst = numpy_generator(generator), 0.0

    def test(case: strategies.Case[Distribution]) -> None:
        nonlocal worst
        expected, allowed = reference.evaluate(case.law, case.x, case.t, reference.Field.hessian, rng)
        covariance = case.law.posterior(case.x, case.t).covariance()
        # The two terms cancel where the law is flat; each carries its own rounding, and that of inputs moved by units in
        # the last place.
        allowed += 1e3 * EPSILON * (float(covariance.abs().max()) / case.t**2 + 1 / case.t)
        got = predict(covariance, case.t, torch.eye(case.law.dim, dtype=torch.float64))
        worst = max(worst, agree(f"C/t^2 - I/t of {case}", got, expected, allowed))

    return for_all(strategies.cases(strategies.distributions()), test, generator=generator, examples=40) | {"worst error/allowance": worst}


claim(
    "heat.hessian_bound",
    title="Noise bounds the curvature of every log-density from below",
    statement=r"$\operatorname{Hess}\log p_t(x) \succeq -I/t$, and no larger constant serves all laws: a point mass attains it.",
    source="classical; derived here (a covariance is positive semidefinite)",
    regime=EVERY_LAW,
    uses=("heat.tweedie_second",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "heat.hessian_bound",
    by="property",
    mutants={
        "half": returns(lambda bound, t: bound / 2),
        "twice, true but not sharp": returns(lambda bound, t: 2 * bound),
        "standard deviation for variance": instead(lambda t: -(t**-0.5)),
        "upper bound": returns(lambda bound, t: -bound),
    },
)
def least_eigenvalue(predict: Any = heat.hessian_bound, *, generator: torch.Generator) -> Numbers:
    """The least eigenvalue of the Hessian, from 150-digit difference quotients, over random laws; and of a point mass."""
    from kss.testing import reference, strategies

    rng, tightest = numpy_generator(generator), math.inf

    def least(law: Distribution, x: torch.Tensor, t: float) -> tuple[float, float]:
        hessian, allowed = reference.evaluate(law, x, t, reference.Field.hessian, rng)
        return float(np.linalg.eigvalsh(hessian)[0]), law.dim * (allowed + EPSILON * np.abs(hessian).max())

    def test(case: strategies.Case[Distribution]) -> None:
        nonlocal tightest
        value, allowed = least(case.law, case.x, case.t)
        bound = predict(case.t)
        require(value >= bound - allowed, f"least eigenvalue {value:.9g} < {bound:.9g} for {case}")
        tightest = min(tightest, (value - bound) * case.t)
        point = Empirical(case.x.unsqueeze(0))
        value, allowed = least(point, case.x, case.t)
        agree("curvature of a point mass", value, bound, allowed)

    return for_all(strategies.cases(strategies.distributions()), test, generator=generator, examples=40) | {
        "least (eigenvalue - bound) t": tightest
    }


# --- The heat flow --------------------------------------------------------------------------------------------------------

claim(
    "heat.equation",
    title="Densities follow the heat equation",
    statement=r"""$$\partial_t p_t = \tfrac12\Delta p_t, \qquad
\partial_t\log p_t = \tfrac12\left(\Delta\log p_t + |\nabla\log p_t|^2\right).$$""",
    source="classical: the Gaussian kernel is the heat kernel",
    regime=EVERY_LAW,
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "heat.equation",
    by="proof",
    mutants={
        "no one half": returns(lambda rate, *_: 2 * rate),
        "backward": returns(lambda rate, *_: -rate),
        "no one half, as in physics": instead(lambda laplacian: laplacian),
    },
)
def kernel_solves_the_heat_equation(predict: Any = heat.density_rate, *, generator: torch.Generator) -> Numbers:
    """The kernel as a function of r = |x - y|, in a symbolic dimension d; p_t is a superposition of kernels."""
    import sympy

    r, t, d = sympy.symbols("r t d", positive=True)
    kernel = (2 * sympy.pi * t) ** (-d / 2) * sympy.exp(-(r**2) / (2 * t))
    laplacian = sympy.diff(kernel, r, 2) + (d - 1) / r * sympy.diff(kernel, r)
    remainder = sympy.simplify((sympy.diff(kernel, t) - predict(laplacian)) / kernel)
    require(remainder == 0, f"(d_t G - prediction)/G = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "heat.equation",
    by="proof",
    mutants={
        "sign": returns(lambda rate, *_: -rate),
        "square forgotten": instead(lambda laplacian_of_log, score_square: laplacian_of_log / 2),
        "density for log-density": instead(lambda laplacian_of_log, score_square: (laplacian_of_log - score_square) / 2),
    },
)
def take_the_logarithm(predict: Any = heat.log_density_rate, *, generator: torch.Generator) -> Numbers:
    """With `d_t p = (1/2) Lap p` put in, for an unspecified positive density of three variables."""
    import sympy

    x, t = sympy.symbols("x1 x2 x3", real=True), sympy.Symbol("t", positive=True)
    p = sympy.Function("p", positive=True)(*x, t)
    rate = sum(sympy.diff(p, a, 2) for a in x) / 2 / p
    laplacian = sum(sympy.diff(sympy.log(p), a, 2) for a in x)
    square = sum(sympy.diff(sympy.log(p), a) ** 2 for a in x)
    remainder = sympy.simplify(sympy.expand(rate - predict(laplacian, square)))
    require(remainder == 0, f"d_t log p - prediction = {remainder}")
    return {"remainder": str(remainder)}


@check(
    "heat.equation",
    by="property",
    mutants={
        "off by 1e-9": returns(lambda rate, *_: rate * (1 + 1e-9)),
        "no one half": instead(lambda laplacian_of_log, score_square: laplacian_of_log + score_square),
    },
)
def rate_of_the_log_density(predict: Any = heat.log_density_rate, *, generator: torch.Generator) -> Numbers:
    """The right-hand side from the package's score and Jacobian, the left by difference quotients in t, in 150 digits."""
    from kss.testing import reference, strategies

    rng, worst = numpy_generator(generator), 0.0

    def rate(field: reference.Field, x: reference.Vector) -> Any:
        step = field.t * reference.STEP
        ahead, behind = (reference.Field(field.law, field.t + sign * step).log_density(x) for sign in (1, -1))
        return (ahead - behind) / (2 * step)

    def test(case: strategies.Case[Distribution]) -> None:
        nonlocal worst
        log_density, allowed = reference.evaluate(case.law, case.x, case.t, reference.Field.log_density, rng)
        # Logarithms of t and of 2 pi, d times, are added to the exponent.
        allowed += 64 * EPSILON * case.law.dim * (2 + abs(math.log(case.t)))
        agree(f"log-density of {case}", case.law.log_density(case.x, case.t), log_density, allowed)
        expected, allowed = reference.evaluate(case.law, case.x, case.t, rate, rng)
        laplacian = case.law.score_jacobian(case.x, case.t).trace()
        square = (case.law.score(case.x, case.t) ** 2).sum()
        # The two terms cancel; each carries its own rounding, and that of inputs moved by units in the last place.
        allowed += 1e3 * EPSILON * float(laplacian.abs() + square)
        worst = max(worst, agree(f"d_t log p of {case}", predict(laplacian, square), expected, allowed))

    return for_all(strategies.cases(strategies.distributions()), test, generator=generator, examples=40) | {"worst error/allowance": worst}


claim(
    "heat.burgers",
    title="Scores follow a viscous Burgers equation",
    statement=r"$$\partial_t s_t = \tfrac12\Delta s_t + (\nabla s_t)\,s_t.$$",
    source="classical (Cole-Hopf transform of the heat equation)",
    regime=EVERY_LAW,
    uses=("heat.equation",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "heat.burgers",
    by="proof",
    mutants={
        "no convection": instead(lambda laplacian, convection: laplacian / 2),
        "half the convection": instead(lambda laplacian, convection: (laplacian + convection) / 2),
        "sign": returns(lambda rate, *_: -rate),
    },
)
def differentiate_the_rate_of_the_log_density(predict: Any = heat.burgers_rate, *, generator: torch.Generator) -> Numbers:
    """The gradient of `d_t u = (1/2)(Lap u + |grad u|^2)` for an unspecified u = log p of three variables."""
    import sympy

    x = sympy.symbols("x1 x2 x3", real=True)
    u = sympy.Function("u")(*x)
    score = [sympy.diff(u, a) for a in x]
    rate = (sum(sympy.diff(u, a, 2) for a in x) + sum(s**2 for s in score)) / 2
    remainders = []
    for a, s in zip(x, score, strict=True):
        laplacian = sum(sympy.diff(s, b, 2) for b in x)
        convection = sum(sympy.diff(s, b) * v for b, v in zip(x, score, strict=True))
        remainders.append(sympy.expand(sympy.diff(rate, a) - predict(laplacian, convection)))
    require(remainders == [0, 0, 0], f"d_t s - prediction = {remainders}")
    return {"remainder": str(remainders)}


def _convection(score: Any, x: torch.Tensor, t: float, *, transposed: bool) -> torch.Tensor:
    """`(grad s) s`, or `(grad s)^T s`, the same for every gradient field and for no other."""
    s: Any = score_function(score)  # takes a tensor t here, so that the batch can be mapped over
    time = torch.full(x.shape[:1], t, dtype=x.dtype)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y, u: s(y.unsqueeze(0), u.unsqueeze(0)).squeeze(0)))(x, time)
    return torch.einsum("nji,nj->ni" if transposed else "nij,nj->ni", jacobian, s(x, time))


def _transposed_convection(score: Any, x: torch.Tensor, t: float) -> torch.Tensor:
    """A slip that no gradient field shows."""
    wrong, right = (_convection(score, x, t, transposed=flag) for flag in (True, False))
    return heat.burgers_residual(score, x, t) + right - wrong


def _without_convection(score: Any, x: torch.Tensor, t: float) -> torch.Tensor:
    """What a careless author would test: the heat equation for the score itself."""
    return heat.burgers_residual(score, x, t) + _convection(score, x, t, transposed=False)


@check(
    "heat.burgers",
    by="property",
    mutants={
        "always zero": returns(lambda residual, *_: 0 * residual),
        "doubled": returns(lambda residual, *_: 2 * residual),
        "heat equation for the score": instead(_without_convection),
        "convection transposed": instead(_transposed_convection),
    },
)
def residual_of_scores_and_of_a_field_that_is_none(predict: Any = heat.burgers_residual, *, generator: torch.Generator) -> Numbers:
    """Zero to rounding for the package's scores; for `-x/(v + c t)` it is `(c - 1) x/(v + c t)^2`, zero at c = 1 only."""
    from hypothesis import strategies as st

    from kss.testing import strategies

    worst = 0.0
    # No gradient field, and with a Laplacian: s = t (x2^2, x1 x2).
    y, t = torch.randn(5, 2, dtype=torch.float64, generator=generator), 0.7
    x1, x2 = y.T
    convection = torch.stack((2 * x1 * x2**2, x2**3 + x1**2 * x2), -1)
    expected = torch.stack((x2**2 - t, x1 * x2), -1) - t**2 * convection

    def rotational(y: torch.Tensor, u: Any) -> torch.Tensor:
        return u.reshape(-1, 1) * torch.stack((y[:, 1] ** 2, y[:, 0] * y[:, 1]), -1)

    agree("residual of a field with rotation", predict(rotational, y, t), expected, 64 * EPSILON * (1 + float(y.abs().max()) ** 3))

    def test(case: strategies.Case[Distribution]) -> None:
        nonlocal worst
        x, t = case.x.unsqueeze(0), case.t
        # Every point of the law is within D of x; the terms are cumulants up to the third order over powers of t, and
        # an exponent of size D^2/t carries that many roundings.
        size = float(x.abs().max()) + float(case.law.sample(64, 0).abs().max()) + t**0.5
        allowed = 64 * EPSILON * (1 + size**2 / t) * (size**3 / t**3 + size / t**2)
        worst = max(worst, agree(f"residual for {case}", predict(case.law, x, t), torch.zeros_like(x), allowed))
        for c in (0.5, 2.0):
            expected = (c - 1) * x / (1 + c * t) ** 2
            residual = predict(lambda y, u, c=c: -y / (1 + c * torch.as_tensor(u)).reshape(-1, 1), x, t)
            agree(f"residual of -x/(1 + {c} t)", residual, expected, 64 * EPSILON * size * (1 / (1 + c * t)))

    # Second derivatives by forward differentiation twice cost d passes each; four dimensions show every term.
    cases = strategies.cases(st.integers(1, 4).flatmap(strategies.distributions), low=-2.0, high=4.0)
    return for_all(cases, test, generator=generator, examples=12) | {"worst error/allowance": worst}


# --- Reversal -------------------------------------------------------------------------------------------------------------

REVERSAL = r"""Every law $p_*$ on $\mathbb R^d$; $T > t_{\min} > 0$; started exactly from $p_T$; driven by the true score $s_t$ of $p_t$
at every $t \in [t_{\min}, T]$; exact solution in time, no discretization."""

claim(
    "heat.reversal_sde",
    title="The reverse SDE undoes the diffusion",
    statement=r"""If $Y_0 \sim p_T$ and $dY_\tau = s_{T-\tau}(Y_\tau)\,d\tau + dB_\tau$ with $B$ independent of $Y_0$,
then $Y_\tau \sim p_{T-\tau}$ for all $0 \le \tau \le T - t_{\min}$. Moreover the whole path $(Y_\tau)$ has the law of $(X_{T-\tau})$.""",
    source="Anderson, Stochastic Process. Appl. 12 (1982); Haussmann and Pardoux, Ann. Probab. 14 (1986)",
    regime=REVERSAL,
    uses=("heat.equation",),
    chapter=CHAPTER,
    verdict="holds",
)

claim(
    "heat.reversal_ode",
    title="So does the probability flow, without noise",
    statement=r"""If $Y_0 \sim p_T$ and $\dot Y_\tau = \tfrac12 s_{T-\tau}(Y_\tau)$, then $Y_\tau \sim p_{T-\tau}$
for all $0 \le \tau \le T - t_{\min}$.""",
    source="Song et al., arXiv 2011.13456, appendix D.1",
    regime=REVERSAL,
    uses=("heat.equation",),
    chapter=CHAPTER,
    verdict="holds",
)


def _fokker_planck_remainder(drift: Any, diffusion: int) -> Any:
    """`d_tau q + div(q drift) - (diffusion/2) Lap q` for `q = p_{T - tau}`, which solves `d_tau q = -(1/2) Lap q`."""
    import sympy

    x = sympy.symbols("x1 x2 x3", real=True)
    q = sympy.Function("q", positive=True)(*x)
    laplacian = sum(sympy.diff(q, a, 2) for a in x)
    transport = sum(sympy.diff(q * drift(sympy.diff(sympy.log(q), a)), a) for a in x)
    return sympy.simplify(sympy.expand(-laplacian / 2 + transport - sympy.Rational(diffusion, 2) * laplacian))


@check(
    "heat.reversal_sde",
    by="proof",
    mutants={
        "forward drift": returns(lambda drift, *_: -drift),
        "drift of the flow": instead(lambda score: score / 2),
    },
)
def fokker_planck_with_noise(predict: Any = dynamics.reverse_sde_drift, *, generator: torch.Generator) -> Numbers:
    """The reversed heat flow solves the Fokker-Planck equation of the reverse SDE."""
    remainder = _fokker_planck_remainder(predict, diffusion=1)
    require(remainder == 0, f"Fokker-Planck remainder {remainder}")
    return {"remainder": str(remainder)}


@check(
    "heat.reversal_ode",
    by="proof",
    mutants={
        "forward": returns(lambda drift, *_: -drift),
        "drift of the SDE": instead(lambda score: score),
    },
)
def continuity_equation(predict: Any = dynamics.probability_flow_drift, *, generator: torch.Generator) -> Numbers:
    """The reversed heat flow solves the continuity equation of the probability flow."""
    remainder = _fokker_planck_remainder(predict, diffusion=0)
    require(remainder == 0, f"continuity remainder {remainder}")
    return {"remainder": str(remainder)}


_CENTERS, _VARIANCE, _WEIGHTS = (-1.0, 1.0), 0.05, (0.3, 0.7)
_T_MAX, _T_MIN = 10.0, 0.01


def _bimodal() -> GaussianMixture:
    """Two unequal bumps on the line: a reflection, a wrong width and a wrong weight all show."""
    return GaussianMixture([[c] for c in _CENTERS], [[_VARIANCE]], _WEIGHTS)


def _bimodal_cdf(y: Any, t: float) -> Any:
    """Its distribution function under noise of variance t, from scipy."""
    return sum(w * stats.norm.cdf(y, c, math.sqrt(_VARIANCE + t)) for w, c in zip(_WEIGHTS, _CENTERS, strict=True))


@check(
    "heat.reversal_sde",
    by="statistics",
    lane="full",
    alpha=1e-8,
    detects="Kolmogorov distance 0.046 from p_t, with probability 0.999; distances below 0.01 are tolerated, for the time steps",
    mutants={
        "reflected": returns(lambda y, *_, **__: -y),
        "off by a fifth of a standard deviation": returns(lambda y, *_, **__: y + 0.2 * math.sqrt(_VARIANCE + _T_MIN)),
        "drift of the flow": instead(
            lambda score, start, **how: dynamics.sample_reverse_sde(lambda x, t: score.score(x, t) / 2, start, **how)
        ),
        "no noise": instead(
            lambda score, start, generator, **how: dynamics.sample_probability_flow(lambda x, t: 2 * score.score(x, t), start, **how)
        ),
    },
)
def law_of_reversed_samples(predict: Any = dynamics.sample_reverse_sde, *, generator: torch.Generator) -> Numbers:
    """20000 paths of the sampler against the exact distribution function, by the Dvoretzky-Kiefer-Wolfowitz inequality."""
    law = _bimodal()
    start = law.diffuse(20_000, _T_MAX, generator)
    samples = predict(law, start, t_max=_T_MAX, t_min=_T_MIN, steps=150, generator=generator)
    require(samples.shape == start.shape, f"{len(start)} starts gave samples of shape {tuple(samples.shape)}")
    y = samples.squeeze(-1)
    verdict = dkw_test(y, lambda v: torch.from_numpy(_bimodal_cdf(v.numpy(), _T_MIN)), alpha=1e-8, slack=0.01)
    require(not verdict.rejected, f"Kolmogorov distance {verdict.statistic:.4f}, p-value {verdict.p_value:.3g}")
    return {"Kolmogorov distance": verdict.statistic, "p_value": verdict.p_value, "detects": verdict.detects}


@check(
    "heat.reversal_ode",
    by="quadrature",
    mutants={
        "off by one percent": returns(lambda y, *_, **__: 1.01 * y),
        "drift of the SDE": instead(
            lambda score, start, **how: dynamics.sample_probability_flow(lambda x, t: 2 * score.score(x, t), start, **how)
        ),
        "no drift": instead(lambda score, start, **how: start),
    },
)
def flow_maps_quantiles_to_quantiles(predict: Any = dynamics.sample_probability_flow, *, generator: torch.Generator) -> Numbers:
    """On the line a flow keeps order, so it carries the law p_T to p_t exactly when it carries quantiles to quantiles."""
    levels = (np.arange(40) + 0.5) / 40

    def quantiles(t: float) -> np.ndarray:
        return np.array([optimize.brentq(lambda y, u=u: _bimodal_cdf(y, t) - u, -40, 40, xtol=1e-13) for u in levels])

    law, start, expected = _bimodal(), torch.from_numpy(quantiles(_T_MAX)).unsqueeze(-1), quantiles(_T_MIN)
    coarse, fine = (predict(law, start, t_max=_T_MAX, t_min=_T_MIN, steps=n).squeeze(-1).numpy() for n in (50, 100))
    # The method is of second order: the finer error is a third of the difference. Half of it excludes first order, where
    # it would be all of it.
    allowed = np.abs(fine - coarse).max() / 2
    require(allowed < 2e-4, f"two step sizes differ by {2 * allowed:.3g}")
    return {"error/allowance": agree("image of the quantiles", fine, expected, allowed), "allowed": float(allowed)}


claim(
    "heat.tower",
    title="Denoising in two steps is denoising in one, on average",
    statement=r"$\mathbb E\left[m_u(X_u) \mid X_t = x\right] = m_t(x)$ for $0 < u < t$.",
    source="tower property: given $X_u$, the earlier $X_0$ and the later $X_t$ are independent",
    regime=r"""Every law $p_*$, every $x$, all $0 < u < t$, with the noise added bit by bit: $X_t - X_u$ is independent of
$(X_0, X_u)$.""",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "heat.tower",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda mean, *_: mean * (1 + 1e-6)),
        "denoised to time u only": instead(lambda law, x, t: x + t / 2 * law.score(x, t)),
        "score for denoiser": instead(lambda law, x, t: law.score(x, t)),
    },
)
def average_over_the_intermediate_point(predict: Any = Distribution.denoise, *, generator: torch.Generator) -> Numbers:
    """On the line, the trapezoid rule over X_u given X_t = x; weights and `m_t` straight from the Gaussian densities."""
    from kss.testing import strategies

    worst = 0.0

    def parts(law: Distribution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if isinstance(law, Empirical):
            centers = law.points.numpy()[:, 0]
            return centers, np.zeros(len(centers)), np.full(len(centers), 1 / len(centers))
        assert isinstance(law, GaussianMixture)
        return law.means.numpy()[:, 0], law.covariances.numpy()[:, 0, 0], law.weights.numpy()

    def test(drawn: tuple[strategies.Case[Distribution], float]) -> None:
        nonlocal worst
        case, fraction = drawn
        x, t, u = float(case.x[0]), case.t, fraction * case.t
        centers, spread, weights = parts(case.law)
        likelihood = weights * stats.norm.pdf(x, centers, np.sqrt(spread + t))
        expected = (likelihood * (centers + spread / (spread + t) * (x - centers))).sum() / likelihood.sum()
        # X_u given x mixes Gaussians of variance at least u(t-u)/t: at a quarter of that standard deviation a step the
        # trapezoid rule errs by exp(-2 (4 pi)^2 / 4) = exp(-79), and twelve deviations of the widest cut off exp(-72).
        step, reach = math.sqrt(u * (t - u) / t) / 4, 12 * math.sqrt(t + spread.max())
        low, high = min(x, centers.min()) - reach, max(x, centers.max()) + reach
        y = np.linspace(low, high, 2 + int((high - low) / step))
        density = (weights[:, None] * stats.norm.pdf(y, centers[:, None], np.sqrt(spread + u)[:, None])).sum(0)
        weight = density * stats.norm.pdf(y, x, math.sqrt(t - u))
        inner = predict(case.law, torch.from_numpy(y).unsqueeze(-1), u)[:, 0].numpy()
        got = float((weight * inner).sum() / weight.sum())
        # Exponents of size (high - low)^2/u are rounded, in the weights here and in the package.
        allowed = 16 * EPSILON * (high - low) * (1 + ((high - low) / (t - u) ** 0.5) + (np.ptp(centers) ** 2 / u))
        worst = max(worst, agree(f"E[m_u | X_t] for u = {u} and {case}", got, expected, allowed))

    from hypothesis import strategies as st

    one_dimensional = st.one_of(strategies.mixtures(1), strategies.datasets(dim=1, most=5).map(Empirical), st.just(Gaussian([0.5], 1.0)))
    pairs = st.tuples(strategies.cases(one_dimensional, low=-2.0, high=3.0), st.floats(0.1, 0.9))
    return for_all(pairs, test, generator=generator, examples=50) | {"worst error/allowance": worst}
