"""Seconds by phase of a step."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """`with timer("generate"): …` adds to `timer.seconds["generate"]`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time the block as part of `phase`."""
        started = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - started

    def total(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._started

    def metrics(self) -> dict[str, float]:
        """`perf/<phase>_seconds` of each phase and `perf/step_seconds` in all."""
        return {f"perf/{phase}_seconds": seconds for phase, seconds in self.seconds.items()} | {
            "perf/step_seconds": self.total()
        }
