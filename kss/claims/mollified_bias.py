"""Chapter "Mollified scores and the LED-KDE", second part: the bias of smoothing, and what curvature does."""

import itertools
import math
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from scipy import optimize

from kss.claims.mollified import kernels_with_covariance
from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Circle, Sphere
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TimeShifted
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import mollification

CHAPTER = "mollified"
EPSILON = torch.finfo(torch.float64).eps
PAPER = "Gabriel, Ged, Han Veiga and Schertzer, arXiv 2505.22841 v1"

Numbers = dict[str, Any]


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
    by="quadrature",
    mutants={
        "not smoothed": instead(lambda mollified, x, t: mollified.base(x, t)),
        "isotropic": instead(
            lambda mollified, x, t: Mollified(
                mollified.base, GaussianKernel(float(mollified.kernel.trace(t[:1], x.shape[-1])) / x.shape[-1])
            ).score(x, t)
        ),
        "width of the first t for all": instead(
            lambda mollified, x, t: Mollified(lambda y, u: mollified.base(y, u), mollified.kernel).score(x, t[:1].expand(len(t)))
        ),
        "off by 1e-9": returns(lambda score, *_: score * (1 + 1e-9)),
    },
)
def quadratic_fields_and_every_kernel(predict: Any = Mollified.score, *, generator: torch.Generator) -> Numbers:
    """For a field of second degree the first order is all: `K * s = s + tr(S grad^2 s)/2` exactly, S written out for each kernel and t."""
    worst = 0.0
    times = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    for d in (1, 2, 3):
        x = torch.randn(3, d, dtype=torch.float64, generator=generator)
        form = torch.randn(d, d, d, dtype=torch.float64, generator=generator)

        def field(y: torch.Tensor, u: Any, form: torch.Tensor = form) -> torch.Tensor:
            return torch.einsum("nj,ijk,nk->ni", y, form, y)

        for kernel, spread in kernels_with_covariance(d):
            smoothed = Mollified(field, kernel)
            moment = torch.stack([torch.einsum("ijk,jk->i", form, spread(float(u))) for u in times])
            expected = field(x, times) + moment
            reach = 9 * max(float(spread(float(u)).trace()) for u in times) ** 0.5 + float(x.abs().max())
            allowed = 64 * EPSILON * d * reach**2 * float(form.abs().max()) * (1 + 9 / float(times.min()))
            worst = max(worst, agree(f"quadratic field in R^{d} with {kernel}", predict(smoothed, x, times), expected, allowed))
    return {"worst error/allowance": worst}


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
            offsets, weight = sums.gaussian_nodes(1, h, 4001)
            smoothed = float((weight * np.tanh(scale * (place + offsets[:, 0]))).sum())
            remainder = smoothed - u - float(predict(second, h))
            # E V^6/720 = h^3/48; the sixth derivative of tanh stays below 53.
            agree(f"remainder at {place}, h = {h}", remainder, h**2 / 8 * fourth, h**3 / 48 * 53 * scale**6 + 1e-14)
            worst = max(worst, abs(remainder / (h**2 / 8 * fourth) - 1))
            remainders.append(abs(remainder))
        slopes += [math.log2(p / q) for p, q in itertools.pairwise(remainders)]
    require(all(1.8 < slope < 2.2 for slope in slopes), f"slopes {slopes}: neither 1 nor 3")
    return {"remainder against h^2 s''''/8, relative": worst, "slopes": str([round(slope, 3) for slope in slopes])}


# --- Curvature ------------------------------------------------------------------------------------------------------------


