"""A plan as tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fipo.planning.idle import Idle
from fipo.planning.memory import GIB
from fipo.planning.plan import Advice, Plan

_MEMORY = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer (float32 weights, two moments)",
    "rollout": "weights to generate with",
    "cache": "key/value cache",
    "buffers": "communication buffers",
    "activations": "activations",
    "logits": "logits of the LM head",
    "update": "flattened gradient",
}
_PHASES = ("generation", "forward and backward", "optimizer step")
_USED = {"rollout": _PHASES[:1], "cache": _PHASES[:1], "update": _PHASES[2:]}
_USED |= dict.fromkeys(("buffers", "activations", "logits"), _PHASES[1:2])


def plan_tables(plan: Plan, name: str, idle: Idle) -> Group:
    """Memory by phase, time by phase, cost and verdict."""
    shape, hardware = plan.shape, plan.hardware
    served = f" and {plan.gpus - plan.layout.ranks} for vLLM servers" if plan.gpus > plan.layout.ranks else ""
    gpus = hardware.name or f"{hardware.nodes} x {hardware.gpus_per_node} GPUs"
    gpus += "" if hardware.on_gpu else f", {plan.layout.ranks} process(es)"
    adapter = f" and {_count(shape.adapter_parameters)} of the adapter" if shape.adapter_parameters else ""
    head = (
        f"{name}: {_count(shape.parameters)} parameters{adapter}, on {gpus}{served}, "
        f"ZeRO-{plan.layout.zero_stage}, micro-batches of {plan.layout.micro_batch_tokens:,} tokens"
    )
    parts: list[RenderableType] = [Text(head, style="bold"), _memory(plan), _time(plan, idle)]
    if plan.memory.host:
        parts.append(Text(f"Host memory: {plan.memory.host / GIB:,.1f} GiB a rank."))
    if plan.note:
        parts.append(Text(plan.note, style="yellow"))
    verdict = f"Does not fit: {plan.problem}." if plan.problem else "Fits."
    return Group(*parts, Text(verdict, style="bold red" if plan.problem else "bold green"))


def advice_text(plan: Plan, advice: Advice | None) -> Text:
    """What to change so that the recipe fits, or is faster."""
    if advice is None:
        devices = "GPUs" if plan.hardware.on_gpu else "a machine"
        way_out = f"Nothing makes it fit: take {devices} with more memory, or shorter responses."
        return Text("" if plan.fits else way_out)
    better = advice.plan
    more = f" --nodes {better.hardware.nodes}" if better.hardware.nodes != plan.hardware.nodes else ""
    sets = "".join(f" --set {change}" for change in advice.changes)
    return Text(
        f"{'Faster' if plan.fits else 'It fits'} with{sets}{more}: {better.memory.peak / GIB:.1f} GiB, "
        f"{_duration(better.time.total)}{_cost(better, better.step_cost, ' and ')} a step."
    )


def _count(parameters: int) -> str:
    """`7.62B`, `84.9M`, `2,832`."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if parameters >= 0.9995 * size:  # which is written as 1
            return f"{parameters / size:,.3g}{letter}"
    return f"{parameters:,}"


def _memory(plan: Plan) -> Table:
    table = Table(title="GiB on each rank", box=box.SIMPLE_HEAD, title_justify="left", show_footer=True, pad_edge=False)
    table.add_column("", footer=f"in all, of {plan.available / GIB:.1f} available")
    for phase in _PHASES:
        peak = plan.memory.phases[phase]
        style = "bold red" if peak > plan.available else ""
        table.add_column(phase, footer=Text(f"{peak / GIB:,.1f}", style=style), justify="right")
    for field, title in _MEMORY.items():
        size = getattr(plan.memory, field)
        if size:
            used = _USED.get(field, _PHASES)
            table.add_row(title, *(f"{size / GIB:,.1f}" if phase in used else "" for phase in _PHASES))
    return table


def _time(plan: Plan, idle: Idle) -> Table:
    time, work = plan.time, plan.work
    table = Table(title="time of a step", box=box.SIMPLE_HEAD, title_justify="left", show_footer=True, pad_edge=False)
    whole = plan.step_cost * plan.steps
    run = f"{plan.steps:,} steps: {_duration(time.total * plan.steps)}{_cost(plan, whole, ', ', digits=0)}"
    table.add_column("", footer="step")
    table.add_column("", footer=_duration(time.total), justify="right")
    table.add_column("", footer=f"{_cost(plan, plan.step_cost)}; {run}".removeprefix("; "))
    responses = f"{work.responses_sampled:,.0f} responses of {work.response_tokens:,.0f} tokens"
    sampled = f"{responses}; engines wait for {idle.generation:.0%}"
    trained = f"{work.responses_trained:,.0f} with a signal, {work.tokens_trained / 1e6:,.3g}M tokens with prompts"
    table.add_row("generation", _duration(time.generation), sampled)
    table.add_row("old log-probs", _duration(time.old_log_probs), trained)
    table.add_row(
        "updates", _duration(time.updates), f"{work.updates} optimizer steps; ranks wait for {idle.updates:.1%}"
    )
    table.add_row("communication", _duration(time.communication), "gradients, and weights that are sharded")
    table.add_row("weight sync", _duration(time.weight_sync), "to the inference engine")
    return table


def _cost(plan: Plan, dollars: float, before: str = "", *, digits: int = 2) -> str:
    """Nothing for cores: they are there already."""
    return f"{before}${dollars:,.{digits}f}" if plan.hardware.gpu.price_per_hour else ""


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
