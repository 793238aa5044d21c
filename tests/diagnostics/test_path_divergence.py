"""The mean path divergence against exact values where there are any, and its promises about random numbers."""

import math

import numpy as np
import pytest
import torch

from kss.diagnostics.path_divergence import EffectiveSize, effective_dataset_size, mean_path_divergence
from kss.distributions import Circle, Empirical, Gaussian
from kss.theory.kl.exact import expected_kl_exact

ATOM = Empirical([[0.3, -0.2]])


def test_raw_divergence_is_the_fall_of_the_exact_kl() -> None:
    found = mean_path_divergence(Circle(), 20, [0.0], t_min=0.05, t_max=1.0, data_sets=3000, generator=0)
    exact = expected_kl_exact(Circle(), 0.05, 20) - expected_kl_exact(Circle(), 1.0, 20)
    assert abs(float(found.mean) - exact) < 6 * float(found.standard_error)
    assert float(found.standard_error) < 0.05 * exact


def test_one_gaussian_datum_in_closed_form() -> None:
    # s_u = -x/(v + u) and s_u^1 = (x_1 - x)/u: E|.|^2 = d (v/u^2 + v^2/(u^2 (v + u))).
    v, low, high = 2.0, 0.1, 3.0
    u = np.exp(np.linspace(math.log(low), math.log(high), 20001))
    exact = float(np.trapezoid(3 * (v / u**2 + v**2 / (u**2 * (v + u))), u)) / 2
    law = Gaussian([0.0] * 3, v * torch.eye(3))
    found = mean_path_divergence(law, 1, [0.0, 0.5], t_min=low, t_max=high, data_sets=4000, generator=1)
    assert torch.all((found.mean - exact).abs() < 6 * found.standard_error)


def test_an_atom_has_no_error() -> None:
    found = mean_path_divergence(ATOM, 4, [0.0, 0.3], t_min=1e-3, t_max=1.0, data_sets=3, generator=2)
    assert found.values.shape == (3, 2)
    assert float(found.values.abs().max()) < 1e-18 / 1e-3


def test_start_times_share_a_path() -> None:
    found = mean_path_divergence(Circle(), 5, [0.0, 0.1], t_min=[0.01, 0.1], t_max=1.0, data_sets=50, generator=3)
    assert found.values.shape == (50, 2, 2)
    assert found.mean.shape == (2, 2)
    assert bool((found.values[:, 0, 0] >= found.values[:, 1, 0]).all())
    alone = mean_path_divergence(Circle(), 5, [0.0], t_min=0.01, t_max=1.0, data_sets=50, generator=3)
    assert alone.values.shape == (50, 1)


def test_bandwidths_do_not_change_the_random_numbers() -> None:
    settings = {"t_min": 0.01, "t_max": 1.0, "data_sets": 7}
    many = mean_path_divergence(Circle(), 50, [0.0, 0.01, 0.1], generator=4, **settings)
    one = mean_path_divergence(Circle(), 50, np.array([0.1]), generator=torch.Generator().manual_seed(4), **settings)
    torch.testing.assert_close(many.values[:, 2:], one.values, rtol=1e-12, atol=0.0)


def test_a_few_large_data_sets_fit_into_blocks() -> None:
    found = mean_path_divergence(Circle(), 3000, [0.02], t_min=0.1, t_max=0.2, data_sets=2, generator=5, strata=64)
    assert bool(found.values.isfinite().all())


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("bandwidths", {"bandwidths": [-0.1]}),
        ("bandwidths", {"bandwidths": []}),
        ("t_min", {"t_min": 1.0}),
        ("t_min", {"t_min": [0.1, 0.05]}),
        ("nodes", {"nodes": 3}),
        ("N", {"N": 0}),
        ("data_sets", {"data_sets": 0}),
    ],
)
def test_refusals_name_the_argument(name: str, changed: dict) -> None:
    given = {"N": 3, "bandwidths": [0.1], "t_min": 0.1, "t_max": 1.0, "data_sets": 2, "generator": 0} | changed
    with pytest.raises(ValueError, match=name):
        mean_path_divergence(Circle(), given.pop("N"), given.pop("bandwidths"), **given)


def test_effective_size_exceeds_the_size_where_smoothing_helps() -> None:
    law = Gaussian([0.0] * 4, torch.eye(4))
    found = effective_dataset_size(law, 50, [0.2, 0.5], t_min=0.1, t_max=3.0, data_sets=150, generator=6, resamples=200)
    assert isinstance(found, EffectiveSize)
    assert 50 < found.low < found.size < found.high < 500
    assert found.bandwidth in (0.2, 0.5)


def test_effective_size_without_smoothing_is_the_size() -> None:
    found = effective_dataset_size(Circle(), 20, [0.0], t_min=0.1, t_max=1.0, data_sets=100, generator=7, resamples=50)
    assert found.size == pytest.approx(20)
    assert found.bandwidth == 0.0
    with pytest.raises(ValueError, match="confidence"):
        effective_dataset_size(Circle(), 20, [0.1], t_min=0.1, t_max=1.0, data_sets=9, generator=7, confidence=1.5)


def test_functions_of_the_noise_variance() -> None:
    settings = {"t_min": 0.01, "t_max": 1.0, "data_sets": 5, "generator": 4}
    found = mean_path_divergence(Circle(), 30, [0.02, lambda u: 0.02 + 0 * u, lambda u: u], **settings)
    torch.testing.assert_close(found.values[:, 0], found.values[:, 1])
    assert found.bandwidths.isnan().tolist() == [False, True, True]
    assert not torch.allclose(found.values[:, 0], found.values[:, 2])


def test_a_corrected_score_has_the_divergence_of_its_definition() -> None:
    # On one atom 2 G_h - G_2h changes nothing: the score is linear. On two it does: compare with sums over the kernel's nodes.
    found = mean_path_divergence(ATOM, 4, [0.3], t_min=1e-3, t_max=1.0, data_sets=3, generator=2, order=2)
    assert float(found.values.abs().max()) < 1e-15 / 1e-3
    pair = Empirical([[-1.0], [1.0]])
    t, end, h = 0.2, 0.8, 0.3
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    total = 0.0
    # One datum: by symmetry at 1, whose score is (1 - x)/u, linear; the true score is (tanh(x/u) - x)/u, and no kernel enters.
    for u, du in zip(np.linspace(t, end, 401), [0.5] + [1.0] * 399 + [0.5], strict=True):
        for atom in (-1.0, 1.0):
            x = atom + math.sqrt(u) * node
            total += (((1 - np.tanh(x / u)) / u) ** 2 @ weight) / 2 * du * (end - t) / 400 / 2
    one = mean_path_divergence(pair, 1, [h], t_min=t, t_max=end, data_sets=4000, generator=5, order=2)
    assert abs(float(one.mean) - total) < 6 * float(one.standard_error)


def test_bandwidths_that_are_refused() -> None:
    settings = {"t_min": 0.1, "t_max": 1.0, "data_sets": 1, "generator": 0}
    with pytest.raises(ValueError, match=r"^bandwidths\(u\) = .*variance >= 0 for each u"):
        mean_path_divergence(Circle(), 3, [lambda u: -u], **settings)
    with pytest.raises(ValueError, match=r"^bandwidths\(u\) = .*variance >= 0 for each u"):
        mean_path_divergence(Circle(), 3, [lambda u: u[0]], **settings)
    with pytest.raises(ValueError, match=r"^order = 0"):
        mean_path_divergence(Circle(), 3, [0.1], order=0, **settings)
