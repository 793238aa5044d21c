"""What samples, scores and data sets say about themselves: dimension, divergences, copies, the number of data a smoothed score is worth."""

from kss.diagnostics.bandwidth import ClosestBandwidth, ScoreFamily, closest_bandwidth
from kss.diagnostics.dimension import DimensionEstimate, NoScalingWindow, Profile, intrinsic_dimension, scaling_profile
from kss.diagnostics.divergence import KnnKl, flow_kl, knn_kl
from kss.diagnostics.memorization import CopyTest, MemorizationTest, Threshold, memorization_test
from kss.diagnostics.path_divergence import EffectiveSize, PathDivergence, effective_dataset_size, mean_path_divergence
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
    "CopyTest",
    "DimensionEstimate",
    "EffectiveSize",
    "ImpostorCurve",
    "Interval",
    "KnnKl",
    "MemorizationTest",
    "NoScalingWindow",
    "PathDivergence",
    "Profile",
    "RegionErrors",
    "ScoreFamily",
    "SupervisionReport",
    "Threshold",
    "close_pairs",
    "closest_bandwidth",
    "effective_dataset_size",
    "fit_beta",
    "flow_kl",
    "impostor_curve",
    "intrinsic_dimension",
    "knn_kl",
    "mean_path_divergence",
    "memorization_test",
    "pooled_false_alarm",
    "rarefied_false_alarm",
    "scaling_profile",
    "shells_hit",
    "supervision_report",
]
