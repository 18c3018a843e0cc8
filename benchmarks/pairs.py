"""Two programs measured against each other so that the figure repeats: in turn, on one machine, with an interval.

The two sides alternate, and which of them begins changes from pair to pair, so that a machine that warms up, slows down
or is shared does the same to both. What is reported is the median of the pairs' ratios, with the interval that order
statistics give it without any assumption about how times are distributed.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, Self

QUIET_CORES = 0.2
"""More than this, taken by other processes on average, and a run is marked as under load."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call."""

    seconds: float
    cpu_seconds: float
    """Of this process and of children that it has waited for."""


@dataclass(frozen=True, slots=True)
class Median:
    """A median with its interval."""

    value: float
    low: float
    high: float
    confidence: float
    """That the median of endlessly many lies between; below `CONFIDENCE` where there are fewer than six values."""

    def __str__(self) -> str:
        return f"{self.value:,.2f} ({self.low:,.2f} to {self.high:,.2f})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Costs of both sides, pair by pair."""

    ours: tuple[Cost, ...]
    theirs: tuple[Cost, ...]

    @property
    def ratio(self) -> Median:
        """Their seconds over ours: above 1, ours is faster."""
        return median([theirs.seconds / ours.seconds for ours, theirs in zip(self.ours, self.theirs, strict=True)])

    @property
    def cpu_ratio(self) -> Median:
        """The same of CPU seconds, to which a busy machine adds less."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return median([theirs.cpu_seconds / ours.cpu_seconds for ours, theirs in pairs])

    def to_json(self) -> dict[str, Any]:
        """For a benchmark's result."""
        return {
            "ratio": self.ratio.value,
            "interval": [self.ratio.low, self.ratio.high],
            "cpu_ratio": self.cpu_ratio.value,
            "cpu_interval": [self.cpu_ratio.low, self.cpu_ratio.high],
            "pairs": len(self.ours),
        }


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], *, pairs: int = 7, warmups: int = 1, our_calls: int = 1
) -> Comparison:
    """Call both sides in turn; the first `warmups` pairs are thrown away.

    Args:
        ours: one side. Both must have done their work when they return, a device's included.
        theirs: the other.
        pairs: that are kept.
        warmups: that are not.
        our_calls: for each call of theirs, whose mean counts: where one is too short to be measured.

    Raises:
        ValueError: fewer than five pairs.
    """
    if pairs < 5:
        raise ValueError(f"pairs: must be at least 5; got {pairs}")
    measured: list[tuple[Cost, Cost]] = []
    for index in range(warmups + pairs):
        if index % 2:
            second = cost(theirs)
            measured.append((cost(ours, our_calls), second))
        else:
            measured.append((cost(ours, our_calls), cost(theirs)))
    kept = measured[warmups:]
    return Comparison(tuple(pair[0] for pair in kept), tuple(pair[1] for pair in kept))


def cost(call: Callable[[], object], calls: int = 1) -> Cost:
    """What one call takes, the mean of `calls`."""
    began, cpu_began = time.perf_counter(), cpu_seconds()
    for _ in range(calls):
        call()
    return Cost((time.perf_counter() - began) / calls, (cpu_seconds() - cpu_began) / calls)


def median(values: Sequence[float]) -> Median:
    """With the narrowest interval between two order statistics, as far from the ends as each other, that covers it."""
    ordered, count = sorted(values), len(values)
    inside = 0
    while inside + 1 <= (count - 1) // 2 and _coverage(count, inside + 1) >= CONFIDENCE:
        inside += 1
    confidence = _coverage(count, inside)
    return Median(statistics.median(ordered), ordered[inside], ordered[count - 1 - inside], confidence)


def _coverage(count: int, inside: int) -> float:
    """That the median is neither below nor above the interval: at most `inside` values on the one side of it."""
    return 1.0 - sum(comb(count, below) for below in range(inside + 1)) / 2.0 ** (count - 1)


class Load:
    """What other processes took of the machine during a `with` block (Linux; elsewhere unknown)."""

    def __enter__(self) -> Self:
        self._began, self._own, self._busy = time.perf_counter(), cpu_seconds(), _busy_seconds()
        self.others_cores: float | None = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._busy is not None:
            others = (_busy_seconds() or 0.0) - self._busy - (cpu_seconds() - self._own)
            self.others_cores = max(0.0, others / (time.perf_counter() - self._began))

    def to_json(self) -> dict[str, Any]:
        """Cores that others took on average, and whether that is too much for a time to be believed."""
        others = self.others_cores
        return {
            "others_cores": None if others is None else round(others, 2),
            "loaded": others is not None and others > QUIET_CORES,
        }


def cpu_seconds() -> float:
    """Of this process and of the children that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return float(sum(each.ru_utime + each.ru_stime for each in used))


def _busy_seconds() -> float | None:
    """CPU seconds of everybody since the machine started, what other guests of its host took among them."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    user, nice, system, _, _, interrupts, soft, stolen, *_ = map(int, stat.read_text().split("\n")[0].split()[1:])
    return float(user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
