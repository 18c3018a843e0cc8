"""The plan of a recipe: does it fit, how long does it take, what does it cost, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fipo.config import Config
from fipo.errors import ConfigError
from fipo.planning.hardware import Assumptions, Gpu
from fipo.planning.memory import GIB, Layout, Memory, memory_of
from fipo.planning.model import ModelShape
from fipo.planning.timing import Engines, StepTime, Workload, step_time

MOST_NODES = 64
"""No more are proposed."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the plan is for."""

    gpu: Gpu
    nodes: int
    gpus_per_node: int
    servers: int
    """vLLM servers of their own GPUs, with `rollout.engine = served`."""
    assumptions: Assumptions
    on_gpu: bool = True
    """Or on cores, where `precision: auto` is float32."""
    name: str = ""
    """Of this machine, for people; empty for GPUs that were asked for by name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one recipe on one hardware."""

    shape: ModelShape
    hardware: Hardware
    layout: Layout
    memory: Memory
    work: Workload
    time: StepTime
    gpus: int
    """Of trainer and servers."""
    steps: int
    note: str = ""
    """What the user should know although it runs."""
    problem: str = ""
    """Why it does not run, or empty."""

    @property
    def available(self) -> float:
        """Bytes that tensors can take on a rank."""
        return (self.hardware.gpu.memory_gib - self.hardware.assumptions.reserve_gib) * GIB

    @property
    def fits(self) -> bool:
        """Whether it runs."""
        return not self.problem

    @property
    def step_cost(self) -> float:
        """US dollars."""
        return self.time.total / 3600 * self.gpus * self.hardware.gpu.price_per_hour

    @property
    def tokens_per_second(self) -> float:
        """Response tokens that are trained on, over all GPUs."""
        return self.work.responses_trained * self.work.response_tokens / self.time.total

    def as_json(self) -> dict[str, Any]:
        """Everything, in bytes, seconds and dollars."""
        return {
            "fits": self.fits,
            "problem": self.problem,
            "note": self.note,
            "memory": asdict(self.memory) | {"phases": self.memory.phases, "peak": self.memory.peak},
            "available_bytes": self.available,
            "seconds": asdict(self.time) | {"total": self.time.total},
            "tokens_sampled": self.work.tokens_sampled,
            "tokens_trained": self.work.tokens_trained,
            "tokens_per_second": self.tokens_per_second,
            "step_cost": self.step_cost,
            "run_cost": self.step_cost * self.steps,
            "run_seconds": self.time.total * self.steps,
            "steps": self.steps,
            "gpus": self.gpus,
            "model": asdict(self.shape),
            "layout": asdict(self.layout),
            "hardware": asdict(self.hardware),
        }


def make_plan(config: Config, shape: ModelShape, hardware: Hardware) -> Plan:
    """The plan of `config` for a model of `shape`."""
    layout = Layout.of(config, shape, hardware.nodes * hardware.gpus_per_node, on_gpu=hardware.on_gpu)
    gpu, assumptions = hardware.gpu, hardware.assumptions
    work = Workload.of(config, layout, assumptions)
    engines = Engines.of(config, shape, layout, gpu, hardware.servers)
    served = engines.count * engines.gpus if config.rollout.engine == "served" else 0
    plan = Plan(
        shape=shape,
        hardware=hardware,
        layout=layout,
        memory=memory_of(shape, layout, config, gpu_bytes=gpu.memory_gib * GIB),
        work=work,
        time=step_time(shape, layout, work, config, gpu, assumptions, nodes=hardware.nodes, engines=engines),
        gpus=layout.ranks + served,
        steps=config.train.steps,
        note=_note(config, shape),
    )
    return replace(plan, problem=_problem(plan, engines))


@dataclass(frozen=True, slots=True)
class Advice:
    """What to change, and what comes of it."""

    changes: list[str]
    """`key=value` settings."""
    plan: Plan
    """With them, perhaps on more nodes."""

    def as_json(self) -> dict[str, Any]:
        """The changes and their effect."""
        return {
            "changes": self.changes,
            "nodes": self.plan.hardware.nodes,
            "peak": self.plan.memory.peak,
            "seconds": self.plan.time.total,
            "step_cost": self.plan.step_cost,
        }


