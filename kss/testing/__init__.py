"""What checks are made of, and `check_score`, which checks anybody's score."""

from kss.testing.score_checks import check_score
from kss.testing.score_report import ScoreReport, ScoreResult

__all__ = ["ScoreReport", "ScoreResult", "check_score"]
