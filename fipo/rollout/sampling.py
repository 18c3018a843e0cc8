"""Drawing the next token: one log_softmax gives both the token and its log-prob."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def response_stream(seed: int, draw_id: str, index: int) -> np.random.Generator:
    """The random numbers of one response, one for each token: they depend on nothing else in the batch."""
    return np.random.default_rng([seed, index, int.from_bytes(draw_id.encode())])


def sample(logits: Tensor, uniforms: Tensor, *, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the cumulative distribution at `uniforms`.

    Args:
        logits: [rows, vocabulary].
        uniforms: [rows] float64 in [0, 1); a row's token is a function of its logits and this number alone.
        temperature: divides the logits; 0 takes the most likely token, with log-probs at temperature 1.
        top_p: sample from the fewest most likely tokens whose probabilities sum to at least this.

    Returns:
        (tokens, log_probs): [rows] int64 and [rows] float32, under the distribution that was sampled from.
    """
    log_probs = torch.log_softmax(logits.float() / (temperature or 1.0), dim=-1)
    if temperature == 0.0:
        best = log_probs.max(dim=-1)
        return best.indices, best.values
    if top_p < 1.0:
        log_probs = _nucleus(log_probs, top_p)
    # float64: in float32 the sum over a large vocabulary drifts, and a uniform number can round up to 1.
    cumulative = log_probs.exp().cumsum(dim=-1, dtype=torch.float64)
    threshold = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens.squeeze(-1), log_probs.gather(-1, tokens).squeeze(-1)


def _nucleus(log_probs: Tensor, top_p: float) -> Tensor:
    """The same distribution cut to its nucleus and normalised again; -inf outside."""
    ordered, order = log_probs.sort(dim=-1, descending=True)
    probabilities = ordered.exp()
    outside = probabilities.cumsum(dim=-1) - probabilities >= top_p
    kept = ordered.masked_fill(outside, -torch.inf)
    return torch.empty_like(log_probs).scatter_(-1, order, kept.log_softmax(dim=-1))
