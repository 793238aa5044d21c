"""Chapter "The spectral view", second part: the KL divergence of an empirical law on the periodic box."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch

from kss.claims.registry import check, claim, instead, returns
from kss.claims.spectral import CHAPTER, EPSILON, PAPER, Numbers, exact_log_noise, wrapped
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import periodic, spectral


def _log_kernel(t: float) -> tuple[np.ndarray, np.ndarray]:
    """`log W_t` on half of the unit circle, at the nodes of a Gauss-Legendre rule; and its weights."""
    node, weight = np.polynomial.legendre.leggauss(20)
    pieces = max(2, math.ceil(0.5 / (4 * t)))  # each below 4t wide: the kernel changes by at most e^2 across a piece
    x = ((node + 1) / 2 + np.arange(pieces)[:, None]).ravel() / (2 * pieces)
    weight = np.tile(weight / 2, pieces) / pieces
    log_kernel = np.log(wrapped(x, t, 1.0)) if t > 1e-3 else -(np.minimum(x, 1 - x) ** 2) / (2 * t) - math.log(2 * math.pi * t) / 2
    if t <= 1e-3:
        log_kernel += np.log1p(np.exp(-(1 - 2 * x) / (2 * t)))  # the second nearest image; the third is below exp(-500)
    return log_kernel, weight


@cache
def exact_kl(count: int, t: float, lengths: tuple[float, ...]) -> float:
    """`E KL` on a circle or rectangle: `-E log S` by Frullani's integral, in `s = e^v`, with a Gauss-Legendre rule for the box.

    `L W_t` on a circle of length L is W on the unit circle at `t/L^2`.
    """
    log_kernel, weight = _log_kernel(t / lengths[0] ** 2)
    for side in lengths[1:]:
        more, factor = _log_kernel(t / side**2)
        log_kernel, weight = (log_kernel[:, None] + more).ravel(), np.outer(weight, factor).ravel()
    step = 0.2
    v = np.arange(-45, max(0.0, -float(log_kernel.min())) + math.log(count) + 6, step)
    # 1 - phi, not phi: its power N would lose digits. Beyond exp(700) both exponentials are zero.
    rest = np.array([weight @ -np.expm1(-np.exp(np.minimum(u - math.log(count) + log_kernel, 700))) for u in v])
    power = np.exp(count * np.log1p(-np.minimum(rest, 1 - 1e-16)))
    return -step * float((np.exp(-np.exp(np.minimum(v, 700))) - power).sum())


claim(
    "spectral.expected_kl",
    title="The expected KL divergence is a theta function",
    statement=r"""For $N$ independent uniform data on the box, as $N \to \infty$ at fixed $t$,

$$\mathbb E\,\mathrm{KL}(p_t\,\Vert\,p_t^N) = \frac1{2N}\sum_{\xi\neq0}e^{-|\xi|^2t} + O(N^{-2}) =
\begin{cases}\dfrac1{2N}\left[\dfrac{\mathrm{vol}}{(4\pi t)^{k/2}} - 1\right], & t \ll L^2,\\[2ex]
\dfrac1N\sum_j e^{-(2\pi/L_j)^2t}, & t \gg L^2,\end{cases}$$

up to a share of the first term of size $e^{-L^2/4t}$, or of the second of size $e^{-4\pi^2t/L^2}$, with $L$ the shortest side in the
first and the longest in the second. The next order is, for $t \ll L^2$, relative to the first,
$\frac{\mathrm{vol}}{N(4\pi t)^{k/2}}\left[\frac32 - \frac23\left(\frac2{\sqrt3}\right)^k\right]$.""",
    source=f"{PAPER}; delta method, constants derived here",
    regime=r"""Uniform law on the box, $k$ fixed, $N(4\pi t)^{k/2} \gg \mathrm{vol}$ (for $t \gg L^2$ any $N$). Checked against exact
