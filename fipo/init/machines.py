"""What a run may be like on a kind of machine: wishes, and what of them `fipo plan` says that the machine can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from fipo.config import Config
from fipo.planning.hardware import GPUS
from fipo.planning.model import ModelShape
from fipo.planning.plan import Hardware, Plan, make_plan
from fipo.planning.this_machine import Devices, its_cores, its_gpus

MICRO_BATCHES = (32768, 16384, 8192, 4096, 2048, 1024, 512)
FEWEST = 4
"""Prompts of a step."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a run with a model of one's own; each is a setting of the recipe."""

    steps: int
    prompts_per_step: int
    """At most; a step takes no longer than `step_seconds`."""
    group_size: int
    max_prompt_tokens: int
    max_response_tokens: int
    sft_steps: int
    sft_batch_size: int
    step_seconds: float
    engine: str
    samples: int
    max_tokens_per_micro_batch: int = MICRO_BATCHES[0]
    processes: int = 0
    """0 is one for each device."""
    activation_checkpointing: bool = False
    zero_stage: int = 1
    lora: bool = False
    gpu_memory_fraction: float = 0.5
    """Of vLLM beside the trainer."""
    tensor_parallel: int = 1

    @property
    def mini_batch_prompts(self) -> int:
        """Two updates a step or more: with one, FIPO is DAPO."""
        return self.prompts_per_step // (4 if self.prompts_per_step >= 32 else 2)

    def settings(self) -> list[str]:
        """Those that the plan may change, as overrides of the recipe."""
        return [
            f"train.prompts_per_step={self.prompts_per_step}",
            f"train.mini_batch_prompts={self.mini_batch_prompts}",
            f"train.max_tokens_per_micro_batch={self.max_tokens_per_micro_batch}",
            f"distributed.activation_checkpointing={str(self.activation_checkpointing).lower()}",
            f"distributed.processes={self.processes}",
            f"distributed.zero_stage={self.zero_stage}",
            f"rollout.gpu_memory_fraction={self.gpu_memory_fraction}",
            f"rollout.tensor_parallel={self.tensor_parallel}",
            f"model.lora={'{rank: 32}' if self.lora else 'null'}",
        ]


WISHES = {
    "laptop": Sizes(10, 8, 4, 256, 160, 40, 8, step_seconds=360, engine="transformers", samples=1),
    "one-gpu": Sizes(100, 64, 8, 1024, 1024, 200, 32, step_seconds=300, engine="vllm", samples=4),
    "node": Sizes(300, 256, 16, 2048, 4096, 500, 64, step_seconds=600, engine="vllm", samples=8),
}
"""By kind: how long responses are, how many, and how long one waits for a step. Memory and time decide the rest."""
_SHOWN_GPU = Devices(GPUS["h100"], 8, True, "H100s, 79 GiB each, since this machine has no GPU")


def devices_of(kind: str) -> Devices:
    """This machine's as far as it is of the kind; an H100 or eight where it has no GPU."""
    if kind == "laptop":
        return its_cores()
    found = its_gpus() or _SHOWN_GPU
    return found if kind == "node" else replace(found, count=1)


def fitted(
    kind: str, change: Callable[[Sequence[str]], Config], shapes: Mapping[bool, ModelShape], devices: Devices
) -> tuple[Sizes, Plan]:
    """The largest sizes that the plan lets pass, and that plan; the smallest of all where none fits.

    What costs least is tried first: smaller micro-batches, activations computed again, one process for all cores or
    weights in parts, an adapter. Then prompts are left out until a step is over in time.

    Args:
        kind: one of `fipo.planning.hardware.KINDS`.
        change: the recipe with so many more `key=value` settings.
        shapes: of the model, without and with an adapter.
        devices: what it shall run on.
    """

    def plan_of(sizes: Sizes) -> Plan:
        ranks = sizes.processes or devices.count
        hardware = Hardware(devices.for_each(ranks), 1, ranks, 1, devices.assumptions, devices.on_gpu)
        return make_plan(change(sizes.settings()), shapes[sizes.lora], hardware)

    sizes, plan = WISHES[kind], plan_of(WISHES[kind])
    for smaller in _smaller(sizes, devices):
        if plan.fits:
            break
        sizes, plan = smaller, plan_of(smaller)
    while plan.fits and plan.time.total > sizes.step_seconds and sizes.prompts_per_step > FEWEST:
        sizes = replace(sizes, prompts_per_step=sizes.prompts_per_step // 2)
        plan = plan_of(sizes)
    return sizes, plan


def _smaller(wish: Sizes, devices: Devices) -> Iterator[Sizes]:
    longest = wish.max_prompt_tokens + wish.max_response_tokens
    micro_batches: list[dict[str, Any]] = [
        {"max_tokens_per_micro_batch": tokens} for tokens in MICRO_BATCHES if tokens >= longest
    ]
    adapter: list[dict[str, Any]] = [{}, {"lora": True}]
    again: list[dict[str, Any]] = [{}, {"activation_checkpointing": True}]
    spread: list[dict[str, Any]] = [{}, {"zero_stage": 3}] if devices.on_gpu else [{}, {"processes": 1}]
    engine: list[dict[str, Any]] = [{}]
    if wish.engine == "vllm":
        engine += [{"gpu_memory_fraction": 0.3}]
        engine += [{"tensor_parallel": ranks} for ranks in (2, 4, 8) if devices.count % ranks == 0]
    for changes in product(adapter, engine, spread if devices.count > 1 else [{}], again, micro_batches):
        yield replace(wish, **{name: value for change in changes for name, value in change.items()})
