"""Measurements that know how parts make a whole: micro-batches an update, ranks a job, updates a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import Tensor


class Ranks(Protocol):
    """The collectives that reductions need, as `World` has them."""

    def sum(self, values: Any) -> Tensor:
        """Element-wise over all ranks."""

    def max(self, values: Any) -> Tensor:
        """Element-wise over all ranks."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a kind of measurement is put together."""

    micro_batches: Callable[[Tensor, Tensor], Tensor]
    """Two parts of an update on one rank."""
    ranks: Callable[[Ranks, Tensor], Tensor]
    """The values of all ranks, element-wise; collective."""
    updates: Callable[[Sequence[float]], float]
    """The updates of a step."""


SHARE = Reduction(torch.add, lambda ranks, values: ranks.sum(values), fmean)
"""Part of a mean over the tokens of the whole update, already divided by their number, so that parts add up."""
LOWEST = Reduction(torch.minimum, lambda ranks, values: -ranks.max(-values), min)
"""The least value of any token."""
HIGHEST = Reduction(torch.maximum, lambda ranks, values: ranks.max(values), max)
"""The greatest value of any token."""
COMMON = Reduction(torch.maximum, lambda ranks, values: values, fmean)
"""Of the update as a whole, and the same on every rank."""
REDUCTIONS = (SHARE, LOWEST, HIGHEST, COMMON)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a micro-batch or an update measures."""

    value: Tensor
    """0-d float32, without gradient."""
    reduction: Reduction

    def joined(self, other: Measurement) -> Measurement:
        """With the same of another micro-batch of the update."""
        return Measurement(self.reduction.micro_batches(self.value, other.value), self.reduction)
