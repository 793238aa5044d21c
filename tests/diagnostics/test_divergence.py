"""Divergences measured from samples and from the flow's density, against closed forms."""

import math

import numpy as np
import pytest
import torch

from kss.diagnostics.divergence import flow_kl, knn_kl
from kss.distributions import Empirical, Gaussian, GaussianMixture
from kss.kernels import GaussianKernel
from kss.scores import Mollified
from kss.theory.kl import diffused_kl

NORMAL = Gaussian([0.0], 1.0)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_neighbors_of_two_normal_laws(d):
    p = Gaussian([0.0] * d, 1.0).sample(6000, generator=1)
    q = Gaussian([0.5] + [0.0] * (d - 1), 2.0).sample(5000, generator=2)
    expected = (d / 2 - d + d * math.log(2) + 0.125) / 2
    found = knn_kl(p, q)
    assert abs(found.value - expected) < 4 * found.error + 0.01 * d  # the bias at this n
    assert found.error < 0.03


def test_neighbors_see_equal_laws_as_equal():
    runs = [knn_kl(NORMAL.sample(1000, generator=i), NORMAL.sample(1000, generator=100 + i)) for i in range(40)]
    values, errors = np.array([run.value for run in runs]), np.array([run.error for run in runs])
    assert abs(values.mean()) < 5 * values.std() / math.sqrt(40) + 0.01
    assert 0.6 < values.std() / math.sqrt((errors**2).mean()) < 1.6


def test_the_blocks_show_the_bias():
    # 100 clumps in R^4: 400 points per block see less of them than 4000 do.
    law = Gaussian([0.0] * 4, 1.0)
    found = knn_kl(law.diffuse(4000, 0.05, 1), Empirical(law.sample(100, 2)).diffuse(4000, 0.05, 3))
    assert found.value_of_blocks < found.value - 5 * found.error


def test_copies_are_refused():
    points = NORMAL.sample(200, generator=1)
    copies = torch.cat((points, points[:1].expand(6, 1)))
    with pytest.raises(ValueError, match=r"^samples_p = "):
        knn_kl(copies, NORMAL.sample(300, generator=2))
    with pytest.raises(ValueError, match=r"^samples_q = "):
        knn_kl(points, torch.cat((points[:1].expand(6, 1), points)))
    # A few copies are harmless.
    assert math.isfinite(knn_kl(torch.cat((points, points[:3])), points + 0.01, blocks=2).value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("samples_p", {"samples_p": np.zeros((3, 1))}),
        ("samples_q", {"samples_q": np.zeros((300, 2))}),
        ("neighbors", {"neighbors": 0}),
        ("blocks", {"blocks": 1}),
    ],
)
def test_knn_kl_names_what_is_wrong(name, change):
    options = {"samples_p": NORMAL.sample(100, 1).numpy(), "samples_q": NORMAL.sample(100, 2)} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        knn_kl(**options)


@pytest.mark.parametrize("a", [0.5, 1.0, 1.5])
def test_flow_of_a_linear_score(a):
    # The variance of what is generated is (1 + t)((1 + T)/(1 + t))^(1 - a).
    found = flow_kl(NORMAL, lambda x, u: -a * x / (1 + u), t_min=0.1, t_max=5.0, samples=4000, generator=1, tolerance=1e-7)
    log_ratio = (1 - a) * math.log(6 / 1.1)
    expected = (math.exp(-log_ratio) - 1 + log_ratio) / 2
    assert abs(found.value - expected) < 5 * found.error + 1e-6


def test_the_start_counts():
    # The true score, started from N(0, 3) blurred: a flow with the score of N(0, 1) keeps the ratio of the variances.
    found = flow_kl(NORMAL, NORMAL, t_min=0.1, t_max=5.0, samples=4000, generator=1, start=Gaussian([0.0], 3.0), tolerance=1e-7)
    ratio = 8 / 6
    assert abs(found.value - (1 / ratio - 1 + math.log(ratio)) / 2) < 5 * found.error + 1e-6


def test_flow_of_the_raw_score_generates_the_blurred_data():
    law = GaussianMixture([[0.0, 0.0], [1.0, 2.0]], [[0.3, 0.1], [0.1, 0.5]])
    data = Empirical(law.sample(20, generator=1))
    found = flow_kl(law, data, t_min=0.1, t_max=9.0, samples=2000, generator=2, start=data)
    direct = diffused_kl(law, data, 0.1, samples=2000, generator=2)  # the same draws
    assert found.value == pytest.approx(direct.value, abs=2e-3)


def test_three_ways_to_the_divergence_of_the_score():
    law, data = Gaussian([0.0, 0.0], 1.0), Empirical([[0.0, 1.0], [1.0, -1.0], [-1.0, 0.3]])

    class Known:
        def score(self, x, t):
            raise AssertionError("not asked for")

        def score_and_divergence(self, x, t):
            posterior = data.posterior(x, t)
            return data.score(x, t), (posterior.covariance().diagonal(dim1=-2, dim2=-1).sum(-1) / t - 2) / t

    options = {"t_min": 0.2, "t_max": 4.0, "samples": 20, "generator": 3, "tolerance": 1e-5}
    first = flow_kl(law, data, **options)
    for score in (Known(), data.score, lambda x, t: data.score(x, t)):
        assert flow_kl(law, score, **options).value == pytest.approx(first.value, abs=1e-4)


def test_flow_of_a_mollified_score():
    # A Gaussian law's score is not changed by smoothing: the flow generates the law.
    found = flow_kl(NORMAL, Mollified(NORMAL, GaussianKernel(0.4)), t_min=0.1, t_max=3.0, samples=20, generator=1, tolerance=1e-6)
    assert abs(found.value) < 1e-4


@pytest.mark.parametrize(
    ("name", "change"),
    [("t_min", {"t_min": 2.0}), ("samples", {"samples": 1}), ("start", {"start": Gaussian([0.0, 0.0], 1.0)})],
)
def test_flow_kl_names_what_is_wrong(name, change):
    options = {"score": NORMAL, "t_min": 0.1, "t_max": 1.0, "samples": 10, "generator": 0} | change
    with pytest.raises(ValueError, match=f"^{name} = "):
        flow_kl(NORMAL, **options)
