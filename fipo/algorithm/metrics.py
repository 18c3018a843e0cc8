"""What the policy loss reports; `LossOutput` explains each name."""

from __future__ import annotations

import torch
from torch import Tensor

from fipo.algorithm.influence import Influence, masked_log_ratio
from fipo.algorithm.measurement import HIGHEST, LOWEST, SHARE, Measurement
from fipo.algorithm.options import LossOptions


class Measure:
    """Measures the response tokens of a micro-batch, [batch, time]."""

    def __init__(self, response_mask: Tensor, num_tokens: Tensor | float) -> None:
        self.mask, self.num_tokens = response_mask, num_tokens

    def mean(self, values: Tensor) -> Measurement:
        """This micro-batch's share of the mean over the update."""
        return Measurement(torch.where(self.mask, values, 0).sum(dtype=torch.float32) / self.num_tokens, SHARE)

    def lowest(self, values: Tensor, bound: float) -> Measurement:
        """The least value; `bound`, above which none lies, where there are no tokens."""
        return Measurement(torch.where(self.mask, values, bound).amin(), LOWEST)

    def highest(self, values: Tensor, bound: float) -> Measurement:
        """The greatest value; `bound`, below which none lies, where there are no tokens."""
        return Measurement(torch.where(self.mask, values, bound).amax(), HIGHEST)


@torch.no_grad()
def loss_metrics(
    options: LossOptions,
    measure: Measure,
    influence: Influence,
    importance_ratio: Tensor,
    advantages: Tensor,
    kept: Tensor,
) -> dict[str, Measurement]:
    """The metrics that need no rollout log-probs; tensors are [batch, time]."""
    mean, negative = measure.mean, advantages < 0
    log_ratio, kl, weights, ratio = influence.log_ratio, influence.future_kl, influence.weights, importance_ratio
    floor, ceiling = 1.0 - options.influence_clip_low, 1.0 + options.influence_clip_high
    return {
        "influence_weight_mean": mean(weights),
        "influence_weight_min": measure.lowest(weights, ceiling),
        "influence_weight_max": measure.highest(weights, floor),
        "influence_weight_square_deviation": mean((weights - 1.0).square()),
        "influence_clip_low_fraction": mean(kl.exp() < floor),
        "influence_clip_high_fraction": mean(kl.exp() > ceiling),
        "safety_fraction": mean(negative & (log_ratio.exp() > options.safety_ratio)),
        "future_kl_mean": mean(kl),
        "future_kl_square_mean": mean(kl.square()),
        "future_kl_masked_fraction": mean(~influence.in_future_kl),
        "policy_kl_k1": mean(-log_ratio),
        "policy_kl_k3": mean(log_ratio.exp() - 1.0 - log_ratio),
        "importance_ratio_mean": mean(ratio),
        "importance_ratio_max": measure.highest(ratio, 0.0),
        "ratio_clip_low_fraction": mean(negative & (ratio < 1.0 - options.clip_low)),
        "ratio_clip_high_fraction": mean((advantages > 0) & (ratio > 1.0 + options.upper_clip)),
        "dual_clip_fraction": mean(negative & (ratio > options.dual_clip)),
        "dropped_fraction": mean(~kept),
        "advantage_mean": mean(advantages),
    }


@torch.no_grad()
def mismatch_metrics(
    measure: Measure, old_log_probs: Tensor, rollout_log_probs: Tensor, response_mask: Tensor, correction: Tensor
) -> dict[str, Measurement]:
    """How far the inference engine is from the trainer on the same weights; tensors are [batch, time]."""
    log_weights = masked_log_ratio(old_log_probs, rollout_log_probs, response_mask)
    weights = log_weights.exp()
    return {
        "mismatch_weight_mean": measure.mean(weights),
        "mismatch_weight_max": measure.highest(weights, 0.0),
        "mismatch_kl_k3": measure.mean(weights - 1.0 - log_weights),
        "mismatch_log_prob_gap_mean": measure.mean(log_weights.abs()),
        "mismatch_log_prob_gap_max": measure.highest(log_weights.abs(), 0.0),
        "correction_mean": measure.mean(correction),
        "correction_masked_fraction": measure.mean(correction == 0),
    }


def at_least_one(count: Tensor | float) -> Tensor | float:
    """A denominator that an empty mask cannot make 0; stays on the device."""
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
