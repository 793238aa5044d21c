"""Chapter "Mollified scores and the LED-KDE", fourth part: kernels of bounded support."""

import math
from typing import Any

import numpy as np
import torch

from kss.claims.mollified import CHAPTER, PAPER, Numbers
from kss.claims.registry import check, claim, instead, returns
from kss.testing.compare import agree, require
from kss.testing.properties import numpy_generator
from kss.theory import closing

claim(
    "mollified.closing",
    title="With disc kernels the LED-KDE lives on a dilation followed by an erosion",
    statement=r"""Let $a$ be the radius of the disc put on each data point and $b$ that of the disc that smooths the logarithm. The
unnormalized LED-KDE is positive exactly where $\max_{|y - x| \le b} \operatorname{dist}(y, \{x_i\}) \le a$, that is, on the data dilated by
$a$ and then eroded by $b$ (up to boundaries); there is a LED-KDE if and only if this set has positive area.

- $a > b$: it is the *closing* by $b$ of the data dilated by $a - b$;
- $a = b$: the closing of the data themselves, the complement of all open discs of radius $b$ that miss them;
- $a < b$: that closing by $a$, eroded by $b - a$: empty unless some disc of radius $b$ has every point within $a$ of the data.""",
    source=f"{PAPER}, figure 5 (two radii, whose exact kernels we have not read); $a = b$: the alpha-hull of Edelsbrunner, Kirkpatrick "
    "and Seidel, IEEE Trans. Inf. Theory 29 (1983); derived here",
    regime=r"""Finite data in the plane; uniform kernels on discs, in place of $G_t$ and $K$; $a, b > 0$.""",
    chapter=CHAPTER,
    verdict="holds",
)


@check(
    "mollified.closing",
    by="property",
    mutants={
        "distance from x": instead(lambda points, x, b: torch.cdist(x, points).amin(-1) + 0 * b),
        "distance plus b": instead(lambda points, x, b: torch.cdist(x, points).amin(-1) + b),
        "off by 1 %": returns(lambda value, *_: 1.01 * value),
        "diameter for radius": instead(lambda points, x, b: closing.emptiness(points, x, b / 2)),
        "rim only": instead(
            lambda points, x, b: (
                torch.cdist(
                    x.unsqueeze(1)
                    + b * torch.stack([f(torch.linspace(0, 6.28, 720, dtype=torch.float64)) for f in (torch.cos, torch.sin)], -1),
                    points.unsqueeze(0),
                )
                .amin(-1)
                .amax(-1)
            )
        ),
    },
)
def farthest_from_the_data_in_a_disc(predict: Any = closing.emptiness, *, generator: torch.Generator) -> Numbers:
    """`max dist(y, data)` over the disc, bracketed: at least that at 86000 points of the disc, at most their spacing more."""
    rng, widest = numpy_generator(generator), 0.0
    radii, angles = np.linspace(0, 1, 121), 2 * math.pi * np.arange(720) / 720
    disc = (radii[:, None, None] * np.stack((np.cos(angles), np.sin(angles)), -1)).reshape(-1, 2)
    spacing = math.hypot(1 / 240, math.pi / 720)  # no point of the unit disc is farther from all of these
    triangle = 0.5 * np.array([[1, 0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]])  # farthest at its center, inside the disc
    cases = [(triangle, np.array([[0.03, -0.02]]), 0.2)]
    for n in (1, 2, 3, 5, 12):
        points, x, b = rng.uniform(-1, 1, (n, 2)), rng.uniform(-1, 1, (3, 2)), float(rng.uniform(0.1, 1.0))
        if n == 5:
            points[:, 1] = 0.3  # collinear
        cases.append((points, x, b))
    for points, x, b in cases:
        got = predict(torch.from_numpy(points), torch.from_numpy(x), b).numpy()
        for place, value in zip(x, got, strict=True):
            least = np.linalg.norm((place + b * disc)[:, None] - points, axis=-1).min(1).max()
            # The distance to the data is a function of slope 1.
            require(
                least - 1e-9 <= value <= least + b * spacing,
                f"emptiness {value:.6f} at {place}, b = {b}: expected {least:.6f} to {b * spacing:.2g} more",
            )
            widest = max(widest, float(value - least) / (b * spacing))
    return {"excess over the sampled maximum/allowance": widest}


