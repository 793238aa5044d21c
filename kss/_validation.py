"""What every public function asks of its input, said once.

A failed check raises `ValueError` naming the argument, the value it had and what was expected.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ArrayLike = Tensor | np.ndarray | float | int | Sequence
Seed = torch.Generator | int


def _describe(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def reject(name: str, value: object, expected: str) -> ValueError:
    """The error for argument `name`: what it was, and what it should have been."""
    return ValueError(f"{name} = {_describe(value)}: expected {expected}")


def as_tensor(name: str, value: ArrayLike, like: Tensor | None = None) -> Tensor:
    """`value` as a floating tensor free of NaN and infinity.

    Floating arrays keep their dtype; integers, booleans and Python numbers become float64.
    With `like` given, a value that is not a tensor is put on its device.
    """
    device = value.device if isinstance(value, Tensor) else (like.device if like is not None else None)
    try:
        if isinstance(value, Tensor):
            tensor = value
        elif isinstance(value, np.ndarray):
            # PyTorch takes no negative strides, and warns of arrays that are read-only.
            plain = value.flags.writeable and min(value.strides, default=0) >= 0
            tensor = torch.as_tensor(value if plain else value.copy(), device=device)
        else:
            tensor = torch.as_tensor(value, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise reject(name, value, "an array of real numbers") from error
    if tensor.is_complex():
        raise reject(name, value, "real numbers")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        raise reject(name, value, "finite numbers (it has NaN or infinity)")
    return tensor


def as_points(name: str, value: ArrayLike, dim: int | None = None) -> Float[Tensor, "n d"]:
    """A non-empty (n, d) tensor of points, of width `dim` when that is given."""
    points = as_tensor(name, value)
    if points.ndim != 2 or points.shape[0] == 0 or points.shape[1] == 0:
        raise reject(name, points, "a non-empty array of shape (n, d)")
    if dim is not None and points.shape[1] != dim:
        raise reject(name, points, f"points of dimension {dim}")
    return points


class Query(NamedTuple):
    """Points and noise variances in float64, broadcast together, and the dtype the caller expects back."""

    x: Float[Tensor, "*batch d"]
    t: Float[Tensor, "*batch 1"]
    dtype: torch.dtype


def as_query(x: ArrayLike, t: ArrayLike, like: Tensor) -> Query:
    """Points `x` (..., d) and noise variances `t` > 0, a number or of shape (...), for a law on R^d.

    `like` is a tensor of the law, of shape (..., d): its width fixes d, its device takes arrays that
    are not tensors, and its dtype is promoted with those of `x` and of a non-scalar `t`.
    """
    x, dim = as_tensor("x", x, like=like), like.shape[-1]
    if x.ndim == 0 or x.shape[-1] != dim:
        raise reject("x", x, f"points of shape (..., {dim})")
    t = as_tensor("t", t, like=x)
    if not bool((t > 0).all()):
        raise reject("t", t.tolist() if t.numel() < 10 else t, "a noise variance t > 0")
    try:
        shape = torch.broadcast_shapes(x.shape[:-1], t.shape)
    except RuntimeError as error:
        raise reject("t", t, f"a number or a shape that broadcasts with {tuple(x.shape[:-1])}") from error
    dtype = torch.promote_types(x.dtype, like.dtype)
    if t.ndim > 0:
        dtype = torch.promote_types(dtype, t.dtype)
    return Query(x.double().expand(*shape, dim), t.double().expand(shape).unsqueeze(-1), dtype)


def as_generator(generator: Seed, device: torch.device | str = "cpu") -> torch.Generator:
    """A `torch.Generator`; an int seeds a new one. There is no default: chance always has a source."""
    if isinstance(generator, torch.Generator):
        return generator
    if isinstance(generator, bool) or not isinstance(generator, int | np.integer):
        raise reject("generator", generator, "a torch.Generator or an int seed")
    return torch.Generator(device=device).manual_seed(int(generator))


def as_count(name: str, value: int, minimum: int = 1) -> int:
    """An integer at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise reject(name, value, f"an integer >= {minimum}")
    return int(value)


def as_positive(name: str, value: float) -> float:
    """A finite number > 0."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise reject(name, value, "a number > 0") from error
    if not (math.isfinite(number) and number > 0):
        raise reject(name, value, "a finite number > 0")
    return number


def as_probability(name: str, value: float) -> float:
    """A number strictly between 0 and 1."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise reject(name, value, "a probability strictly between 0 and 1") from error
    if not 0 < number < 1:
        raise reject(name, value, "a probability strictly between 0 and 1")
    return number


def as_variances(variances: ArrayLike) -> Float[Tensor, " k"]:
    """Variances `lambda_a >= 0` of some directions, in float64."""
    given = as_tensor("variances", variances).double()
    if given.ndim != 1 or len(given) == 0 or bool((given < 0).any()):
        raise reject("variances", given.tolist() if given.numel() < 10 else given, "a list of numbers >= 0, at least one")
    return given


def as_times(t: ArrayLike) -> Float[Tensor, "*batch"]:
    """Noise variances `t > 0`, in float64."""
    given = as_tensor("t", t).double()
    if not bool((given > 0).all()):
        raise reject("t", given.tolist() if given.numel() < 10 else given, "a noise variance t > 0")
    return given
