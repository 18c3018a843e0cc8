"""Rollout batches in order, each made when it is asked for, or one step ahead while the step before is trained on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.timing import Timer

Collect = Callable[[int, Timer], RolloutBatch]
"""Makes the batch of a step, in whichever thread it is called."""


class RolloutBatches:
    """The rollout batch of each step.

    One step ahead, batch i + 1 is sampled during the updates on batch i, by the weights before them: its responses are
    one step stale, and `algorithm.correction` weighs them by what the policy has moved since. A step that saves a
    checkpoint (and the last) begins no batch, so that a run that continues from there has the same batches.
    """

    def __init__(self, collect: Collect, begins_next: Callable[[int], bool]) -> None:
        """`begins_next(step)`: whether the batch after `step` is begun while `step` is trained on."""
        self._collect, self._begins_next = collect, begins_next
        self._next: Future[tuple[RolloutBatch, Timer]] | None = None

    def take(self, step: int, timer: Timer) -> RolloutBatch:
        """The batch of `step`. Steps are taken in order; a batch that was begun is waited for."""
        if self._next is None:
            batch = self._collect(step, timer)
        else:
            batch, its_timer = self._next.result()
            timer.add(its_timer)
            self._next = None
        if self._begins_next(step):
            self._next = _in_background(self._collect, step + 1)
        return batch

    def settle(self) -> None:
        """Wait until no batch is being made: the engine is free, for other weights or other prompts."""
        if self._next is not None:
            self._next.result()

    def discard(self) -> None:
        """Wait for a batch that is being made and forget it."""
        self.settle()
        self._next = None


def _in_background(collect: Collect, step: int) -> Future[tuple[RolloutBatch, Timer]]:
    """A thread that ends with the process: after an error nobody waits for responses that nobody wants."""
    future: Future[tuple[RolloutBatch, Timer]] = Future()

    def work() -> None:
        timer = Timer()
        try:
            future.set_result((collect(step, timer), timer))
        except BaseException as error:  # raised again in the training thread, by `result`
            future.set_exception(error)

    threading.Thread(target=work, name=f"rollouts-{step}", daemon=True).start()
    return future
