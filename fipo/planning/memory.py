"""Memory of one rank: model states (ZeRO, arXiv 1910.02054), activations (as in arXiv 2205.05198), caches.

docs/planning.md has the formulae and how far they are from what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from fipo.config import Config
from fipo.planning.model import ModelShape

FLOAT32 = 4
REDUCE_BUCKET = 500_000_000
"""Gradients that DeepSpeed reduces at once (`reduce_bucket_size`)."""
LIVE_PARAMETERS = 1_000_000_000
"""Gathered parameters that ZeRO-3 keeps at once (`stage3_max_live_parameters`)."""
LOGITS, FUSED_LOGITS = 100_000_000, 2**28
"""Logits that `linear_log_probs` holds at once: as torch does it, and by Triton's kernels."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Layout:
    """How training is spread over ranks and cut into micro-batches."""

    ranks: int
    zero_stage: int
    offload: str
    """`none`, `optimizer` or `parameters`."""
    weight_bytes: int
    """Of one weight, activation or cache element: 2 in bf16, 4 in fp32."""
    fused_head: bool
    """Log-probs come of Triton's kernels: on GPUs."""
    longest_row: int
    """Tokens of the longest prompt and response."""
    micro_batch_tokens: int
    """Tokens of a full micro-batch, over all ranks that share it."""
    sequence_parallel: int
    """Ranks that share a micro-batch."""
    activation_checkpointing: bool
    tiled_mlp: bool

    @staticmethod
    def of(config: Config, shape: ModelShape, ranks: int, *, on_gpu: bool = True) -> Layout:
        """The layout of RL training by `config` on so many ranks."""
        distributed = config.distributed
        bf16 = distributed.precision == "bf16" or (distributed.precision == "auto" and on_gpu)
        longest = min(shape.context, config.data.max_prompt_tokens + config.rollout.max_response_tokens)
        return Layout(
            ranks=ranks,
            zero_stage=distributed.zero_stage,
            offload=distributed.offload,
            weight_bytes=2 if bf16 else FLOAT32,
            fused_head=on_gpu,
            longest_row=longest,
            # A row that is longer than the bound still makes a micro-batch.
            micro_batch_tokens=max(config.train.max_tokens_per_micro_batch, longest),
            sequence_parallel=distributed.sequence_parallel,
            activation_checkpointing=distributed.activation_checkpointing,
            tiled_mlp=distributed.tiled_mlp,
        )

    @property
    def tokens(self) -> float:
        """Tokens of a full micro-batch on one rank."""
        return self.micro_batch_tokens / self.sequence_parallel


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one rank's device, and in the host's memory for it."""

    weights: float
    gradients: float
    optimizer: float
    """Weights in float32 and Adam's two moments."""
    buffers: float
    """Gradients on their way between ranks; with ZeRO-3, parameters that are gathered."""
    activations: float
    """What the layers keep of a micro-batch for the backward pass, and need while they compute it."""
    logits: float
    """The LM head's chunk of logits and its gradient."""
    update: float
    """What the optimizer step needs for a moment."""
    rollout: float
    """Weights to generate with, beside those that are trained."""
    cache: float
    """Keys and values while generating, with the logits of the next tokens."""
    host: float
    """What is offloaded."""

    @property
    def states(self) -> float:
        """What is there all the time."""
        return self.weights + self.gradients + self.optimizer

    @property
    def phases(self) -> dict[str, float]:
        """Peak of each phase of a step; an engine that sleeps takes its memory in generation only."""
        return {
            "generation": self.states + self.rollout + self.cache,
            "forward and backward": self.states + self.buffers + self.activations + self.logits,
            "optimizer step": self.states + self.update,
        }

    @property
    def peak(self) -> float:
        """The largest of them."""
        return max(self.phases.values())


def memory_of(shape: ModelShape, layout: Layout, config: Config, *, gpu_bytes: float = 0.0) -> Memory:
    """What each part of RL training by `config` takes on a rank; vLLM's share is of `gpu_bytes`."""
    whole, part = shape.trained_parameters, shape.trained_parameters / layout.ranks
    stage, weight = layout.zero_stage, layout.weight_bytes
    weights = weight * (shape.parameters + shape.adapter_parameters) / (layout.ranks if stage == 3 else 1)
    optimizer = _optimizer_bytes(layout) * (part if stage else whole)
    gradients = _gradient_bytes(layout) * (part if stage >= 2 else whole)
    moved = [optimizer, gradients] if layout.offload != "none" else []
    moved += [weights] if layout.offload == "parameters" else []
    rollout, cache = _generation(shape, layout, config, gpu_bytes)
    return Memory(
        weights=0.0 if layout.offload == "parameters" else weights,
        gradients=0.0 if moved else gradients,
        optimizer=0.0 if moved else optimizer,
        buffers=_buffer_bytes(shape, layout),
        activations=_activations(shape, layout),
        logits=logits_bytes(shape, layout.tokens, weight, fused=layout.fused_head),
        # DeepSpeed flattens the gradient of a rank's part.
        update=0.0 if moved or stage == 0 else FLOAT32 * part,
        rollout=rollout,
        cache=cache,
        host=sum(moved),
    )


