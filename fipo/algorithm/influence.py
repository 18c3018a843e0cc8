"""From the movement of the policy to the weight of each token: Eqs. 5 to 7 in a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fipo.algorithm.future_kl import future_kl, influence_weights
from fipo.algorithm.options import LossOptions
from fipo.algorithm.placebo import placebo_weights
from fipo.algorithm.responses import Responses


@dataclass(frozen=True, slots=True)
class Influence:
    """What FIPO sees in each token; all [batch, time], without gradient."""

    log_ratio: Tensor
    """log_probs - old_log_probs within ±20 (Eq. 3); 0 off the response."""
    in_future_kl: Tensor
    """M_k (Eq. 5) on response tokens: False where the policy has moved too far to be believed; bool."""
    future_kl: Tensor
    """Eq. 6."""
    weights: Tensor
    """Eq. 7: what the advantage is multiplied by; 1 for losses other than `fipo`."""


@torch.no_grad()
def influence(
    options: LossOptions, log_ratio: Tensor, advantages: Tensor, response_mask: Tensor, responses: Responses
) -> Influence:
    """Influence weights from `masked_log_ratio`; all tensors are [batch, time]."""
    importance_ratio = log_ratio.exp()
    in_future_kl = response_mask
    if options.mask_future_kl:
        in_future_kl = response_mask & (importance_ratio <= options.dual_clip)
    kl = future_kl(
        log_ratio,
        in_future_kl,
        half_life=options.half_life,
        segment_ids=responses.segment_ids,
        sequence_group=responses.sequence_group,
        own_tokens=response_mask if responses.have_observations else None,
    )
    weights = torch.ones_like(kl)
    if options.loss == "fipo":
        weights = influence_weights(
            kl,
            advantages,
            importance_ratio,
            clip_low=options.influence_clip_low,
            clip_high=options.influence_clip_high,
            safety_ratio=options.safety_ratio,
            safety=options.safety,
        )
        weights = placebo_weights(weights, response_mask, options.placebo, responses)
    return Influence(log_ratio.detach(), in_future_kl, kl, weights)


def masked_log_ratio(log_probs: Tensor, old_log_probs: Tensor, response_mask: Tensor) -> Tensor:
    """log_probs - old_log_probs (Eq. 3) within ±20, float32 with gradient in `log_probs`; 0 off the mask.

    A token that both policies exclude (log-probs of -inf) has moved by 0.
    """
    new, old = masked(log_probs, response_mask), masked(old_log_probs.detach(), response_mask)
    return (new - old).clamp(-20.0, 20.0)


def masked(log_probs: Tensor, response_mask: Tensor) -> Tensor:
    """Log-probs in float32: 0 off the mask, and within ±1e30, so that infinite ones do not make NaN."""
    return torch.where(response_mask, log_probs, 0).float().clamp(-1e30, 1e30)
