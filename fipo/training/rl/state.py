"""Where the loop is, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fipo.config import Train
from fipo.training.checkpointing import LoopState
from fipo.training.rl.sampling import RolloutBatch


@dataclass(frozen=True, slots=True)
class RlState(LoopState):
    """Where the loop continues."""

    prompts_drawn: int = 0
    """Position of the prompt stream."""
    tokens_sampled: int = 0
    """Response tokens in all, for the token budget."""
    evaluation_due: bool = False
    """Stopped between the updates of `step` and their evaluation."""

    def after(self, batch: RolloutBatch) -> RlState:
        """The state one step later."""
        return RlState(self.step + 1, batch.prompts_drawn, self.tokens_sampled + batch.sampled_tokens)


class Budget:
    """How long to train: steps, and tokens if they are spent before."""

    def __init__(self, settings: Train) -> None:
        self._steps, self._tokens = settings.steps, settings.token_budget or math.inf

    def spent(self, state: RlState) -> bool:
        """Whether there is no next step."""
        return state.step >= self._steps or state.tokens_sampled >= self._tokens
