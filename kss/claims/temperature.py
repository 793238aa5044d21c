"""Chapter "Temperature and noise unconditioning", first part: what tempered weights are, exactly."""

import itertools
import math
from typing import Any

import numpy as np
import torch

from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.kernels import GaussianKernel
from kss.scores import Mollified, TemperatureSmoothed, TimeShifted
from kss.testing import sums
from kss.testing.compare import agree, require
from kss.testing.properties import for_all, numpy_generator
from kss.theory import temperature

CHAPTER = "temperature"
EPSILON = torch.finfo(torch.float64).eps
PAPER = "arXiv 2601.19285 (Zhou, Zhang, Wright) tempers the weights; the statement was derived for this project"
ANY_DATA = r"Every data set $x_1, \dots, x_N \in \mathbb R^d$, $x \in \mathbb R^d$, $t > 0$, temperature $T > 0$ (not only $T \geq 1$)"

Numbers = dict[str, Any]


def plain_score(points: np.ndarray, x: np.ndarray, t: float, temper: float) -> np.ndarray:
    """`sum_j w_j (x_j - x)/t`, `w_j` proportional to `exp(-|x - x_j|^2/2t)^(1/T)`, as it stands, in extended precision."""
    away = points.astype(np.longdouble) - x
    exponent = -((away**2).sum(-1)) / (2 * np.longdouble(t)) / np.longdouble(temper)
    weight = np.exp(exponent - exponent.max())
    return np.asarray((weight / weight.sum()) @ away / t, dtype=np.float64)


def rounding(points: np.ndarray, x: np.ndarray, t: float, temper: float) -> float:
    """What a few roundings of x, the points and `T t` do to the score: each moves every exponent, and the weighted mean by its spread."""
    size = float(np.abs(x).max() + np.abs(points).max()) * math.sqrt(x.shape[-1])
    return 16 * EPSILON * size / t * (1 + size**2 / (temper * t))


# --- The identity ---------------------------------------------------------------------------------------------------------

