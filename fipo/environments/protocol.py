"""What every environment is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fipo.outcome import Grade


class Environment(Protocol):
    """One conversation with the model: made without arguments, begun once, and asked after each turn of the model.

    Equal rows and equal turns must give equal observations, or a run that continues is another run. Each conversation
    has an environment of its own, which one thread at a time works with; several conversations go on at once.
    """

    def reset(self, prompt: str, reference: str, columns: Mapping[str, Any]) -> None:
        """Begin.

        Args:
            prompt: the row's problem, which the model has been given.
            reference: the row's reference answer, which the model does not see; what is no text there is JSON.
            columns: the row's other columns, those that the source names, as JSON holds them.
        """
        ...

    def step(self, text: str) -> str | None:
        """Answer a turn.

        Args:
            text: what the model wrote in this turn, without special tokens. It was written by a model: trust nothing.

        Returns:
            What the model is told, before its next turn; None where the conversation is over.
        """
        ...

    def grade(self) -> Grade | None:
        """The verdict, asked once, after the last turn: the conversation is over, or a limit has ended it.

        Returns:
            None leaves it to the source's grader, which judges the text of the last turn.
        """
        ...
