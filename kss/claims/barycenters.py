"""Chapter "Interpolation and geometry", third part: smoothing with a few displacements."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch

from kss.claims.interpolation import CHAPTER, EPSILON, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.distributions import Empirical
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import barycenters

SCARVELIS = "Scarvelis, Borde and Solomon, arXiv 2310.12395"


def _nearest(data: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The number of the nearest data point to each of x (..., d), by squared distances."""
    return np.argmin(((x[..., None, :] - data) ** 2).sum(-1), -1)


def _target(data: np.ndarray, x: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Where the flow at x (n, d) is heading."""
    return data[_nearest(data, x[:, None] + draws)].mean(1) - draws.mean(0)


def _energy(data: np.ndarray, x: np.ndarray, draws: np.ndarray) -> np.ndarray:
    moved = x[:, None] + draws
    return ((moved[..., None, :] - data) ** 2).sum(-1).min(-1).mean(-1) / 2


@cache
def _brute_force(key: tuple[bytes, bytes, int]) -> np.ndarray:
    """Every barycenter of M data, one for each multiset, less the mean displacement, that is where it itself sends the flow."""
    d = key[2]
    data, draws = (np.frombuffer(part).reshape(-1, d) for part in key[:2])
    multisets = np.array(list(itertools.combinations_with_replacement(range(len(data)), len(draws))))
    places = data[multisets].mean(1) - draws.mean(0)
    kept = np.abs(_target(data, places, draws) - places).max(-1) < 1e-12 * (1 + np.abs(places).max())
    return places[kept]


def _rests(data: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return _brute_force((data.tobytes(), draws.tobytes(), data.shape[1]))


def _apart(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The distance from each place to the nearest of the others."""
    return np.sqrt(((places[:, None] - others) ** 2).sum(-1)).min(-1)


claim(
    "interpolation.barycenters",
    title="Smoothing with M fixed draws: the flow ends in barycenters of M-tuples",
    statement=r"""Average the empirical score over fixed displacements $\xi_1, \dots, \xi_M$ with mean $\bar\xi$. As $t \to 0$,
$t\,\tilde s_t(x) \to F(x) - x$ with $F(x) = \frac1M\sum_m x_{\mathrm{nn}}(x + \xi_m) - \bar\xi$, constant on the cells of $M$ overlaid,
displaced Voronoi diagrams. The points with $F(b) = b$ inside a cell are

- at most $\binom{N + M - 1}{M}$: each is the barycenter of another multiset of $M$ data, less $\bar\xi$;
- attractive: with $\rho$ the distance from $b$ to the rim of its cell and $|x_t - b| \le \rho/2$, $x_s - b = (x_t - b)\sqrt{s/t}$, for
the exact score up to $\epsilon = (N - 1)\,\mathrm{diam}\;e^{-\rho\delta/2t}$, if $\epsilon \le \rho/2$ ($\delta$ is the least distance
between two data);
- the local minima of $U(x) = \frac1{2M}\sum_m \mathrm{dist}^2(x + \xi_m, \text{data})$.""",
    source=f"{SCARVELIS} (the barycenters, as reported); the rest derived here",
    regime=r"""Finitely many distinct data, fixed displacements, equal weights; probability flow, $0 < s \le t$. Which barycenters are
points of rest depends on data and displacements: most tuples' barycenters are not.""",
    uses=("empirical.collapse", "heat.reversal_ode"),
    chapter=CHAPTER,
    verdict="holds in regime",
)


def _configurations(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (rng.standard_normal((n, d)), spread * rng.standard_normal((m, d)) + shift)
        for d, n, m, spread, shift in (
            (1, 5, 3, 0.5, 0.0),
            (1, 4, 4, 1.0, 0.3),
            (2, 6, 2, 0.5, 0.2),
            (2, 3, 4, 1.0, 0.0),
            (2, 8, 3, 0.2, -0.4),
            (3, 5, 3, 0.8, 0.1),
            (5, 7, 2, 1.0, 0.0),
        )
    ]


def _all_barycenters(data: Any, draws: Any) -> barycenters.RestPoints:
    found = barycenters.rest_points(data, draws)
    tuples = torch.tensor(list(itertools.combinations_with_replacement(range(len(data)), len(draws))))
    every = torch.as_tensor(data)[tuples].mean(-2) - torch.as_tensor(draws).mean(0)
    return found._replace(x=every, data=tuples)


@check(
    "interpolation.barycenters",
    by="property",
    mutants={
        "all barycenters": instead(_all_barycenters),
        "data only": instead(
            lambda data, draws: barycenters.rest_points(data, draws)._replace(
                x=torch.as_tensor(data), data=torch.arange(len(data))[:, None]
            )
        ),
        "mean displacement forgotten": returns(lambda rests, data, draws: rests._replace(x=rests.x + torch.as_tensor(draws).mean(0))),
        "draws centered": instead(lambda data, draws: barycenters.rest_points(data, draws - draws.mean(0))),
        "one missing": returns(lambda rests, *_: rests._replace(x=rests.x[1:], data=rests.data[1:])),
        "margins doubled": returns(lambda rests, *_: rests._replace(margin=2 * rests.margin)),
        "margins halved": returns(lambda rests, *_: rests._replace(margin=rests.margin / 2)),
    },
)
def rest_points_by_brute_force(predict: Any = barycenters.rest_points, *, generator: torch.Generator) -> Numbers:
    """Seven configurations, d = 1, 2, 3, 5: the same set as from all multisets; within the margin F does not change, a little beyond it
    does; U is larger all around.
    """
    rng, total, tried = numpy_generator(generator), 0, 0
    for data, draws in _configurations(rng):
        d = data.shape[1]
        expected, got = _rests(data, draws), predict(data, draws)
        found = got.x.numpy()
        require(len(found) == len(expected), f"{len(found)} rest points, expected {len(expected)} (N = {len(data)}, M = {len(draws)})")
        agree("distance between the two sets", max(_apart(found, expected).max(), _apart(expected, found).max()), 0.0, 1e-12)
        agree("barycenters of their data", data[got.data.numpy()].mean(1) - draws.mean(0), found, 1e-12)
        directions = rng.standard_normal((400, d))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        for place, margin in zip(found, got.margin.numpy(), strict=True):
            inside = place + 0.999 * margin * directions * rng.uniform(0, 1, (400, 1)) ** (1 / d)
            require(bool((np.abs(_target(data, inside, draws) - place) < 1e-12).all()), f"F is not constant within the margin {margin}")
            higher = _energy(data, inside, draws) - _energy(data, place[None], draws)
            agree("U - U(b) - |x - b|^2/2", higher, ((inside - place) ** 2).sum(-1) / 2, 1e-12)
        # The first wall is at a right angle to the line through two data.
        normals = np.array([(p - q) / np.linalg.norm(p - q) for p, q in itertools.permutations(data, 2)])
        for place, margin in zip(found, got.margin.numpy(), strict=True):
            beyond = place + 1.001 * margin * normals
            require(bool((np.abs(_target(data, beyond, draws) - place) > 1e-9).any()), f"no wall at the margin {margin}")
        total, tried = total + len(found), tried + math.comb(len(data) + len(draws) - 1, len(draws))
    return {"rest points": total, "multisets": tried}


@check(
    "interpolation.barycenters",
    by="property",
    mutants={
        "mean displacement forgotten": instead(
            lambda data, x, draws: barycenters.barycenter(data, x, draws) + torch.as_tensor(draws).mean(0)
        ),
        "nearest to x": instead(lambda data, x, draws: barycenters.barycenter(data, x, 0 * draws) - torch.as_tensor(draws).mean(0)),
        "one draw": instead(lambda data, x, draws: barycenters.barycenter(data, x, draws[:1])),
        "off by 1e-9": returns(lambda place, *_: place + 1e-9),
    },
)
def targets(predict: Any = barycenters.barycenter, *, generator: torch.Generator) -> Numbers:
    """F at 300 places in each configuration; and it never turns back: `<F(y) - F(x), y - x> >= 0`, so that it jumps away from walls."""
    rng, worst = numpy_generator(generator), 0.0
    for data, draws in _configurations(rng):
        x = rng.standard_normal((300, data.shape[1]))
        got = np.asarray(predict(data, x, draws))
        worst = max(worst, agree("F", got, _target(data, x, draws), 1e-13 * (1 + np.abs(got).max())))
        turn = ((got[1:] - got[:-1]) * (x[1:] - x[:-1])).sum(-1)
        require(bool((turn >= -1e-12).all()), f"F turns back: {turn.min()}")
    return {"worst error/allowance": worst}


@check(
    "interpolation.barycenters",
    by="quadrature",
    lane="full",
    mutants={
        "draws centered": instead(lambda law, x, t, draws: barycenters.drawn_score(law, x, t, draws - draws.mean(0))),
        "draws are variances": instead(lambda law, x, t, draws: barycenters.drawn_score(law, x, t, np.sign(draws) * draws**2)),
        "denoiser for score": instead(lambda law, x, t, draws: barycenters.drawn_score(law, x, t, draws).numpy() + draws.mean(0) / t),
        "half": returns(lambda score, *_: score / 2),
        "off by 1e-7": returns(lambda score, *_: score * (1 + 1e-7)),
    },
)
def exact_flow_near_a_rest_point(predict: Any = barycenters.drawn_score, *, generator: torch.Generator) -> Numbers:
    """The flow of the exact smoothed score from half the margin, towards the nearest wall, in steps that are exact for a constant F,
    against `b + (x - b) sqrt(s/t)`; at noise variances where epsilon is 1e-13 and where it is 1e-3 of (N - 1) diam.

    In the ball of half the margin the gap is at least the margin times the least distance of two data. Each step adds what F errs by, and
    the sum over all steps of the weights is below 1. Rounding: 1e-15 of the size, in each of 16 steps, times 1/t of the score times t.
    """
    # Two data, one draw: at the start F errs by epsilon/(1 + exp(-rho delta/2t)), so that the exponent cannot be larger.
    configurations = [*_configurations(numpy_generator(generator)), (np.array([[-0.7], [1.1]]), np.array([[0.4]]))]
    worst, count, rest = 0.0, 0, 0.0
    for data, draws in configurations:
        law, found = Empirical(data), barycenters.rest_points(data, draws)
        pairs = np.array([p - q for p, q in itertools.permutations(data, 2)])
        lengths = np.linalg.norm(pairs, axis=-1)
        size = np.abs(data).max() + np.abs(draws).max()
        for (place, margin), exponent in itertools.product(zip(found.x.numpy(), found.margin.numpy(), strict=True), (30.0, 7.0)):
            t, most = margin * lengths.min() / (2 * exponent), (len(data) - 1) * lengths.max()
            if most * math.exp(-exponent) > margin / 2:
                continue
            normals = pairs / lengths[:, None]
            (wall,) = np.nonzero((np.abs(_target(data, place + 1.001 * margin * normals, draws) - place) > 1e-9).any(-1))
            start = place + 0.5 * margin * normals[wall[0]]
            x, times = start[None], t * np.geomspace(1, 1e-4, 17)
            error = np.abs(np.asarray(predict(law, x, t, draws)) * t + x - place).max()
            for now, after in itertools.pairwise(times):
                target = x + now * np.asarray(predict(law, x, now, draws))
                x = target + (x - target) * math.sqrt(after / now)
            expected, allowed = place + (start - place) * 1e-2, most * math.exp(-exponent) + 16 * 8 * EPSILON * size
            worst, count = max(worst, agree(f"N = {len(data)}, M = {len(draws)}, b = {place}", x[0], expected, allowed)), count + 1
            require(error <= allowed, f"F errs by {error}, allowed {allowed}")
            rest = max(rest, error / allowed)
    require(rest > 0.9, f"F errs by {rest} of epsilon at most")
    return {"paths": count, "error of F/epsilon, most": rest, "worst error/allowance": worst}


claim(
    "interpolation.walls",
    title="Walls between cells are no place to stay",
    statement=r"""Where a path of the limit field meets a single wall between two cells it crosses it: $F$ jumps *across the wall, away
from it*. So a point of rest on a wall is unstable, and from almost every start the flow ends at a barycenter inside a cell. Limits that
are no barycenters of $M$-tuples exist: midway between two data, with $M = 1$ and $\xi_1 = 0$, the exact flow stays for ever; but from
next to it the flow departs.""",
    source="derived here",
    regime=r"""Limit field as in {claim}`interpolation.barycenters`; no barycenter of a tuple lies on the rim of its own cell (true for
almost all displacements). "Almost every": up to starts whose path meets two walls at once.""",
    uses=("interpolation.barycenters",),
    chapter=CHAPTER,
    verdict="holds in regime",
)


def _nearest_rest(data: Any, x: Any, draws: Any) -> barycenters.EndPoints:
    found = barycenters.rest_points(data, draws).x
    nearest = torch.cdist(torch.as_tensor(x), found).argmin(-1)
    return barycenters.end_points(data, x, draws)._replace(x=found[nearest])


def _one_step(data: Any, x: Any, draws: Any) -> barycenters.EndPoints:
    return barycenters.end_points(data, x, draws)._replace(x=barycenters.barycenter(data, x, draws))


@check(
    "interpolation.walls",
    by="property",
    mutants={
        "nearest rest point": instead(_nearest_rest),
        "one step": instead(_one_step),
        "nearest data": instead(lambda data, x, draws: barycenters.end_points(data, x, draws[:1])),
        "off by 1e-9": returns(lambda ends, *_: ends._replace(x=ends.x + 1e-9)),
    },
)
def paths_on_the_line(predict: Any = barycenters.end_points, *, generator: torch.Generator) -> Numbers:
    """On the line paths cannot overtake: each ends at the next rest point on the side to which F sends it."""
    rng, worst, count, crossings = numpy_generator(generator), 0.0, 0, 0
    for n, m, spread in ((2, 3, 1.0), (5, 2, 0.7), (5, 4, 0.5), (8, 3, 1.5), (6, 5, 0.4)):
        data, draws = rng.standard_normal((n, 1)), spread * rng.standard_normal((m, 1))
        x = rng.uniform(-3, 3, (300, 1))
        rests, ahead = np.sort(_rests(data, draws)[:, 0]), _target(data, x, draws)[:, 0] > x[:, 0]
        above = np.searchsorted(rests, x[:, 0])
        expected = rests[np.clip(np.where(ahead, above, above - 1), 0, len(rests) - 1)]
        ends = predict(data, x, draws)
        worst = max(worst, agree(f"N = {n}, M = {m}", ends.x[:, 0], expected, 1e-12))
        count, crossings = count + len(x), crossings + int(ends.crossings.sum())
    require(crossings > count / 4, f"{crossings} crossings of {count} paths")
    return {"paths": count, "crossings": crossings, "worst error/allowance": worst}


@check(
    "interpolation.walls",
    by="property",
    lane="full",
    mutants={
        "nearest rest point": instead(_nearest_rest),
        "one step": instead(_one_step),
        "stops at the first wall": instead(
            lambda data, x, draws: barycenters.end_points(data, x, draws)._replace(
                x=torch.as_tensor(x) + 0.01 * (barycenters.barycenter(data, x, draws) - torch.as_tensor(x))
            )
        ),
        "off by 1e-9": returns(lambda ends, *_: ends._replace(x=ends.x + 1e-9)),
    },
)
def paths_in_space(predict: Any = barycenters.end_points, *, generator: torch.Generator) -> Numbers:
    """In two, three and five dimensions every path ends where F = x, below where it started in U. Steps of 1 % towards F, with F looked
    up each time, end at the same place from every start that is *robust*: whose four neighbors at 0.03 end, by such steps, all at one
    place. Most starts are.
    """
    rng, count, compared = numpy_generator(generator), 0, 0
    for d, n, m, spread in ((2, 6, 2, 0.5), (2, 5, 4, 0.8), (3, 8, 3, 0.7), (5, 10, 2, 1.0)):
        data, draws = rng.standard_normal((n, d)), spread * rng.standard_normal((m, d))
        starts, rests = 1.5 * rng.standard_normal((60, d)), _rests(data, draws)
        ends = predict(data, starts, draws).x.numpy()
        agree("F at the end", _target(data, ends, draws), ends, 1e-10)
        require(bool((_energy(data, ends, draws) <= _energy(data, starts, draws) + 1e-12).all()), "U rises along a path")
        x = np.concatenate([starts + 0.03 * rng.standard_normal((60, d)) * (copy > 0) for copy in range(5)])
        for _ in range(900):
            x = x + 0.02 * (_target(data, x, draws) - x)
        which = np.argmin(((x[:, None] - rests) ** 2).sum(-1), -1).reshape(5, 60)
        require(bool(_apart(x, rests).max() < 1e-3), f"steps end {_apart(x, rests).max()} away from every rest point")
        robust = (which == which[0]).all(0)
        agree("ends of robust starts", ends[robust], rests[which[0]][robust], 1e-10)
        count, compared = count + 60, compared + int(robust.sum())
    require(compared > 0.7 * count, f"only {compared} of {count} starts are robust")
    return {"paths": count, "robust starts": compared}


@check(
    "interpolation.walls",
    by="counterexample",
    lane="full",
    mutants={
        "a wall that holds": instead(lambda law, x, t, draws: -torch.as_tensor(x) / t),
        "a wall that is not seen": instead(lambda law, x, t, draws: (1 - torch.as_tensor(x)) / t),
        "not one draw": instead(lambda law, x, t, draws: barycenters.drawn_score(law, x, t, np.array([[-0.5], [0.5]]))),
        "sign": returns(lambda score, *_: -score),
    },
)
def midway_between_two_data(predict: Any = barycenters.drawn_score, *, generator: torch.Generator) -> Numbers:
    """The exact score of -1 and 1 is 0 midway, for every t; 1e-6 away the flow from t = 1 to 1e-6 ends at the data, as `tanh` says.

    It departs at t of about `1/(2 log 10^6)`, so that `sqrt(1e-6/0.036)` = 0.005 is left.
    """
    law, zero = Empirical([[-1.0], [1.0]]), np.zeros((1, 1))
    for t in np.geomspace(1e-4, 1, 9):
        agree(f"score midway, t = {t:.2g}", predict(law, zero, float(t), zero), zero, 1e-12 / t)
    x, expected = np.array([[-1e-6], [1e-6]]), np.array([[-1e-6], [1e-6]])
    for now, after in itertools.pairwise(np.geomspace(1.0, 1e-6, 201)):
        factor = math.sqrt(after / now)
        target = x + now * np.asarray(predict(law, x, float(now), zero))
        x = target + (x - target) * factor
        target = np.tanh(expected / now)
        expected = target + (expected - target) * factor
    agree("after the flow", x, expected, 1e-6)
    require(bool((np.abs(np.abs(x) - 1) < 0.02).all()), f"ends at {x.ravel()}")
    return {"ends": str(np.round(x.ravel(), 4).tolist())}


claim(
    "interpolation.displaced",
    title="Whatever the draws, averaged scores end in barycenters",
    statement=r"""*"Averaging the score over fixed draws, the flow ends in barycenters of data."* Refuted unless the draws have mean zero:
averaged *scores* end at the barycenters *displaced by* $-\bar\xi$. Averaged *denoisers*, or scores with the draws centered (for instance
in pairs $\pm\xi$), end in barycenters.""",
    source=f"a reading of {SCARVELIS}; derived here",
    regime=r"$t \to 0$, equal weights. The score at $x + \xi_m$ points from $x + \xi_m$, not from $x$, to the data.",
    uses=("interpolation.barycenters",),
    chapter=CHAPTER,
    verdict="refuted as stated",
)


@check(
    "interpolation.displaced",
    by="counterexample",
    mutants={
        "barycenters": returns(lambda ends, data, x, draws: ends._replace(x=ends.x + torch.as_tensor(draws).mean(0))),
        "other way": returns(lambda ends, data, x, draws: ends._replace(x=ends.x + 2 * torch.as_tensor(draws).mean(0))),
        "draws centered": instead(lambda data, x, draws: barycenters.end_points(data, x, draws - draws.mean(0))),
        "sum for mean": returns(lambda ends, data, x, draws: ends._replace(x=ends.x - torch.as_tensor(draws).mean(0) * (len(draws) - 1))),
    },
)
def ends_of_uncentered_draws(predict: Any = barycenters.end_points, *, generator: torch.Generator) -> Numbers:
    """Steps of the exact score at t = 1e-9, from where the path is said to end: it stays there, by its definition as a sum over the
    data.
    """
    rng, least = numpy_generator(generator), math.inf
    for d, n, m in ((1, 4, 2), (2, 6, 2), (3, 5, 3)):
        data, draws = rng.standard_normal((n, d)), 0.6 * rng.standard_normal((m, d)) + 0.3
        ends = predict(data, rng.standard_normal((20, d)), draws).x.numpy()
        t = 1e-9
        for place in ends:
            away = data - (place + draws)[:, None]  # (M, N, d)
            weight = np.exp(-((away**2).sum(-1) - (away**2).sum(-1).min(-1, keepdims=True)) / (2 * t))
            displacement = (weight[..., None] * away).sum(1) / weight.sum(1, keepdims=True)
            agree(f"t score at the end, d = {d}", displacement.mean(0), 0.0 * place, 1e-11)
        multisets = np.array(list(itertools.combinations_with_replacement(range(n), m)))
        every = data[multisets].mean(1)
        agree("displaced back: distance to a barycenter", _apart(ends + draws.mean(0), every), 0 * ends[:, 0], 1e-12)
        least = min(least, float(_apart(ends, every).min() / np.linalg.norm(draws.mean(0))))
    require(least > 1e-3, f"an end within {least} mean displacements of a barycenter")
    return {"distance to the nearest barycenter/mean displacement, least": least}
