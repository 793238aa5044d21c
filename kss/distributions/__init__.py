"""What is diffused: laws `p_*` on R^d with an exact posterior under Gaussian noise."""

from kss.distributions.base import Distribution, Posterior
from kss.distributions.circle import Circle
from kss.distributions.embedded import Embedded
from kss.distributions.empirical import Empirical
from kss.distributions.gaussian import Gaussian, GaussianMixture
from kss.distributions.manifold import Manifold
from kss.distributions.sharded import ShardedEmpirical, npy_shards
from kss.distributions.sphere import Sphere
from kss.distributions.swiss_roll import SwissRoll
from kss.distributions.torus import FlatTorus

__all__ = [
    "Circle",
    "Distribution",
    "Embedded",
    "Empirical",
    "FlatTorus",
    "Gaussian",
    "GaussianMixture",
    "Manifold",
    "Posterior",
    "ShardedEmpirical",
    "Sphere",
    "SwissRoll",
    "npy_shards",
]
