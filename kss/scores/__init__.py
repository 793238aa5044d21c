"""Scores made from scores, and from networks."""

from kss.scores.adaptive import AdaptivelyMollified
from kss.scores.corrected import BiasCorrected, richardson_weights
from kss.scores.led_kde import LedKde
from kss.scores.mollified import Averaged, Mollified
from kss.scores.network import (
    EDM,
    DiscreteVariancePreserving,
    FromDenoiser,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    from_denoiser,
)
from kss.scores.protocol import HasScore, Score, score_function
from kss.scores.shifted import TimeShifted
from kss.scores.space_time import SpaceTime, exponential_delays, uniform_delays
from kss.scores.tempered import TemperatureSmoothed
from kss.scores.unconditioned import NoiseUnconditioned

__all__ = [
    "EDM",
    "AdaptivelyMollified",
    "Averaged",
    "BiasCorrected",
    "DiscreteVariancePreserving",
    "FromDenoiser",
    "HasScore",
    "LedKde",
    "Mollified",
    "NoiseUnconditioned",
    "Schedule",
    "Score",
    "SpaceTime",
    "TemperatureSmoothed",
    "TimeShifted",
    "VarianceExploding",
    "VariancePreserving",
    "exponential_delays",
    "from_denoiser",
    "richardson_weights",
    "score_function",
    "uniform_delays",
]