expectations, $k = 1$ and $2$.""",
    uses=("spectral.noise", "spectral.theta"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "spectral.expected_kl",
    by="rate",
    mutants={
        "one percent": returns(lambda kl, *_: 1.01 * kl),
        "1/2 forgotten": returns(lambda kl, *_: 2 * kl),
        "zero mode included": returns(lambda kl, t, lengths, count: kl + 1 / (2 * count)),
        "exp(-xi^2 t/2)": instead(lambda t, lengths, count: spectral.expected_kl(t / 2, lengths, count)),
        "1/(N - 1)": returns(lambda kl, t, lengths, count: kl * count / max(count - 1, 0.5)),
        "unit circle": instead(lambda t, lengths, count: spectral.expected_kl(t, 1.0, count)),
    },
)
def first_order_exactly(predict: Any = spectral.expected_kl, *, generator: torch.Generator) -> Numbers:
    """For N = 1..4 the exact expectation, as t grows: the relative error over the mean square of the noise tends to 3/2 - 3/4N.

    Two modes are left then, `delta = A cos + B sin`: `<delta^4> = (3/2) <delta^2>^2`, and `E <delta^2>^2 = (2 - 1/N) (E <delta^2>)^2`.
    The exact numbers are for the unit circle, at `t/L^2`.
    """
    numbers: Numbers = {}
    length = float(numpy_generator(generator).uniform(0.5, 2))
    for count in (1, 2, 3, 4):
        rest, noise = [], []
        for t in (0.12, 0.1, 0.08):
            square = 2 * math.exp(-4 * math.pi**2 * t) / count
            error = exact_log_noise(count, t)[1] / float(predict(t * length**2, length, count)) - 1
            rest.append(abs(error / square - 3 / 4 * (2 - 1 / count)))
            noise.append(square)
        slope = math.log(rest[2] / rest[0]) / math.log(noise[2] / noise[0])
        require(0.85 < slope < 1.15, f"N = {count}: error/noise reaches its limit with slope {slope:.3f}, not 1")
        numbers[f"slope, N = {count}"] = slope
    return numbers


@check(
    "spectral.expected_kl",
    by="quadrature",
    mutants={
        "off by 1e-9": returns(lambda kl, *_: kl * (1 + 1e-9)),
        "-1 forgotten": instead(lambda t, volume, k, count: volume / (4 * math.pi * t) ** (k / 2) / (2 * count)),
        "2 pi t": instead(lambda t, volume, k, count: (volume / (2 * math.pi * t) ** (k / 2) - 1) / (2 * count)),
        "1/2 forgotten": returns(lambda kl, *_: 2 * kl),
        "N = 10": instead(lambda t, volume, k, count: spectral.expected_kl_early(t, volume, k, 10)),
        "t^-k": instead(lambda t, volume, k, count: (volume / (4 * math.pi * t) ** k - 1) / (2 * count)),
    },
)
def early_form(predict: Any = spectral.expected_kl_early, *, generator: torch.Generator) -> Numbers:
    """A plain sum over modes, against the early form plus its first image: within the second image."""
    rng, worst = numpy_generator(generator), 0.0
    for k, scale, count in zip((1, 1, 1, 2, 2, 2), (0.01, 0.02, 0.04) * 2, (10, 3, 70) * 2, strict=True):
        lengths = rng.uniform(1.0, 1.2, k)
        n = np.arange(-60, 61)
        sums = [float(np.exp(-((2 * math.pi * n / side) ** 2) * scale).sum()) for side in lengths]
        expected = (math.prod(sums) - 1) / (2 * count)
        share = [2 * math.exp(-(side**2) / (4 * scale)) for side in lengths]
        first = float(lengths.prod()) / (4 * math.pi * scale) ** (k / 2) / (2 * count)
        got = float(predict(scale, float(lengths.prod()), k, count)) + first * (math.prod(1 + s for s in share) - 1)
        second = sum(2 * math.exp(-(side**2) / scale) for side in lengths) * 2
        worst = max(worst, agree(f"k = {k}, t = {scale}", got, expected, first * (1.5 * second + 64 * EPSILON)))
    return {"worst error/allowance": worst}


@check(
    "spectral.expected_kl",
    by="quadrature",
    mutants={
        "off by 1e-6": returns(lambda kl, *_: kl * (1 + 1e-6)),
        "one mode for two": returns(lambda kl, *_: kl / 2),
        "N = 10": instead(lambda t, lengths, count: spectral.expected_kl_late(t, lengths, 10)),
        "2 pi missing": instead(lambda t, lengths, count: sum(math.exp(-t / side**2) for side in lengths) / count),
        "exp(-xi^2 t/2)": instead(lambda t, lengths, count: spectral.expected_kl_late(t / 2, lengths, count)),
    },
)
def late_form(predict: Any = spectral.expected_kl_late, *, generator: torch.Generator) -> Numbers:
    """A plain sum over modes: the late form lacks the modes (1, 1) and (2), a share `2k exp(-4 pi^2 t/L^2)` and less."""
    rng, worst = numpy_generator(generator), 0.0
    for k, scale, count in ((1, 0.5, 10), (1, 0.7, 3), (2, 0.5, 3), (2, 0.7, 10)):
        lengths = rng.uniform(1.0, 1.05, k)
        waves = 2 * math.pi * np.stack(np.meshgrid(*[np.arange(-4, 5) / side for side in lengths], indexing="ij"), -1).reshape(-1, k)
        powers = np.sort(np.exp(-(waves**2).sum(-1) * scale))[::-1]
        expected = float(powers[1:].sum()) / (2 * count)
        allowed = expected * 4 * math.exp(-((2 * math.pi / lengths.max()) ** 2) * scale)
        worst = max(worst, agree(f"k = {k}, t = {scale}", predict(scale, lengths.tolist(), count), expected, allowed))
    return {"worst error/allowance": worst}


@check(
    "spectral.expected_kl",
    by="rate",
    mutants={
        "one part in 10^5": returns(lambda result, *_: result._replace(kl=result.kl * (1 + 1e-5))),
        "no third moment": returns(lambda result, t, lengths, count, nodes: result._replace(kl=spectral.expected_kl(t, lengths, count))),
    },
)
def next_order_for_small_t(predict: Any = periodic.expansion, *, generator: torch.Generator) -> Numbers:
    """At N = 10^6: the relative correction over `vol (4 pi t)^{-k/2}/N` tends to 3/2 - (2/3) (2/sqrt 3)^k as t falls, with slope k/2."""
    numbers: Numbers = {}
    count = 10**6
    for k in (1, 2):
        limit, rest, sizes = 1.5 - 2 / 3 * (4 / 3) ** (k / 2), [], (4e-3, 2e-3, 1e-3)
        for t in sizes:
            first = ((4 * math.pi * t) ** (-k / 2) - 1) / (2 * count)
            correction = predict(t, [1.0] * k, count, 128).kl / first - 1
            rest.append(abs(correction * count * (4 * math.pi * t) ** (k / 2) - limit))
        slope = math.log(rest[0] / rest[2]) / math.log(sizes[0] / sizes[2])
        require(abs(slope - k / 2) < 0.15, f"k = {k}: slope {slope:.3f} for {k / 2}, distances {rest}")
        # With A = vol (4 pi t)^{-k/2}, dividing [limit A^2 - A] by A (A - 1): the distance is (1 - limit)/A, and O(1/A^2) more.
        agree(f"distance from the limit, k = {k}", rest[2], (1 - limit) * (4 * math.pi * sizes[2]) ** (k / 2), 0.15 * rest[2])
        numbers[f"slope, k = {k}"] = slope
    return numbers


@check(
    "spectral.expected_kl",
    by="rate",
    mutants={
        "one percent": returns(lambda kl, *_: 1.01 * kl),
        "zero mode included": returns(lambda kl, t, lengths, count: kl + 1 / (2 * count)),
        "k = 1 for k": instead(lambda t, lengths, count: spectral.expected_kl(t, lengths[0], count)),
        "first side for every axis": instead(lambda t, lengths, count: spectral.expected_kl(t, [lengths[0]] * len(lengths), count)),
        "1/sqrt(N)": returns(lambda kl, t, lengths, count: kl * count**0.5),
    },
)
def many_data_exactly(predict: Any = spectral.expected_kl, *, generator: torch.Generator) -> Numbers:
    """Against the exact expectation at N = 10^3..10^5 on a circle and a rectangle: the relative error falls like 1/N, and has the claimed
    size.
    """
    numbers: Numbers = {}
    for lengths, t in (((1.0,), 2e-3), ((1.25, 1.0), 2e-2)):
        k = len(lengths)
        errors = [exact_kl(count, t, lengths) / float(predict(t, list(lengths), count)) - 1 for count in (1000, 10**4, 10**5)]
        slope = math.log10(abs(errors[2] / errors[0])) / 2
        require(abs(slope + 1) < 0.03, f"k = {k}: slope {slope:.4f} for -1")
        # Exactly <w^3> = A^2 (4/3)^{k/2} - 3A + 2 and u(0) = A - 1, up to images below 1e-5; the order after this is 1e-3 of it.
        local = math.prod(lengths) * (4 * math.pi * t) ** (-k / 2)
        third = local**2 * (4 / 3) ** (k / 2) - 3 * local + 2
        agree(f"next order, k = {k}", errors[2] * 10**5, 1.5 * (local - 1) - 2 / 3 * third / (local - 1), 5e-3 * local)
        numbers |= {f"slope, k = {k}": slope, f"next order, k = {k}": errors[2] * 10**5 / local}
    return numbers


claim(
    "spectral.exact_kl",
    title="The expected divergence, exactly, for every N",
    statement=r"""For $N$ independent uniform data on the box,

