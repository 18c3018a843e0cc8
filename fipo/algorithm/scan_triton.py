"""The recurrence of `scan.py` as one Triton kernel: mask, sum and segments in a single pass over the row."""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,no-untyped-def"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@torch.library.custom_op("fipo::masked_reverse_scan", mutates_args=())
def masked_reverse_scan(log_ratio: Tensor, mask: Tensor, half_life: float, segment_ids: Tensor | None) -> Tensor:
    """F_t = mask_t · log_ratio_t + 2^(-1 / half_life) · F_{t+1} on [batch, time], float32; one program a row.

    The state of the scan is (distance, sum): gamma is never multiplied with itself, so its rounding does not add up.
    The end of a segment is an infinite distance. `torch.compile` takes it as it is: it cannot look into the scan.
    """
    batch, time = log_ratio.shape
    result = torch.empty(batch, time, dtype=torch.float32, device=log_ratio.device)
    ids = mask if segment_ids is None else segment_ids
    _kernel[(batch,)](
        log_ratio.contiguous(),
        mask.contiguous(),
        ids.contiguous(),
        result,
        time,
        1.0 / half_life,
        SEGMENTED=segment_ids is not None,
        BLOCK=BLOCK,
    )
    return result


@masked_reverse_scan.register_fake
def _(log_ratio: Tensor, mask: Tensor, half_life: float, segment_ids: Tensor | None) -> Tensor:
    return torch.empty_like(log_ratio, dtype=torch.float32, memory_format=torch.contiguous_format)


@triton.jit
def _combine(later_distance, later_sum, distance, total):
    return later_distance + distance, total + tl.exp2(-distance) * later_sum


@triton.jit
def _kernel(
    log_ratio,
    mask,
    ids,
    result,
    time,
    token_distance,
    SEGMENTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * time
    offsets = tl.arange(0, BLOCK)
    carry = 0.0
    for block in range(tl.cdiv(time, BLOCK) - 1, -1, -1):
        t = block * BLOCK + offsets
        inside = t < time
        kept = tl.load(mask + row + t, mask=inside, other=0) != 0
        x = tl.load(log_ratio + row + t, mask=kept & inside, other=0.0).to(tl.float32)
        distance = tl.full((BLOCK,), 0.0, tl.float32) + token_distance
        if SEGMENTED:
            here = tl.load(ids + row + t, mask=inside, other=0)
            after = tl.load(ids + row + t + 1, mask=t + 1 < time, other=0)
            distance = tl.where((here != after) & (t + 1 < time), float("inf"), distance)
        reach, total = tl.associative_scan((distance, x), 0, _combine, reverse=True)
        total += tl.exp2(-reach) * carry
        tl.store(result + row + t, total, mask=inside)
        carry = tl.sum(tl.where(offsets == 0, total, 0.0))