def advise(change: Callable[[Sequence[str]], Config], plan: Plan) -> Advice | None:
    """Settings with which a plan fits, on more nodes where they do not suffice; one that halves its time if it does.

    Args:
        change: the recipe with so many more `key=value` settings.
        plan: of the recipe as it is.

    Returns:
        None when nothing helps on up to `MOST_NODES` nodes, or nothing needs to.
    """
    shape, hardware = plan.shape, plan.hardware
    if plan.fits:
        vllm = _try(change, ["rollout.engine=vllm"], shape, hardware)
        if vllm and vllm.fits and vllm.time.total < plan.time.total / 2:
            return Advice(["rollout.engine=vllm"], vllm)
        return None
    while hardware.nodes <= max(MOST_NODES, plan.hardware.nodes):
        changes, best = _least(change, shape, hardware)
        if best.fits:
            return Advice(changes, best)
        hardware = replace(hardware, nodes=2 * hardware.nodes)
    return None


def _least(change: Callable[[Sequence[str]], Config], shape: ModelShape, hardware: Hardware) -> tuple[list[str], Plan]:
    """The proposals that are needed, in order; all that save memory when it does not fit with them either."""
    changes: list[str] = []
    plan = make_plan(change([]), shape, hardware)
    for proposal in _proposals(plan):
        if plan.fits:
            break
        changed = _try(change, [*changes, proposal], shape, hardware)
        if changed and (changed.fits or changed.memory.peak < plan.memory.peak):
            changes, plan = [*changes, proposal], changed
    for proposal in list(changes) if plan.fits else []:  # an early one may not be needed with a later one
        fewer = [other for other in changes if other != proposal]
        without = _try(change, fewer, shape, hardware)
        if without and without.fits:
            changes, plan = fewer, without
    return changes, plan


def _try(
    change: Callable[[Sequence[str]], Config], changes: Sequence[str], shape: ModelShape, hardware: Hardware
) -> Plan | None:
    try:
        return make_plan(change(changes), shape, hardware)
    except ConfigError:  # settings that exclude each other
        return None


def _proposals(plan: Plan) -> list[str]:
    """What saves memory, the cheapest first."""
    longest, per_node = plan.layout.longest_row, plan.hardware.gpus_per_node
    return [
        f"train.max_tokens_per_micro_batch={longest}",
        f"rollout.max_batch_tokens={longest}",
        *(f"distributed.zero_stage={stage}" for stage in (2, 3) if stage > plan.layout.zero_stage),
        "distributed.activation_checkpointing=true",
        "distributed.tiled_mlp=true",
        *(f"distributed.sequence_parallel={size}" for size in (2, 4, 8) if per_node % size == 0),
        "distributed.offload=optimizer",
        "distributed.offload=parameters",
    ]


def _note(config: Config, shape: ModelShape) -> str:
    asked = config.data.max_prompt_tokens + config.rollout.max_response_tokens
    if asked <= shape.context:
        return ""
    return (
        f"The model's context ends responses early: it has {shape.context:,} tokens, and data.max_prompt_tokens and "
        f"rollout.max_response_tokens ask for {asked:,}."
    )


def _problem(plan: Plan, engines: Engines) -> str:
    phase, peak = max(plan.memory.phases.items(), key=lambda item: item[1])
    layout = plan.layout
    if layout.ranks % layout.sequence_parallel:
        return f"distributed.sequence_parallel: must divide {layout.ranks} ranks; got {layout.sequence_parallel}"
    if peak > plan.available:
        return f"{phase} needs {peak / GIB:.1f} GiB of a rank's {plan.available / GIB:.1f} GiB"
    if engines.cache_tokens < layout.longest_row:
        return (
            f"an inference engine has room for {engines.cache_tokens:,.0f} tokens, less than the longest prompt and "
            f"response ({layout.longest_row:,}): raise rollout.tensor_parallel or rollout.gpu_memory_fraction"
        )
    return ""
