"""Scores made from scores, and from networks."""

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
from kss.scores.tempered import TemperatureSmoothed
from kss.scores.unconditioned import NoiseUnconditioned

__all__ = [
    "EDM",
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
    "TemperatureSmoothed",
    "TimeShifted",
    "VarianceExploding",
    "VariancePreserving",
    "from_denoiser",
    "richardson_weights",
    "score_function",
]
