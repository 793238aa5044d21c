"""Chapter "How far is the generated distribution?", third part: where the delta method fails, and a normal law in four dimensions."""

import math
from functools import cache
from typing import Any

import torch
from scipy import optimize

from kss.claims.kl_delta import CHAPTER, CIRCUMFERENCE, PAPER, box_mean_kl, circle_mean_kl, normal_mean_kl
from kss.claims.registry import check, claim, instead, returns
from kss.diagnostics.path_divergence import mean_path_divergence
from kss.distributions import Distribution, Gaussian
from kss.testing.compare import agree, require
from kss.theory.kl import critical_sample_size, expected_kl, expected_kl_exact
from kss.theory.kl.delta import gaussian_shortfall_exponent

Numbers = dict[str, Any]


# --- Full support -------------------------------------------------------------------------------------------------------------------

claim(
    "kl.full_support",
    title="For a Gaussian law the delta method is true only at absurd N",
    statement=r"""For $\mathcal N(0, v I_d)$ the bracket grows like $t^{-d}$, not $t^{-d/2}$: the support is not compact. That
$\mathbb E\,\mathrm{KL}(p_t\,\Vert\,p_t^N) \approx B_t/(2N)$ is true as $N \to \infty$, but the shortfall decays only like $N^{-t/2v}$ for
$t < 2v$ (up to powers of $\log N$), and for $t \ll v$ the formula overstates the mean at every practical $N$: for $d = 1$,
$v = 1$, $N = 1000$ by 45 % at
$t = 0.1$ and by a factor 2.1 at $t = 0.01$, although $B_t/(2N)$ is only 0.005 and 0.05.""",
    source="the formula: delta method; rate and numbers derived here",
    regime=r"""$t \ll v$. As stated (that a small $B_t/N$ suffices) it is refuted for laws of full support.""",
    uses=("kl.delta_method", "kl.exact_mean"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "kl.full_support",
    by="counterexample",
    mutants={
        "t^(-d/2)": instead(lambda law, t, N: math.sqrt(1 + 1 / (2 * t)) / (2 * N)),
        "what is true": instead(expected_kl_exact),
        "half": returns(lambda value, *_: value / 2),
    },
)
def formula_overstates(predict: Any = expected_kl, *, generator: torch.Generator) -> Numbers:
    """`N(0, 1)`, N = 1000: three nested sums against the formula. At t = 8 the same formula is right within 1e-4."""
    numbers: Numbers = {}
    law = Gaussian([0.0], 1.0)
    for t, low, high in ((0.1, 1.44, 1.46), (0.01, 2.1, 2.15), (8.0, 0.9999, 1.0001)):
        exact, formula = normal_mean_kl(t, 1000), predict(law, t, 1000)
        require(low < formula / exact < high, f"t = {t}: formula {formula}, exact {exact}")
        numbers |= {f"exact, t = {t}": exact, f"formula, t = {t}": formula}
    return numbers


@check(
    "kl.full_support",
    by="rate",
    lane="full",
    mutants={
        "t/v": instead(lambda v, t: t / v),
        "t/4v": returns(lambda exponent, *_: exponent / 2),
        "one": instead(lambda v, t: 1.0),
    },
)
def shortfall_decays_slowly(predict: Any = gaussian_shortfall_exponent, *, generator: torch.Generator) -> Numbers:
    """Slope of `log(1 - exact/formula)` from N = 1e5 to 1e8, t = 0.2, 0.3, 0.5: `t/2v` within 15 %, the logarithms' share."""
    numbers: Numbers = {}
    for t in (0.2, 0.3, 0.5):
        short = [1 - normal_mean_kl(t, N, reach=9.0) / (1 / t / (2 * N)) for N in (10**5, 10**8)]
        slope = -math.log(short[1] / short[0]) / math.log(1e3)
        agree(f"exponent, t = {t}", predict(1.0, t), slope, 0.15 * slope)
        numbers[f"exponent, t = {t}"] = slope
    return numbers


# --- The critical sample size of the raw score ----------------------------------------------------------------------------------------

claim(
    "kl.raw_critical_size",
    title="The raw score needs three times the data that the delta method says",
    statement=r"""The number $N_c$ of data at which $\mathbb E\,\mathrm{KL}(p_t\,\Vert\,p_t^N) = 1$ grows like $t^{-k/2}$. The delta
method's $\frac12\operatorname{vol}(M)(4\pi t)^{-k/2}$ has the right exponent and the wrong constant, because at KL = 1 it is
outside of its regime: on the
unit circle $N_c$ is 2.9 to 3.0 times as large.""",
    source="the constant: delta method taken at KL = 1; refuted by the exact mean",
    regime=r"""Uniform law on the unit circle, $4 \cdot 10^{-4} \le t \le 6.4 \cdot 10^{-3}$.""",
    uses=("kl.delta_method", "kl.exact_mean"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@cache
def _circle_critical(t: float) -> float:
    """N with a mean KL of 1 on the circle, from the two integers next to the answer for a straight line, interpolated in logarithms."""
    below = int(optimize.brentq(lambda n: box_mean_kl(t, int(n)) - 1, 2 / math.sqrt(t), 4 / math.sqrt(t), xtol=0.5))
    first, second = (math.log(circle_mean_kl(t, below + j, stop=1e-9)) for j in (0, 1))
    return below + first / (first - second)


@check(
    "kl.raw_critical_size",
    by="rate",
    lane="full",
    mutants={
        "delta method": instead(lambda t, **_: 0.5 * CIRCUMFERENCE * (4 * math.pi * t) ** -0.5),
        "d for k": instead(lambda t, **_: 3 * 0.5 * CIRCUMFERENCE / (4 * math.pi * t)),
        "off by 4 %": returns(lambda value, *_, **__: 1.04 * value),
    },
)
def raw_circle_at_one_nat(predict: Any = critical_sample_size, *, generator: torch.Generator) -> Numbers:
    """Exact sums on the circle, t = 4e-4, 1.6e-3, 6.4e-3, against the limit of dense data on a line: 2.5 data's difference allowed."""
    worst, sizes = 0.0, []
    numbers: Numbers = {}
    for t in (4e-4, 1.6e-3, 6.4e-3):
        found = _circle_critical(t)
        got = predict(t, k=1, volume=CIRCUMFERENCE, formula="raw")
        # A Poisson number of data instead of N: a difference of order one datum, here 1.9 to 2.0.
        worst = max(worst, agree(f"N at KL = 1, t = {t}", got, found, 2.5))
        ratio = found / (0.5 * CIRCUMFERENCE * (4 * math.pi * t) ** -0.5)
        require(2.85 < ratio < 3.05, f"t = {t}: {ratio} times what the delta method says")
        sizes.append(found)
        numbers |= {f"N, t = {t}": found, f"N/delta method, t = {t}": ratio}
    slope = math.log(sizes[2] / sizes[0]) / math.log(16)
    # A shift by 2 data lets the slope seem steeper by 0.017.
    require(-0.53 < slope < -0.48, f"slope {slope}, expected -1/2")
    return numbers | {"slope": slope, "worst error/allowance": worst}


# --- Figure 4 ------------------------------------------------------------------------------------------------------------------------

claim(
    "kl.figure4",
    title="4-D normal law, N = 100: by the path bound smoothing is worth two to three times the data",
    statement=r"""For the standard normal law in $\mathbb R^4$, $N = 100$ and a bandwidth $h$ held constant along the path, let
    $N_{\mathrm{eff}}$ be
the number of data at which the raw score's mean path divergence between $t$ and $T = 10$ is what the best $h$ reaches with $N$. Then
$N_{\mathrm{eff}} < 7N$ at $t = 0.03$, $0.05$, $0.1$ and $0.3$; measured are about 3.2, 2.8, 2.2 and 1.6 times $N$. The paper's
Figure 4 reports a ratio of up to
about 7.""",
    source=f"{PAPER}, Figure 4, as reported",
    regime=r"""By the path bound of {claim}`kl.girsanov`, averaged over data sets; the raw mean is exact ({claim}`kl.exact_mean`,
{claim}`kl.de_bruijn`). Not reproduced, not refuted: neither the paper's measure of KL, nor its noise schedule, nor the $t$ of
its figure was available to us, and the ratio depends on all three.""",
    uses=("kl.girsanov", "kl.de_bruijn", "kl.exact_mean"),
    chapter=CHAPTER,
    verdict="not reproduced",
)

FIGURE_TIMES = (0.03, 0.05, 0.1, 0.3)


@cache
def _raw_path(t: float, N: int) -> float:
    """The raw score's mean path divergence in R^4 between t and T = 10, exactly: the difference of two mean KLs (de Bruijn)."""
    law = Gaussian([0.0] * 4, 1.0)
    return expected_kl_exact(law, t, N) - expected_kl_exact(law, 10.0, N)


def _with_eight_times_the_data(law: Distribution, N: int, bandwidths: Any, **options: Any) -> Any:
    """The effective sample size counted twice."""
    return mean_path_divergence(law, 8 * N, bandwidths, **options)


@check(
    "kl.figure4",
    by="statistics",
    lane="full",
    alpha=1e-8,
    detects="N_eff >= 7N at one of the four t where it would lie 10 standard errors away; raw means off by 30 %",
    mutants={
        "a third": returns(lambda found, *_, **__: found._replace(values=found.values / 3)),
        "twice": returns(lambda found, *_, **__: found._replace(values=2 * found.values)),
        "eight times the data": instead(_with_eight_times_the_data),
    },
)
def effective_size_stays_below_seven(predict: Any = mean_path_divergence, *, generator: torch.Generator) -> Numbers:
    """300 data sets, bandwidths 0 and 0.1 to 1.3 in steps of 30 %, common random numbers; means against the exact raw ones at N and 7N.

    Each mean is that of 300 independent sums over 20 strata: Student's tail with 299 degrees of freedom, at 1e-8 for 36 comparisons.
    """
    from scipy import stats

    bandwidths = [0.0, *(0.1 * 1.3**j for j in range(11))]
    numbers: Numbers = {}
    law = Gaussian([0.0] * 4, 1.0)
    found = predict(law, 100, bandwidths, t_min=list(FIGURE_TIMES), t_max=10.0, data_sets=300, generator=generator)
    limit = float(stats.t.isf(1e-8 / (2 * len(FIGURE_TIMES) * len(bandwidths)), 299))
    for i, t in enumerate(FIGURE_TIMES):
        mean, error = found.mean[i].tolist(), found.standard_error[i].tolist()
        agree(f"raw, t = {t}", mean[0], _raw_path(t, 100), limit * error[0])
        for h, value in zip(bandwidths, mean, strict=True):
            require(value > _raw_path(t, 700), f"t = {t}, h = {h}: {value} against {_raw_path(t, 700)} for 7N")
        best = min(range(len(mean)), key=lambda j: mean[j])
        numbers |= {f"best h, t = {t}": bandwidths[best], f"divergence, t = {t}": mean[best], f"raw with 7N, t = {t}": _raw_path(t, 700)}
    return numbers
