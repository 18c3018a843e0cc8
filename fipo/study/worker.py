"""What one step of a trial runs in: a process forked from a server that has imported everything, once for all trials.

Most of a short trial would otherwise be the import of torch, transformers, DeepSpeed and MLflow, twice.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Collection
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from fipo.config import Config
from fipo.distributed.bootstrap import die_with_parent, import_deepspeed
from fipo.errors import FipoError
from fipo.run.run import Run
from fipo.run.step import STEPS

import_deepspeed()

_server = get_context("forkserver")
_server.set_forkserver_preload([__name__])
_running: set[BaseProcess] = set()


def run(step: str, config: Config, cores: Collection[int], log: Path) -> int:
    """Run a step of one rank on these cores, its output appended to `log`; its exit code, 0 where it was finished."""
    process = _server.Process(target=_run, args=(step, config, cores, log), name=f"{config.run.name}-{step}")
    process.start()
    _running.add(process)
    process.join()
    _running.discard(process)
    return process.exitcode or 0


def stop() -> None:
    """Ask all that run to save and end: a terminal's Ctrl-C has reached them, a signal to this process has not."""
    for process in list(_running):
        process.terminate()


def _run(step: str, config: Config, cores: Collection[int], log: Path) -> None:
    die_with_parent()
    os.sched_setaffinity(0, cores)
    with log.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        job, run = STEPS[step].job, Run(config)
        if not job:
            run.step(step).run()
        elif not run.step(step).finished():
            sys.argv = [job, "--config", str(run.write_settings())]
            runpy.run_module(job, run_name="__main__")
    except FipoError as error:
        print(f"[{step}] {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