@cache
def _spiral_bias(theta: float, t: float, h: float, offset: float = 0.0) -> tuple[float, float, float, float]:
    """The spiral `gamma = theta (cos theta, sin theta)`, uniform in theta on [5, 14]: the bias along and across at one of its points.

    Or at a distance `offset` from it, on the inner side. Then the curvature there, and its derivative in arc length. Sums over 30000
    points of the curve and a grid for the kernel.
    """
    angle = np.linspace(5, 14, 30001)
    curve = angle[:, None] * np.stack((np.cos(angle), np.sin(angle)), -1)
    radial, turn = np.array([math.cos(theta), math.sin(theta)]), np.array([-math.sin(theta), math.cos(theta)])
    x, speed = theta * radial, math.sqrt(1 + theta**2)
    tangent = (radial + theta * turn) / speed
    normal = np.array([-tangent[1], tangent[0]])
    x = x + offset * normal
    curve = curve[np.linalg.norm(curve - x, axis=-1) < 9 * math.sqrt(h) + 18 * math.sqrt(t)]
    offsets, weight = sums.gaussian_nodes(2, h, 35, reach=7.0)
    offsets, weight = offsets[weight > 1e-12], weight[weight > 1e-12]
    total = np.zeros(2)
    for place, mass in ((x, -1.0), *zip(x + offsets, weight / weight.sum(), strict=True)):
        chord = curve - place
        exponent = -(chord**2).sum(-1) / (2 * t)
        w = np.exp(exponent - exponent.max())
        total += mass * (w @ chord) / (w.sum() * t)
    curvature, slope = (theta**2 + 2) / speed**3, -theta * (theta**2 + 4) / speed**6
    return float(total @ tangent), float(total @ normal), curvature, slope


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
            bias = sums.Sphere(k, radius).smoothed_score(radius, t, h) - sums.Sphere(k, radius).score(radius, t)
            predicted = float(predict(-k / radius, h, t))
            # The next terms: 3(2 - k)/4 h/R^2 (appendix of the chapter) and a multiple of t/R^2 below k.
            worst = max(
                worst, agree(f"bias for k = {k}, R = {radius}, t = {t:.3g}, h = {h:.3g}", bias, predicted, 2 * total * abs(predicted))
            )
    t, h = 1e-2, 1e-3
    numbers["circle, t = 0.01, h = 0.001"] = sums.Sphere(1, 1.0).smoothed_score(1.0, t, h) - sums.Sphere(1, 1.0).score(1.0, t)
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
    for k, (t, h) in itertools.product((1, 2), ((1e-2, 1e-3), (1e-3, 1e-2), (0.3, 0.5))):
        for r in (1.0, float(rng.uniform(0.7, 1.3))):
            direction = rng.standard_normal(k + 1)
            x = torch.from_numpy(r * direction / np.linalg.norm(direction))
            law = Circle(1.0) if k == 1 else Sphere(k, 1.0)
            expected = sums.Sphere(k, 1.0).smoothed_score(r, t, h)
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


