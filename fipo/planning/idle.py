"""How long ranks and engines will wait for the slowest of them, where responses are of unequal lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fipo.config import Config
from fipo.distributed.packing import idle_fraction, plan_micro_batches, work_of
from fipo.planning.memory import cache_bytes
from fipo.planning.plan import Plan
from fipo.planning.queueing import Fleet, Rates, log_normal_lengths
from fipo.planning.timing import Engines
from fipo.rollout.parts import cut, dealt, parts_for_each

SEED = 1
"""The same plan at each call."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Shares of their time; the metrics `perf/generate_idle_fraction` and `perf/update_idle_fraction` measure them."""

    generation: float
    """Of the engines."""
    updates: float
    """Of the trainer's ranks, in old log-probs and updates."""


def idle_of(plan: Plan, config: Config) -> Idle:
    """Of a step with log-normal lengths of the plan's mean, spread by `response_sigma` and cut at the longest."""
    work, group = plan.work, config.rollout.group_size
    lengths = log_normal_lengths(
        max(1, round(work.responses_sampled / group)),
        group,
        mean=work.response_tokens,
        sigma=plan.hardware.assumptions.response_sigma,
        longest=int(plan.layout.longest_row - work.prompt_tokens),
        seed=SEED,
    )
    engines = Engines.of(config, plan.shape, plan.layout, plan.hardware.gpu, plan.hardware.servers)
    return Idle(_generation(plan, engines, lengths), _updates(plan, lengths))


def _generation(plan: Plan, engines: Engines, lengths: list[list[int]]) -> float:
    rows = max(1, int(engines.cache_tokens // (plan.work.row if engines.continuous else plan.layout.longest_row)))
    if engines.continuous:
        rates = _rates(plan, engines, rows)
        prompt = int(plan.work.prompt_tokens)
        return Fleet(rates, engines.count, lengths, prompt_tokens=prompt, stealing=True).generate(len(lengths)).idle
    return idle_fraction([batched_steps(lengths, rows, engines.count)])


def batched_steps(lengths: Sequence[Sequence[int]], rows: int, engines: int, *, stealing: bool = True) -> list[int]:
    """Decoding steps of each engine that goes batch by batch: a batch takes as many as its longest response has tokens.

    Args:
        lengths: of the responses to each prompt.
        rows: responses of a batch.
        engines: how many; each takes its next part (`fipo.rollout.parts`) when it is done with the one before.
        stealing: False deals the prompts out before they begin.
    """
    each = parts_for_each(len(lengths), len(lengths[0]), rows, engines) if stealing else 1
    parts = dealt(len(lengths), engines) if each == 1 else cut(range(len(lengths)), each * engines)
    steps = [0] * engines
    for part in parts:
        flat = [length for place in part for length in lengths[place]]
        first = steps.index(min(steps))
        steps[first] += sum(max(flat[start : start + rows]) for start in range(0, len(flat), rows))
    return steps


def _rates(plan: Plan, engines: Engines, slots: int) -> Rates:
    """The plan's roofline of decoding (`timing`)."""
    gpu, assumed, weight = plan.hardware.gpu, plan.hardware.assumptions, plan.layout.weight_bytes
    bandwidth = engines.gpus * gpu.memory_bandwidth * assumed.decode_efficiency
    return Rates(
        step_seconds=weight * plan.shape.matrix_parameters / bandwidth,
        context_seconds=cache_bytes(plan.shape, weight) / bandwidth,
        slots=slots,
        prefill_seconds=0.0,  # nothing is carried over
    )


def _updates(plan: Plan, lengths: list[list[int]]) -> float:
    """Of one update's rows, packed as training packs them."""
    layout, shape = plan.layout, plan.shape
    rows = [int(plan.work.prompt_tokens) + length for prompt in lengths for length in prompt]
    rows = rows[: max(1, round(plan.work.responses_trained / plan.work.updates))]
    parity = shape.matrix_parameters / (shape.layers * shape.query_size)
    packed = plan_micro_batches(
        rows,
        ranks=layout.ranks // layout.sequence_parallel,
        max_tokens=layout.micro_batch_tokens,
        attention_parity=parity,
    )
    return idle_fraction(work_of(packed, rows, parity))
