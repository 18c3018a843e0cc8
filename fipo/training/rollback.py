"""What a training loop does when updates go wrong: back to the newest checkpoint, and on with other data."""

from __future__ import annotations

from typing import Generic

from fipo.config import Optimizer
from fipo.distributed.engine import TrainingEngine
from fipo.errors import TrainingError
from fipo.training.checkpointing import Checkpoints, State
from fipo.training.job import Job

ADVICE = "lower learning_rate, raise warmup_steps, or look at the data of these steps"


class RollBack(Generic[State]):
    """Returns training to a checkpoint when `max_skipped_updates` updates in a row were left out.

    Every method is collective over the ranks, which all see the same.
    """

    def __init__(self, job: Job, engine: TrainingEngine, settings: Optimizer, checkpoints: Checkpoints[State]) -> None:
        self._job, self._engine, self._checkpoints = job, engine, checkpoints
        self._limit = settings.max_skipped_updates
        self._times, self._last_step = 0, 0

    @property
    def due(self) -> bool:
        """Whether the limit is reached."""
        return self._engine.skipped_in_a_row >= self._limit

    def before(self, step: int) -> State:
        """Restore the newest checkpoint before `step`, whose updates were left out, and return its state.

        Raises:
            TrainingError: there is none, or an earlier return has led to the same place.
        """
        what = (
            f"step {step}: {self._engine.skipped_in_a_row} updates in a row were left out, for a loss or gradient norm "
            "that is not finite or a norm above skip_grad_norm"
        )
        if step <= self._last_step:
            raise TrainingError(f"{what}, again after a return to the last checkpoint and with other data: {ADVICE}")
        state = self._checkpoints.restore(at_most=step - 1)
        if state is None:
            raise TrainingError(f"{what}, and there is no checkpoint yet to return to: {ADVICE}")
        self._last_step, self._times = step, self._times + 1
        self._job.say(f"warning: {what}; back to the checkpoint of step {state.step}, and on with other data")
        self._job.log({"checkpoint/rollbacks": float(self._times)}, step)
        return state
