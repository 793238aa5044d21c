"""What samples, scores and data sets say about themselves: dimension, divergences, and the number of data a smoothed score is worth."""

from kss.diagnostics.bandwidth import ClosestBandwidth, ScoreFamily, closest_bandwidth
from kss.diagnostics.dimension import DimensionEstimate, NoScalingWindow, Profile, intrinsic_dimension, scaling_profile
from kss.diagnostics.divergence import KnnKl, flow_kl, knn_kl
from kss.diagnostics.path_divergence import EffectiveSize, PathDivergence, effective_dataset_size, mean_path_divergence
from kss.diagnostics.supervision import Interval, RegionErrors, SupervisionReport, shells_hit, supervision_report

__all__ = [
    "ClosestBandwidth",
    "DimensionEstimate",
    "EffectiveSize",
    "Interval",
    "KnnKl",
    "NoScalingWindow",
    "PathDivergence",
    "Profile",
    "RegionErrors",
    "ScoreFamily",
    "SupervisionReport",
    "closest_bandwidth",
    "effective_dataset_size",
    "flow_kl",
    "intrinsic_dimension",
    "knn_kl",
    "mean_path_divergence",
    "scaling_profile",
    "shells_hit",
    "supervision_report",
]
