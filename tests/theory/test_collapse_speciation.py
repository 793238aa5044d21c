"""Two clusters, and the clock of Ornstein and Uhlenbeck."""

import math
import re

import numpy as np
import pytest
import torch

from kss.theory.collapse.speciation import (
    cluster_agreement,
    cluster_clone_probability,
    cluster_signal,
    speciation_time,
)


def test_the_largest_eigenvalue():
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert float(speciation_time(rotation @ np.diag([5.0, 2.0]) @ rotation.T)) == pytest.approx(5.0, rel=1e-14)
    assert float(speciation_time(7.0)) == 7.0
    assert float(speciation_time(np.zeros((3, 3)))) == 0.0


def test_signal_by_hand():
    assert float(cluster_signal(3.0, 1.0, 2.0)) == pytest.approx(3.0)
    assert cluster_signal([1.0, 2.0], 0.0, [[1.0], [4.0]]).shape == (2, 2)
    assert float(cluster_signal(1e-200, 0.0, 1e300)) == 0.0
    assert float(cluster_signal(1e200, 0.0, 1e-300)) == math.inf


def test_agreement_at_both_ends():
    assert cluster_agreement([0.0, 1e6, math.inf]).tolist() == [0.5, 1.0, 1.0]
    # ρ is close to 1/2 + sqrt(a) Z/2 for small a.
    assert float(cluster_agreement(1e-6)) - 0.5 == pytest.approx(0.5e-6, rel=1e-4)
    values = cluster_agreement(torch.logspace(-3, 1.9, 40, dtype=torch.float64))
    assert bool((values.diff() > 0).all())


def test_a_finer_grid_changes_nothing(monkeypatch):
    from kss.theory.collapse import speciation

    a = torch.tensor([0.1, 1.0, 10.0, 60.0])
    coarse = 1 - cluster_agreement(a)
    monkeypatch.setattr(speciation, "NODES", torch.linspace(-14, 14, 7169, dtype=torch.float64))
    assert torch.allclose(coarse, 1 - cluster_agreement(a), rtol=1e-3, atol=2e-16)
    assert torch.allclose(coarse[:3], 1 - cluster_agreement(a)[:3], rtol=1e-11, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: speciation_time([[1.0, 2.0]]), "covariance = Tensor of shape (1, 2) and dtype torch.float64: expected a square matrix"),
        (
            lambda: speciation_time([[1.0, 2.0], [0.0, 1.0]]),
            "covariance = Tensor of shape (2, 2) and dtype torch.float64: expected a symmetric matrix",
        ),
        (
            lambda: speciation_time([[-1.0]]),
            "covariance = Tensor of shape (1, 1) and dtype torch.float64: expected a positive semidefinite matrix (least eigenvalue -1)",
        ),
        (lambda: cluster_signal(1.0, -1.0, 1.0), "variance = -1.0: expected a number >= 0"),
        (lambda: cluster_signal(1.0, 1.0, 0.0), "t = 0.0: expected a noise variance t > 0"),
        (lambda: cluster_agreement(-1.0), "signal = -1.0: expected numbers >= 0"),
        (lambda: cluster_agreement(math.nan), "signal = nan: expected numbers >= 0"),
    ],
)
def test_bad_input_is_named_with_its_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_clones_of_two_clusters():
    assert float(cluster_clone_probability(3.0, 1.0, 8.0)) == float(cluster_agreement(1.0))
    assert cluster_clone_probability([1.0, 2.0], 1.0, [[1.0], [2.0], [3.0]]).shape == (3, 2)