claim(
    "temperature.identity",
    title="Tempered weights are the denoiser of a later time, at the stiffness of now",
    statement=r"""With $w_j^T(x) \propto \big(e^{-|x - x_j|^2/2t}\big)^{1/T}$,

$$s_T(x) := \sum_j w_j^T(x)\,\frac{x_j - x}{t} \;=\; \frac{m^N_{Tt}(x) - x}{t} \;=\; T\,s^N_{Tt}(x) \;=\; T\,\nabla\log p^N_{Tt}(x).$$""",
    source=PAPER,
    regime=ANY_DATA + ".",
    uses=("heat.tweedie",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "temperature.identity",
    by="property",
    mutants={
        "stiffness tempered as well": returns(lambda score, tempered, *_: score / float(tempered.temperature)),
        "sign": returns(lambda score, *_: -score),
        "off by 1e-6": returns(lambda score, *_: score * (1 + 1e-6)),
        "time shift": instead(lambda tempered, x, t: tempered.base.score(x, float(tempered.temperature) * t)),
        "weights not tempered": instead(lambda tempered, x, t: float(tempered.temperature) * tempered.base.score(x, t)),
        "standard deviations": instead(lambda tempered, x, t: TemperatureSmoothed(tempered.base, tempered.temperature**0.5).score(x, t)),
        "colder, not hotter": instead(lambda tempered, x, t: TemperatureSmoothed(tempered.base, 1 / tempered.temperature).score(x, t)),
    },
)
def softmax_and_gradient(predict: Any = TemperatureSmoothed.score, *, generator: torch.Generator) -> Numbers:
    """The tempered softmax as it stands, and `T log p_{Tt}` differentiated by a complex step: random data in up to 8 dimensions."""
    from hypothesis import strategies as st

    from kss.testing.strategies import arrays, datasets, variances

    worst = 0.0

    def test(drawn: tuple[torch.Tensor, np.ndarray, float, float]) -> None:
        nonlocal worst
        data, place, t, temper = drawn
        points, x = data.numpy(), place[: data.shape[1]]
        got = predict(TemperatureSmoothed(data_law(data), temper), torch.from_numpy(x), t)
        allowed = 2e-12 * np.linalg.norm(points - x, axis=-1).max() / t + rounding(points, x, t, temper)
        case = f"data {points.tolist()}, x = {x.tolist()}, t = {t}, T = {temper}"
        worst = max(worst, agree(f"tempered softmax, {case}", got, plain_score(points, x, t, temper), allowed))
        step = 1e-30 * math.sqrt(t)
        gradient = [temper * sums.log_density(points, x + 1j * step * e, temper * t).imag / step for e in np.eye(len(x))]
        worst = max(worst, agree(f"gradient, {case}", got, gradient, allowed))

    drawn = st.tuples(datasets(), arrays(8), variances(-3.0, 3.0), variances(-1.0, 2.0))
    return for_all(drawn, test, generator=generator, examples=40) | {"worst error/allowance": worst}


def data_law(points: torch.Tensor) -> Empirical:
    """The empirical law, computed by differences."""
    return Empirical(points, method="difference")


# --- The law it samples ---------------------------------------------------------------------------------------------------

claim(
    "temperature.law",
    title="Langevin dynamics with the tempered score samples a power of a density",
    statement=r"""$dX_\tau = \tfrac12 s_T(X_\tau)\,d\tau + dB_\tau$ at a fixed $t$ has the stationary density

$$\pi_T = \frac{(p^N_{Tt})^T}{\int (p^N_{Tt})^T}.$$""",
    source=PAPER,
    regime=ANY_DATA + r", $t$ held fixed. (For what reverse diffusion generates, with $t$ falling, see {claim}`temperature.generated`.)",
    uses=("temperature.identity",),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "temperature.law",
    by="quadrature",
    mutants={
        "not raised to the power": returns(lambda value, tempered, *_: value / float(tempered.temperature)),
        "density for log-density": returns(lambda value, *_: value.exp()),
        "one percent": returns(lambda value, *_: 1.01 * value),
        "power of the density of now": instead(lambda tempered, x, t: float(tempered.temperature) * tempered.base.log_density(x, t)),
        "density at T t": instead(lambda tempered, x, t: tempered.base.log_density(x, float(tempered.temperature) * t)),
        "power 1/T": instead(lambda tempered, x, t: tempered.base.log_density(x, t) / float(tempered.temperature)),
    },
)
def fokker_planck_in_weak_form(predict: Any = TemperatureSmoothed.unnormalized_log_density, *, generator: torch.Generator) -> Numbers:
    """`int (Lap f + s_T . grad f) pi = 0` for f = cosines of several directions: plain sums over a grid, with `s_T` from the softmax.

    The sums converge exponentially; the grid steps a quarter of `sqrt t` and ends where pi is below 1e-17 of its maximum.
    Left is the rounding of sums of 1e4 terms.
    """
    rng, worst = numpy_generator(generator), 0.0
    for dim, n, t, temper in ((1, 5, 0.1, 3.0), (1, 3, 2.0, 0.5), (1, 4, 0.5, 1.7), (2, 4, 0.4, 2.0)):
        points = rng.uniform(-1, 1, (n, dim))
        reach = 1 + 9.0 * math.sqrt(t)
        axis = np.linspace(-reach, reach, 2 * math.ceil(reach / (math.sqrt(t) / 4)) + 1)
        grid = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), -1).reshape(-1, dim)
        log_density = np.asarray(predict(TemperatureSmoothed(data_law(torch.from_numpy(points)), temper), torch.from_numpy(grid), t))
        density = np.exp(log_density - log_density.max())
        away = points - grid[:, None]
        exponent = -(away**2).sum(-1) / (2 * t * temper)
        weight = np.exp(exponent - exponent.max(1, keepdims=True))
        score = np.einsum("gn,gnd->gd", weight / weight.sum(1, keepdims=True), away) / t
        for wave in rng.normal(size=(4, dim)) / math.sqrt(t):
            phase = grid @ wave + 0.7
            terms = -(wave @ wave) * np.cos(phase) - (score @ wave) * np.sin(phase)
            flux = float((terms * density).sum() / (np.abs(terms) * density).sum())
            worst = max(worst, agree(f"d = {dim}, N = {n}, t = {t}, T = {temper}: mean of L f", flux, 0.0, 1e-12))
    return {"worst error/allowance": worst}


