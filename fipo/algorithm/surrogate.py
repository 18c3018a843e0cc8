"""What each token adds to the loss, before it is averaged: the objectives of the PPO family."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(
    importance_ratio: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float
) -> Tensor:
    """PPO's clipped objective as a loss, with the dual clip (arXiv 1912.09729).

    max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)), and at most -A · dual_clip where A < 0; `math.inf` as
    `dual_clip` turns this bound off.
    """
    clipped = importance_ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    rising = torch.minimum(importance_ratio, clipped)
    falling = torch.maximum(importance_ratio, clipped).clamp(max=dual_clip)
    return -advantages * torch.where(advantages < 0, falling, rising)


def clipped_weight_surrogate(
    log_probs: Tensor, importance_ratio: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> Tensor:
    """CISPO (arXiv 2506.13585): -A sg(clip(r, 1 - clip_low, 1 + clip_high)) log π. Every token keeps a gradient."""
    return -advantages * importance_ratio.detach().clamp(1.0 - clip_low, 1.0 + clip_high) * log_probs


def soft_gate_surrogate(
    importance_ratio: Tensor, advantages: Tensor, *, temperature_positive: float, temperature_negative: float
) -> Tensor:
    """SAPO (arXiv 2511.20347): -A sigmoid(tau (r - 1)) 4 / tau, with a tau for each sign of A.

    Its gradient is that of -A r where r is 1, and fades on both sides, the faster the higher tau is.
    """
    tau = torch.where(advantages > 0, temperature_positive, temperature_negative)
    return -advantages * torch.sigmoid(tau * (importance_ratio - 1.0)) * 4.0 / tau
