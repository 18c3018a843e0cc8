"""What `fipo init` writes is what `fipo plan` says of the machine: larger where there is room, else smaller."""

import os
from dataclasses import replace

import pytest

from fipo.cli import main
from fipo.config import load_config
from fipo.init import _fill, init
from fipo.init.machines import FEWEST, PATIENCE, Sizes, fitted, smallest
from fipo.init.models import FoundModel
from fipo.planning.hardware import GPUS, Gpu
from fipo.planning.model import ModelShape
from fipo.planning.this_machine import Devices, its_cores, its_gpus, memory_bytes
from tests import instruct_model
from tests.init.test_init import GSM8K, write

# Qwen2.5-0.5B, -7B and -32B, from their published config.json; adapters of rank 32 in all linear layers.
SHAPES = {
    "0.5B": ModelShape(494_032_768, 24, 896, 4864, 896, 128, 151_936, 32_768, True, False),
    "7B": ModelShape(7_615_616_512, 28, 3584, 18_944, 3584, 512, 152_064, 131_072, False, False),
    "32B": ModelShape(32_763_876_352, 64, 5120, 27_648, 5120, 1024, 152_064, 131_072, False, False),
}
ADAPTERS = {"0.5B": (17_596_416, 32 * 168), "7B": (80_740_352, 32 * 196), "32B": (268_435_456, 32 * 448)}


def cores(count, gib, gflops=50):
    """A machine of so many cores, of 50 GFLOP/s each."""
    ranks = min(count, 4)
    return Devices(Gpu(gib / ranks, gflops * 1e9 * count / ranks, 5e9, 5e9, 5e9, 0.0), ranks, False, f"{count} cores")


def gpus(kind, count):
    return Devices(GPUS[kind], count, True, f"{count} {kind}")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """By kind, with a model that fits anywhere."""
    folder = tmp_path_factory.mktemp("recipes")
    data, model = write(folder / "gsm.jsonl", GSM8K), instruct_model.make(folder / "model")
    for kind in PATIENCE:
        init(folder / kind, data=data, model=str(model), machine=kind)
    return {kind: str(folder / kind / "recipe.yaml") for kind in PATIENCE}


@pytest.mark.parametrize(
    ("kind", "model", "devices", "expected"),
    [
        ("laptop", "0.5B", cores(8, 64), {"lora": False, "processes": 0}),
        ("laptop", "0.5B", cores(8, 16), {"lora": False, "processes": 1}),  # four copies of the weights are too many
        ("laptop", "0.5B", cores(8, 8), {"lora": True}),
        ("one-gpu", "0.5B", gpus("l4", 1), {"lora": False}),
        ("one-gpu", "7B", gpus("h100", 1), {"lora": True}),  # 16 bytes a weight are 122 GB
        ("node", "7B", gpus("h100", 8), {"lora": False, "zero_stage": 3}),
        ("node", "0.5B", gpus("h100", 8), {"lora": False, "zero_stage": 1, "activation_checkpointing": False}),
        ("node", "32B", gpus("h100", 8), {"zero_stage": 3, "lora": True, "tensor_parallel": 2}),
    ],
)
def test_the_largest_sizes_that_fit(recipes, kind, model, devices, expected):
    def change(more):
        return load_config(recipes[kind], more)

    parameters, channels = ADAPTERS[model]
    shapes = {
        False: SHAPES[model],
        True: replace(SHAPES[model], adapter_parameters=parameters, adapter_channels=channels),
    }
    sizes, plan = fitted(kind, change, shapes, devices)
    assert plan.fits
    assert {name: getattr(sizes, name) for name in expected} == expected
    assert sizes.prompts_per_step > sizes.mini_batch_prompts > 0
    assert plan.time.total <= PATIENCE[kind].step or sizes.prompts_per_step == FEWEST


