"""Data that are edited under way, step by step from the command line: a model names what it was trained on."""

import json
import random
from typing import Any

import pytest
import yaml

from fipo.cli import main
from fipo.config import load_config
from fipo.release.registry import find
from fipo.run.run import Run

RECIPE: dict[str, Any] = {
    "run": {"name": "edited"},
    "data": {
        "benchmarks": {"held": {"generator": {"digits": 6, "seed": 3}, "limit": 2}},
        "near_duplicate_jaccard": None,
        "validation_fraction": 0.1,
    },
    "model": {
        "architecture": {
            "vocabulary": [*"01234", "Add", "modulo", "5", ":", "\\boxed{", "}"],
            "hidden_size": 16, "intermediate_size": 16, "layers": 1, "attention_heads": 2, "key_value_heads": 1,
        }
    },
    "sft": {"steps": 40, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 2},
    "train": {
        "steps": 1, "prompts_per_step": 4, "mini_batch_prompts": 2, "max_generation_rounds": 1, "evaluate_problems": 2,
    },
    "rollout": {"group_size": 4, "max_response_tokens": 4},
    "evaluation": {"samples": 1},
    "distributed": {"processes": 1},
    "gate": {"minimum": 0.0},
    "registry": {"model_name": "edited"},
}  # fmt: skip


@pytest.fixture
def fipo(tmp_path, monkeypatch, capfd, forked_jobs):
    """`fipo("train")` with the recipe; gives the step's newest result and what was printed."""
    monkeypatch.chdir(tmp_path)
    files = {name: [{"uri": str(tmp_path / f"{name}.jsonl")}] for name in ("train", "sft")}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**RECIPE, "data": RECIPE["data"] | files}))

    def fipo(step, *settings):
        sets = [word for setting in settings for word in ("--set", setting)]
        main([step, "--recipe", "r.yaml", *sets])
        return Run(load_config("r.yaml", settings)).result(step), capfd.readouterr().out

    return fipo


def write_rows(path, seed, count):
    draws = random.Random(seed)
    rows = []
    for _ in range(count):
        digits = [draws.randrange(5) for _ in range(4)]
        answer = str(sum(digits) % 5)
        rows.append(
            {
                "prompt": f"Add modulo 5 : {' '.join(map(str, digits))}",
                "answer": answer,
                "response": f"\\boxed{{ {answer} }}",
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_a_model_names_the_data_that_its_training_read(fipo, tmp_path):
    write_rows(tmp_path / "sft.jsonl", seed=1, count=60)
    write_rows(tmp_path / "train.jsonl", seed=2, count=60)
    first, _ = fipo("prepare")
    warmed_up, _ = fipo("sft")
    before, _ = fipo("train")

    write_rows(tmp_path / "train.jsonl", seed=5, count=40)
    edited, printed = fipo("prepare")
    assert "reused" not in printed and edited.outputs["dataset"].sha256 != first.outputs["dataset"].sha256
    same, printed = fipo("sft")
    assert "reused" in printed and same.outputs == warmed_up.outputs, "its own file is as it was"
    after, printed = fipo("train")
    assert "reused" not in printed
    problems = edited.outputs["dataset"].parts["problems"]
    assert after.inputs["prepare/dataset:problems"] == problems != before.inputs["prepare/dataset:problems"]

    for step in ("evaluate", "gate", "register"):
        fipo(step)
    config = load_config("r.yaml")
    registered = find(config.tracking_uri, "edited/1")
    assert registered.sha256 == after.outputs["model"].sha256
    assert registered.provenance["data_sha256"] == problems
    read = json.loads(registered.provenance["data_read"])
    assert read["data.train[0]"] == edited.inputs["data.train[0]"] != first.inputs["data.train[0]"]
    assert registered.provenance["code_sha256"] == after.code
    assert all(link.holds for link in Run(config).verify())

    write_rows(tmp_path / "train.jsonl", seed=2, count=60)
    _, printed = fipo("prepare")
    assert "reused" in printed, "the rows of the first time"
    back, printed = fipo("train")
    assert "reused" in printed and back.outputs == before.outputs
