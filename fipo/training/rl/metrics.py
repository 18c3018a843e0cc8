"""What a step reports: of the rollouts, the updates, the validation problems, and in one line for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fipo.algorithm.guards import influence_std, no_op_warning, noise_warning
from fipo.algorithm.measurement import REDUCTIONS, Measurement, Ranks, Reduction
from fipo.batch import FinishReason, Outcome, RolloutGroup
from fipo.training.rl.sampling import RolloutBatch, has_signal


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of a step's updates, over all ranks."""

    values: list[float]
    """One an update, in order."""
    reduction: Reduction


def rollout_metrics(batch: RolloutBatch) -> dict[str, float]:
    """Of all responses that were sampled, groups without signal included: they are what the policy does."""
    scores = [score for group in batch.sampled for score in group.scores]
    outcomes = [score.outcome for score in scores]
    return {
        "rollout/reward_mean": _mean([score.reward for score in scores]),
        "rollout/accuracy": _mean([score.accuracy for score in scores]),
        "rollout/unparsed_fraction": _mean([outcome is Outcome.UNPARSED for outcome in outcomes]),
        "rollout/timeout_fraction": _mean([outcome is Outcome.TIMEOUT for outcome in outcomes]),
        "rollout/truncated_fraction": _truncated_fraction(batch.sampled),
        "rollout/signal_fraction": _mean([has_signal(group) for group in batch.sampled]),
        "rollout/sampled_batches": float(batch.rounds),
        "rollout/trained_prompts": float(len(batch.groups)),
        "rollout/sampled_tokens": float(sum(len(one.token_ids) for group in batch.sampled for one in group.rollouts)),
        **length_metrics("rollout", batch.sampled),
    }


def staleness_metrics(batch: RolloutBatch, version: int) -> dict[str, float]:
    """How many optimizer steps the policy, now of `version`, has taken since it sampled the batch."""
    ages = [version - rollout.weight_version for group in batch.sampled for rollout in group.rollouts]
    return {"rollout/staleness_mean": _mean(ages), "rollout/staleness_max": float(max(ages))}


def validation_metrics(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Of one response to each validation problem."""
    return {
        "validation/accuracy": _mean([score.accuracy for group in groups for score in group.scores]),
        "validation/truncated_fraction": _truncated_fraction(groups),
        **length_metrics("validation", groups),
    }


def length_metrics(prefix: str, groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Minimum, quartiles, mean and maximum of the response tokens."""
    lengths = [len(rollout.token_ids) for group in groups for rollout in group.rollouts]
    low, q25, median, q75, high = np.quantile(lengths, [0.0, 0.25, 0.5, 0.75, 1.0])
    quantiles = {"min": low, "q25": q25, "mean": np.mean(lengths), "median": median, "q75": q75, "max": high}
    return {f"{prefix}/response_tokens_{name}": float(value) for name, value in quantiles.items()}


def reduce_updates(measured: Sequence[Mapping[str, Measurement]], world: Ranks) -> dict[str, Series]:
    """Each metric of each update, put together over the ranks; collective."""
    reduced = {}
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
    spreads = list(map(influence_std, reduced["influence_weight_mean"].values, deviations))
    return {
        **{f"train/{name}": series.reduction.updates(series.values) for name, series in reduced.items()},
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


def progress_line(step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """One step in one line."""
    parts = [
        f"step {step}/{steps}",
        f"accuracy {metrics['rollout/accuracy']:.3f}",
        f"tokens {metrics['rollout/response_tokens_mean']:.1f}",
    ]
    if "train/influence_weight_mean" in metrics:
        parts.append(f"f {metrics['train/influence_weight_mean']:.3f} ± {metrics['train/influence_weight_std']:.3f}")
    if "validation/accuracy" in metrics:
        parts.append(f"validation {metrics['validation/accuracy']:.3f}")
    seconds = metrics["perf/step_seconds"]
    return "  ".join([*parts, f"{seconds:.1f} s", f"{(steps - step) * seconds:.0f} s left"])


def _truncated_fraction(groups: Sequence[RolloutGroup]) -> float:
    return _mean([rollout.finish_reason is FinishReason.LENGTH for group in groups for rollout in group.rollouts])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