def test_a_larger_machine_of_the_same_kind_has_longer_responses_larger_groups_and_more_steps(recipes):
    """By kind there is but how long one waits: what is done in that time is measured."""

    def sized(kind, model, devices):
        parameters, channels = ADAPTERS[model]
        adapted = replace(SHAPES[model], adapter_parameters=parameters, adapter_channels=channels)
        shapes = {False: SHAPES[model], True: adapted}
        return fitted(kind, lambda more: load_config(recipes[kind], more), shapes, devices)

    for kind, model, few, many in (
        ("laptop", "0.5B", cores(2, 16), cores(2, 16, gflops=500)),
        ("one-gpu", "7B", gpus("l40s", 1), gpus("b200", 1)),
        ("node", "32B", gpus("a100", 8), gpus("b200", 8)),
    ):
        (small, slow), (large, fast) = sized(kind, model, few), sized(kind, model, many)
        responses = [one.group_size * one.prompts_per_step * one.max_response_tokens for one in (small, large)]
        assert responses[0] < responses[1], kind
        assert small.max_response_tokens <= large.max_response_tokens
        for sizes, plan in ((small, slow), (large, fast)):
            assert sizes.steps in (10, 500) or sizes.steps * plan.time.total <= PATIENCE[kind].run
            assert 20 <= sizes.sft_steps <= 500


@pytest.mark.parametrize("kind", PATIENCE)
def test_the_recipe_has_them_all(kind, tmp_path):
    """As it is written, and as overrides of another one: what a plan was made of is what runs."""
    odd = replace(
        Sizes(), engine=smallest(kind).engine, max_response_tokens=640, group_size=6, steps=70, lora=True, processes=3,
        zero_stage=2, activation_checkpointing=True, tensor_parallel=2, gpu_memory_fraction=0.3, prompts_per_step=12,
        max_tokens_per_micro_batch=777,
    )  # fmt: skip
    context = {"name": "x", "data": None, "model": FoundModel("org/m", chat=True), "uri": "rows.jsonl"}
    recipes = []
    for name, sizes in (("plain", smallest(kind)), ("odd", odd)):
        recipes.append(tmp_path / f"{name}.yaml")
        recipes[-1].write_text(
            _fill("recipe.yaml.jinja", {**context, "machine": sizes, "kind": kind, "default_model": ""})
        )
    (tmp_path / "benchmark.yaml").write_text(_fill("benchmark.yaml.jinja", {**context, "uri": "rows.jsonl"}))
    written, given = load_config(recipes[1]).flat(), load_config(recipes[0], odd.settings()).flat()
    # An adapter's learning rate is ten times that of all weights.
    rates = {"train.learning_rate"}
    served = {"rollout.gpu_memory_fraction", "rollout.tensor_parallel"} if kind == "laptop" else set()
    assert {name for name in given if written.get(name) != given[name]} == {"run.recipe"} | rates | served
    assert written["train.learning_rate"] == pytest.approx(10 * given["train.learning_rate"])


def test_what_this_machine_is(tmp_path, monkeypatch):
    found = its_cores()
    assert 1 <= found.count <= min(4, os.cpu_count() or 1) and not found.on_gpu
    whole = found.for_each(1)
    assert whole.memory_gib == pytest.approx(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    assert 1e9 < whole.peak_flops < 1e14 and 1e8 < whole.memory_bandwidth < 1e13

    for said, limit in (("1073741824", 2**30), ("max", memory_bytes()), ("9" * 18, memory_bytes())):
        (tmp_path / "memory.max").write_text(f"{said}\n")
        assert memory_bytes(tmp_path / "memory.max") == limit

    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for said, gpu, memory, count in [
        ("NVIDIA H100 80GB HBM3, 81559\nNVIDIA H100 80GB HBM3, 81559", "h100", 81559 / 1024, 2),
        ("NVIDIA A100-SXM4-40GB, 40960", "a100", 40.0, 1),
        ("NVIDIA GeForce RTX 4090, 24564", "l4", 24564 / 1024, 1),  # unknown: no faster than the slowest
    ]:
        program.write_text(f"#!/bin/sh\nprintf '{said}\\n'\n")
        program.chmod(0o755)
        one = its_gpus()
        assert one and (one.count, one.on_gpu, one.gpu) == (count, True, replace(GPUS[gpu], memory_gib=memory))
    program.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    assert its_gpus() is None


def test_a_model_that_no_plan_can_be_made_for_gets_the_smallest_sizes(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "mamba"}')
    main(["init", str(tmp_path / "mine"), "--model", str(tmp_path / "model"), "--machine", "laptop"])
    assert "sizes:   the smallest, not fitted to the model: " in capsys.readouterr().out
    config = load_config(tmp_path / "mine" / "recipe.yaml")
    assert config.train.prompts_per_step == FEWEST
