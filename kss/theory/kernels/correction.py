r"""What a smoothing kernel leaves of the score near a curved manifold, and what bias correction leaves of that.

Near a k-manifold, t and h small, `log p_t = -dist^2/2t + O(1)`, and a kernel of covariance S with tangential block `S_T` moves the score by

    K * s_t - s_t = (1/2t) sum_ij II_ij (S_T)_ij + ...,

a normal vector (II is the second fundamental form). Where II is definite in some normal direction no S with `S_T != 0` makes it vanish, and
`S_T = 0` removes no noise.

`sum_j w_j K_{jh}` of order r (`kss.scores.BiasCorrected`) removes it: left is `-(1 - exp(h Lap/2))^r s_t = -(-h/2)^r Lap^r s_t + ...`. On
the k-sphere of radius R, where `dist^2 = (|x| - R)^2` and `Lap |x|^a = a (a + k - 1) |x|^{a-2}`, the outward component of that is

    -(2r - 1)!! (h/2)^r k (k - 2) ... (k - 2r + 2)/(R^{2r-1} t) + (h^r/2) r! k (k - 1)(k - 3) ... (k - 2r + 1)/R^{2r+1},

the second term from `-(k/2) log |x|`, which p_t holds as well. For even k < 2r the first one is zero and the second is the bias.

The price is noise. In the CLT regime on a manifold of density p_M the variance of the score is

    k (4 pi)^{-k/2}/(2 N p_M) sum_ij w_i w_j (t + (i + j) h/2)^{-1-k/2},

and along the path, integrated and halved, `(4 pi)^{-k/2}/(2 N p_M) sum_ij w_i w_j (t + (i + j) h/2)^{-k/2}`.

Derived here. Formulas between numbers use arithmetic only and take numbers, arrays, tensors or symbolic expressions.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_count, as_positive, as_tensor, reject
from kss.scores.corrected import richardson_weights

# --- Bias -----------------------------------------------------------------------------------------------------------------


def curvature_bias(second_form: ArrayLike, tangential: ArrayLike, t: float) -> Float[Tensor, " c"]:
    """`(1/2t) sum_ij II_ij (S_T)_ij`: the leading bias of a kernel, a vector in the normal space, in coordinates of it.

    `second_form` (k, k, c) holds the normal components of II in orthonormal tangential coordinates, (k, k) for a hypersurface (c = 1);
    `tangential` (k, k) is the block of the kernel's covariance in the tangent space. For `S_T = h I` it is `(h/2t) H`.

    >>> curvature_bias([[-1.0, 0.0], [0.0, -1.0]], [[0.01, 0.0], [0.0, 0.01]], t=0.1)
    tensor([-0.1000], dtype=torch.float64)
    """
    form, block = as_tensor("second_form", second_form).double(), as_tensor("tangential", tangential).double()
    if block.ndim != 2 or block.shape[0] != block.shape[1] or not torch.equal(block, block.mT):
        raise reject("tangential", tangential, "a symmetric matrix (k, k)")
    if float(torch.linalg.eigvalsh(block).min()) < -1e-12 * float(block.abs().max()):
        raise reject("tangential", tangential, "a positive semidefinite matrix")
    form = form.unsqueeze(-1) if form.ndim == 2 else form
    if form.ndim != 3 or form.shape[:2] != block.shape:
        raise reject("second_form", second_form, f"shape {tuple(block.shape)} or {(*block.shape, 'c')}, as tangential has")
    return torch.einsum("ijc,ij->c", form, block) / (2 * as_positive("t", t))


def least_curvature_bias(curvature: Any, trace: Any, t: Any) -> Any:
    """`lambda tr(S_T)/(2t)`: a bound from below on the length of `curvature_bias` where II is definite. Arithmetic only.

    `curvature` is a lambda with `<II(v, v), n> >= lambda |v|^2` for some unit normal n and all tangent v. A closed manifold has points
    where 1/rho is one, rho the radius of a ball that holds the manifold: those farthest from its center, if it touches the ball there.
    """
    return curvature * trace / (2 * t)


def sphere_bias(order: int, k: Any, radius: Any, t: Any, h: Any) -> Any:
    """`-(2r - 1)!! (h/2)^r k (k - 2) ... (k - 2r + 2)/(R^{2r-1} t)`: outward bias of order r = `order` on the k-sphere, leading in t.

    `-k h/(2 R t)` for r = 1, `3 k (2 - k) h^2/(4 R^3 t)` for r = 2. For t, h << R^2, whatever h/t.

    >>> sphere_bias(2, k=1, radius=1.0, t=0.01, h=0.02)
    0.03
    """
    order, value = as_count("order", order), -1 / t
    for j in range(order):
        value = value * (2 * j + 1) * (k - 2 * j) * h / (2 * radius**2)
    return value * radius


def sphere_bias_next(order: int, k: Any, radius: Any, h: Any) -> Any:
    """`(h^r/2) r! k (k - 1)(k - 3) ... (k - 2r + 1)/R^{2r+1}`: the outward bias without a power of t, all there is for even k < 2r.

    `-2 h^2/R^5` for r = k = 2. On a circle (k = 1) it is zero.
    """
    order, value = as_count("order", order), k / (2 * radius)
    for j in range(order):
        value = value * (j + 1) * (k - 1 - 2 * j) * h / radius**2
    return value


def corrected_sphere_bias(order: int, k: Any, radius: Any, t: Any, h: Any) -> Any:
    """`sphere_bias` and `sphere_bias_next` together: the outward bias at a point of the k-sphere for every k, `t, h << R^2`."""
    return sphere_bias(order, k, radius, t, h) + sphere_bias_next(order, k, radius, h)


def plane_curve_bias(t: Any, h: Any, curvature: Any, slope: Any, bend: Any) -> tuple[Any, Any]:
    """What order 2 leaves on a plane curve: `-h^2 (3 c^3 + c'')/(4t)` towards the center of curvature and `-h^2 c c'/(2t)` along it.

    c, c', c'' are the curvature and its derivatives by arc length: `curvature`, `slope`, `bend`. Away from the curve's ends.
    """
    return -(h**2) * (3 * curvature**3 + bend) / (4 * t), -(h**2) * curvature * slope / (2 * t)


def end_constant(order: int) -> float:
    """`int_0^inf (sum_j w_j sqrt(j) psi(a/sqrt(j)))^2 da` with `psi(a) = E (Z - a)^+`: the size of the bias at an end of a curve.

    `(sqrt 2 - 1)/(3 sqrt(2 pi))` = 0.0551 for order 1.

    >>> [round(end_constant(order), 4) for order in (1, 2, 3)]
    [0.0551, 0.0124, 0.0079]
    """
    weights = [int(w) for w in richardson_weights(order)]
    pairs = ((v * w, math.sqrt(i + 1), math.sqrt(j + 1)) for i, v in enumerate(weights) for j, w in enumerate(weights))
    return sum(share * (_overhang(s, u) + _overhang(u, s)) for share, s, u in pairs)


def _overhang(s: float, u: float) -> float:
    """`int_0^inf E(sZ - a)^+ E(uZ' - a)^+ da`, the part with uZ' < sZ: `E[m^2 M/2 - m^3/6]`, m < M, in polar coordinates."""
    sine, cosine = s / math.hypot(s, u), u / math.hypot(s, u)
    angle = u**2 * s * sine**3 / 6 - u**3 / 6 * (2 / 3 - cosine + cosine**3 / 3)
    return 3 / math.sqrt(8 * math.pi) * angle