@check(
    "mollified.closing",
    by="property",
    mutants={
        "dilation only": instead(lambda points, x, a, b: torch.cdist(x, points).amin(-1) <= a),
        "radii exchanged": instead(lambda points, x, a, b: closing.in_support(points, x, b, a)),
        "opening for closing": instead(lambda points, x, a, b: torch.cdist(x, points).amin(-1) <= a - b),
        "complement": returns(lambda inside, *_: ~inside),
        "smaller by a twentieth": instead(lambda points, x, a, b: closing.in_support(points, x, 0.95 * a, b)),
        "discs larger by a twentieth": instead(lambda points, x, a, b: closing.in_support(points, x, a, 1.05 * b)),
    },
)
def support_by_morphology(predict: Any = closing.in_support, *, generator: torch.Generator) -> Numbers:
    """On a raster, by distance transforms: the three regimes, at places close to the boundary but not closer than the raster can tell."""
    from scipy import ndimage

    rng, cell = numpy_generator(generator), 0.01
    axis = np.arange(-2.0, 2.0 + cell / 2, cell)
    raster = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    compared, areas = 0, {}
    for a, b in ((0.6, 0.4), (0.5, 0.5), (0.47, 0.5)):
        points = np.concatenate((rng.uniform(-0.8, 0.8, (9, 2)), 0.3 * np.array([[1, 0], [-0.5, 0.8], [-0.5, -0.8]])))
        distance = np.min([np.linalg.norm(raster - point, axis=-1) for point in points], axis=0)

        def depth(shift: float, a: float = a, b: float = b, distance: np.ndarray = distance) -> np.ndarray:
            """Compared with b: how deep each place lies in the dilated data, when those reach farther by `shift`."""
            if a > b:  # the closing by b of the data dilated by a - b, step by step
                region = ndimage.distance_transform_edt(~(distance <= a - b + shift)) * cell <= b
            elif a == b:  # the complement of all centers of open discs of radius b without data
                region = ~(distance >= b + shift)
            else:
                region = distance <= a + shift
            return np.asarray(ndimage.distance_transform_edt(region) * cell)

        # A raster misses holes smaller than a cell; with the data reaching a cell less or more, both errors have one sign.
        low, high = depth(-cell), depth(cell)
        for inside in (True, False):
            beyond = low - b if inside else b - high
            candidates = np.argwhere((beyond > 2 * cell) & (beyond < 6 * cell))
            places = candidates[rng.integers(0, len(candidates), 60)] if len(candidates) else candidates
            x = raster[places[:, 0], places[:, 1]]
            if len(x):
                got = predict(torch.from_numpy(points), torch.from_numpy(x), a, b).numpy()
                wrong = x[got != inside]
                require(len(wrong) == 0, f"a = {a}, b = {b}: {len(wrong)} of {len(x)} places differ, the first at {wrong[:1].tolist()}")
            compared += len(x)
        areas[f"area, a = {a}, b = {b}"] = float((depth(0.0) >= b).mean() * 16)
        require(not bool(predict(torch.from_numpy(points[:1]), torch.from_numpy(points[:1]), min(a, b) * 0.99, b)[0]), "one point, a < b")
    require(compared >= 180, f"only {compared} places to compare")
    return {"places compared": compared} | areas


@check(
    "mollified.closing",
    by="quadrature",
    mutants={
        "zero": returns(lambda value, *_, **__: torch.zeros_like(value)),
        "logarithm at x": instead(lambda points, x, a, b, **_: (torch.cdist(x, points) <= a).sum(-1).double().log()),
        "never minus infinity": returns(lambda value, *_, **__: value.clamp_min(-5.0)),
        "off by a tenth": returns(lambda value, *_, **__: value + 0.1),
    },
)
def average_of_the_logarithm(predict: Any = closing.unnormalized_log_density, *, generator: torch.Generator) -> Numbers:
    """The mean of `log (number of data within a)` over 20000 random points of the disc: finite at the same places, and equal there."""
    rng, a, b = numpy_generator(generator), 0.6, 0.4
    points = rng.uniform(-0.7, 0.7, (10, 2))
    x = rng.uniform(-1, 1, (60, 2))
    clear = np.abs(closing.emptiness(torch.from_numpy(points), torch.from_numpy(x), b).numpy() - a) > 0.05
    angle, radius = rng.uniform(0, 2 * math.pi, 20000), b * np.sqrt(rng.uniform(0, 1, 20000))
    disc = radius[:, None] * np.stack((np.cos(angle), np.sin(angle)), -1)
    got = predict(torch.from_numpy(points), torch.from_numpy(x), a, b, nodes=96).numpy()
    worst, finite = 0.0, 0
    for place, value in zip(x[clear], got[clear], strict=True):
        count = (np.linalg.norm((place + disc)[:, None] - points, axis=-1) <= a).sum(-1)
        # 0.05 beyond a, a hole of the disc has an area that 20000 points do not miss (probability below 1e-20).
        require(
            np.isfinite(value) == bool((count > 0).all()), f"K * log p = {value} at {place}, {int((count == 0).sum())} points without data"
        )
        if np.isfinite(value):
            finite += 1
            # Both are sums over jumps of at most log 10: of random points, and along rings.
            worst = max(worst, agree(f"K * log p at {place}", value, float(np.log(count).mean()), 0.05))
    return {"worst error/allowance": worst, "places with a finite logarithm": finite}
