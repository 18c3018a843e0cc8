"""Time of one RL step: a roofline for each phase, one after the other; nothing is assumed to overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fipo.config import Config
from fipo.planning.hardware import Assumptions, Gpu
from fipo.planning.memory import FLOAT32, GIB, Layout, cache_bytes
from fipo.planning.model import ModelShape

SERVER_MEMORY = 0.9
"""Share of a GPU that a vLLM server takes."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What one RL step generates and trains on, over all ranks."""

    responses_sampled: float
    """Those of groups without signal too."""
    responses_trained: float
    prompt_tokens: float
    """Of one prompt."""
    response_tokens: float
    """Of one response."""
    updates: int

    @staticmethod
    def of(config: Config, layout: Layout, assumptions: Assumptions) -> Workload:
        """The mean step of a recipe."""
        train, group = config.train, config.rollout.group_size
        prompt = min(assumptions.prompt_tokens, config.data.max_prompt_tokens)
        signal = assumptions.signal_fraction if train.dynamic_sampling else 1.0
        prompts = min(train.prompts_per_step / signal, train.prompts_per_step * train.max_generation_rounds)
        return Workload(
            responses_sampled=prompts * group,
            responses_trained=prompts * signal * group,
            prompt_tokens=prompt,
            response_tokens=min(
                assumptions.response_fraction * config.rollout.max_response_tokens, layout.longest_row - prompt
            ),
            updates=math.ceil(prompts * signal / train.mini_batch_prompts),
        )

    @property
    def row(self) -> float:
        """Tokens of a prompt and its response."""
        return self.prompt_tokens + self.response_tokens

    @property
    def tokens_sampled(self) -> float:
        """Response tokens."""
        return self.responses_sampled * self.response_tokens

    @property
    def tokens_trained(self) -> float:
        """Prompt and response tokens of each pass of the trainer."""
        return self.responses_trained * self.row


