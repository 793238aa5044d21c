r"""The shape of a Gaussian kernel N(0, S): what its curvature costs, what the data's own shapes are, and which shape to choose.

Next to a k-manifold with second fundamental form II, at a point of it and with t and S far below the squared reach, the kernel moves the
score across by

    (1/2t) sum_ij II_ij S_ij,

where S_ij is its block in the tangent space; the rest of S enters at the next order only. Two covariances come from the data themselves:

    Sigma_t(x)   the noise of the empirical denoiser;    normal law:  lambda t/(2 lambda + t)       -> t/2 for lambda >> t
    C_h(x)       the posterior covariance at scale h;    normal law:  lambda h/(lambda + h)         -> lambda for lambda << h

and near a manifold `C_h` is h along the tangent space and `(h^2/2) sum_ij II_ij II_ij^T` across.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import ArrayLike, as_positive, as_tensor, as_variances, reject
from kss.kernels import variances as as_covariance

Number = float | int


def curvature_term(second_form: ArrayLike, tangential: ArrayLike, t: Number) -> Float[Tensor, " m"]:
    """`(1/2t) sum_ij II_ij S_ij`: leading bias of the score across a manifold, for a kernel with the tangential block S (k, k).

    `second_form` II (m, k, k): one symmetric matrix for each of m normal directions, in an orthonormal frame; its traces are the
    mean-curvature vector. With `S = h I` it is `mollification.normal_bias`. Derived here.

    >>> curvature_term([[[-1.0, 0.0], [0.0, -0.5]]], [[0.02, 0.0], [0.0, 0.0]], t=0.01)
    tensor([-1.], dtype=torch.float64)
    """
    forms, block = _forms(second_form), as_covariance("tangential", tangential)
    if block.shape != forms.shape[1:]:
        raise reject("tangential", tangential, f"a covariance {tuple(forms.shape[1:])}")
    return torch.einsum("mij,ij->m", forms, block) / (2 * as_positive("t", float(t)))


def circle_bias(radius: Any, t: Any, across: Any, along: Any) -> Any:
    """Outward bias on the circle for a kernel with variances `across` a and `along` b the circle, to the next order:

        -(1/2Rt) [ b (1 + (3 a - (9/4) b)/R^2) + t (a - b)/R^2 ].

    The part across enters with one more power of `1/R^2`. Arithmetic only. Derived here.
    """
    size = radius**2
    return -(along * (1 + (3 * across - 9 * along / 4) / size) + t * (across - along) / size) / (2 * radius * t)


def gaussian_noise(variances: ArrayLike, t: Number) -> Float[Tensor, " d"]:
    """Eigenvalues of `Sigma_t` at the mean of a normal law with these variances:

        lambda_a t/(2 lambda_a + t)  times  prod_b (lambda_b + t)/sqrt(t (2 lambda_b + t)).

    Their ratios tend to 1 where the variances are far above t. Derived here.
    """
    spread, t = as_variances(variances), as_positive("t", float(t))
    size = ((spread + t).log() - ((2 * spread + t).log() + math.log(t)) / 2).sum().exp()
    return size * spread * t / (2 * spread + t)


def local_variances(variances: ArrayLike, h: Number) -> Float[Tensor, " d"]:
    """`lambda_a h/(lambda_a + h)`: eigenvalues of the posterior covariance `C_h` of a normal law, anywhere."""
    spread, h = as_variances(variances), as_positive("h", float(h))
    return spread * h / (spread + h)


def normal_covariance(second_form: ArrayLike, h: Number) -> Float[Tensor, "m m"]:
    """`(h^2/2) sum_ij II_ij II_ij^T`: block of `C_h` across a manifold, at a point of it, leading order in h. Along it `C_h` is `h I`.

    Next to its tangent space the manifold is `II(u, u)/2`, and u has the variance h. On a k-sphere it is `k h^2/2R^2`. Derived here.
    """
    forms = _forms(second_form)
    return as_positive("h", float(h)) ** 2 / 2 * torch.einsum("aij,bij->ab", forms, forms)


def data_scale_kernel(scale: ArrayLike, size: Number) -> Float[Tensor, "k k"]:
    """`size A A^T`: the kernel for data `X = A Y`, Y without preferred direction, and errors of the score in the metric `|A^T e|^2`.

    In the coordinates of Y it is `size I`.
    """
    matrix = as_tensor("scale", scale).double()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.numel() == 0 or float(torch.linalg.det(matrix)) == 0:
        raise reject("scale", scale, "an invertible matrix (k, k)")
    return as_positive("size", float(size)) * matrix @ matrix.mT


def _forms(second_form: ArrayLike) -> Float[Tensor, "m k k"]:
    forms = as_tensor("second_form", second_form).double()
    if forms.ndim != 3 or forms.shape[1] != forms.shape[2] or not torch.equal(forms, forms.mT):
        raise reject("second_form", second_form, "symmetric matrices (m, k, k), one for each normal direction")
    return forms
