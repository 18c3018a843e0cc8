"""The judge's end of the sandbox: programs in, what they did out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import fipo
from fipo.errors import RewardError
from fipo.rewards.sandbox.confinement import Isolation

ANSWER_SECONDS = 60.0
"""A launcher that is silent so long after the time limit is lost."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use."""

    cpu_seconds: float = 6.0
    """Of the processor; in real time, twice as much and two seconds more."""
    memory_bytes: int = 1 << 30
    """Address space."""
    output_bytes: int = 8 << 20
    """All that it may write to standard output, standard error and as values."""

    @property
    def wall_seconds(self) -> float:
        """Real time: waiting costs no processor, and other processes may have it."""
        return 2 * self.cpu_seconds + 2.0


@dataclass(frozen=True, slots=True)
class Program:
    """One process of the sandbox: a script that reads standard input, or, with expressions, what they are worth."""

    program: str
    stdin: str = ""
    first: str = ""
    """Statements to run before it: a test's imports."""
    after: str = ""
    """Statements to run after it: what a test builds with it."""
    expressions: tuple[str, ...] = ()


class Ended(StrEnum):
    """How a process ended: by itself, or at a limit."""

    ITSELF = "itself"
    TIME = "time"
    OUTPUT = "output"
    LOST = "lost"
    """It took the sandbox with it, twice: only where little holds it in. Nothing else is known of it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a process did. Everything in it but `ended`, `code` and the measures was written by the program."""

    ended: Ended
    code: int
    """Exit code; -N where signal N ended it."""
    stdout: str
    stderr: str
    """The end of it."""
    values: str
    """As `fipo.rewards.sandbox.values.decode` reads them, if it is as it should be."""
    seconds: float
    """Of the processor."""
    memory_bytes: int
    """The most that was resident."""


class Sandbox:
    """Runs programs, one at a time, in processes that live no longer than their run, nor than the thread that made it.

    Raises:
        RewardError: it cannot be started at all.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._modes = ["all", "rest"]
        self.refused = ""
        """Why namespaces are not in force; empty where they are."""
        self._start()

    def run(self, program: Program) -> Ran:
        """Run it to its end or its limits.

        Raises:
            RewardError: the sandbox cannot run any program any more.
        """
        for _ in range(2):
            try:
                return self._run(program)
            except (OSError, ValueError):
                self.close()
                self._start()  # which tries a program of ours
        return Ran(Ended.LOST, 0, "", "", "", 0.0, 0)

    def close(self) -> None:
        """End the launcher, and with it all that it started; idempotent."""
        self._file.close()
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, program: Program) -> Ran:
        limits = asdict(self.limits) | {"wall_seconds": self.limits.wall_seconds}
        reply = self._ask(asdict(program) | limits)
        error = reply.pop("error")
        if error:
            raise OSError(error)
        return Ran(**{**reply, "ended": Ended(reply["ended"])})

    def _start(self) -> None:
        """With all that the kernel allows: tried out, for it says so only when asked."""
        while True:
            self._launch(self._modes[0])
            try:
                hello = self._receive()
                if "error" in hello:
                    raise OSError(hello["error"])
                self.isolation = Isolation(**hello)
                if self._run(Program("print(1 + 1)")).stdout != "2\n":
                    raise OSError("the interpreter does not start in it")
                return
            except (OSError, ValueError) as error:
                self.close()
                if len(self._modes) == 1:
                    raise RewardError(f"programs cannot be run: {error}; they need Linux") from error
                self.refused = str(error)
                self._modes.pop(0)

    def _launch(self, mode: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-m", "fipo.rewards.sandbox.launcher", str(theirs.fileno()), mode],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env={"PYTHONPATH": str(Path(fipo.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
                | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            )
        ours.settimeout(self.limits.wall_seconds + ANSWER_SECONDS)
        self._connection, self._file = ours, ours.makefile("r", encoding="ascii")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._connection.sendall(f"{json.dumps(request)}\n".encode())
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise OSError("its launcher ended")
        return dict(json.loads(line))
