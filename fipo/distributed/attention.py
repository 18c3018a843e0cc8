"""How models come to attend inside each sequence of a packed row, and which of them do."""

from __future__ import annotations

import math
from logging import getLogger
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from fipo.distributed.packed_attention import packed_attention
from fipo.errors import ConfigError
from fipo.models.inference import inference

NAME = "packed"

_logger = getLogger(__name__)

_NAMES = {NAME}
"""Implementations that keep packed sequences apart: this one, and those made of it (`register_packed`)."""

_PACKABLE = {"full_attention", "sliding_attention"}


def register_packed(name: str, attention: Any) -> None:
    """Make an implementation known to transformers that takes `cu_seq_lens_q` as `packed_attention` does."""
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    _NAMES.add(name)


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Let the model attend by `packed_attention`, if sequences in one row then see what each sees alone.

    That is measured: some models attend by code of their own, which knows nothing of sequences in a row. They stay as
    they are, and `TokenLogProbs` lays their sequences out as padded rows.

    Returns:
        Whether the model attends so.
    """
    if model.base_model is model:  # its body cannot be asked without its head
        return False
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
    if not kinds <= _PACKABLE:
        return False
    register_packed(NAME, packed_attention)
    own = model.config._attn_implementation
    with inference(model):
        alone = torch.cat([_hidden(model, ids) for ids in _probe(model)], dim=1)
        model.set_attn_implementation(NAME)
        try:
            together = probe_packed(model)
            apart = float((together - alone).abs().max() / alone.abs().max())
        except ConfigError:
            apart = math.inf
        except Exception as error:  # of the model's own code: what it makes of a row that it does not understand
            _logger.warning("%s takes no packed rows, and is slower on padded ones: %s", type(model).__name__, error)
            apart = math.inf
    if not apart < (1e-3 if alone.dtype in (torch.float32, torch.float64) else 0.1):
        model.set_attn_implementation(own)
        return False
    return True


def packs(model: PreTrainedModel) -> bool:
    """Whether the model attends inside each sequence of a packed row."""
    return model.config._attn_implementation in _NAMES


def packed_arguments(cu_seq_lens: Tensor, longest: int) -> dict[str, Any]:
    """What a model that `packs` is called with besides `input_ids` and `position_ids`."""
    return {
        # A mask of four dimensions is taken for a finished one. Packed attention needs none.
        "attention_mask": cu_seq_lens.new_ones((1, 1, 1, 1), dtype=torch.bool),
        "use_cache": False,
        "cu_seq_lens_q": cu_seq_lens,
        "cu_seq_lens_k": cu_seq_lens,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def probe_packed(model: PreTrainedModel) -> Tensor:
    """[1, time, hidden] that the model makes of two short sequences in one row."""
    parts = _probe(model)
    return _hidden(model, torch.cat(parts, dim=1), [ids.shape[1] for ids in parts])


def _probe(model: PreTrainedModel) -> list[Tensor]:
    """Two sequences of ever other tokens, [1, time] each."""
    tokens = (torch.arange(45, device=model.device) * 7919 + 11) % model.config.get_text_config().vocab_size
    return [part[None] for part in tokens.split([28, 17])]


def _hidden(model: PreTrainedModel, ids: Tensor, lengths: list[int] | None = None) -> Tensor:
    """[1, time, hidden] of a sequence, or of some that are packed."""
    lengths = lengths or [ids.shape[1]]
    positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths])[None]
    how: dict[str, Any] = {"use_cache": False}
    if packs(model):
        how = packed_arguments(torch.tensor([0, *lengths], device=ids.device).cumsum(0).int(), max(lengths))
    hidden: Tensor = model.base_model(input_ids=ids, position_ids=positions, **how).last_hidden_state
    return hidden


def attention_parity(model: PreTrainedModel) -> float:
    """Tokens of a sequence whose causal attention costs as many operations as its linear layers.

    A token costs 2 operations for each weight of the layers' matrices, and attention 4 for each channel of the heads
    and each token it looks at, half the sequence on average. Without attention there is no such length.
    """
    config, body = model.config.get_text_config(), model.base_model
    heads: int | None = getattr(config, "num_attention_heads", None)
    if not heads:
        return math.inf
    head_size: int = getattr(config, "head_dim", None) or config.hidden_size // heads
    linear = [module for module in body.modules() if not isinstance(module, nn.Embedding)]
    weights: int = sum(one.numel() for module in linear for one in module.parameters(recurse=False) if one.ndim > 1)
    channels: int = config.num_hidden_layers * heads * head_size
    return weights / channels
