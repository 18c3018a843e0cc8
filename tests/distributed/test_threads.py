"""Threads of a worker: what OMP_NUM_THREADS says, as everywhere in torch; else its share of the cores."""

import os
import subprocess
import sys

import pytest

from fipo.launch.local import torchrun

JOIN = """
import torch
from fipo.config import Distributed
from fipo.distributed.bootstrap import join_world
with join_world(Distributed(timeout_seconds=60), seed=0):
    print("threads", torch.get_num_threads())
"""
CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("said", "workers", "threads"), [("2", 2, 2), (None, CORES, 1)])
def test_a_worker_has_the_threads_that_are_said(said, workers, threads):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"LOCAL_WORLD_SIZE": str(workers)} | ({"OMP_NUM_THREADS": said} if said else {})
    done = subprocess.run([sys.executable, "-c", JOIN], env=environment, capture_output=True, text=True, timeout=600)
    assert f"threads {threads}\n" in done.stdout, done.stderr


@pytest.mark.parametrize(("said", "workers", "threads"), [("3", 2, "3"), (None, 1, str(CORES)), (None, 2 * CORES, "1")])
def test_torchrun_hands_the_share_to_its_workers(said, workers, threads, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    (tmp_path / "told.py").write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).write_text(os.environ['OMP_NUM_THREADS'])"
    )
    torchrun("told", [], processes=workers, max_restarts=0)
    assert [(tmp_path / str(rank)).read_text() for rank in range(workers)] == [threads] * workers
