"""Two points and a window: exact values, limits, and what is refused."""

import math

import numpy as np
import pytest
import torch

from kss.theory import interpolation


def test_the_box_average_is_exact_at_every_scale():
    # By hand: a = w = 1, x = 1, t = 2: log(cosh 1).
    assert float(interpolation.box_denoiser(1.0, 1.0, 2.0)) == pytest.approx(math.log(math.cosh(1.0)), rel=1e-14)
    assert float(interpolation.box_denoiser(0.3, 0.0, 0.2)) == pytest.approx(math.tanh(1.5), rel=1e-14)
    assert float(interpolation.box_denoiser(0.3, 1e-200, 0.2)) == pytest.approx(math.tanh(1.5), rel=1e-14)
    assert float(interpolation.box_denoiser(1.0, 1.0, 1e300)) == pytest.approx(1e-300, rel=1e-12)
    assert interpolation.box_denoiser([0.25, 3.0, -3.0, 0.0], 0.5, 1e-300).tolist() == [0.5, 1.0, -1.0, 0.0]
    assert interpolation.box_denoiser([0.25, 3.0, -0.25, 0.0], 0.5).tolist() == [0.5, 1.0, -0.5, 0.0]
    assert interpolation.box_denoiser([0.1, 0.0], 0.0).tolist() == [1.0, 0.0]
    assert interpolation.box_denoiser(1e200, 1.0, 1e-200).item() == 1.0


def test_the_two_ways_to_the_box_average_meet():
    # They change over where the shorter of x and w is t/a: no jump there.
    t, e = 0.3, 1e-9
    for w in (0.1, 0.299, 0.5, 2.0):
        below, above = interpolation.box_denoiser([t - e, t + e], w, t).tolist()
        assert above - below == pytest.approx(0.0, abs=1e-8)
    below, above = (float(interpolation.box_denoiser(0.7, w, t)) for w in (t - e, t + e))
    assert above == pytest.approx(below, rel=1e-7)


def test_flows_compose_and_are_odd():
    x = np.linspace(-3, 3, 31)
    for w in (0.4, 1.0, 2.5):
        middle = interpolation.fixed_window_flow(x, 2.0, 0.3, w)
        torch.testing.assert_close(interpolation.fixed_window_flow(middle, 0.3, 1e-3, w), interpolation.fixed_window_flow(x, 2.0, 1e-3, w))
        torch.testing.assert_close(interpolation.fixed_window_flow(-x, 2.0, 1e-3, w), -interpolation.fixed_window_flow(x, 2.0, 1e-3, w))
    for beta in (0.2, 0.5, 0.8, 2.0):
        middle = interpolation.opening_window_flow(x, 0.9, 0.3, 0.6, beta=beta)
        whole = interpolation.opening_window_flow(x, 0.9, 1e-3, 0.6, beta=beta)
        torch.testing.assert_close(interpolation.opening_window_flow(middle, 0.3, 1e-3, 0.6, beta=beta), whole)


def test_end_points_of_fixed_windows():
    x = [-2.0, -0.5, 0.0, 0.5, 2.0]
    assert interpolation.fixed_window_flow(x, 1.0, 0.0, 0.5).tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert interpolation.fixed_window_flow(x, 1.0, 0.0, 1.0).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert interpolation.fixed_window_flow(x, 1.0, 0.0, 2.0).tolist() == [0.0, 0.0, 0.0, 0.0, 0.0]
    # Rates next to 0, starts next to 0 and boxes next to nothing: the time of the crossing is no double.
    assert interpolation.fixed_window_flow([0.1, -0.1, 2.0], 1.0, 0.0, 0.999).tolist() == [1.0, -1.0, 1.0]
    assert interpolation.fixed_window_flow([0.1, 1e-300], 1.0, 0.0, 1 - 2**-53).tolist() == [1.0, 1.0]
    assert interpolation.fixed_window_flow([1e-300, 0.0], 1.0, 0.0, 0.5).tolist() == [1.0, 0.0]
    assert interpolation.fixed_window_flow(0.1, 1.0, 0.25, 1e-5).item() == pytest.approx(1 - 0.9 / 2, rel=1e-3)
    # Over 600 decades: (1e-600)^{(1 - 1/w)/2} with w = 1.001.
    left = 10 ** (-600 * (1 - 1 / 1.001) / 2)
    assert interpolation.fixed_window_flow(0.1, 1e300, 1e-300, 1.001).item() == pytest.approx(0.1 * left, rel=1e-12)


def test_a_window_that_opens_at_no_rate_is_the_frozen_one():
    x = np.linspace(-2, 2, 9)
    for beta in (0.3, 0.5, 1.0):
        got = interpolation.opening_window_flow(x, 0.7, 0.0, 0.0, beta=beta)
        torch.testing.assert_close(got, torch.from_numpy(np.clip(x, -1, 1)))
    torch.testing.assert_close(interpolation.opening_window_flow(x, 0.7, 0.7, 0.5), torch.from_numpy(x))
    assert interpolation.opening_window_flow(0.1, 1e300, 0.0, 0.0, beta=3.0).item() == 0.1


