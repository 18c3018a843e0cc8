"""Log-probs and entropy from hidden states and the LM head, without logits for all tokens at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fipo.algorithm.fused import kernel_fault
from fipo.algorithm.products import TILE, add_product, product

CHUNK_ELEMENTS = 10**8
"""Logits held at a time: 400 MB of float32."""


def linear_log_probs(
    hidden: Tensor,
    lm_head_weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    bias: Tensor | None = None,
    scale: float = 1.0,
    soft_cap: float | None = None,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-prob of each target, and the entropy of the distribution it was drawn from, in nats.

        logits = cap(scale * (hidden @ lm_head_weight.T + bias)) / temperature,  cap(x) = soft_cap tanh(x / soft_cap)
        log_probs_t = logits_t[target_t] - logsumexp(logits_t),    entropy_t = -Σ_v p_tv log p_tv

    Logits exist for `chunk_tokens` tokens at a time, in float32 whatever the model's dtype. The backward pass computes
    them again, except for the last chunk, which is kept: with a small vocabulary there is only one, and nothing is
    computed twice (but a soft cap is, in every chunk). `log_probs` is differentiable in `hidden`, `lm_head_weight` and
    `bias`; `entropy` carries no gradient.

    On a GPU, Triton's kernels do all but the matrix products (`log_probs_triton`); there nothing is kept for the
    backward pass, which makes logits for a part of the vocabulary at a time.

    Under ZeRO-3 call it inside the `forward` of the module that owns the weight, as any other use of the weight.

    Args:
        hidden: [tokens, hidden] final hidden states; the one at t predicts `targets[t]`.
        lm_head_weight: [vocabulary, hidden]; tied or not.
        targets: [tokens] int64.
        temperature: that of the sampling whose log-probs are wanted.
        bias: [vocabulary]; None is none.
        scale: of the logits (Granite, Cohere).
        soft_cap: largest size of a logit (Gemma 2); None is none.
        chunk_tokens: most tokens at a time; None takes what makes 400 MB of logits (1 GiB on a GPU, where it is
            whole tiles, and as many logits in the backward pass).

    Returns:
        log_probs and entropy, [tokens] float32 (float64 for float64 inputs).
    """
    inputs = (hidden, lm_head_weight, bias, targets, (scale, soft_cap, temperature))
    words = len(lm_head_weight)
    outputs: tuple[Tensor, Tensor]
    if hidden.is_cuda and hidden.dtype is not torch.float64 and not kernel_fault(hidden.device):
        from fipo.algorithm.log_probs_triton import ELEMENTS, FusedLinearLogProbs

        elements = chunk_tokens * words if chunk_tokens else ELEMENTS
        outputs = FusedLinearLogProbs.apply(*inputs, elements)  # type: ignore[no-untyped-call]
    else:
        chunk = chunk_tokens or max(1, CHUNK_ELEMENTS // words)
        outputs = _LinearLogProbs.apply(*inputs, chunk)  # type: ignore[no-untyped-call]
    return outputs


def log_probs_of_logits(logits: Tensor, targets: Tensor, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The same from logits that are there, all at once: for heads that are no linear map with a scale and a cap.

    Args:
        logits: [tokens, vocabulary], as the model gives them.
        targets: [tokens] int64.
        temperature: as in `linear_log_probs`.

    Returns:
        log_probs and entropy, [tokens] float32; entropy carries no gradient.
    """
    log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
    with torch.no_grad():
        entropy = -torch.einsum("tv,tv->t", log_p.exp(), log_p)
    return log_p.gather(-1, targets[:, None]).squeeze(-1), entropy


Head = tuple[float, float | None, float]
"""Scale and soft cap of the logits, and the temperature."""


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logits_buffer, exponentials_buffer = _buffer(hidden, weight, chunk), _buffer(hidden, weight, chunk)
        log_probs, entropy, normalizer = logits_buffer.new_empty(3, len(hidden)).unbind()
        for rows in _chunks(len(hidden), chunk):
            logits = _tempered(_logits(hidden[rows], weight, bias, head, logits_buffer), head[2])
            largest = logits.amax(-1, keepdim=True)
            logits.sub_(largest)
            exponentials = torch.exp(logits, out=exponentials_buffer[: len(logits)])
            total = exponentials.sum(-1)
            log_total = total.log()
            normalizer[rows] = log_total + largest.squeeze(-1)
            log_probs[rows] = logits.gather(-1, targets[rows, None]).squeeze(-1) - log_total
            entropy[rows] = log_total - torch.einsum("tv,tv->t", exponentials, logits) / total
        last_probabilities = exponentials.div_(total[:, None])
        ctx.head, ctx.chunk = head, chunk
        ctx.save_for_backward(hidden, weight, bias, targets, normalizer, last_probabilities)
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy

    @staticmethod
    def backward(ctx: Any, grad_log_probs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d log_prob / d logits = (onehot - p) / temperature; a token's upstream gradient scales its whole row.

        Before a soft cap it is that times 1 - (logit / soft_cap)^2, before the scale that times the scale.
        """
        hidden, weight, bias, targets, normalizer, last_probabilities = ctx.saved_tensors
        scale, soft_cap, temperature = ctx.head
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        buffer = _buffer(hidden, weight, ctx.chunk)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=buffer.dtype) if wants_weight else None
        grad_bias = buffer.new_zeros(len(weight)) if wants_bias else None
        upstream = (-grad_log_probs * scale / temperature)[:, None]
        chunks = _chunks(len(hidden), ctx.chunk)
        for rows in chunks:
            slope = None
            if rows is chunks[-1] and soft_cap is None:
                probabilities = buffer[: len(last_probabilities)].copy_(last_probabilities)
            else:
                logits = _logits(hidden[rows], weight, bias, ctx.head, buffer)
                slope = None if soft_cap is None else 1.0 - (logits / soft_cap) ** 2
                probabilities = _tempered(logits, temperature).sub_(normalizer[rows, None]).exp_()
            minus_one = probabilities.new_full((len(probabilities), 1), -1.0)
            error = probabilities.scatter_add_(-1, targets[rows, None], minus_one)
            error = (error if slope is None else error.mul_(slope)).to(weight.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = upstream[rows] * (error @ weight)
            if grad_weight is not None:
                add_product(grad_weight, error.t(), (upstream[rows] * hidden[rows]).to(weight.dtype))
            if grad_bias is not None:
                grad_bias += torch.mv(error.t().to(buffer.dtype), upstream[rows, 0])
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(weight.dtype),
            *(None, None, None),
        )


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, head: Head, buffer: Tensor) -> Tensor:
    """The head's, at temperature 1, in the buffer."""
    scale, soft_cap, _ = head
    logits = product(hidden, weight.t(), buffer[: len(hidden)])
    if bias is not None:
        logits.add_(bias)
    if scale != 1.0:
        logits.mul_(scale)
    return logits if soft_cap is None else logits.div_(soft_cap).tanh_().mul_(soft_cap)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    """The logits over the temperature, in place; a pass over all of them that temperature 1 does without."""
    return logits if temperature == 1.0 else logits.div_(temperature)


def _chunks(tokens: int, most: int) -> list[slice]:
    """Parts of `most` tokens, in whole tiles of a matrix product where there are so many; one empty part if there are
    no tokens. What is left over comes first: the last part is kept for the backward pass, and shall be a full one."""
    size = most // TILE * TILE or most
    first = tokens % size or min(size, tokens)
    bounds = [0, *range(first, tokens + 1, size)]
    return [slice(start, end) for start, end in pairwise(bounds)]


def _buffer(hidden: Tensor, weight: Tensor, chunk: int) -> Tensor:
    """Room for a chunk of logits, made once: on the CPU fresh memory costs more than the arithmetic done in it."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    return hidden.new_empty(min(chunk, len(hidden)), weight.shape[0], dtype=dtype)
