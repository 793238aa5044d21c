"""Scores made from scores, and from networks."""

from kss.scores.corrected import BiasCorrected
from kss.scores.led_kde import LedKde
from kss.scores.mollified import Averaged, Mollified
from kss.scores.protocol import HasScore, Score, score_function
from kss.scores.shifted import TimeShifted

__all__ = ["Averaged", "BiasCorrected", "HasScore", "LedKde", "Mollified", "Score", "TimeShifted", "score_function"]
