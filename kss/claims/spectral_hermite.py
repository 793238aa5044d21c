"""Chapter "The spectral view", last part: noise around a Gaussian law, where convolution is not diagonal."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import special

from kss.claims.registry import check, claim, instead, returns
from kss.claims.spectral import CHAPTER, EPSILON, Numbers
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import hermite

claim(
    "spectral.hermite_noise",
    title="Around a Gaussian law Hermite coefficients of the noise are uncorrelated, and heat damps them",
    statement=r"""Let $p_* = \mathcal N(0, vI_d)$ and $\psi_n(x) = \prod_j He_{n_j}(x_j/\sqrt{v+t})/\sqrt{n_j!}$, orthonormal in
$L^2(p_t)$. The coefficients $b_n = \int p_t\,\psi_n\,\delta_t^N$ of the linearized noise $\delta_t^N = p_t^N/p_t - 1$ of $N$ independent
data have mean 0, are uncorrelated, and

$$\mathbb E\,b_n^2 = \frac1N\Big(\frac v{v+t}\Big)^{|n|}, \quad |n| = n_1 + \dots + n_d \geq 1, \qquad
\mathbb E\int p_t\,(\delta_t^N)^2\,dx = \sum_{n\neq0}\mathbb E\,b_n^2 = \frac1N\Big[\Big(1 + \frac vt\Big)^d - 1\Big].$$""",
    source="Mehler's formula; derived here",
    regime=r"""Every $v, t > 0$, $d$ and $N \ge 1$; data i.i.d. Exact, for the linearized noise. (By a shift and a rotation
the same for any mean and covariance, with a product over the axes of $v_j/(v_j + t)$; not checked.)""",
    chapter=CHAPTER,
    verdict="holds",
)


@cache
def _hermite_moments(most: int) -> Any:
    """For symbols v, t: the matrix `E[b_n b_m]`, N = 1, n, m = 0..most (`b_0 = 1`: the means), in exact arithmetic.

    `int psi_n(x) G_t(x - y) dx` by the moments of a normal variable, then the mean of products over `y ~ N(0, v)` by moments again.
    """
    import sympy

    v, t = sympy.symbols("v t", positive=True)
    x, y, z = sympy.symbols("x y z")

    def mean(expression: Any, variable: Any, variance: Any) -> Any:
        terms = sympy.Poly(sympy.expand(expression), variable).terms()
        return sum(c * sympy.factorial2(n - 1) * variance ** (n // 2) for (n,), c in terms if n % 2 == 0)

    seen = []
    for n in range(most + 1):
        polynomial = sum(
            sympy.Rational((-1) ** j * math.factorial(n), math.factorial(j) * math.factorial(n - 2 * j) * 2**j)
            * x ** (n - 2 * j)
            * (v + t) ** j
            for j in range(n // 2 + 1)
        )  # (v + t)^{n/2} He_n(x/sqrt(v + t))
        seen.append(mean(polynomial.subs(x, y + z), z, t))
    return sympy.Matrix(most + 1, most + 1, lambda i, j: mean(seen[i] * seen[j], y, v)), v, t


@check(
    "spectral.hermite_noise",
    by="proof",
    mutants={
        "twice": returns(lambda variance, *_: 2 * variance),
        "power n/2": returns(lambda variance, order, v, t, count: variance * ((v + t) / v) ** (order - 1) if order > 1 else 2 * variance),
        "N ignored": returns(lambda variance, order, v, t, count: variance * count),
        "N^2": returns(lambda variance, order, v, t, count: variance / count),
        "v/t": instead(lambda order, v, t, count: (v / (v + 2 * t)) ** order / count),
        "t/(v + t)": instead(lambda order, v, t, count: (t / (v + t)) ** order / count),
        "n factorial": instead(lambda order, v, t, count: math.factorial(order + 1) * (v / (v + t)) ** order / count),
    },
)
def moments_of_hermite_coefficients(predict: Any = hermite.noise_variance, *, generator: torch.Generator) -> Numbers:
    """Orders 1..5, v, t and N symbols: means and products of different orders vanish, squares are the prediction times `N n! (v + t)^n`.

    The coefficients of N data are means of N independent ones with mean 0: hence the 1/N.
    """
    import sympy

    matrix, v, t = _hermite_moments(5)
    count = sympy.Symbol("N", positive=True)
    for i, j in itertools.product(range(1, 6), range(6)):
        expected = count * predict(i, v, t, count) * math.factorial(i) * (v + t) ** i if i == j else 0
        remainder = sympy.cancel(matrix[i, j] - expected)
        require(remainder == 0, f"E b_{i} b_{j}: off by {remainder}")
    return {"remainder": "0", "orders": 5}


@check(
    "spectral.hermite_noise",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda total, *_: total * (1 + 1e-9)),
        "1 forgotten": instead(lambda v, t, d, count: (1 + v / t) ** d / count),
        "t^(-d/2)": instead(lambda v, t, d, count: ((1 + v / t) ** (d / 2) - 1) / count),
        "one axis": instead(lambda v, t, d, count: d * v / t / count),
        "1/N^2": returns(lambda total, v, t, d, count: total / count),
    },
)
def total_by_double_integral(predict: Any = hermite.total_noise, *, generator: torch.Generator) -> Numbers:
    """`E int p_t delta^2 = (1/N) [prod_j int int p_*(y) G_t(x - y)^2/p_t(x) dx dy - 1]` by plain sums, and the sum over all orders."""
    rng, worst = numpy_generator(generator), 0.0
    for d, count in ((1, 1), (2, 7), (3, 20)):
        v, t = float(rng.uniform(0.5, 2)), float(rng.uniform(0.3, 1))
        one = _pair_integral(v, t, 0.0)
        expected = (one**d - 1) / count
        got = predict(v, t, d, count)
        worst = max(worst, agree(f"d = {d}, v = {v}, t = {t}", got, expected, 1e-12 * one**d))
        orders = np.arange(1, 400)
        ratio = v / (v + t)
        series = float((special.comb(orders + d - 1, d - 1) * ratio**orders).sum()) / count
        worst = max(worst, agree("sum over orders", got, series, 1e-12 * one**d))  # ratio <= 0.87: the tail is below 1e-19
    return {"worst error/allowance": worst}


@cache
def _pair_integral(v: float, t: float, h: float) -> float:
    """`int int p_*(y) p_t(x) (G_h * [G_t(. - y)/p_t])(x)^2 dx dy`, d = 1; the average over the kernel is a sum, as are the integrals."""
    s = v + t
    # The square is a normal density in (x, y) up to a factor: of standard deviation above sqrt(t)/2 in its narrow direction, below
    # the reach over 6 in its wide one. In u the integrand is narrower than the kernel, and no narrower than both together.
    u = np.linspace(-9, 9, 73) * math.sqrt(h) if h else np.zeros(1)
    weight = np.exp(-(u**2) / (2 * h)) if h else np.ones(1)
    weight /= weight.sum()
    reach = 14 * math.sqrt(s) * math.sqrt(1 + v / t)
    x = np.linspace(-reach, reach, math.ceil(2 * reach / (0.5 * math.sqrt(t))))
    y, total = x[:, None], 0.0
    for block in np.array_split(x, 20):
        place = block[:, None, None] + u
        # p_*(y)^{1/2} p_t(x)^{1/2} G_t(x + u - y)/p_t(x + u), all logarithms together: nothing overflows.
        exponent = -((place - y) ** 2) / (2 * t) + place**2 / (2 * s) - y**2 / (4 * v) - block[:, None, None] ** 2 / (4 * s)
        total += float(((np.exp(exponent) @ weight) ** 2).sum())
    scale = (s / t) / math.sqrt(2 * math.pi * v) / math.sqrt(2 * math.pi * s)
    return float(scale * total * (x[1] - x[0]) ** 2)


claim(
    "spectral.hermite_convolution",
    title="On Hermite polynomials convolution is triangular, with ones on the diagonal",
    statement=r"""With $\eta = h/(v+t)$ and $He_n$ in the variable $x/\sqrt{v+t}$,

