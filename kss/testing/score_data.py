r"""Checks of a score against data: Tweedie's identity, and the bandwidth that explains its distance to the empirical score.

With `X = X_0 + sqrt(t) Z`, the score of the law of X is `s(x) = -E[Z | X = x]/sqrt(t)`, and no other field has

    E[(sqrt(t) s(X) + Z) . phi(X)] = 0        for all bounded phi.

The test takes `phi = f(X) e` with unit vectors e and `|f| <= 1`, so the variable is `xi = f(X) (Z_e - E[Z_e | X])` if s is right.
Whatever the law, `E xi^2 <= 1`, `E |xi|^p <= 2^p E|Z_e|^p` (conditional Jensen), and `E|xi|^3 <= (E xi^2 E xi^4)^(1/2) <= 48^(1/2)`:
Bernstein's moment condition with v = 1 and b = (16/3)^(1/2). So, for n independent draws and at every n,

    P(|mean xi| >= e) <= 2 exp(-n e^2/(2 (1 + b e)))

(Boucheron, Lugosi and Massart, Concentration Inequalities, 2013, corollary 2.11; two-sided).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kss.diagnostics.bandwidth import ScoreFamily
from kss.distributions import Empirical
from kss.testing.score_probe import ROWS, Probe, root_mean_square
from kss.testing.score_report import ScoreResult

BERNSTEIN = math.sqrt(16 / 3)
"""The number b above."""
BETA = 1e-3
"""One minus the power that `detects` is stated for."""
FEWEST = 100
"""Held-out points needed for the studentized test."""
EVALUATIONS = 48
"""Points at which the bandwidth is estimated."""
PAIRS = 2**21
"""Distances to data points in one average over the kernel, about: this sets the number of its nodes."""
NODES = (128, 512)
"""At least and at most so many."""
PER_DECADE = 4
"""Bandwidths in a factor of ten at which these averages are computed; between them they are interpolated."""


class Family(NamedTuple):
    """`phi = f(X) e`: constants, hyperbolic tangents of coordinates, and of the score itself, along a few unit vectors."""

    axes: Float[Tensor, "m d"]
    center: Float[Tensor, " d"]
    width: float

    @property
    def names(self) -> list[str]:
        """One name for each function, in the order of `products`."""
        m = len(self.axes)
        per_axis = ["constant", *(f"tanh of coordinate {j}" for j in range(m)), "tanh of the score"]
        return [f"{name}, direction {i}" for i in range(m) for name in per_axis] + ["tanh of the score, all coordinates"]

    def products(self, x: Float[Tensor, "n d"], scaled: Float[Tensor, "n d"], noise: Float[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """`(sqrt(t) s + Z) . phi` for every phi; `scaled` is `sqrt(t) s`."""
        along = (scaled + noise) @ self.axes.T
        shared = torch.tanh((x - self.center) @ self.axes.T / self.width)
        own = torch.tanh(2 * scaled @ self.axes.T)
        parts = [along[:, [i]] * torch.cat((torch.ones_like(own[:, :1]), shared, own[:, [i]]), -1) for i in range(len(self.axes))]
        everywhere = ((scaled + noise) * torch.tanh(2 * scaled)).mean(-1, keepdim=True)
        return torch.cat((*parts, everywhere), -1)


def functions_for(probe: Probe, center: Float[Tensor, " d"], width: float, generator: torch.Generator) -> Family:
    """Along the coordinates for d <= 4, else along four random directions, so that none is special."""
    if probe.dim <= 4:
        axes = torch.eye(probe.dim, dtype=torch.float64, device=probe.device)
    else:
        axes = torch.linalg.qr(probe.normal((probe.dim, 4), generator))[0].T
    return Family(axes, center, width)


def tweedie(
    probe: Probe, data: Float[Tensor, "N d"], times: list[float], draws: int, alpha: float, generator: torch.Generator
) -> ScoreResult:
    """Is it the score of the diffused data? Exact null hypothesis: `s = s_t^N`, the empirical score. Fresh draws, Bernstein's bound."""
    width, center = root_mean_square(data - data.mean(0)) / math.sqrt(probe.dim), data.mean(0)
    deviations, function, count = {}, {}, 0
    for t in times:
        family = functions_for(probe, center, math.sqrt(width**2 + t), generator)
        total, left = torch.zeros(len(family.names), dtype=torch.float64, device=probe.device), draws
        while left > 0:
            rows = min(left, ROWS)
            which = torch.randint(len(data), (rows,), generator=generator, device=generator.device).to(probe.device)
            noise = probe.normal((rows, probe.dim), generator)
            x = data[which] + math.sqrt(t) * noise
            total, left = total + family.products(x, math.sqrt(t) * probe.many(x, t), noise).sum(0), left - rows
        mean = (total / draws).abs()
        deviations[t], function[t], count = float(mean.max()), family.names[int(mean.argmax())], count + len(mean)
    level = math.log(2 * count / alpha)
    tolerance = _bernstein(level, draws)
    detects = tolerance + _bernstein(math.log(2 / BETA), draws) + math.sqrt(2 * math.log(2 / BETA) / draws)
    worst = max(deviations, key=lambda t: deviations[t])
    return ScoreResult(
        "tweedie",
        "Is E[(sqrt(t) s(X) + Z) . phi(X)] = 0 for X = x_i + sqrt(t) Z, as for the score of the diffused data and no other field?",
        "passed" if deviations[worst] <= tolerance else "failed",
        f"|E (sqrt(t) s + Z) . phi| is {deviations[worst]:.2g} at t = {worst:g} (phi: {function[worst]})",
        measured=deviations[worst],
        tolerance=tolerance,
        basis=f"Bernstein's bound at {draws} draws for {count} pairs of phi and t: a right score fails with probability at most {alpha:g}",
        power=(
            f"with probability {1 - BETA:g}, an error with |E sqrt(t) (s - s*) . phi| >= {detects:.2g} for one of the phi, "
            "if it is nowhere larger than the noise of X; errors that no phi sees are not found"
        ),
        by_time=deviations,
    )