@check(
    "mollified.curvature",
    by="quadrature",
    mutants={
        "k times the largest curvature": returns(lambda bias, *_: 2 * bias),
        "root of k times the squares": returns(lambda bias, *_: math.sqrt(2) * bias),
        "off by 3 %": returns(lambda bias, *_: 1.03 * bias),
    },
)
def bias_on_a_cylinder(predict: Any = mollification.normal_bias, *, generator: torch.Generator) -> Numbers:
    """The circle times a line, k = 2 with one flat direction: the trace of the second fundamental form is 1/R."""
    worst = 0.0
    z, weight = sums.gaussian_nodes(3, 1.0, 31, reach=6.5)
    for t, h in ((4e-3, 4e-3), (1e-3, 4e-3), (4e-3, 1e-3)):
        y = np.array([1.0, 0.0, 0.0]) + math.sqrt(h) * z
        length = np.hypot(y[:, 0], y[:, 1])
        # The score of the cylinder is that of the circle in the first two coordinates, and zero along the axis.
        smoothed = float(weight @ (sums.Sphere(1, 1.0).score(length, t) * y[:, 0] / length)) / float(weight.sum())
        bias = smoothed - float(sums.Sphere(1, 1.0).score(1.0, t))
        predicted = float(predict(-1.0, h, t))
        worst = max(worst, agree(f"bias on a cylinder, t = {t}, h = {h}", bias, predicted, 2 * (h + t) * abs(predicted)))
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
spiral, at
points of the curve and beside it.""",
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
        "other side": instead(lambda kappa, slope, n, h, t: h * slope * (h * kappa / 2 - n) / (2 * t)),
    },
)
def along_a_spiral(predict: Any = mollification.tangential_bias, *, generator: torch.Generator) -> Numbers:
    """On the spiral and beside it: at one h and two t the term O(h) drops out of the difference of the two biases."""
    theta, h, worst, numbers = 7.0, 0.08, 0.0, {}
    for offset in (0.0, -0.15):
        along, _, curvature, slope = _spiral_bias(theta, 0.01, h, offset)
        coarse = _spiral_bias(theta, 0.02, h, offset)[0]
        predicted = float(predict(curvature, slope, offset, h, 0.01)) - float(predict(curvature, slope, offset, h, 0.02))
        numbers[f"bias/h at t = 0.01, offset {offset}"] = along / h
        allowed = (4 * abs(offset) * curvature + 8 * h * curvature**2) * abs(predicted)
        worst = max(worst, agree(f"difference of the biases along, offset {offset}", along - coarse, predicted, allowed))
    return numbers | {"worst error/allowance": worst}


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
    uses=("mollified.curvature", "shift.densities"),
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
        smoothed, later = partial(sums.Sphere(k, radius).smoothed_score, t=t, h=h), partial(sums.Sphere(k, radius).score, t=t + h)
        fields = {"LED-KDE": smoothed, "KDE": later}
        for name, field in fields.items():
            ridge = optimize.brentq(field, 0.8 * radius, 1.1 * radius, xtol=1e-13)
            offset, allowed = ridge - radius, 3 * (t + h) / radius**2
            what = f"ridge of the {name}, k = {k}, R = {radius}, t = {t:g}, h = {h:g}"
            worst = max(worst, agree(what, offset, predict(k, radius, t, h), allowed * abs(offset)))
    # What only the smoothing moves, on the unit circle.
    t, h = 1e-2, 1e-3
    smoothed = optimize.brentq(partial(sums.Sphere(1, 1.0).smoothed_score, t=t, h=h), 0.9, 1.1, xtol=1e-13)
    plain = optimize.brentq(partial(sums.Sphere(1, 1.0).score, t=t), 0.9, 1.1, xtol=1e-13)
    shift = smoothed - plain
    return {"shift by smoothing, circle, t = 0.01, h = 0.001": shift, "worst error/allowance": worst}


def _variance_across(field: Any, radius: float, t: float) -> float:
    """Minus one over the slope of the radial component at its zero."""
    ridge = optimize.brentq(field, 0.8 * radius, 1.1 * radius, xtol=1e-13)
    step = 1e-4 * math.sqrt(t)
    return float(-2 * step / (field(ridge + step) - field(ridge - step)))


@check(
    "mollified.ridge",
    by="quadrature",
    mutants={
        "t + h": instead(lambda t, h: t + h),
        "off by 6 %": returns(lambda variance, *_: 1.06 * variance),
        "h": instead(lambda t, h: h),
    },
)
def width_of_the_led_kde(predict: Any = mollification.led_normal_variance, *, generator: torch.Generator) -> Numbers:
    """Slope of the smoothed radial component at its zero, on the unit spheres k = 1, 2, 3."""
    worst = 0.0
    for k, (t, h) in itertools.product((1, 2, 3), ((2e-3, 8e-3), (4e-3, 1e-3), (1e-3, 4e-3))):
        variance = _variance_across(partial(sums.Sphere(k, 1.0).smoothed_score, t=t, h=h), 1.0, t)
        what = f"variance across the LED-KDE, k = {k}, t = {t}, h = {h}"
        worst = max(worst, agree(what, variance, predict(t, h), (1e-6 + 3 * k * (t + h)) * variance))
    return {"worst error/allowance": worst}


@check(
    "mollified.ridge",
    by="quadrature",
    mutants={
        "t": instead(lambda t, h: t),
        "off by 6 %": returns(lambda variance, *_: 1.06 * variance),
        "squares": instead(lambda t, h: math.hypot(t, h)),
    },
)
def width_of_the_kde(predict: Any = mollification.kde_normal_variance, *, generator: torch.Generator) -> Numbers:
    """Slope of the radial component of the score at t + h at its zero, on the unit spheres k = 1, 2, 3."""
    worst = 0.0
    for k, (t, h) in itertools.product((1, 2, 3), ((2e-3, 8e-3), (4e-3, 1e-3), (1e-3, 4e-3))):
        variance = _variance_across(partial(sums.Sphere(k, 1.0).score, t=t + h), 1.0, t)
        what = f"variance across the KDE, k = {k}, t = {t}, h = {h}"
        worst = max(worst, agree(what, variance, predict(t, h), (1e-6 + 3 * k * (t + h)) * variance))
    return {"worst error/allowance": worst}
