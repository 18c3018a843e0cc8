"""Controls for experiments: influence weights without their meaning.

If FIPO works for the reason it gives, a run with any of these is worse than one without.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fipo.algorithm.options import Placebo
from fipo.algorithm.responses import Responses
from fipo.errors import ConfigError


def placebo_weights(weights: Tensor, response_mask: Tensor, kind: Placebo, responses: Responses) -> Tensor:
    """Replace the influence weights of each response, [batch, time]; `none` returns them as they are.

    - `shuffle`: the same weights at other tokens of the response, drawn at random. Is it *which* tokens?
    - `mean`: their mean over the response at every token. Is it only how much a response as a whole counts?
    - `flip`: 2 - f, at least 0: what FIPO amplifies is weakened by as much, and the reverse. Does the direction matter?
    - `other`: the weights of the next response of the micro-batch, its first for the first token and over again where
      it is shorter. Is it the response's own future? A response that is alone keeps its own, and which one is next
      depends on the packing: other limits of micro-batches, or other ranks, make another run of it.
    - `sign`: 1 + s and 1 - s, with s their mean distance from 1, above and below 1. Does *how much* matter?
    """
    if kind == "none":
        return weights
    if kind == "shuffle":
        return _shuffle(weights, response_mask, responses)
    if kind == "other":
        return _other(weights, response_mask, responses)
    if kind == "flip":
        return (2.0 - weights).clamp(min=0.0)
    lengths = responses.sums(response_mask.float()).clamp(min=1)
    deviation = torch.where(response_mask, weights - 1.0, 0.0)
    if kind == "mean":
        return torch.where(response_mask, 1.0 + responses.sums(deviation) / lengths, 1.0)
    return 1.0 + deviation.sign() * responses.sums(deviation.abs()) / lengths


def _shuffle(weights: Tensor, response_mask: Tensor, responses: Responses) -> Tensor:
    """Order tokens by response, as they stand and at random, and move weights from the one order to the other."""
    _whole_rows(responses, "shuffle")
    group = 2 * responses.index(weights) + response_mask
    source = group.argsort(dim=-1, stable=True)
    random = torch.rand_like(weights).argsort(dim=-1)
    target = random.gather(-1, group.gather(-1, random).argsort(dim=-1, stable=True))
    return weights.scatter(-1, target, weights.gather(-1, source))


def _other(weights: Tensor, response_mask: Tensor, responses: Responses) -> Tensor:
    """Number the response tokens of the micro-batch; token p of a response takes the weight of token p of the next."""
    _whole_rows(responses, "other")
    rows = torch.arange(len(weights), device=weights.device)[:, None] * weights.shape[-1]
    own = weights[response_mask]
    _, response, lengths = (rows + responses.index(weights))[response_mask].unique_consecutive(
        return_inverse=True, return_counts=True
    )
    starts = lengths.cumsum(0) - lengths
    position = torch.arange(len(own), device=own.device) - starts[response]
    following = (response + 1) % max(len(lengths), 1)
    return weights.masked_scatter(response_mask, own[starts[following] + position % lengths[following]])


def _whole_rows(responses: Responses, kind: Placebo) -> None:
    if responses.sequence_group is not None:
        raise ConfigError(f"placebo: {kind} needs whole rows; use it without sequence parallelism")
