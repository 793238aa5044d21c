"""What samples, scores and data sets say about themselves: dimension, divergences, copies, the number of data a smoothed score is worth."""

from kss.diagnostics.bandwidth import ClosestBandwidth, ScoreFamily, closest_bandwidth
from kss.diagnostics.comparison import (
    Comparison,
    KnobChoice,
    MedianInterval,
    Method,
    Outcome,
    Protocol,
    Trial,
    attempt,
    choose_knob,
    divide,
    median_interval,
    sign_p_value,
)
from kss.diagnostics.dimension import DimensionEstimate, NoScalingWindow, Profile, intrinsic_dimension, scaling_profile
from kss.diagnostics.divergence import KnnKl, flow_kl, knn_kl
from kss.diagnostics.memorization import CopyTest, MemorizationTest, Threshold, memorization_test
from kss.diagnostics.path_divergence import EffectiveSize, PathDivergence, effective_dataset_size, mean_path_divergence
from kss.diagnostics.path_likelihood import PathLikelihood, path_log_likelihood
from kss.diagnostics.rarefaction import (
    BetaFit,
    ImpostorCurve,
    close_pairs,
    fit_beta,
    impostor_curve,
    pooled_false_alarm,
    rarefied_false_alarm,
)
from kss.diagnostics.supervision import Interval, RegionErrors, SupervisionReport, shells_hit, supervision_report

__all__ = [
    "BetaFit",
    "ClosestBandwidth",
    "Comparison",
    "CopyTest",
    "DimensionEstimate",
    "EffectiveSize",
    "ImpostorCurve",
    "Interval",
    "KnnKl",
    "KnobChoice",
    "MedianInterval",
    "MemorizationTest",
    "Method",
    "NoScalingWindow",
    "Outcome",
    "PathDivergence",
    "PathLikelihood",
    "Profile",
    "Protocol",
    "RegionErrors",
    "ScoreFamily",
    "SupervisionReport",
    "Threshold",
    "Trial",
    "attempt",
    "choose_knob",
    "close_pairs",
    "closest_bandwidth",
    "divide",
    "effective_dataset_size",
    "fit_beta",
    "flow_kl",
    "impostor_curve",
    "intrinsic_dimension",
    "knn_kl",
    "mean_path_divergence",
    "median_interval",
    "memorization_test",
    "path_log_likelihood",
    "pooled_false_alarm",
    "rarefied_false_alarm",
    "scaling_profile",
    "shells_hit",
    "sign_p_value",
    "supervision_report",
]
