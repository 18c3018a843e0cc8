"""The process that verifies: `python -m fipo.rewards.worker DESCRIPTOR SECONDS BYTES`; `fipo.rewards.pool` starts it.

A parent imports the libraries once and forks the child that serves; when the child dies the parent forks the next at
once. The child gives itself the time limit as an alarm that the kernel delivers, so neither C code nor the death of the
trainer keeps it running.

Each request is one line of JSON, `[id, response, answer]`, and so is each reply: `[id, outcome, error]`.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import resource
import signal
import socket
import sys

from fipo.errors import RewardError
from fipo.outcome import Outcome
from fipo.rewards.math import verify

DIED = "died"
"""Outcome where the child ended while it verified, for another reason than the time limit."""
ERROR = "error"
"""Outcome where it cannot be verified at all; the reply says why."""


def supervise(connection: socket.socket, seconds: float, memory_bytes: int) -> None:
    """Keep a serving child alive until the connection closes."""
    # The id of the request in work, 0 for none, where it outlives the child.
    current = mmap.mmap(-1, 8)
    while True:
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            serve(connection, current, seconds)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        request = int.from_bytes(current[:8])
        if request:
            current[:8] = bytes(8)
            timed_out = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
            try:
                _reply(connection, request, Outcome.TIMEOUT if timed_out else DIED)
            except BrokenPipeError:
                return


def serve(connection: socket.socket, current: mmap.mmap, seconds: float) -> None:
    """Answer requests until the connection closes."""
    # Whoever started the trainer may have had the alarm ignored or blocked, and both are inherited.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    with connection.makefile("r", encoding="ascii") as requests:
        for line in requests:
            request, response, answer = json.loads(line)
            current[:8] = request.to_bytes(8)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                reply = (str(verify(response, answer)), "")
            except RewardError as error:
                reply = (ERROR, str(error))
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            current[:8] = bytes(8)
            _reply(connection, request, *reply)


def _reply(connection: socket.socket, request: int, outcome: str, error: str = "") -> None:
    connection.sendall(f"{json.dumps([request, outcome, error])}\n".encode())


def _main() -> None:
    # The first call of math-verify builds its grammar; children inherit it.
    verify(r"\boxed{\frac{1}{2}}", "0.5")
    # What is there by now never dies: the collector need not touch it, and children go on sharing its memory.
    gc.freeze()
    supervise(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    _main()
