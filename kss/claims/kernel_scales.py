"""Chapter "Which kernel?", the scales of the data: what the noise covariance forgets, and the best shape."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import integrate, optimize

from kss.claims.kernel_shape import CHAPTER, EPSILON, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory.kernels import shape

claim(
    "kernel.saturation",
    title="The noise covariance does not know how wide the data are",
    statement=r"""For $p_* = \mathcal N(\mu, \operatorname{diag}\lambda)$, at the mean,

$$\Sigma_t(\mu) = \Big(\prod_b \frac{\lambda_b + t}{\sqrt{t(2\lambda_b + t)}}\Big)\,
\operatorname{diag}\Big(\frac{\lambda_a t}{2\lambda_a + t}\Big),
\qquad
C_h = \operatorname{diag}\Big(\frac{\lambda_a h}{\lambda_a + h}\Big).$$

Every direction with $\lambda_a \gg t$ has the same noise. $\Sigma_t$ is a soft projector on the directions wider than $t/2$; the posterior
covariance at scale $h$ is the same with $h$ for $t/2$, up to the factor: what matters is at which scale one looks.""",
    source="derived here from {claim}`clt.reweighted_pca`",
    regime=r"""Normal laws, any $\lambda_a \ge 0$, $t, h > 0$; the first at the mean only (elsewhere a matrix of rank one is added).""",
    uses=("clt.reweighted_pca", "heat.tweedie_second"),
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "kernel.saturation",
    by="quadrature",
    mutants={
        "scale t for t/2": instead(lambda spread, t: np.prod((spread + t) / np.sqrt(t * (2 * spread + t))) * spread * t / (spread + t)),
        "factor forgotten": instead(lambda spread, t: np.asarray(spread) * t / (2 * np.asarray(spread) + t)),
        "one per mille": returns(lambda value, *_: 1.001 * value),
        "the widest for all": returns(lambda value, *_: torch.full_like(value, float(value.max()))),
    },
)
def noise_of_a_normal_law(predict: Any = shape.gaussian_noise, *, generator: torch.Generator) -> Numbers:
    """`E[G_t(X)^2 X_a^2]/p_t(0)^2` as a product of integrals on the line, each by quadrature."""
    worst, spread = 0.0, np.array([4.0, 1.0, 0.1, 0.01, 0.001])
    for t in (0.02, 0.5, 30.0):
        moments = []
        for v in spread:
            width = math.sqrt(v)
            both = [
                integrate.quad(
                    lambda x, n=n, v=v, t=t: (
                        x**n * math.exp(-(x**2) * (1 / t + 1 / (2 * v))) / (2 * math.pi * t * math.sqrt(2 * math.pi * v))
                    ),
                    -12 * width,
                    12 * width,
                    epsabs=0,
                    epsrel=1e-12,
                    points=[0.0, -math.sqrt(v * t / (2 * v + t)), math.sqrt(v * t / (2 * v + t))],
                )[0]
                for n in (0, 2)
            ]
            moments.append([b * (2 * math.pi * (v + t)) for b in both])
        zeroth, second = np.array(moments).T
        expected = np.prod(zeroth) * second / zeroth
        worst = max(worst, agree(f"noise, t = {t}", np.asarray(predict(spread, t)), expected, 1e-9 * expected))
    ratio = np.asarray(predict(spread, 0.02))
    return {
        "worst error/allowance": worst,
        "relative noise of variances 4, 1, .1, .01, .001 at t = .02": np.round(ratio / ratio[0], 3).tolist(),
    }


@check(
    "kernel.saturation",
    by="property",
    mutants={
        "scale h/2": instead(lambda spread, h: np.asarray(spread) * h / (2 * np.asarray(spread) + h)),
        "the kernel itself": instead(lambda spread, h: np.full(len(spread), h)),
        "one per mille": returns(lambda value, *_: 1.001 * value),
    },
)
def posterior_covariance_of_a_normal_law(predict: Any = shape.local_variances, *, generator: torch.Generator) -> Numbers:
    """Normal data and normal noise: the inverse of the sum of precisions; random variances over twelve decades, and 0."""
    rng, worst = numpy_generator(generator), 0.0
    for _ in range(20):
        spread, h = 10 ** rng.uniform(-6, 6, 6), 10 ** rng.uniform(-6, 6)
        expected = np.linalg.inv(np.diag(1 / spread) + np.eye(6) / h).diagonal()
        worst = max(worst, agree("variances", np.asarray(predict(spread, h)), expected, 64 * EPSILON * expected))
    agree("a direction without data", float(np.asarray(predict([0.0, 1.0], 0.3))[0]), 0.0, 0.0)
    return {"worst error/allowance": worst}


claim(
    "kernel.data_scale",
    title="The best shape is that of the data",
    statement=r"""Let $X = AY$ with $Y$ of rotation-invariant law, and measure errors $e$ of the score by $|A^\top e|^2$, as large as
they are for $Y$. To leading order the mean square error is

$$\mathbb E\Big|\tfrac12 A^\top(S : \nabla^2 s)\Big|^2
+ \frac{(4\pi)^{-k/2}}{2N\sqrt{\det S}}\operatorname{tr}(A^\top S^{-1}A)\,\mathbb E\,\tfrac1p ,$$