$$G_h * He_n = \sum_{j\leq n/2}\frac{n!}{j!\,(n-2j)!}\Big(\frac\eta2\Big)^j He_{n-2j}, \qquad\text{for example}\quad G_h * He_3 = He_3 +
3\eta\,He_1 .$$

In $L^2(p_t)$, $\|G_h * \psi_n\|^2 = \sum_j \frac{n!}{j!^2(n-2j)!}(\eta/2)^{2j} \geq 1$; for $\eta < 1$ it equals
$(1-\eta^2)^{n/2}P_n\big((1-\eta^2)^{-1/2}\big)$ with $P_n$ Legendre's polynomial. The smoothed noise of a Gaussian law is larger than the
raw one:

$$\mathbb E\int p_t\,(G_h * \delta_t^N)^2 = \frac1N\left[\frac{(1 + v/t)^d}{(1 - h^2/h_c^2)^{d/2}} - 1\right], \qquad h < h_c = t(1 +
t/v),$$

and infinite for $h \geq h_c$.""",
    source="derived here",
    regime=r"""Law $\mathcal N(0, vI_d)$ (in the first three formulas $d = 1$), linearized noise, the mean taken over $p_t$; every $h > 0$
where the formula does not say otherwise. Exact.""",
    uses=("spectral.hermite_noise",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "spectral.hermite_convolution",
    by="proof",
    mutants={
        "twice": returns(lambda terms, *_: {m: 2 * c for m, c in terms.items()}),
        "h for h/2": instead(lambda order, eta: hermite.convolve(order, 2 * eta)),
        "alternating": returns(lambda terms, order, eta: {m: c * (-1) ** ((order - m) // 2) for m, c in terms.items()}),
        "diagonal": returns(lambda terms, order, eta: {order: (1 - eta) ** order if order else 1}),
    },
)
def convolved_polynomials(predict: Any = hermite.convolve, *, generator: torch.Generator) -> Numbers:
    """`E He_n(x + sqrt(eta) Z)` for n <= 8, expanded by the moments of Z, against the combination of Hermite polynomials."""
    import sympy

    x, z, eta = sympy.symbols("x z eta")
    polynomials = [sympy.Integer(1), x]
    for n in range(1, 8):
        polynomials.append(sympy.expand(x * polynomials[n] - n * polynomials[n - 1]))
    for n, polynomial in enumerate(polynomials):
        terms = sympy.Poly(sympy.expand(polynomial.subs(x, x + z)), z).terms()
        smoothed = sum(c * sympy.factorial2(m - 1) * eta ** (m // 2) for (m,), c in terms if m % 2 == 0)
        combined = sum(c * polynomials[m] for m, c in predict(n, eta).items())
        require(sympy.expand(smoothed - combined) == 0, f"G * He_{n}: off by {sympy.expand(smoothed - combined)}")
    return {"remainder": "0", "orders": len(polynomials)}


@check(
    "spectral.hermite_convolution",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda norm, *_: norm * (1 + 1e-9)),
        "isometry": instead(lambda order, eta: 1.0),
        "damped": instead(lambda order, eta: (1 - eta) ** order),
        "2 eta": instead(lambda order, eta: hermite.convolved_norm_square(order, 2 * eta)),
    },
)
def norms_of_convolved_polynomials(predict: Any = hermite.convolved_norm_square, *, generator: torch.Generator) -> Numbers:
    """Gauss-Hermite rules for the kernel and for `p_t`, exact for polynomials, against the norm; and Legendre's polynomials from SciPy."""
    worst = 0.0
    node, weight = special.roots_hermitenorm(24)
    weight = weight / weight.sum()
    for n, eta in itertools.product(range(1, 12), (0.1, 0.5, 0.9, 2.0)):
        smoothed = special.eval_hermitenorm(n, node[:, None] + math.sqrt(eta) * node) @ weight
        expected = float(weight @ smoothed**2) / math.factorial(n)
        got = float(predict(n, eta))
        require(got >= 1, f"norm {got} of order {n}, eta = {eta}: below 1")
        worst = max(worst, agree(f"n = {n}, eta = {eta}", got, expected, 1e-11 * expected))
        if eta < 1:
            legendre = (1 - eta**2) ** (n / 2) * float(special.eval_legendre(n, (1 - eta**2) ** -0.5))
            worst = max(worst, agree(f"Legendre, n = {n}, eta = {eta}", got, legendre, 1e-11 * legendre))
    return {"worst error/allowance": worst}


