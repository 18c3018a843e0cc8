"""Where the loop is, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
    steps_without_signal: int = 0
    """Steps in a row, `step` the last, in which no response was correct."""
    updates: int = 0
    """Updates of the next step that are done: it was left between two of them, and `prompts_drawn` is after it."""

    @property
    def checkpoint_step(self) -> int:
        """A step that is under way has its own number."""
        return self.step + bool(self.updates)

    def within(self, batch: RolloutBatch, updates: int) -> RlState:
        """The state after so many updates of the next step, which learns from the batch."""
        return replace(self, prompts_drawn=batch.prompts_drawn, evaluation_due=False, updates=updates)

    def after(self, batch: RolloutBatch) -> RlState:
        """The state one step later."""
        return RlState(
            step=self.step + 1,
            prompts_drawn=batch.prompts_drawn,
            tokens_sampled=self.tokens_sampled + batch.sampled_tokens,
            steps_without_signal=self.steps_without_signal + 1 if batch.without_signal else 0,
        )


class Budget:
    """How long to train: steps, and tokens if they are spent before."""

    def __init__(self, settings: Train) -> None:
        self._steps, self._tokens = settings.steps, settings.token_budget or math.inf

    def spent(self, state: RlState) -> bool:
        """Whether there is no next step."""
        return state.step >= self._steps or state.tokens_sampled >= self._tokens
