"""Less memory for activations in exchange for computing some of them again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from fipo.config import Distributed
from fipo.distributed.bootstrap import import_deepspeed


def save_activation_memory(model: PreTrainedModel, distributed: Distributed) -> None:
    """Apply `activation_checkpointing` and `tiled_mlp` to the model's layers."""
    if distributed.activation_checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # a new name for it, which older versions do not know
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                # A layer in evaluation mode keeps everything. What is inside stays in it: with dropout, or noise on
                # routers, old and new log-probs would be those of different networks.
                module.training = True
    if distributed.tiled_mlp:
        mlps = [layer.get_submodule("mlp") for layer in model.base_model.get_submodule("layers").children()]
        for mlp in mlps:
            mlp.forward = partial(_tiled, mlp.forward, model.config.hidden_size)
        # ZeRO-3 gathers the weights once for all tiles: ranks may have different numbers of them.
        import_deepspeed().utils.set_z3_leaf_modules(model, list({type(mlp) for mlp in mlps}))


def _tiled(forward: Callable[[Tensor], Tensor], tokens: int, hidden: Tensor) -> Tensor:
    """`forward` on so many tokens at a time; the backward pass computes each tile again when it comes to it.

    What a layer keeps between the two passes is then a hidden state a token, not the much wider intermediate ones.
    """
    tiles = hidden.split(tokens, dim=-2)
    if len(tiles) == 1:
        return forward(hidden)
    return torch.cat([checkpoint(forward, tile, use_reentrant=False) for tile in tiles], dim=-2)
