"""Run by test_gradients.py under torchrun: one SFT and two RL updates under every setting of the engine.

The reference is one plain process with one response a row: transformers, torch's AdamW and the loss, no engine, no
packing. It must have the same losses, unclipped gradient norms, metrics, Adam moments and weights.
"""

import copy
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy

from fipo.algorithm.loss import policy_loss
from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score
from fipo.config import Distributed, load_config
from fipo.distributed.bootstrap import join_world
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.sequence import SequenceParallel
from fipo.errors import ConfigError
from fipo.models import load_model, load_tokenizer
from fipo.training.rl.advantages import compared
from fipo.training.rl.learner import Learner
from fipo.training.rl.metrics import Updates
from fipo.training.rows import Row
from fipo.training.sft import cross_entropy

sys.path.insert(0, str(Path(__file__).parent))
from wholes import whole_parameters  # type: ignore[import-not-found]  # beside the script

CONFIG = load_config(
    Path(__file__).parents[1] / "pipelines" / "tiny.yaml",
    [
        "model.architecture.hidden_size=32",
        "model.architecture.intermediate_size=48",
        "model.architecture.layers=2",
        "model.architecture.attention_heads=4",
        "train.learning_rate=1e-2",
        "train.warmup_steps=0",
        "train.grad_clip=0.05",  # every update is clipped: a wrong scale would not show in the weights
        "train.max_tokens_per_micro_batch=24",
        "train.prompts_per_step=4",
        "train.mini_batch_prompts=2",
        "algorithm.dual_clip=1.1",
        "algorithm.forking_share=0.7",
        "algorithm.drop_dual_clipped_responses=true",
        "algorithm.correction=truncate",
        "algorithm.correction_level=sequence",
        "rollout.max_response_tokens=40",
    ],
)
METRICS = ("loss", "grad_norm", "entropy", "influence_weight_mean", "influence_weight_min", "future_kl_square_mean",
           "dropped_fraction", "correction_mean", "importance_ratio_max")  # fmt: skip


@dataclass
class Result:
    sft_loss: float
    sft_grad_norm: float
    sft_moments: dict[str, Any]
    metrics: dict[str, Any]
    moments: dict[str, Any]
    weights: dict[str, Any]


def groups():
    """Two updates of two prompts each; one row is longer than a micro-batch may be, one response timed out.

    Four responses have turns: among them the long one, whose observations reach over the bounds of ranks that share it.
    """
    generator = np.random.default_rng(5)
    result = []
    for index in range(4):
        prompt = Prompt(str(index), "", tuple(generator.integers(2, 13, 3 + index).tolist()), "")
        lengths = [2, 5, 30 if index == 1 else 9, 4]
        rollouts = tuple(
            Rollout(
                generator.integers(2, 13, length).astype(np.int32),
                generator.uniform(-4.0, -2.0, length).astype(np.float32),
                FinishReason.STOP,
                0,
                observed(length, *((4, 9), (12, 20)) if length == 30 else ((2, 5),)) if length > 5 else None,
            )
            for length in lengths
        )
        outcomes = [Outcome.CORRECT, Outcome.WRONG, Outcome.CORRECT, Outcome.TIMEOUT if index else Outcome.WRONG]
        scores = tuple(Score(outcome, float(outcome is Outcome.CORRECT), 1.0 - position * 0.3)
                       for position, outcome in enumerate(outcomes))  # fmt: skip
        result.append(compared(RolloutGroup(prompt, rollouts, scores)))
    return result


def observed(length, *spans):
    """A mask whose tokens in the spans are an environment's."""
    return np.array([not any(start <= at < end for start, end in spans) for at in range(length)])


def row_of(sample):
    return Row(sample.prompt.token_ids, sample.rollout.token_ids)


def demonstrations():
    return [Row(group.prompt.token_ids, rollout.token_ids) for group in groups() for rollout in group.rollouts][:7]


