import os
import signal
import subprocess
import sys

import pytest

from tests.waiting import free_port

WORKER = r"""
import os, signal, sys, time
rank = os.environ["RANK"]
how = sys.argv[1]
sys.stdout.write(f"rank {rank} of {os.environ['WORLD_SIZE']}\n")
if rank == "1":
    if how == "crash":
        raise RuntimeError("a bug")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stopped":
        signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.stdout.write("saved\n"), sys.exit(75)))
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1000)
    sys.exit(int(how))
elif how != "0":
    time.sleep(1000)
"""


@pytest.fixture
def node(tmp_path):
    """Run two workers of which the second ends in the given way."""
    (tmp_path / "worker.py").write_text(WORKER)

    def node(how, *options):
        command = [sys.executable, "-m", "fipo.launch.node", *(options or ("--standalone", "--nproc-per-node", "2"))]
        command += ["--module", "worker", how]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return node


@pytest.mark.parametrize(
    ("how", "code"), [("0", 0), ("2", 2), ("75", 75), ("crash", 1), ("killed", 128 + signal.SIGKILL)]
)
def test_ends_as_the_first_worker_that_failed(node, how, code):
    done = node(how)
    assert done.returncode == code, done.stderr
    assert "ChildFailedError" not in done.stderr
    if code:
        assert f"rank 1 failed first, with exit code {code}" in done.stderr


@pytest.mark.parametrize(("how", "starts"), [("65", 1), ("75", 1), ("killed", 3)])
def test_workers_start_again_where_that_can_help(node, how, starts):
    done = node(how, "--standalone", "--nproc-per-node", "2", "--max-restarts", "2")
    assert done.stdout.count("rank 1 of 2") == starts, done.stderr
    assert done.returncode == (128 + signal.SIGKILL if how == "killed" else int(how))


def test_a_stop_on_request_leaves_time_to_save(node):
    done = node("stopped")
    assert done.returncode == 75, done.stderr
    assert "saved" in done.stdout
    assert "Traceback" not in done.stderr


def test_takes_what_kubeflow_trainer_sets(node, monkeypatch):
    """Nodes, rank and address as its controller injects them."""
    trainer = {
        "NNODES": "1",
        "NPROC_PER_NODE": "2",
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    for name, value in trainer.items():
        monkeypatch.setitem(os.environ, f"PET_{name}", value)
    done = node("0", "--max-restarts=0")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "rank 0 of 2", "rank 1 of 2"]
