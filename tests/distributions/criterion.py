"""The empirical law against many digits: data sets, places, and by how much an answer may err."""

import math
import sys

import numpy as np
from high_precision import NEGLIGIBLE, EmpiricalReference

from kss.distributions import Empirical

ULPS = 4
"""The criterion allows what moving every input by this many units in the last place could cause ..."""
RELATIVE = 1e-12
"""... or this relative error, whichever is larger."""
DIMENSIONS = (1, 2, 8, 64)
DATA_SETS = ("plain", "pairs", "collinear", "duplicates", "shifted", "unequal scales", "outlier", "sphere")


def data_set(kind: str, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng([n, d])
    plain = rng.standard_normal((n, d))
    match kind:
        case "plain":
            return plain
        case "pairs":
            return np.concatenate((plain[: n // 2], plain[: n // 2] + 1e-4 * rng.standard_normal((n // 2, d))))
        case "collinear":
            return rng.standard_normal((n, 1)) * rng.standard_normal((1, d)) + rng.standard_normal((1, d))
        case "duplicates":
            return np.concatenate((plain[: n // 2], plain[: n // 2]))
        case "shifted":
            return plain + 1e3
        case "unequal scales":
            return plain * np.logspace(-3, 3, d)
        case "outlier":
            return np.concatenate((plain[:-1], 1e3 * plain[-1:]))
        case "sphere":
            return plain / np.linalg.norm(plain, axis=1, keepdims=True)
    raise AssertionError(kind)


def places(points: np.ndarray, t: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """On, near, between and far from the data, and where `p_t` puts its mass."""
    first = points[rng.integers(len(points))]
    distances = ((points - first) ** 2).sum(-1)
    distances[distances == 0] = np.inf
    second = points[distances.argmin()]
    direction = rng.standard_normal(points.shape[1])
    direction /= np.linalg.norm(direction)
    apart = second - first
    across = direction - (direction @ apart) * apart / (apart @ apart)
    return {
        "on a point": first,
        "1e-9 from a point": first + 1e-9 * direction,
        "midpoint": (first + second) / 2,
        "near the midpoint": (first + second) / 2 + 1e-9 * direction,
        "between, nearer to one": first + 0.499 * apart,
        "far out on a bisector": (first + second) / 2 + points.std(0).max() * across,
        "typical": first + math.sqrt(t) * rng.standard_normal(points.shape[1]),
        "1e4 away": points.mean(0) + 1e4 * direction,
        "1e4 scales away": points.mean(0) + 1e4 * points.std(0).max() * direction,
    }


def beyond_criterion(points: np.ndarray, variances: list[float], only: tuple[str, ...] = (), method: str = "auto") -> list[str]:
    """Where an error exceeds the criterion, with the error in units of what is allowed."""
    reference, law, rng = EmpiricalReference(points), Empirical(points, method=method), np.random.default_rng(points.shape[1])
    found = []
    # What the reference leaves out.
    cut = len(points) * math.exp(NEGLIGIBLE) * max(1.0, float(((points - points[0]) ** 2).sum(-1).max())) + sys.float_info.min
    for t in variances:
        where = {kind: x for kind, x in places(points, t, rng).items() if not only or kind in only}
        posterior = law.posterior(np.stack(list(where.values())), t)
        score = law.score(np.stack(list(where.values())), t).numpy()
        log_density, covariance = posterior.log_evidence.numpy(), posterior.covariance().numpy()
        trace = posterior.covariance_trace.numpy()
        for row, (kind, x) in enumerate(where.items()):
            exact = reference.at(x, t)
            allowed = {
                "score": np.maximum(RELATIVE * np.linalg.norm(exact.score), ULPS * exact.score_per_ulp) + cut / t,
                "log-density": np.maximum(RELATIVE * abs(exact.log_density), ULPS * exact.log_density_per_ulp),
                "covariance": np.maximum(RELATIVE * np.linalg.norm(exact.covariance), ULPS * exact.covariance_per_ulp) + cut,
                "trace": np.maximum(RELATIVE * np.trace(exact.covariance), ULPS * np.trace(exact.covariance_per_ulp)) + cut,
            }
            error = {
                "score": score[row] - exact.score,
                "log-density": log_density[row] - exact.log_density,
                "covariance": covariance[row] - exact.covariance,
                "trace": trace[row] - np.trace(exact.covariance),
            }
            for what in allowed:
                # `not <=`, so that NaN counts.
                if not (np.abs(error[what]) <= allowed[what]).all():
                    found.append(f"{what}, {kind}, t = {t:.0e}: {np.max(np.abs(error[what]) / allowed[what]):.2g} times the allowance")
    return found
