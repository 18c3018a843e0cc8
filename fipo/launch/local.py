"""A distributed job on this machine: torchrun, one process a device."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from fipo.errors import Interrupted, LaunchError

GRACE_SECONDS = 60.0
"""How long workers may take to save after they were asked to stop."""


def torchrun(module: str, arguments: Sequence[str], *, processes: int) -> None:
    """Run `python -m module arguments` in `processes` workers (0: one a GPU, or one a core) and wait for the end.

    Ctrl-C and SIGTERM are passed on: the workers save and stop.

    Raises:
        LaunchError: a worker failed; what it printed stands above.
        Interrupted: stopped on request, after the workers saved.
    """
    processes = processes or _devices()
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("--module", module, *arguments),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(_threads(processes)))}
    # A session of its own: Ctrl-C reaches it through us, once, and not each worker directly as well.
    job = subprocess.Popen(command, env=environment, start_new_session=True)
    previous = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        code = job.wait()
    except KeyboardInterrupt:
        code = _stop(job)
        raise Interrupted(f"{module} was stopped (exit code {code}); run the same command again to continue") from None
    finally:
        signal.signal(signal.SIGTERM, previous)
    if code:
        raise LaunchError(f"{module} failed with exit code {code} on {processes} process(es); see its output above")


def _stop(job: subprocess.Popen[bytes]) -> int:
    job.send_signal(signal.SIGTERM)
    try:
        return job.wait(GRACE_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(job.pid, signal.SIGKILL)
        return job.wait()


def _devices() -> int:
    import torch

    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def _threads(processes: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