def end_bias(t: Any, h: Any, density: Any, order: int = 1) -> Any:
    """`c_r density h^{3/2}/(2t)`: path divergence by an end of a curve, t << h, `c_r = end_constant(r)`.

    Within `sqrt h` of an end part of the kernel hangs over it, and at a distance y beyond it the score is `-y/u`: a bias of the
    order of `sqrt(h)/u` on a part `density sqrt(h)` of the law; `density` is p_M at the end. For small h it outweighs the
    curvature's `h^2 <|H|^2>/(8t)`, and a correction changes its constant, not its power.
    """
    return end_constant(order) * density * h**1.5 / (2 * t)


# --- Noise ----------------------------------------------------------------------------------------------------------------


def _power(k: Any, problem: str) -> Any:
    if problem not in ("path", "pointwise"):
        raise reject("problem", problem, '"path" or "pointwise"')
    return 1 + k / 2 if problem == "pointwise" else k / 2


def corrected_noise(h: Any, t: Any, N: Any, *, order: int, k: Any, density: Any, problem: str) -> Any:
    """The noise of the score of order r = `order`: variance at one t ("pointwise") or its share of the path divergence ("path").

    `k (4 pi)^{-k/2}/(2 N p_M) sum_ij w_i w_j (t + (i + j) h/2)^{-1-k/2}`, or the same without the first k and with the power -k/2. CLT
    regime at t itself; t, h << R^2. `density` is p_M, for "path" `1/vol(M)`.
    """
    power, weights = _power(k, problem), [int(w) for w in richardson_weights(order)]
    total = sum(v * w * (t + (i + j + 2) * h / 2) ** (-power) for i, v in enumerate(weights) for j, w in enumerate(weights))
    return (k if problem == "pointwise" else 1) * (4 * math.pi) ** (-k / 2) / (2 * N * density) * total


def noise_factor(order: int, k: Any, problem: str) -> Any:
    """`sum_ij w_i w_j ((i + j)/2)^{-1-k/2}` ("pointwise") or with -k/2 ("path"): the noise for h >> t, in units of that of order 1.

    Order 2: `4 - 4 (3/2)^{-q} + 2^{-q}`.

    >>> [round(noise_factor(2, k, "pointwise"), 2) for k in (1, 2, 3)]
    [2.18, 2.47, 2.73]
    >>> [round(noise_factor(2, k, "path"), 2) for k in (1, 2, 3)]
    [1.44, 1.83, 2.18]
    """
    power, weights = _power(k, problem), [int(w) for w in richardson_weights(order)]
    return sum(v * w * ((i + j + 2) / 2) ** (-power) for i, v in enumerate(weights) for j, w in enumerate(weights))