def make_model(key_value_heads):
    assert CONFIG.model.architecture
    architecture = CONFIG.model.architecture.model_copy(update={"key_value_heads": key_value_heads})
    return load_model(CONFIG.model.model_copy(update={"architecture": architecture}), seed=3)


def response_log_probs(plain, row):
    """[tokens] log-probs of the response and the entropies there, of one row alone."""
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]])
    logits = plain(ids).logits[0, len(row.prompt_ids) - 1 : -1]
    log_probs = -torch_cross_entropy(logits, ids[0, len(row.prompt_ids) :], reduction="none")
    return log_probs, torch.distributions.Categorical(logits=logits).entropy().detach()


def reference(key_value_heads):
    plain = make_model(key_value_heads)
    settings = CONFIG.train
    optimizer = torch.optim.AdamW(
        plain.parameters(), lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay
    )

    def update(loss):
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), settings.grad_clip)
        optimizer.step()
        return norm.item()

    rows = demonstrations()
    sft_loss = -sum(response_log_probs(plain, row)[0].sum() for row in rows) / sum(len(r.response_ids) for r in rows)
    sft_grad_norm = update(sft_loss)
    sft_moments = {name: optimizer.state[value]["exp_avg"].clone() for name, value in plain.named_parameters()}

    options = CONFIG.algorithm
    updates = [[one for group in pair for one in group.samples] for pair in (groups()[:2], groups()[2:])]
    with torch.no_grad():
        old = [
            [[found[one.rollout.own] for found in response_log_probs(plain, row_of(one))] for one in mini_batch]
            for mini_batch in updates
        ]
    measured = []
    for mini_batch, before_the_updates in zip(updates, old):
        learned = [
            (one, *found)
            for one, found in zip(mini_batch, before_the_updates)
            if one.score.outcome is not Outcome.TIMEOUT
        ]
        num_loss_tokens = sum(len(before) for _, before, _ in learned)
        by_entropy = sorted((value for *_, entropies in learned for value in entropies.tolist()), reverse=True)
        least = by_entropy[math.ceil(options.forking_share * num_loss_tokens) - 1]
        loss, metrics = torch.zeros(()), {"entropy": 0.0}
        for one, before, entropy_before in learned:
            # Of the response as if there were no observation in it.
            log_probs, entropy = (found[one.rollout.own] for found in response_log_probs(plain, row_of(one)))
            output = policy_loss(
                options,
                log_probs[None],
                before[None],
                torch.full((1, len(before)), one.advantage),
                torch.ones(1, len(before), dtype=torch.bool),
                num_loss_tokens=num_loss_tokens,
                forking=(entropy_before >= least)[None],
                num_loss_responses=len(learned),
                rollout_log_probs=torch.as_tensor(one.rollout.log_probs[one.rollout.own])[None],
            )
            loss = loss + output.loss
            metrics["entropy"] += entropy.sum().item() / num_loss_tokens
            for name, value in output.metrics.items():
                kind = max if name.endswith("_max") else min if name.endswith("_min") else float.__add__
                metrics[name] = kind(metrics[name], value.item()) if name in metrics else value.item()
        measured.append(metrics | {"loss": loss.item(), "grad_norm": update(loss)})
    combined = {}
    for name in METRICS:
        values = [metrics[name] for metrics in measured]
        combined[name] = (
            max(values) if name.endswith("_max") else min(values) if name.endswith("_min") else sum(values) / 2
        )
    return Result(
        sft_loss.item(),
        sft_grad_norm,
        sft_moments,
        combined,
        {name: optimizer.state[value]["exp_avg"] for name, value in plain.named_parameters()},
        {name: value.detach() for name, value in plain.named_parameters()},
    )


