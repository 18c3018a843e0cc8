"""Train-inference correction: the engine that sampled a response is not quite the policy that is trained.

Kernels, precisions and batch shapes differ, so `rollout_log_probs` differ from `old_log_probs` on the same weights. The
difference makes every update slightly off-policy; importance weights between the two undo it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fipo.algorithm.influence import masked_log_ratio
from fipo.algorithm.options import LossOptions
from fipo.algorithm.responses import Responses


@torch.no_grad()
def importance_correction(
    options: LossOptions, old_log_probs: Tensor, rollout_log_probs: Tensor, response_mask: Tensor, responses: Responses
) -> Tensor:
    """What each token's loss is multiplied by, [batch, time] float32 without gradient; all 1 for `correction: none`.

        w_t = exp(old_log_probs_t - rollout_log_probs_t)

    `truncate`: min(w, threshold), truncated importance sampling. `mask`: w within [1 / threshold, threshold], else 0.
    At the level `sequence` every token has the geometric mean of w over its response: unlike the product, it does not
    grow with the length.
    """
    log_weights = masked_log_ratio(old_log_probs, rollout_log_probs, response_mask)
    if options.correction == "none":
        return torch.ones_like(log_weights)
    if options.correction_level == "sequence":
        lengths = responses.sums(response_mask.float()).clamp(min=1)
        log_weights = responses.sums(log_weights) / lengths
    weights, threshold = log_weights.exp(), options.correction_threshold
    if options.correction == "truncate":
        return weights.clamp(max=threshold)
    return torch.where((weights >= 1.0 / threshold) & (weights <= threshold), weights, 0.0)
