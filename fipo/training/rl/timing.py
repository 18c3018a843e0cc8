"""Seconds by phase of a step, on the device: what a phase has asked of it is done when the phase ends."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def _wait_for_device() -> None:
    """Of the stream of this thread: what another thread has asked for goes on."""
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()


class Timer:
    """`with timer("generate"): …` adds to `timer.seconds["generate"]`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time the block as part of `phase`."""
        _wait_for_device()  # what the phase before has asked of it is not this one's
        started = time.perf_counter()
        yield
        _wait_for_device()
        self.seconds[phase] += time.perf_counter() - started

    def total(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._started

    def metrics(self) -> dict[str, float]:
        """`perf/<phase>_seconds` of each phase and `perf/step_seconds` in all."""
        return {f"perf/{phase}_seconds": seconds for phase, seconds in self.seconds.items()} | {
            "perf/step_seconds": self.total()
        }
