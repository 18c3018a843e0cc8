"""A model's layers by `torch.compile`: most of an update's time on a GPU goes to small kernels, which it fuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from fipo.config import Distributed
from fipo.distributed.attention import packs, probe_packed

RECOMPILATIONS = 64
"""Of one layer's code, before calls of yet another kind go on uncompiled. Rows differ in length only, and are one kind;
layers may differ in windows."""

Forward = Callable[..., Any]


def compilable(distributed: Distributed, device: torch.device) -> bool:
    """Whether layers are to be compiled: not where ranks exchange weights, tokens or tiles inside of one."""
    inside = distributed.zero_stage == 3 or distributed.tiled_mlp or distributed.sequence_parallel > 1
    return distributed.compile_layers and device.type == "cuda" and not inside


def compile_layers(model: PreTrainedModel, *, backend: str | Callable[..., Any] = "inductor") -> str:
    """Compile what each layer does to a packed row, once for all lengths, and try it, with gradient and without.

    Other calls, those of generation, go the layer's own way.

    Args:
        model: which attends by `packed_attention`.
        backend: of `torch.compile`.

    Returns:
        Why the layers stay as they are; empty where they are compiled.
    """
    if not packs(model):
        return "its attention knows nothing of packed rows"
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    own = [layer.forward for layer in layers]
    for layer, forward in zip(layers, own, strict=True):
        layer.forward = _for_rows(layer, forward, backend)
    if fault := _fault(model):
        for layer, forward in zip(layers, own, strict=True):
            layer.forward = forward
    return fault


def _fault(model: PreTrainedModel) -> str:
    """What is wrong with compiled layers; empty where a pass without gradient gives what one with gradient does."""
    try:
        with torch.enable_grad():
            learned = probe_packed(model)
            learned.float().sum().backward()
        with torch.no_grad():
            old = probe_packed(model)
    except Exception as error:  # whatever the compiler does not know of such a model, the layer itself can do
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        model.zero_grad(set_to_none=True)
    return "" if torch.equal(old, learned) else "a pass without gradient rounds elsewhere than one with gradient"


def _for_rows(layer: Any, own: Forward, backend: str | Callable[..., Any]) -> Forward:
    """The layer's forward, compiled for packed rows: one graph for passes with gradient and without.

    The compiler would fuse other operations in a graph for passes without gradient, which in bfloat16 rounds elsewhere:
    old log-probs would then differ from those of the first update, and Future-KL amplify the difference. So the layer
    computes as if there were a gradient; what it keeps for one is freed when it is done.

    What is compiled stands inside of activation checkpointing, into which the compiler does not look. transformers has
    that around the call of a layer, or, in newer releases, in its class's `forward`.
    """
    inside = type(layer).forward.__code__.co_name == "forward_with_checkpointing"
    plain = type(layer).forward.__wrapped__.__get__(layer) if inside else own
    compiled = torch.compile(plain, dynamic=True, backend=backend)
    carries_gradient = True  # what comes into the layer: not into the first, where the embedding is not trained

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal carries_gradient
        if kwargs.get("cu_seq_lens_q") is None:
            return own(hidden_states, *args, **kwargs)
        if not torch.is_grad_enabled():
            hidden_states = hidden_states.detach().requires_grad_(carries_gradient)
            with torch.enable_grad():
                output = compiled(hidden_states, *args, **kwargs)
            return tree_map_only(Tensor, Tensor.detach, output)
        carries_gradient = hidden_states.requires_grad
        if inside and layer.gradient_checkpointing and layer.training:
            return layer._gradient_checkpointing_func(partial(compiled, **kwargs), hidden_states, *args)
        return compiled(hidden_states, *args, **kwargs)

    return forward
