"""What the loss saw in single tokens, brought from packed micro-batches back to their responses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fipo.algorithm.loss import LossOutput
from fipo.batch import TokenTrace, TrainingBatch

_LARGEST = float(torch.finfo(torch.float16).max)

Traces = dict[tuple[str, int, int], TokenTrace]
"""By `Sample.key`."""


def seen(output: LossOutput, entropy: Tensor, batch: TrainingBatch) -> Tensor:
    """The fields of `TokenTrace` in their order, [5, 1, time] float16; half precision is enough to look at.

    Args:
        output: the micro-batch's loss.
        entropy: [1, time] of the policy.
        batch: the micro-batch, or this rank's shard of it.
    """
    token = output.influence
    mismatch = batch.old_log_probs - batch.rollout_log_probs
    fields = [token.weights, token.future_kl, token.log_ratio, entropy.detach().float(), mismatch]
    return torch.stack(fields).clamp(-_LARGEST, _LARGEST).half()


def traces_of(batch: TrainingBatch, fields: Tensor, update: int) -> Traces:
    """Each response of a whole micro-batch with what `seen` found; those that were not learned from are left out."""
    whole, mask = fields[:, 0].cpu().numpy(), batch.tokens.response_mask[0].cpu().numpy()
    ends = np.cumsum([0, *batch.tokens.lengths])
    found: Traces = {}
    for sample, (start, end) in zip(batch.samples, pairwise(ends)):
        if sample.advantage is not None:
            found[sample.key] = TokenTrace(update, *whole[:, start:end][:, mask[start:end]])
    return found