def layer_bytes(shape: ModelShape, weight_bytes: int, *, tiled_mlp: bool = False) -> float:
    """Bytes that one token leaves in one layer for the backward pass.

    Each of two norms: its input in float32, normalised, and its result. Queries, keys, values; the attention's output
    twice, as the kernel and as the projection keep it; with normalised queries and keys, those in float32 and before
    their scale. Feed-forward: both products, the gate's activation, the input of the last product; tiled, nothing.
    With an adapter, norms have no gradient of their scale, which needs what is normalised; each adapter keeps A x.
    """
    scaled = 0 if shape.adapter_parameters else weight_bytes
    norms = 2 * shape.hidden_size * (FLOAT32 + weight_bytes + scaled)
    attention = weight_bytes * (3 * shape.query_size + 2 * shape.key_value_size)
    if shape.query_key_norm:
        attention += (FLOAT32 + scaled) * (shape.query_size + shape.key_value_size)
    adapter = weight_bytes * shape.adapter_channels / shape.layers
    return norms + attention + adapter + (0 if tiled_mlp else _mlp_bytes(shape, weight_bytes))


def logits_bytes(shape: ModelShape, tokens: float, weight_bytes: int, *, fused: bool) -> float:
    """Peak of `linear_log_probs`, in the backward pass. With an adapter the head has no gradient.

    By torch, two chunks of logits and the head's gradient, in float32. Fused, on a GPU, a part of the logits in float32
    with its errors, the float32 gradient of all hidden states, and the head's gradient as it is.
    """
    head = 0 if shape.adapter_parameters else shape.head_parameters
    if fused:
        part = min(tokens * shape.vocabulary, FUSED_LOGITS)
        return part * (FLOAT32 + weight_bytes) + tokens * shape.hidden_size * FLOAT32 + head * weight_bytes
    chunk = min(tokens * shape.vocabulary, max(LOGITS, shape.vocabulary))
    return chunk * 2 * FLOAT32 + head * FLOAT32


def cache_bytes(shape: ModelShape, weight_bytes: int) -> float:
    """Bytes of the keys and values of one position."""
    return 2 * shape.layers * shape.key_value_size * weight_bytes


def _optimizer_bytes(layout: Layout) -> int:
    """A parameter: float32 weight and two moments; at stage 0 a float32 model is its own."""
    return (2 if layout.zero_stage == 0 and layout.weight_bytes == FLOAT32 else 3) * FLOAT32


def _gradient_bytes(layout: Layout) -> int:
    """A parameter: the float32 sum over micro-batches (at stage 0 in the model's dtype); stage 1 has the newest too."""
    if layout.zero_stage == 0:
        return layout.weight_bytes
    newest = layout.weight_bytes if layout.zero_stage == 1 and layout.weight_bytes < FLOAT32 else 0
    return FLOAT32 + newest


def _buffer_bytes(shape: ModelShape, layout: Layout) -> float:
    reduced = (FLOAT32 if layout.zero_stage == 1 else layout.weight_bytes) * min(
        shape.trained_parameters, REDUCE_BUCKET
    )
    gathered = layout.weight_bytes * min(shape.parameters, LIVE_PARAMETERS) if layout.zero_stage == 3 else 0.0
    return reduced + gathered


def _activations(shape: ModelShape, layout: Layout) -> float:
    """All layers, or their inputs and one of them; a tile of the feed-forward; the final norm and hidden states."""
    weight, tokens = layout.weight_bytes, layout.tokens
    layer = tokens * layer_bytes(shape, weight, tiled_mlp=layout.tiled_mlp)
    hidden = tokens * shape.hidden_size * weight
    layers = shape.layers * hidden + layer if layout.activation_checkpointing else shape.layers * layer
    tile = min(tokens, shape.hidden_size) * _mlp_bytes(shape, weight) if layout.tiled_mlp else 0.0
    return layers + tile + tokens * shape.hidden_size * (FLOAT32 + 3 * weight)


def _mlp_bytes(shape: ModelShape, weight_bytes: int) -> float:
    return 4 * weight_bytes * shape.intermediate_size


def _generation(shape: ModelShape, layout: Layout, config: Config, gpu_bytes: float) -> tuple[float, float]:
    """(weights, cache) beside training; servers have devices of their own."""
    settings, weight = config.rollout, layout.weight_bytes
    if settings.engine == "served":
        return 0.0, 0.0
    if settings.engine == "vllm":
        weights = weight * shape.parameters / settings.tensor_parallel
        return weights, max(0.0, settings.gpu_memory_fraction * gpu_bytes - weights)
    weights = weight * shape.parameters if layout.zero_stage == 3 else 0.0
    rows = max(1, settings.max_batch_tokens // layout.longest_row)
    # The next logits, their log_softmax and its exponentials in float32, cumulative probabilities in float64.
    sampling = rows * shape.vocabulary * (weight + 2 * FLOAT32 + 8)
    return weights, settings.max_batch_tokens * cache_bytes(shape, weight) + sampling
