r"""Sums over the data by the attention kernel of torch, on the processor.

The posterior mean is attention of the query `(y, -1/2) s` over the keys `(z_i, |z_i|^2)`, and the same rows serve as values: their last
column gives `E |z|^2`, hence the trace of the covariance, for nothing. The kernel that also returns the logarithm of the sum of
exponentials is private to torch, so it is used only where it is there and gives the right numbers for a small problem.

The reference is the center of the data: nothing tells which point was the nearest. Sums err by their rounding relative to the radius of the
data, which is what float32 is asked for.
"""

from functools import cache

import torch
from torch import Tensor

from kss.engine.data import LARGEST, Data, Queries, Sums


def by_attention(data: Data, queries: Queries, dtype: torch.dtype) -> Sums:
    """The sums over all data, computed in `dtype` and returned in float64; on the processor, where `available()`."""
    rows = data.table(dtype)[:, :-1]
    y = ((queries.x - data.center) / data.scale).clamp(-LARGEST, LARGEST)
    query = (torch.cat((y, torch.full_like(y[:, :1], -0.5)), -1) * queries.stiffness.unsqueeze(-1)).to(dtype)
    mean, log_total = _flash(query, rows)
    mean, log_total = mean.double(), log_total.double()
    return Sums(
        reference=data.center.expand_as(queries.x),
        log_total=log_total,
        offset=mean[:, :-1],
        square=mean[:, -1],
        rest=torch.ones_like(log_total),
    )


@cache
def available(dtype: torch.dtype) -> bool:
    """Whether this torch has the kernel, and it gives means and logarithms of sums as they should be."""
    steps = torch.arange(3 * 40, dtype=dtype).reshape(40, 3)
    rows, query = torch.sin(steps), torch.cos(steps[:5])
    logit = query.double() @ rows.double().T
    try:
        mean, log_total = _flash(query, rows)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    allowed = 64 * torch.finfo(dtype).eps
    right = torch.allclose(mean.double(), logit.softmax(-1) @ rows.double(), rtol=0, atol=allowed)
    return right and torch.allclose(log_total.double(), logit.logsumexp(-1), rtol=0, atol=allowed)


def _flash(query: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    if len(query) == 0:  # the kernel would divide by it
        return query, query[:, 0]
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mean, log_total = operator(query[None, None], rows[None, None], rows[None, None], 0.0, False, scale=1.0)
    return mean[0, 0], log_total.reshape(-1)
