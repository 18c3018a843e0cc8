"""Processes that grade: killable, limited in memory, with a hard time limit for each item."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import count
from queue import SimpleQueue
from typing import Any, NamedTuple, Self

from fipo.config import Reward
from fipo.errors import RewardError
from fipo.outcome import Grade, Outcome
from fipo.rewards.math import extract_answer, final_answer
from fipo.rewards.sandbox.client import Limits
from fipo.rewards.worker import DIED, DONE, ERROR, TIME, Settings

START_SECONDS = 60.0
"""A worker that has not answered by this much after the time limit is replaced: it is frozen, or lost."""

ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")
"""What workers are told of ours; the rest may hold secrets, and what they read was written by a model."""


_RATIONAL = re.compile(r"-?\d+(?:/\d+)?")


class Item(NamedTuple):
    """One response to grade."""

    grader: str
    response: str
    reference: str
    columns: str = "{}"
    """The row's other columns, as JSON."""


class GraderPool:
    """Runs graders (`fipo.rewards.graders`) in processes of their own, which import no torch.

    Args:
        workers: processes.
        timeout_seconds: time for one item; past it the outcome is `timeout`.
        memory_bytes: address space of one process.
        programs: what a program that a response holds may use.
    """

    def __init__(
        self, workers: int, timeout_seconds: float, memory_bytes: int = 2 << 30, programs: Limits | None = None
    ) -> None:
        settings = Settings(timeout_seconds, memory_bytes, programs or Limits())
        self._workers = [_Worker(settings) for _ in range(workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verifier")

    def grade(self, items: Sequence[tuple[str, str, str, str]]) -> list[Grade]:
        """The grade of each `Item`, in order.

        An item on which a worker dies is tried once more; if it dies again, the outcome is `timeout`: no verdict.

        Raises:
            RewardError: workers cannot be started, a grader failed, or a reference answer is none for it.
        """
        futures = self.submit(items)
        try:
            return [future.result() for future in futures]
        finally:  # an interrupted caller must not wait for items that have not begun
            for future in futures:
                future.cancel()

    def submit(self, items: Sequence[tuple[str, str, str, str]]) -> list[Future[Grade]]:
        """As `grade`, but without waiting; the errors are the futures'."""
        return [self._threads.submit(self._grade, Item(*item)) for item in items]

    def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """The outcome of each (response, reference answer), as mathematics, in order; errors as in `grade`."""
        return [found.outcome for found in self.grade([Item("math", *pair) for pair in pairs])]

    def refusal(self, grader: str, reference: str, columns: str = "{}") -> str:
        """Why the grader cannot grade against this reference answer; empty where it can."""
        try:
            found = self._ask("refuse", Item(grader, "", reference, columns))
        except RewardError as error:
            return str(error)
        return f"grader {grader}: {reference[:100]!r} is not judged in time" if found is None else str(found)

    def audit(self, grader: str, reference: str, columns: str = "{}") -> tuple[str, str]:
        """What is wrong with a reference answer, see `fipo.rewards.audit.audit`; the errors are reasons too."""
        try:
            found = self._ask("audit", Item(grader, "", reference, columns))
        except RewardError as error:
            return str(error), ""
        if found is None:
            return f"grader {grader}: {reference[:100]!r} is not judged in time", ""
        reason, accepts = found
        return str(reason), str(accepts)

    def equivalent(self, grader: str, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether two responses give the same answer, for each pair, in order. Equal texts have been one vote before;
        only mathematics has other ways to write the same."""
        if grader != "math":
            return [False] * len(pairs)
        asked = [pair for pair in pairs if not _two_numbers(pair)]
        futures = self.submit([Item("math", response, final_answer(other) or "") for response, other in asked])
        same = {}
        for pair, future in zip(asked, futures, strict=True):
            try:
                same[pair] = future.result().outcome is Outcome.CORRECT
            except RewardError:  # the other answer parses to nothing
                same[pair] = False
        return [same.get(pair, False) for pair in pairs]

    def close(self) -> None:
        """End the processes; idempotent."""
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _grade(self, item: Item) -> Grade:
        found = self._ask("grade", item)
        if found is None:
            return Grade(Outcome.TIMEOUT, explanation="not graded in time")
        return Grade(**{**found, "outcome": Outcome(found["outcome"])})

    def _ask(self, task: str, item: Item) -> Any:
        worker = self._idle.get()
        try:
            return worker.ask(task, item)
        finally:
            self._idle.put(worker)


def open_pool(reward: Reward, *, workers: int | None = None) -> GraderPool:
    """The pool of these settings; `workers` in place of theirs."""
    limits = Limits(reward.sandbox.cpu_seconds, reward.sandbox.memory_megabytes << 20)
    return GraderPool(workers or reward.workers, reward.timeout_seconds, programs=limits)


class _Worker:
    """One `fipo.rewards.worker` process and the connection to it; used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ids = count(1)
        self._start()

    def ask(self, task: str, item: Item) -> Any:
        """What the task gave; None where there was no time for it."""
        for _ in range(2):
            verdict, found = self._ask(task, item)
            if verdict == ERROR:
                raise RewardError(found)
            if verdict == DONE:
                return found
            if verdict == TIME:
                break
        return None

    def close(self) -> None:
        self._replies.close()
        self._connection.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "fipo.rewards.worker"),
                    *(str(theirs.fileno()), json.dumps(asdict(self._settings))),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # A Ctrl-C in the terminal is the trainer's to handle.
                start_new_session=True,
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            )
        self._connection, self._replies = ours, ours.makefile("r", encoding="ascii")

    def _ask(self, task: str, item: Item) -> tuple[str, Any]:
        """What became of it, and what it gave; `DIED` where the whole worker is gone or silent, and another started."""
        request = next(self._ids)
        try:
            self._connection.settimeout(self._settings.seconds_of(item.grader) + START_SECONDS)
            self._connection.sendall(f"{json.dumps([request, task, *item])}\n".encode())
            for line in self._replies:
                replied, verdict, *found = json.loads(line)
                if replied == request:
                    return str(verdict), found[0] if found else None
        except OSError:
            pass
        self.close()
        self._start()
        return DIED, None


def _two_numbers(pair: tuple[str, str]) -> bool:
    """Reduced rationals are equal only as texts."""
    return all(_RATIONAL.fullmatch(extract_answer(response) or "") for response in pair)
