"""Critical numbers of data and regimes: limits, consistency, refusals."""

import math

import numpy as np
import pytest

from kss.theory.kl import poisson, regimes

CIRCLE = {"volume": 2 * math.pi, "curvature_square": 1.0}


def test_two_terms() -> None:
    h = np.array([0.0, 0.01])
    value = regimes.mollified_path_kl(0.001, h, 100, k=1, **CIRCLE)
    noise = math.pi / 100 / np.sqrt(4 * math.pi * (0.001 + h))
    np.testing.assert_allclose(value, np.array([0.0, 1e-4 / 0.008]) + noise, rtol=1e-14)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_poisson_kl_falls_to_the_delta_method(k: int) -> None:
    values = [poisson.poisson_kl(c, k) * 2 * c * (4 * math.pi) ** (k / 2) for c in (1e-2, 1.0, 1e2, 1e4)]
    assert values[0] > values[1] > values[2] > values[3] > 1
    assert values[3] == pytest.approx(1, abs=1e-3)


def test_poisson_kl_is_continuous_where_its_rules_change() -> None:
    below, above = (poisson._covered(a, 3) / (2 * a) ** 1.5 for a in (40.0, 40.0 + 1e-9))
    assert above == pytest.approx(below, rel=1e-8)


def test_sawtooth_path_kl_without_smoothing_and_with_much() -> None:
    assert regimes.sawtooth_path_kl(1e-6, 0.0, 10, volume=2.0) == pytest.approx((2 / 10) ** 2 / (4 * 1e-6))
    expected = 7 / 64 * (2 / 10) ** 5 / (math.sqrt(math.pi) * 40**1.5 * 1e-6)
    assert regimes.sawtooth_path_kl(1e-6, 40.0, 10, volume=2.0) == pytest.approx(expected, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_critical_size_has_the_level(k: int, level: float) -> None:
    t, volume = 1e-3, 3.0
    n = regimes.critical_sample_size(t, k=k, volume=volume, formula="raw", level=level)
    assert poisson.poisson_kl(n / volume * t ** (k / 2), k) == pytest.approx(level, rel=1e-6)
    delta = regimes.critical_sample_size(t, k=k, volume=volume, formula="delta", level=level)
    assert regimes.mollified_path_kl(t, 0.0, delta, k=k, volume=volume, curvature_square=0.0) == pytest.approx(level)
    clt = regimes.critical_sample_size(t, k=k, volume=volume, formula="clt", curvature_square=4.0, level=level)
    h = np.geomspace(1e-6, 1, 20001)
    assert regimes.mollified_path_kl(t, h, clt, k=k, volume=volume, curvature_square=4.0).min() == pytest.approx(level, rel=1e-4)


def test_smoothed_critical_size_has_the_level() -> None:
    t = 1e-4
    n = regimes.critical_sample_size(t, k=1, formula="sawtooth", **CIRCLE)
    total = [
        regimes.mollified_path_kl(t, h, n, k=1, **CIRCLE) + regimes.sawtooth_path_kl(t, h, n, volume=CIRCLE["volume"])
        for h in np.geomspace(1e-3, 0.1, 400)
    ]
    assert min(total) == pytest.approx(1, rel=1e-3)


def test_units_do_not_matter() -> None:
    small = regimes.critical_sample_size(1e-4, k=1, formula="sawtooth", **CIRCLE)
    large = regimes.critical_sample_size(1e-4 * 9, k=1, volume=6 * math.pi, curvature_square=1 / 9, formula="sawtooth")
    assert large == pytest.approx(small, rel=1e-6)


@pytest.mark.slow
def test_exponents_and_regimes() -> None:
    assert [regimes.critical_exponent(1, f) for f in regimes.FORMULAS] == [0.5, 0.5, 0.25, 0.35]
    assert regimes.critical_exponent(2, "sawtooth") == pytest.approx(2 / 3)
    found = [regimes.regime(1e-4, n, **CIRCLE) for n in (10, 150, 1000)]
    assert found == ["nothing works", "smoothed works", "raw works"]


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="curvature_square"):
        regimes.critical_sample_size(1e-3, k=1, volume=1.0, formula="clt")
    with pytest.raises(ValueError, match="k = 2"):
        regimes.critical_sample_size(1e-3, k=2, volume=1.0, formula="sawtooth", curvature_square=1.0)
    with pytest.raises(ValueError, match="c = 0"):
        poisson.poisson_kl(0.0, 1)
