"""Forking tokens (arXiv 2506.01939): those of highest entropy, where a response could have gone another way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def entropy_threshold(entropy: Sequence[Tensor], share: float) -> float:
    """Entropy in nats that `share` of the tokens reach, at least one of them; infinite where there are none.

    `entropy` is that of the response tokens, [tokens], of all micro-batches of an optimizer step on all ranks: what an
    update learns from must not depend on how it is split.
    """
    tokens = torch.cat([*entropy, torch.zeros(0)]).float()
    if not len(tokens):
        return float("inf")
    # A product such as 0.2 * 15 = 3.0000000000000004 asks for three tokens.
    count = min(len(tokens), max(1, math.ceil(share * len(tokens) - 1e-6)))
    return float(tokens.topk(count).values[-1])


def forking_tokens(entropy: Tensor, response_mask: Tensor, threshold: float) -> Tensor:
    """Response tokens whose entropy reaches `threshold`, [batch, time] bool."""
    return response_mask & (entropy.float() >= threshold)