@dataclass(frozen=True, slots=True)
class Engines:
    """The inference engines that share the prompts of a step."""

    count: int
    gpus: int
    """Of each."""
    cache_tokens: float
    """Key/value positions that each holds."""
    continuous: bool
    """A response takes the place of one that ended; else a batch decodes to its longest before the next starts."""

    @staticmethod
    def of(config: Config, shape: ModelShape, layout: Layout, gpu: Gpu, servers: int) -> Engines:
        """Those of a recipe; `servers` counts with `rollout.engine = served`."""
        settings = config.rollout
        if settings.engine == "transformers":
            return Engines(layout.ranks, 1, settings.max_batch_tokens, continuous=False)
        count = servers if settings.engine == "served" else max(1, layout.ranks // settings.tensor_parallel)
        share = SERVER_MEMORY if settings.engine == "served" else settings.gpu_memory_fraction
        free = settings.tensor_parallel * share * gpu.memory_gib * GIB - layout.weight_bytes * shape.parameters
        return Engines(
            count, settings.tensor_parallel, max(0.0, free) / cache_bytes(shape, layout.weight_bytes), continuous=True
        )


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of each phase of a step."""

    generation: float
    old_log_probs: float
    updates: float
    communication: float
    """Of log-probs and updates: gradients, and the weights that ZeRO shards."""
    weight_sync: float

    @property
    def total(self) -> float:
        """Of the step."""
        return self.generation + self.old_log_probs + self.updates + self.communication + self.weight_sync


def step_time(
    shape: ModelShape,
    layout: Layout,
    work: Workload,
    config: Config,
    gpu: Gpu,
    assumptions: Assumptions,
    *,
    nodes: int,
    engines: Engines,
) -> StepTime:
    """Seconds of a step on so many nodes."""
    rate = gpu.peak_flops * assumptions.mfu
    bandwidth = (gpu.network_bandwidth if nodes > 1 else gpu.link_bandwidth) * assumptions.network_efficiency
    forward = forward_flops(shape, work.tokens_trained, work.responses_trained, work.row) / layout.ranks
    # The LM head's logits are computed again for the backward pass, and with checkpointing the layers are.
    again = 2 * shape.head_parameters * work.tokens_trained / layout.ranks
    # A backward pass is two forward passes, one for the gradients of frozen layers' inputs alone.
    passes = (2 if shape.adapter_parameters else 3) + layout.activation_checkpointing
    weights = layout.weight_bytes * shape.parameters
    sync = 0.0 if config.rollout.engine == "transformers" and layout.zero_stage < 3 else weights / bandwidth
    return StepTime(
        generation=_generation(shape, layout, work, engines, gpu, assumptions),
        old_log_probs=forward / rate,
        updates=(passes * forward + again) / rate + work.updates * _optimizer_step(shape, layout, gpu, assumptions),
        communication=_exchanged(shape, layout, work) / bandwidth,
        weight_sync=sync,
    )


def forward_flops(shape: ModelShape, tokens: float, rows: float, row: float) -> float:
    """Operations: 2 a weight and token; causal attention, 4 a query channel and pair of tokens, of which half are."""
    return 2 * shape.matrix_parameters * tokens + 2 * shape.layers * shape.query_size * rows * row**2


def _generation(
    shape: ModelShape, layout: Layout, work: Workload, engines: Engines, gpu: Gpu, assumptions: Assumptions
) -> float:
    """Each decoding step reads the weights, each token the keys and values before it; or arithmetic is what limits."""
    responses = math.ceil(work.responses_sampled / engines.count)
    longest = layout.longest_row - work.prompt_tokens
    if engines.continuous:
        rows = max(1.0, engines.cache_tokens / work.row)
        steps = max(longest, responses * work.response_tokens / rows)
    else:
        rows = max(1, engines.cache_tokens // layout.longest_row)
        steps = math.ceil(responses / rows) * longest
    before = work.prompt_tokens + work.response_tokens / 2
    read = steps * layout.weight_bytes * shape.matrix_parameters
    read += responses * work.response_tokens * before * cache_bytes(shape, layout.weight_bytes)
    flops = forward_flops(shape, responses * work.row, responses, work.row)
    memory_seconds = read / (gpu.memory_bandwidth * assumptions.decode_efficiency)
    return max(memory_seconds, flops / (gpu.peak_flops * assumptions.mfu)) / engines.gpus


def _exchanged(shape: ModelShape, layout: Layout, work: Workload) -> float:
    """Bytes that a rank sends in old log-probs and updates, in rings: (n - 1) / n of what is gathered or scattered."""
    n = layout.ranks
    whole = layout.weight_bytes * shape.parameters * (n - 1) / n
    trained = layout.weight_bytes * shape.trained_parameters * (n - 1) / n
    data_ranks = n / layout.sequence_parallel
    micro_batches = math.ceil(work.tokens_trained / work.updates / data_ranks / layout.micro_batch_tokens)
    gradients = trained * (2 if layout.zero_stage < 2 else 1)
    if layout.zero_stage == 3:
        # Gathered in each forward pass, old log-probs included, and in each backward pass.
        per_update = micro_batches * (3 * whole + gradients)
    else:
        per_update = micro_batches * gradients + (trained if layout.zero_stage else 0.0)
    exchanged = work.updates * per_update
    if layout.sequence_parallel > 1:
        # Ulysses exchanges queries, keys, values and outputs, in each forward pass and as often in the backward pass.
        channels = 2 * shape.query_size + 2 * shape.key_value_size
        exchanged += 3 * work.tokens_trained / n * shape.layers * channels * layout.weight_bytes
    return exchanged


def _optimizer_step(shape: ModelShape, layout: Layout, gpu: Gpu, assumptions: Assumptions) -> float:
    """Reads weight, gradient and moments in float32, writes weight and moments: 7 x 4 bytes a parameter."""
    part = shape.trained_parameters / (layout.ranks if layout.zero_stage else 1)
    bandwidth = gpu.memory_bandwidth if layout.offload == "none" else assumptions.host_bandwidth
    return 7 * FLOAT32 * part / bandwidth
