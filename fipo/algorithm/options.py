"""The settings of the policy loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["fipo", "dapo", "grpo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """What to optimize. The defaults are the paper's."""

    loss: Kind = "fipo"
    """`dapo`: without influence weights. `grpo`: symmetric clip at `clip_low`, mean over tokens, then responses."""
    half_life: float = 32.0
    """The paper's tau, in tokens: the weight of a later token halves at this distance."""
    influence_clip_low: float = 0.2
    """Influence weights are at least 1 - this."""
    influence_clip_high: float = 0.2
    """Influence weights are at most 1 + this."""
    safety_ratio: float = 10.0
    """Tokens with a negative advantage and an importance ratio above this are not amplified."""
    safety: Literal["reset", "clamp"] = "reset"
    """`reset` their weight to 1 (paper) or `clamp` it to [0.8, 1] (authors' code)."""
    clip_low: float = 0.2
    """The importance ratio is clipped at 1 - this."""
    clip_high: float = 0.28
    """The importance ratio is clipped at 1 + this (DAPO's clip-higher)."""
    dual_clip: float = 10.0
    """Tokens above this ratio leave Future-KL (Eq. 5), and bound the loss where the advantage is negative."""
    drop_dual_clipped_responses: bool = False
    """Drop a response with more than one dual-clipped token (authors' code)."""
