"""Log-probs and entropy from hidden states and the LM head, without logits for all tokens at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**27
"""Logits held at a time: 512 MiB of float32."""


def linear_log_probs(
    hidden: Tensor,
    lm_head_weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-prob of each target, and the entropy of the distribution it was drawn from, in nats.

        logits = hidden @ lm_head_weight.T / temperature
        log_probs_t = logits_t[target_t] - logsumexp(logits_t),    entropy_t = -Σ_v p_tv log p_tv

    Logits exist for `chunk_tokens` tokens at a time; the backward pass computes them again. Both results are
    differentiable in `hidden` and `lm_head_weight`.

    Args:
        hidden: [tokens, hidden] final hidden states; the one at t predicts `targets[t]`.
        lm_head_weight: [vocabulary, hidden]; tied or not.
        targets: [tokens] int64.
        temperature: that of the sampling whose log-probs are wanted.
        chunk_tokens: tokens at a time; None takes as many as make 512 MiB of logits.

    Returns:
        log_probs and entropy, [tokens] float32 (float64 for float64 inputs).
    """
    chunk = chunk_tokens or max(1, CHUNK_ELEMENTS // lm_head_weight.shape[0])
    outputs: tuple[Tensor, Tensor] = _LinearLogProbs.apply(  # type: ignore[no-untyped-call]
        hidden, lm_head_weight, targets, temperature, chunk
    )
    return outputs


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.temperature, ctx.chunk = temperature, chunk
        parts = []
        for h, target in zip(torch.split(hidden, chunk), torch.split(targets, chunk)):
            logits = _logits(h, weight, temperature)
            at_target = logits.gather(-1, target[:, None]).squeeze(-1)
            largest = logits.amax(-1, keepdim=True)
            exponentials = logits.sub_(largest).exp()
            total = exponentials.sum(-1)
            expected = torch.linalg.vecdot(exponentials, logits) / total
            log_total = total.log()
            normalizer = log_total + largest.squeeze(-1)
            parts.append(torch.stack((at_target - normalizer, log_total - expected, normalizer)))
        log_probs, entropy, normalizer = torch.cat(parts, -1).unbind()
        ctx.save_for_backward(hidden, weight, targets, entropy, normalizer)
        return log_probs.clone(), entropy.clone()

    @staticmethod
    def backward(ctx: Any, grad_log_probs: Tensor | None, grad_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, entropy, normalizer = ctx.saved_tensors
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=normalizer.dtype) if wants_weight else None
        for start in range(0, len(hidden), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            h = hidden[rows]
            log_p = _logits(h, weight, ctx.temperature).sub_(normalizer[rows, None])
            grad = _grad_logits(
                log_p,
                targets[rows],
                entropy[rows],
                None if grad_log_probs is None else grad_log_probs[rows],
                None if grad_entropy is None else grad_entropy[rows],
            )
            grad = grad.div_(ctx.temperature).to(weight.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = grad @ weight
            if grad_weight is not None and grad_weight.dtype == grad.dtype:
                grad_weight.addmm_(grad.t(), h)
            elif grad_weight is not None:
                grad_weight += grad.t() @ h
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = hidden @ weight.t()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperature == 1.0 else logits.div_(temperature)


def _grad_logits(
    log_p: Tensor, targets: Tensor, entropy: Tensor, grad_log_probs: Tensor | None, grad_entropy: Tensor | None
) -> Tensor:
    """d log_prob = onehot - p and d entropy = -p (log p + entropy), times what comes from above; overwrites `log_p`."""
    factor = torch.zeros_like(entropy[:, None])
    if grad_log_probs is not None:
        factor = factor - grad_log_probs[:, None]
    if grad_entropy is not None:
        factor = factor - grad_entropy[:, None] * (log_p + entropy[:, None])
    grad = log_p.exp_().mul_(factor)
    if grad_log_probs is not None:
        grad.scatter_add_(-1, targets[:, None], grad_log_probs[:, None])
    return grad
