"""Every metric, once: name, unit, meaning. `python -m fipo.tracking` prints them as docs/metrics.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Metric:
    """One metric, or a family of them."""

    name: str
    """Parts in angle brackets stand for anything without a slash: `eval/<benchmark>/avg_at_k`."""
    unit: str
    meaning: str
    only: str = ""
    """Where alone it is logged; empty is in every run."""

    def matches(self, name: str) -> bool:
        """Whether `name` is this metric or of this family."""
        return re.fullmatch(re.sub("<[a-z_]+>", "[^/]+", self.name), name) is not None


def check(name: str) -> Metric:
    """The definition of `name`.

    Raises:
        ValueError: there is none.
    """
    metric = _find(name)
    if metric is None:
        raise ValueError(f"metric {name!r} is not defined: add its unit and meaning to fipo/tracking/metric_names.py")
    return metric


@cache
def _find(name: str) -> Metric | None:
    return next((metric for metric in METRICS if metric.matches(name)), None)


def to_markdown() -> str:
    """The reference page, one table for each prefix."""
    lines = [
        "# Metrics",
        "",
        "Made by `python -m fipo.tracking`. One step of `train/`, `rollout/`, `validation/` and `perf/` is one rollout",
        "batch, of `sft/` one optimizer step, of `system/` one sample, ten seconds apart. Fractions lie in [0, 1].",
    ]
    prefix = ""
    for metric in METRICS:
        if metric.name.split("/")[0] != prefix:
            prefix = metric.name.split("/")[0]
            lines += ["", f"## {prefix}/", "", "| Metric | Unit | Meaning |", "|---|---|---|"]
        where = f"; {metric.only} only" if metric.only else ""
        lines.append(f"| `{metric.name}` | {metric.unit} | {metric.meaning}{where} |")
    return "\n".join(lines) + "\n"


TURNS, EXPERTS, STORE, GPUS = "with environments", "with experts", "with `storage.uri`", "with NVIDIA GPUs"

_QUANTILES = {
    "min": "Shortest", "q25": "First quartile of", "mean": "Mean", "median": "Median",
    "q75": "Third quartile of", "max": "Longest",
}  # fmt: skip


def _lengths(prefix: str) -> tuple[Metric, ...]:
    return (
        *(
            Metric(f"{prefix}/response_tokens_{name}", "tokens", f"{word} response length, observations left out")
            for name, word in _QUANTILES.items()
        ),
        Metric(f"{prefix}/turns_mean", "turns", "Mean turns of a response", TURNS),
        Metric(f"{prefix}/turns_max", "turns", "The same, of the response with most", TURNS),
        Metric(f"{prefix}/observation_tokens_mean", "tokens", "Mean tokens of environments in a response", TURNS),
    )


METRICS: tuple[Metric, ...] = (
    Metric("train/loss", "1", "Policy loss (FIPO: Eq. 8), token mean, averaged over the step's updates"),
    Metric("train/grad_norm", "1", "Gradient norm before clipping, averaged over the step's updates"),
    Metric("train/learning_rate", "1", "Learning rate of the last update"),
    Metric("train/entropy", "nats/token", "Entropy of the policy at the response tokens"),
    Metric("train/policy_kl_k1", "nats/token", "Estimate of KL(old policy, policy): mean of -log ratio"),
    Metric("train/policy_kl_k3", "nats/token", "The same, never negative and of less variance: ratio - 1 - log ratio"),
    Metric("train/importance_ratio_mean", "1", "Mean importance ratio of policy and old policy; near 1"),
    Metric("train/importance_ratio_max", "1", "Largest importance ratio"),
    Metric("train/ratio_clip_low_fraction", "fraction", "Tokens whose loss is clipped at 1 - clip_low"),
    Metric("train/ratio_clip_high_fraction", "fraction", "Tokens whose loss is clipped at 1 + clip_high"),
    Metric("train/dual_clip_fraction", "fraction", "Tokens with negative advantage and a ratio above dual_clip"),
    Metric("train/dropped_fraction", "fraction", "Tokens of responses dropped for being dual-clipped"),
    Metric("train/advantage_mean", "1", "Length-weighted mean advantage: sum over tokens, divided by tokens"),
    Metric(
        "train/mismatch_weight_mean", "1", "Mean of w = trainer over engine probability of a token; 1 if they agree"
    ),
    Metric("train/mismatch_weight_max", "1", "Largest w"),
    Metric(
        "train/mismatch_kl_k3",
        "nats/token",
        "Estimate of KL(engine, trainer): w - 1 - log w; with stale rollouts the policy's movement counts",
    ),
    Metric("train/mismatch_log_prob_gap_mean", "nats", "Mean distance of trainer and engine log-probs"),
    Metric("train/mismatch_log_prob_gap_max", "nats", "Largest distance of trainer and engine log-probs"),
    Metric("train/correction_mean", "1", "Mean of what the correction multiplies the loss by; 1 without correction"),
    Metric("train/correction_masked_fraction", "fraction", "Tokens that the correction masks"),
    Metric("train/influence_weight_mean", "1", "Mean influence weight f (Eq. 7); 1 means that FIPO acts as DAPO"),
    Metric("train/influence_weight_min", "1", "Smallest influence weight"),
    Metric("train/influence_weight_max", "1", "Largest influence weight"),
    Metric("train/influence_weight_std", "1", "Spread of the influence weights, averaged over the step's updates"),
    Metric(
        "train/influence_weight_std_update_<index>", "1", "The same in the step's update of this index; 0 at index 0"
    ),
    Metric("train/influence_weight_square_deviation", "1", "Mean of (f - 1)²"),
    Metric("train/influence_clip_low_fraction", "fraction", "Tokens whose influence weight is clipped from below"),
    Metric("train/influence_clip_high_fraction", "fraction", "Tokens whose influence weight is clipped from above"),
    Metric("train/influence_clip_fraction", "fraction", "Tokens whose influence weight is clipped, either way"),
    Metric("train/safety_fraction", "fraction", "Tokens with negative advantage and a ratio above safety_ratio"),
    Metric("train/future_kl_mean", "nats", "Mean Future-KL (Eq. 6)"),
    Metric("train/future_kl_square_mean", "nats²", "Mean squared Future-KL"),
    Metric("train/future_kl_noise", "nats", "Spread of Future-KL before the first update, where only noise moves it"),
    Metric("train/future_kl_masked_fraction", "fraction", "Tokens that the mask M_k keeps out of Future-KL"),
    Metric(
        "train/expert_load_max",
        "1",
        "Tokens of the busiest expert over the mean, in the layer where it is largest",
        EXPERTS,
    ),
    Metric("train/expert_idle_fraction", "fraction", "Experts that got no token in the step's passes", EXPERTS),
    Metric("train/updates", "updates", "Optimizer updates in the step"),
    Metric(
        "train/skipped_updates",
        "updates",
        "Left out for a loss or gradient norm that is not finite, or too large a norm",
    ),
    Metric("train/steps_without_signal", "steps", "Steps in a row, this the last, in which no response was correct"),
    Metric("train/loss_tokens", "tokens", "Response tokens that the step learned from"),
    Metric("rollout/reward_mean", "1", "Mean reward, overlong penalty included, over all sampled responses"),
    Metric("rollout/accuracy", "fraction", "Sampled responses that the verifier accepts"),
    Metric("rollout/unparsed_fraction", "fraction", "Sampled responses without an answer that can be read"),
    Metric("rollout/timeout_fraction", "fraction", "Sampled responses whose verification was cut off"),
    Metric(
        "rollout/disagreement_fraction",
        "fraction",
        "Mathematical verdicts that texts alone would not have given; MLflow's disagreements.json shows some",
    ),
    Metric("rollout/truncated_fraction", "fraction", "Sampled responses that reached a limit, of tokens or of turns"),
    Metric("rollout/signal_fraction", "fraction", "Sampled groups whose responses are not all right or all wrong"),
    Metric("rollout/sampled_batches", "batches", "Rounds of generation until the rollout batch was full"),
    Metric("rollout/trained_prompts", "prompts", "Prompts in the rollout batch"),
    Metric("rollout/sampled_tokens", "tokens", "Response tokens sampled for the step, groups without signal included"),
    Metric(
        "rollout/staleness_mean",
        "updates",
        "Optimizer steps between the weights that sampled a response's first token and those trained",
    ),
    Metric("rollout/staleness_max", "updates", "The same, of the stalest response; 0 unless rollouts run ahead"),
    Metric("rollout/continued_fraction", "fraction", "Responses that more than one version of the weights sampled"),
    *_lengths("rollout"),
    Metric(
        "reward/<function>",
        "1",
        "Mean of a reward function before its weight, over responses with a verdict; `.` for `:`",
    ),
    Metric("validation/accuracy", "fraction", "Validation problems answered right, one response each"),
    Metric(
        "validation/truncated_fraction", "fraction", "Validation responses that reached a limit, of tokens or of turns"
    ),
    *_lengths("validation"),
    Metric("sft/loss", "nats/token", "Negative log-likelihood of the response tokens in the batch"),
    Metric("sft/validation_loss", "nats/token", "The same on held-out demonstrations"),
    Metric("sft/grad_norm", "1", "Gradient norm before clipping"),
    Metric("sft/skipped_updates", "updates", "1 where the step was left out, as train/skipped_updates says"),
    Metric("sft/expert_load_max", "1", "As train/expert_load_max, of the batch", EXPERTS),
    Metric("sft/expert_idle_fraction", "fraction", "As train/expert_idle_fraction, of the batch", EXPERTS),
    Metric("sft/learning_rate", "1", "Learning rate"),
    *(
        metric
        for prefix in ("eval/<benchmark>", "eval/<benchmark>/<model>")
        for metric in (
            Metric(f"{prefix}/avg_at_k", "fraction", "Mean accuracy of k responses to each problem"),
            Metric(f"{prefix}/cons_at_k", "fraction", "Problems whose majority answer is right"),
            Metric(f"{prefix}/pass_at_k", "fraction", "Problems with at least one right response of k (unbiased)"),
            Metric(f"{prefix}/mean_response_tokens", "tokens", "Mean response length"),
            Metric(f"{prefix}/truncated_fraction", "fraction", "Responses that reached the length limit"),
        )
    ),
    Metric("eval/<benchmark>/contaminated_fraction", "fraction", "Problems that overlap the training data"),
    Metric("checkpoint/failed_saves", "checkpoints", "Not written (a full disk), so far in this attempt"),
    Metric("checkpoint/failed_uploads", "checkpoints", "Refused by the object store, so far in this attempt", STORE),
    Metric(
        "checkpoint/uploaded_step", "step", "Newest checkpoint that this attempt brought to the object store", STORE
    ),
    Metric("checkpoint/rollbacks", "returns", "Returns to the last checkpoint, so far in this attempt", "after one"),
    Metric("gate/passed", "0 or 1", "Whether the model may become champion"),
    Metric("gate/value", "fraction", "Value of the gate's metric"),
    Metric("data/read", "rows", "Rows found in all sources"),
    Metric("data/quarantined", "rows", "Faulty rows, set aside with line number and reason"),
    Metric("data/removed", "rows", "Sound rows left out: duplicates, overlaps with a benchmark, overlong prompts"),
    Metric("data/train", "rows", "Problems for RL"),
    Metric("data/validation", "rows", "Problems held out of them"),
    Metric("data/sft", "rows", "Demonstrations for the warm-up"),
    Metric("data/sft-validation", "rows", "Demonstrations held out of them"),
    Metric("data/benchmarks/<benchmark>", "rows", "Problems of a benchmark"),
    Metric("perf/step_seconds", "s", "Wall time of the step"),
    Metric("perf/generate_seconds", "s", "Part of it spent on sampling responses"),
    Metric("perf/score_seconds", "s", "Part spent on verifying them"),
    Metric("perf/gather_seconds", "s", "Part spent on exchanging them between ranks"),
    Metric("perf/wait_seconds", "s", "Part spent waiting for responses that are sampled ahead"),
    Metric("perf/old_log_probs_seconds", "s", "Part spent on the log-probs before the updates"),
    Metric("perf/update_seconds", "s", "Part spent on optimizer updates"),
    Metric("perf/sync_seconds", "s", "Part spent on bringing new weights to the rollout engine"),
    Metric("perf/evaluate_seconds", "s", "Part spent on the validation problems"),
    Metric("perf/record_seconds", "s", "Part spent on handing all responses to what stores them beside the next step"),
    Metric(
        "perf/generate_idle_fraction",
        "fraction",
        "Of sampling and verifying: share in which ranks, on the mean, waited for the slowest one; 0 with one rank",
    ),
    Metric(
        "perf/update_idle_fraction",
        "fraction",
        "Of log-probs and updates: share in which ranks wait for the costliest micro-batch of each index, by the cost "
        "that packing counts",
    ),
    Metric("perf/checkpoint_seconds", "s", "Part spent on saving"),
    Metric("perf/tokens_per_second", "tokens/s", "Sampled response tokens by wall time of the step, all ranks"),
    Metric("system/cpu_utilization_percentage", "%", "Use of all cores since the last sample"),
    Metric("system/system_memory_usage_megabytes", "MB", "Memory in use on the machine"),
    Metric("system/system_memory_usage_percentage", "%", "The same as a share of all"),
    Metric("system/disk_usage_megabytes", "MB", "Disk space in use at the root"),
    Metric("system/disk_usage_percentage", "%", "The same as a share of all"),
    Metric("system/disk_available_megabytes", "MB", "Disk space left at the root"),
    Metric("system/network_receive_megabytes", "MB", "Received since the step began"),
    Metric("system/network_transmit_megabytes", "MB", "Sent since the step began"),
    Metric("system/gpu_<index>_utilization_percentage", "%", "Time in which the GPU was busy", GPUS),
    Metric("system/gpu_<index>_memory_usage_megabytes", "MB", "GPU memory in use", GPUS),
    Metric("system/gpu_<index>_memory_usage_percentage", "%", "The same as a share of all", GPUS),
    Metric("system/gpu_<index>_power_usage_watts", "W", "Power draw", GPUS),
    Metric("system/gpu_<index>_power_usage_percentage", "%", "The same as a share of the limit", GPUS),
)
"""In the order of docs/metrics.md."""
