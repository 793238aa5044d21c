r"""Checks of anybody's score.

A field `s(x, t)` is the score `grad log p_t` of some law under noise of variance t only if it obeys equations that do not
mention the law: it is a gradient, its Jacobian is bounded below by `-I/t`, and it solves Burgers' equation. With data at hand there is
Tweedie's identity as well. `check_score` tries all of them on an object it knows nothing about, and says for each what was
measured, what would have been allowed and why, and what the check would have found.

    interface    score(x, t) can be called, and returns finite numbers of the right shape
    repeatable   two calls agree
    rows         the value at a point does not depend on the other points of the batch
    times        one time for all points, or one for each: the same
    gradient     the Jacobian is symmetric
    hessian      no eigenvalue of the Jacobian lies below -1/t
    burgers      d_t s = (1/2) Lap s + (grad s) s
    tweedie      it is the score of `data`, the points it was made from (statistics)
    held_out     it is the score of the law that `held_out` was drawn from (statistics)
    bandwidth    which mollified empirical score of `data` is nearest (a report, not a test)
"""

import math
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, Seed, as_count, as_generator, as_points, as_positive, as_probability, reject
from kss.scores.protocol import Score
from kss.testing import score_data, score_derivatives
from kss.testing.score_probe import FLOOR, REPEAT, SAFETY, Probe, Unusable
from kss.testing.score_report import ScoreReport, ScoreResult

NAMES = ("interface", "repeatable", "rows", "times", "gradient", "hessian", "burgers", "tweedie", "held_out", "bandwidth")
"""The checks, in the order in which they run."""
RELATIVE = ("rows", "times", "gradient", "hessian", "burgers")
"""Those that compare sizes, and allow for rounding."""
COARSE = 0.3
"""A relative tolerance beyond which passing means nothing."""
TIMES = (0.01, 0.1, 1.0)
ROUNDING = f"rounding: {SAFETY:g} times what moving x and t in the last place changes, and {FLOOR:g} units in the last place"


def check_score(
    score: Score,
    *,
    dim: int,
    times: Sequence[float] = TIMES,
    data: ArrayLike | None = None,
    held_out: ArrayLike | None = None,
    points: ArrayLike | None = None,
    count: int = 32,
    draws: int = 20_000,
    alpha: float = 1e-6,
    tolerances: Mapping[str, float] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    most_laplacian_dim: int = 256,
    generator: Seed = 0,
) -> ScoreReport:
    r"""Check that `score` can be the score of a diffused law on R^dim, and if data are given, of these.

    Arguments: `score`, an object with `score(x, t)` or a function of `x` (n, dim) and the noise **variance** t, a number or (n,);
    `times`, the variances t at which it is checked; `data` (N, dim), the points it was made from; `held_out` (M, dim), points of the same
    law that it has not seen; `points` (n, dim), where it is checked: by default `count` draws of the diffused data at each t, or
    without data of `N(0, (1 + t) I)`; `draws` for each statistical test, whose false alarms have probability `alpha` at most;
    `tolerances`, by name of a check, instead of rounding: a trained network obeys no equation to the last digit;
    `expected_failures`, by name, with the reason, which is what the report then says: if such a check passes, that counts as a failure;
    `most_laplacian_dim`, the dimension up to which Burgers' equation is tried; `generator`, for points, directions and draws.

    Returns a `ScoreReport`: `ok`, `results`, `exit_code`, `report["burgers"].measured`, and a table in a notebook. Only scores twice
    differentiable in x can pass the check of Burgers' equation; a network of ReLUs has no Laplacian to speak of.

    Sources of the equations: `kss.theory.heat`. `ValueError` for arguments that do not fit; what the score does wrong is in the report.

    >>> from kss.distributions import Gaussian
    >>> report = check_score(Gaussian([0.0, 1.0], 2.0), dim=2)
    >>> report.ok, report["times"].outcome, report["tweedie"].outcome
    (True, 'passed', 'not run')
    """
    dim, count, draws = as_count("dim", dim), as_count("count", count, minimum=2), as_count("draws", draws)
    moments = sorted({as_positive("times", t) for t in times})
    if not moments:
        raise reject("times", times, "at least one noise variance")
    alpha = as_probability("alpha", alpha)
    seen, unseen, given = (
        None if value is None else as_points(name, value, dim).double()
        for name, value in (("data", data), ("held_out", held_out), ("points", points))
    )
    widths, reasons = dict(tolerances or {}), dict(expected_failures or {})
    for name in widths:
        if name not in NAMES[1:7]:
            raise reject("tolerances", name, f"names of checks with a tolerance: {', '.join(NAMES[1:7])}")
        widths[name] = as_positive(f"tolerances[{name!r}]", widths[name])
    for name, reason in reasons.items():
        if name not in NAMES[:-1]:
            raise reject("expected_failures", name, f"names of checks that can fail: {', '.join(NAMES[:-1])}")
        if not isinstance(reason, str) or not reason.strip():
            raise reject(f"expected_failures[{name!r}]", reason, "a reason, in words")

    chance = as_generator(generator)
    device = next((value.device for value in (given, seen, unseen) if value is not None), torch.device("cpu"))
    probe = Probe(score, dim, device)
    where = {t: _points(probe, t, seen, given, count, chance) for t in moments}

    checks: dict[str, Callable[[], ScoreResult]] = {
        "interface": lambda: _interface(probe, where, chance, drawn=given is None),
        "repeatable": lambda: _repeatable(probe, where, chance),
        "rows": lambda: _rows(probe, where, chance),
        "times": lambda: _times(probe, where, chance),
        "gradient": lambda: score_derivatives.gradient_field(probe, where, chance),
        "hessian": lambda: score_derivatives.hessian_is_bounded(probe, where, chance),
        "burgers": lambda: score_derivatives.burgers(probe, where, chance, most_laplacian_dim),
    }
    if seen is not None:
        checks["tweedie"] = lambda: score_data.tweedie(probe, seen, moments, draws, alpha, chance)
        checks["bandwidth"] = lambda: score_data.bandwidth(probe, seen, moments, given, chance)
    if unseen is not None:
        checks["held_out"] = lambda: score_data.held_out(probe, unseen, moments, draws, alpha, chance)
    results: dict[str, ScoreResult] = {}
    for name in NAMES:
        started = clock.perf_counter()
        result = _judge(_run(name, checks.get(name), results), widths.get(name), reasons.get(name))
        results[name] = replace(result, seconds=clock.perf_counter() - started)
    called = type(score).__name__ if not hasattr(score, "__name__") else score.__name__
    size = len(next(iter(where.values())))
    at = ", ".join(f"{t:g}" for t in moments)
    return ScoreReport(f"{called} at {size} points of R^{dim}, t = {at}, in {probe.arithmetic}", tuple(results.values()))


