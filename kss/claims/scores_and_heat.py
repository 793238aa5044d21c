"""Chapter "Scores and heat": Tweedie, the heat flow, Burgers, reversal (theory of every law, at fixed t > 0)."""

from typing import Any

import torch

from kss.claims.registry import CheckFailed, check, claim, instead, returns
from kss.theory import heat

CHAPTER = "scores_and_heat"

claim(
    "heat.tweedie",
    title="The score is the displacement to the posterior mean, divided by t",
    statement=r"$\nabla\log p_t(x) = \dfrac{m_t(x) - x}{t}$ with $m_t(x) = \mathbb E[X_0 \mid X_t = x]$.",
    source="Robbins 1956; Efron 2011; this project's theory sheet, 1.1",
    regime=r"Every law $p_*$ on $\mathbb R^d$, every $x$ and every $t > 0$; no moment is needed.",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "heat.tweedie",
    by="proof",
    mutants={
        "sign": returns(lambda score, *_: -score),
        "standard deviation for variance": instead(lambda mean, x, t: (mean - x) / t**0.5),
    },
)
def differentiating_under_the_integral(predict: Any = heat.score_from_mean, *, generator: torch.Generator) -> dict[str, Any]:
    """The kernel obeys `d/dx_i G = ((y_i - x_i)/t) G`; the rest is linear in p_*."""
    import sympy

    x, y = sympy.symbols("x y", real=True)
    t, mass = sympy.symbols("t p", positive=True)
    mean = sympy.Symbol("m", real=True)
    kernel = sympy.exp(-((x - y) ** 2) / (2 * t))
    slope = sympy.expand(sympy.simplify(sympy.diff(kernel, x) / kernel))
    # Integrated against p_*: 1 becomes p_t(x) and y becomes m_t(x) p_t(x).
    gradient = slope.coeff(y, 0) * mass + slope.coeff(y, 1) * mean * mass
    remainder = sympy.simplify(gradient / mass - predict(mean, x, t))
    if remainder != 0:
        raise CheckFailed(f"grad p/p - prediction = {remainder}")
    return {"remainder": remainder}
