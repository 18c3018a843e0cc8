"""The process that grades: `python -m fipo.rewards.worker DESCRIPTOR SETTINGS`; `fipo.rewards.pool` starts it.

A parent imports the libraries once and forks the child that serves; when the child dies the parent forks the next at
once. The child gives itself the time limit as an alarm that the kernel delivers, so neither C code nor the death of the
trainer keeps it running.

Each request is one line of JSON, `[id, task, grader, response, reference, columns]`, and so is each reply: `[id,
verdict, grade or message]`. The task is `grade`; `refuse`, whether the reference answer can be graded against; or
`audit`, what else it accepts.
"""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import resource
import signal
import socket
import sys
from dataclasses import asdict, dataclass

from fipo.errors import ConfigError, RewardError
from fipo.rewards.audit import audit
from fipo.rewards.graders import configure, grade, refusal
from fipo.rewards.math import verify
from fipo.rewards.sandbox.client import Limits

DONE, TIME, DIED, ERROR = "done", "time", "died", "error"
"""What became of a request: the reply has a grade; the time limit came first; the child ended for another reason; it
cannot be graded at all, and the reply says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker is held to."""

    seconds: float
    """Time for one item, but for items that run programs, which have limits of their own."""
    memory_bytes: int
    """Address space of one process."""
    programs: Limits
    """What a program that a response holds may use."""

    def seconds_of(self, grader: str) -> float:
        """Time for one item; programs are stopped by the sandbox, and their judge only if that fails."""
        return 20.0 * self.programs.wall_seconds if grader == "tests" else self.seconds


def supervise(connection: socket.socket, settings: Settings) -> None:
    """Keep a serving child alive until the connection closes."""
    # The id of the request in work, 0 for none, where it outlives the child.
    current = mmap.mmap(-1, 8)
    while True:
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_AS, (settings.memory_bytes, settings.memory_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with contextlib.suppress(ConnectionError):  # killed, whoever asked, before a reply was read
                serve(connection, current, settings)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        request = int.from_bytes(current[:8])
        if request:
            current[:8] = bytes(8)
            timed_out = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
            try:
                _reply(connection, request, TIME if timed_out else DIED)
            except ConnectionError:
                return


def serve(connection: socket.socket, current: mmap.mmap, settings: Settings) -> None:
    """Answer requests until the connection closes."""
    # Whoever started the trainer may have had the alarm ignored or blocked, and both are inherited.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    with connection.makefile("r", encoding="ascii") as requests:
        for line in requests:
            request, *item = json.loads(line)
            current[:8] = request.to_bytes(8)
            signal.setitimer(signal.ITIMER_REAL, settings.seconds_of(item[1]))
            try:
                reply: tuple[object, ...] = (DONE, _work(*item))
            except (ConfigError, RewardError) as error:
                reply = (ERROR, str(error))
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            current[:8] = bytes(8)
            _reply(connection, request, *reply)


def _work(task: str, grader: str, response: str, reference: str, columns: str) -> object:
    if task == "audit":
        return audit(grader, reference, json.loads(columns))
    if task == "refuse":
        return refusal(grader, reference, json.loads(columns))
    return asdict(grade(grader, response, reference, json.loads(columns)))


def _reply(connection: socket.socket, request: int, *verdict: object) -> None:
    connection.sendall(f"{json.dumps([request, *verdict])}\n".encode())


def _main() -> None:
    # What the first call makes, children inherit.
    verify(r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{1}{\sqrt{2}}")
    # What is there by now never dies: the collector need not touch it, and children go on sharing its memory.
    gc.freeze()
    read = json.loads(sys.argv[2])
    settings = Settings(**{**read, "programs": Limits(**read["programs"])})
    configure(settings.programs)
    supervise(socket.socket(fileno=int(sys.argv[1])), settings)


if __name__ == "__main__":
    _main()
