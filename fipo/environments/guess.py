"""A game with a hidden number: each guess is answered by where the number lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fipo.outcome import Grade, Outcome

_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)


class Guess:
    """The reference answer is the number; the last number of a turn is the guess.

    Whoever finds it has won; the score is 1 for the first guess, 1/2 for the second, and so on.
    """

    def reset(self, prompt: str, reference: str, columns: Mapping[str, Any]) -> None:
        """Raises ValueError where the reference answer is no integer."""
        self._hidden, self._guesses, self._found = int(reference), 0, False

    def step(self, text: str) -> str | None:
        """`higher` or `lower`; None where the guess is right."""
        numbers = _NUMBER.findall(text)
        if not numbers:
            return "number ?"
        self._guesses += 1
        guess = int(numbers[-1])
        self._found = guess == self._hidden
        if self._found:
            return None
        return "higher" if guess < self._hidden else "lower"

    def grade(self) -> Grade:
        """Found or not."""
        if self._found:
            return Grade(Outcome.CORRECT, str(self._hidden), 1.0 / self._guesses, f"found by guess {self._guesses}")
        return Grade(Outcome.WRONG, None, 0.0, f"not found in {self._guesses} guesses")
