"""What a step measures: of the rollouts, the updates and the validation problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch

from fipo.algorithm.guards import influence_std, no_op_warning, noise_warning
from fipo.algorithm.measurement import COMMON, REDUCTIONS, SHARE, Measurement, Ranks, Reduction
from fipo.batch import FinishReason, Outcome, RolloutGroup, Score
from fipo.distributed.engine import StepOutcome, TrainingEngine
from fipo.rewards.second_opinion import disagrees
from fipo.training.rl.sampling import RolloutBatch, has_signal


class Updates:
    """Measures the updates of one rollout batch."""

    def __init__(self) -> None:
        self._taken: list[dict[str, Measurement]] = []
        self._begun: dict[str, Measurement] = {}
        self._skipped = 0
        self.reduced: dict[str, Series] = {}
        """What `metrics` found, by update."""

    @property
    def taken(self) -> int:
        """Updates that were taken."""
        return len(self._taken)

    @property
    def done(self) -> int:
        """Updates that have ended, those left out too."""
        return len(self._taken) + self._skipped

    def as_json(self) -> dict[str, Any]:
        """What this rank has measured, between two updates."""
        kind = REDUCTIONS.index
        taken = [{name: [one.value.item(), kind(one.reduction)] for name, one in up.items()} for up in self._taken]
        return {"taken": taken, "skipped": self._skipped}

    @classmethod
    def from_json(cls, of_ranks: Sequence[Mapping[str, Any]], rank: int, ranks: int) -> Updates:
        """One rank's share of what the ranks before have measured: its own, where they are as many."""
        updates = cls()
        updates._skipped = of_ranks[0]["skipped"]
        for index, names in enumerate(of_ranks[0]["taken"]):
            joined: dict[str, Measurement] = {}
            for name in names:
                parts = [_measurement(one["taken"][index][name]) for one in of_ranks[rank::ranks]]
                if not parts:  # more ranks than before: of a sum nothing, of all else what another has
                    known = _measurement(names[name])
                    parts = [replace(known, value=torch.zeros(())) if known.reduction is SHARE else known]
                joined[name] = reduce(Measurement.joined, parts)
            updates._taken.append(joined)
        return updates

    def measured(self, parts: Mapping[str, Measurement]) -> None:
        """A micro-batch of the update was learned from."""
        begun = self._begun
        self._begun = {name: begun[name].joined(part) if begun else part for name, part in parts.items()}

    def ended(self, outcome: StepOutcome) -> None:
        """The update ended; one that was left out does not count."""
        grad_norm = Measurement(torch.tensor(outcome.grad_norm), COMMON)
        if not outcome.skipped:
            self._taken.append(self._begun | {"grad_norm": grad_norm})
        self._skipped += outcome.skipped
        self._begun = {}

    def metrics(self, world: Ranks) -> dict[str, float]:
        """Exact over micro-batches and ranks; collective."""
        self.reduced = reduce_updates(self._taken, world) if self._taken else {}
        counts = {"train/updates": float(len(self._taken)), "train/skipped_updates": float(self._skipped)}
        return (update_metrics(self.reduced) if self._taken else {}) | counts


def _measurement(told: Sequence[Any]) -> Measurement:
    value, kind = told
    return Measurement(torch.tensor(value), REDUCTIONS[kind])


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of a step's updates, over all ranks."""

    values: list[float]
    """One an update, in order."""
    reduction: Reduction


def rollout_metrics(batch: RolloutBatch, version: int) -> dict[str, float]:
    """Of all responses that were sampled, groups without signal included: they are what the policy does.

    Args:
        batch: with advantages.
        version: optimizer steps that the policy has taken when it begins to learn from the batch.
    """
    samples = batch.samples
    scores = [sample.score for sample in samples]
    outcomes = [score.outcome for score in scores]
    ages = [version - sample.rollout.weight_version for sample in samples]
    went_on = [sample.rollout.later_versions is not None for sample in samples]
    learned = [sample.rollout.own_tokens for sample in samples if sample.advantage is not None]
    return {
        "rollout/reward_mean": _mean([score.reward for score in scores]),
        "rollout/accuracy": _mean([score.accuracy for score in scores]),
        "rollout/unparsed_fraction": _mean([outcome is Outcome.UNPARSED for outcome in outcomes]),
        "rollout/timeout_fraction": _mean([outcome is Outcome.TIMEOUT for outcome in outcomes]),
        "rollout/disagreement_fraction": _mean(
            [other for other in map(disagrees, samples) if other is not None] or [0.0]
        ),
        "rollout/truncated_fraction": _truncated_fraction(batch.sampled),
        "rollout/signal_fraction": _mean([has_signal(group) for group in batch.sampled]),
        "rollout/sampled_batches": float(batch.rounds),
        "rollout/trained_prompts": float(len(batch.groups)),
        "rollout/sampled_tokens": float(batch.sampled_tokens),
        "rollout/staleness_mean": _mean(ages),
        "rollout/staleness_max": float(max(ages)),
        "rollout/continued_fraction": _mean(went_on),
        "train/loss_tokens": float(sum(learned)),
        **reward_metrics(scores),
        **length_metrics("rollout", batch.sampled),
    }


