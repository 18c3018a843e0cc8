"""ZeRO stages, offload, precision, checkpointing, packing and sequence parallelism against one plain process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("gradients_worker.py")


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "cases"), [(1, 5), (2, 21), (4, 10)])
def test_every_setting_makes_the_same_updates_as_one_plain_process(ranks, cases):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(WORKER)], capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == cases, done.stdout
