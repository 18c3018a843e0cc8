"""A distributed job on this machine: torchrun, one process a device."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fipo.errors import STOPPED, Interrupted, LaunchError

_PR_SET_PDEATHSIG = 1
_GPU = Path("/dev/nvidia0")

GRACE_SECONDS = 300.0
"""How long torchrun may take after it was asked to stop; it kills workers that take longer to save."""


def torchrun(module: str, arguments: Sequence[str], *, processes: int, max_restarts: int) -> None:
    """Run `python -m module arguments` in `processes` workers and wait for the end; 0 is one a GPU, or one a core.

    When a worker crashes or freezes, all are started again, at most `max_restarts` times.

    Ctrl-C and SIGTERM are passed on: the workers save and stop.

    Raises:
        LaunchError: a worker failed; what it printed stands above. Its exit code is the error's where that is for good.
        Interrupted: stopped on request, after the workers saved.
    """
    count = str(processes or _devices())
    command = [
        *(sys.executable, "-m", "fipo.launch.node", "--standalone", "--nproc-per-node", count),
        *("--max-restarts", str(max_restarts), "--module", module, *arguments),
    ]
    environment = {"OMP_NUM_THREADS": _threads(count), **os.environ}
    # A session of its own: Ctrl-C reaches it through us, once, and not each worker directly as well.
    job = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=end_with_parent())
    previous = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        code = job.wait()
    except KeyboardInterrupt:
        code = _stop(job)
        raise Interrupted(f"{module} was stopped (exit code {code}); run the same command again to continue") from None
    finally:
        signal.signal(signal.SIGTERM, previous)
    if code == STOPPED:
        raise Interrupted(f"{module} was stopped from outside; run the same command again to continue")
    if code:
        raise LaunchError(f"{module} failed with exit code {code} on {count} process(es); see its output above", code)


def _stop(job: subprocess.Popen[bytes]) -> int:
    job.send_signal(signal.SIGTERM)
    try:
        return job.wait(GRACE_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(job.pid, signal.SIGKILL)
        return job.wait()


def _devices() -> str:
    """All GPUs; on a machine without, its cores, at most four: more ranks than that wait for each other."""
    return "auto" if _GPU.exists() else str(min(4, len(os.sched_getaffinity(0))))


def _threads(workers: str) -> str:
    """Of each worker where the user has not said how many: its share of the cores; beside a GPU one, as torchrun."""
    return "1" if _GPU.exists() else str(max(1, len(os.sched_getaffinity(0)) // int(workers)))


def end_with_parent() -> Callable[[], None]:
    """For `preexec_fn`: have Linux stop the child, and so what it starts, when this process is killed."""
    parent = os.getpid()

    def ask_linux() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was killed before Linux knew
            os.kill(os.getpid(), signal.SIGKILL)  # SIGTERM could meet a handler of the parent's

    return ask_linux


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
