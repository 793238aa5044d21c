"""Chapter "Time shift: what it is and is not", second part: for scores it is not, and the moved point."""

import functools
import math
from typing import Any

import numpy as np
import torch

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Circle, Empirical, Gaussian, GaussianMixture, Sphere
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TimeShifted
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.testing.rates import HALVINGS, order_of
from kss.theory import time_shift

CHAPTER = "time_shift"
EPSILON = torch.finfo(torch.float64).eps
EVERY_LAW = r"""Every probability law $p_*$ on $\mathbb R^d$ (so also the empirical law of a data set), every
$x \in \mathbb R^d$ and $t > 0$; $h \to 0$ with $x$ and $t$ fixed, the constant depends on all three."""

Numbers = dict[str, Any]


def _column(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).unsqueeze(-1)


def _on_axis(r: np.ndarray, dim: int) -> torch.Tensor:
    return torch.nn.functional.pad(_column(r), (0, dim - 1))


def _random_line(generator: torch.Generator) -> tuple[GaussianMixture, float, np.ndarray]:
    """Three bumps, a noise variance, and nine places: remainders are measured by their norm there, which no accident makes zero."""
    rng = numpy_generator(generator)
    law = GaussianMixture(rng.uniform(-2, 2, (3, 1)), rng.uniform(0.1, 0.5, (3, 1, 1)), rng.uniform(0.2, 1.0, 3))
    return law, float(rng.uniform(0.3, 1.0)), np.linspace(-3, 3, 9)


_RADII = np.array([0.5, 0.9, 1.0, 1.2, 1.5])
_HALVINGS = 2.0 ** -np.arange(4)


# --- Scores ---------------------------------------------------------------------------------------------------------------

