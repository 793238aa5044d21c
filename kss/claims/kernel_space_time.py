"""Chapter "Which kernel?", smoothing over noise levels beside smoothing over space."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import integrate

from kss.claims.kernel_shape import CHAPTER, EPSILON, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.kernels import GaussianKernel
from kss.scores import SpaceTime, TimeShifted, uniform_delays
from kss.testing.compare import agree
from kss.testing.properties import numpy_generator
from kss.theory import bias_variance
from kss.theory.kernels import space_time

claim(
    "kernel.space_time_noise",
    title="A delay smooths the noise like a kernel of the same variance",
    statement=r"""Average over space and over later noise levels, $\mathbb E\,s^N_{t+\tau}(x + V)$ with $V \sim \mathcal N(0, S)$ and
$\tau \sim \rho$ independent. Along a flat manifold the noise has the covariance

$$\iint C\Big(tI + S_T + \frac{\tau + \tau'}2 I\Big)\,\rho(d\tau)\,\rho(d\tau'),
\qquad C(M) = \frac{(4\pi)^{-k/2}}{2Np_M}\,\det(M)^{-1/2}\,M^{-1},$$

that of the scale mixture of kernels $\mathcal N(0, S + \tau I)$; with one delay $h$ and no kernel, that of the kernel $hI$.""",
    source="derived here",
    regime=r"""CLT regime at $t$, constant density at the scale of kernel and delays; exact in the linearization on a periodic box, up to
$e^{-L^2/4v}$, with $L$ its length and $v$ the largest variance.""",
    uses=("variance.kernels", "shift.noise_spectral"),
    chapter=CHAPTER,
    verdict="holds in regime",
)

_SPREADS = {
    1: np.array([[3e-3]]),
    2: np.array([[3e-3, 1e-3], [1e-3, 2e-3]]),
    3: np.array([[2e-3, 1e-3, 0.0], [1e-3, 3e-3, -1e-3], [0.0, -1e-3, 1e-3]]),
}


def _lattice_noise(k: int, t: float, H: np.ndarray, longest: float, N: float) -> np.ndarray:
    """Unit box, uniform law: `(1/N) sum xi xi^T e^{-xi.(tI + H) xi} |E e^{-|xi|^2 tau/2}|^2`, tau uniform on [0, longest]."""
    most = math.ceil(6.5 / (2 * math.pi * math.sqrt(t)))
    axis = 2 * math.pi * np.arange(-most, most + 1)
    xi = np.stack(np.meshgrid(*[axis] * k, indexing="ij"), -1).reshape(-1, k)
    a = (xi**2).sum(-1) * longest / 2
    damping = np.where(a > 0, -np.expm1(-a) / np.where(a > 0, a, 1), 1.0) ** 2
    weight = damping * np.exp(-np.einsum("ni,ij,nj->n", xi, t * np.eye(k) + H, xi)) / N
    return np.asarray(np.einsum("n,ni,nj->ij", weight, xi, xi))


@check(
    "kernel.space_time_noise",
    by="quadrature",
    mutants={
        "twice": returns(lambda noise, *_: 2 * noise),
        "one per mille": returns(lambda noise, *_: 1.001 * noise),
        "mean delay only": instead(
            lambda t, block, tau, w, N, p: bias_variance.small_time_noise(
                t, torch.as_tensor(block) + float(w @ tau) * torch.eye(len(block), dtype=torch.float64), N, p
            )
        ),
        "full delays, no mixture of two": instead(
            lambda t, block, tau, w, N, p: sum(
                float(v)
                * bias_variance.small_time_noise(t, torch.as_tensor(block) + float(u) * torch.eye(len(block), dtype=torch.float64), N, p)
                for u, v in zip(tau, w, strict=True)
            )
        ),
        "no delay": instead(lambda t, block, tau, w, N, p: bias_variance.small_time_noise(t, block, N, p)),
        "trace part of H": instead(
            lambda t, block, tau, w, N, p: (
                space_time.space_time_noise(t, np.trace(np.asarray(block)) / len(block) * np.eye(len(block)), tau, w, N, p)
                if len(block) > 1
                else 2 * space_time.space_time_noise(t, block, tau, w, N, p)
            )
        ),
    },
)
def modes_of_a_box(predict: Any = space_time.space_time_noise, *, generator: torch.Generator) -> Numbers:
    """Delays uniform on an interval, kernels with axes askew, k = 1, 2, 3: sums over the Fourier modes of the unit box."""
    worst = 0.0
    for k, t, longest in ((1, 1e-3, 4e-3), (1, 4e-3, 1e-3), (2, 2e-3, 3e-3), (3, 3e-3, 2e-3)):
        delays, weights = uniform_delays(longest, 10)
        expected = _lattice_noise(k, t, _SPREADS[k], longest, 50.0)
        got = np.asarray(predict(t, _SPREADS[k], delays, weights, 50.0, 1.0))
        # The box wraps: e^{-1/4v} < 1e-10 for v < 0.01; the ten nodes integrate exactly to more digits.
        worst = max(worst, agree(f"noise, k = {k}, t = {t}", got, expected, 1e-8 * np.trace(expected)))
    return {"worst error/allowance": worst}


@cache
def _influence(t: float, h: float, delays: tuple[float, ...], weights: tuple[float, ...]) -> float:
    """`r int |s|^2 dx` for r = 1000 evenly spaced data per unit on [-2, 2] and one more at 0.

    Without that one the score is 0 far from the ends, to e^{-2 pi^2 r^2 t}: it is what the new datum does.
    """
    data = np.append(np.linspace(-2, 2, 4001), 0.0)[:, None]
    x = np.linspace(0, 0.8, 33)[:, None]
    # Next to 0 it is of no use to refine relative to the score, so the rule is bounded instead: steps of 0.1 deviations.
    score = np.asarray(SpaceTime(Empirical(data), GaussianKernel(h), delays, weights, most_nodes=128).score(x, t))[:, 0]
    return float(2 * 1000 * (score**2).sum() * x[1, 0])  # the score at 0 is 0


@check(
    "kernel.space_time_noise",
    by="property",
    lane="full",
    mutants={
        "half": returns(lambda noise, *_: noise / 2),
        "six percent": returns(lambda noise, *_: 1.06 * noise),
        "mean delay only": instead(
            lambda t, block, tau, w, N, p: bias_variance.small_time_noise(t, [[block[0][0] + np.dot(w, tau)]], N, p)
        ),
        "delays twice as strong": instead(
            lambda t, block, tau, w, N, p: space_time.space_time_noise(t, block, 2 * np.asarray(tau), w, N, p)
        ),
    },
)
def one_more_datum(predict: Any = space_time.space_time_noise, *, generator: torch.Generator) -> Numbers:
    """The averaged empirical score itself: evenly spaced data and one more; the noise is the sum of the squares of such changes."""
    worst, numbers = 0.0, Numbers()
    for t, h, delays, weights in (
        (2e-3, 1e-3, (0.0, 8e-3), (0.5, 0.5)),
        (4e-3, 0.0, (2e-3, 6e-3), (0.3, 0.7)),
        (2e-3, 6e-3, (0.0,), (1.0,)),
    ):
        exact = _influence(t, h, delays, weights)
        got = float(np.asarray(predict(t, [[h]], delays, weights, 1000.0, 1.0))[0, 0])
        # The new datum is at most 1/(r sqrt(2 pi t)) < 1 % of the density: what is not linear in it. Squared, and for the score: 4 times.
        worst = max(worst, agree(f"noise, t = {t}, h = {h}, delays {delays}", got, exact, 4 * exact / (1000 * math.sqrt(2 * math.pi * t))))
        numbers[f"noise/formula, t = {t}, h = {h}, delays {delays}"] = exact / got
    return numbers | {"worst error/allowance": worst}


# --- Across a flat manifold -----------------------------------------------------------------------------------------------

claim(
    "kernel.normal_leak",
    title="A delay leaks across the manifold, and what that costs",
    statement=r"""Across a flat manifold a delay $\tau$ gives the score $-n/(t + \tau)$ for $-n/t$. In each of the $d - k$ normal directions
Langevin dynamics at $t$ then samples $q = \mathcal N(0, t + \tau)$ instead of $p = \mathcal N(0, t)$, and the reverse SDE, started right at
$T$, the variance $t + \tau - \tau\big(\frac{t+\tau}{T+\tau}\big)^2$. The cost is

$$\mathrm{KL}(p\,\Vert\,q) = \frac{d-k}2\Big(\log\frac{t+\tau}t - \frac\tau{t+\tau}\Big), \qquad
\mathrm{KL}(q\,\Vert\,p) = \frac{d-k}2\Big(\frac\tau t - \log\frac{t+\tau}t\Big) ;$$

the first is also the path divergence $\frac12\int_t^\infty\mathbb E|s_u - s_{u+\tau}|^2du$. Smoothing over space costs nothing there.""",
    source="derived here",
    regime=r"""Normal coordinates of data on an affine subspace: every data set, exact. On a curved manifold: leading order.""",
    uses=("mollified.linear_manifold", "kl.girsanov"),
    chapter=CHAPTER,
    verdict="holds",
)


def _normal(x: float, v: float) -> float:
    return math.exp(-(x**2) / (2 * v)) / math.sqrt(2 * math.pi * v)


@cache
def leaks(t: float, tau: float) -> tuple[float, float, float]:
    """Both divergences by integrals over the line, and the path divergence by one over u."""

    def divergence(a: float, b: float) -> float:
        width = math.sqrt(a)
        return (
            2
            * integrate.quad(
                lambda x: _normal(x, a) * (math.log(b / a) / 2 - x**2 / (2 * a) + x**2 / (2 * b)),
                0,
                38 * width,
                epsabs=0,
                epsrel=1e-11,
                points=[3 * width],
            )[0]
        )

    path = integrate.quad(
        lambda e: math.exp(2 * e) * (tau / (math.exp(e) * (math.exp(e) + tau))) ** 2 / 2,
        math.log(t),
        math.log(tau + t) + 40,
        epsabs=0,
        epsrel=1e-11,
        limit=200,
    )[0]
    return divergence(t, t + tau), divergence(t + tau, t), path


@check(
    "kernel.normal_leak",
    by="quadrature",
    mutants={
        "directions exchanged": instead(
            lambda c, t, tau, direction="p to q": space_time.leak(c, t, tau, "q to p" if direction == "p to q" else "p to q")
        ),
        "half forgotten": returns(lambda value, *_: 2 * value),
        "small delays only": instead(lambda c, t, tau, direction="p to q": c / 4 * (tau / t) ** 2),
        "one direction": returns(lambda value, c, *_: value / c),
        "logarithm alone": instead(lambda c, t, tau, direction="p to q": c / 2 * math.log(1 + tau / t)),
    },
)
def divergences_by_integration(predict: Any = space_time.leak, *, generator: torch.Generator) -> Numbers:
    """Delays of t/1000 to 1000 t, at two t, one and three normal directions: densities integrated, and the path."""
    worst, numbers = 0.0, Numbers()
    for t, ratio, c in itertools.product((0.01, 2.0), (1e-2, 0.5, 2.0, 1e3), (1, 3)):
        forward, backward, path = leaks(t, ratio * t)
        for name, got, exact in (
            ("KL(p || q)", predict(c, t, ratio * t), c * forward),
            ("KL(q || p)", predict(c, t, ratio * t, "q to p"), c * backward),
            ("path", predict(c, t, ratio * t), c * path),
        ):
            # Terms of the integrand cancel by ratio: 1e-11 of them.
            worst = max(worst, agree(f"{name}, t = {t}, delay {ratio} t", got, exact, (1e-8 + 1e-10 / ratio) * exact))
    for h in (0.005, 0.02):
        numbers[f"leak at t = .01, delay {h}"] = predict(1, 0.01, h)
    return numbers | {"worst error/allowance": worst}


@check(
    "kernel.normal_leak",
    by="quadrature",
    lane="full",
    mutants={
        "t alone": instead(lambda t_max, t, tau: t),
        "from infinity": instead(lambda t_max, t, tau: t + tau),
        "the flow's": instead(lambda t_max, t, tau: (t + tau) * t_max / (t_max + tau)),
        "one percent": returns(lambda value, *_: 1.01 * value),
    },
)
def variance_of_the_generated_law(predict: Any = space_time.delayed_variance, *, generator: torch.Generator) -> Numbers:
    """`dv/du = 2 v g(u) - 1`, -g the slope of the delayed score of random data on a line in the plane, integrated down to t."""
    rng, worst = numpy_generator(generator), 0.0
    data = Empirical(np.stack((rng.uniform(-1, 1, 7), np.zeros(7)), -1))
    for t_max, t, tau in ((1.0, 0.01, 0.02), (0.1, 0.03, 0.2), (5.0, 1e-3, 1e-3)):
        delayed = TimeShifted(data, tau)

        def slope(u: float, delayed: TimeShifted = delayed) -> float:
            return -float(delayed.score([[0.3, 1.0]], u)[0, 1])

        # In e = log u.
        solved = integrate.solve_ivp(
            lambda e, v, slope=slope: math.exp(e) * (2 * v * slope(math.exp(e)) - 1),
            (math.log(t_max), math.log(t)),
            [t_max],
            rtol=1e-8,
            atol=1e-12,
            method="DOP853",
        )
        worst = max(worst, agree(f"variance, T = {t_max}, t = {t}, delay {tau}", predict(t_max, t, tau), solved.y[0, -1], 1e-5 * (t + tau)))
    return {"worst error/allowance": worst}


# --- The denoiser in time -------------------------------------------------------------------------------------------------

claim(
    "kernel.denoiser_in_time",
    title="Averaging denoisers over noise levels does not leak, but sharpens",
    statement=r"""Average the *denoiser* over delays and keep the stiffness: $\big(\mathbb E_\rho\,m_{t+\tau}(x) - x\big)/t$. Across a flat
manifold it is exactly $-n/t$. For a normal law $\mathcal N(0, v)$ along it the density with this score has the variance

$$\frac{t}{\mathbb E_\rho\frac{t+\tau}{v+t+\tau}}$$

for $v + t$: too small by about $\frac t{t + \mathbb E\tau}$ if $v$ is large, however many the data. With one delay it is the tempered
score with temperature $T = (t+\tau)/t$. A kernel in space has neither defect.""",
    source="derived here",
    regime=r"""Normal law; across: every data set on an affine subspace.""",
    uses=("temperature.identity", "temperature.sharpened", "mollified.linear_manifold"),
    chapter=CHAPTER,
    verdict="holds",
)


def _slope_of_the_mean(v: float, t: float, tau: np.ndarray, w: np.ndarray) -> float:
    """Minus the slope of the averaged score of N(0, v), from posterior means by sums over a grid."""
    grid, total = np.linspace(-12, 12, 4001) * math.sqrt(v), 0.0
    for delay, weight in zip(tau, w, strict=True):
        likelihood = np.exp(-((0.7 * math.sqrt(v) - grid) ** 2) / (2 * (t + delay)) - grid**2 / (2 * v))
        total += weight * float(likelihood @ grid / likelihood.sum())
    return (0.7 * math.sqrt(v) - total) / (0.7 * math.sqrt(v)) / t


@check(
    "kernel.denoiser_in_time",
    by="quadrature",
    mutants={
        "the right variance": instead(lambda v, t, tau, w: v + t),
        "mean delay": instead(lambda v, t, tau, w: t * (v + t + np.dot(w, tau)) / (t + np.dot(w, tau))),
        "stiffness delayed as well": instead(lambda v, t, tau, w: 1 / np.dot(w, 1 / (v + t + np.asarray(tau)))),
        "one per mille": returns(lambda value, *_: 1.001 * value),
    },
)
def posterior_means_of_a_normal_law(predict: Any = space_time.denoiser_variance, *, generator: torch.Generator) -> Numbers:
    """Random variances, noise levels and delays; the score's slope from sums over a grid, and the variance is its inverse."""
    rng, worst = numpy_generator(generator), 0.0
    for count in (1, 2, 5, 8):
        v, t = 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-1, 1)
        tau, w = t * rng.uniform(0, 4, count), rng.uniform(0.1, 1, count)
        w /= w.sum()
        exact = 1 / _slope_of_the_mean(v, t, tau, w)
        worst = max(worst, agree(f"variance with {count} delays", predict(v, t, tau, w), exact, 1e-9 * exact))
    agree("across", predict(0.0, 0.3, [0.2, 1.0], [0.5, 0.5]), 0.3, 4 * EPSILON)
    return {"worst error/allowance": worst}
