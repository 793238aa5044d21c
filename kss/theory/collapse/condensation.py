r"""Condensation: the noise variance at which N data are as many as a noisy point can tell apart.

A noisy point `X_t = X_0 + sqrt(t) Z` carries `I(t) = I(X_0; X_t)` nats about the clean one. Above the **condensation time** `t_c`, where
`I(t_c) = log N`, that is less than it takes to single out one of N data points; below, more. For a normal law with the eigenvalues
`lambda_a` of its covariance

    I(t) = (1/2) sum_a log(1 + lambda_a/t),        for k equal ones  t_c = lambda/(N^{2/k} - 1).

Directions without variance count for nothing: only the dimension of the support enters. Read the other way, at noise variance t the data
collapse if there are fewer than `N_c(t) = e^{I(t)}`, which near a k-dimensional support grows like `t^{-k/2}`.

How sharply: `I(t)` is the mean of the information density `i = log(G_t(X_t - X_0)/p_t(X_t))`, whose variance, for a normal law, is
`V = sum_a lambda_a/(lambda_a + t)`. A datum that was noised has a weight of `e^i` against N others with a weight of 1 on average. In many
dimensions i is nearly normal, which suggests that clones agree with probability `Phi((I - log N)/sqrt V)`, and that the entropy of the
weights is about `max(log N - i, 0)`. These two are heuristic: not proved, but checked against exact averages, for equal variances.
"""

import math

import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from kss._validation import ArrayLike, as_tensor, as_times, as_variances, reject


def gaussian_information(variances: ArrayLike, t: ArrayLike) -> Float[Tensor, "*t"]:
    r"""`I(X_0; X_t) = (1/2) sum_a log(1 + lambda_a/t)` in nats, for a normal law.

    Arguments: `variances` (k,), the eigenvalues `lambda_a` >= 0 of the covariance; `t` > 0 of any shape, which the result has. Float64,
    relative error below 1e-12 over the whole range of doubles. `ValueError` for a negative or missing variance, or `t <= 0`.

    >>> round(float(gaussian_information([1.0, 1.0], 1.0)), 6)  # log 2
    0.693147
    """
    spectrum, noise = as_variances(variances), as_times(t).unsqueeze(-1)
    ratio = spectrum / noise
    # Where the ratio overflows the 1 does not count.
    each = torch.where(torch.isfinite(ratio), torch.log1p(ratio), spectrum.log() - noise.log())
    return each.sum(-1) / 2


def critical_log_size(variances: ArrayLike, t: ArrayLike) -> Float[Tensor, "*t"]:
    """`log N_c(t)`: data of a normal law collapse at noise variance t if they are fewer; the inverse of `condensation_time`.

    It is the information: `N_c = prod_a (1 + lambda_a/t)^{1/2}`. Arguments, result and errors as there.
    """
    return gaussian_information(variances, t)


def condensation_time(variances: ArrayLike, n: ArrayLike | None = None, *, log_n: ArrayLike | None = None) -> Float[Tensor, "*n"]:
    r"""The noise variance `t_c` at which `(1/2) sum_a log(1 + lambda_a/t_c) = log n`, for a normal law.

    Arguments: `variances` (k,), the eigenvalues `lambda_a` >= 0 of the covariance, not all 0; the number of data `n` >= 1, or its logarithm
    `log_n` >= 0 where n itself would overflow, of any shape, which the result has. Infinite for n = 1: one datum has always collapsed.
    Float64, relative error below 1e-12, where `t_c` is representable; 0 below that range.

    For k equal variances it is `lambda/(n^{2/k} - 1)`; otherwise the root is bracketed by that formula with all k variances as large as the
    largest one, and with the largest one alone, and found by Brent's method in log t.

    >>> round(float(condensation_time([1.0] * 4, 10_000)), 6)  # 1/(10^{8/4} - 1)
    0.010101
    """
    spectrum = as_variances(variances)
    spectrum = spectrum[spectrum > 0]
    if len(spectrum) == 0:
        raise reject("variances", torch.as_tensor(variances).tolist(), "variances that are not all 0")
    logs = _as_log_size(n, log_n)
    largest = float(spectrum.max())
    relative = spectrum / largest
    log_times = [math.log(largest) + _log_root(relative, size) for size in logs.flatten().tolist()]
    return torch.tensor(log_times, dtype=torch.float64, device=logs.device).exp().reshape(logs.shape)


def _log_root(relative: Float[Tensor, " k"], log_n: float) -> float:
    """`log(t_c/lambda_max)` for `relative` = lambda/lambda_max, the largest of which is 1."""
    if log_n == 0:
        return math.inf
    high = -_log_expm1(2 * log_n / len(relative))
    if bool((relative == 1).all()):
        return high
    low = -_log_expm1(2 * log_n)
    log_relative = relative.log()

    def excess(v: float) -> float:
        """`log(I/log n)` at `t = lambda_max e^v`."""
        return math.log(float(torch.nn.functional.softplus(log_relative - v, threshold=1e300).sum()) / 2) - math.log(log_n)

    # Rounding may take the excess at an end to the wrong side of 0.
    if excess(low) <= 0:
        return low
    if excess(high) >= 0:
        return high
    return float(optimize.brentq(excess, low, high, xtol=1e-14, rtol=8.9e-16))


