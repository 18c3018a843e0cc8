"""Run by test_engine.py under torchrun: adapters at every ZeRO stage against plain peft and AdamW, and checkpoints."""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from stages_worker import SETTINGS, close, load, model, negative_log_likelihood, rows, train  # type: ignore[import-not-found]  # beside the script

from fipo.config import Distributed, Lora
from fipo.distributed.bootstrap import join_world
from fipo.distributed.checkpoints import checkpoint_path, committed, save_checkpoint
from fipo.distributed.engine import TrainingEngine
from fipo.distributed.random_state import random_state
from fipo.models.lora import add_adapter, shown


def reference(steps):
    """As in stages_worker, of peft's own model: losses, unclipped norms, and the weights that peft merges."""
    plain = model(True)
    torch.manual_seed(2)
    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
    peft = get_peft_model(plain, config)
    trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, betas=(0.9, 0.999), weight_decay=0.1)
    losses, norms = [], []
    for step in range(1, steps + 1):
        batch = rows(step)
        total = sum(len(row.response_ids) for row in batch)
        loss = sum(negative_log_likelihood(peft, row) for row in batch) / total
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, 0.5).item())
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, step / 3)
        optimizer.step()
        losses.append(loss.item())
    return losses, norms, dict(peft.merge_and_unload().named_parameters())


def same_sum(weights, expected):
    """See stages_worker.same_weights; here also what is not adapted is as it was."""
    for name, start in model(True).named_parameters():
        way, error = (expected[name] - start.detach()).norm(), (weights[name] - expected[name]).norm()
        assert error <= 1e-3 * way, f"{name}: off by {error:.1e} of {way:.1e}"


def main(folder):
    with join_world(Distributed(timeout_seconds=60), seed=0) as world:
        losses, norms, weights = reference(6)
        for stage in (0, 1, 2, 3):

            def engine(stage=stage):
                plain = model(True)
                add_adapter(plain, Lora(rank=4, alpha=6.0), seed=2)
                return TrainingEngine(plain, SETTINGS, Distributed(zero_stage=stage, timeout_seconds=60), world)

            checkpoints = Path(folder) / f"stage-{stage}"
            whole = engine()
            first = train(whole, 1, 4)
            with shown(whole.model, whole.whole):  # what admission does leaves nothing behind
                changed = {name: weight.clone() for name, weight in whole.weights()}
            assert sum(not torch.equal(changed[name], first[2][name]) for name in changed) == 14
            assert all(torch.equal(weight, first[2][name]) for name, weight in whole.weights())
            save_checkpoint(whole, checkpoints, 4, {"cursor": 4}, random_state=random_state())
            second = train(whole, 5, 6)
            close(first[0] + second[0], losses, 1e-5)
            close(first[1] + second[1], norms, 1e-4)
            same_sum(second[2], weights)
            published = whole.state_dict()
            assert not world.is_main or all(torch.equal(published[name], one) for name, one in second[2].items())
            resumed = engine()
            load(resumed, checkpoints)
            again = train(resumed, 5, 6)
            assert again[0] == second[0], (stage, again[0], second[0])
            assert all(torch.equal(weight, second[2][name]) for name, weight in again[2].items())
            shards = [checkpoint_path(checkpoints, 4) / name for name in committed(checkpoints)[4].files]
            saved = {key.rpartition("@")[0] for shard in shards for key in load_file(shard)}
            # Weight and two moments of A and B of seven matrices in two layers, and nothing of the model's own.
            assert len(saved) == 3 * 2 * 7 * 2 and all(".lora_" in key for key in saved)
            if world.is_main:
                print(f"stage {stage} on {world.size} rank(s): adapter ok", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