def reward_metrics(scores: Sequence[Score]) -> dict[str, float]:
    """The mean of each reward function, before its weight, over the responses that have a verdict."""
    said: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.components.items():
            said.setdefault(name, []).append(value)
    # As `package.module:function` is written where a colon means something.
    return {f"reward/{name.replace(':', '.')}": _mean(values) for name, values in said.items()}


def expert_metrics(engine: TrainingEngine) -> dict[str, float]:
    """How even the load of a mixture's experts was in the step's updates and old log-probs; collective."""
    return {f"train/{name}": value for name, value in engine.expert_load().items()}


def validation_metrics(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Of one response to each validation problem."""
    return {
        "validation/accuracy": _mean([score.accuracy for group in groups for score in group.scores]),
        "validation/truncated_fraction": _truncated_fraction(groups),
        **length_metrics("validation", groups),
    }


def length_metrics(prefix: str, groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Quantiles and mean of the response tokens that were sampled; with environments also turns and what they said."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = [rollout.own_tokens for rollout in rollouts]
    low, q25, median, q75, high = np.quantile(lengths, [0.0, 0.25, 0.5, 0.75, 1.0])
    quantiles = {"min": low, "q25": q25, "mean": np.mean(lengths), "median": median, "q75": q75, "max": high}
    found = {f"{prefix}/response_tokens_{name}": float(value) for name, value in quantiles.items()}
    if any(group.prompt.environment for group in groups):
        found[f"{prefix}/turns_mean"] = _mean([rollout.turns for rollout in rollouts])
        found[f"{prefix}/turns_max"] = float(max(rollout.turns for rollout in rollouts))
        found[f"{prefix}/observation_tokens_mean"] = _mean(
            [len(rollout.token_ids) - rollout.own_tokens for rollout in rollouts]
        )
    return found


def reduce_updates(measured: Sequence[Mapping[str, Measurement]], world: Ranks) -> dict[str, Series]:
    """Each metric of each update, put together over the ranks; collective."""
    reduced: dict[str, Series] = {}
    for reduction in REDUCTIONS:  # in the same order on every rank
        names = sorted(name for name, one in measured[0].items() if one.reduction is reduction)
        if names:
            local = torch.stack([torch.stack([update[name].value.float() for name in names]) for update in measured])
            whole = reduction.ranks(world, local.cpu())
            reduced |= {name: Series(whole[:, index].tolist(), reduction) for index, name in enumerate(names)}
    return reduced


def update_metrics(reduced: Mapping[str, Series]) -> dict[str, float]:
    """Over the updates of a step: each metric, and the spread of the influence weights in each update."""
    deviations = reduced["influence_weight_square_deviation"].values
    means = {f"train/{name}": series.reduction.updates(series.values) for name, series in reduced.items()}
    spreads = list(map(influence_std, reduced["influence_weight_mean"].values, deviations))
    return {
        **means,
        "train/influence_clip_fraction": means["train/influence_clip_low_fraction"]
        + means["train/influence_clip_high_fraction"],
        "train/influence_weight_std": _mean(spreads),
        **{f"train/influence_weight_std_update_{index}": spread for index, spread in enumerate(spreads)},
        # Before the first update the policy is the old policy: what Future-KL spreads there is noise.
        "train/future_kl_noise": math.sqrt(reduced["future_kl_square_mean"].values[0]),
    }


def guard_warnings(reduced: Mapping[str, Series], half_life: float) -> list[str]:
    """What the guards say of the updates of a step."""
    no_op = no_op_warning(reduced["influence_weight_square_deviation"].values)
    noise = noise_warning(reduced["future_kl_square_mean"].values[0], half_life)
    return [warning for warning in (no_op, noise) if warning]


def _truncated_fraction(groups: Sequence[RolloutGroup]) -> float:
    return _mean([rollout.finish_reason is FinishReason.LENGTH for group in groups for rollout in group.rollouts])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
