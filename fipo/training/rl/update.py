"""The policy updates of one rollout batch: advantages, old log-probs, then one optimizer step for each mini-batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fipo.algorithm.loss import policy_loss
from fipo.algorithm.measurement import COMMON, SHARE, Measurement
from fipo.algorithm.options import LossOptions
from fipo.batch import Outcome, RolloutGroup, TrainingBatch
from fipo.config import Config
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.packing import plan_micro_batches
from fipo.training.job import Job
from fipo.training.rl.experience import Experience, experiences_of
from fipo.training.rl.metrics import guard_warnings, reduce_updates, update_metrics
from fipo.training.rl.records import influence_record
from fipo.training.rl.timing import Timer
from fipo.training.rows import pack_rows, spread


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """One optimizer step: this rank's micro-batches and the loss denominators, which count all ranks."""

    micro_batches: list[TrainingBatch]
    """Whole rows, also where ranks share them."""
    num_loss_tokens: int
    num_loss_responses: int


class Updater:
    """Takes the optimizer steps of one rollout batch and measures them."""

    def __init__(self, engine: TrainingEngine, config: Config, tokenizer: PreTrainedTokenizerBase) -> None:
        self.engine, self.config, self.tokenizer = engine, config, tokenizer
        self.options: LossOptions = config.algorithm
        self.warnings: list[str] = []
        """What the guards say of the newest rollout batch."""
        self._last: tuple[TrainingBatch, Tensor] | None = None

    def update(self, groups: Sequence[RolloutGroup], timer: Timer) -> dict[str, float]:
        """Train on the groups, `train.mini_batch_prompts` at a time; metrics are exact over ranks and micro-batches."""
        size = self.config.train.mini_batch_prompts
        experiences = [experiences_of(group, scale_by_std=self.options.scale_by_std) for group in groups]
        with timer("old_log_probs"):
            mini_batches = [
                self._mini_batch([one for group in experiences[start : start + size] for one in group])
                for start in range(0, len(groups), size)
            ]
        with timer("update"):
            taken = [totals for totals in map(self._step, mini_batches) if totals]
            reduced = reduce_updates(taken, self.engine.world) if taken else {}
        if reduced and self.options.loss == "fipo":
            self.warnings = guard_warnings(reduced, self.options.half_life)
        return (update_metrics(reduced) if reduced else {}) | {
            "train/updates": float(len(taken)),
            "train/skipped_updates": float(len(mini_batches) - len(taken)),
            "train/loss_tokens": float(sum(mini_batch.num_loss_tokens for mini_batch in mini_batches)),
        }

    def write_sample(self, job: Job, step: int) -> None:
        """Append one response of the last mini-batch, with what each token weighed, to the records of the run."""
        if job.attempt and self._last:
            folder = job.workspace.directory / "records"
            folder.mkdir(exist_ok=True)
            record = {"step": step, **influence_record(self.options, *self._last, self.tokenizer)}
            with (folder / "influence.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _mini_batch(self, experiences: list[Experience]) -> MiniBatch:
        """Pack this rank's share and compute its `old_log_probs`, by the trainer and in the update's own packing."""
        sequence = self.engine.sequence
        plan = plan_micro_batches(
            [len(one.row) for one in experiences],
            ranks=sequence.data_ranks,
            max_tokens=self.config.train.max_tokens_per_micro_batch,
            attention_parity=self.engine.attention_parity,
        )
        learned = [one for one in experiences if one.outcome is not Outcome.TIMEOUT]
        micro_batches = []
        for indices in plan[sequence.data_rank]:
            batch = self._batch([experiences[index] for index in indices])
            with torch.no_grad():
                old_log_probs, _ = self.engine.log_probs(sequence.shard(batch.tokens))
            micro_batches.append(replace(batch, old_log_probs=sequence.gather(old_log_probs)))
        return MiniBatch(micro_batches, sum(len(one.rollout.token_ids) for one in learned), len(learned))

    def _batch(self, experiences: list[Experience]) -> TrainingBatch:
        rows, multiple_of = [one.row for one in experiences], self.engine.sequence.size
        tokens = pack_rows(rows, self.tokenizer.pad_token_id, multiple_of=multiple_of)
        advantages = spread([one.advantage for one in experiences], tokens)
        rollout_log_probs = spread([one.rollout.log_probs for one in experiences], tokens)
        judged = torch.tensor([one.outcome is not Outcome.TIMEOUT for one in experiences] + [False])
        tokens = replace(tokens, response_mask=tokens.response_mask & judged[tokens.segment_ids])
        return TrainingBatch(tokens, advantages, rollout_log_probs).to(self.engine.world.device)

    def _step(self, mini_batch: MiniBatch) -> dict[str, Measurement] | None:
        """Metrics of the update on this rank; None when it was left out (`TrainingEngine.step`)."""
        totals: dict[str, Measurement] = {}
        sequence = self.engine.sequence
        for whole in mini_batch.micro_batches:
            batch = sequence.shard(whole)
            log_probs, entropy = self.engine.log_probs(batch.tokens)
            output = policy_loss(
                self.options,
                log_probs,
                batch.old_log_probs,
                batch.advantages,
                batch.tokens.response_mask,
                num_loss_tokens=mini_batch.num_loss_tokens,
                num_loss_responses=mini_batch.num_loss_responses,
                max_response_tokens=self.config.rollout.max_response_tokens,
                segment_ids=batch.tokens.segment_ids,
                sequence_group=sequence.group,
                rollout_log_probs=batch.rollout_log_probs,
            )
            self.engine.backward(output.loss)
            measured = {
                **output.measured,
                "loss": Measurement(output.loss.detach(), SHARE),
                "entropy": Measurement(entropy.detach().sum() / mini_batch.num_loss_tokens, SHARE),
            }
            totals = {name: totals[name].joined(one) if totals else one for name, one in measured.items()}
        self._last = whole, sequence.gather(log_probs.detach())
        outcome = self.engine.step()
        if outcome.skipped:
            return None
        return totals | {"grad_norm": Measurement(torch.tensor(outcome.grad_norm), COMMON)}