claim(
    "shift.scores",
    title="The mollified empirical score is the empirical score at a later time",
    statement=r"""$K_h * s_t^N \approx s_{t+h}^N$ as functions on $\mathbb R^d$, with an error that is small compared with $h$.""",
    source="""arXiv 2505.22841 says that the one can be approximated by the other; in which sense we have not read. Refuted here
in the sense stated""",
    regime=r"""Refuted for **scores as functions, at the first order in $h$**. One data point is a counterexample:
$s_t^N = -(x - x_1)/t$ is linear, so $K_h * s_t^N = s_t^N$ for every $h$, while $s_{t+h}^N = -(x - x_1)/(t + h)$. So is every normal law;
and so are the normal components, off the manifold, of every data set on a linear one, whatever $N$ is. What is true: the
same sentence for densities; for the noise $s_t^N - s_t$, along the manifold, in the CLT regime; and to
first order at the points where $(\nabla s_t)s_t = \tfrac12\nabla|s_t|^2$ vanishes.""",
    uses=("shift.densities", "shift.noise", "shift.first_order", "mollified.gaussian", "mollified.linear_manifold"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "shift.scores",
    by="counterexample",
    mutants={
        "the score at t + h": returns(
            lambda score, smoothed, x, t: TimeShifted(smoothed.base, float(smoothed.kernel.bandwidth)).score(x, t)
        ),
        "half-way": returns(
            lambda score, smoothed, x, t: (score + TimeShifted(smoothed.base, float(smoothed.kernel.bandwidth)).score(x, t)) / 2
        ),
        "the score at t + h/2": instead(lambda smoothed, x, t: smoothed.base.score(x, t + float(smoothed.kernel.bandwidth) / 2)),
        "no t below 0.03": instead(lambda smoothed, x, t: smoothed.score(x, max(t, 0.03))),
        "no t above 10": instead(lambda smoothed, x, t: smoothed.score(x, min(t, 10.0))),
        "denoiser for score": instead(lambda smoothed, x, t: smoothed.denoise(x, t)),
    },
)
def linear_scores_are_not_shifted(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """One data point, a normal law, the normal component of data on a line: each is `-offset/variance`, not `-offset/(variance + h)`.

    On the scales 1/1000, 1 and 1000: t and h from 1e-7 to 1e6.
    """
    rng, gaps = numpy_generator(generator), Numbers()
    for scale in (1e-3, 1.0, 1e3):
        t, h = 0.3 * scale**2, 0.2 * scale**2
        x = scale * rng.uniform(1.0, 2.0, (5, 2)) * rng.choice((-1, 1), (5, 2))
        data = np.stack((scale * rng.uniform(-1, 1, 7), np.zeros(7)), -1)
        point, spread = scale * np.array([0.5, -0.5]), 0.4 * scale**2
        cases = {
            "one data point": (Empirical(point[None]), x - point, t, [0, 1]),
            "normal law": (Gaussian(point, spread), x - point, spread + t, [0, 1]),
            "data on a line": (Empirical(data), x, t, [1]),
        }
        for name, (law, offset, variance, components) in cases.items():
            case = f"{name}, t = {t:.2g}, h = {h:.2g}"
            smoothed = np.asarray(predict(Mollified(law, GaussianKernel(h)), torch.from_numpy(x), t))[:, components]
            expected, shifted = -offset[:, components] / variance, -offset[:, components] / (variance + h)
            # The nodes lie symmetrically, their mean is zero to rounding; terms as large as the farthest node, 7.5 sqrt(h), are summed.
            agree(case, smoothed, expected, 64 * EPSILON * (3 * scale + 7.5 * math.sqrt(h)) / t)
            gap = float(np.abs(smoothed / shifted - 1).min())
            # h/variance of it, no less: an error of the size of the thing itself, not a remainder.
            require(gap > 0.9 * h / variance, f"{case}: the smoothed score is within {gap:.3g} of that at t + h")
            gaps[f"relative gap, {name}"] = min(gap, gaps.get(f"relative gap, {name}", gap))
    return gaps


claim(
    "shift.first_order",
    title="What smoothing leaves out of waiting is the convection",
    statement=r"""$$s_{t+h} - K_h * s_t = h\,(\nabla s_t)\,s_t + O(h^2).$$

Mollification is the diffusion term of Burgers' equation without its convection. As $h \to 0$ the two agree to first order exactly where
$(\nabla s_t)s_t = \tfrac12\nabla|s_t|^2$ vanishes.""",
    source="derived here from Burgers' equation",
    regime=EVERY_LAW + r" $K_h = G_h$.",
    uses=("heat.burgers", "mollified.expansion"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "shift.first_order",
    by="proof",
    mutants={
        "sign": returns(lambda gap, *_: -gap),
        "half": returns(lambda gap, *_: gap / 2),
        "no gap": instead(lambda convection, h: 0 * h),
        "second order": instead(lambda convection, h: h**2 * convection),
    },
)
def differentiate_both_at_zero(predict: Any = time_shift.first_order_gap, *, generator: torch.Generator) -> Numbers:
    """`d/dh` at 0 of `s_{t+h}`, from the heat equation for `p = exp(u)`, less that of `K_h * s`, half the Laplacian, in three variables."""
    import sympy

    x, h = sympy.symbols("x1 x2 x3", real=True), sympy.Symbol("h", positive=True)
    u = sympy.Function("u")(*x)
    rate = sympy.expand(sum(sympy.diff(sympy.exp(u), a, 2) for a in x) * sympy.exp(-u) / 2)
    score = [sympy.diff(u, a) for a in x]
    remainders = []
    for a, s in zip(x, score, strict=True):
        convection = sum(sympy.diff(s, b) * v for b, v in zip(x, score, strict=True))
        laplacian = sum(sympy.diff(s, b, 2) for b in x)
        remainders.append(sympy.expand(h * (sympy.diff(rate, a) - laplacian / 2) - predict(convection, h)))
    require(remainders == [0, 0, 0], f"gap - prediction = {remainders}")
    return {"remainder": str(remainders)}


@check(
    "shift.first_order",
    by="rate",
    mutants={
        "one percent": returns(lambda gap, *_: 1.01 * gap),
        "sign": returns(lambda gap, *_: -gap),
        "no gap": instead(lambda convection, h: 0 * convection),
        "half": instead(lambda convection, h: h * convection / 2),
    },
)
def remainder_is_of_second_order(predict: Any = time_shift.first_order_gap, *, generator: torch.Generator) -> Numbers:
    """The remainder falls like h^2, not h, for a random mixture on the line and for the circle; both scores by quadrature."""
    law, t, x = _random_line(generator)
    line, circle, r = sums.Line(law), sums.Sphere(1), _RADII
    on_line, on_circle = [], []
    line_convection = torch.einsum("nij,nj->ni", law.score_jacobian(_column(x), t), law.score(_column(x), t))
    place = _on_axis(r, 2)
    circle_convection = torch.einsum("nij,nj->ni", Circle().score_jacobian(place, 0.3), Circle().score(place, 0.3))
    for h in t / 64 * HALVINGS:
        gap = line.score(x, t + h) - line.smoothed_score(x, t, h)
        on_line.append(np.linalg.norm(gap - np.asarray(predict(line_convection, h))[:, 0]))
    for h in 0.01 * HALVINGS:
        gap = circle.score(r, 0.3 + h) - circle.smoothed_score(r, 0.3, h)
        on_circle.append(np.linalg.norm(gap - np.asarray(predict(circle_convection, h))[:, 0]))
    return {
        "order, line": order_of("remainder on the line", on_line, 2),
        "order, circle": order_of("remainder on the circle", on_circle, 2),
    }


# --- Moving the point -----------------------------------------------------------------------------------------------------

claim(
    "shift.moved_point",
    title="The smoothed score is the later score, read where convection has carried it",
    statement=r"""$$K_h * s_t(x) = s_{t+h}\big(x - h\,s_t(x)\big)
- \tfrac{h^2}2\Big[(\nabla s_t)\,\Delta s_t + \sum_{jk}(\partial_j s_{t,k})\,\partial_j\partial_k s_t\Big](x) + O(h^3).$$

On the line the second-order term is $-h^2 s_t' s_t''$. For normal laws there is no remainder at all. With the other sign,
$x + h s_t(x)$, or without moving, the error is of first order, unless $(\nabla s_t)s_t = 0$ at $x$.""",
    source="derived here",
    regime=EVERY_LAW
    + r""" $K_h = G_h$. Without remainder, for all $h \ge 0$: every normal law, singular covariances
included.""",
    uses=("shift.first_order",),
    chapter=CHAPTER,
    verdict="holds",
)

claim(
    "shift.characteristic",
    title="Better: carry the smoothed score along its own characteristic",
    statement=r"""With $\sigma = K_h * s_t$,

$$\sigma(x) = s_{t+h}\big(x - h\,\sigma(x)\big) - \tfrac{h^2}2\sum_{jk}(\partial_j s_{t,k})\,\partial_j\partial_k s_t(x) + O(h^3).$$

One step of operator splitting: first the diffusion of Burgers' equation, then its convection. On the line it has half the error of the
explicit version; for normal laws none. And it survives curvature: on the circle ($k = 1$) and the sphere ($k = 2$) of radius $R$, at
$x \in M$, the relative error is at most $k\,h/R^2$ for $t/h$ between $0.01$ and $10$, $t + h \le 0.05 R^2$.""",
    source="derived here",
    regime=EVERY_LAW
    + r""" $K_h = G_h$. Without remainder for normal laws. The part on curvature: uniform laws on the circle and
on the sphere $S^2$, the stated range; computed, not proved.""",
    uses=("shift.moved_point",),
    chapter=CHAPTER,
    verdict="holds",
)


@functools.cache
def _second_order() -> list[dict[str, Any]]:
    """Component by component, for an unspecified u = log p of two variables: the h^2 terms of both gaps, and what they are made of.

    The time derivatives come from the heat equation for `exp(u)`, the rest is Taylor's formula.
    """
    import sympy

    x = sympy.symbols("x1 x2", real=True)
    u, e = sympy.Function("u")(*x), sympy.Symbol("e")

    def laplacian(f: Any) -> Any:
        return sum(sympy.diff(f, a, 2) for a in x)

    def rate(v: Any) -> Any:  # (1/2) Lap exp(v) / exp(v)
        return sympy.expand(laplacian(sympy.exp(v)) * sympy.exp(-v) / 2)

    once = rate(u)
    twice = sympy.diff(rate(u + e * once), e).subs(e, 0).doit()
    score, first, second = ([sympy.diff(f, a) for a in x] for f in (u, once, twice))
    parts = []
    for i, s in enumerate(score):
        gaps = []
        # x - h s - h^2 v: v = 0, or (1/2) Lap s.
        for move in ([sympy.Integer(0)] * 2, [laplacian(v) / 2 for v in score]):
            along = [sympy.diff(s, a) for a in x]
            curved = sum(sympy.diff(s, x[j], x[k]) * score[j] * score[k] for j in range(2) for k in range(2)) / 2
            later = second[i] / 2 - sum(sympy.diff(first[i], x[j]) * score[j] + along[j] * move[j] for j in range(2)) + curved
            gaps.append(sympy.expand((laplacian(laplacian(s)) / 8 - later).doit()))
        linear = first[i] - sum(sympy.diff(s, x[j]) * score[j] for j in range(2)) - laplacian(s) / 2
        parts.append(
            {
                "first order": sympy.expand(linear),
                "explicit": gaps[0],
                "implicit": gaps[1],
                "stretching": sum(sympy.diff(s, x[j]) * laplacian(score[j]) for j in range(2)),
                "contraction": sum(sympy.diff(score[k], x[j]) * sympy.diff(s, x[j], x[k]) for j in range(2) for k in range(2)),
            }
        )
    return parts


@check(
    "shift.moved_point",
    by="proof",
    mutants={
        "sign": returns(lambda gap, *_: -gap),
        "half": returns(lambda gap, *_: gap / 2),
        "contraction twice, right on the line only": instead(lambda stretching, contraction, h: -(h**2) * contraction),
        "first order": instead(lambda stretching, contraction, h: -h * (stretching + contraction) / 2),
    },
)
def second_order_term(predict: Any = time_shift.explicit_gap, *, generator: torch.Generator) -> Numbers:
    """Taylor's formula to second order in h, in two variables; no first-order term is left."""
    import sympy

    h = sympy.Symbol("h", positive=True)
    parts = _second_order()
    remainders = [sympy.expand(h**2 * part["explicit"] - predict(part["stretching"], part["contraction"], h)) for part in parts]
    require(remainders == [0, 0], f"second-order gap - prediction = {remainders}")
    require([part["first order"] for part in parts] == [0, 0], "a term of first order is left")
    return {"remainder": str(remainders)}


@check(
    "shift.characteristic",
    by="proof",
    mutants={
        "sign": returns(lambda gap, *_: -gap),
        "1/2 missing": returns(lambda gap, *_: 2 * gap),
        "first order": instead(lambda contraction, h: -h * contraction / 2),
    },
)
def second_order_term_along_the_characteristic(predict: Any = time_shift.implicit_gap, *, generator: torch.Generator) -> Numbers:
    """Taylor's formula to second order in h, in two variables; no first-order term is left."""
    import sympy

    h = sympy.Symbol("h", positive=True)
    remainders = [sympy.expand(h**2 * part["implicit"] - predict(part["contraction"], h)) for part in _second_order()]
    require(remainders == [0, 0], f"second-order gap - prediction = {remainders}")
    return {"remainder": str(remainders)}


@check(
    "shift.moved_point",
    by="proof",
    mutants={
        "the other sign": returns(lambda y, x, score, h: 2 * x - y),
        "not moved": instead(lambda x, score, h: x),
        "half the way": instead(lambda x, score, h: x - h * score / 2),
        "square root of h": instead(lambda x, score, h: x - h**0.5 * score),
    },
)
def normal_laws_are_exact(predict: Any = time_shift.compensating_point, *, generator: torch.Generator) -> Numbers:
    """With `A = S + tI` and `s = -A^{-1} x`: `(A + hI)^{-1}` at the moved point is `A^{-1} x`, for a symbolic S and a rational one in R^4.

    The smoothed score is s itself: it is linear, and the kernel centered.
    """
    import sympy

    rng = numpy_generator(generator)
    a, b, c = sympy.symbols("a b c", real=True)
    t, h = sympy.symbols("t h", positive=True)
    factor = sympy.Matrix(4, 3, lambda i, j: sympy.Rational(int(rng.integers(-9, 10)), 4))  # a singular covariance
    later = {h: sympy.Rational(3, 7), t: sympy.Rational(2, 5)}
    for covariance, values in ((sympy.Matrix([[a, b], [b, c]]), {}), (factor * factor.T, later)):
        d = covariance.rows
        x = sympy.Matrix(sympy.symbols(f"x1:{d + 1}", real=True))
        now = (covariance + t * sympy.eye(d)).subs(values)
        score = -now.inv() * x
        shift = h.subs(values)
        # Multiplied by (A + hI): no second inverse is needed.
        remainder = (predict(x, score, shift) + (now + shift * sympy.eye(d)) * score).applyfunc(sympy.cancel)
        require(remainder == sympy.zeros(d, 1), f"s_(t+h) at the moved point is not s_t(x): {remainder}")
    return {"remainder": "0"}


@check(
    "shift.moved_point",
    by="rate",
    mutants={
        "off by h/1000": returns(lambda score, base, x, t, h, along=None: score + 1e-3 * h),
        "off by h^2/100": returns(lambda score, base, x, t, h, along=None: score + 1e-2 * h**2),
        "the other sign": instead(lambda base, x, t, h, along=None: base.score(x + h * base.score(x, t), t + h)),
        "not moved": instead(lambda base, x, t, h, along=None: base.score(x, t + h)),
        "moved at time t": instead(lambda base, x, t, h, along=None: base.score(x - h * base.score(x, t), t)),
        "half the way": instead(lambda base, x, t, h, along=None: base.score(x - h / 2 * base.score(x, t), t + h)),
        "velocity at t + h": instead(lambda base, x, t, h, along=None: base.score(x - h * base.score(x, t + h), t + h)),
        "velocity of the arrival": instead(
            lambda base, x, t, h, along=None: base.score(x - h * base.score(x - h * base.score(x, t + h), t + h), t + h)
        ),
        "backward step, x - h s/(1 + h)": instead(lambda base, x, t, h, along=None: base.score(x - h / (1 + h) * base.score(x, t), t + h)),
    },
)
def explicit_version_and_its_gap(predict: Any = time_shift.moved_score, *, generator: torch.Generator) -> Numbers:
    """Less the gap, the error falls like h^3 for a random mixture on the line and for the circle; no error for normal laws."""
    return _orders_of_moved_scores(predict, generator, implicit=False)


@check(
    "shift.characteristic",
    by="rate",
    mutants={
        "off by h/1000": returns(lambda score, base, x, t, h, along=None: score + 1e-3 * h),
        "off by h^2/100": returns(lambda score, base, x, t, h, along=None: score + 1e-2 * h**2),
        "the other sign": instead(lambda base, x, t, h, along: base.score(x + h * along(x, t), t + h)),
        "not moved": instead(lambda base, x, t, h, along: base.score(x, t + h)),
        "explicit": instead(lambda base, x, t, h, along: time_shift.moved_score(base, x, t, h)),
        "velocity at t + h": instead(lambda base, x, t, h, along: base.score(x - h * along(x, t + h), t + h)),
        "velocity of the arrival": instead(lambda base, x, t, h, along: base.score(x - h * along(x - h * along(x, t), t), t + h)),
        "smoothed twice": instead(
            lambda base, x, t, h, along: base.score(x - h * (along(x + h**0.5, t) + along(x - h**0.5, t)) / 2, t + h)
        ),
    },
)
def implicit_version_and_its_gap_and_curvature(predict: Any = time_shift.moved_score, *, generator: torch.Generator) -> Numbers:
    """Order 3 as for the explicit version; on circle and sphere, at x on M, a relative error below k h, from t = h/100 to t = 10 h."""
    numbers, worst = _orders_of_moved_scores(predict, generator, implicit=True), 0.0
    place = np.array([1.0])
    for k in (1, 2):
        sphere = sums.Sphere(k)
        for ratio in (0.01, 0.1, 1.0, 10.0):
            for h in (0.04, 0.01, 0.0025):
                t = ratio * h
                if t + h > 0.05:
                    continue
                sigma = sphere.smoothed_score(place, t, h)[0]
                got = predict(Sphere(k), _on_axis(place, k + 1), t, h, along=_smoothed(sphere, h))
                worst = max(worst, agree(f"on S^{k}, t = {t}, h = {h}", got[0, 0], sigma, k * h * abs(sigma)))
    return numbers | {"largest relative error/(k h)": worst}


def _smoothed(reference: sums.Line | sums.Sphere, h: float) -> Any:
    """`(x, t) -> K_h * s_t(x)`, at every x and t: odd in |x| for the sphere, and along x."""

    def along(x: torch.Tensor, t: float) -> torch.Tensor:
        place = x.numpy()
        if isinstance(reference, sums.Line):
            return _column(reference.smoothed_score(place[:, 0], float(t), h))
        radius = np.linalg.norm(place, axis=-1)
        return torch.from_numpy((reference.smoothed_score(radius, float(t), h) / radius)[:, None] * place)

    return along


def _orders_of_moved_scores(predict: Any, generator: torch.Generator, *, implicit: bool) -> Numbers:
    law, t, x = _random_line(generator)
    sizes: dict[str, list[float]] = {"line": [], "circle": []}
    cases: tuple[Any, ...] = (("line", law, sums.Line(law), x, 1, t, t / 64), ("circle", Circle(), sums.Sphere(1), _RADII, 2, 0.3, 0.01))
    for name, base, reference, places, dim, now, largest in cases:
        stretching, contraction = reference.products(places, now)
        for h in largest * HALVINGS:
            got = predict(base, _on_axis(places, dim), now, float(h), along=_smoothed(reference, h) if implicit else None)
            gap = time_shift.implicit_gap(contraction, h) if implicit else time_shift.explicit_gap(stretching, contraction, h)
            sizes[name].append(float(np.linalg.norm(reference.smoothed_score(places, now, h) - np.asarray(got)[:, 0] - gap)))
    orders = {f"order, {name}": order_of(f"error less gap on the {name}", values, 3) for name, values in sizes.items()}
    return orders | {"normal laws, worst error/allowance": _normal_laws_moved(predict, generator, implicit=implicit)}


def _normal_laws_moved(predict: Any, generator: torch.Generator, *, implicit: bool) -> float:
    """A normal law in R^3, on a plane of it: its score is linear, so smoothed as it is, and is found at the moved point for every h."""
    rng, worst = numpy_generator(generator), 0.0
    for h in (0.0, 0.01, 1.0, 10.0):
        factor, mean, x = rng.uniform(-1, 1, (3, 2)), rng.uniform(-1, 1, 3), rng.uniform(-2, 2, (5, 3))
        t = float(rng.uniform(0.3, 1.0))
        precision = np.linalg.inv(factor @ factor.T + t * np.eye(3))

        def along(x: torch.Tensor, t: float, mean: np.ndarray = mean, factor: np.ndarray = factor) -> torch.Tensor:
            return torch.from_numpy(-np.linalg.solve(factor @ factor.T + t * np.eye(3), (x.numpy() - mean).T).T)

        got = predict(Gaussian(mean, factor @ factor.T), torch.from_numpy(x), t, h, along=along if implicit else None)
        # Two systems are solved one after the other, the first of condition at most 1 + 6/t and the second no worse.
        expected = -(x - mean) @ precision
        size = np.linalg.norm(x - mean, axis=1, keepdims=True) / t
        worst = max(worst, agree(f"normal law, t = {t}, h = {h}", got, expected, 64 * EPSILON * (1 + 6 / t) * size))
    return worst


claim(
    "shift.moved_point_limit",
    title="Near a curved manifold the explicit repair needs h much smaller than t",
    statement=r"""At $x \in M$, as $t$ and $h \to 0$ with any fixed ratio,

$$K_h * s_t(x) \simeq \Big(1 + \frac ht\Big)\frac{H_x}2, \qquad s_{t+h}\big(x - h s_t(x)\big) \simeq \Big(1 + \frac h{t+h}\Big)\frac{H_x}2$$

along the normals: the relative error of the moved point, $h^2/(t+h)^2$, is small only if $h \ll t$. (Unit circle, $t = 0.001$,
$h = 0.01$, $x \in M$, outward: $-5.54$ against $-0.954$.)""",
    source="derived here from the expansion of the score near a manifold",
    regime=r"""Closed smooth $M \subset \mathbb R^d$ with mean-curvature vector $H_x \neq 0$, smooth positive $p_M$, $x \in M$, normal
components, $t + h \ll R^2$ with $R$ as in {claim}`mollified.curvature`, $|H_x|$ of order $1/R$
(corrections of relative order $(t+h)/R^2$). Derived in general, checked for
uniform laws on spheres of dimension $k = 1, 2, 3$.""",
    uses=("shift.moved_point", "mollified.curvature"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "shift.moved_point_limit",
    by="rate",
    mutants={
        "sign": returns(lambda gap, *_: -gap),
        "1/2 missing": returns(lambda gap, *_: 2 * gap),
        "one percent": returns(lambda gap, *_: 1.01 * gap),
        "h/t only": instead(lambda mean_curvature, t, h: mean_curvature / 2 * h**2 / t**2),
        "standard deviations": instead(lambda mean_curvature, t, h: mean_curvature / 2 * h / (t * (t + h)) ** 0.5),
        "unit curvature": instead(lambda mean_curvature, t, h: -0.5 * h**2 / (t * (t + h)) + 0 * mean_curvature),
    },
)
def gap_on_spheres(predict: Any = time_shift.explicit_gap_on_manifold, *, generator: torch.Generator) -> Numbers:
    """Both scores by quadrature on unit spheres: the relative error of the formula falls like t + h, on S^2 like its square."""
    numbers, place = Numbers(), np.array([1.0])
    for k, order in ((1, 1), (2, 2), (3, 1)):  # on S^2 the next term vanishes
        sphere = sums.Sphere(k)
        for ratio in (0.1, 1.0):  # t/h
            errors = []
            for h in 0.01 * HALVINGS:
                t = ratio * h
                gap = sphere.smoothed_score(place, t, h) - sphere.score(place - h * sphere.score(place, t), t + h)
                errors.append(abs(float(predict(-k, t, h) / gap[0]) - 1))
            numbers[f"order, k = {k}, t/h = {ratio}"] = order_of(f"k = {k}, t/h = {ratio}", errors, order)
    circle, t, h = sums.Sphere(1), 0.001, 0.01
    smoothed, moved = circle.smoothed_score(place, t, h)[0], circle.score(place - h * circle.score(place, t), t + h)[0]
    require(abs(smoothed + 5.54) < 0.005, f"smoothed score {smoothed:.4f}, -5.54 is claimed")
    require(abs(moved + 0.954) < 0.0005, f"score at the moved point {moved:.4f}, -0.954 is claimed")
    return numbers | {"smoothed, t = 0.001, h = 0.01": smoothed, "moved": moved}
