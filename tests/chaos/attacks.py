"""What may happen within a step's own process: each is arranged there before the step begins."""

import contextlib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

Arrange = Callable[[], None]
"""Called in the process of each step before it begins."""
EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate", "sqlite3.connect", "socket.connect"}
)
"""Audit events of Python at which a strike may land: whatever touches disk or network."""


def _touches(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether it changes a file or reaches a server; a file that is opened to be read does neither."""
    if event != "open":
        return event in EVENTS
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def count_events(into: Path) -> None:
    """Write the number of `EVENTS` to a file when this process ends its step."""
    passed = [0]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        passed[0] += _touches(event, arguments)

    sys.addaudithook(hook)
    leave = os._exit

    def counted(code: int) -> None:
        into.write_text(str(passed[0]))
        leave(code)

    os._exit = counted  # type: ignore[assignment]


def strike_at(number: int, victim: str, seed: int = 0) -> Arrange:
    """Kill `victim` (step, parent, child or all) when this process passes its `number`th event."""

    def arrange() -> None:
        passed, own = [0], os.getpid()

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if not _touches(event, arguments) or os.getpid() != own:
                return
            passed[0] += 1
            if passed[0] == number:
                os.write(1, f"@struck {victim} at {event} {number}\n".encode())
                _kill(victim, random.Random(seed))

        sys.addaudithook(hook)

    return arrange


def _kill(victim: str, generator: random.Random) -> None:
    if victim == "parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(0.2)  # for Linux to pass it on
    elif victim == "all":
        os.killpg(os.getpgid(0), signal.SIGKILL)
    elif victim == "child" and (children := psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            generator.choice(children).kill()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def limit_files(size: int) -> Arrange:
    """No file of this process may grow beyond `size` bytes: a disk that is full at some point."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def jump_clock(seed: int) -> Arrange:
    """The wall clock jumps by up to a day, back and forth, at every look."""

    def arrange() -> None:
        generator, true = random.Random(seed), time.time
        time.time = lambda: true() + generator.uniform(-86400, 86400)
        time.time_ns = lambda: int(time.time() * 1e9)

    return arrange
