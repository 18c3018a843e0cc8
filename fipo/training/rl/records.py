"""What a run keeps of single responses, for people to look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fipo.algorithm.influence import influence, masked_log_ratio
from fipo.algorithm.options import LossOptions
from fipo.algorithm.responses import Responses
from fipo.batch import RolloutGroup, Sample, TrainingBatch
from fipo.rewards.second_opinion import disagrees
from fipo.rollout.record import record_table, sample_rows, store_record
from fipo.training.job import Job
from fipo.training.rl.sampling import RolloutBatch

DISAGREEMENTS = 16
"""Shown of each step."""
ANSWERED = 4
"""Held-out problems whose answers are kept at each evaluation: the same ones, so that one sees the policy change."""


def influence_record(
    options: LossOptions, batch: TrainingBatch, log_probs: Tensor, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The longest learned response of a micro-batch, token by token: what FIPO makes of the policy's movement.

    An environment's observations stand in it with a weight of 1.

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
    seen = influence(options, log_ratio, advantages, mask, Responses(have_observations=tokens.have_observations))
    learned = mask[0].nonzero()[:, 0]
    start, end = (int(learned[0]), int(learned[-1]) + 1) if len(learned) else (len(ids) - 1, len(ids) - 1)
    return {
        "prompt": tokenizer.decode(ids[: start + 1]),
        "tokens": [tokenizer.decode([token]) for token in tokens.targets[0, only][start:end].tolist()],
        "influence_weights": torch.where(mask, seen.weights, 1.0)[0, start:end].tolist(),
        "future_kl": torch.where(mask, seen.future_kl, 0.0)[0, start:end].tolist(),
        "log_ratio": log_ratio[0, start:end].tolist(),
        "advantage": advantages[mask].mean().item() if mask.any() else 0.0,
    }


def disagreements(step: int, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Verdicts that texts alone would not have given: the first few, each pair of answers once."""
    pairs = {(one.score.answer, one.prompt.answer): one for one in samples if disagrees(one)}
    return [
        {
            "step": step,
            "problem": one.prompt.text,
            "answer": one.prompt.shown_answer,
            "given": one.score.answer or "",
            "outcome": str(one.score.outcome),
        }
        for one in islice(pairs.values(), DISAGREEMENTS)
    ]


class Records:
    """The run's records of single responses; rank 0 keeps them."""

    def __init__(self, job: Job, options: LossOptions, tokenizer: PreTrainedTokenizerBase) -> None:
        self._job, self._options, self._tokenizer = job, options, tokenizer
        self.folder = job.workspace.directory / "records"

    def keep(self, step: int, batch: RolloutBatch, newest: tuple[TrainingBatch, Tensor] | None, *, show: bool) -> None:
        """Put every response of the step into the object store, and one with its influence weights into the folder.

        Args:
            step: of the loop.
            batch: what it sampled, with advantages.
            newest: the micro-batch that was learned from last, and its log-probs.
            show: add the first prompt's responses to MLflow's table, which has those of all such steps.
        """
        if not self._job.attempt:
            return
        workspace = self._job.workspace
        self.folder.mkdir(exist_ok=True)
        table = record_table(step, batch.sampled)
        store_record(table, workspace.store, f"{workspace.rollouts_prefix}/step-{step:06d}.parquet")
        if show:
            rows = self._renew("samples.jsonl", step, sample_rows(table, self._tokenizer))
            self._job.attempt.tracker.table(rows, "rollouts.json")
            if others := self._renew("disagreements.jsonl", step, disagreements(step, batch.samples)):
                self._job.attempt.tracker.table(others, "disagreements.json")
        if newest:
            self._renew(
                "influence.jsonl", step, [{"step": step, **influence_record(self._options, *newest, self._tokenizer)}]
            )

    def answers(self, step: int, groups: Sequence[RolloutGroup]) -> None:
        """Keep what the first held-out problems are answered at this step; 0 is the warmed-up model."""
        if not self._job.attempt or not groups:
            return
        self.folder.mkdir(exist_ok=True)
        rows = [row for group in groups[:ANSWERED] for row in sample_rows(record_table(step, [group]), self._tokenizer)]
        self._renew("answers.jsonl", step, rows)

    def publish(self) -> None:
        """Publish the folder, with the journal of the metrics, as the output `records`."""
        if self._job.attempt:
            shutil.copyfile(self._job.workspace.directory / "journal.jsonl", self.folder / "journal.jsonl")
            self._job.attempt.publish("records", self.folder)

    def _renew(self, name: str, step: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add rows to a file: what a killed attempt has there of this step, and after it, is sampled again."""
        path = self.folder / name
        before = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
        rows = [row for row in before if row["step"] < step] + rows
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return rows
