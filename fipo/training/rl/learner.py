"""The trainer's side of a step: samples packed into mini-batches with old log-probs, and the loss of each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fipo.algorithm.forking import entropy_threshold, forking_tokens
from fipo.algorithm.loss import LossOutput, policy_loss
from fipo.algorithm.measurement import SHARE, Measurement
from fipo.algorithm.metrics import Measure, at_least_one
from fipo.algorithm.options import LossOptions
from fipo.batch import RolloutGroup, Sample, TrainingBatch
from fipo.config import Config
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.packing import plan_micro_batches, work_of
from fipo.training.rl.traces import Traces, seen, traces_of
from fipo.training.rows import Row, pack_rows, spread


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """One optimizer step: this rank's micro-batches and the loss denominators, which count all ranks."""

    micro_batches: list[TrainingBatch]
    """Whole rows, also where ranks share them."""
    num_loss_tokens: int
    num_loss_responses: int
    places: list[list[int]]
    """Of each micro-batch's rows, which response of the update each is."""
    update: int
    """Which of the step's: 0, 1, ..."""


class Learner:
    """Computes what the policy is trained by; the engine computes log-probs and takes the steps."""

    def __init__(self, engine: TrainingEngine, config: Config, tokenizer: PreTrainedTokenizerBase) -> None:
        self._engine, self._settings, self._tokenizer = engine, config.train, tokenizer
        self._max_response_tokens = config.rollout.max_response_tokens
        self._options: LossOptions = config.algorithm
        self._seen: list[tuple[int, TrainingBatch, Tensor]] = []
        self._traces: Traces = {}
        self.work: list[list[float]] = []
        """What each rank's micro-batch costs, by index, of the step's updates: ranks wait for each other in each."""

    def mini_batches(
        self,
        groups: Sequence[RolloutGroup],
        done: int = 0,
        known: Mapping[str, Tensor] | None = None,
        traces: Traces | None = None,
    ) -> list[MiniBatch]:
        """The groups, `train.mini_batch_prompts` at a time, with `old_log_probs`: before any of them is learned from.

        Old log-probs are the trainer's own, in the packing in which the updates will see the rows.

        Args:
            groups: of the rollout batch.
            done: updates of the step that are done; theirs are left out.
            known: `old_policy` of the others, of a step that was left between two updates.
            traces: `traces_so_far` of those that are done.
        """
        self._seen, self._traces, self.work, size = [], dict(traces or {}), [], self._settings.mini_batch_prompts
        parts = [groups[start : start + size] for start in range(0, len(groups), size)]
        samples = [[sample for group in part for sample in group.samples] for part in parts]
        return [self._mini_batch(update, part, known) for update, part in enumerate(samples) if update >= done]

    def old_policy(self, mini_batches: Sequence[MiniBatch]) -> dict[str, Tensor]:
        """Log-probs and entropies [2, tokens] of this rank's rows, by update and place in it.

        Of ranks that share rows the first has them.
        """
        return {
            f"{one.update}/{place}": old
            for one in mini_batches
            for places, batch in zip(one.places, one.micro_batches, strict=True)
            for place, old in zip(places, _old(batch).split(list(batch.tokens.lengths), dim=1))  # not the padding
            if not self._engine.sequence.rank
        }

    def loss(self, mini_batch: MiniBatch, micro_batch: TrainingBatch) -> LossOutput:
        """The micro-batch's part of the update's loss (Eq. 8), with what it measures."""
        sequence = self._engine.sequence
        batch = sequence.shard(micro_batch)
        log_probs, entropy = self._engine.log_probs(batch.tokens)
        output = policy_loss(
            self._options,
            log_probs,
            batch.old_log_probs,
            batch.advantages,
            batch.tokens.response_mask,
            num_loss_tokens=mini_batch.num_loss_tokens,
            num_loss_responses=mini_batch.num_loss_responses,
            max_response_tokens=self._max_response_tokens,
            segment_ids=batch.tokens.segment_ids,
            sequence_group=sequence.group,
            rollout_log_probs=batch.rollout_log_probs,
            forking=batch.forking,
            have_observations=batch.tokens.have_observations,
        )
        self._seen.append((mini_batch.update, micro_batch, seen(output, entropy, batch)))
        measure = Measure(batch.tokens.response_mask, at_least_one(mini_batch.num_loss_tokens))
        own = {"loss": Measurement(output.loss.detach(), SHARE), "entropy": measure.mean(entropy.detach())}
        return replace(output, measured=output.measured | own)

    def traces(self) -> Traces:
        """What the loss saw in the responses that this rank learned from; collective over the ranks that share rows.

        Of these the first has it.
        """
        found, self._traces = self.traces_so_far(), {}  # the next batch is sampled beside it
        return found

    def traces_so_far(self) -> Traces:
        """The same between two updates: those that follow add to it."""
        sequence = self._engine.sequence
        for update, micro_batch, shard in self._seen:
            found = traces_of(micro_batch, sequence.gather(shard), update)
            self._traces |= {} if sequence.rank else found
        self._seen = []
        return self._traces

    def _mini_batch(self, update: int, samples: list[Sample], known: Mapping[str, Tensor] | None) -> MiniBatch:
        """This rank's share of the samples, packed."""
        sequence = self._engine.sequence
        lengths, parity = [len(_row(sample)) for sample in samples], self._engine.attention_parity
        plan = plan_micro_batches(
            lengths,
            ranks=sequence.data_ranks,
            max_tokens=self._settings.max_tokens_per_micro_batch,
            attention_parity=parity,
        )
        self.work += work_of(plan, lengths, parity)
        places = [list(indices) for indices in plan[sequence.data_rank]]
        packed = [
            self._packed(
                [samples[index] for index in row], [known[f"{update}/{index}"] for index in row] if known else None
            )
            for row in places
        ]
        learned = [sample for sample in samples if sample.advantage is not None]
        num_loss_tokens = sum(sample.rollout.own_tokens for sample in learned)
        return MiniBatch(self._forking(packed), num_loss_tokens, len(learned), places, update)

    def _packed(self, samples: list[Sample], known: list[Tensor] | None) -> TrainingBatch:
        """A micro-batch with its `old_log_probs`; collective over the ranks that share it."""
        sequence, device = self._engine.sequence, self._engine.world.device
        rows = pack_rows([_row(sample) for sample in samples], self._tokenizer.pad_token_id, multiple_of=sequence.size)
        advantages = spread([sample.advantage or 0.0 for sample in samples], rows)
        rollout_log_probs = spread([sample.rollout.log_probs[sample.rollout.own] for sample in samples], rows)
        learned = torch.tensor([*(sample.advantage is not None for sample in samples), False])  # the last is padding
        mask = rows.response_mask & learned[rows.segment_ids]
        tokens = replace(rows, response_mask=mask).to(device)
        if known is None:
            with torch.no_grad():
                own = self._engine.log_probs(sequence.shard(tokens))
            old_log_probs, old_entropy = (sequence.gather(each) for each in own)
        else:
            padding = torch.zeros(2, tokens.input_ids.shape[1] - sum(one.shape[1] for one in known))
            old_log_probs, old_entropy = torch.cat([*known, padding], dim=1)[:, None].to(device)
        return TrainingBatch(
            tokens,
            advantages.to(device),
            rollout_log_probs.to(device),
            old_log_probs,
            old_entropy,
            samples=tuple(samples),
        )

    def _forking(self, batches: list[TrainingBatch]) -> list[TrainingBatch]:
        """The micro-batches; with `forking_share` below 1, the tokens of highest entropy over all ranks are marked."""
        share = self._options.forking_share
        if share == 1:
            return batches
        learned = [batch.old_entropy[batch.tokens.response_mask].cpu() for batch in batches]
        everywhere = [each for rank in self._engine.world.gather(learned) for each in rank]
        threshold = entropy_threshold(everywhere, share)
        return [
            replace(batch, forking=forking_tokens(batch.old_entropy, batch.tokens.response_mask, threshold))
            for batch in batches
        ]


def _old(batch: TrainingBatch) -> Tensor:
    """[2, time] as `Learner.old_policy` has it."""
    return torch.cat([batch.old_log_probs, batch.old_entropy])


def _row(sample: Sample) -> Row:
    return Row(sample.prompt.token_ids, sample.rollout.token_ids, sample.rollout.response_mask)