def _points(probe: Probe, t: float, data: Tensor | None, given: Tensor | None, count: int, generator: torch.Generator) -> Tensor:
    """Points at which a score is checked: where the diffused law has mass, as far as that is known."""
    if given is not None:
        return given
    noise = probe.normal((count, probe.dim), generator)
    if data is None:
        return math.sqrt(1 + t) * noise
    which = torch.randint(len(data), (count,), generator=generator, device=generator.device).to(probe.device)
    return data[which] + math.sqrt(t) * noise


def _run(name: str, check: Callable[[], ScoreResult] | None, before: Mapping[str, ScoreResult]) -> ScoreResult:
    """A check, unless what it rests on failed; what the score raises on the way is a failure, not an error."""

    def failed(earlier: str) -> bool:
        return earlier in before and before[earlier].outcome in ("failed", "expected failure")

    if check is None:
        return ScoreResult(name, "", "not run", f"needs {'held_out' if name == 'held_out' else 'data'}")
    if failed("interface"):
        return ScoreResult(name, "", "not run", "the score could not be used: see interface")
    if name in ("rows", "times", "gradient", "hessian", "burgers") and failed("repeatable"):
        return ScoreResult(name, "", "not run", "two calls do not agree: see repeatable")
    if name in ("gradient", "hessian", "burgers") and failed("rows"):
        return ScoreResult(name, "", "not run", "the value at a point depends on other points: see rows")
    try:
        return check()
    except Unusable as finding:
        return ScoreResult(name, "", "failed", str(finding))


def _judge(result: ScoreResult, width: float | None, reason: str | None) -> ScoreResult:
    """The result by the caller's own tolerance, and with the caller's reason if it was expected to fail."""
    if width is not None and result.measured is not None:
        largest = max(result.by_time.values())
        result = replace(
            result,
            outcome="passed" if largest <= width else "failed",
            measured=largest,
            tolerance=width,
            basis="given by the caller",
            power=f"a measured number above {width:g} at one of the times",
        )
    elif result.outcome == "passed" and result.name in RELATIVE and (result.tolerance or 0) > COARSE:
        message = f"too noisy: its rounding alone changes the score so much that only a defect above {result.tolerance:.2g} would be seen"
        result = replace(result, outcome="not run", message=message)
    if reason is not None and result.outcome == "failed":
        return replace(result, outcome="expected failure", message=f"{result.message}\nexpected: {reason}")
    if reason is not None and result.outcome == "passed":
        return replace(result, outcome="unexpected pass", message=f"{result.message}\nit was expected to fail: {reason}")
    return result


