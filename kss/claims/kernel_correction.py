"""Chapter "Which kernel?": what bias correction takes off, and what it leaves."""

import itertools
import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import GaussianMixture
from kss.kernels import GaussianKernel
from kss.scores import BiasCorrected, richardson_weights
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.theory.kernels import correction

CHAPTER = "which_kernel"
EPSILON = torch.finfo(torch.float64).eps
CLT = "CLT regime at $t$ itself, $N p_M t^{k/2} \\gg 1$; $t, h \\ll R^2$"

Numbers = dict[str, Any]


# --- Weights --------------------------------------------------------------------------------------------------------------

claim(
    "kernel.richardson_weights",
    title="Binomial weights take off one power of h after the other",
    statement=r"""For $w_j = (-1)^{j-1}\binom rj$, $j = 1, \dots, r$,

$$\sum_j w_j = 1, \qquad \sum_j w_j\, j^m = 0 \ \text{ for } 1 \le m < r, \qquad \sum_j w_j\, j^r = (-1)^{r-1} r! ,$$

and no other weights do. So for Gaussian kernels

$$\sum_j w_j\, G_{jh} * s_t - s_t = -\big(1 - e^{h\Delta/2}\big)^r s_t = -\Big(-\frac h2\Big)^{r}\Delta^r s_t + O(h^{r+1}) .$$""",
    source="Richardson's extrapolation, with exact weights; derived here",
    regime=r"""Every order $r \ge 1$; the last display at fixed $t > 0$ and $x$ as $h \to 0$. The weights are those of
`BiasCorrected`; order 2 is $2G_h - G_{2h}$.""",
    uses=("mollified.led_kde",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "kernel.richardson_weights",
    by="proof",
    mutants={
        "sign": returns(lambda weights, *_: tuple(-w for w in weights)),
        "unsigned": instead(lambda order: tuple(Fraction(math.comb(order, j), 2**order - 1) for j in range(1, order + 1))),
        "of standard deviations": instead(
            lambda order: tuple(
                math.prod((Fraction(i * i, i * i - j * j) for i in range(1, order + 1) if i != j), start=Fraction(1))
                for j in range(1, order + 1)
            )
        ),
        "reversed": returns(lambda weights, *_: weights[::-1]),
    },
)
def solve_the_vandermonde_system(predict: Any = richardson_weights, *, generator: torch.Generator) -> Numbers:
    """Gauss's elimination of the moment equations in exact fractions, and the next moment, for orders up to 8."""
    for order in range(1, 9):
        rows = [[Fraction(j**m) for j in range(1, order + 1)] + [Fraction(int(m == 0))] for m in range(order)]
        for column in range(order):
            pivot = next(i for i in range(column, order) if rows[i][column] != 0)
            rows[column], rows[pivot] = rows[pivot], rows[column]
            rows[column] = [v / rows[column][column] for v in rows[column]]
            for i in range(order):
                if i != column:
                    rows[i] = [v - rows[i][column] * w for v, w in zip(rows[i], rows[column], strict=True)]
        weights, expected = predict(order), [row[-1] for row in rows]
        require(list(weights) == expected, f"order {order}: weights {[str(w) for w in weights]}, expected {[str(w) for w in expected]}")
        left = sum(w * j**order for j, w in enumerate(weights, start=1))
        require(left == (-1) ** (order - 1) * math.factorial(order), f"order {order}: moment {left}")
    return {"orders": "1 to 8"}


@check(
    "kernel.richardson_weights",
    by="quadrature",
    lane="full",
    mutants={
        "plain": instead(lambda corrected, x, t: corrected.narrow.score(x, t)),
        "wide alone": instead(lambda corrected, x, t: corrected.wide.score(x, t)),
        "off by 1e-6": returns(lambda score, *_: score * (1 + 1e-6)),
        "one order less": instead(
            lambda corrected, x, t: BiasCorrected(corrected.narrow.base, corrected.narrow.kernel, corrected.order - 1, accuracy=1e-9).score(
                x, t
            )
        ),
    },
)
def two_humps_on_the_line(predict: Any = BiasCorrected.score, *, generator: torch.Generator) -> Numbers:
    """Orders 2, 3, 4 for `N(-a, v)/2 + N(a, v)/2`: weights by hand times averages by a sum of its own; bandwidths constant and of t."""
    a, v, places, worst = 1.0, 0.3, np.array([0.2, 0.9, -1.7]), 0.0
    law = GaussianMixture([[-a], [a]], [[v]])
    by_hand = {2: (2, -1), 3: (3, -3, 1), 4: (4, -6, 4, -1)}
    for (order, weights), (t, h), growing in itertools.product(by_hand.items(), ((0.2, 0.05), (0.5, 0.3)), (False, True)):
        w = v + t
        expected = np.zeros(3)
        for j, weight in enumerate(weights, start=1):
            offsets, mass = sums.gaussian_nodes(1, j * h, 2001)
            y = places[:, None] + offsets[:, 0]
            expected += weight * ((a * np.tanh(a * y / w) - y) / w) @ mass
        ratio = h / t
        kernel = GaussianKernel(partial(torch.mul, ratio) if growing else h)
        corrected = BiasCorrected(law, kernel, order, accuracy=1e-9)
        got = predict(corrected, torch.from_numpy(places[:, None]), t)[:, 0]
        # Averages are good to 1e-9 each, times the sum of the |w_j|, at most 15.
        worst = max(worst, agree(f"order {order}, t = {t}, h = {h}", got, expected, 1.5e-8 * (1 + np.abs(places) / w)))
    return {"worst error/allowance": worst}


# --- Bias on spheres ------------------------------------------------------------------------------------------------------

claim(
    "kernel.corrected_bias",
    title="What bias correction leaves on spheres",
    statement=r"""For the uniform law on the $k$-sphere of radius $R$, at a point of the sphere, the outward bias of order $r$ is

$$-\frac{(2r-1)!!\;k(k-2)\cdots(k-2r+2)}{2^r}\,\frac{h^r}{R^{2r-1}t}
\;+\;\frac{r!}2\,k(k-1)(k-3)\cdots(k-2r+1)\,\frac{h^r}{R^{2r+1}}$$

to leading order each. Order 1: $-kh/(2Rt)$. Order 2:

$$\frac{3k(2-k)\,h^2}{4R^3\,t}: \qquad +\frac34\,\frac{h^2}{R^3t} \text{ on the circle}, \quad -\frac94\,\frac{h^2}{R^3 t} \text{ for }
k = 3 .$$

For even $k < 2r$ the first term is zero, and the second is the bias: $-2h^2/R^5$ on the 2-sphere, without any power of $1/t$.""",
    source="derived here",
    regime=r"""Uniform law, exact score; $t, h \ll R^2$ ($h \lesssim R^2/50$ for ten percent), every ratio $h/t$. The corrections are
an asymptotic series in $h/R^2$ with growing coefficients: on the circle at order 2 the first is $1 + \frac{15}2 h/R^2$.""",
    uses=("kernel.richardson_weights", "mollified.curvature"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


def sphere_reference(order: int, k: int, radius: float, t: float, h: float) -> float:
    """`sum_j w_j K_{jh} * s - s` at a point of the sphere from Bessel functions; the weights by their product formula."""
    law, total = sums.Sphere(k, radius), 0.0
    for j in range(1, order + 1):
        weight = math.prod(i / (i - j) for i in range(1, order + 1) if i != j)
        total += weight * float(law.smoothed_score(radius, t, j * h))
    return total - float(law.score(radius, t))


@check(
    "kernel.corrected_bias",
    by="quadrature",
    lane="full",
    mutants={
        "sign": returns(lambda value, *_: -value),
        "d for k": instead(lambda order, k, radius, t, h: correction.corrected_sphere_bias(order, k + 1, radius, t, h)),
        "1/2 for 1/4": returns(lambda value, order, *_: 2 * value if order > 1 else value),
        "R for R^3": instead(lambda order, k, radius, t, h: correction.sphere_bias(order, k, 1.0, t, h) / radius),
        "1/t^2": instead(lambda order, k, radius, t, h: correction.corrected_sphere_bias(order, k, radius, t**2, h)),
        "plain": instead(lambda order, k, radius, t, h: correction.sphere_bias(1, k, radius, t, h)),
        "second term forgotten": instead(correction.sphere_bias),
        "off by 1 %": returns(lambda value, *_: 1.01 * value),
    },
)
def bias_from_bessel_functions(predict: Any = correction.corrected_sphere_bias, *, generator: torch.Generator) -> Numbers:
    """Orders 1 to 4 on spheres of dimension 1, 2, 3, 5 and two radii, h/t = 1/2, 2, 8.

    Left out, of the two terms, are relative `(r/4)(2r + 1)|k - 2r| h/R^2` and `(r/4)(2r + 2)|k - 1 - 2r| h/R^2`, the next power of the
    Laplacian: 1.5 times both, for the powers after it and for t. The reference loses a few units in the last place of R/t.
    """
    worst, numbers = 0.0, {}
    for order, k, radius, ratio in itertools.product((1, 2, 3, 4), (1, 2, 3, 5), (1.0, 2.5), (0.5, 2.0, 8.0)):
        h = 5e-4 * radius**2
        t = h / ratio
        expected = sphere_reference(order, k, radius, t, h)
        got = float(predict(order, k, radius, t, h))
        after = order / 4 * ((2 * order + 1) * abs(k - 2 * order) + (2 * order + 2) * abs(k - 1 - 2 * order)) * h / radius**2
        allowed = 1.5 * after * abs(expected) + 32 * EPSILON * radius / t
        worst = max(worst, agree(f"outward bias, r = {order}, k = {k}, R = {radius}, h/t = {ratio}", got, expected, allowed))
        if order == 2 and ratio == 2.0 and radius == 1.0:
            numbers[f"k = {k}: bias t R^3/h^2"] = expected * t * radius**3 / h**2
    return numbers | {"worst error/allowance": worst}


claim(
    "kernel.curve_bias",
    title="What bias correction leaves on a plane curve",
    statement=r"""On a plane curve of curvature $\kappa(\ell)$, $\ell$ the arc length, order 2 leaves

$$-\frac{h^2}{4t}\,(3\kappa^3 + \kappa'') \ \text{ towards the center of curvature}, \qquad
-\frac{h^2}{2t}\,\kappa\,\kappa' \ \text{ along the curve}$$

where mollification leaves $+\frac{h}{2t}\,\kappa$ towards the center. A curvature that varies adds to the bias; it does not change
its order.""",
    source="derived here",
    regime=r"""Smooth curve without ends nearby, points of it; $t \ll h \ll 1/\kappa^2$ and $h$ small beside the squared length on
which $\kappa$ varies. To leading order in $1/t$: the bias of $-\operatorname{dist}^2/2t$.""",
    uses=("kernel.corrected_bias",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "kernel.curve_bias",
    by="proof",
    lane="full",
    mutants={
        "circle alone": instead(lambda t, h, curvature, slope, bend: (-3 * h**2 * curvature**3 / (4 * t), 0 * h)),
        "sign of c''": instead(lambda t, h, curvature, slope, bend: correction.plane_curve_bias(t, h, curvature, slope, -bend)),
        "sign": returns(lambda pair, *_: (-pair[0], pair[1])),
        "halved": returns(lambda pair, *_: (pair[0] / 2, pair[1] / 2)),
        "along forgotten": returns(lambda pair, t, *_: (pair[0], 0 * t)),
    },
)
def laplacians_in_normal_coordinates(predict: Any = correction.plane_curve_bias, *, generator: torch.Generator) -> Numbers:
    """`-(h^2/4) grad Lap^2 (-n^2/2t)` at n = 0 in coordinates (s, n), n the signed distance, with c(s) any function."""
    import sympy

    s, n = sympy.symbols("s n", real=True)
    t, h = sympy.symbols("t h", positive=True)
    c = sympy.Function("c")(s)
    stretch = 1 - c * n  # the metric is stretch^2 ds^2 + dn^2, n counted towards the center

    def laplacian(f: Any) -> Any:
        return (sympy.diff(stretch * sympy.diff(f, n), n) + sympy.diff(sympy.diff(f, s) / stretch, s)) / stretch

    twice = laplacian(laplacian(-(n**2) / (2 * t)))
    got = predict(t, h, c, sympy.diff(c, s), sympy.diff(c, s, 2))
    inward = sympy.simplify((-(h**2) / 4 * sympy.diff(twice, n)).subs(n, 0).doit() - got[0])
    along = sympy.simplify((-(h**2) / 4 * sympy.diff(twice, s)).subs(n, 0).doit() - got[1])
    require(inward == 0 and along == 0, f"remainders {inward}, {along}")
    return {"remainders": "0, 0"}


@check(
    "kernel.curve_bias",
    by="quadrature",
    lane="full",
    mutants={
        "circle alone": instead(lambda t, h, curvature, slope, bend: (-3 * h**2 * curvature**3 / (4 * t), 0 * curvature)),
        "off by 3 %": returns(lambda pair, *_: (1.03 * pair[0], 1.03 * pair[1])),
        "1/h": instead(lambda t, h, *rest: correction.plane_curve_bias(t, h**2 / 1e-4, *rest)),
        "derivative by the angle": instead(
            lambda t, h, curvature, slope, bend: correction.plane_curve_bias(t, h, curvature, slope * 0.7, bend * 0.49)
        ),
    },
)
def nearest_points_of_an_ellipse(predict: Any = correction.plane_curve_bias, *, generator: torch.Generator) -> Numbers:
    """For t -> 0 the score is (P(x) - x)/t: P on two ellipses by Newton, averaged by Gauss-Hermite, at seven points each.

    The next power of h, measured by doubling h, is taken off; allowed are the square of its share and 1e-3, of the largest bias.
    """
    t, worst = 0.01, 0.0
    node, weight = np.polynomial.hermite_e.hermegauss(16)
    z = np.stack(np.meshgrid(node, node, indexing="ij"), -1).reshape(-1, 2)
    mass = np.outer(weight, weight).ravel() / weight.sum() ** 2
    for a, b in ((1.0, 0.75), (2.4, 2.0)):
        first = np.linspace(0.1, 1.5, 7)
        speed = np.sqrt((a * np.sin(first)) ** 2 + (b * np.cos(first)) ** 2)
        tangent = np.stack((-a * np.sin(first), b * np.cos(first)), -1) / speed[:, None]
        inward = np.stack((-tangent[:, 1], tangent[:, 0]), -1)
        curvature = a * b / speed**3
        # v^2 = speed^2 has the derivatives e sin 2 theta and 2 e cos 2 theta, e = a^2 - b^2; d/dl = (1/v) d/dtheta.
        turn, twist = (a**2 - b**2) * np.sin(2 * first), 2 * (a**2 - b**2) * np.cos(2 * first)
        slope = -1.5 * a * b * turn / speed**6
        bend = a * b * (-1.5 * twist / speed**7 + 4.5 * turn**2 / speed**9)

        def left(h: float, a: float = a, b: float = b, first: np.ndarray = first) -> np.ndarray:
            x, total = np.stack((a * np.cos(first), b * np.sin(first)), -1), np.zeros((len(first), 2))
            for share, factor in ((2, 1), (-1, 2)):
                y, angle = x[:, None] + math.sqrt(factor * h) * z, np.repeat(first[:, None], len(z), 1)
                for _ in range(8):  # zero of <P - y, P'>
                    on = np.stack((a * np.cos(angle), b * np.sin(angle)), -1)
                    along = np.stack((-a * np.sin(angle), b * np.cos(angle)), -1)
                    angle = angle - ((on - y) * along).sum(-1) / ((along**2).sum(-1) - ((on - y) * on).sum(-1))
                on = np.stack((a * np.cos(angle), b * np.sin(angle)), -1)
                total += share * (np.einsum("nma,m->na", on, mass) - x)
            return total / t

        for h in (1e-4 * b**2, 2e-4 * b**2):
            single, double = left(h), left(2 * h)
            expected = 2 * single - double / 4  # of order h^2, without the next power h^3
            got = np.stack(predict(t, h, curvature, slope, bend), -1)
            size = np.abs(expected).max()
            share = np.abs(double / 4 - single).max() / size
            for name, direction, column in (("inward", inward, 0), ("along", tangent, 1)):
                worst = max(worst, agree(f"{name}, a = {a}", got[:, column], (expected * direction).sum(-1), (4 * share**2 + 1e-3) * size))
    return {"worst error/allowance": worst}
