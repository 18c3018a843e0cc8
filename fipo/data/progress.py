"""Progress of a preparation, as lines: they are as readable in a pod's log as in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

OnRows = Callable[[str, int], None]
"""Called as `progress(what, rows_done)`, often."""


def report_lines(every_seconds: float = 5.0) -> OnRows:
    """Print what is being done when that changes, and how far it is every few seconds."""
    current, started, printed = "", 0.0, 0.0

    def report(what: str, rows: int) -> None:
        nonlocal current, started, printed
        now = time.monotonic()
        if what != current:
            current, started, printed = what, now, now
            print(f"[prepare] {what}", flush=True)
        elif now - printed >= every_seconds:
            printed = now
            print(f"[prepare] {what}: {rows:,} rows, {rows / (now - started):,.0f} rows/s", flush=True)

    return report
