"""Sums over each response: of rows that hold one, of packed rows, and of rows split over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fipo.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Responses:
    """How the responses of a micro-batch lie in its [batch, time] tensors."""

    segment_ids: Tensor | None = None
    """[batch, time] integers that tell the responses of a packed row apart, the tokens of each adjacent. None: a row is
    one response."""
    sequence_group: dist.ProcessGroup | None = None
    """The ranks over which the time axis lies split, evenly and in order (sequence parallelism)."""

    def sums(self, values: Tensor) -> Tensor:
        """At every token, the sum over its response; differentiable.

        Raises:
            ConfigError: rows are both packed and split over ranks.
        """
        if self.segment_ids is not None and self.sequence_group is not None:
            raise ConfigError(
                "segment_ids, sequence_group: a loss or option that sums over responses (grpo, gspo, "
                "drop_dual_clipped_responses, sequence-level correction, placebo) takes one of the two; got both"
            )
        if self.segment_ids is not None:
            index = self.index(values)
            return torch.zeros_like(values).scatter_add(-1, index, values).gather(-1, index)
        total = values.sum(-1, keepdim=True)
        if self.sequence_group is not None:
            total = _AllReduce.apply(total, self.sequence_group)  # type: ignore[no-untyped-call]
        return total.expand_as(values)

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
