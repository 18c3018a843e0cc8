"""The settings of the policy loss, and the paper's and its code's values of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fipo.errors import ConfigError

Loss = Literal["fipo", "dapo", "grpo", "dr_grpo", "gspo", "cispo"]
Safety = Literal["reset", "clamp"]
Correction = Literal["none", "truncate", "mask"]
CorrectionLevel = Literal["token", "sequence"]
Placebo = Literal["none", "shuffle", "mean", "sign"]


@dataclass(frozen=True, slots=True, kw_only=True)
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

    The dual clip applies to all but `cispo`; `dual_clip=math.inf` turns it off.
    """

    loss: Loss = "fipo"
    """Which loss."""
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
    """Tokens above this ratio leave Future-KL (Eq. 5), and bound the loss where the advantage is negative."""
    mask_future_kl: bool = True
    """M_k: leave tokens above `dual_clip` out of Future-KL. False is the paper's ablation."""
    drop_dual_clipped_responses: bool = False
    """Drop a response with more than one dual-clipped token (authors' code). The denominator shrinks if counted
    here, and stays as it is if `num_loss_tokens` is given."""
    correction: Correction = "none"
    """What to do where the inference engine's log-probs are not the trainer's: `corrections.importance_correction`."""
    correction_level: CorrectionLevel = "token"
    """Correct each token, or each response by its geometric mean."""
    correction_threshold: float = 2.0
    """Importance weights above this are truncated, or masked there and below its inverse."""
    placebo: Placebo = "none"
    """Replace the influence weights by a control of the same size without their meaning: `placebo.placebo_weights`."""

    def __post_init__(self) -> None:
        for name, kinds in CHOICES.items():
            if getattr(self, name) not in get_args(kinds):
                raise ConfigError(f"{name}: must be one of {', '.join(get_args(kinds))}; got {getattr(self, name)!r}")

    @property
    def scale_by_std(self) -> bool:
        """Whether advantages are divided by the group's standard deviation (`group_advantages`)."""
        return self.loss != "dr_grpo"

    @property
    def upper_clip(self) -> float:
        """How far above 1 the importance ratio counts."""
        return self.clip_low if self.loss in ("grpo", "dr_grpo") else self.clip_high


CHOICES = {
    "loss": Loss,
    "safety": Safety,
    "correction": Correction,
    "correction_level": CorrectionLevel,
    "placebo": Placebo,
}

PRESETS = {
    "paper": LossOptions(),
    "paper-7b": LossOptions(safety_ratio=3.0),
    "paper-32b": LossOptions(influence_clip_low=0.0),
    "reference": LossOptions(
        half_life=128.0,
        influence_clip_low=1.0,
        influence_clip_high=9.0,
        safety="clamp",
        dual_clip=3.0,
        drop_dual_clipped_responses=True,
    ),
}
"""`reference` is the authors' code with its own defaults, where it departs from the paper; it also leaves out
`num_loss_tokens`, so that the loss is the mean over a micro-batch."""
