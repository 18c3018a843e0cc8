"""Every wait has an end, and says what it is for, since when and until when."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


class Wait:
    """A wait that began now.

    Args:
        what: is waited for, to follow "waiting for".
        seconds: after which it is given up.
    """

    def __init__(self, what: str, seconds: float) -> None:
        self.what, self.seconds = what, seconds
        self._began, self._since = time.monotonic(), datetime.now().astimezone()

    @property
    def left(self) -> float:
        """Seconds until it is given up; 0 from then on. By a clock that does not jump."""
        return max(0.0, self.seconds - (time.monotonic() - self._began))

    @property
    def over(self) -> bool:
        """Whether it is given up."""
        return not self.left

    def __str__(self) -> str:
        until = self._since + timedelta(seconds=self.seconds)
        return f"waiting for {self.what} since {self._since:%H:%M:%S}, until {until:%H:%M:%S} at the latest"
