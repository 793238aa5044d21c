import math

import pytest
from scipy import stats

from kss.theory import supervision_gaussian as theory


def test_one_datum():
    for d, t, v in ((1, 0.3, 1.0), (40, 2.0, 3.0), (7, 1e9, 1.0), (7, 1e-6, 1.0)):
        scale = (2 * v + t) / t
        assert theory.ratio_survival(1.0, 1, d, t, v, fresh=True) == pytest.approx(stats.chi2.sf(d / scale, d), abs=1e-10)
        assert theory.ratio_survival(1.0, 1, d, t, v, fresh=False) == pytest.approx(stats.chi2.sf(d, d), abs=1e-10)
        mean = math.sqrt(2 / d) * math.gamma((d + 1) / 2) / math.gamma(d / 2)
        assert theory.mean_ratio(1, d, t, v, fresh=True) == pytest.approx(math.sqrt(scale) * mean, rel=1e-7)
        assert theory.mean_ratio(1, d, t, v, fresh=False) == pytest.approx(mean, rel=1e-7)


def test_scaling():
    # Lengths times 3, variances times 9: the same laws.
    for f in (
        lambda t, v: theory.ratio_survival(1.1, 20, 5, t, v, fresh=True),
        lambda t, v: theory.ratio_survival(0.8, 20, 5, t, v, fresh=False),
        lambda t, v: theory.foreign_hits(20, 5, t, 0.3, v),
        lambda t, v: theory.outside_probability(20, 5, t, 0.3, v),
        lambda t, v: theory.strangers_weight_bound(20, 5, t, v),
        lambda t, v: theory.hit_exponent(t, 0.1, v),
        lambda t, v: theory.hit_exponent(t, 0.1, v, typical=False),
        lambda t, v: theory.least_error(5, t, v) / t,
    ):
        assert f(0.4, 1.5) == pytest.approx(f(3.6, 13.5), rel=1e-12)


@pytest.mark.parametrize("t", [1e-300, 1e-9, 1e9, 1e300])
def test_every_scale(t):
    values = [
        theory.ratio_survival(1.0, 10, 3, t, fresh=True),
        theory.outside_probability(9, 3, t, 0.1),
        theory.strangers_weight_bound(10, 3, t),
    ]
    assert all(0 <= v <= 1 + 1e-12 for v in values)
    assert math.isfinite(theory.mean_ratio(10, 3, t, fresh=False))
    assert math.isfinite(theory.hit_exponent(t))
    assert 0 < theory.least_error(3, t) <= 3
    if t > 1:
        # Noise only: the data are one point.
        assert values[0] == pytest.approx(stats.chi2.sf(3, 3), abs=1e-3)
        assert values[2] == pytest.approx(1.0)


def test_degenerate_numbers():
    assert theory.outside_probability(0, 3, 1.0, 0.1) == pytest.approx(1.0)
    assert theory.foreign_hits(0, 3, 1.0, 0.1) == 0.0
    assert theory.foreign_hits(5, 3, 1.0, 0.0) == 0.0
    assert theory.strangers_weight_bound(1, 3, 1.0) == 0.0
    assert theory.ratio_survival(0.0, 5, 3, 1.0, fresh=True) == pytest.approx(1.0)


def test_exponents():
    assert theory.hit_exponent(1.0) == pytest.approx(math.log(2) / 2)
    assert theory.hit_exponent(1.0, typical=False) == pytest.approx((math.log(3) - 2 / 3) / 2)
    assert theory.hit_exponent(1.0, 5.0) == 0.0
    assert theory.hit_exponent(1.0, 5.0, typical=False) == 0.0


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n", lambda: theory.strangers_weight_bound(0, 3, 1.0)),
        ("dim", lambda: theory.least_error(0, 1.0)),
        ("t", lambda: theory.least_error(3, -1.0)),
        ("variance", lambda: theory.foreign_hits(3, 3, 1.0, 0.1, 0.0)),
        ("delta", lambda: theory.outside_probability(3, 3, 1.0, -0.1)),
        ("delta", lambda: theory.hit_exponent(1.0, math.nan)),
        ("others", lambda: theory.outside_probability(-1, 3, 1.0, 0.1)),
        ("ratio", lambda: theory.ratio_survival(-1.0, 3, 3, 1.0, fresh=True)),
    ],
)
def test_names_what_is_wrong(name, call):
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()
