"""The policy loss: FIPO (arXiv 2603.19835, Eq. 8) and the losses that it is compared with, on one surrogate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fipo.algorithm.future_kl import future_kl, influence_weights
from fipo.algorithm.metrics import at_least_one, loss_metrics
from fipo.algorithm.options import LossOptions
from fipo.algorithm.responses import response_sums
from fipo.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LossOutput:
    """The loss of a micro-batch and what to log of it.

    Metrics are 0-d float32 tensors on the loss's device, without gradient; nothing waits for the device. To combine
    micro-batches and ranks take the minimum of names ending in `_min`, the maximum of `_max` and the sum of all
    others, which are already divided by `num_loss_tokens`: the result is exact for the whole optimizer step.

    | name | mean over response tokens of |
    |---|---|
    | `influence_weight_mean`, `_min`, `_max` | f_t (1 for losses without influence weights) |
    | `influence_weight_square_deviation` | (f_t - 1)^2: exactly 0 where FIPO does nothing |
    | `influence_clip_low_fraction`, `influence_clip_high_fraction` | 1 where exp(future_kl) leaves the clip range |
    | `safety_fraction` | 1 where the safety rule applies |
    | `future_kl_mean`, `future_kl_square_mean` | Future-KL and its square |
    | `future_kl_masked_fraction` | 1 where M_k = 0 (Eq. 5) |
    | `policy_kl_k1`, `policy_kl_k3` | -log r and r - 1 - log r, both estimates of KL(old policy, policy) |
    | `importance_ratio_mean`, `importance_ratio_max` | r |
    | `ratio_clip_low_fraction`, `ratio_clip_high_fraction` | 1 where the clip stops the gradient |
    | `dual_clip_fraction` | 1 where the dual clip stops the gradient (the paper's low-clip fraction) |
    | `dropped_fraction` | 1 on responses that `drop_dual_clipped_responses` drops |
    | `advantage_mean` | A: the length-weighted mean advantage |
    """

    loss: Tensor
    """0-d float32: this micro-batch's share; the shares of all micro-batches and ranks add up to the step's loss."""
    metrics: dict[str, Tensor]


def fipo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    *,
    half_life: float = 32.0,
    influence_clip_low: float = 0.2,
    influence_clip_high: float = 0.2,
    safety_ratio: float = 10.0,
    safety: Literal["reset", "clamp"] = "reset",
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float = 10.0,
    drop_dual_clipped_responses: bool = False,
    num_loss_tokens: Tensor | float | None = None,
    segment_ids: Tensor | None = None,
    rollout_log_probs: Tensor | None = None,
) -> LossOutput:
    """FIPO's loss (Eq. 8), to be minimised; `policy_loss` explains the arguments and `LossOptions` the settings."""
    options = LossOptions(
        half_life=half_life,
        influence_clip_low=influence_clip_low,
        influence_clip_high=influence_clip_high,
        safety_ratio=safety_ratio,
        safety=safety,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        drop_dual_clipped_responses=drop_dual_clipped_responses,
    )
    return policy_loss(
        options,
        log_probs,
        old_log_probs,
        advantages,
        response_mask,
        num_loss_tokens=num_loss_tokens,
        segment_ids=segment_ids,
        rollout_log_probs=rollout_log_probs,
    )


def policy_loss(
    options: LossOptions,
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    *,
    num_loss_tokens: Tensor | float | None = None,
    num_loss_responses: Tensor | float | None = None,
    segment_ids: Tensor | None = None,
    rollout_log_probs: Tensor | None = None,
) -> LossOutput:
    """The loss of one micro-batch, to be minimised, with gradient in `log_probs` alone.

    Args:
        options: which loss, and its settings.
        log_probs: [batch, time] of the current policy. Any float dtype; the maths is float32.
        old_log_probs: [batch, time], the trainer's own, before the updates of this rollout batch.
        advantages: [batch, time], group-relative, broadcast over the response.
        response_mask: [batch, time] bool. Values elsewhere are never read; an empty mask gives a loss of 0.
        num_loss_tokens: response tokens of the whole optimizer step, over *all* micro-batches and ranks. None: of this
            call, so that averaging over micro-batches is the authors' (biased) normalisation.
        num_loss_responses: the same count of responses, which `grpo` divides by. None: those of this call.
        segment_ids: [batch, time] integers that tell the responses of a packed row apart. None: a row is one response.
        rollout_log_probs: [batch, time], from the inference engine.

    Raises:
        ConfigError: the tensors' shapes differ or `response_mask` is not bool.
    """
    _check(log_probs, old_log_probs, advantages, response_mask)
    log_ratio = _log_ratio(log_probs, old_log_probs, response_mask)
    advantages = torch.where(response_mask, advantages, 0).float()
    importance_ratio = log_ratio.exp()
    in_future_kl = response_mask & (importance_ratio <= options.dual_clip)  # M_k, Eq. 5

    kl = future_kl(log_ratio, in_future_kl, half_life=options.half_life, segment_ids=segment_ids)
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
    clip_high = options.clip_low if options.loss == "grpo" else options.clip_high
    token_loss = clipped_surrogate(
        importance_ratio,
        advantages * weights,
        clip_low=options.clip_low,
        clip_high=clip_high,
        dual_clip=options.dual_clip,
    )

    kept = response_mask
    if options.drop_dual_clipped_responses:
        dual_clipped = (response_mask & ~in_future_kl).float()
        kept = response_mask & (response_sums(dual_clipped, segment_ids) <= 1)
    if options.loss == "grpo":
        lengths = response_sums(kept.float(), segment_ids).clamp(min=1)
        share = kept / lengths
        denominator = at_least_one(share.sum() if num_loss_responses is None else num_loss_responses)
    else:
        share = kept.float()
        denominator = at_least_one(share.sum() if num_loss_tokens is None else num_loss_tokens)
    loss = (token_loss * share).sum() / denominator

    metrics = loss_metrics(
        options,
        log_ratio.detach(),
        advantages,
        kl,
        weights,
        response_mask,
        in_future_kl=in_future_kl,
        kept=kept,
        clip_high=clip_high,
        num_tokens=at_least_one(response_mask.sum() if num_loss_tokens is None else num_loss_tokens),
    )
    return LossOutput(loss, metrics)


def clipped_surrogate(
    importance_ratio: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float
) -> Tensor:
    """PPO's clipped objective for each token, as a loss, with the dual clip (arXiv 1912.09729).

    max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)), and at most -A · dual_clip where A < 0; `math.inf` as
    `dual_clip` turns this bound off.
    """
    clipped = importance_ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    rising = torch.minimum(importance_ratio, clipped)
    falling = torch.maximum(importance_ratio, clipped).clamp(max=dual_clip)
    return -advantages * torch.where(advantages < 0, falling, rising)


def _log_ratio(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    """log_probs - old_log_probs within ±20, 0 off the mask; infinite log-probs count as the largest finite ones."""
    largest = torch.finfo(torch.float32).max
    new, old = (torch.where(mask, x, 0).float().clamp(-largest, largest) for x in (log_probs, old_log_probs.detach()))
    return (new - old).clamp(-20.0, 20.0)


def _check(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, response_mask: Tensor) -> None:
    shapes = {tuple(x.shape) for x in (log_probs, old_log_probs, advantages, response_mask)}
    if len(shapes) > 1 or log_probs.ndim != 2:
        raise ConfigError(
            "log_probs, old_log_probs, advantages and response_mask: must all be [batch, time]; got "
            + ", ".join(str(tuple(x.shape)) for x in (log_probs, old_log_probs, advantages, response_mask))
        )
    if response_mask.dtype != torch.bool:
        raise ConfigError(f"response_mask: must be bool; got {response_mask.dtype} (use mask.bool())")
