"""Chapter "A gradient flow toward the LED-KDE", second part: the finite-volume solver, and what it finds."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import linalg

from kss import dynamics
from kss.claims.gradient_flow import CHAPTER, log_density_of_two, score_of_two, smoothed
from kss.claims.registry import check, claim, instead, returns
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.testing.statistics import dkw_test
from kss.theory import finite_volume
from kss.theory.finite_volume import Box

EPSILON = torch.finfo(torch.float64).eps

Numbers = dict[str, Any]


# --- The solver -----------------------------------------------------------------------------------------------------------

claim(
    "flow.finite_volume",
    title="The solver keeps mass and sign, and rests where it should",
    statement=r"""Cut a box into cells of width $e$, and let mass hop between neighbors $i, j$ at the rates $\frac{1}{2e^2}B(-2eb)$ and,
back, $\frac{1}{2e^2}B(2eb)$, with $b$ the drift from $i$ to $j$ and $B(z) = z/(e^z - 1)$. Then, exactly: the total mass is kept,
densities stay $\ge 0$, the mean moves with the velocity $b$, and on the line the law at rest has $\log q_j - \log q_i = 2eb$.""",
    source="Scharfetter and Gummel, IEEE Trans. Electron Devices 16 (1969), 64; Chang and Cooper, J. Comput. Phys. 6 (1970), 1; in time "
    "Jensen, Skand. Aktuarietidskr. 36 (1953), 87 (uniformization)",
    regime=r"""One or two dimensions, any finite drift, any width and time step; up to rounding. The mean: for a constant drift, away from
