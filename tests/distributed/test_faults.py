"""Faults of one rank, on two real ranks: torchrun, gloo, DeepSpeed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("faults_worker.py")
CASES = re.findall(r"^def (\w+)\(world, folder\):", WORKER.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """Names of the worker's cases that passed, and all that it printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(WORKER)]
    folder = str(tmp_path_factory.mktemp("faults"))
    done = subprocess.run([*command, folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return {line.removesuffix(" ok") for line in done.stdout.splitlines() if line.endswith(" ok")}, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_on_two_ranks(passed, case):
    names, output = passed
    assert case in names, output
