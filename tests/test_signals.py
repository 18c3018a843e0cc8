"""Tests can interrupt what they start, however they were started themselves."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STARTS = """
import subprocess, sys
{first}
child = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
sys.exit(-subprocess.run([sys.executable, "-c", child]).returncode)
"""


@pytest.mark.parametrize(("first", "code"), [("import conftest", signal.SIGINT), ("", 0)])
def test_what_is_started_in_the_background_can_be_interrupted(first, code):
    done = subprocess.run(
        [sys.executable, "-c", STARTS.format(first=first)],
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell does for `make test &`
        stderr=subprocess.DEVNULL,
    )
    assert done.returncode == code