the walls.""",
    chapter=CHAPTER,
    verdict="holds",
)


def _drifts(rng: np.random.Generator) -> Any:
    """Boxes on the line and in the plane with random drifts, weak and strong: up to 3000 times the width of a cell."""
    for cells, scale in itertools.product(((7,), (40,), (5, 9)), (0.0, 1.0, 30.0, 3000.0)):
        low = rng.uniform(-2, 0, len(cells))
        box = Box(low.tolist(), (low + rng.uniform(0.5, 3, len(cells))).tolist(), cells)
        yield box, [scale * rng.standard_normal(len(box.faces(axis))) for axis in range(len(cells))]


@check(
    "flow.finite_volume",
    by="property",
    mutants={
        "centered differences": instead(
            lambda box, drift: _rates_by_hand(box, drift, lambda z: 1 - z / 2),
        ),
        "upwind": instead(lambda box, drift: _rates_by_hand(box, drift, lambda z: 1 + max(-z, 0.0))),
        "drift against": instead(lambda box, drift: finite_volume.hopping_rates(box, [-b for b in drift])),
        "half the noise": returns(lambda rates, *_: rates / 2),
        "axes exchanged": instead(
            lambda box, drift: finite_volume.hopping_rates(Box(box.low[::-1], box.high[::-1], box.cells[::-1]), drift[::-1])
        ),
    },
)
def rates_written_out(predict: Any = finite_volume.hopping_rates, *, generator: torch.Generator) -> Numbers:
    """Each face by itself, from the claim's formula; then signs, sums, the law at rest and the mean's velocity."""
    worst = 0.0

    def bernoulli(z: float) -> float:
        if z == 0:
            return 1.0
        return z * math.exp(-z) / -math.expm1(-z) if z > 0 else z / math.expm1(z)

    for box, drift in _drifts(numpy_generator(generator)):
        rates = predict(box, drift).toarray()
        expected = _rates_by_hand(box, drift, bernoulli).toarray()
        size = np.abs(expected).max()
        # z has a rounding error of a few units; B changes by no more than z times that, relative to itself.
        strength = 1 + 2 * max(w * float(np.abs(b).max()) for w, b in zip(box.widths, drift, strict=True))
        allowed = 16 * EPSILON * strength * (np.abs(expected) + size * np.eye(len(expected))) + 1e-300
        worst = max(worst, agree(f"rates in {box}, drift of size {strength:.3g}/cell", rates, expected, allowed))
        require(bool((rates - np.diag(np.diag(rates)) >= 0).all()), "a negative rate")
        agree("sum of what leaves and what arrives", rates.sum(0), np.zeros(len(rates)), 16 * EPSILON * size)
        if len(box.cells) == 1 and strength < 30:
            log_q = np.concatenate(([0.0], np.cumsum(2 * box.widths[0] * drift[0])))
            q = np.exp(log_q - log_q.max())
            agree("the law at rest", rates @ q, np.zeros(len(q)), 64 * EPSILON * strength * size)
        steady = [np.full_like(b, 0.7 + axis) for axis, b in enumerate(drift)]
        centers, widths = box.centers().numpy(), np.array(box.widths)
        inside = ((centers > np.array(box.low) + widths) & (centers < np.array(box.high) - widths)).all(-1)
        velocity = (predict(box, steady).T @ centers)[inside]
        agree("velocity of the mean", velocity, np.broadcast_to(0.7 + np.arange(len(drift)), velocity.shape), 1e-10)
    return {"worst error/allowance": worst}


def _rates_by_hand(box: Box, drift: Any, bernoulli: Any) -> Any:
    """The matrix of rates, face by face, for a function B of one number."""
    from scipy import sparse

    count = math.prod(box.cells)
    rates, strides = np.zeros((count, count)), [math.prod(box.cells[axis + 1 :]) for axis in range(len(box.cells))]
    for axis, width in enumerate(box.widths):
        starts = [i for i in range(count) if (i // strides[axis]) % box.cells[axis] < box.cells[axis] - 1]
        for i, b in zip(starts, np.asarray(drift[axis]), strict=True):
            j, z = i + strides[axis], 2 * width * float(b)
            forth, back = bernoulli(-z) / (2 * width**2), bernoulli(z) / (2 * width**2)
            rates[j, i] += forth
            rates[i, i] -= forth
            rates[i, j] += back
            rates[j, j] -= back
    return sparse.csr_matrix(rates)


@check(
    "flow.finite_volume",
    by="property",
    mutants={
        "explicit step": instead(lambda rates, q, s: torch.from_numpy(q + s * (rates @ q))),
        "implicit step": instead(lambda rates, q, s: torch.from_numpy(np.linalg.solve(np.eye(len(q)) - s * rates.toarray(), q))),
        "transposed": instead(lambda rates, q, s: finite_volume.hop(rates.T.tocsr(), q, s)),
        "off by 1e-9": returns(lambda q, *_: q * (1 + 1e-9)),
        "half the time": instead(lambda rates, q, s: finite_volume.hop(rates, q, s / 2)),
    },
)
def hopping_against_the_matrix_exponential(predict: Any = finite_volume.hop, *, generator: torch.Generator) -> Numbers:
    """Uniformization against scipy's Pade approximation of the exponential, for short and long times; mass and sign at all of them."""
    rng, worst = numpy_generator(generator), 0.0
    for (box, drift), duration in itertools.product(_drifts(rng), (1e-4, 0.02, 0.5)):
        rates = _rates_by_hand(box, drift, lambda z: 1.0 / float(np.exp(-z / 2) * _sinhc(z / 2)) if abs(z) < 600 else max(-z, 0.0))
        if -rates.diagonal().min() * duration > 1e4:
            continue  # ten thousand products
        q = rng.exponential(size=rates.shape[0])
        got = predict(rates, q, duration).numpy()
        expected = linalg.expm(duration * rates.toarray()) @ q
        # Scaling and squaring doubles the rounding error once for each factor two of the norm.
        allowed = 64 * EPSILON * len(q) * (1 + np.abs(rates).max() * duration) * q.max()
        worst = max(worst, agree(f"{box}, {duration}", got, expected, allowed))
        require(bool((got >= 0).all()), "a negative density")
        agree("mass", got.sum(), q.sum(), 1e-12 * q.sum())
    return {"worst error/allowance": worst}


