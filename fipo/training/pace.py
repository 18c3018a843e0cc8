"""How far a step is: a line every few seconds, and a small file for who watches, with rate and time left."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from fipo.run.stages import WHOLE, Pace, write_pace

SAID_SECONDS, SHOWN_SECONDS = 10.0, 1.0
"""Time between two lines, and between two writings of the file."""


class Meter:
    """Of one step. Rank 0's writes the file of its share of the work; the others' tell nobody."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: the step's."""
        self._folder = folder
        self._paces: dict[str, Pace] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._written = self._said = 0.0

    def steps(self, done: int, total: int) -> Pace:
        """So many steps of the whole are done; the parts of a step are over."""
        self._began = {name: began for name, began in self._began.items() if name == WHOLE}
        self._paces = {}
        return self._tell(WHOLE, done, total)

    def part(self, what: str, done: int, total: int) -> str:
        """So much of a part is done, such as responses of a batch; a line about it where one is due."""
        if what not in self._began:
            self._said = time.time()
        pace = self._tell(what, done, total)
        if pace.at - self._said < SAID_SECONDS or done >= total:
            return ""
        self._said, left = pace.at, pace.seconds_left
        return f"{what}: {done:,} of {total:,}" + (f"  {pace.speed}  {left:.0f} s left" if left is not None else "")

    def _tell(self, what: str, done: int, total: int) -> Pace:
        now = time.time()
        began, before = self._began.setdefault(what, (now, done))
        rate = (done - before) / (now - began) if done > before and now > began else 0.0
        whole = {WHOLE: self._paces[WHOLE]} if WHOLE in self._paces else {}
        self._paces = {**whole, what: Pace(what, done, total, rate, now)}
        if self._folder and (now - self._written >= SHOWN_SECONDS or done in (before, total)):
            self._written = now
            with suppress(OSError):  # a full disk is for the journal to tell
                write_pace(self._folder, self._paces)
        return self._paces[what]
