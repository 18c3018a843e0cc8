"""Waiting for what has to happen: as long as a slow machine may need, and no longer than it takes."""

import contextlib
import socket
import time

import psutil


def wait_until(condition, seconds=600.0):
    """Returns what `condition()` gave as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < deadline, f"it did not happen in {seconds:g} s"
        time.sleep(0.02)
    return met


def free_port():
    """Of this machine, as it is now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port):
    """Whether a server of this machine takes connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until_gone(processes, seconds=600.0):
    """All of these have ended."""
    wait_until(lambda: not any(map(_runs, processes)), seconds)


def _runs(process):
    # Orphans that ended stay in the process table where nobody reaps them, as in a container without an init.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