def _sinhc(z: float) -> float:
    return math.sinh(z) / z if z else 1.0


# --- The law that a score generates ---------------------------------------------------------------------------------------

T_MAX, T_MIN, REACH = 2.0, 0.3, 7.0


def _mixture_of_heat(places: list[list[float]]) -> tuple[Any, Any]:
    """Density and score of data (N, d) at x (n, d), from the definition."""
    centers = np.array(places)

    def exponents(x: Any, t: float) -> np.ndarray:
        return np.asarray(-((np.asarray(x)[:, None] - centers) ** 2).sum(-1) / (2 * t))

    def density(x: Any, t: float) -> np.ndarray:
        return np.asarray(np.exp(exponents(x, t)).mean(-1) / (2 * math.pi * t) ** (centers.shape[1] / 2))

    def score(x: Any, t: Any) -> torch.Tensor:
        e = exponents(x, float(t))
        w = np.exp(e - e.max(-1, keepdims=True))
        return torch.from_numpy(((w / w.sum(-1, keepdims=True)) @ centers - np.asarray(x)) / float(t))

    return density, score


claim(
    "flow.heat",
    title="A score that is not smoothed generates its own density, and the solver finds it to second order",
    statement=r"""Started from $p_T$ and driven by $s_t = \nabla\log p_t$, the Fokker-Planck equation of the reverse SDE has the solution
$p_t$, also for an empirical law. The finite-volume solution approaches it like $e^2 + \delta^2$, with $e$ the width of the cells and
$\delta$ the relative size of the time steps.""",
    source="Anderson, Stochastic Process. Appl. 12 (1982), 313; the order derived here",
    regime=r"""Every law, $0 < t_{\min} < T$; a box that holds all but a negligible part of $p_T$; cells below $\sqrt{t_{\min}}$. Checked
on 2 points of the line and 3 of the plane.""",
    uses=("heat.reversal_sde", "flow.finite_volume"),
    chapter=CHAPTER,
    verdict="holds",
)


def _errors(predict: Any, places: list[list[float]], levels: tuple[tuple[int, int], ...], t_min: float, reach: float) -> list[float]:
    density, score = _mixture_of_heat(places)
    errors, d = [], len(places[0])
    for cells, steps in levels:
        box = Box([-reach] * d, [reach] * d, [cells] * d)
        centers = box.centers().numpy()
        start = density(centers, T_MAX)
        got = predict(score, torch.from_numpy(start), box, t_max=T_MAX, t_min=t_min, steps=steps)[-1].numpy()
        agree("mass", got.sum(), start.sum(), 1e-9 * start.sum())
        errors.append(float(np.abs(got - density(centers, t_min)).sum() * box.volume))
    return errors


def _late(score: Any, *arguments: Any, **how: Any) -> torch.Tensor:
    return finite_volume.reverse_densities(lambda x, t: score(x, t * 1.02), *arguments, **how)


_SOLVER_MUTANTS = {
    "off by 1 %": returns(lambda q, *_, **__: 1.01 * q),
    "drift of the flow": instead(lambda score, *a, **how: finite_volume.reverse_densities(lambda x, t: score(x, t) / 2, *a, **how)),
    "drift at the end of the step": instead(
        lambda score, *a, **how: finite_volume.reverse_densities(
            lambda x, t: score(x, t * (how["t_min"] / how["t_max"]) ** (0.5 / how["steps"])), *a, **how
        )
    ),
    "score of 2 % later": instead(_late),
}


@check("flow.heat", by="rate", mutants=_SOLVER_MUTANTS)
def second_order_on_the_line(predict: Any = finite_volume.reverse_densities, *, generator: torch.Generator) -> Numbers:
    """Total error against the density from its definition, on three grids; the slope excludes first and third order."""
    errors = _errors(predict, [[-1.0], [1.0]], ((40, 10), (80, 20), (160, 40)), 0.15, REACH)
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    require(all(1.8 < slope < 2.3 for slope in slopes), f"errors {errors}: slopes {slopes}, expected 2")
    return {"errors": str([f"{e:.3g}" for e in errors]), "slopes": str([round(slope, 3) for slope in slopes])}


