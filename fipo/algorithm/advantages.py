"""Group-relative advantages (arXiv 2603.19835, Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, group_ids: Tensor, *, scale_by_std: bool = True) -> Tensor:
    """How much better each response is than its group: A_i = (R_i - mean(R)) / std(R).

    The standard deviation is the sample's (n - 1), as in the authors' code. A group whose rewards are all equal, or
    that has one response, teaches nothing: its advantages are 0. Equal are those that the order of a sum may set apart:
    0.3 and 0.1 + 0.2. Computed in float64, so that no epsilon is needed and a constant added to a group's rewards
    changes nothing.

    Args:
        rewards: [responses].
        group_ids: [responses] integers; responses with the same id answer the same prompt, in any order.
        scale_by_std: False leaves the division out (Dr. GRPO, arXiv 2503.20783).

    Returns:
        [responses] float32.
    """
    values = rewards.double()
    groups, index = torch.unique(group_ids, return_inverse=True)

    def reduce(source: Tensor, how: str) -> Tensor:
        empty = values.new_zeros(len(groups))
        return empty.scatter_reduce(0, index, source, reduce=how, include_self=False)[index]

    deviation = values - reduce(values, "mean")
    rounding = _rounding(rewards.dtype) * reduce(values.abs(), "amax").clamp(min=1.0)
    differs = reduce(values, "amax") - reduce(values, "amin") > rounding
    if scale_by_std:
        size = reduce(torch.ones_like(values), "sum")
        deviation = deviation / (reduce(deviation.square(), "sum") / (size - 1)).sqrt()
    return torch.where(differs, deviation, 0.0).float()


def _rounding(dtype: torch.dtype) -> float:
    """How far apart sums of about 1 may be that are the same but for rounding; integers are exact."""
    return max(1e-9, 2.0 * torch.finfo(dtype).eps) if dtype.is_floating_point else 0.0
