"""The short form of `python -m tests.chaos`: each kind of attack on a whole run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_survives_the_short_form(tmp_path):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.chaos", "--short", "--folder", str(tmp_path / "chaos")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1500)
    count = re.fullmatch(r"(\d+) tried, (\d+) survived, 0 lost", done.stdout.splitlines()[-1])
    assert done.returncode == 0 and count, done.stdout + done.stderr
    assert int(count[1]) == int(count[2]) >= 25
