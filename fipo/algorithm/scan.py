"""The recurrence behind Future-KL, F_t = x_t + gamma · F_{t+1}, over blocks, segments and ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

BLOCK = 16
"""Tokens in a block: a wider one costs packed rows more than it saves the others."""


def reverse_scan(x: Tensor, gamma: float, segment_ids: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    """F_t = x_t + gamma^steps_t · F_{t+1} along the last axis of [batch, time], starting anew where a segment begins.

    Inside a block this is a product with a triangular matrix of powers of gamma. What a block hands to the one before
    it, F at its first token, obeys the same recurrence over blocks, with gamma^BLOCK: hence the recursion.

    Args:
        x: [batch, time].
        gamma: what remains of F after one step.
        segment_ids: [batch, time] integers; None: a row is one segment.
        steps: [batch, time] integers, from each token to the next; None: 1 everywhere, which is quicker.
    """
    batch, time = x.shape
    blocks, ids = _split(x), None if segment_ids is None else _split(segment_ids)
    to_end = None if steps is None else _to_end(_split(steps))
    result = _scan_blocks(blocks, gamma, ids, to_end)
    if blocks.shape[1] > 1:
        firsts = None if ids is None else ids[..., 0]
        if to_end is None:
            at_first = reverse_scan(result[..., 0], gamma**BLOCK, firsts)
        else:
            at_first = reverse_scan(result[..., 0], gamma, firsts, to_end[..., 0])
        same = None if ids is None else ids[:, :-1] == ids[:, 1:, :1]
        result[:, :-1] += _carry(at_first[:, 1:, None], gamma, BLOCK, same, None if to_end is None else to_end[:, :-1])
    return result.reshape(batch, -1)[:, :time]


def carry_across_ranks(
    shard: Tensor, gamma: float, segment_ids: Tensor | None, group: dist.ProcessGroup, steps: Tensor | None = None
) -> Tensor:
    """Complete the scan of a time axis that lies evenly split over the ranks of `group`: a shard is a large block."""
    time, rank = shard.shape[1], dist.get_rank(group)
    ids = None if segment_ids is None else _gather(segment_ids[:, 0], group)
    to_end = None if steps is None else _to_end(steps)
    if to_end is None:
        at_first = reverse_scan(_gather(shard[:, 0], group), gamma**time, ids)
    else:
        at_first = reverse_scan(_gather(shard[:, 0], group), gamma, ids, _gather(to_end[:, 0], group))
    if rank == dist.get_world_size(group) - 1:
        return shard
    same = None if ids is None or segment_ids is None else segment_ids == ids[:, rank + 1, None]
    return shard + _carry(at_first[:, rank + 1, None], gamma, time, same, to_end)


def _split(x: Tensor) -> Tensor:
    """[batch, time] as [batch, blocks, BLOCK], padded with 0."""
    padded = functional.pad(x, (0, -x.shape[1] % BLOCK))
    return padded.view(len(x), padded.shape[1] // BLOCK, BLOCK)


def _to_end(steps: Tensor) -> Tensor:
    """Steps from each token of the last axis to the first token after it."""
    return steps.flip(-1).cumsum(-1).flip(-1)


def _scan_blocks(blocks: Tensor, gamma: float, ids: Tensor | None, to_end: Tensor | None) -> Tensor:
    """Each block on its own. Powers are float64 before they are rounded: those of a rounded gamma would drift."""
    if to_end is None:
        position = torch.arange(BLOCK, dtype=torch.float64)
        distance = position[:, None] - position
        decay = torch.where(distance >= 0, gamma**distance, 0.0).to(blocks.dtype).to(blocks.device)  # [k, t]
        if ids is None:
            return blocks @ decay
    else:
        distance = (to_end[..., None, :] - to_end[..., :, None]).double()
        decay = (gamma**distance).to(blocks.dtype).tril()  # [batch, blocks, k, t]
    if ids is not None:
        decay = decay * (ids[..., :, None] == ids[..., None, :])
    return (blocks[..., None, :] @ decay).squeeze(-2)


def _carry(at_next: Tensor, gamma: float, width: int, same: Tensor | None, to_end: Tensor | None) -> Tensor:
    """What each of `width` tokens receives of F at the first token after them, where that is in the same segment."""
    distance = torch.arange(width, 0, -1, dtype=torch.float64) if to_end is None else to_end.double()
    carry = (gamma**distance).to(at_next.dtype).to(at_next.device) * at_next
    return carry if same is None else carry * same


def _gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[batch] from every rank as [batch, ranks]."""
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x.contiguous(), group=group)
    return torch.stack(parts, -1)