$$\mathbb E\,\mathrm{KL}(p_t\,\Vert\,p_t^N) = -\int_0^\infty\left(e^{-s} - \varphi(s/N)^N\right)\frac{ds}s, \qquad
\varphi(s) = \frac1{\mathrm{vol}}\int e^{-s\,\mathrm{vol}\,W_t(x)}\,dx .$$""",
    source="derived here from Frullani's integral for the logarithm",
    regime=r"""Uniform law on the box; every $N \ge 1$ and $t > 0$. Exact. The package computes it for $k \le 2$; checked for $k = 1$,
$N \le 4$, and $k = 2$, $N = 2$, against integrals over the positions of all data, and at $N = 1000$ against the moments of the noise.""",
    uses=("spectral.theta",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "spectral.exact_kl",
    by="quadrature",
    mutants={
        "off by 1e-8": returns(lambda kl, *_: kl * (1 + 1e-8)),
        "delta method": instead(lambda t, lengths, count: spectral.expected_kl(t, lengths, count)),
        "one datum less": instead(lambda t, lengths, count: periodic.exact_kl(t, lengths, max(count - 1, 1)) * (1 if count > 1 else 2)),
        "2 t": instead(lambda t, lengths, count: periodic.exact_kl(2 * t, lengths, count)),
        "unit sides": instead(lambda t, lengths, count: periodic.exact_kl(t, [1.0] * np.size(lengths), count)),
        "first side for every axis": instead(lambda t, lengths, count: periodic.exact_kl(t, np.full_like(lengths, lengths[0]), count)),
    },
)
def few_data_anywhere(predict: Any = periodic.exact_kl, *, generator: torch.Generator) -> Numbers:
    """N = 1..4 on a circle, N = 2 on a rectangle: the mean of `-log vol p_t^N` over all positions of all data. The circle is the unit
    circle at `t/L^2`. N = 1000: first to fourth moments of the noise.
    """
    rng, worst = numpy_generator(generator), 0.0
    length = float(rng.uniform(0.5, 2))
    for count, t in itertools.product((1, 2, 3, 4), (0.03, 0.08)):
        expected = exact_log_noise(count, t)[1]
        # The trapezoid rules on either side are resolved to 1e-12 at these t.
        worst = max(worst, agree(f"N = {count}, t = {t}", predict(t * length**2, [length], count), expected, 1e-11))
    t, nodes, lengths = 0.05, 32, [1.0, 0.9]
    one, two = (side * wrapped(side * np.arange(nodes) / nodes, t, side) for side in lengths)
    first = np.multiply.outer(one, two)
    moved = [np.array([np.roll(f, i) for i in range(nodes)]) for f in (one, two)]
    pair = np.log((first + np.einsum("ax,by->abxy", *moved)) / 2)
    worst = max(worst, agree("two data on a rectangle", predict(t, lengths, 2), -float(pair.mean()), 1e-11))
    # The sixth order is (noise)^2 = 1.5e-9 of it, below 1e-13.
    many = periodic.expansion(0.1, lengths, 1000, 64).kl
    worst = max(worst, agree("N = 1000", predict(0.1, lengths, 1000), many, 1e-11))
    return {"worst error/allowance": worst}


claim(
    "spectral.kl_collapse",
    title="At fixed N and small t the divergence is 1/t, not a theta function",
    statement=r"""On a circle of length $L$, $N$ independent uniform data, as $t \to 0$ at fixed $N$,

