"""Causal attention inside each sequence of a packed row, as an attention implementation of transformers.

No position is padding outside of the attention itself: every linear layer sees the packed row. On a GPU the kernel is
FlashAttention with variable lengths, the one in torch. On a CPU sequences of similar length, which stand side by side,
are padded to each other and attended together: a block-diagonal mask over the row would cost time^2. Windows and soft
caps are those that the model's layers ask for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fipo.errors import ConfigError

BLOCK = 512
"""Queries that are attended together at most, where there is a window or a soft cap."""

_UNKNOWN = ("s_aux", "position_bias")
"""Arguments that change what attention is, of which `packed_attention` knows nothing."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; without `cu_seq_lens_q` it is `sdpa` (or ours, for a soft cap), to generate.

    Args:
        module: the calling layer.
        query: [1, heads, time, head size].
        key: [1, key/value heads, time, head size].
        value: like `key`.
        attention_mask: of `sdpa`; not read with `cu_seq_lens_q`.
        scaling: of the products of queries and keys.
        sliding_window: tokens that a query sees, itself among them; None is all before it.
        softcap: largest size of a scaled product of query and key (Gemma 2); None is none.
        cu_seq_lens_q: [sequences + 1] int32: where each sequence of the packed row starts, and the row's end.
        max_length_q: tokens of the longest sequence.
        kwargs: of `sdpa`.

    Returns:
        [1, time, heads, head size], and None for the attention weights.
    """
    if unknown := [name for name in _UNKNOWN if kwargs.get(name) is not None]:
        raise ConfigError(
            f"model.name_or_path: {type(module).__name__} attends with {', '.join(unknown)}, of which packed rows know "
            "nothing"
        )
    if cu_seq_lens_q is None or max_length_q is None:
        if softcap is not None:
            return _soft_capped(query, key, value, attention_mask, scaling, softcap).transpose(1, 2), None
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))  # [time, heads, head size]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and softcap is None:
        packed = _flash(query, key, value, cu_seq_lens_q, max_length_q, scaling, sliding_window)
    else:
        packed = _by_length(query, key, value, cu_seq_lens_q, scaling, sliding_window, softcap)
    return packed[None], None


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_lens: Tensor,
    longest: int,
    scaling: float | None,
    window: int | None = None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    packed: Tensor = varlen_attn(  # type: ignore[assignment]  # a pair with `return_aux` only
        *(query, key, value),
        *(cu_seq_lens, cu_seq_lens),
        *(longest, longest),
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return packed


def _by_length(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_lens: Tensor,
    scaling: float | None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Padding stands after a sequence, so causal attention never reads it, and nothing reads what it becomes."""
    buckets = _buckets(tuple(cu_seq_lens.diff().tolist()))
    tokens = [sum(lengths) for lengths in buckets]
    outputs = []
    for lengths, *parts in zip(buckets, *(x.split(tokens) for x in (query, key, value))):
        index, valid = (x.to(query.device) for x in _layout(lengths))
        q, k, v = (part[index].transpose(1, 2) for part in parts)  # [sequences, heads, longest, head size]
        gqa = query.shape[1] != key.shape[1]
        if softcap is None and (window is None or window >= max(lengths)):
            attended = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=gqa)
        else:
            attended = _banded(q, k, v, scaling, window or max(lengths), softcap)
        outputs.append(attended.transpose(1, 2)[valid])
    return torch.cat(outputs)


def _banded(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int, softcap: float | None
) -> Tensor:
    """Queries in blocks, each with the keys that its window reaches: no mask or score over time^2 is ever held.

    Args:
        query: [sequences, heads, time, head size]; key and value alike, with their own heads.
        key: see query.
        value: see query.
        scaling: of the products; None is one over the square root of the head size.
        window: tokens that a query sees, itself among them.
        softcap: of the scaled products.
    """
    time = query.shape[2]
    position = torch.arange(time, device=query.device)
    blocks = []
    for start in range(0, time, BLOCK):
        end, first = min(start + BLOCK, time), max(0, start - window + 1)
        distance = position[start:end, None] - position[None, first:end]
        mask = (distance >= 0) & (distance < window)
        parts = query[:, :, start:end], key[:, :, first:end], value[:, :, first:end]
        if softcap is None:
            gqa = query.shape[1] != key.shape[1]
            blocks.append(scaled_dot_product_attention(*parts, attn_mask=mask, scale=scaling, enable_gqa=gqa))
        else:
            blocks.append(checkpoint(_soft_capped, *parts, mask, scaling, softcap, use_reentrant=False))
    return torch.cat(blocks, dim=2)


def _soft_capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    """softmax(softcap * tanh(query key^T scaling / softcap) + mask) value: Gemma 2's, which no kernel of torch does.

    Args:
        query: [sequences, heads, queries, head size].
        key: [sequences, key/value heads, keys, head size].
        value: like key.
        mask: boolean, additive, or None: causal.
        scaling: of the products.
        softcap: of the scaled products.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap
    if mask is None and query.shape[2] > 1:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None and mask.dtype is torch.bool:
        # Not -inf: a query of padding may see nothing.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype) @ value


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
