"""The process that starts programs: `python -m fipo.rewards.sandbox.launcher DESCRIPTOR all|rest`.

It shuts itself in first, knows nothing that a program may not know, and is told of one run at a time: what the program
is, what it reads, how much it may use. It answers with how the program ended and what it wrote. Requests and replies
are lines of JSON, which `fipo.rewards.sandbox.client` writes and reads; the first that it sends says what is in force.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fipo.rewards.sandbox import confinement, kernel

ERROR_CHARACTERS = 4000
"""Of standard error, the end: it holds the exception."""
STDIN, STDOUT, STDERR, REQUEST, VALUES = range(5)
FILE_BYTES, OPEN_FILES, TASKS, STACK_BYTES = 16 << 20, 64, 32, 64 << 20


def main() -> None:
    """Serve until the connection closes."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    kernel.die_with_parent()
    with connection.makefile("rw", encoding="ascii") as file:
        try:
            launcher = _Launcher(namespaces=sys.argv[2] == "all")
        except OSError as error:
            hello: dict[str, Any] = {"error": str(error)}
        else:
            hello = asdict(launcher.isolation)
        file.write(f"{json.dumps(hello)}\n")
        file.flush()
        if "error" in hello:
            return
        for line in file:
            file.write(f"{json.dumps(launcher.run(json.loads(line)))}\n")
            file.flush()


class _Launcher:
    def __init__(self, *, namespaces: bool) -> None:
        self._driver = (Path(__file__).with_name("driver.py")).read_text(encoding="utf-8")
        # Of a virtual environment the interpreter that it was made of, which needs nothing of the environment.
        self._python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        if namespaces:
            confinement.enter_namespaces()
        else:
            kernel.adopt_orphans()
            kernel.hide_memory()
        self._namespaces = namespaces
        self._filter = confinement.program_filter(may_write=namespaces)
        self._rules = None if namespaces else confinement.file_rules()
        self.isolation = confinement.Isolation(namespaces, self._filter is not None, self._rules is not None)

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """One program, from its start until nothing of it is left."""
        given = {STDIN: request["stdin"].encode("utf-8", "replace"), REQUEST: _request(request)}
        pipes = {number: os.pipe() for number in (*given, STDOUT, STDERR, VALUES)}
        failure, failing = os.pipe()
        program = os.fork()
        if not program:
            try:
                self._become({number: ends[number not in given] for number, ends in pipes.items()}, request)
            except BaseException as error:
                os.write(failing, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(1)
        os.close(failing)
        for number, ends in pipes.items():
            os.close(ends[number not in given])
        exchange = _Exchange(program, given, {number: ends[number in given] for number, ends in pipes.items()})
        ended = exchange.run(time.monotonic() + request["wall_seconds"], request["output_bytes"])
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(program, signal.SIGKILL)
        _, status, used = os.wait4(program, 0)
        self._clear()
        with os.fdopen(failure, "rb") as file:
            failed = file.read().decode()
        exchange.drain(request["output_bytes"])
        return {
            "error": failed,
            "ended": ended or "itself",
            "code": os.waitstatus_to_exitcode(status),
            "stdout": exchange.text(STDOUT),
            "stderr": exchange.text(STDERR)[-ERROR_CHARACTERS:],
            "values": exchange.text(VALUES),
            "seconds": used.ru_utime + used.ru_stime,
            "memory_bytes": used.ru_maxrss * 1024,
        }

    def _become(self, ends: dict[int, int], request: dict[str, Any]) -> None:
        """Turn into the program; what it inherits are five pipes."""
        os.setsid()
        kernel.die_with_parent()
        moved = {number: os.dup(end) for number, end in ends.items()}
        while min(moved.values()) <= VALUES:
            moved = {number: os.dup(end) for number, end in moved.items()}
        for number, end in moved.items():
            os.dup2(end, number, inheritable=True)
        os.umask(0o077)
        if self._namespaces:
            confinement.enter_program_namespaces()
        else:
            os.chdir("/")
            if os.getuid() == 0:
                kernel.drop_capabilities()
        kernel.gain_no_privileges()
        if self._rules:
            self._rules.install()
        # Last, for what follows may not even start a process; the tasks count only where nobody else's do. The stack is
        # what deep recursion takes, and what each thread reserves.
        tasks = {"NPROC": TASKS} if self._namespaces or not self._filter else {}
        seconds = max(1, round(request["cpu_seconds"]))
        kernel.limit({"AS": request["memory_bytes"], "CPU": seconds, "FSIZE": FILE_BYTES, "NOFILE": OPEN_FILES})
        kernel.limit({"STACK": STACK_BYTES, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0, **tasks})
        if self._filter:
            self._filter.install()
        flags = ["-s", "-S", "-P", "-B", "-X", "utf8", "-X", "int_max_str_digits=0"]
        # The order of sets must be the same each time: a reward depends on the response alone.
        os.execve(self._python, [self._python, *flags, "-c", self._driver], {"PYTHONHASHSEED": "0", "HOME": "/tmp"})

    def _clear(self) -> None:
        """Kill and reap all that the program has left."""
        while True:
            for pid in [-1] if self._namespaces else _children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


class _Exchange:
    """Writes what a program is given and keeps what it writes, as long as it may."""

    def __init__(self, program: int, given: dict[int, bytes], ends: dict[int, int]) -> None:
        self._given, self._ends = given, ends
        self._found = {number: bytearray() for number in ends if number not in given}
        self._selector = selectors.DefaultSelector()
        self._program = os.pidfd_open(program)
        self._selector.register(self._program, selectors.EVENT_READ)
        for number, end in ends.items():
            os.set_blocking(end, False)
            self._selector.register(end, selectors.EVENT_WRITE if number in given else selectors.EVENT_READ, number)

    def run(self, deadline: float, most: int) -> str:
        """Until the program ends by itself, which is "", or has to be ended: `time` or `output`."""
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.fd == self._program:
                    return ""
                self._give(key.data) if key.data in self._given else self._take(key.data)
            if self._size() > most:
                return "output"
        return "time"

    def drain(self, most: int) -> None:
        """What is still in the pipes; close all."""
        for number in self._found:
            while self._size() <= most and number in self._ends and self._take(number):
                pass
        for number in list(self._ends):
            self._close(number)
        self._selector.close()
        os.close(self._program)

    def text(self, number: int) -> str:
        """What the program wrote there."""
        return self._found[number].decode("utf-8", "replace")

    def _size(self) -> int:
        return sum(map(len, self._found.values()))

    def _give(self, number: int) -> None:
        try:
            self._given[number] = self._given[number][os.write(self._ends[number], self._given[number][:65536]) :]
        except BlockingIOError:
            return
        except OSError:  # it does not want to know
            self._given[number] = b""
        if not self._given[number]:
            self._close(number)

    def _take(self, number: int) -> bool:
        try:
            chunk = os.read(self._ends[number], 65536)
        except BlockingIOError:
            return False
        self._found[number] += chunk
        if not chunk:
            self._close(number)
        return bool(chunk)

    def _close(self, number: int) -> None:
        end = self._ends.pop(number)
        self._selector.unregister(end)
        os.close(end)


def _request(request: dict[str, Any]) -> bytes:
    parts = [request["first"], request["program"], request["after"], *request["expressions"]]
    encoded = [part.encode("utf-8", "replace") for part in parts]
    return b"".join(b"%d\n%b" % (len(part), part) for part in encoded)


def _children() -> list[int]:
    return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]


if __name__ == "__main__":
    main()
