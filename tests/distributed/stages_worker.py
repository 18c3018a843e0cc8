"""Run by test_engine.py under torchrun: ZeRO stages against plain AdamW, checkpoints across stages and ranks."""

import copy
import sys
from pathlib import Path

import torch

from fipo.config import Architecture, Distributed, Model, Optimizer
from fipo.distributed.bootstrap import join_world
from fipo.distributed.checkpoints import checkpoint_path, committed, load_checkpoint, save_checkpoint
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.random_state import random_state
from fipo.models import load_model
from fipo.training.rows import Row
from fipo.training.sft import cross_entropy

WORDS = tuple("abcdefgh")
SETTINGS = Optimizer(learning_rate=1e-2, warmup_steps=3, weight_decay=0.1, grad_clip=0.5, max_tokens_per_micro_batch=24)


def rows(step):
    generator = torch.Generator().manual_seed(step)
    lengths = torch.randint(2, 9, (7,), generator=generator).tolist()
    return [Row([2, 3], torch.randint(2, 10, (n,), generator=generator).int().numpy()) for n in lengths]


def model(tie):
    architecture = Architecture(
        vocabulary=WORDS, hidden_size=16, intermediate_size=32, layers=2, attention_heads=2, key_value_heads=1,
        tie_word_embeddings=tie,
    )  # fmt: skip
    return load_model(Model(architecture=architecture), seed=3)


def negative_log_likelihood(plain, row):
    """Of the response, one row at a time and without any of our code."""
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids.tolist()]])
    response = slice(len(row.prompt_ids) - 1, -1)
    return torch.nn.functional.cross_entropy(
        plain(ids).logits[0, response], ids[0, len(row.prompt_ids) :], reduction="sum"
    )


def reference(tie, steps):
    """Full-batch token-mean cross-entropy with torch's own AdamW: losses, unclipped norms, final weights."""
    plain = model(tie)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.0, betas=(0.9, 0.999), weight_decay=0.1)
    losses, norms = [], []
    for step in range(1, steps + 1):
        batch = rows(step)
        total = sum(len(row.response_ids) for row in batch)
        loss = sum(negative_log_likelihood(plain, row) for row in batch) / total
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5).item())
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, step / 3)
        optimizer.step()
        losses.append(loss.item())
    return losses, norms, {name: value.detach() for name, value in plain.named_parameters()}


def train(engine, first, last):
    losses, norms = [], []
    for step in range(first, last + 1):
        losses.append(cross_entropy(engine, rows(step), 0, SETTINGS.max_tokens_per_micro_batch, learn=True))
        norms.append(engine.step().grad_norm)
    return losses, norms, {name: value.clone() for name, value in engine.weights()}


def load(engine, folder):
    commit = committed(folder)[4]
    assert commit.state == {"cursor": 4} and commit.verified(checkpoint_path(folder, 4), engine.world)
    load_checkpoint(engine, checkpoint_path(folder, 4), commit)


def close(one, other, tolerance):
    torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=tolerance, atol=tolerance)


def same_weights(weights, expected, tie):
    """Each parameter ends where the reference does, to a thousandth of the way that it came.

    Adam divides a gradient by its own size. Of 512 weights the smallest gradient is some 1/512 of the usual one, so
    what float32 leaves open in it (1e-6 of the usual one, and other digits on each processor) moves that weight by
    512 * 1e-6 = 5e-4 of a step: no bound on single weights holds everywhere. Over a whole parameter that is
    sqrt(512) * 1e-6 = 2e-5 a step; on three instruction sets up to 5e-5 were seen after six. A learning rate that is
    wrong by a thousandth makes 3e-3, a weight decay of 0.09 for 0.1 makes 4e-2.
    """
    for name, start in model(tie).named_parameters():
        way = (expected[name] - start.detach()).norm()
        error = (weights[name] - expected[name]).norm() / way
        assert error < 1e-3, f"{name}: off by {error:.1e} of its way"


def main(folder, phase):
    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        for stage in (0, 1, 2, 3):
            tie = stage != 2

            def engine(stage=stage, offload="none", tie=tie):
                distributed = Distributed(zero_stage=stage, offload=offload, timeout_seconds=60)
                return TrainingEngine(copy.deepcopy(model(tie)), SETTINGS, distributed, world)

            losses, norms, weights = reference(tie, 6)
            checkpoints = Path(folder) / f"stage-{stage}"
            if phase == "write":
                whole = engine()
                first = train(whole, 1, 4)
                save_checkpoint(whole, checkpoints, 4, {"cursor": 4}, random_state=random_state())
                second = train(whole, 5, 6)
                close(first[0] + second[0], losses, 1e-5)
                close(first[1] + second[1], norms, 1e-4)
                same_weights(second[2], weights, tie)
                resumed = engine()
                load(resumed, checkpoints)
                again = train(resumed, 5, 6)
                assert again[0] == second[0], (stage, again[0], second[0])
                for name, weight in again[2].items():
                    assert torch.equal(weight, second[2][name]), (stage, name)
            else:  # another number of ranks, another stage, and offload, than what wrote it
                other = engine((stage + 1) % 4, ("optimizer", "none", "parameters", "none")[stage])
                load(other, checkpoints)
                again = train(other, 5, 6)
                close(again[0], losses[4:], 1e-5)
                same_weights(again[2], weights, tie)
            if world.is_main:
                print(f"stage {stage} on {world.size} rank(s): {phase} ok", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
