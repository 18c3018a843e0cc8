"""The loss of reinforcement learning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fipo.config.base import Probability, Section


class Algorithm(Section):
    """The loss (arXiv 2603.19835, Eqs. 1 to 8); defaults are the paper's 7B setting."""

    loss: Literal["fipo", "dapo", "grpo", "dr_grpo", "gspo", "cispo"] = "fipo"
    """`dapo`: FIPO without influence weights. `grpo`: symmetric clip `clip_low`, mean over tokens, then responses;
    `dr_grpo`: GRPO without its length and difficulty bias. `gspo`: one ratio for a response (clips of about 3e-4).
    `cispo`: the clipped ratio as a weight, so that no token loses its gradient."""
    half_life: float = Field(32.0, gt=0.0)
    """The paper's tau, in tokens: the weight of a later token halves at this distance."""
    influence_clip_low: Probability = 0.2
    """Influence weights are at least 1 - this."""
    influence_clip_high: float = Field(0.2, ge=0.0)
    """Influence weights are at most 1 + this."""
    safety_ratio: float = Field(3.0, gt=1.0)
    """Tokens with a negative advantage and an importance ratio above this are not amplified."""
    safety: Literal["reset", "clamp"] = "reset"
    """`reset` their weight to 1 (paper) or `clamp` it to [0.8, 1] (reference code)."""
    clip_low: Probability = 0.2
    """The importance ratio is clipped at 1 - this."""
    clip_high: float = Field(0.28, gt=0.0)
    """The importance ratio is clipped at 1 + this (DAPO's clip-higher)."""
    dual_clip: float = Field(10.0, gt=1.0)
    """Tokens above this ratio leave Future-KL (the mask M_k), and bound the loss where the advantage is negative."""
    mask_future_kl: bool = True
    """Leave tokens above `dual_clip` out of Future-KL; false is the paper's ablation."""
    drop_dual_clipped_responses: bool = False
    """Drop a response with more than one dual-clipped token (reference code)."""
    correction: Literal["none", "truncate", "mask"] = "none"
    """Weigh the loss by trainer over inference engine probabilities, truncated or masked beyond the threshold."""
    correction_level: Literal["token", "sequence"] = "token"
    """Correct each token, or each response by its geometric mean."""
    correction_threshold: float = Field(2.0, gt=1.0)
    """Weights above this are truncated, or masked there and below its inverse."""
    placebo: Literal["none", "shuffle", "mean", "sign"] = "none"
    """Control for experiments: influence weights shuffled in the response, averaged over it, or only their sign."""