@check("flow.heat", by="rate", lane="full", mutants=_SOLVER_MUTANTS)
def second_order_in_the_plane(predict: Any = finite_volume.reverse_densities, *, generator: torch.Generator) -> Numbers:
    """The same for three points of the plane."""
    errors = _errors(predict, [[-1.0, 0.0], [0.8, 0.6], [0.3, -1.0]], ((36, 12), (72, 24)), 0.2, 6.5)
    slope = math.log2(errors[0] / errors[1])
    require(1.8 < slope < 2.3, f"errors {errors}: slope {slope}, expected 2")
    return {"errors": str([f"{e:.3g}" for e in errors]), "slope": slope}


class SmoothedScoreOfTwo:
    """Score of the data `{-1, 1}`, smoothed with variance h, by a plain sum: a function of (x, t) on the line."""

    def __init__(self, h: float) -> None:
        self.h = h

    def __call__(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return torch.from_numpy(smoothed(lambda y: score_of_two(y, float(t)), x[:, 0].numpy(), self.h))[:, None]


def led_kde_of_two(x: np.ndarray, t: float, h: float) -> tuple[np.ndarray, float]:
    """On an even grid: density of the LED-KDE, and the logarithm of its normalizer."""
    log_q = smoothed(lambda y: log_density_of_two(y, t), x, h)
    total = math.log(np.exp(log_q - log_q.max()).sum() * (x[1] - x[0])) + log_q.max()
    return np.exp(log_q - total), float(total)


@cache
def generated(h: float, cells: int = 280, steps: int = 60, t_min: float = T_MIN) -> tuple[Box, np.ndarray]:
    """The density at `t_min`, from the LED-KDE at `T_MAX`."""
    box = Box([-REACH], [REACH], [cells])
    start = torch.from_numpy(led_kde_of_two(box.centers().numpy()[:, 0], T_MAX, h)[0])
    densities = finite_volume.reverse_densities(SmoothedScoreOfTwo(h), start, box, t_max=T_MAX, t_min=t_min, steps=steps)
    return box, densities[-1].numpy()


claim(
    "flow.generated",
    title="The solver's density is the law of the particles",
    statement=r"""For a mollified score too the density that the solver finds is the law of the reverse SDE: the law of the Euler-Maruyama
scheme approaches it as its steps are refined, and particles follow it.""",
    source="derived here",
    regime=r"""Data $\{-1, 1\}$ on the line, $K = G_h$ with $h = 0.2$, from the LED-KDE at $T = 2$ to $t_{\min} = 0.1$, where
$h/t_{\min} = 2$.""",
    uses=("flow.finite_volume",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@cache
def _chain(h: float, t_min: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Law of Euler's scheme, each step an integral against a normal density: x on a fine grid, and the density there."""
    x = np.linspace(-REACH, REACH, 561)
    cell = x[1] - x[0]
    q = led_kde_of_two(x, T_MAX, h)[0]
    times = T_MAX * (t_min / T_MAX) ** (np.arange(steps + 1) / steps)
    for t, u in itertools.pairwise(times):
        target = x + (t - u) * smoothed(lambda y, t=t: score_of_two(y, t), x, h)
        # Four cells to a standard deviation, or more: the sum is exact to rounding.
        q = (np.exp(-((x[:, None] - target) ** 2) / (2 * (t - u))) @ q) * cell / math.sqrt(2 * math.pi * (t - u))
    return x, q


def _led_kde_instead(score: SmoothedScoreOfTwo, start: Any, box: Box, **how: Any) -> torch.Tensor:
    return torch.from_numpy(led_kde_of_two(box.centers().numpy()[:, 0], how["t_min"], score.h)[0])[None]


@check(
    "flow.generated",
    by="quadrature",
    lane="full",
    mutants={
        "score at t + h": instead(
            lambda score, *a, **how: finite_volume.reverse_densities(
                lambda x, t: torch.from_numpy(score_of_two(x.numpy(), t + 0.2)), *a, **how
            )
        ),
        "not smoothed": instead(
            lambda score, *a, **how: finite_volume.reverse_densities(lambda x, t: torch.from_numpy(score_of_two(x.numpy(), t)), *a, **how)
        ),
        "drift of the flow": _SOLVER_MUTANTS["drift of the flow"],
        "the LED-KDE itself": instead(_led_kde_instead),
        "off by 1 %": _SOLVER_MUTANTS["off by 1 %"],
    },
)
def limit_of_the_euler_scheme(predict: Any = finite_volume.reverse_densities, *, generator: torch.Generator) -> Numbers:
    """The distribution function against that of Euler's scheme, integrated, and extrapolated from three numbers of steps."""
    h, t_min = 0.2, 0.1
    box = Box([-REACH], [REACH], [560])
    start = torch.from_numpy(led_kde_of_two(box.centers().numpy()[:, 0], T_MAX, h)[0])
    density = predict(SmoothedScoreOfTwo(h), start, box, t_max=T_MAX, t_min=t_min, steps=120)[-1]
    got = box.cumulative(density).numpy()
    laws = []
    for steps in (50, 100, 200):
        x, q = _chain(h, t_min, steps)
        laws.append((np.cumsum(q) - q / 2) * (x[1] - x[0]))  # the mass to the left of x, by the midpoint rule
    first = [2 * b - a for a, b in itertools.pairwise(laws)]
    second = (4 * first[1] - first[0]) / 3
    # What is left after the second extrapolation is below what it changed; the solver's own error, of second order, is 1e-4 here.
    allowed = float(np.abs(second - first[1]).max()) + 2e-4
    require(allowed < 1e-3, f"extrapolations differ by {allowed}")
    worst = agree("distribution function", got, second, allowed)
    # The scheme's own error halves with its steps.
    errors = [float(np.abs(law - got).max()) for law in laws]
    require(all(0.8 < math.log2(a / b) < 1.3 for a, b in itertools.pairwise(errors)), f"distances {errors}: not of first order")
    return {"distance to Euler's scheme, 50, 100, 200 steps": str([f"{e:.2g}" for e in errors]), "error/allowance": worst}


@check(
    "flow.generated",
    by="statistics",
    lane="full",
    alpha=1e-8,
    detects="Kolmogorov distance 0.046 from the solver's density, with probability 0.999; below 0.01 it is tolerated, for the time steps",
    mutants={
        "reflected": returns(lambda y, *_, **__: -y + 0.1),
        "not smoothed": instead(
            lambda score, start, **how: dynamics.sample_reverse_sde(lambda x, t: torch.from_numpy(score_of_two(x.numpy(), t)), start, **how)
        ),
        "drift of the flow": instead(lambda score, start, **how: dynamics.sample_reverse_sde(lambda x, t: score(x, t) / 2, start, **how)),
        "score at t + h": instead(
            lambda score, start, **how: dynamics.sample_reverse_sde(
                lambda x, t: torch.from_numpy(score_of_two(x.numpy(), t + 0.2)), start, **how
            )
        ),
    },
)
def particles(predict: Any = dynamics.sample_reverse_sde, *, generator: torch.Generator) -> Numbers:
    """20000 paths of the sampler against the solver's distribution function, by the Dvoretzky-Kiefer-Wolfowitz inequality."""
    h, t_min, n = 0.2, 0.1, 20_000
    box, density = generated(h, 400, 90, t_min)
    edges = box.edges(0).numpy()
    left = np.concatenate(([0.0], np.cumsum(led_kde_of_two(box.centers().numpy()[:, 0], T_MAX, h)[0]) * box.volume))
    uniform = torch.rand(n, dtype=torch.float64, generator=generator).numpy()
    start = torch.from_numpy(np.interp(uniform, left / left[-1], edges))[:, None]
    # On a fine table: the smoothed score is a function of one variable.
    table = np.linspace(-REACH - 3, REACH + 3, 1001)

    def score(x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.from_numpy(np.interp(x.numpy(), table, smoothed(lambda y: score_of_two(y, t), table, h)))

    samples = predict(score, start, t_max=T_MAX, t_min=t_min, steps=200, generator=generator)[:, 0]
    law = np.concatenate(([0.0], np.cumsum(density) * box.volume))
    verdict = dkw_test(samples, lambda v: torch.from_numpy(np.interp(v.numpy(), edges, law / law[-1])), alpha=1e-8, slack=0.01)
    require(not verdict.rejected, f"Kolmogorov distance {verdict.statistic:.4f}, p-value {verdict.p_value:.3g}")
    return {"Kolmogorov distance": verdict.statistic, "p_value": verdict.p_value, "detects": verdict.detects}


claim(
    "flow.distance",
    title="The LED-KDE at the last time is what reverse diffusion with the mollified score generates",
    statement=r"""{claim}`mollified.not_generated` says that the two part at once; this is how far they get. For the data $\{-1, 1\}$,
started from the LED-KDE at $T = 2$, the law generated at $t_{\min} = 0.1$ has a total variation distance from the LED-KDE there of more
than 0.02, 0.11 and 0.16 for $h/t_{\min} = 1$, $5$ and $10$.""",
    source="derived here",
    regime=r"""The example is in $\mathbb R$, $K = G_h$. The two laws are equal where the score is not smoothed, and where smoothing does
not change it: for one data point, and for normal laws.""",
    uses=("mollified.not_generated", "flow.generated"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "flow.distance",
    by="counterexample",
    lane="full",
    mutants={
        "the LED-KDE itself": instead(_led_kde_instead),
        "halfway to the LED-KDE": returns(lambda q, score, start, box, **how: (q[-1:] + _led_kde_instead(score, start, box, **how)) / 2),
        "drift of the flow": _SOLVER_MUTANTS["drift of the flow"],
        "off by 1 %": _SOLVER_MUTANTS["off by 1 %"],
    },
)
def generated_and_led_kde(predict: Any = finite_volume.reverse_densities, *, generator: torch.Generator) -> Numbers:
    """Total variation between the solver's density and the LED-KDE by plain sums; and the same from Euler's scheme, extrapolated."""
    t_min, numbers = 0.1, {}
    for h, least in ((0.1, 0.02), (0.5, 0.11), (1.0, 0.16)):
        box = Box([-REACH], [REACH], [400])
        x = box.centers().numpy()[:, 0]
        start = torch.from_numpy(led_kde_of_two(x, T_MAX, h)[0])
        generated = predict(SmoothedScoreOfTwo(h), start, box, t_max=T_MAX, t_min=t_min, steps=90)[-1].numpy()
        agree("mass", generated.sum() * box.volume, 1.0, 1e-4)  # less what is outside of the box
        distance = float(np.abs(generated - led_kde_of_two(x, t_min, h)[0]).sum() * box.volume / 2)
        (y, coarse), (_, fine) = (_chain(h, t_min, steps) for steps in (50, 100))
        euler, change = (
            float(np.abs(q).sum() * (y[1] - y[0]) / 2) for q in (2 * fine - coarse - led_kde_of_two(y, t_min, h)[0], fine - coarse)
        )
        # Extrapolated, the scheme is off by no more than a fourth of what its steps changed; the solver by 6e-4, its error for h = 0.
        require(change < 0.01, f"Euler's scheme changes by {change:.3g}")
        agree(f"total variation distance, h = {h}", distance, euler, change / 4 + 6e-4)
        require(min(distance, euler) > least, f"total variation distance {distance:.4f} for h = {h}, not above {least}")
        numbers[f"h/t = {h / t_min:g}"] = distance
    return numbers
