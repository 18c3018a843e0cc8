"""Sums over each response: of rows that hold one, of packed rows, and of rows split over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Responses:
    """How the responses of a micro-batch lie in its [batch, time] tensors."""

    segment_ids: Tensor | None = None
    """[batch, time] integers that tell the responses of a packed row apart, the tokens of each adjacent. None: a row is
    one response."""
    sequence_group: dist.ProcessGroup | None = None
    """The ranks over which the time axis lies split, evenly and in order (sequence parallelism). Then `segment_ids`
    must count the responses of the whole row: 0, 1, ..."""
    have_observations: bool = False
    """Whether tokens of an environment stand between the policy's own."""

    def sums(self, values: Tensor) -> Tensor:
        """At every token, the sum over its response; differentiable."""
        if self.segment_ids is None:
            return self._over_ranks(values.sum(-1, keepdim=True)).expand_as(values)
        if self.sequence_group is None:
            index, most = self.index(values), values.shape[-1]
        else:  # a row holds no more responses than tokens
            index, most = self.segment_ids, values.shape[-1] * dist.get_world_size(self.sequence_group)
        sums = values.new_zeros(*values.shape[:-1], most).scatter_add(-1, index, values)
        return self._over_ranks(sums).gather(-1, index)

    def _over_ranks(self, sums: Tensor) -> Tensor:
        if self.sequence_group is None:
            return sums
        total: Tensor = _AllReduce.apply(sums, self.sequence_group)  # type: ignore[no-untyped-call]
        return total

    def index(self, like: Tensor) -> Tensor:
        """Which response of its row a token of [batch, time] belongs to: 0, 1, ...; int64."""
        starts = torch.zeros_like(like, dtype=torch.int64)
        if self.segment_ids is not None:
            starts[:, 1:] = self.segment_ids[:, 1:] != self.segment_ids[:, :-1]
        return starts.cumsum(-1)


class _AllReduce(torch.autograd.Function):
    """The sum over ranks. Every rank's result depends on every rank's input, so gradients are summed likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.clone()
        dist.all_reduce(grad, group=ctx.group)
        return grad, None
