"""How far a job is, for Kubeflow Trainer, which shows it in the TrainJob's status (feature gate `TrainJobStatus`)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

SERVER_VARIABLE = "KUBEFLOW_TRAINER_SERVER_URL"
"""Set by Trainer in the pods of a job; elsewhere nobody is told."""


class Progress:
    """Reports steps in the background: a controller that is away or slow costs the training nothing.

    Args:
        steps: of the whole training.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._began: tuple[int, float] | None = None
        self._sender: threading.Thread | None = None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """`step` of the steps is done; left out while an earlier report is on its way."""
        if SERVER_VARIABLE not in os.environ:
            return
        now = time.monotonic()
        if self._began is None:
            self._began = (step, now)
        first, began = self._began
        left = int((self._steps - step) * (now - began) / (step - first)) if step > first else None
        if self._sender is None or not self._sender.is_alive():
            self._sender = threading.Thread(target=_send, args=(100 * step // self._steps, left, dict(metrics)))
            self._sender.start()


def _send(percent: int, seconds_left: int | None, metrics: dict[str, float]) -> None:
    from kubeflow.trainer import update_trainjob_status  # takes seconds to import

    update_trainjob_status(percent, seconds_left, {**metrics})  # never raises, and at most every five seconds
