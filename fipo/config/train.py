"""The two trainings: supervised warm-up and reinforcement learning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fipo.config.base import Role, Section


class Optimizer(Section):
    """AdamW (betas 0.9, 0.999), constant learning rate after a linear warm-up."""

    learning_rate: float = Field(1e-6, gt=0.0)
    """Constant after the warm-up."""
    warmup_steps: int = Field(10, ge=0)
    """Optimizer steps until the full learning rate."""
    weight_decay: float = Field(0.1, ge=0.0)
    """AdamW's decoupled decay."""
    grad_clip: float = Field(1.0, gt=0.0)
    """Largest gradient norm."""
    skip_grad_norm: float | None = Field(None, gt=0.0)
    """An update is left out when its gradient norm is above this; one that is not finite is left out in any case."""
    max_skipped_updates: int = Field(3, ge=1)
    """So many left out in a row return training to the last checkpoint, from where it takes other data."""
    max_tokens_per_micro_batch: Annotated[int, Role.PLACEMENT] = Field(32768, ge=1)
    """Tokens in one forward pass on one rank; lower it when memory runs out. It does not change the result."""
    checkpoint_every: Annotated[int, Role.PLACEMENT] = Field(10, ge=1)
    """Steps between checkpoints."""
    checkpoint_minutes: Annotated[float | None, Role.PLACEMENT] = Field(30.0, gt=0.0)
    """A checkpoint is saved too when the last one is so old, after the step or, in RL, between two of its updates; null
    goes by steps alone."""
    keep_checkpoints: Annotated[int, Role.PLACEMENT] = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    keep_best_checkpoints: Annotated[int, Role.PLACEMENT] = Field(0, ge=0)
    """Besides them, those with the best validation result: accuracy in RL, loss in the warm-up."""
    keep_checkpoints_every: Annotated[int | None, Role.PLACEMENT] = Field(None, ge=1)
    """Besides them, each whose step is a multiple of this."""


class Sft(Optimizer):
    """Supervised warm-up on `data.sft`; `steps: 0` starts RL from the model as it is."""

    steps: Annotated[int, Role.LENGTH] = Field(0, ge=0)
    """Optimizer steps."""
    learning_rate: float = Field(1e-5, gt=0.0)
    """Constant after the warm-up."""
    batch_size: int = Field(64, ge=1)
    """Demonstrations in one optimizer step, over all ranks."""
    evaluate_every: int = Field(100, ge=1)
    """Steps between measurements of the held-out loss."""
    checkpoint_every: Annotated[int, Role.PLACEMENT] = Field(100, ge=1)
    """Steps between checkpoints."""


class Train(Optimizer):
    """The RL loop. One step is one rollout batch and `prompts_per_step / mini_batch_prompts` optimizer updates."""

    steps: Annotated[int, Role.LENGTH] = Field(500, ge=1)
    """Rollout batches."""
    token_budget: Annotated[int | None, Role.LENGTH] = Field(None, ge=1)
    """Stop once this many response tokens have been sampled in all, if that is before `steps`; null is no limit."""
    prompts_per_step: int = Field(512, ge=1)
    """Prompts with a learning signal in one rollout batch."""
    mini_batch_prompts: int = Field(64, ge=1)
    """Prompts in one optimizer update."""
    dynamic_sampling: bool = True
    """Draw more prompts in place of groups whose accuracy has no spread (DAPO)."""
    max_generation_rounds: int = Field(10, ge=1)
    """Rounds of generation for one step at most; what is there by then is trained on."""
    max_steps_without_signal: Annotated[int, Role.PLACEMENT] = Field(20, ge=1)
    """So many steps in a row without any correct response end training, with what most responses lack."""
    evaluate_every: int = Field(10, ge=1)
    """Steps between evaluations on the validation split."""
    evaluate_problems: int = Field(256, ge=1)
    """Validation problems to evaluate on, one response each."""

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates per rollout batch."""
        return self.prompts_per_step // self.mini_batch_prompts
