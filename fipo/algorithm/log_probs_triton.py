"""`linear_log_probs` on a GPU: the matrix products are the library's, and one Triton pass each does all between them.

Forward, a few tokens at a time, all logits of a token are read once for its log-prob and its entropy. Backward, a part
of the vocabulary at a time for all tokens: each row of the weight's gradient is then one matrix product, summed in
float32 inside of it, and no float32 gradient of the whole weight is held or read again.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,no-untyped-def"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fipo.algorithm.products import TILE, add_product, product

BLOCK, WARPS = 2048, 8
"""Logits of a token that are in the registers at a time, and the warps that hold them."""
ELEMENTS = 2**28
"""Logits held at a time: 1 GiB of float32. Few large matrix products come closer to what a GPU can do."""


class FusedLinearLogProbs(torch.autograd.Function):
    """Of `linear_log_probs`, which says what goes in and comes out; `elements` are the logits held at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: tuple[float, float | None, float],
        elements: int,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies, [tokens] float32."""
        log_probs, entropy, normalizer = hidden.new_empty(3, len(hidden), dtype=torch.float32).unbind()
        for rows in _parts(len(hidden), elements // len(weight)):
            logits = product(hidden[rows], weight.t())
            _statistics[(len(logits),)](
                logits,
                targets[rows],
                logits if bias is None else bias,
                *(log_probs[rows], entropy[rows], normalizer[rows]),
                len(weight),
                **_head(head, bias),
                BLOCK=BLOCK,
                num_warps=WARPS,
            )
            del logits  # the next ones take its memory
        ctx.head, ctx.elements = head, elements
        ctx.save_for_backward(hidden, weight, bias, targets, normalizer)
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy

    @staticmethod
    def backward(ctx: Any, grad_log_probs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d log_prob / d logits = (onehot - p) / temperature, made again of logits and the normalizer that was kept."""
        hidden, weight, bias, targets, normalizer = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = hidden.new_zeros(hidden.shape, dtype=torch.float32) if wants_hidden else None
        grad_weight = torch.empty_like(weight) if wants_weight else None
        grad_bias = torch.empty_like(bias) if wants_bias else None
        upstream = grad_log_probs.float().contiguous()
        for words in _parts(len(weight), ctx.elements // max(1, len(hidden))):
            logits = product(hidden, weight[words].t())
            error = torch.empty_like(logits, dtype=weight.dtype)
            _errors[(len(hidden), triton.cdiv(logits.shape[1], BLOCK))](
                logits,
                targets,
                logits if bias is None else bias[words],
                *(normalizer, upstream, error),
                words.start,
                logits.shape[1],
                **_head(ctx.head, bias),
                BLOCK=BLOCK,
                num_warps=WARPS,
            )
            del logits
            if grad_hidden is not None:
                add_product(grad_hidden, error, weight[words])
            if grad_weight is not None:
                grad_weight[words] = product(error.t(), hidden)
            if grad_bias is not None:
                grad_bias[words] = error.sum(0, dtype=torch.float32)
        return (
            None if grad_hidden is None else grad_hidden.to(hidden.dtype),
            grad_weight,
            grad_bias,
            *(None, None, None),
        )


def _parts(count: int, most: int) -> list[slice]:
    """Of at most `most`, in whole tiles of a matrix product; the first one holds what is left over."""
    size = most // TILE * TILE or TILE
    first = count % size or min(size, count)
    return [slice(max(0, end - size), end) for end in range(first, count + 1, size)] if count else []


def _head(head: tuple[float, float | None, float], bias: Tensor | None) -> dict[str, Any]:
    scale, soft_cap, temperature = head
    return {
        "scale": scale,
        "soft_cap": soft_cap or 1.0,
        "temperature": temperature,
        "BIASED": bias is not None,
        "CAPPED": soft_cap is not None,
    }


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _capped(raw, bias, words, inside, scale, soft_cap, BIASED: tl.constexpr, CAPPED: tl.constexpr):
    """The head's logits of what the matrix product gave, at temperature 1."""
    if BIASED:
        raw += tl.load(bias + words, mask=inside, other=0.0).to(tl.float32)
    raw *= scale
    if CAPPED:
        raw = soft_cap * _tanh(raw / soft_cap)
    return raw


@triton.jit
def _statistics(
    logits,
    targets,
    bias,
    log_probs,
    entropy,
    normalizer,
    vocabulary,
    scale,
    soft_cap,
    temperature,
    BIASED: tl.constexpr,
    CAPPED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of one token. Every lane keeps its own largest logit and what it sums over exp(logit - largest)."""
    token = tl.program_id(0)
    row = logits + token.to(tl.int64) * vocabulary
    lanes = tl.arange(0, BLOCK)
    largest = tl.full((BLOCK,), -1e30, tl.float32)
    total = tl.full((BLOCK,), 0.0, tl.float32)
    weighted = tl.full((BLOCK,), 0.0, tl.float32)
    for start in range(0, vocabulary, BLOCK):
        words = start + lanes
        inside = words < vocabulary
        x = _capped(tl.load(row + words, mask=inside, other=0.0), bias, words, inside, scale, soft_cap, BIASED, CAPPED)
        x = tl.where(inside, x / temperature, -1e30)
        higher = tl.maximum(largest, x)
        kept, here = tl.exp(largest - higher), tl.where(inside, tl.exp(x - higher), 0.0)
        weighted = kept * (weighted + (largest - higher) * total) + here * (x - higher)
        total = kept * total + here
        largest = higher
    top = tl.max(largest, 0)
    kept = tl.exp(largest - top)
    weighted = tl.sum(kept * (weighted + (largest - top) * total), 0)
    total = tl.sum(kept * total, 0)
    target = tl.load(targets + token)
    chosen = _capped(tl.load(row + target), bias, target, target >= 0, scale, soft_cap, BIASED, CAPPED) / temperature
    log_total = tl.log(total)
    tl.store(log_probs + token, chosen - top - log_total)
    tl.store(entropy + token, log_total - weighted / total)
    tl.store(normalizer + token, top + log_total)


@triton.jit
def _errors(
    logits,
    targets,
    bias,
    normalizer,
    upstream,
    error,
    first_word,
    words_here,
    scale,
    soft_cap,
    temperature,
    BIASED: tl.constexpr,
    CAPPED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """upstream · (onehot - p) · d logit / d raw, of one token and a block of words."""
    token = tl.program_id(0)
    words = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = words < words_here
    row = token.to(tl.int64) * words_here
    raw = tl.load(logits + row + words, mask=inside, other=0.0)
    logit = _capped(raw, bias, words, inside, scale, soft_cap, BIASED, CAPPED)
    p = tl.exp(logit / temperature - tl.load(normalizer + token))
    target = tl.load(targets + token) - first_word
    slope = scale / temperature
    result = tl.load(upstream + token) * slope * (tl.where(words == target, 1.0, 0.0) - p)
    if CAPPED:
        result *= 1.0 - (logit / soft_cap) * (logit / soft_cap)
    tl.store(error + row + words, result.to(error.dtype.element_ty), mask=inside)
