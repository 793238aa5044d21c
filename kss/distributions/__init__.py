"""What is diffused: laws `p_*` on R^d with an exact posterior under Gaussian noise."""

from kss.distributions.base import Distribution, Posterior
from kss.distributions.circle import Circle
from kss.distributions.empirical import Empirical
from kss.distributions.gaussian import Gaussian, GaussianMixture

__all__ = ["Circle", "Distribution", "Empirical", "Gaussian", "GaussianMixture", "Posterior"]
