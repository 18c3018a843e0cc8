"""The sizes of a run on a kind of machine: as long, as many and for as long as `fipo plan` says that it can."""

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
RESPONSES = (4096, 2048, 1024, 512, 256, 128)
"""Limits of a response, in tokens."""
GROUPS = (16, 8, 4)
FEWEST, MOST = 4, 256
"""Prompts of a step."""
STEPS = (10, 500)
"""Fewer teach nothing; more are for those who have seen these."""
WARM_UP = (20, 500)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one waits, in seconds."""

    step: float
    run: float
    """For RL; a fifth of it for the warm-up before."""


PATIENCE = {
    "laptop": Patience(6 * 60, 60 * 60),
    "one-gpu": Patience(5 * 60, 8 * 3600),
    "node": Patience(10 * 60, 48 * 3600),
}
"""By kind of machine: an hour, a working day, a weekend. What is done in it is the plan's to say."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a run with a model of one's own; each is a setting of the recipe."""

    max_response_tokens: int = RESPONSES[-1]
    group_size: int = GROUPS[-1]
    prompts_per_step: int = FEWEST
    steps: int = STEPS[0]
    sft_steps: int = 2 * WARM_UP[0]
    engine: str = "transformers"
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
    def max_prompt_tokens(self) -> int:
        """A problem is rarely longer than what is said about it."""
        return min(2048, max(256, self.max_response_tokens))

    @property
    def sft_batch_size(self) -> int:
        """Demonstrations of a step of the warm-up."""
        return 8 if self.prompts_per_step < 32 else 32

    @property
    def mini_batch_prompts(self) -> int:
        """Two updates a step or more: with one, FIPO is DAPO."""
        return self.prompts_per_step // (4 if self.prompts_per_step >= 32 else 2)

    def settings(self) -> list[str]:
        """Those that the plan decides, as overrides of the recipe."""
        return [
            f"data.max_prompt_tokens={self.max_prompt_tokens}",
            f"rollout.max_response_tokens={self.max_response_tokens}",
            f"rollout.group_size={self.group_size}",
            f"train.steps={self.steps}",
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


_SHOWN_GPU = Devices(GPUS["h100"], 8, True, "H100s, 79 GiB each, since this machine has no GPU")


def devices_of(kind: str) -> Devices:
    """This machine's as far as it is of the kind; an H100 or eight where it has no GPU."""
    if kind == "laptop":
        return its_cores()
    found = its_gpus() or _SHOWN_GPU
    return found if kind == "node" else replace(found, count=1)


def smallest(kind: str) -> Sizes:
    """What anything can do; a GPU has vLLM."""
    return Sizes(engine="transformers" if kind == "laptop" else "vllm")


def fitted(
    kind: str, change: Callable[[Sequence[str]], Config], shapes: Mapping[bool, ModelShape], devices: Devices
) -> tuple[Sizes, Plan]:
    """The largest sizes that the plan lets pass, and that plan; the smallest of all where none fits.

    Responses come first: the longest of which a small step is over in time, and which fit. What costs least is tried
    first for that: smaller micro-batches, activations computed again, one process for all cores or weights in parts,
    an adapter. Then groups and prompts grow until a step takes as long as one waits for it, and there are as many steps
    as one waits for.

    Args:
        kind: one of `fipo.planning.hardware.KINDS`.
        change: the recipe with so many more `key=value` settings.
        shapes: of the model, without and with an adapter.
        devices: what it shall run on.
    """
    patience = PATIENCE[kind]

    def plan_of(sizes: Sizes) -> Plan:
        ranks = sizes.processes or devices.count
        hardware = Hardware(devices.for_each(ranks), 1, ranks, 1, devices.assumptions, devices.on_gpu)
        return make_plan(change(sizes.settings()), shapes[sizes.lora], hardware)

    def in_time(plan: Plan) -> bool:
        return plan.fits and plan.time.total <= patience.step

    sizes = smallest(kind)
    plan = plan_of(sizes)
    for tokens in RESPONSES:
        longer = replace(sizes, max_response_tokens=tokens)
        if tokens > RESPONSES[-1] and plan_of(longer).time.total > patience.step:
            continue
        found = ((one, plan_of(one)) for one in _smaller(longer, devices))
        sizes, plan = next((pair for pair in found if pair[1].fits), (sizes, plan))
        if plan.fits:
            break
    for grown in _grown(sizes):
        larger = plan_of(grown)
        if in_time(larger):
            sizes, plan = grown, larger
    per_token = (plan.time.updates + plan.time.communication) / plan.work.tokens_trained
    update = sizes.sft_batch_size * plan.work.row * per_token
    return replace(
        sizes,
        steps=_within(STEPS, patience.run / plan.time.total),
        sft_steps=_within(WARM_UP, patience.run / 5 / update),
    ), plan


def _grown(sizes: Sizes) -> Iterator[Sizes]:
    """Larger ones, each larger than those before it: groups of eight, then more prompts, then groups of sixteen."""
    yield replace(sizes, group_size=8)
    prompts = FEWEST
    while prompts < MOST:
        prompts *= 2
        yield replace(sizes, group_size=8, prompts_per_step=prompts)
    yield replace(sizes, group_size=16, prompts_per_step=prompts)


def _within(bounds: tuple[int, int], count: float) -> int:
    """A number of steps for people: of one or two digits that are not zero."""
    least, most = bounds
    unit = 100 if count >= 100 else 10
    return max(least, min(most, int(count // unit) * unit))


def _smaller(wish: Sizes, devices: Devices) -> Iterator[Sizes]:
    """The same work in less memory, the cheapest way first."""
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
