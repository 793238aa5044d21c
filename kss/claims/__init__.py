"""The ledger: for every statement of the book, what has been checked, how hard, and whether the check could have failed.

`get(id)` is a claim's data; `verify(id)` runs its checks with their mutants, here and now.
"""

from kss.claims import (  # noqa: F401 - importing a chapter's module enters its claims
    bandwidth,
    barycenters,
    beyond_clt,
    bias_variance,
    clocks,
    clocks_definitions,
    clocks_model,
    clocks_spectrum,
    collapse,
    compact_kernels,
    condensation,
    copies,
    copies_noise,
    copies_test,
    dimensions,
    dimensions_frozen,
    dimensions_measured,
    empirical_score,
    engine,
    experiments,
    finite_volume,
    flat_kernels,
    flat_laws,
    generated_density,
    gradient_flow,
    interpolation,
    interpolation_curved,
    kernel_adaptive,
    kernel_correction,
    kernel_costs,
    kernel_curvature,
    kernel_noise,
    kernel_path,
    kernel_scales,
    kernel_shape,
    kernel_size,
    kernel_space_time,
    kernel_sparse,
    kl,
    kl_collapse,
    kl_delta,
    kl_limits,
    kl_regimes,
    linear_manifold,
    mollified,
    mollified_bias,
    network,
    noise,
    noise_small_time,
    pitchfork,
    processes,
    processes_bandwidth,
    processes_coefficients,
    processes_divergence,
    processes_noise,
    processes_practice,
    processes_sampler,
    quality,
    quality_diversity,
    quality_kernel,
    quality_likelihood,
    scores_and_heat,
    speciation,
    spectral,
    spectral_filters,
    spectral_hermite,
    spectral_kl,
    temperature,
    temperature_bias,
    time_shift,
    time_shift_scores,
    unconditioned,
    underfitting,
    underfitting_gaussian,
    underfitting_trained,
    variance,
)
from kss.claims.registry import LEDGER, Check, CheckFailed, Claim, Lane
from kss.claims.report import Report, VerificationFailed
from kss.claims.runner import run, select_checks

__all__ = ["LEDGER", "Check", "CheckFailed", "Claim", "Report", "VerificationFailed", "get", "verify"]


def get(claim_id: str) -> Claim:
    """The claim with this id; `ValueError` if there is none."""
    return LEDGER.select([claim_id])[0]


def verify(*claim_ids: str, lane: Lane = "full", seed: int = 0) -> Report:
    """Run the checks of these claims (of all, if none is named) and their mutants, and report.

    Raises `VerificationFailed`, whose text is the report, unless every check passes and every mutant is killed.

    >>> verify("heat.tweedie").ok
    True
    """
    report = Report(list(run(select_checks(LEDGER, LEDGER.select(list(claim_ids)), lane), base_seed=seed)))
    if not report.ok:
        raise VerificationFailed(str(report))
    return report
