"""Collapse: when the empirical score knows one data point only, and what happens before.

`nearest_point`: the posterior mean close to the nearest point. `clones`: how likely two runs from one noisy point end at the same data
point, and how much a noisy point tells about it, for any data set, without running anything. `condensation`: at which noise variance N
data collapse, from the information in a noisy point. `speciation`: when a run commits itself to a cluster, long before.
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
    remaining_entropy,
)
from kss.theory.collapse.nearest_point import Nearest, nearest, nearest_point_bound

__all__ = [
    "Nearest",
    "clone_probability",
    "condensation_time",
    "critical_log_size",
    "density_information",
    "empirical_information",
    "endpoint_probabilities",
    "excess_entropy",
    "gaussian_information",
    "nearest",
    "nearest_point_bound",
    "posterior_entropy",
    "remaining_entropy",
]