# --- Integer temperatures -------------------------------------------------------------------------------------------------

claim(
    "temperature.barycenters",
    title="At an integer temperature the samples are noisy barycenters of T-tuples of data",
    statement=r"""For $T = 1, 2, 3, \dots$

$$\pi_T = \sum_{(j_1, \dots, j_T)} \omega_{j_1 \dots j_T}\;\mathcal N\big(\bar x_{j_1 \dots j_T},\, t\,I_d\big), \qquad
\bar x = \frac1T\sum_a x_{j_a}, \quad \omega \propto \exp\Big(-\frac{1}{2Tt}\sum_a |x_{j_a} - \bar x|^2\Big),$$

a sum over all $T$-tuples of data, repetitions included. Averaging is why the law is narrower than the data.""",
    source="derived here",
    regime=r"Every data set, $t > 0$, integer $T \geq 1$.",
    uses=("temperature.law",),
    chapter=CHAPTER,
    verdict="holds",
)


def _orders_forgotten(points: torch.Tensor, t: float, order: int) -> temperature.Barycenters:
    """Each combination counted once, whatever the number of its orders."""
    mixture = temperature.barycenters(points, t, order)
    chosen = torch.tensor(list(itertools.combinations_with_replacement(range(len(points)), order)))
    scatter = (points[chosen] - mixture.centers.unsqueeze(1)).square().sum((-1, -2))
    return mixture._replace(log_weights=torch.log_softmax(-scatter / (2 * order * t), 0))


@check(
    "temperature.barycenters",
    by="quadrature",
    mutants={
        "centers off by 1e-6": returns(lambda mixture, *_: mixture._replace(centers=mixture.centers * (1 + 1e-6))),
        "all tuples alike": returns(
            lambda mixture, *_: mixture._replace(log_weights=torch.full_like(mixture.log_weights, -math.log(len(mixture.log_weights))))
        ),
        "weights tempered twice": returns(
            lambda mixture, points, t, order: mixture._replace(log_weights=torch.log_softmax(mixture.log_weights / order, 0))
        ),
        "scatter over t": instead(lambda points, t, order: temperature.barycenters(points, t / order, order)),
        "scatter over T^2 t": instead(lambda points, t, order: temperature.barycenters(points, t * order, order)),
        "orders of a tuple not counted": instead(_orders_forgotten),
        "pairs only": instead(lambda points, t, order: temperature.barycenters(points, t, min(order, 2))),
    },
)
def power_of_a_sum(predict: Any = temperature.barycenters, *, generator: torch.Generator) -> Numbers:
    """The mixture against `T log p_{Tt}`, up to a constant, at random places; in one and two dimensions, T = 1 to 4."""
    rng, worst = numpy_generator(generator), 0.0
    for dim, n, order in ((1, 1, 3), (1, 5, 1), (1, 6, 2), (2, 5, 3), (2, 4, 4), (3, 3, 2)):
        for t in (0.05, 0.5):
            points, x = rng.uniform(-1, 1, (n, dim)), rng.uniform(-2, 2, (9, dim))
            mixture = predict(torch.from_numpy(points), t, order)
            centers, log_weights = np.asarray(mixture.centers), np.asarray(mixture.log_weights)
            require(abs(np.exp(log_weights).sum() - 1) < 1e-12, f"weights sum to {np.exp(log_weights).sum()}")
            terms = log_weights - ((x[:, None] - centers) ** 2).sum(-1) / (2 * t)
            got = np.log(np.exp(terms - terms.max(1, keepdims=True)).sum(1)) + terms.max(1)
            expected = order * sums.log_density(points, x, order * t)
            # Logarithms of size |x - x_j|^2/2t < 250, up to one constant; the mean removes it.
            case = f"d = {dim}, N = {n}, T = {order}, t = {t}"
            worst = max(worst, agree(case, got - got.mean(), expected - expected.mean(), 1e3 * 64 * EPSILON))
    return {"worst error/allowance": worst}


# --- Linear manifolds -----------------------------------------------------------------------------------------------------

