"""A published model trained: an adapter beside all weights on word problems, and RL steps. Run by `make test-real`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from fipo.config import load_config
from fipo.records import Admission
from fipo.run.run import Run
from fipo.training.comparisons import ENGINE_LIMIT_FLOAT32, OWN_LIMIT
from tests.present import present
from tests.published.problems import problems, write

ROOT = Path(__file__).parents[2]


def warm_up(folder, out, **settings):
    command = [sys.executable, "-m", "tests.published.warm_up", str(folder), str(out), json.dumps(settings)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{settings}\n{found}", flush=True)
    return found


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_an_adapter_beside_all_weights(published, tmp_path):
    """After the same rows: what is trained, memory, and the loss on problems that neither has seen.

    docs/lora.md has the longer one, with right answers: `python -m tests.published.warm_up` with more steps.
    """
    how = {"batch": 4, "problems": 200, "held_out": 8, "steps": published.sized(8, 12)}
    lora = {"rank": 16, "alpha": 32.0}
    rate = published.sized(5e-5, 1e-3)
    adapter = warm_up(published.folder, tmp_path / "lora", **how, lora=lora, learning_rate=10 * rate)
    learned = adapter["loss_before"] - adapter["held_out_loss"]
    assert learned > 0
    if published.is_real:
        full = warm_up(published.folder, tmp_path / "full", **how, lora=None, learning_rate=rate)
        assert full["tokens"] == adapter["tokens"] and full["loss_before"] == adapter["loss_before"]
        # As much as training all weights, or more than half of it: learning rate and rank are one choice of many.
        assert learned > 0.5 * (full["loss_before"] - full["held_out_loss"]) > 0
        # No gradient and no moments, of four bytes each, for what is frozen.
        frozen = full["trained_parameters"] - adapter["trained_parameters"]
        assert full["peak_mib"] - adapter["peak_mib"] > 3 * 4 * frozen / 2**20

    ids = torch.arange(5, 45)[None]
    base = AutoModelForCausalLM.from_pretrained(published.folder, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "lora" / "model", dtype=torch.float32)
    with torch.no_grad():
        start, expected = (torch.log_softmax(model(ids).logits, dim=-1) for model in (base, merged))
        found = torch.log_softmax(PeftModel.from_pretrained(base, tmp_path / "lora" / "adapter")(ids).logits, dim=-1)
    # Admission's own limit; what was learned is far above it.
    assert (found - expected).abs().mean() < OWN_LIMIT[torch.float32] < 0.1 * (found - start).abs().mean()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_steps_of_rl(published, tmp_path):
    """Through the command line, with an adapter; the tiny model is warmed up by one too, and sharded (ZeRO-3)."""
    taught, held_out = problems(120, seed=5), problems(16, seed=6)
    write(tmp_path / "train.jsonl", taught)
    write(tmp_path / "held-out.jsonl", held_out)
    steps = published.sized(10, 1)
    recipe = {
        "run": {"name": "published", "directory": str(tmp_path / "runs")},
        "data": {
            "train": [{"uri": str(tmp_path / "train.jsonl")}], "sft": [{"uri": str(tmp_path / "train.jsonl")}],
            "benchmarks": {"held-out": {"uri": str(tmp_path / "held-out.jsonl"), "limit": 2}},
            "near_duplicate_jaccard": None, "chat": True, "max_prompt_tokens": 160, "validation_fraction": 0.05,
            "prompt_template": "{prompt} End with \\boxed{}.",
        },
        "model": {"name_or_path": str(published.folder), "lora": {"rank": 8}, "published_precision": "trained"},
        "sft": {"steps": published.sized(0, 4), "batch_size": 8, "learning_rate": 1e-3},
        "train": {
            "steps": steps, "prompts_per_step": 2, "mini_batch_prompts": 1, "dynamic_sampling": False,
            "learning_rate": 1e-4, "warmup_steps": 1, "weight_decay": 0.0, "evaluate_every": 100,
            "evaluate_problems": 2, "max_tokens_per_micro_batch": 1024,
        },
        "rollout": {"group_size": 2, "max_response_tokens": 12},
        # The right answer is what counts; digits give a signal where no answer is right yet.
        "reward": {"functions": {"accuracy": 1.0, "tests.published.problems:digits": 0.2}},
        "registry": {"model_name": "published"},
        "distributed": {"processes": 1, "precision": "fp32", "zero_stage": published.sized(1, 3)},
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    for step in ("prepare", "sft", "train"):
        done = subprocess.run(
            [sys.executable, "-m", "fipo.cli", step, "--recipe", str(path)], cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        print(done.stdout[-6000:], flush=True)
        assert done.returncode == 0, done.stdout + done.stderr
    warmed_up, result = (present(Run(load_config(path)).result(step)) for step in ("sft", "train"))
    assert not result.read(Admission).failed and ("adapter" in warmed_up.outputs) is not published.is_real
    assert result.metrics["train/mismatch_log_prob_gap_mean"] < ENGINE_LIMIT_FLOAT32
    base, trained = (AutoModelForCausalLM.from_pretrained(folder_of(one, "model")) for one in (warmed_up, result))
    moved = [not torch.equal(one, other) for one, other in zip(base.parameters(), trained.parameters(), strict=True)]
    assert sum(moved) == 7 * base.config.num_hidden_layers, "each linear layer, and nothing else"
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        start, expected = base(ids).logits, trained(ids).logits
        found = PeftModel.from_pretrained(base, folder_of(result, "adapter"))(ids).logits
    assert (found - expected).abs().mean() < 0.1 * (start - expected).abs().mean()


def folder_of(result, output):
    return result.outputs[output].uri.removeprefix("file://")