def run(world, distributed, key_value_heads):
    engine = TrainingEngine(copy.deepcopy(make_model(key_value_heads)), CONFIG.train, distributed, world)
    sft_loss = cross_entropy(engine, demonstrations(), 0, CONFIG.train.max_tokens_per_micro_batch, learn=True)
    sft_grad_norm = engine.step().grad_norm
    sft_moments = {name: whole["exp_avg"] for name, whole in whole_parameters(engine).items()}
    learner, updates = Learner(engine, CONFIG, load_tokenizer(CONFIG.model)), Updates()
    for mini_batch in learner.mini_batches(groups()):
        for micro_batch in mini_batch.micro_batches:
            output = learner.loss(mini_batch, micro_batch)
            engine.backward(output.loss)
            updates.measured(output.measured)
        updates.ended(engine.step())
    metrics = updates.metrics(world)
    states = whole_parameters(engine)
    return Result(
        sft_loss,
        sft_grad_norm,
        sft_moments,
        {name: metrics[f"train/{name}"] for name in METRICS},
        {name: state["exp_avg"].clone() for name, state in states.items()},
        {name: state["weight"].clone() for name, state in states.items()},
    )


def compare(case, actual, expected):
    """Float32 agrees to rounding. In bfloat16 the policy's movement is mostly rounding: there only SFT is compared."""
    exact = case.get("precision") != "bf16"
    tolerance = 1e-4 if exact else 3e-2

    def close(what, one, other):
        torch.testing.assert_close(
            *(torch.tensor(one), torch.tensor(other)),
            rtol=tolerance,
            atol=tolerance * 0.01,
            msg=lambda message: f"{what} of {case}: {message}",
        )

    def same_moments(what, one, other):
        for name, moment in other.items():
            error = (one[name] - moment).norm() / moment.norm()
            assert error < tolerance, (
                f"Adam's first moment of {name} after {what} of {case}: relative error {error:.1e}"
            )

    close("SFT loss", actual.sft_loss, expected.sft_loss)
    close("SFT gradient norm", actual.sft_grad_norm, expected.sft_grad_norm)
    same_moments("SFT", actual.sft_moments, expected.sft_moments)
    if exact:
        for name in METRICS:
            close(name, actual.metrics[name], expected.metrics[name])
        same_moments("RL", actual.moments, expected.moments)
        for name, weight in expected.weights.items():
            drift = (actual.weights[name] - weight).abs().max()
            assert drift < 2e-4, f"{name} of {case}: off by {drift:.1e}"


def cases(ranks):
    """Keyword arguments of `Distributed`."""
    stages = [{"zero_stage": stage} for stage in range(4)]
    frugal = {"activation_checkpointing": True, "tiled_mlp": True}
    yield from stages
    if ranks == 1:
        yield {"zero_stage": 1, "precision": "bf16"}
    if ranks == 2:
        yield from ({**stage, **frugal} for stage in stages)
        yield from ({**stage, "precision": "bf16"} for stage in stages)
        yield from ({**stage, "offload": "optimizer"} for stage in stages[1:])
        yield {"zero_stage": 3, "offload": "parameters", "precision": "bf16", **frugal}
        yield {"zero_stage": 3, "offload": "parameters", "sequence_parallel": 2}
    if ranks > 1:
        yield from ({**stage, "sequence_parallel": 2} for stage in stages)
    if ranks == 4:
        yield {"zero_stage": 1, "sequence_parallel": 4}
        yield {"zero_stage": 3, "sequence_parallel": 4, **frugal}


def impossible_splits_are_refused(world):
    with pytest.raises(ConfigError, match="must divide the number of ranks"):
        SequenceParallel(Distributed(sequence_parallel=3), world)
    if world.size > 1:
        model = make_model(2)
        model.config.num_attention_heads = 3
        with pytest.raises(ConfigError, match=f"3 attention heads.*got {world.size}"):
            SequenceParallel(Distributed(sequence_parallel=world.size), world).attach(model)


def main():
    expected = {heads: reference(heads) for heads in (2, 4)}
    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        impossible_splits_are_refused(world)
        for case in cases(world.size):
            began = time.perf_counter()
            key_value_heads = 4 if case.get("zero_stage") == 1 else 2  # 2: grouped, and repeated for four ranks
            actual = run(world, Distributed(timeout_seconds=60, **case), key_value_heads)
            compare(case, actual, expected[key_value_heads])
            if world.is_main:
                print(f"ok {case} {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