claim(
    "temperature.linear_manifold",
    title="On a linear manifold tempering does not leak",
    statement=r"""Let the data lie on a $k$-dimensional affine subspace $M$ of $\mathbb R^d$. Then

$$\pi_T \;=\; \frac{\big(p^{N,(k)}_{Tt}\big)^T}{\int \big(p^{N,(k)}_{Tt}\big)^T}\text{ on } M \;\otimes\; \mathcal N(0, t\,I_{d-k}).$$

Across $M$ the law is that of the mollified score, $\mathcal N(0, t I_{d-k})$ for every $T$ and every bandwidth. Along $M$ it is not:
a *power* of a KDE, where mollification has a geometric mean of KDEs.""",
    source=PAPER,
    regime=r"Data exactly on an affine subspace, finite $N$, $t > 0$, $T > 0$. On curved manifolds: {claim}`temperature.curvature`.",
    uses=("temperature.law", "mollified.linear_manifold"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "temperature.linear_manifold",
    by="property",
    mutants={
        "leaks": instead(lambda tempered, x, t: TimeShifted(tempered.base, (float(tempered.temperature) - 1) * t).score(x, t)),
        "off by 1e-6": returns(lambda score, *_: score * (1 + 1e-6)),
        "not tempered": instead(lambda tempered, x, t: tempered.base.score(x, t)),
        "stiffer across": instead(lambda tempered, x, t: float(tempered.temperature) * tempered.base.score(x, t)),
        "half the temperature": instead(lambda tempered, x, t: TemperatureSmoothed(tempered.base, tempered.temperature / 2).score(x, t)),
    },
)
def along_and_across(predict: Any = TemperatureSmoothed.score, *, generator: torch.Generator) -> Numbers:
    """Random subspaces with k = 1, 2, 3 in d = 2 to 6: along them the softmax in R^k, across them `-distance/t`, also for `Mollified`."""
    rng, worst = numpy_generator(generator), 0.0
    for k, d, t, temper in ((1, 2, 0.1, 3.0), (1, 4, 1.0, 1.5), (2, 3, 0.02, 7.0), (2, 6, 0.3, 0.6), (3, 5, 0.1, 2.0)):
        q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        inside, along, off = rng.uniform(-1, 1, (6, k)), rng.uniform(-1, 1, k), rng.standard_normal(d - k) * math.sqrt(t)
        shift = rng.standard_normal(d)
        data, x = inside @ q[:, :k].T + shift, q @ np.concatenate((along, off)) + shift
        local = np.concatenate((plain_score(inside, along, t, temper), -off / t))
        got = predict(TemperatureSmoothed(Empirical(data), temper), torch.from_numpy(x), t)
        case = f"k = {k}, d = {d}, t = {t}, T = {temper}"
        worst = max(worst, agree(case, got, q @ local, 2e-12 * np.linalg.norm(local) + d * rounding(data, x, t, temper)))
        if d == 2:  # one bandwidth is enough: `mollified.linear_manifold` is checked elsewhere
            smoothed = Mollified(Empirical(data), GaussianKernel(0.2)).score(torch.from_numpy(x), t).numpy()
            agree(f"{case}, mollified, across", smoothed @ q[:, 1], -off[0] / t, 1e-5 * np.linalg.norm(smoothed))
    pair = Empirical([[-1.0, 0.0], [1.0, 0.0]])  # along the line, at 1/2: the tempered score is `(tanh(x/(T t)) - x)/t`
    tempered = predict(TemperatureSmoothed(pair, 3.0), torch.tensor([[0.5, 0.0]], dtype=torch.float64), 0.1).numpy()[0, 0]
    mollified = float(Mollified(pair, GaussianKernel(0.2)).score([[0.5, 0.0]], 0.1)[0, 0])
    require(abs(mollified / tempered - 1) > 0.02, f"along the line, mollified {mollified:.4f} and tempered {tempered:.4f} do not differ")
    return {"worst error/allowance": worst}


# --- Not a time shift -----------------------------------------------------------------------------------------------------

claim(
    "temperature.time_shift",
    title="Tempering is a time shift",
    statement=r"$s_T = s^N_{Tt}$: to temper the empirical score is to evaluate it at the later time $Tt$.",
    source=r"a misreading to avoid: the weights alone are those of the later time. Refuted here",
    regime=r"""Refuted: the two differ by the factor $T$ ({claim}`temperature.identity`), everywhere and for every law. One data point is
enough to see it: $s_T = -(x - x_1)/t$ for every $T$, but $s_{Tt} = -(x - x_1)/Tt$. Across a linear manifold the tempered law keeps
the variance $t$, while the time shift widens it to $Tt$: it leaks. True is the statement about denoisers, $m_T = m_{Tt}$.""",
    uses=("temperature.identity", "temperature.linear_manifold", "shift.scores"),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "temperature.time_shift",
    by="counterexample",
    mutants={
        "the score at T t": returns(lambda score, tempered, x, t: score / float(tempered.temperature)),
        "half-way": returns(lambda score, tempered, x, t: score * (1 + 1 / float(tempered.temperature)) / 2),
        "shifted by T t": instead(lambda tempered, x, t: TimeShifted(tempered.base, float(tempered.temperature) * t).score(x, t)),
        "no t below 0.03": instead(lambda tempered, x, t: tempered.score(x, max(t, 0.03))),
        "denoiser for score": instead(lambda tempered, x, t: tempered.denoise(x, t)),
    },
)
def stiffness_is_that_of_now(predict: Any = TemperatureSmoothed.score, *, generator: torch.Generator) -> Numbers:
    """One data point, and the normal part of data on a line: `-offset/t` whatever T, on the scales 1/1000, 1 and 1000."""
    rng, gaps = numpy_generator(generator), Numbers()
    for scale in (1e-3, 1.0, 1e3):
        for temper in (1.3, 4.0, 50.0):
            t = 0.3 * scale**2
            x = scale * rng.uniform(1.0, 2.0, (5, 2)) * rng.choice((-1, 1), (5, 2))
            data, point = scale * np.stack((rng.uniform(-1, 1, 7), np.zeros(7)), -1), scale * np.array([[0.5, -0.5]])
            for name, points, offset, components in (("one data point", point, x - point, [0, 1]), ("across a line", data, x, [1])):
                case = f"{name}, t = {t:.2g}, T = {temper}"
                got = np.asarray(predict(TemperatureSmoothed(Empirical(points), temper), torch.from_numpy(x), t))[:, components]
                agree(case, got, -offset[:, components] / t, 64 * EPSILON * 4 * scale / t)
                ratio = float((got / (-offset[:, components] / (temper * t))).min())
                agree(f"{case}: ratio to the shifted score", ratio, temper, 1e-12 * temper)
                gaps[f"ratio, {name}, T = {temper}"] = ratio
    return gaps


# --- Expansion ------------------------------------------------------------------------------------------------------------

claim(
    "temperature.expansion",
    title="Two data points are pulled apart, unless the temperature is high enough",
    statement=r"""For data of diameter $D$ the tempered denoiser expands by at most

$$\sup_x\,\lambda_{\max}\big(\nabla m^N_{Tt}(x)\big) \;\leq\; \frac{D^2}{4\,Tt},$$

with equality for two points, half-way between them. So for two points $m_{Tt}$ is non-expansive,
$|m_{Tt}(x) - m_{Tt}(y)| \leq |x - y|$, exactly if $T \geq D^2/4t$; for any data this $T$ is enough.""",
    source=PAPER + ' (the paper speaks of an "expansion factor")',
    regime=r"Every finite data set, $t > 0$, $T > 0$. The bound is attained for two points (half-way, if they weigh alike).",
    uses=("temperature.identity", "heat.tweedie_second"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "temperature.expansion",
    by="property",
    mutants={
        "half of it": returns(lambda value, *_: value / 2),
        "one percent too much": returns(lambda value, *_: 1.01 * value),
        "half, not a quarter": instead(lambda distance, t, temper: distance**2 / (2 * temper * t)),
        "T squared": instead(lambda distance, t, temper: distance**2 / (4 * temper**2 * t)),
        "T forgotten": instead(lambda distance, t, temper: distance**2 / (4 * t)),
        "distance for its square": instead(lambda distance, t, temper: distance / (4 * temper * t)),
    },
)
def differences_of_denoisers(predict: Any = temperature.expansion, *, generator: torch.Generator) -> Numbers:
    """The Jacobian of the softmax by a complex step: for two points largest at their middle; elsewhere, and for more, less."""
    rng, worst = numpy_generator(generator), 0.0

    def jacobian(points: np.ndarray, x: np.ndarray, u: float) -> np.ndarray:
        step = 1e-30
        columns = []
        for e in np.eye(len(x)):
            exponent = -((x + 1j * step * e - points) ** 2).sum(-1) / (2 * u)
            weight = np.exp(exponent - exponent.real.max())
            columns.append(((weight / weight.sum()) @ points).imag / step)
        return np.stack(columns, -1)

    for d, distance, t, temper in ((1, 1.0, 0.1, 1.0), (2, 3.0, 0.5, 2.5), (3, 0.2, 0.01, 0.5), (5, 1.0, 1.0, 8.0)):
        direction = rng.standard_normal(d)
        direction *= distance / np.linalg.norm(direction)
        center = rng.standard_normal(d)
        pair = np.stack((center - direction / 2, center + direction / 2))
        claimed = float(predict(distance, t, temper))
        case = f"d = {d}, D = {distance}, t = {t}, T = {temper}"
        most = np.linalg.eigvalsh(jacobian(pair, center, temper * t)).max()
        worst = max(worst, agree(f"{case}: at the middle", claimed, most, 1e-10 * most))
        for _ in range(20):
            elsewhere = center + rng.standard_normal(d) * distance
            require(np.linalg.eigvalsh(jacobian(pair, elsewhere, temper * t)).max() <= claimed * (1 + 1e-9), f"{case}: more elsewhere")
            more = np.concatenate((pair, rng.standard_normal((5, d)) * distance))
            spread = float(np.linalg.norm(more[:, None] - more, axis=-1).max())
            wide = np.linalg.eigvalsh(jacobian(more, elsewhere, temper * t)).max()
            require(wide <= float(predict(spread, t, temper)) * (1 + 1e-9), f"{case}: more than the bound for seven points")
    return {"worst error/allowance": worst}


@check(
    "temperature.expansion",
    by="property",
    mutants={
        "one percent lower": returns(lambda value, *_: 0.99 * value),
        "one percent higher": returns(lambda value, *_: 1.01 * value),
        "where the two bumps merge at t": instead(lambda distance, t: distance / (2 * t**0.5)),
        "D^2/2t": instead(lambda distance, t: distance**2 / (2 * t)),
        "D^2/4": instead(lambda distance, t: distance**2 / 4),
    },
)
def from_which_temperature_on(predict: Any = temperature.critical_temperature, *, generator: torch.Generator) -> Numbers:
    """At the stated temperature close pairs around the middle come no farther apart, random pairs neither; half a percent below they do."""
    rng, numbers = numpy_generator(generator), Numbers()
    for distance, t in ((1.0, 0.1), (3.0, 0.5), (0.2, 0.001)):
        least = float(predict(distance, t))
        offset = 1e-4 * distance
        # m = (D/2) tanh(D y/2u) for y along the axis from the middle: its slope at 0 is lower by (D y/2u)^2/3, 1e-8 here.
        for factor, expands in ((1.0, False), (0.995, True), (1.005, False)):
            u = factor * least * t
            ratio = distance / 2 * math.tanh(distance * offset / (2 * u)) / offset
            require((ratio > 1) == expands, f"D = {distance}, t = {t}, T = {factor} T*: expansion {ratio:.6f}")
            agree(f"D = {distance}, t = {t}, T = {factor} T*", ratio, 1 / factor, 1e-6)
        y = rng.uniform(-2, 2, (2, 1000)) * distance
        moved = distance / 2 * np.tanh(distance * y / (2 * least * t))
        require(bool((abs(moved[0] - moved[1]) <= abs(y[0] - y[1]) * (1 + 1e-12)).all()), f"D = {distance}, t = {t}: a pair moves apart")
        numbers[f"T* for D = {distance}, t = {t}"] = least
    return numbers
