"""What samples, scores and data sets say about themselves: dimension, divergences, copies, the number of data a smoothed score is worth."""

from kss.diagnostics.bandwidth import (
    ClosestBandwidth,
    ScoreFamily,
    closest_bandwidth,
)
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
from kss.diagnostics.dimension import (
    DimensionEstimate,
    NoScalingWindow,
    Profile,
    intrinsic_dimension,
    scaling_profile,
)
from kss.diagnostics.divergence import (
    KnnKl,
    flow_kl,
    knn_kl,
)
from kss.diagnostics.diversity import (
    Coverage,
    Diversity,
    coverage,
    expected_coverage,
    training_point_diversity,
)
from kss.diagnostics.likelihood import (
    FlowLogLikelihood,
    flow_log_likelihood,
)
from kss.diagnostics.memorization import (
    CopyTest,
    MemorizationTest,
    Threshold,
    memorization_test,
)
from kss.diagnostics.path_divergence import (
    EffectiveSize,
    PathDivergence,
    effective_dataset_size,
    mean_path_divergence,
)
from kss.diagnostics.path_likelihood import (
    PathLikelihood,
    path_log_likelihood,
)
from kss.diagnostics.quality import (
    Floor,
    SlicedWasserstein,
    TwoSample,
    kernel_two_sample,
    median_bandwidths,
    sliced_wasserstein,
    sliced_wasserstein_floor,
)
from kss.diagnostics.rarefaction import (
    BetaFit,
    ImpostorCurve,
    close_pairs,
    fit_beta,
    impostor_curve,
    pooled_false_alarm,
    rarefied_false_alarm,
)
from kss.diagnostics.supervision import (
    Interval,
    RegionErrors,
    SupervisionReport,
    shells_hit,
    supervision_report,
)

__all__ = [
    "BetaFit",
    "ClosestBandwidth",
    "Comparison",
    "CopyTest",
    "Coverage",
    "DimensionEstimate",
    "Diversity",
    "EffectiveSize",
    "Floor",
    "FlowLogLikelihood",
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
    "SlicedWasserstein",
    "SupervisionReport",
    "Threshold",
    "Trial",
    "TwoSample",
    "attempt",
    "choose_knob",
    "close_pairs",
    "closest_bandwidth",
    "coverage",
    "divide",
    "effective_dataset_size",
    "expected_coverage",
    "fit_beta",
    "flow_kl",
    "flow_log_likelihood",
    "impostor_curve",
    "intrinsic_dimension",
    "kernel_two_sample",
    "knn_kl",
    "mean_path_divergence",
    "median_bandwidths",
    "median_interval",
    "memorization_test",
    "path_log_likelihood",
    "pooled_false_alarm",
    "rarefied_false_alarm",
    "scaling_profile",
    "shells_hit",
    "sign_p_value",
    "sliced_wasserstein",
    "sliced_wasserstein_floor",
    "supervision_report",
    "training_point_diversity",
]
