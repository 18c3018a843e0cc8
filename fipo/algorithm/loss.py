"""The policy loss: FIPO (arXiv 2603.19835, Eq. 8) and the losses that it is compared with, on one surrogate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fipo.algorithm.corrections import importance_correction
from fipo.algorithm.influence import Influence, influence, masked, masked_log_ratio
from fipo.algorithm.measurement import Measurement
from fipo.algorithm.metrics import Measure, at_least_one, loss_metrics, mismatch_metrics
from fipo.algorithm.options import LossOptions, Safety
from fipo.algorithm.responses import Responses
from fipo.algorithm.surrogate import clipped_surrogate, clipped_weight_surrogate, soft_gate_surrogate
from fipo.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LossOutput:
    """The loss of a micro-batch and what to log of it.

    Metrics are 0-d float32 tensors on the loss's device, without gradient; nothing waits for the device. Means are
    already divided by `num_loss_tokens`, so that those of micro-batches and ranks add up to what is exact for the whole
    optimizer step; `measured` holds with each value how it is put together.

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

    With `rollout_log_probs`, w = exp(old_log_probs - rollout_log_probs) shows how far the engine is from the trainer:

    | name | mean over response tokens of |
    |---|---|
    | `mismatch_weight_mean`, `mismatch_weight_max` | w; its mean is 1 if both are the same distribution |
    | `mismatch_kl_k3` | w - 1 - log w: estimate of KL(engine, trainer) |
    | `mismatch_log_prob_gap_mean`, `mismatch_log_prob_gap_max` | abs(log w), in nats |
    | `correction_mean`, `correction_masked_fraction` | what the loss is multiplied by, and 1 where that is 0 |
    """

    loss: Tensor
    """0-d float32: this micro-batch's share; the shares of all micro-batches and ranks add up to the step's loss."""
    measured: dict[str, Measurement]
    influence: Influence
    """What the loss saw in each token."""

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The value of each measurement."""
        return {name: measurement.value for name, measurement in self.measured.items()}


PAPER = LossOptions()


