"""Seconds by phase of a step, on the device: what a phase has asked of it is done when the phase ends."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from fipo.distributed.packing import idle_fraction


def _wait_for_device() -> None:
    """Of the stream of this thread: what another thread has asked for goes on."""
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()


class Timer:
    """`with timer("generate"): …` adds to `timer.seconds["generate"]`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._work: dict[str, list[Sequence[float]]] = defaultdict(list)
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time the block as part of `phase`."""
        _wait_for_device()  # what the phase before has asked of it is not this one's
        started = time.perf_counter()
        yield
        _wait_for_device()
        self.seconds[phase] += time.perf_counter() - started

    def shared(self, phase: str, work: Iterable[Sequence[float]]) -> None:
        """What each rank had to do in the phase, in any unit, before each time that all waited for the slowest."""
        self._work[phase] += work

    def add(self, other: Timer) -> None:
        """Count the phases of another one too, timed in another thread."""
        for phase, seconds in other.seconds.items():
            self.seconds[phase] += seconds
        for phase, work in other._work.items():
            self.shared(phase, work)

    def total(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._started

    def metrics(self) -> dict[str, float]:
        """`perf/<phase>_seconds` of each phase, `perf/step_seconds` in all, and `perf/<phase>_idle_fraction`."""
        seconds = {f"perf/{phase}_seconds": seconds for phase, seconds in self.seconds.items()}
        idle = {f"perf/{phase}_idle_fraction": idle_fraction(work) for phase, work in self._work.items()}
        return {**seconds, **idle, "perf/step_seconds": self.total()}
