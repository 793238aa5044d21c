"""KL divergences between a blurred law and what an empirical score makes of it.

`path`: from the error of a score to the divergence of what it generates. `delta` and `exact`: its mean over data sets for the raw score,
to first order in 1/N, and exactly. `poisson` and `regimes`: few data, smoothed scores, and how many data are enough.
"""

from kss.theory.kl.delta import bracket, expected_chi_square, expected_kl, sampled_bracket
from kss.theory.kl.exact import expected_kl_exact
from kss.theory.kl.path import Estimate, diffused_kl, kl_bound, path_kl_bound
from kss.theory.kl.regimes import critical_exponent, critical_sample_size, mollified_path_kl, regime, sawtooth_path_kl

__all__ = [
    "Estimate",
    "bracket",
    "critical_exponent",
    "critical_sample_size",
    "diffused_kl",
    "expected_chi_square",
    "expected_kl",
    "expected_kl_exact",
    "kl_bound",
    "mollified_path_kl",
    "path_kl_bound",
    "regime",
    "sampled_bracket",
    "sawtooth_path_kl",
]
