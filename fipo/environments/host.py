"""The conversations of a rank: environments work in threads, each with a sandbox of its own for tools' programs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fipo.batch import Prompt
from fipo.environments.protocol import Environment
from fipo.environments.registry import Run, find
from fipo.errors import RolloutError
from fipo.outcome import Grade
from fipo.rewards.sandbox.client import Limits, Program, Ran, Sandbox

T = TypeVar("T")


class Conversation:
    """One rollout's environment; what goes wrong in it says which environment failed on what.

    Raises:
        RolloutError: the environment cannot be made, or refuses the row.
    """

    def __init__(self, prompt: Prompt, run: Run) -> None:
        self._prompt, self._name = prompt, prompt.environment
        self._environment: Environment = self._checked(lambda: find(prompt.environment)(run), object)
        row = prompt.text, prompt.answer, json.loads(prompt.columns)
        self._checked(lambda: self._environment.reset(*row), None)

    def step(self, text: str) -> str | None:
        """What the model is told after a turn; None where the conversation is over."""
        return self._checked(lambda: self._environment.step(text), str)

    def grade(self) -> Grade | None:
        """The verdict; None leaves it to the grader."""
        return self._checked(self._environment.grade, Grade)

    def _checked(self, ask: Callable[[], T], kind: type | None) -> T:
        try:
            found = ask()
        except Exception as error:
            raise RolloutError(f"{self._where}: {type(error).__name__}: {error}") from error
        if found is not None and kind and not isinstance(found, kind):
            raise RolloutError(f"{self._where}: must give {kind.__name__} or None; gave {type(found).__name__}")
        return found

    @property
    def _where(self) -> str:
        return f"environment {self._name}, prompt {self._prompt.id}"


class Host:
    """Holds conversations and answers them at once, as many as there are threads.

    Args:
        workers: threads, and with them programs of tools that run at the same time.
        limits: of one program.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="environment")
        self._limits, self._local = limits, threading.local()

    def begin(self, prompt: Prompt) -> Future[Conversation]:
        """The conversation of one response to the prompt."""
        return self._threads.submit(Conversation, prompt, self._run)

    def submit(self, ask: Callable[..., T], *arguments: object) -> Future[T]:
        """Ask a conversation in a thread."""
        return self._threads.submit(ask, *arguments)

    def close(self) -> None:
        """Wait for what runs; a thread's sandbox ends with it. Idempotent."""
        self._threads.shutdown(cancel_futures=True)

    def _run(self, program: Program) -> Ran:
        # A sandbox dies with the thread that made it, so each thread has one.
        if not hasattr(self._local, "sandbox"):
            self._local.sandbox = Sandbox(self._limits)
        return self._local.sandbox.run(program)  # type: ignore[no-any-return]
