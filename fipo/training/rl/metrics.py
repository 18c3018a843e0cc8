"""What a step reports: of the rollouts, of the validation problems, and in one line for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fipo.batch import FinishReason, Outcome, RolloutGroup
from fipo.training.rl.sampling import RolloutBatch, has_signal


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
        **length_metrics("rollout", batch.sampled),
    }


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
