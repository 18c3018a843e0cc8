"""Matrix products whose results are float32 though the matrices are bfloat16."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

TILE = 256
"""Rows in which the matrix products of a GPU come: of 257 it computes 512."""


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a @ b in float32 (or float64): rounding logits to bfloat16 would move log-probs by whole per cents."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    if a.dtype == dtype or not a.is_cuda:
        return torch.mm(a.to(dtype), b.to(dtype), out=out)
    return torch.mm(a, b, out_dtype=dtype, out=out)


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b in the total's dtype, without a product of its own beside it: for a weight it is gigabytes."""
    if a.dtype == total.dtype or not a.is_cuda:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))
    elif _adds_in_float32(total.device, a.dtype):
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total += torch.mm(a, b, out_dtype=total.dtype)


@cache
def _adds_in_float32(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch adds a product of such matrices to a float32 one on this device, found out by doing it."""
    total, one = torch.full((16, 16), 0.5, device=device), torch.eye(16, device=device, dtype=dtype)
    try:
        torch.addmm(total, one, one, out_dtype=total.dtype, out=total)
    except (RuntimeError, TypeError):  # not every release takes a float32 sum of bfloat16 products
        return False
    return torch.equal(total, 0.5 + torch.eye(16, device=device))