def _log_expm1(y: float) -> float:
    """`log(e^y - 1)`, for y > 0."""
    return y + math.log(-math.expm1(-y))


def information_variance(variances: ArrayLike, t: ArrayLike) -> Float[Tensor, "*t"]:
    r"""`V = Var i(X_0; X_t) = sum_a lambda_a/(lambda_a + t)`, of the information density of a normal law. Arguments as there."""
    return (1 / (1 + as_times(t).unsqueeze(-1) / as_variances(variances))).sum(-1)


def window_probability(variances: ArrayLike, t: ArrayLike, log_n: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`Phi((I(t) - log n)/sqrt V(t))`: about the probability that two clones agree, for normal data in many dimensions.

    Heuristic; the error is of the order `k^{-1/2}` for k equal variances, checked for `log n = 0.3 k` to k.
    """
    excess = gaussian_information(variances, t) - _as_log_size(None, log_n)
    return torch.special.ndtr(excess / _spread(variances, t))


def window_entropy(variances: ArrayLike, t: ArrayLike, log_n: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`E max(log n - i, 0)` for a normal i of mean I and variance V: about the mean entropy of the weights, likewise.

    It is `sqrt(V) (z Phi(z) + phi(z))` with `z = (log n - I)/sqrt V`; at the condensation time `sqrt(V/2 pi)`. Heuristic, up to a part
    of a nat, checked as `window_probability` is.
    """
    spread = _spread(variances, t)
    z = (_as_log_size(None, log_n) - gaussian_information(variances, t)) / spread
    return spread * (z * torch.special.ndtr(z) + torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))


def manifold_information(entropy: ArrayLike, dim: int, t: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`h - (k/2) log(2 pi e t)`: to leading order as `t -> 0`, the information for a law on a closed k-dimensional manifold, k = `dim`.

    `entropy` is `h = -int p_M log p_M` with respect to the volume: `log vol(M)` for the uniform law. It holds for normal laws on R^k too.
    So `N_c ~ e^h (2 pi e t)^{-k/2}`.
    """
    if dim < 1:
        raise reject("dim", dim, "an integer >= 1")
    return as_tensor("entropy", entropy).double() - dim / 2 * (math.log(2 * math.pi) + 1 + as_times(t).log())


def excess_entropy(information: ArrayLike, log_n: ArrayLike, dim: int = 1) -> Float[Tensor, "*batch"]:
    r"""`(log n - I(X_0; X_t))/dim`: the entropy density of the data that are not told apart; 0 at the condensation time.

    `information` is that of the law; the result is negative below the condensation time, where n data cannot be told apart as well as
    it says. `dim` is the number of dimensions it is divided by. Shapes broadcast.
    """
    if dim < 1:
        raise reject("dim", dim, "an integer >= 1")
    return (as_tensor("information", information).double() - _as_log_size(None, log_n)) / -dim


def remaining_entropy(information: ArrayLike, log_n: ArrayLike) -> Float[Tensor, "*batch"]:
    r"""`1 - I^N(t)/log n`: the part of the entropy of the index that a noisy data point leaves open; between 0 and 1.

    `information` is that of the data set, `I^N = log n - E Ent(w)`, see `empirical_information`. Shapes broadcast; `log_n` > 0.
    """
    size = _as_log_size(None, log_n)
    if not bool((size > 0).all()):
        raise reject("log_n", size.tolist(), "a number > 0: more than one datum")
    return 1 - as_tensor("information", information).double() / size


def _spread(variances: ArrayLike, t: ArrayLike) -> Float[Tensor, "*t"]:
    """`sqrt V(t)`; not 0 where there is no variance, so that quotients by it are right."""
    return information_variance(variances, t).sqrt().clamp_min(1e-290)


def _as_log_size(n: ArrayLike | None, log_n: ArrayLike | None) -> Float[Tensor, "*n"]:
    """`log n`, from whichever of the two is given."""
    if (n is None) == (log_n is None):
        raise reject("n", n, f"n or log_n, one of them (log_n = {log_n!r})")
    if log_n is None:
        # Python takes the logarithm of integers of any length; tensors do not.
        if isinstance(n, int) and not isinstance(n, bool) and n >= 1:
            return torch.tensor(math.log(n), dtype=torch.float64)
        size = as_tensor("n", n).double()  # type: ignore[arg-type] # not None here
        if not bool((size >= 1).all()):
            raise reject("n", size.tolist(), "a number of data >= 1")
        return size.log()
    logs = as_tensor("log_n", log_n).double()
    if not bool((logs >= 0).all()):
        raise reject("log_n", logs.tolist(), "the logarithm of a number of data, >= 0")
    return logs
