"""Rollout batches in order, each made when it is asked for, or ahead while the steps before are trained on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.timing import Timer

Collect = Callable[[int, Timer], RolloutBatch]
"""Makes the batch of a step, in whichever thread it is called."""
_Ahead = Future[tuple[RolloutBatch, Timer]]


class RolloutBatches:
    """The rollout batch of each step.

    Ahead, batches are sampled one after the other during the updates on earlier ones, by older weights:
    `algorithm.correction` weighs each token by what the policy has moved since it was sampled. No batch is begun before
    the checkpoint that comes first, so that a run that continues from there has the same batches.
    """

    def __init__(self, collect: Collect, ahead: Callable[[int], int]) -> None:
        """`ahead(step)`: how many batches after that of `step` may be begun while `step` is trained on."""
        self._collect, self._ahead = collect, ahead
        self._begun: deque[_Ahead] = deque()

    def take(self, step: int, timer: Timer) -> RolloutBatch:
        """The batch of `step`. Steps are taken in order; a batch that was begun is waited for."""
        if self._begun:
            batch, its_timer = self._begun.popleft().result()
            timer.add(its_timer)
        else:
            batch = self._collect(step, timer)
        while len(self._begun) < self._ahead(step):
            before = self._begun[-1] if self._begun else None
            self._begun.append(_in_background(self._collect, step + 1 + len(self._begun), before))
        return batch

    @property
    def begun(self) -> bool:
        """Whether the next batch has been begun."""
        return bool(self._begun)

    def wait(self) -> None:
        """Until the next batch is made, if it was begun."""
        if self._begun:
            self._begun[0].result()

    def settle(self) -> None:
        """Wait until no batch is being made: the engine is free, for other weights or other prompts."""
        if self._begun:
            self._begun[-1].result()

    def discard(self) -> None:
        """Wait for the batches that are being made and forget them."""
        self.settle()
        self._begun.clear()


def _in_background(collect: Collect, step: int, before: _Ahead | None) -> _Ahead:
    """A thread that ends with the process: after an error nobody waits for responses that nobody wants."""
    future: _Ahead = Future()

    def work() -> None:
        timer = Timer()
        try:
            if before:
                before.result()
            future.set_result((collect(step, timer), timer))
        except BaseException as error:  # raised again in the training thread, by `result`
            future.set_exception(error)

    threading.Thread(target=work, name=f"rollouts-{step}", daemon=True).start()
    return future


def batches_ahead(step: int, *, most: int, steps: int, checkpoint_every: int) -> int:
    """How many batches after that of `step` may be begun during it.

    Args:
        step: that is trained on.
        most: `rollout.max_staleness`.
        steps: the last one.
        checkpoint_every: steps from one checkpoint to the next; what comes after one begins after it.
    """
    return min(most, steps - step, -step % checkpoint_every)