def _interface(probe: Probe, where: score_derivatives.Points, generator: torch.Generator, *, drawn: bool) -> ScoreResult:
    title = "Can score(x, t) be called, and does it return finite numbers of the shape of x, not all of them 0?"
    t, x = next(iter(where.items()))
    probe.settle_dtype(x, t)
    largest = max(float(probe(x, t).detach().abs().max()) for t, x in where.items())
    if drawn and largest == 0:
        # A density is analytic for t > 0, so its score vanishes on a null set only; and 0 solves all equations below.
        return ScoreResult("interface", title, "failed", "it is 0 at every point: no law has this score (an untrained last layer?)")
    for t, x in where.items():
        probe.measure_rounding(x, t, generator)
    t, x = list(where.items())[len(where) // 2]
    probe.settle_derivatives(x, t, generator)
    said = [f"takes {str(probe.dtype).removeprefix('torch.')}, computes with the accuracy of {probe.arithmetic}"]
    said.append("differentiable by torch" if probe.by_autograd else "not differentiable by torch: difference quotients are used")
    return ScoreResult(
        "interface",
        title,
        "passed",
        "; ".join(said),
        power="an exception, a wrong shape or dtype, NaN or infinity at one of the points and times",
    )


def _agreement(
    probe: Probe, where: score_derivatives.Points, generator: torch.Generator, other: Callable[[Tensor, float], Tensor]
) -> tuple[dict[float, float], dict[float, float]]:
    """Largest relative difference between two ways to the same value, and what rounding allows, by time."""
    found, allowed = {}, {}
    for t, x in where.items():
        with torch.no_grad():
            value = probe(x, t)
            difference = (other(x, t) - value).norm(dim=-1)
            change = (probe(*probe.moved(x, t, generator)) - value).norm(dim=-1)
        size = value.norm(dim=-1) + math.sqrt(probe.dim / t)
        tolerance = (SAFETY * torch.maximum(change, change.median()) + FLOOR * probe.epsilon * size) / size
        row = int((difference / size - tolerance).argmax())
        found[t], allowed[t] = float((difference / size)[row]), float(tolerance[row])
    return found, allowed


def _same(
    name: str, title: str, what: str, power: str, found: dict[float, float], allowed: dict[float, float], basis: str = ROUNDING
) -> ScoreResult:
    worst = max(found, key=lambda t: found[t] - allowed[t])
    return ScoreResult(
        name,
        title,
        "passed" if all(found[t] <= allowed[t] for t in found) else "failed",
        f"{what} by {found[worst]:.2g} of |s| + sqrt(d/t) at t = {worst:g}",
        measured=found[worst],
        tolerance=allowed[worst],
        basis=basis,
        power=power.format(allowed[worst]),
        by_time=found,
    )


def _repeatable(probe: Probe, where: score_derivatives.Points, generator: torch.Generator) -> ScoreResult:
    found, _ = _agreement(probe, where, generator, probe)
    return _same(
        "repeatable",
        "Do two calls with the same arguments agree?",
        "two calls differ",
        "chance or memory in the score (dropout, a network in training mode) that changes it by {:.2g} or more from one call to the next",
        found,
        dict.fromkeys(found, REPEAT),
        basis=f"{FLOOR:g} units in the last place of float32: parallel sums whose order is not fixed may differ by that",
    )


def _rows(probe: Probe, where: score_derivatives.Points, generator: torch.Generator) -> ScoreResult:
    def in_parts(x: Float[Tensor, "n d"], t: float) -> Float[Tensor, "n d"]:
        # One point alone, and the others in reverse.
        return torch.cat((probe(x[:1], t), probe(x[1:].flip(0), t).flip(0)))

    found, allowed = _agreement(probe, where, generator, in_parts)
    return _same(
        "rows",
        "Is the value at a point the same whatever other points are in the batch?",
        "the same points in other batches differ",
        "a value that depends on the rest of the batch (batch normalization in training mode) by {:.2g} or more",
        found,
        allowed,
    )


def _times(probe: Probe, where: score_derivatives.Points, generator: torch.Generator) -> ScoreResult:
    title = "Does one time for each point give the same as one time for all?"
    try:
        found, allowed = _agreement(probe, where, generator, lambda x, t: probe(x, torch.full_like(x[:, 0], t)))
        # Different times in one batch, against each time by itself.
        t, other = min(where), max(where)
        x = where[t]
        mixed = torch.full_like(x[:, 0], t)
        mixed[1::2] = other
        with torch.no_grad():
            expected = torch.where((mixed == t).unsqueeze(-1), probe(x, t), probe(x, other))
            difference = (probe(x, mixed) - expected).norm(dim=-1) / (expected.norm(dim=-1) + math.sqrt(probe.dim / other))
        allowed[t] = max(allowed.values())
        found[t] = max(found[t], float(difference.max()))
    except Unusable as finding:
        return ScoreResult("times", title, "not run", f"one time for each point is not accepted, which only batches need: {finding}")
    rounded = all(allowed[t] < difference < 1e-6 for t, difference in found.items())
    return _same(
        "times",
        title,
        f"times given for each point{' (does a number t become float32 on the way?)' if rounded and probe.arithmetic == 'float64' else ''} "
        "change the value",
        "a value that depends by {:.2g} or more on whether t is a number or one of several",
        found,
        allowed,
    )
