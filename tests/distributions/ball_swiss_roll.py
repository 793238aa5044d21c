"""The Swiss roll's curve in ball arithmetic: rigorous adaptive integration of the definition; nothing here comes from `kss`."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import flint
import numpy as np
from flint import acb, arb
from scipy.optimize import minimize_scalar

BITS = 200
START, END = 3 * math.pi / 2, 9 * math.pi / 2


class Exact(NamedTuple):
    log_density: float
    displacement: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


def exact(scale: float, x: np.ndarray, t: float) -> Exact:
    """log p_t, m_t - x, m_t and C_t as integrals over theta, to at least 20 digits."""
    flint.ctx.prec = BITS
    a, time, point = arb(float(scale)), arb(float(t)), [arb(float(v)) for v in x]
    first, last = arb.pi() * 3 / 2, arb.pi() * 9 / 2

    def exponent(theta: np.ndarray | float) -> np.ndarray:
        return ((scale * theta * np.cos(theta) - x[0]) ** 2 + (scale * theta * np.sin(theta) - x[1]) ** 2) / (2 * t)

    # Floating point only helps the integrator: it says where the peaks are, the unit, and which parts are below exp(-80).
    grid = np.linspace(START, END, 4001)
    value = exponent(grid)
    minima = [START, END]
    for i in range(1, 4000):
        if value[i] <= min(value[i - 1], value[i + 1]):
            found = minimize_scalar(exponent, bounds=(grid[i - 1], grid[i + 1]), method="bounded", options={"xatol": 1e-12})
            minima.append(float(found.x))
    shift = arb(float(min(exponent(m) for m in minima)))
    around = [m + s * w for m in minima for s in (-1, 0, 1) for w in 10.0 ** np.arange(-9, 0, 0.5)]
    cuts = sorted({c for c in around if START + 1e-12 < c < END - 1e-12})
    ends = [first, *[arb(c) for c in cuts], last]
    parts = [
        (lower, upper)
        for lower, upper in pairwise(ends)
        if exponent(np.linspace(float(lower), float(upper), 101)).min() < float(shift) + 80
    ]

    def integral(factor: Callable[[acb, acb], acb]) -> arb:
        def integrand(theta: acb, _: bool) -> acb:
            u, v = a * theta * theta.cos() - point[0], a * theta * theta.sin() - point[1]
            return factor(u, v) * (shift - (u * u + v * v) / (2 * time)).exp()

        pieces = (
            acb.integral(integrand, lower, upper, rel_tol=arb(2) ** -70, abs_tol=floor, depth_limit=10**5, eval_limit=10**7)
            for lower, upper in parts
        )
        return sum((piece.real for piece in pieces), arb(0))

    floor = arb(2) ** -130
    total = integral(lambda u, v: acb(1))
    floor = total.mid() * arb(2) ** -120
    ahead = [integral(lambda u, v: u) / total, integral(lambda u, v: v) / total]
    center = [m.mid() for m in ahead]
    second = [
        [integral(lambda u, v, i=i, j=j: ((u, v)[i] - center[i]) * ((u, v)[j] - center[j])) / total for j in range(2)] for i in range(2)
    ]
    log_density = total.log() - shift - (2 * arb.pi() * time).log() - (3 * arb.pi()).log()
    return Exact(
        float(log_density),
        np.array([float(m.mid()) for m in ahead]),
        np.array([float((m + p).mid()) for m, p in zip(ahead, point, strict=True)]),
        np.array([[float(entry.mid()) for entry in row] for row in second]),
    )
