"""Verifier processes: killable, limited in memory, with a hard time limit for each item."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from queue import SimpleQueue
from typing import Self

from fipo.errors import RewardError
from fipo.outcome import Outcome
from fipo.rewards.worker import DIED, ERROR

START_SECONDS = 60.0
"""A worker that has not answered by this much after the time limit is replaced: it is frozen, or lost."""

ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")
"""What workers are told of ours; the rest may hold secrets, and what they read was written by a model."""


class VerifierPool:
    """Runs `fipo.rewards.math.verify` in processes of their own, which import no torch.

    Args:
        workers: processes.
        timeout_seconds: time for one item; past it the outcome is `timeout`.
        memory_bytes: address space of one process.
    """

    def __init__(self, workers: int, timeout_seconds: float, memory_bytes: int = 2 << 30) -> None:
        self._workers = [_Worker(timeout_seconds, memory_bytes) for _ in range(workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verifier")

    def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """The outcome of each (response, reference answer), in order.

        An item on which a worker dies is tried once more; if it dies again, the outcome is `timeout`: no verdict.

        Raises:
            RewardError: workers cannot be started, or a reference answer does not parse.
        """
        futures = self.submit(pairs)
        try:
            return [future.result() for future in futures]
        finally:  # an interrupted caller must not wait for items that have not begun
            for future in futures:
                future.cancel()

    def submit(self, pairs: Sequence[tuple[str, str]]) -> list[Future[Outcome]]:
        """As `verify`, but without waiting; the errors are the futures'."""
        return [self._threads.submit(self._verify, pair) for pair in pairs]

    def accepts(self, answer: str) -> bool:
        """Whether `answer` can serve as a reference: it parses in time, and equals itself."""
        try:
            return self.verify([(rf"\boxed{{{answer}}}", answer)]) == [Outcome.CORRECT]
        except RewardError:
            return False

    def close(self) -> None:
        """End the processes; idempotent."""
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _verify(self, pair: tuple[str, str]) -> Outcome:
        worker = self._idle.get()
        try:
            return worker.verify(*pair)
        finally:
            self._idle.put(worker)


class _Worker:
    """One `fipo.rewards.worker` process and the connection to it; used by one thread at a time."""

    def __init__(self, timeout_seconds: float, memory_bytes: int) -> None:
        self._timeout_seconds, self._memory_bytes = timeout_seconds, memory_bytes
        self._ids = count(1)
        self._start()

    def verify(self, response: str, answer: str) -> Outcome:
        for _ in range(2):
            outcome = self._ask(response, answer)
            if outcome != DIED:
                return Outcome(outcome)
        return Outcome.TIMEOUT

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
                    *(str(theirs.fileno()), str(self._timeout_seconds), str(self._memory_bytes)),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # A Ctrl-C in the terminal is the trainer's to handle.
                start_new_session=True,
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            )
        ours.settimeout(self._timeout_seconds + START_SECONDS)
        self._connection, self._replies = ours, ours.makefile("r", encoding="ascii")

    def _ask(self, response: str, answer: str) -> str:
        """The outcome; `DIED` where the whole worker is gone or silent, after another was started."""
        request = next(self._ids)
        try:
            self._connection.sendall(f"{json.dumps([request, response, answer])}\n".encode())
            for line in self._replies:
                replied, outcome, error = json.loads(line)
                if outcome == ERROR:
                    raise RewardError(error)
                if replied == request:
                    return str(outcome)
        except OSError:
            pass
        self.close()
        self._start()
        return DIED
