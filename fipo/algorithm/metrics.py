"""What the policy loss reports; `LossOutput` explains each name."""

from __future__ import annotations

import torch
from torch import Tensor

from fipo.algorithm.options import LossOptions


@torch.no_grad()
def loss_metrics(
    options: LossOptions,
    log_ratio: Tensor,
    advantages: Tensor,
    future_kl: Tensor,
    weights: Tensor,
    response_mask: Tensor,
    *,
    in_future_kl: Tensor,
    kept: Tensor,
    clip_high: float,
    num_tokens: Tensor | float,
) -> dict[str, Tensor]:
    """Means over `num_tokens` and extremes over `response_mask`; all tensors are [batch, time]."""
    ratio, influence, negative = log_ratio.exp(), future_kl.exp(), advantages < 0
    lowest, highest = 1.0 - options.influence_clip_low, 1.0 + options.influence_clip_high

    def mean(values: Tensor) -> Tensor:
        return torch.where(response_mask, values, 0).sum(dtype=torch.float32) / num_tokens

    # An empty micro-batch must not move an extreme: it reports the bound that no other can pass.
    def masked(values: Tensor, neutral: float) -> Tensor:
        return torch.where(response_mask, values, neutral)

    return {
        "influence_weight_mean": mean(weights),
        "influence_weight_min": masked(weights, highest).amin(),
        "influence_weight_max": masked(weights, lowest).amax(),
        "influence_weight_square_deviation": mean((weights - 1.0).square()),
        "influence_clip_low_fraction": mean(influence < lowest),
        "influence_clip_high_fraction": mean(influence > highest),
        "safety_fraction": mean(negative & (ratio > options.safety_ratio)),
        "future_kl_mean": mean(future_kl),
        "future_kl_square_mean": mean(future_kl.square()),
        "future_kl_masked_fraction": mean(~in_future_kl),
        "policy_kl_k1": mean(-log_ratio),
        "policy_kl_k3": mean(ratio - 1.0 - log_ratio),
        "importance_ratio_mean": mean(ratio),
        "importance_ratio_max": masked(ratio, 0.0).amax(),
        "ratio_clip_low_fraction": mean(negative & (ratio < 1.0 - options.clip_low)),
        "ratio_clip_high_fraction": mean((advantages > 0) & (ratio > 1.0 + clip_high)),
        "dual_clip_fraction": mean(negative & (ratio > options.dual_clip)),
        "dropped_fraction": mean(~kept),
        "advantage_mean": mean(advantages),
    }


def at_least_one(count: Tensor | float) -> Tensor | float:
    """A denominator that an empty mask cannot make 0; stays on the device."""
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
