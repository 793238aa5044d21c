"""The references of the claims, against cases with a closed form and against adaptive quadrature."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from kss.distributions import GaussianMixture
from kss.testing import sums


def test_one_point_is_a_parabola() -> None:
    points, x, t, h = np.array([[0.3, -1.0]]), np.array([1.0, 0.5]), 0.4, 0.7
    value = sums.smoothed_log_density(points, x, t, h)
    assert value.real == pytest.approx(-(((x - points[0]) ** 2).sum() + 2 * h) / (2 * t), rel=1e-13)
    np.testing.assert_allclose(sums.smoothed_score(points, x, t, h), -(x - points[0]) / t, rtol=1e-13)


@pytest.mark.parametrize("h", [0.01, 0.1, 1.0])
def test_two_points_against_adaptive_quadrature(h: float) -> None:
    points, x, t = np.array([[-1.0], [1.0]]), 0.3, 0.1
    h = min(h, sums.resolved(points, t))

    def integrand(z: float) -> float:
        y = x + math.sqrt(h) * z
        return float((math.tanh(y / t) - y) / t * stats.norm.pdf(z))

    kink = -x / math.sqrt(h)
    cuts = sorted((-9.0, kink - 0.2, kink, kink + 0.2, 9.0))
    exact = sum(integrate.quad(integrand, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in itertools.pairwise(cuts))
    assert sums.smoothed_score(points, np.array([x]), t, h)[0] == pytest.approx(exact, rel=1e-10)


def test_resolved_says_where_the_sums_end() -> None:
    points, t = np.array([[-1.0], [1.0]]), 0.01
    h = sums.resolved(points, t)
    coarse, fine = (sums.gaussian_nodes(1, h, count) for count in (sums.NODES[1], 4 * sums.NODES[1]))
    values = [float((w * sums.log_density(points, v, t)).sum()) for v, w in (coarse, fine)]
    assert values[0] == pytest.approx(values[1], abs=1e-12 * abs(values[1]))
    assert sums.resolved(points[:1], t) == math.inf


@pytest.mark.parametrize("k", [1, 2, 3])
def test_radial_score_of_spheres(k: int) -> None:
    # From the definition: log of the integral of exp(r R cos/t) sin^(k-1), by a central difference.
    radius, r, t, step = 1.5, 1.2, 0.3, 1e-5

    def log_density(r: float) -> float:
        def integrand(angle: float) -> float:
            return math.exp(r * radius * (math.cos(angle) - 1) / t) * math.sin(angle) ** (k - 1)

        return -((r - radius) ** 2) / (2 * t) + math.log(integrate.quad(integrand, 0, math.pi, epsabs=0, epsrel=1e-13)[0])

    slope = (log_density(r + step) - log_density(r - step)) / (2 * step)
    assert float(sums.Sphere(k, radius).score(r, t)) == pytest.approx(slope, rel=1e-6, abs=1e-6)
    # To first order in h smoothing adds half the vector Laplacian, f'' + k (f/r)' along the ray; the next term is of order h^2.
    law, h, e = sums.Sphere(k, radius), 1e-4, 1e-3
    f = law.score(np.array([r - e, r, r + e]), t)
    ratio = f / np.array([r - e, r, r + e])
    laplacian = (f[0] - 2 * f[1] + f[2]) / e**2 + k * (ratio[2] - ratio[0]) / (2 * e)
    assert float(law.smoothed_score(r, t, h)) - float(law.score(r, t)) == pytest.approx(h / 2 * laplacian, rel=2e-3)


def test_line_by_adaptive_quadrature() -> None:
    law = GaussianMixture([[-1.0], [0.5]], [[[0.1]], [[0.2]]], [0.3, 0.7])
    line, x, t, h = sums.Line(law), 0.2, 0.3, 0.5
    sd = math.sqrt(h)

    def density(y: float) -> float:
        return 0.3 * float(stats.norm.pdf(y, -1.0, math.sqrt(0.4))) + 0.7 * float(stats.norm.pdf(y, 0.5, math.sqrt(0.5)))

    def score(y: float) -> float:
        parts = (
            0.3 * stats.norm.pdf(y, -1.0, math.sqrt(0.4)) * (-1 - y) / 0.4 + 0.7 * stats.norm.pdf(y, 0.5, math.sqrt(0.5)) * (0.5 - y) / 0.5
        )
        return float(parts) / density(y)

    assert math.exp(line.log_density(np.array([x]), t)[0]) == pytest.approx(density(x), rel=1e-13)
    exact = integrate.quad(lambda z: score(x + sd * z) * stats.norm.pdf(z), -9, 9, epsabs=1e-13, epsrel=1e-13)[0]
    assert float(line.smoothed_score(np.array([x]), t, h)[0]) == pytest.approx(exact, rel=1e-11)
