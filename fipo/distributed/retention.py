"""Which checkpoints stay: the newest, those with the best validation result, and one every so many steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept; the parts add up."""

    newest: int
    """The newest so many."""
    best: int = 0
    """So many with the highest score; of equal ones the newer."""
    every: int | None = None
    """Each whose step is a multiple of this."""

    def __str__(self) -> str:
        """`the newest 2, the best 1, one in 100 steps`."""
        parts = [f"the newest {self.newest}"]
        parts += [f"the best {self.best}"] if self.best else []
        return ", ".join(parts + ([f"one in {self.every} steps"] if self.every else []))

    def kept(self, scores: Mapping[int, float | None]) -> set[int]:
        """Steps to keep, of the checkpoints with these scores; None is a checkpoint that was not measured."""
        steps = sorted(scores)
        measured = [(score, step) for step, score in scores.items() if score is not None]
        best = sorted(measured)[-self.best :] if self.best else []
        regular = [step for step in steps if self.every and step % self.every == 0]
        return {*steps[-self.newest :], *(step for _, step in best), *regular}
