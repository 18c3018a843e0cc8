"""A place in a response where an answer may stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """What stands there, from character to character."""

    start: int
    end: int
    text: str
    strong: bool
    """Mathematics, a box or a marked place; prose counts only where there is nothing else."""