@check(
    "spectral.hermite_convolution",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda total, *_: total * (1 + 1e-6)),
        "time shift": instead(lambda v, t, h, d, count: hermite.total_noise(v, t + h, d, count)),
        "unchanged": instead(lambda v, t, h, d, count: hermite.total_noise(v, t, d, count)),
        "N = 5": instead(lambda v, t, h, d, count: hermite.smoothed_total_noise(v, t, h, d, 5)),
        "h^2 for h": instead(lambda v, t, h, d, count: hermite.smoothed_total_noise(v, t, h**2, d, count)),
        "v and t swapped": instead(
            lambda v, t, h, d, count: ((1 + v / t) ** d * (1 - (h * t / (v * (t + v))) ** 2) ** (-d / 2) - 1) / count
        ),
    },
)
def smoothed_total_by_quadrature(predict: Any = hermite.smoothed_total_noise, *, generator: torch.Generator) -> Numbers:
    """By plain sums over x, y and the kernel for d = 1, and the product for d = 2."""
    worst = 0.0
    for v, t, h in ((1.0, 0.5, 0.4), (1.0, 1.0, 0.3), (2.0, 0.8, 0.5)):
        one = _pair_integral(v, t, h)
        for d in (1, 2):
            worst = max(worst, agree(f"d = {d}, {v, t, h}", predict(v, t, h, d, 5 * d), (one**d - 1) / (5 * d), 1e-9))
        # The terms r^n |G_h * psi_n|^2 of the sum over orders, by Legendre's polynomials: they grow from h = t (1 + t/v) on.
        for factor in (0.9, 1.1):
            eta, ratio = factor * t / v, v / (v + t)
            if eta < 1:
                terms = [ratio**n * (1 - eta**2) ** (n / 2) * float(special.eval_legendre(n, (1 - eta**2) ** -0.5)) for n in (40, 80, 160)]
                require((terms[2] > terms[1] > terms[0]) == (factor > 1), f"terms {terms} at {factor} times the critical bandwidth")
            require(math.isinf(predict(v, t, factor * t * (1 + t / v), 1, 5)) == (factor > 1), f"infinite at {factor} of the critical h?")
    return {"worst error/allowance": worst}


