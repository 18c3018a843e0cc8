"""What a step tells while training runs: metrics, warnings, and one line for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from fipo.algorithm.options import LossOptions
from fipo.training.admission import mismatch_warning
from fipo.training.job import Job
from fipo.training.rl.metrics import Series, guard_warnings
from fipo.training.rl.timing import Timer

FEW_UPDATES = (
    "the last steps had less than two updates each, in which every influence weight is 1: FIPO is DAPO. Too few "
    "prompts have a signal: lower train.mini_batch_prompts, raise train.max_generation_rounds, or take other problems"
)
FEW_STEPS = 3
"""Steps in a row of less than two updates each, after which that is said."""


class StepLog:
    """Tells of one step after the other."""

    def __init__(self, job: Job, options: LossOptions, mismatch_limit: float) -> None:
        self._job, self._options, self._mismatch_limit = job, options, mismatch_limit
        self._few_updates = 0
        """Steps in a row that had less than two."""

    def learned(self, step: int, metrics: Mapping[str, float], reduced: Mapping[str, Series]) -> None:
        """The step's updates are done: log them, and say what the guards see in them."""
        self._job.log(metrics, step)
        fipo = reduced and self._options.loss == "fipo"
        warnings = [*guard_warnings(reduced, self._options.half_life)] if fipo else []
        self._few_updates = self._few_updates + 1 if metrics["train/updates"] < 2.0 else 0
        if self._options.loss == "fipo" and self._few_updates == FEW_STEPS:
            warnings.append(FEW_UPDATES)
        if not metrics.get("rollout/staleness_max"):  # else the policy has moved since, and that is no fault
            gap = metrics.get("train/mismatch_log_prob_gap_mean", 0.0)
            warnings += filter(None, [mismatch_warning(gap, self._mismatch_limit)])
        for warning in warnings:
            self._job.say(f"warning: {warning}")

    def ended(self, step: int, metrics: Mapping[str, float], validation: Mapping[str, float], timer: Timer) -> None:
        """The step is done: log what came since its updates, and say it all in one line."""
        new = {**validation, **timer.metrics()}
        new["perf/tokens_per_second"] = metrics["rollout/sampled_tokens"] / new["perf/step_seconds"]
        self._job.log(new, step)
        steps = self._job.config.train.steps
        left = self._job.meter.steps(step, steps).seconds_left or 0.0
        self._job.say(progress_line(step, steps, {**metrics, **new}, left))


def progress_line(step: int, steps: int, metrics: Mapping[str, float], seconds_left: float) -> str:
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
    return "  ".join([*parts, f"{metrics['perf/step_seconds']:.1f} s", f"{seconds_left:.0f} s left"])
