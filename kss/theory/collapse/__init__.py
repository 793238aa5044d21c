"""Collapse: when the empirical score knows one data point only, and what happens before.

`nearest_point`: the posterior mean close to the nearest point. `clones`: how likely two runs from one noisy point end at the same data
point, and how much a noisy point tells about it, for any data set, without running anything. `condensation`: at which noise variance N
data collapse, from the information in a noisy point. `gaussian_data`: all of it averaged over normal data sets, exactly. `speciation`:
when a run commits itself to a cluster, long before.
"""

from kss.theory.collapse.clones import (
    clone_probability,
    density_information,
    empirical_information,
    endpoint_probabilities,
    posterior_entropy,
)
from kss.theory.collapse.condensation import (
    condensation_time,
    critical_log_size,
    excess_entropy,
    gaussian_information,
    information_variance,
    manifold_information,
    remaining_entropy,
    window_entropy,
    window_probability,
)
from kss.theory.collapse.gaussian_data import (
    finite_size_constant,
    gaussian_clone_probability,
    gaussian_collapse_time,
    gaussian_mean_information,
)
from kss.theory.collapse.nearest_point import Nearest, nearest, nearest_point_bound
from kss.theory.collapse.speciation import (
    cluster_agreement,
    cluster_clone_probability,
    cluster_signal,
    speciation_time,
)

__all__ = [
    "Nearest",
    "clone_probability",
    "cluster_agreement",
    "cluster_clone_probability",
    "cluster_signal",
    "condensation_time",
    "critical_log_size",
    "density_information",
    "empirical_information",
    "endpoint_probabilities",
    "excess_entropy",
    "finite_size_constant",
    "gaussian_clone_probability",
    "gaussian_collapse_time",
    "gaussian_information",
    "gaussian_mean_information",
    "information_variance",
    "manifold_information",
    "nearest",
    "nearest_point_bound",
    "posterior_entropy",
    "remaining_entropy",
    "speciation_time",
    "window_entropy",
    "window_probability",
]
