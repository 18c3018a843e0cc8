"""A model's layers by `torch.compile`: most of an update's time on a GPU goes to small kernels, which it fuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from fipo.config import Distributed
from fipo.distributed.attention import packs, probe_packed

RECOMPILATIONS = 64
"""Of one layer's code, before calls of yet another kind go on uncompiled. Rows differ in length only, and are one kind;
layers may differ in windows, and a pass without gradient is another."""

Forward = Callable[..., Any]


def compilable(distributed: Distributed, device: torch.device) -> bool:
    """Whether layers are to be compiled: not where ranks exchange weights, tokens or tiles inside of one."""
    inside = distributed.zero_stage == 3 or distributed.tiled_mlp or distributed.sequence_parallel > 1
    return distributed.compile_layers and device.type == "cuda" and not inside


def compile_layers(model: PreTrainedModel, *, backend: str | Callable[..., Any] = "inductor") -> str:
    """Compile what each layer does to a packed row, once for all lengths, and try it forward and backward.

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
    try:
        with torch.enable_grad():
            probe_packed(model).float().sum().backward()
    except Exception as error:  # whatever the compiler does not know of such a model, the layer itself can do
        for layer, forward in zip(layers, own, strict=True):
            layer.forward = forward
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        model.zero_grad(set_to_none=True)
    return ""


def _for_rows(layer: Any, own: Forward, backend: str | Callable[..., Any]) -> Forward:
    """The layer's forward, compiled for packed rows.

    What is compiled stands inside of activation checkpointing, into which the compiler does not look. transformers has
    that around the call of a layer, or, in newer releases, in its class's `forward`.
    """
    inside = type(layer).forward.__code__.co_name == "forward_with_checkpointing"
    plain = type(layer).forward.__wrapped__.__get__(layer) if inside else own
    compiled = torch.compile(plain, dynamic=True, backend=backend)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("cu_seq_lens_q") is None:
            return own(*args, **kwargs)
        if inside and layer.gradient_checkpointing and layer.training:
            return layer._gradient_checkpointing_func(partial(compiled, **kwargs), *args)
        return compiled(*args, **kwargs)

    return forward
