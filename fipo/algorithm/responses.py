"""Sums over each response, for rows that hold one response and for packed rows."""

from __future__ import annotations

import torch
from torch import Tensor


def response_sums(values: Tensor, segment_ids: Tensor | None = None) -> Tensor:
    """At every token of [batch, time], the sum over its response; differentiable.

    `segment_ids` [batch, time] tells the responses of a packed row apart (the tokens of one response are adjacent);
    None means that a row is one response.
    """
    if segment_ids is None:
        return values.sum(-1, keepdim=True).expand_as(values)
    index = response_index(segment_ids)
    return torch.zeros_like(values).scatter_add(-1, index, values).gather(-1, index)


def response_index(segment_ids: Tensor) -> Tensor:
    """Number each response of a packed row: 0 for the first, 1 for the second, ...; [batch, time] int64."""
    starts = torch.zeros_like(segment_ids, dtype=torch.int64)
    starts[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
    return starts.cumsum(-1)