claim(
    "spectral.hermite_damping",
    title="Convolution damps the noise of a Gaussian law mode by mode",
    statement=r"""Convolution with $G_h$ multiplies the Hermite coefficients of the noise $\delta_t^N$ of a Gaussian law by factors below
1, as it does with the Fourier coefficients on the box; so, averaged over $p_t$, smoothed noise is smaller.""",
    source="a reading of the spectral argument beyond its hypotheses; refuted here",
    regime=r"""Refuted for $\mathcal N(0, v I_d)$ and the mean over $p_t$. $G_h * He_3 = He_3 + 3\eta He_1$: the third coefficient is not
damped, and it feeds the first. Every $\psi_n$, $n \geq 2$, becomes longer, and the smoothed noise is larger than the raw one: for
$v = t = 1$, $h = 0.3$, $d = 1$ by 2.3 %, and for the gradient, the noise of the score to first order in $1/N$, by 3.5 %. What is true:
{claim}`spectral.mehler`; and at a single point near the center smoothing may well reduce noise.""",
    uses=("spectral.hermite_convolution",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "spectral.hermite_damping",
    by="counterexample",
    mutants={
        "damped": returns(lambda terms, order, eta: {m: c * 0.9 for m, c in terms.items()}),
        "diagonal": returns(lambda terms, order, eta: {order: terms[order]}),
        "as on the box": instead(lambda order, eta: {order: math.exp(-order * eta / 2)}),
    },
)
def third_order(predict: Any = hermite.convolve, *, generator: torch.Generator) -> Numbers:
    """The smoothed third polynomial projected on the first and third by Gauss-Hermite rules; then the noise of the score for v = t = 1,
    h = 0.3.
    """
    eta = 0.15
    numbers: Numbers = {}
    node, weight = special.roots_hermitenorm(12)
    weight = weight / weight.sum()
    smoothed = special.eval_hermitenorm(3, node[:, None] + math.sqrt(eta) * node) @ weight
    terms = predict(3, eta)
    for m in (1, 3):
        expected = float(weight @ (smoothed * special.eval_hermitenorm(m, node))) / math.factorial(m)
        agree(f"coefficient of He_{m}", float(terms.get(m, 0.0)), expected, 1e-12)
        numbers[f"coefficient of He_{m}"] = expected
    # Score: the derivative of psi_n is sqrt(n/s) psi_{n-1}, so orders weigh n r^n |K psi_{n-1}|^2 with r = 1/2.
    raw = smooth = density = 0.0
    for n in range(1, 90):
        length = sum(float(c) ** 2 * math.factorial(m) for m, c in predict(n - 1, eta).items()) / math.factorial(n - 1)
        own = sum(float(c) ** 2 * math.factorial(m) for m, c in predict(n, eta).items()) / math.factorial(n)
        raw, smooth, density = raw + n * 0.5**n, smooth + n * 0.5**n * length, density + 0.5**n * own
    agree("noise of the score, smoothed over raw", smooth / raw, 1.035, 5e-4)
    agree("noise of the density, smoothed over raw", density, 1.023, 5e-4)
    return numbers | {"noise of the score, smoothed over raw": smooth / raw, "of the density": density}


claim(
    "spectral.mehler",
    title="The Ornstein-Uhlenbeck semigroup is diagonal, and waiting is one step of it",
    statement=r"""$M_uf(x) = \mathbb E f\big(e^{-u}x + \sqrt{1 - e^{-2u}}\sqrt{v+t}\,Z\big)$ multiplies $\psi_n$ by $e^{-|n|u}$. For every
data set and $h > 0$,

$$\delta_{t+h}^N\Big(x\sqrt{1 + \tfrac h{v+t}}\Big) = M_u\,\delta_t^N(x), \qquad e^{-2u} = \frac{v+t}{v+t+h}:$$

around a Gaussian law waiting damps the noise mode by mode, and convolution does not.""",
    source="Mehler (1866); the second formula derived here",
    regime=r"Law $\mathcal N(0, vI_d)$, linearized noise, every data set, $N$, $v, t, h > 0$. Exact.",
    uses=("spectral.hermite_noise",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "spectral.mehler",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda factor, *_: factor * (1 + 1e-9)),
        "e^{-2nu}": returns(lambda factor, *_: factor**2),
        "e^{-nu^2}": instead(lambda order, contraction: math.exp(-order * math.log(contraction) ** 2)),
        "as convolution": instead(lambda order, contraction: 1.0),
    },
)
def semigroup_on_polynomials(predict: Any = hermite.mehler_factor, *, generator: torch.Generator) -> Numbers:
    """`E He_n(c x + sqrt(1 - c^2) Z)` by a Gauss-Hermite rule, exact for polynomials, at many x: the factor times `He_n(x)`."""
    worst = 0.0
    node, weight = special.roots_hermitenorm(16)
    weight = weight / weight.sum()
    x = np.linspace(-3, 3, 13)
    for n, c in itertools.product(range(1, 10), (0.3, 0.7, 0.95)):
        expected = special.eval_hermitenorm(n, c * x[:, None] + math.sqrt(1 - c**2) * node) @ weight
        # The sum of the sizes of all terms of He_n, at the largest argument.
        size = sum(math.factorial(n) / math.factorial(j) / math.factorial(n - 2 * j) / 2**j * 9.6 ** (n - 2 * j) for j in range(n // 2 + 1))
        got = float(predict(n, c)) * special.eval_hermitenorm(n, x)
        worst = max(worst, agree(f"n = {n}, c = {c}", got, expected, 16 * EPSILON * size))
    return {"worst error/allowance": worst}


@check(
    "spectral.mehler",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda c2, *_: c2 * (1 + 1e-9)),
        "not squared": returns(lambda c2, *_: c2**2),
        "t/(t + h)": instead(lambda v, t, h: t / (t + h)),
        "1 - h": instead(lambda v, t, h: 1 - h / (v + t)),
    },
)
def waiting_is_a_step(predict: Any = hermite.waiting_contraction_square, *, generator: torch.Generator) -> Numbers:
    """One datum, d = 1: the noise at t, averaged by a plain sum over Z, against the noise at t + h at the scaled point."""
    rng, worst = numpy_generator(generator), 0.0
    z = np.linspace(-9, 9, 2401)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()

    def noise(x: np.ndarray, y: float, v: float, t: float) -> np.ndarray:
        return np.asarray(np.sqrt((v + t) / t) * np.exp(-((x - y) ** 2) / (2 * t) + x**2 / (2 * (v + t)))) - 1

    for _ in range(6):
        v, t, h, y = (float(rng.uniform(*bounds)) for bounds in ((0.5, 2), (0.2, 1), (0.1, 1), (-2, 2)))
        c2 = float(predict(v, t, h))
        x = np.linspace(-2, 2, 9)
        step = noise(math.sqrt(c2) * x[:, None] + math.sqrt((1 - c2) * (v + t)) * z, y, v, t) @ weight
        expected = noise(x * math.sqrt(1 + h / (v + t)), y, v, t + h)
        worst = max(worst, agree(f"v = {v}, t = {t}, h = {h}, y = {y}", step, expected, 1e-11 * (1 + np.abs(expected))))
    return {"worst error/allowance": worst}