def fipo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    *,
    half_life: float = PAPER.half_life,
    influence_clip_low: float = PAPER.influence_clip_low,
    influence_clip_high: float = PAPER.influence_clip_high,
    safety_ratio: float = PAPER.safety_ratio,
    safety: Safety = PAPER.safety,
    clip_low: float = PAPER.clip_low,
    clip_high: float = PAPER.clip_high,
    dual_clip: float = PAPER.dual_clip,
    drop_dual_clipped_responses: bool = PAPER.drop_dual_clipped_responses,
    num_loss_tokens: Tensor | float | None = None,
    segment_ids: Tensor | None = None,
    rollout_log_probs: Tensor | None = None,
    have_observations: bool = False,
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
        have_observations=have_observations,
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
    max_response_tokens: int | None = None,
    segment_ids: Tensor | None = None,
    sequence_group: ProcessGroup | None = None,
    rollout_log_probs: Tensor | None = None,
    forking: Tensor | None = None,
    have_observations: bool = False,
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
        num_loss_responses: the same count of responses, for the losses that average over them. None: of this call.
        max_response_tokens: the length limit, by which `dr_grpo` divides.
        segment_ids: [batch, time] integers that tell the responses of a packed row apart. None: a row is one response.
        sequence_group: the ranks over which the time axis lies split; pass the counts above with it.
        rollout_log_probs: [batch, time], from the inference engine, for `options.correction` and the mismatch metrics.
        forking: [batch, time] bool, the tokens that alone count (`forking_tokens`); for a `forking_share` below 1.
        have_observations: whether responses hold tokens that the policy did not sample (False in `response_mask`), so
            that the distances of Future-KL must skip them.

    Raises:
        ConfigError: the shapes differ, `response_mask` is not bool, or an argument that the loss needs is missing.
    """
    _check(log_probs, old_log_probs, advantages, response_mask)
    _check_needs(options, rollout_log_probs, max_response_tokens, forking)
    responses = Responses(segment_ids, sequence_group, have_observations)
    advantages = torch.where(response_mask, advantages, 0).float()
    log_ratio = masked_log_ratio(log_probs, old_log_probs, response_mask)  # Eq. 3
    token = influence(options, log_ratio, advantages, response_mask, responses)  # Eqs. 5 to 7

    importance_ratio = _importance_ratio(options, log_ratio, response_mask, responses)
    weighted = advantages * token.weights
    token_loss = _token_loss(options, masked(log_probs, response_mask), importance_ratio, weighted)  # Eq. 8
    if forking is not None:
        token_loss = token_loss * forking

    measure = Measure(response_mask, at_least_one(response_mask.sum() if num_loss_tokens is None else num_loss_tokens))
    measured = {}
    if rollout_log_probs is not None:
        correction = importance_correction(options, old_log_probs, rollout_log_probs, response_mask, responses)
        token_loss = token_loss * correction
        measured = mismatch_metrics(measure, old_log_probs, rollout_log_probs, response_mask, correction)

    kept = _kept(options, importance_ratio.detach(), weighted, response_mask, responses)
    share = _shares(options, kept, responses, num_loss_tokens, num_loss_responses, max_response_tokens)
    measured |= loss_metrics(options, measure, token, importance_ratio.detach(), advantages, kept)
    return LossOutput((token_loss * share).sum(), measured, token)


def _token_loss(options: LossOptions, log_probs: Tensor, importance_ratio: Tensor, weighted: Tensor) -> Tensor:
    if options.loss == "sapo":
        return soft_gate_surrogate(
            importance_ratio,
            weighted,
            temperature_positive=options.gate_temperature_positive,
            temperature_negative=options.gate_temperature_negative,
        )
    clip = {"clip_low": options.clip_low, "clip_high": options.upper_clip}
    if options.loss == "cispo":
        return clipped_weight_surrogate(log_probs, importance_ratio, weighted, **clip)
    return clipped_surrogate(importance_ratio, weighted, **clip, dual_clip=options.dual_clip)


def _importance_ratio(options: LossOptions, log_ratio: Tensor, response_mask: Tensor, responses: Responses) -> Tensor:
    """Of each token; for `gspo` its geometric mean over the response."""
    if options.loss == "gspo":
        lengths = responses.sums(response_mask.float()).clamp(min=1)
        log_ratio = responses.sums(log_ratio) / lengths
    return log_ratio.exp()


def _kept(
    options: LossOptions, importance_ratio: Tensor, weighted: Tensor, response_mask: Tensor, responses: Responses
) -> Tensor:
    """Response tokens that count in the loss, [batch, time] bool.

    The authors' code drops a response in which the dual clip bounds the loss of more than one token. Where the
    advantage is not negative it bounds nothing, whatever the ratio.
    """
    if not options.drop_dual_clipped_responses or options.loss in ("cispo", "sapo"):
        return response_mask
    dual_clipped = response_mask & (weighted < 0) & (importance_ratio > options.dual_clip)
    return response_mask & (responses.sums(dual_clipped.float()) <= 1)


def _shares(
    options: LossOptions,
    kept: Tensor,
    responses: Responses,
    num_loss_tokens: Tensor | float | None,
    num_loss_responses: Tensor | float | None,
    max_response_tokens: int | None,
) -> Tensor:
    """What each token's loss is multiplied by so that the sum over all tokens of the step is the loss."""
    if options.loss in ("fipo", "dapo", "cispo"):
        return kept / at_least_one(kept.sum() if num_loss_tokens is None else num_loss_tokens)
    per_response = kept / responses.sums(kept.float()).clamp(min=1)
    num_responses = at_least_one(per_response.sum() if num_loss_responses is None else num_loss_responses)
    if options.loss == "dr_grpo" and max_response_tokens is not None:
        return kept / (num_responses * max_response_tokens)
    return per_response / num_responses


def _check(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, response_mask: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (log_probs, old_log_probs, advantages, response_mask)]
    if len(set(shapes)) > 1 or log_probs.ndim != 2:
        raise ConfigError(
            "log_probs, old_log_probs, advantages and response_mask: must all be [batch, time]; got "
            + ", ".join(map(str, shapes))
        )
    if response_mask.dtype != torch.bool:
        raise ConfigError(f"response_mask: must be bool; got {response_mask.dtype} (use mask.bool())")


def _check_needs(
    options: LossOptions,
    rollout_log_probs: Tensor | None,
    max_response_tokens: int | None,
    forking: Tensor | None,
) -> None:
    if options.correction != "none" and rollout_log_probs is None:
        raise ConfigError(f"rollout_log_probs: must be given with correction {options.correction}; got None")
    if options.loss == "dr_grpo" and max_response_tokens is None:
        raise ConfigError("max_response_tokens: must be the length limit of a response with loss dr_grpo; got None")
    if options.forking_share < 1 and forking is None:
        raise ConfigError(f"forking: must be given with forking_share {options.forking_share}; got None")
