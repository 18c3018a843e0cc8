"""Causal attention inside each sequence of a packed row, as an attention implementation of transformers.

No position is padding outside of the attention itself: every linear layer sees the packed row. On a GPU the kernel is
FlashAttention with variable lengths, the one in torch. On a CPU sequences of similar length, which stand side by side,
are padded to each other and attended together: a block-diagonal mask over the row would cost time^2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from fipo.errors import ConfigError

NAME = "packed"


def use_packed_attention(model: PreTrainedModel) -> None:
    """Let the model attend by `packed_attention`.

    Raises:
        ConfigError: a layer of the model does not attend to everything before it.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ConfigError(
            f"model {model.config.model_type}: training needs full attention in every layer (Qwen2, Qwen3, Llama and "
            f"their like); found {', '.join(sorted(kinds))}"
        )
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attention_parity(model: PreTrainedModel) -> float:
    """Tokens of a sequence whose causal attention costs as many operations as its linear layers.

    A token costs 2 operations for each weight of the layers' matrices, and attention 4 for each channel of the heads
    and each token it looks at, half the sequence on average.
    """
    config, layers = model.config, model.base_model.layers
    weights = sum(parameter.numel() for parameter in layers.parameters() if parameter.ndim > 1)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return weights / (len(layers) * config.num_attention_heads * head_size)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; without `cu_seq_lens_q` it is `sdpa`, for generation.

    Args:
        module: the calling layer.
        query: [1, heads, time, head size].
        key: [1, key/value heads, time, head size].
        value: like `key`.
        attention_mask: of `sdpa`; not read with `cu_seq_lens_q`.
        scaling: of the products of queries and keys.
        cu_seq_lens_q: [sequences + 1] int32: where each sequence of the packed row starts, and the row's end.
        max_length_q: tokens of the longest sequence.
        kwargs: of `sdpa`.

    Returns:
        [1, time, heads, head size], and None for the attention weights.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    by_time = [x.squeeze(0).transpose(0, 1) for x in (query, key, value)]  # [time, heads, head size]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        packed = _flash(*by_time, cu_seq_lens_q, max_length_q, scaling)
    else:
        packed = _by_length(*by_time, cu_seq_lens_q, scaling)
    return packed[None], None


def _flash(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_lens: Tensor, longest: int, scaling: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    packed: Tensor = varlen_attn(
        *(query, key, value),
        *(cu_seq_lens, cu_seq_lens),
        *(longest, longest),
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return packed


def _by_length(query: Tensor, key: Tensor, value: Tensor, cu_seq_lens: Tensor, scaling: float | None) -> Tensor:
    """Padding stands after a sequence, so causal attention never reads it, and nothing reads what it becomes."""
    buckets = _buckets(tuple(cu_seq_lens.diff().tolist()))
    tokens = [sum(lengths) for lengths in buckets]
    outputs = []
    for lengths, *parts in zip(buckets, *(x.split(tokens) for x in (query, key, value))):
        index, valid = (x.to(query.device) for x in _layout(lengths))
        rows = [part[index].transpose(1, 2) for part in parts]  # [sequences, heads, longest, head size]
        gqa = query.shape[1] != key.shape[1]
        attended = scaled_dot_product_attention(*rows, is_causal=True, scale=scaling, enable_gqa=gqa)
        outputs.append(attended.transpose(1, 2)[valid])
    return torch.cat(outputs)


@lru_cache(maxsize=64)
def _buckets(lengths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Adjacent sequences that are attended together."""
    buckets: list[list[int]] = []
    for length in lengths:
        last = [*buckets[-1], length] if buckets else [length]
        if buckets and (max(last) <= 64 or max(last) * len(last) <= 1.125 * sum(last)):
            buckets[-1] = last
        else:
            buckets.append([length])
    return [tuple(bucket) for bucket in buckets]


@lru_cache(maxsize=64)
def _layout(lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """[sequences, longest]: which token of the bucket stands there (any on padding), and whether one does."""
    ends = np.cumsum(lengths)
    position = np.arange(max(lengths))
    valid = position < np.array(lengths)[:, None]
    index = (ends - np.array(lengths))[:, None] + position
    return torch.from_numpy(np.where(valid, index, 0)), torch.from_numpy(valid)