def held_out(
    probe: Probe, data: Float[Tensor, "N d"], times: list[float], draws: int, alpha: float, generator: torch.Generator
) -> ScoreResult:
    """The same against data that the score has not seen: is it the score of the law they come from?

    Now the data points are the sample, and what is averaged over noise for each of them is one observation. The test compares
    `|sum xi|/(sum xi^2)^(1/2)` with `(2 log(2K/alpha))^(1/2)`.
    """
    name, title = "held_out", "The same identity for data that the score has not seen, drawn from the law it should belong to."
    if len(data) < FEWEST:
        return ScoreResult(name, title, "not run", f"{len(data)} held-out points; the test needs {FEWEST}")
    repeats = max(1, draws // len(data))
    ratios, errors, function, count = {}, {}, {}, 0
    for t in times:
        family = functions_for(probe, torch.zeros_like(data[0]), math.sqrt(1 + t), generator)
        sums = torch.zeros((len(data), len(family.names)), dtype=torch.float64, device=probe.device)
        for _ in range(repeats):
            noise = probe.normal(data.shape, generator)
            x = data + math.sqrt(t) * noise
            sums = sums + family.products(x, math.sqrt(t) * probe.many(x, t), noise) / repeats
        root = sums.square().sum(0).sqrt()
        ratio = sums.sum(0).abs() / (root + 1e-300)
        ratios[t], function[t], count = float(ratio.max()), family.names[int(ratio.argmax())], count + len(ratio)
        errors[t] = float((root / len(data)).max())
    tolerance = math.sqrt(2 * math.log(2 * count / alpha))
    worst = max(ratios, key=lambda t: ratios[t])
    return ScoreResult(
        name,
        title,
        "passed" if ratios[worst] <= tolerance else "failed",
        f"|sum xi|/(sum xi^2)^(1/2) is {ratios[worst]:.3g} at t = {worst:g} (phi: {function[worst]}; {len(data)} points)",
        measured=ratios[worst],
        tolerance=tolerance,
        basis=(
            f"Hoeffding's bound for self-normalized sums and {count} pairs of phi and t: a right score fails with probability at most "
            f"{alpha:g}, exactly so where xi has a symmetric law, and otherwise for many points"
        ),
        power=(
            f"an error with |E sqrt(t) (s - s*) . phi| above about {(tolerance + 3.1) * max(errors.values()):.2g}, with probability "
            f"{1 - BETA:g} (normal approximation)"
        ),
        by_time=ratios,
    )


def _bernstein(level: float, n: int) -> float:
    """The e at which `n e^2/(2 (1 + b e)) = level`."""
    slope = BERNSTEIN * level
    return (slope + math.sqrt(slope**2 + 2 * n * level)) / n


def bandwidth(
    probe: Probe, data: Float[Tensor, "N d"], times: list[float], points: Float[Tensor, "n d"] | None, generator: torch.Generator
) -> ScoreResult:
    """Which mollified empirical score is nearest? The h that minimizes the mean of `|s(x) - (G_h * s_t^N)(x)|^2` over draws of p_t^N.

    See `kss.diagnostics.bandwidth`. The interval is a bootstrap over the points, for the data as they are.
    """
    law, plain = Empirical(data), _plain_score(data)
    spread = root_mean_square(data - data.mean(0)) ** 2 / probe.dim
    nodes = min(max(PAIRS // (EVALUATIONS * len(data)), NODES[0]), NODES[1])
    best, low, high, explained, lines = {}, {}, {}, {}, []
    for t in times:
        x = law.diffuse(EVALUATIONS, t, generator)
        x = x if points is None else torch.cat((x, points))
        value = probe.many(x, t)

        table = ScoreFamily(plain, t, x, largest=max(10 * t, spread), per_decade=PER_DECADE, accuracy=1e-2, most_nodes=nodes)
        found = table.closest(_known(value), generator=generator)
        best[t], (low[t], high[t]), explained[t] = found.h, found.interval, found.explained
        if found.distance <= 1e-5:
            best[t], low[t], high[t], explained[t] = 0.0, 0.0, 0.0, math.nan
            lines.append(f"t = {t:g}: it is the empirical score of the data itself (distance {found.distance:.1g})")
            continue
        far = f"the distance to the empirical score is {found.distance:.2g} of that score's size"
        if best[t] == 0:
            lines.append(f"t = {t:g}: h = 0, 95 % interval 0 to {high[t]:.3g}: smoothing brings it no nearer; {far}")
            continue
        edge = " (the largest tried)" if found.end == "largest" else ""
        lines.append(
            f"t = {t:g}: h = {best[t]:.3g}{edge}, 95 % interval {low[t]:.3g} to {high[t]:.3g}; "
            f"explains {100 * explained[t]:.0f} % of the squared distance; {far}"
        )
    return ScoreResult(
        "bandwidth",
        "Which G_h * s_t^N, the empirical score averaged over a Gaussian of variance h, is nearest to this score?",
        "reported",
        "\n".join(lines),
        basis=f"{EVALUATIONS} draws of the diffused data{'' if points is None else ' and the points given'}; bootstrap over them",
        power="a description, not a test: a small distance to a mollified score does not say that the score was made by mollification",
        by_time=best,
        details={"low": low, "high": high, "explained": explained},
    )


def _known(value: Float[Tensor, "n d"]) -> Callable[[Tensor, Any], Tensor]:
    """A score whose values at the points in question are known already."""
    return lambda x, t: value


def _plain_score(data: Float[Tensor, "N d"]) -> Callable[[Tensor, Any], Tensor]:
    """The empirical score by one softmax: a few digits less than `Empirical`, which no comparison here can see, and faster."""
    center = data.mean(0)
    keys = data - center
    half = keys.square().sum(-1) / 2

    def score(x: Tensor, t: Any) -> Tensor:
        y, time = x - center, torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1, 1)
        return (torch.softmax((y @ keys.T - half) / time, -1) @ keys - y) / time

    return score
