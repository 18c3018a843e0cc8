"""Guards against the two silent failures of FIPO: weights that are all 1, and weights made of noise.

Both are read off metrics of `policy_loss`, reduced over micro-batches and ranks, one value for each update of a rollout
batch. A guard returns what to say, or None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

NOISE_THRESHOLD = 0.02
"""Spread of Future-KL, in nats, that moves a weight by a tenth of the paper's clip range of 0.2."""


def influence_std(mean: float, square_deviation: float) -> float:
    """Spread of the influence weights from `influence_weight_mean` and `influence_weight_square_deviation`."""
    return math.sqrt(max(square_deviation - (mean - 1.0) ** 2, 0.0))


def no_op_warning(square_deviations: Sequence[float]) -> str | None:
    """Says so when FIPO did nothing over a rollout batch that made more than one update.

    The first update has weights of 1 by construction; later ones have them only if the policy did not move or a setting
    suppresses them.

    Args:
        square_deviations: `influence_weight_square_deviation` of each update, in order.
    """
    if len(square_deviations) < 2 or any(square_deviations):
        return None
    return (
        f"every influence weight was 1 in all {len(square_deviations)} updates of the rollout batch: FIPO did nothing. "
        "Is the learning rate 0, the influence clip range 0, or old_log_probs computed again before each update?"
    )


def noise_warning(square_mean: float, half_life: float, threshold: float = NOISE_THRESHOLD) -> str | None:
    """Says so when Future-KL spreads before the first update, where the policy has not moved and it must be 0.

    Independent noise in the log-probs is amplified by `noise_amplification`; what spreads here is the floor under which
    no influence weight means anything.

    Args:
        square_mean: `future_kl_square_mean` of the first update of a rollout batch.
        half_life: in tokens.
        threshold: spread in nats from which to warn.
    """
    spread = math.sqrt(square_mean)
    if spread <= threshold:
        return None
    return (
        f"Future-KL spreads by {spread:.3g} nats before the first update (at most {threshold:g} is harmless): noise of "
        f"{spread / noise_amplification(half_life):.2g} nats in each log-prob, amplified. old_log_probs must come from "
        "the trainer's own forward pass, in the packing and precision of log_probs, not from the inference engine."
    )


def noise_amplification(half_life: float) -> float:
    """By how much Future-KL multiplies the spread of independent noise: 1 / sqrt(1 - gamma^2), 4.86 for 32 tokens."""
    return math.inf if math.isinf(half_life) else 1.0 / math.sqrt(1.0 - 4.0 ** (-1.0 / half_life))
