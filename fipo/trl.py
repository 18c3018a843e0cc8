"""FIPO in TRL: its `GRPOTrainer` with FIPO's loss (arXiv 2603.19835, Eq. 8). Needs `pip install 'fipo[trl]'`.

from fipo.trl import FipoTrainer

trainer = FipoTrainer(model=..., reward_funcs=..., train_dataset=..., args=GRPOConfig(num_iterations=2))
trainer.train()
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from fipo.algorithm.influence import influence, masked_log_ratio
from fipo.algorithm.options import LossOptions
from fipo.algorithm.responses import Responses
from fipo.errors import ConfigError

PAPER = LossOptions()


class FipoTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, in which each token's advantage is multiplied by its influence weight.

    FIPO's loss is DAPO's with other advantages, and TRL's loss takes one advantage a token: generation, rewards,
    log-probs, normalisation and all else stay TRL's. The clips come from `options`, not from `args`.
    """

    def __init__(self, *arguments: Any, options: LossOptions = PAPER, **keywords: Any) -> None:
        """`options`: FIPO's settings; the rest is `GRPOTrainer`'s.

        Raises:
            ConfigError: `args` ask for another loss, or `options` for what is not done here.
        """
        super().__init__(*arguments, **keywords)
        args = self.args
        for name, required in {
            "loss_type": "dapo",
            "importance_sampling_level": "token",
            "use_liger_kernel": False,
        }.items():
            if getattr(args, name) != required:
                raise ConfigError(
                    f"GRPOConfig.{name}: must be {required!r} with FIPO's loss; got {getattr(args, name)!r}"
                )
        for name in ("loss", "correction", "drop_dual_clipped_responses"):
            if getattr(options, name) != getattr(PAPER, name):
                raise ConfigError(
                    f"options.{name}: must be {getattr(PAPER, name)!r} here; got {getattr(options, name)!r}"
                )
        if args.num_iterations == 1 and args.steps_per_generation <= args.gradient_accumulation_steps:
            warnings.warn(
                "one update for each generation: the policy has not moved when it is learned from, every influence "
                "weight is 1, and FIPO is DAPO; set num_iterations or steps_per_generation higher",
                stacklevel=2,
            )
        self.options = options
        self.epsilon_low, self.epsilon_high = options.clip_low, options.clip_high
        args.delta = options.dual_clip if math.isfinite(options.dual_clip) else None
        self._learned: dict[str, Any] | None = None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._learned = inputs = dict(inputs)  # its advantages are changed, and only for this once
        try:
            loss: Tensor = super()._compute_loss(model, inputs)
        finally:
            self._learned = None
        return loss

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **keywords: Any) -> Any:
        """Log-probs as TRL computes them; for the loss, which reads the advantages next, these are weighted here."""
        found = super()._get_per_token_logps_and_entropies(*arguments, **keywords)
        if self._learned is not None:
            self._learned["advantages"] = self._weighted(found[0].detach(), self._learned)
        return found

    def _weighted(self, log_probs: Tensor, inputs: dict[str, Any]) -> Tensor:
        """[batch, time] advantages times influence weights; 0 off the response."""
        mask = inputs["completion_mask"].bool()
        observed = "tool_mask" in inputs
        if observed:
            mask = mask & inputs["tool_mask"].bool()
        advantages = inputs["advantages"]
        advantages = torch.where(mask, advantages[:, None] if advantages.dim() == 1 else advantages, 0.0)
        old = inputs.get("old_per_token_logps")
        log_ratio = masked_log_ratio(log_probs, log_probs if old is None else old, mask)
        token = influence(self.options, log_ratio, advantages, mask, Responses(have_observations=observed))
        weights = (
            self.accelerator.gather(token.weights[mask].mean()),
            self.accelerator.gather(token.weights[mask].std()),
        )
        mode = "train" if self.model.training else "eval"
        for name, values in zip(("mean", "std"), weights):
            self._metrics[mode][f"influence_weight/{name}"].append(values.nanmean().item())
        return advantages * token.weights