$$\mathbb E\,\mathrm{KL}(p_t\,\Vert\,p_t^N) = \frac{L^2}{4(N+1)(N+2)\,t} + \frac12\log\frac{2\pi N^2 t}{L^2} + o(1):$$

each point sees its nearest datum only, at a mean square distance $L^2/(2(N+1)(N+2))$.""",
    source="derived here",
    regime=r"$k = 1$, uniform law, $N$ fixed, $t \ll L^2/N^2$. Checked for $N = 1, 2, 4$.",
    uses=("spectral.exact_kl",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@check(
    "spectral.kl_collapse",
    by="rate",
    mutants={
        "off by 0.01": returns(lambda kl, *_: kl + 0.01),
        "logarithm forgotten": instead(lambda t, length, count: length**2 / (4 * (count + 1) * (count + 2) * t)),
        "1/(4 N^2 t)": returns(lambda kl, t, length, count: kl + length**2 / (4 * t) * (1 / count**2 - 1 / ((count + 1) * (count + 2)))),
        "distance squared over t": returns(lambda kl, t, length, count: kl + length**2 / (4 * (count + 1) * (count + 2) * t)),
        "log N for its double": returns(lambda kl, t, length, count: kl - math.log(count + 1) / 2),
        "unit circle": instead(lambda t, length, count: spectral.collapsed_kl(t, 1.0, count)),
    },
)
def few_data(predict: Any = spectral.collapsed_kl, *, generator: torch.Generator) -> Numbers:
    """The exact expectation: the difference falls like `t log(1/t)`."""
    numbers: Numbers = {}
    length = float(numpy_generator(generator).uniform(1.2, 2))
    for count in (1, 2, 4):
        sizes = np.array([3.2e-3, 8e-4]) * min(1.0, 9 / count**2)
        rest = [abs(exact_kl(count, t, (1.0,)) - float(predict(t * length**2, length, count))) for t in sizes.tolist()]
        slope = math.log(rest[0] / rest[1]) / math.log(4)
        require(0.7 < slope < 1.1, f"N = {count}: slope {slope:.3f}, about 1 expected; differences {rest}")
        numbers[f"slope, N = {count}"] = slope
    return numbers
