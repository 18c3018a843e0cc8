"""The settings of the policy loss: the algorithm's own, and as they stand a section of the run's settings.

Imports no torch and no pydantic: both the maths and `fipo.config` build on it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from fipo.errors import ConfigError

Loss = Literal["fipo", "dapo", "grpo", "dr_grpo", "gspo", "cispo", "sapo"]
Safety = Literal["reset", "clamp"]
Correction = Literal["none", "truncate", "mask"]
CorrectionLevel = Literal["token", "sequence"]
Placebo = Literal["none", "shuffle", "mean", "sign", "flip", "other"]


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """What to optimize. The defaults are the paper's.

    | `loss` | ratio | clip | normalisation | source |
    |---|---|---|---|---|
    | `fipo` | token | clip_low, clip_high | all tokens alike | arXiv 2603.19835: `dapo` with influence weights |
    | `dapo` | token | clip_low, clip_high | all tokens alike | arXiv 2503.14476 |
    | `grpo` | token | clip_low both ways | mean over tokens, then over responses | arXiv 2402.03300, no KL term |
    | `dr_grpo` | token | clip_low both ways | by responses times the length limit | arXiv 2503.20783 |
    | `gspo` | sequence | clip_low, clip_high | mean over responses | arXiv 2507.18071 |
    | `cispo` | token, no gradient | clip_low, clip_high | all tokens alike | arXiv 2506.13585 |
    | `sapo` | token | soft gate | mean over tokens, then over responses | arXiv 2511.20347 |

    The dual clip applies to all but `cispo` and `sapo`; `dual_clip=math.inf` turns it off.
    """

    loss: Loss = "fipo"
    """`dapo`: FIPO without influence weights. `grpo`: symmetric clip `clip_low`, mean over tokens, then responses;
    `dr_grpo`: GRPO without its length and difficulty bias. `gspo`: one ratio for a response (clips of about 3e-4).
    `cispo`: the clipped ratio as a weight, so that no token loses its gradient. `sapo`:
    a sigmoid of the ratio in place of the clip."""
    half_life: float = 32.0
    """The paper's tau, in tokens: the weight of a later token halves at this distance."""
    influence_clip_low: float = 0.2
    """Influence weights are at least 1 - this."""
    influence_clip_high: float = 0.2
    """Influence weights are at most 1 + this."""
    safety_ratio: float = 10.0
    """Tokens with a negative advantage and an importance ratio above this are not amplified."""
    safety: Safety = "reset"
    """`reset` their weight to 1 (paper) or `clamp` it to [0.8, 1] (authors' code)."""
    clip_low: float = 0.2
    """The importance ratio is clipped at 1 - this."""
    clip_high: float = 0.28
    """The importance ratio is clipped at 1 + this (DAPO's clip-higher)."""
    dual_clip: float = 10.0
    """Tokens above this ratio leave Future-KL (the mask M_k, Eq. 5), and bound the loss where the advantage is
    negative."""
    mask_future_kl: bool = True
    """Leave tokens above `dual_clip` out of Future-KL; false is the paper's ablation."""
    drop_dual_clipped_responses: bool = False
    """Drop a response with more than one token whose loss the dual clip bounds (authors' code). The denominator of the
    loss stays as it is where `num_loss_tokens` is given, as in training; else it shrinks."""
    correction: Correction = "none"
    """Weigh the loss by trainer over inference engine probabilities, truncated or masked beyond the threshold."""
    correction_level: CorrectionLevel = "token"
    """Correct each token, or each response by its geometric mean."""
    correction_threshold: float = 2.0
    """Weights above this are truncated, or masked there and below its inverse."""
    gate_temperature_positive: float = 1.0
    """`sapo`'s tau where the advantage is positive: the higher, the sooner a token that has moved stops counting."""
    gate_temperature_negative: float = 1.05
    """`sapo`'s tau where the advantage is negative."""
    forking_share: float = 1.0
    """Learn only from this share of the tokens of an update, those of highest entropy before the updates of the rollout
    batch (arXiv 2506.01939: 0.2). 1 is all."""
    placebo: Placebo = "none"
    """Control for experiments: influence weights shuffled in the response, averaged over it, only their sign, flipped
    about 1, or another response's."""

    def __post_init__(self) -> None:
        for field in fields(self):
            try:
                check_option(field.name, getattr(self, field.name))
            except ValueError as error:
                raise ConfigError(f"{field.name}: {error}") from None

    @property
    def scale_by_std(self) -> bool:
        """Whether advantages are divided by the group's standard deviation (`group_advantages`)."""
        return self.loss != "dr_grpo"

    @property
    def upper_clip(self) -> float:
        """How far above 1 the importance ratio counts."""
        return self.clip_low if self.loss in ("grpo", "dr_grpo") else self.clip_high


CHOICES: dict[str, Any] = {
    "loss": Loss,
    "safety": Safety,
    "correction": Correction,
    "correction_level": CorrectionLevel,
    "placebo": Placebo,
}

ABOVE = {
    "half_life": 0.0,
    "clip_high": 0.0,
    "safety_ratio": 1.0,
    "dual_clip": 1.0,
    "correction_threshold": 1.0,
    "gate_temperature_positive": 0.0,
    "gate_temperature_negative": 0.0,
    "forking_share": 0.0,
}
BETWEEN = {
    "clip_low": (0.0, 1.0),
    "influence_clip_low": (0.0, 1.0),
    "influence_clip_high": (0.0, float("inf")),
    "forking_share": (0.0, 1.0),
}


def check_option(name: str, value: Any) -> None:
    """Raise ValueError, with what is required and what arrived, for a value that the option cannot have."""
    if name in CHOICES and value not in get_args(CHOICES[name]):
        raise ValueError(f"must be one of {', '.join(get_args(CHOICES[name]))}; got {value!r}")
    if name in ABOVE and not value > ABOVE[name]:
        raise ValueError(f"must be above {ABOVE[name]:g}; got {value}")
    if name in BETWEEN:
        low, high = BETWEEN[name]
        if not low <= value <= high:
            raise ValueError(f"must be within [{low:g}, {high:g}]; got {value}")
