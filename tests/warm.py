"""Ranks that are forks of one process, which has imported what they need: `python -m tests.warm`, the fixture `warm`.

To import torch, DeepSpeed, transformers and MLflow takes a rank, torchrun and the command some twenty seconds of a
core; what a tiny job does takes one. Here a job is what it is under torchrun, its environment and the signals that it
gets as well, but for the start. What is about the command, torchrun or restarts uses those; see test_resume.py.
"""

import contextlib
import ctypes
import gc
import json
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1
_REQUEST_BYTES = 1 << 17


@dataclass
class WarmJob:
    """A job that has been started: as `subprocess.Popen`, of which it is no child."""

    pid: int
    stdout: IO[str]
    """All that its ranks print."""
    _status: int
    returncode: int | None = None

    def send_signal(self, number: signal.Signals) -> None:
        """SIGINT and SIGTERM ask the ranks to stop; whoever kills it kills them."""
        os.kill(self.pid, number)

    def communicate(self) -> tuple[str, None]:
        """What it prints up to its end."""
        with self.stdout:
            printed = self.stdout.read()
        with os.fdopen(self._status) as status:
            self.returncode = int(status.read() or -signal.SIGKILL)
        return printed, None


class Warm:
    """The process, and how to ask it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, "-m", "tests.warm", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()

    def start(self, program: str | Path, *arguments: object, ranks: int, **environment: str) -> WarmJob:
        """Start the ranks of a job: a module's name, or a file."""
        request = {
            "program": str(program),
            "arguments": [str(argument) for argument in arguments],
            "ranks": ranks,
            "folder": str(Path.cwd()),
            "environment": {**os.environ, **environment},
        }
        (printed, out), (status, code) = os.pipe(), os.pipe()
        socket.send_fds(self._socket, [json.dumps(request).encode()], [out, code])
        os.close(out)
        os.close(code)
        return WarmJob(int(self._socket.recv(64)), os.fdopen(printed, errors="replace"), status)

    def run(self, program: str | Path, *arguments: object, ranks: int, **environment: str) -> tuple[int, str]:
        """Start a job and wait for it: its exit code, and what it printed."""
        job = self.start(program, *arguments, ranks=ranks, **environment)
        printed, _ = job.communicate()
        assert job.returncode is not None
        return job.returncode, printed

    def close(self) -> None:
        """End it: without anybody to ask it has nothing to do."""
        self._socket.close()
        self._process.wait()


def preload() -> None:
    """Import what training imports, early or late."""
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM  # noqa: F401

    import fipo.report.sentences
    import fipo.rollout.transformers
    import fipo.training.evaluate
    import fipo.training.rl.loop
    import fipo.training.sft  # noqa: F401
    from fipo.distributed.bootstrap import import_deepspeed

    import_deepspeed()


def main() -> None:
    """Fork a job for each request, until nobody is there to ask."""
    gc.disable()  # of what modules make nothing is garbage
    from fipo.tracking.client import load

    load()
    preload()
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for jobs
    asked = socket.socket(fileno=int(sys.argv[1]))
    while True:
        request, descriptors, *_ = socket.recv_fds(asked, _REQUEST_BYTES, 2)
        if not request:
            return
        pid = os.fork()
        if not pid:
            asked.close()
            _job(json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        asked.send(str(pid).encode())


def _job(request: dict[str, Any], out: int, status: int) -> None:
    """In torchrun's place: start the ranks, pass signals on, and end as the first that fails."""
    _end_with_parent()
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(out, stream)
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
    os.close(out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(request, rank, port)) for rank in range(request["ranks"])]
    for rank in ranks:
        rank.start()

    def stop(*_: object) -> None:
        for rank in ranks:
            rank.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    waiting, code = list(ranks), 0
    while waiting:
        multiprocessing.connection.wait([rank.sentinel for rank in waiting])
        for rank in [rank for rank in waiting if rank.exitcode is not None]:
            waiting.remove(rank)
            code = code or rank.exitcode or 0
    os.write(status, str(code).encode())
    os._exit(0)


def _rank(request: dict[str, Any], rank: int, port: int) -> None:
    import torch

    _end_with_parent()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(request["ranks"]), "LOCAL_WORLD_SIZE": str(request["ranks"])}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    torch.set_num_threads(int(threads))
    program = request["program"]
    sys.argv = [program, *request["arguments"]]
    try:
        if program.endswith(".py"):
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    finally:
        _keep_coverage()


def _keep_coverage() -> None:
    """For `make coverage`: a fork that ends writes down nothing by itself."""
    if "coverage" in sys.modules:
        from coverage import Coverage

        if measured := Coverage.current():
            measured.save()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
