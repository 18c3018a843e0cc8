"""What torchrun and servers are started by, and end with."""

import os
import signal
import subprocess
import sys

import pytest

from fipo.errors import LaunchError
from fipo.launch.local import torchrun
from tests.waiting import wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_child_ends_with_its_parent():
    code = "import subprocess, sys; from fipo.launch.local import end_with_parent; "
    code += f"print(subprocess.Popen({SLEEP!r}, preexec_fn=end_with_parent()).pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not os.path.exists(f"/proc/{child}"))  # noqa: PTH110 - a process, no file


def test_a_parent_that_died_before_linux_was_asked_counts():
    """As when this process is killed between fork and exec: the child finds another one in its place.

    The parent's own handler, as a rank has one, must not keep the child alive.
    """
    code = "import os, signal, subprocess, sys; from fipo.launch.local import end_with_parent; "
    code += "ask = end_with_parent(); signal.signal(signal.SIGTERM, lambda *_: None)\n"
    code += f"if os.fork(): os.wait()\nelse: print(subprocess.Popen({SLEEP!r}, preexec_fn=ask).wait())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert done.stdout == f"{-signal.SIGKILL}\n", done.stderr


@pytest.mark.parametrize(("code", "ours"), [(2, 2), (65, 65), (3, 1)])
def test_what_no_other_attempt_mends_is_told_by_the_exit_code(tmp_path, monkeypatch, code, ours):
    (tmp_path / "worker.py").write_text(f"raise SystemExit({code})")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(LaunchError, match=f"exit code {code} ") as failed:
        torchrun("worker", [], processes=1, max_restarts=0)
    assert failed.value.exit_code == ours