def test_the_output_law_is_a_law():
    node, weight = np.polynomial.legendre.leggauss(120)
    for t, kappa, a in ((0.5, 0.4, 1.0), (4.0, 0.3, 2.0), (0.02, 1.5, 0.7)):
        between = interpolation.filled_log_density(a * node, t, kappa, a).exp() @ torch.from_numpy(weight) * a
        assert float(between) + 2 * float(interpolation.atom_mass(t, kappa, a)) == pytest.approx(1.0, abs=1e-10)
    assert float(interpolation.filled_log_density(1.0, 0.5, 0.4)) == -math.inf
    assert float(interpolation.atom_mass(1e-300, 1.0)) == pytest.approx(0.5 * 0.8413447460685429, rel=1e-12)


def test_the_error_of_limit_paths_by_hand():
    # For a fixed box, kappa = 0: (log 2/4)(t - s)/a.
    assert interpolation.limit_path_error(0.3, 0.1, 0.0, 2.0) == pytest.approx(math.log(2) / 4 * 0.2 / 2, rel=1e-13)
    # The antiderivative of 2v/(a - kappa v)^2 is (2/kappa^2)(a/w + log w).
    t, kappa, a = 0.81, 0.5, 1.0
    w = a - kappa * 0.9
    integral = 2 / kappa**2 * ((a / w + math.log(w)) - (1 + 0.0))
    assert interpolation.limit_path_error(t, 0.0, kappa, a) == pytest.approx(math.log(2) / 4 * integral, rel=1e-12)
    assert interpolation.limit_path_error(0.3, 0.3, 0.1) == 0.0
    # A window that is nearly closed at t, and one that hardly moves.
    integral = 2 / 0.999999**2 * (1e6 - 1 + math.log(1e-6))
    assert interpolation.limit_path_error(1.0, 0.0, 0.999999) == pytest.approx(math.log(2) / 4 * integral, rel=1e-8)
    assert interpolation.limit_path_error(1.0, 0.5, 1e-300) == pytest.approx(math.log(2) / 8, rel=1e-13)


def test_rest_points_at_the_ends_and_at_the_fork():
    critical = interpolation.critical_bandwidth(3.0)
    assert interpolation.rest_point([0.0, critical, 2 * critical, 1e300], 3.0).tolist() == [3.0, 0.0, 0.0, 0.0]
    near = critical * (1 - 1e-10)
    assert float(interpolation.rest_point(near, 3.0)) == pytest.approx(math.sqrt(3 * critical * 1e-10), rel=1e-4)
    assert float(interpolation.rest_point(1e-300)) == 1.0
    assert float(interpolation.growth_rate(0.0, interpolation.critical_bandwidth(0.5), 0.5)) == pytest.approx(0.0, abs=1e-15)
    assert interpolation.gaussian_denoiser([-1.0, 0.0, 2.0], 0.0, 0.5).tolist() == [-0.5, 0.0, 0.5]


def test_merging_at_the_ends():
    got = interpolation.merging_bandwidth([0.0, 1e-300, 4.0, 1e300], 2.0)
    assert got.tolist() == pytest.approx([8 / math.pi, 8 / math.pi, 0.0, 0.0], rel=1e-12)
    assert float(interpolation.merging_bandwidth(4.0 * (1 - 1e-6), 2.0)) == pytest.approx(4e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interpolation.box_denoiser(0.1, -1.0), r"^w = -1\.0: expected a number >= 0"),
        (lambda: interpolation.box_denoiser(0.1, 1.0, -0.5), r"^t = -0\.5: expected a number >= 0"),
        (lambda: interpolation.box_denoiser(math.nan, 1.0), r"^x = nan: expected finite"),
        (lambda: interpolation.fixed_window_flow(0.1, 1.0, 2.0, 1.0), r"^s = 2\.0: expected a noise variance between 0 and t = 1"),
        (lambda: interpolation.fixed_window_flow(0.1, 0.0, 0.0, 1.0), r"^t = 0\.0: expected"),
        (lambda: interpolation.fixed_window_flow(0.1, 1.0, 0.0, 0.0), r"^w = 0\.0: expected"),
        (
            lambda: interpolation.opening_window_flow(0.1, 4.0, 0.0, 0.5),
            r"^kappa = 0\.5: expected a number >= 0 with kappa t\^beta < a, here below 0\.5",
        ),
        (lambda: interpolation.opening_window_flow(0.1, 1.0, 0.0, -0.5), r"^kappa = -0\.5: expected"),
        (lambda: interpolation.opening_window_flow(0.1, 1.0, 0.0, 0.5, beta=0.0), r"^beta = 0\.0: expected"),
        (lambda: interpolation.limit_path_error(1.0, 0.0, 1.0), r"^kappa = 1\.0: expected"),
        (lambda: interpolation.atom_mass(-1.0, 0.5), r"^t = -1\.0: expected"),
        (lambda: interpolation.filled_log_density(0.0, 1.0, 2.0), r"^kappa = 2\.0: expected"),
        (lambda: interpolation.rest_point(-0.1), r"^h = -0\.1: expected a variance >= 0"),
        (lambda: interpolation.growth_rate(0.0, 0.0), r"^h = 0\.0: expected a variance > 0"),
        (lambda: interpolation.merging_bandwidth(-1.0), r"^t = -1\.0: expected"),
        (lambda: interpolation.rest_point(0.1, a=0.0), r"^a = 0\.0: expected"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
