"""What a run keeps of single responses, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fipo.algorithm.influence import influence, masked_log_ratio
from fipo.algorithm.options import LossOptions
from fipo.algorithm.responses import Responses
from fipo.batch import RolloutGroup, TrainingBatch
from fipo.rollout.record import record_table, sample_rows
from fipo.training.rl.experience import experiences_of

SHOWN_GROUPS = 4
"""Prompts of a step whose responses people get to see."""


def rollout_rows(
    step: int, groups: Sequence[RolloutGroup], tokenizer: PreTrainedTokenizerBase, *, scale_by_std: bool
) -> list[dict[str, object]]:
    """A few of the step's responses with verdict, reward and advantage, for MLflow's table page."""
    shown = groups[:SHOWN_GROUPS]
    advantages = {
        (group.prompt.id, index): experience.advantage
        for group in shown
        for index, experience in enumerate(experiences_of(group, scale_by_std=scale_by_std))
    }
    columns = sample_rows(record_table(step, shown, advantages), tokenizer, groups=SHOWN_GROUPS)
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def influence_record(
    options: LossOptions, batch: TrainingBatch, log_probs: Tensor, tokenizer: PreTrainedTokenizerBase
) -> dict[str, object]:
    """The longest learned response of a micro-batch, token by token: what FIPO makes of the policy's movement.

    Args:
        options: of the loss.
        batch: with `old_log_probs`.
        log_probs: [1, time] before the optimizer step.
        tokenizer: turns single tokens into text.
    """
    tokens = batch.tokens
    learned = tokens.segment_ids[tokens.response_mask & (batch.advantages != 0)]
    segment = int(learned.bincount().argmax()) if len(learned) else 0
    only = tokens.segment_ids[0] == segment
    mask, advantages, ids = tokens.response_mask[:, only], batch.advantages[:, only], tokens.input_ids[0, only]
    log_ratio = masked_log_ratio(log_probs[:, only], batch.old_log_probs[:, only], mask)
    seen = influence(options, log_ratio, advantages, mask, Responses())
    return {
        "prompt": tokenizer.decode(ids[: len(ids) - int(mask.sum())]),
        "tokens": [tokenizer.decode([token]) for token in tokens.targets[:, only][mask].tolist()],
        "influence_weights": seen.weights[mask].tolist(),
        "future_kl": seen.future_kl[mask].tolist(),
        "log_ratio": log_ratio[mask].tolist(),
        "advantage": advantages[mask].mean().item() if mask.any() else 0.0,
    }
