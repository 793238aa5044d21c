"""Scores made from scores, and from networks."""

from kss.scores.adaptive import AdaptivelyMollified
from kss.scores.corrected import BiasCorrected, richardson_weights
from kss.scores.led_kde import LedKde
from kss.scores.mollified import Averaged, Mollified
from kss.scores.network import FromDenoiser, from_denoiser
from kss.scores.process import InProcess, to_denoiser
from kss.scores.protocol import HasScore, Score, score_function
from kss.scores.schedules import (
    EDM,
    AlphaBar,
    BrownianMotion,
    Coefficients,
    LogSNR,
    OrnsteinUhlenbeck,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    coefficients,
    convert,
)
from kss.scores.shifted import TimeShifted
from kss.scores.space_time import SpaceTime, exponential_delays, uniform_delays
from kss.scores.steps import DiscreteVariancePreserving
from kss.scores.tempered import TemperatureSmoothed
from kss.scores.unconditioned import NoiseUnconditioned

__all__ = [
    "EDM",
    "AdaptivelyMollified",
    "AlphaBar",
    "Averaged",
    "BiasCorrected",
    "BrownianMotion",
    "Coefficients",
    "DiscreteVariancePreserving",
    "FromDenoiser",
    "HasScore",
    "InProcess",
    "LedKde",
    "LogSNR",
    "Mollified",
    "NoiseUnconditioned",
    "OrnsteinUhlenbeck",
    "Schedule",
    "Score",
    "SpaceTime",
    "TemperatureSmoothed",
    "TimeShifted",
    "VarianceExploding",
    "VariancePreserving",
    "coefficients",
    "convert",
    "exponential_delays",
    "from_denoiser",
    "richardson_weights",
    "score_function",
    "to_denoiser",
    "uniform_delays",
]