and for every $S$ the kernel $h\,AA^\top$ with $h = \operatorname{tr}(A^{-1}SA^{-\top})/k$ has an error that is no larger, in
either term; the second is strictly less unless $S = h\,AA^\top$.""",
    source="derived here",
    regime=r"""$k = d$, CLT regime, $t \ll h$, and $h$ small beside the scales of $Y$; means over a rotation-invariant weight for which both
are finite. Where one scale is below $\sqrt t$ the noise is not equivariant any more, and the law is nearly a manifold.""",
    uses=("variance.kernels", "mollified.expansion"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


@cache
def _third_derivatives() -> tuple[np.ndarray, np.ndarray]:
    """For a round mixture of two normal laws in the plane: `d_i d_j s_k` at nodes, and their weights ~ p^2."""
    import sympy

    x = sympy.symbols("x y", real=True)
    square = x[0] ** 2 + x[1] ** 2
    density = sympy.exp(-square / 2) / 2 + sympy.exp(-square / 8) / 8
    log = sympy.log(density)
    grid = np.stack(np.meshgrid(np.linspace(-9, 9, 121), np.linspace(-9, 9, 121)), -1).reshape(-1, 2)
    weight = sympy.lambdify(x, density, "numpy")(*grid.T) ** 2
    third = {}
    for n in range(4):
        third[n] = sympy.lambdify(x, sympy.diff(log, x[0], 3 - n, x[1], n) if 0 < n < 3 else sympy.diff(log, x[n // 3], 3), "numpy")(
            *grid.T
        )
    indices = np.indices((2, 2, 2)).sum(0)
    return np.stack([third[int(i)] for i in indices.reshape(-1)], -1).reshape(-1, 2, 2, 2), weight / weight.sum()


def _two_terms(H: np.ndarray, A: np.ndarray, N: float) -> tuple[float, float]:
    """Bias and variance of the statement; the mean of 1/p under p^2 is the area over `int p^2`, a constant: taken as 1."""
    third, weight = _third_derivatives()
    inverse = np.linalg.inv(A)
    inner = inverse @ H @ inverse.T  # the kernel as Y sees it: s_X(A y) = A^{-T} s_Y(y), and A^T takes that back
    bias = weight @ (np.einsum("ij,nijk->nk", inner, third) ** 2).sum(-1) / 4
    noise = abs(np.linalg.det(A)) * np.trace(A.T @ np.linalg.inv(H) @ A) / (8 * math.pi * N * math.sqrt(np.linalg.det(H)))
    return float(bias), float(noise)


def _root(square: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(square)
    return (vectors * np.sqrt(values)) @ vectors.T


@check(
    "kernel.data_scale",
    by="property",
    lane="full",
    mutants={
        "root of A A^T": instead(lambda A, size: size * _root(np.asarray(A) @ np.asarray(A).T)),
        "A^T A": instead(lambda A, size: size * np.asarray(A).T @ np.asarray(A)),
        "round": instead(lambda A, size: size * np.eye(2) * abs(np.linalg.det(np.asarray(A)))),
        "the inverse": instead(lambda A, size: size * np.linalg.inv(np.asarray(A) @ np.asarray(A).T)),
        "too large by 1 %": returns(lambda kernel, *_: 1.01 * kernel),
        "a little off": returns(lambda kernel, *_: kernel + 0.1 * kernel[0, 0] * torch.eye(2, dtype=torch.float64)),
    },
)
def no_other_shape_is_better(predict: Any = shape.data_scale_kernel, *, generator: torch.Generator) -> Numbers:
    """Random H and A: neither term grows when H is replaced by the kernel with its trace; and the best size of any other shape loses."""
    rng, gains = numpy_generator(generator), []
    for _ in range(12):
        A = rng.standard_normal((2, 2)) @ np.diag(10 ** rng.uniform(-1, 1, 2))
        root = rng.standard_normal((2, 2))
        for H in (A @ root @ root.T @ A.T, A @ A.T * 0.3):
            inverse = np.linalg.inv(A)
            trace = float(np.trace(inverse @ H @ inverse.T))
            ours = np.asarray(predict(A, trace / 2))
            before, after = _two_terms(H, A, 1e4), _two_terms(ours, A, 1e4)
            for name, old, new in zip(("bias", "noise"), before, after, strict=True):
                require(new <= old * (1 + 1e-9), f"{name} {new:.6g} of the data's shape, {old:.6g} of another")
            gains.append(before[1] / after[1])
        best = [
            optimize.minimize_scalar(
                lambda u, S=S, A=A: math.log(sum(_two_terms(math.exp(u) * S, A, 1e4))), bounds=(-12, 6), method="bounded"
            ).fun
            for S in (np.asarray(predict(A, 1.0)), np.eye(2) * abs(np.linalg.det(A)), A @ root @ root.T @ A.T)
        ]
        require(best[0] <= min(best[1:]) + 1e-6, f"log of the least errors {best}: another shape is better")
    return {"noise of another shape over that of the data's, at most": float(np.max(gains))}
