"""Future-KL and the influence weights made from it (arXiv 2603.19835, Eqs. 6 and 7)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fipo.algorithm.fused import kernel_fault
from fipo.algorithm.scan import carry_across_ranks, reverse_scan
from fipo.errors import ConfigError


def future_kl(
    log_ratio: Tensor,
    mask: Tensor,
    *,
    half_life: float,
    segment_ids: Tensor | None = None,
    sequence_group: ProcessGroup | None = None,
    own_tokens: Tensor | None = None,
) -> Tensor:
    """How far the policy has moved on a token and everything after it (Eq. 6).

        future_kl_t = Σ_{k>=t} mask_k · gamma^(k-t) · log_ratio_k,    gamma = 2^(-1 / half_life)

    The distance `k - t` counts the policy's own tokens, those that M_k masks too: what an environment says in between
    adds nothing and fades nothing. It is the recurrence F_t = x_t + gamma · F_{t+1}, so it costs O(batch · time). Sums
    are float32 whatever the input: bfloat16 would round a half-life of 32 to 35.

    Args:
        log_ratio: [batch, time], `log_probs - old_log_probs`; read without gradient.
        mask: [batch, time] bool, the product of `response_mask` and M_k (Eq. 5). Values elsewhere are never read.
        half_life: in tokens; `math.inf` gives the plain suffix sum.
        segment_ids: [batch, time] integers for packed rows: one id for each response, its tokens adjacent. Sums stop
            where the id changes. None: a row is one response.
        sequence_group: the ranks over which the time axis lies split, evenly and in order (sequence parallelism). Each
            passes its shard; ids must then differ between all responses of the whole row.
        own_tokens: [batch, time] bool, the tokens that the policy sampled, where others stand between them. None: none
            do, so that distance is position.

    Returns:
        [batch, time] float32 without gradient; 0 where no unmasked token follows.
    """
    if not half_life > 0:
        raise ConfigError(f"half_life: must be a positive number of tokens; got {half_life}")
    gamma, steps = 2.0 ** (-1.0 / half_life), None if own_tokens is None else own_tokens.long()
    if log_ratio.is_cuda and own_tokens is None and not kernel_fault(log_ratio.device):
        from fipo.algorithm.scan_triton import masked_reverse_scan

        result: Tensor = masked_reverse_scan(log_ratio.detach(), mask, half_life, segment_ids)
    else:
        result = reverse_scan(torch.where(mask, log_ratio.detach(), 0).float(), gamma, segment_ids, steps)
    if sequence_group is None:
        return result
    return carry_across_ranks(result, gamma, segment_ids, sequence_group, steps)


def influence_weights(
    future_kl: Tensor,
    advantages: Tensor,
    importance_ratio: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    safety_ratio: float,
    safety: Literal["reset", "clamp"] = "reset",
) -> Tensor:
    """What each token's advantage is multiplied by (Eq. 7), [batch, time] float32 without gradient.

        f_t = clip(exp(future_kl_t), 1 - clip_low, 1 + clip_high)

    A token that is to become rarer (advantage < 0) but has become likelier by more than `safety_ratio` is no place to
    amplify: its weight is `reset` to 1 (the paper) or `clamp`ed to [0.8, 1] (the authors' code).
    """
    weights = future_kl.detach().float().exp().clamp(1.0 - clip_low, 1.0 + clip_high)
    unsafe = (advantages < 0) & (importance_ratio.detach() > safety_ratio)
    return torch.where(unsafe, torch.ones_like(weights) if safety == "reset" else weights.clamp(0.8, 1.0), weights)
