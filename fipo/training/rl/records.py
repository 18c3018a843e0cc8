"""What a run keeps of single responses, for people to look at."""

from __future__ import annotations

import json

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fipo.algorithm.influence import influence, masked_log_ratio
from fipo.algorithm.options import LossOptions
from fipo.algorithm.responses import Responses
from fipo.batch import Outcome, TrainingBatch
from fipo.rollout.record import record_table, sample_rows, store_record
from fipo.training.job import Job
from fipo.training.rl.experience import experiences_of
from fipo.training.rl.sampling import RolloutBatch


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


def keep_rollouts(
    job: Job,
    step: int,
    batch: RolloutBatch,
    tokenizer: PreTrainedTokenizerBase,
    *,
    scale_by_std: bool,
    show: bool,
) -> None:
    """Put every response of the step into the object store; with `show`, a few into MLflow's table of samples.

    Args:
        job: of which rank 0 keeps them.
        step: of the loop.
        batch: what it sampled.
        tokenizer: turns responses into text.
        scale_by_std: of the advantages.
        show: add the first prompt's responses to the table, which has those of all such steps.
    """
    if not job.attempt:
        return
    advantages = {
        (one.prompt.id, index): one.advantage
        for group in batch.groups
        for index, one in enumerate(experiences_of(group, scale_by_std=scale_by_std))
        if one.outcome is not Outcome.TIMEOUT
    }
    table = record_table(step, batch.sampled, advantages)
    store_record(table, job.workspace.store, f"{job.workspace.rollouts_prefix}/step-{step:06d}.parquet")
    if show:
        path = job.workspace.directory / "records" / "samples.jsonl"
        path.parent.mkdir(exist_ok=True)
        before = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
        # What a killed attempt showed of this step, and after it, is sampled again.
        rows = [row for row in before if row["step"] < step] + sample_rows(table, tokenizer)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        job.attempt.tracker.table(rows, "rollouts.json")
