import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import free_port, wait_until

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
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)

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


@pytest.fixture
def started():
    """`started(*options)`: a process that is left to itself, which would train, and takes signals."""
    processes = []

    def start(*options):
        command = [sys.executable, "-m", "fipo.launch.node", *options, "--module", "worker", "0"]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        wait_until(lambda: handles_sigterm(processes[-1]))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def handles_sigterm(process):
    """The first process of a container is not even ended by a signal that it does not handle."""
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return int(caught, 16) >> signal.SIGTERM - 1 & 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="which signals are handled is read in /proc")
def test_a_stop_while_it_still_imports_ends_it(started):
    process = started("--standalone")
    assert "libtorch_cpu" not in Path(f"/proc/{process.pid}/maps").read_text(), "it handles them first"
    process.terminate()
    _, said = process.communicate(timeout=600)
    assert process.returncode == 75 and "before any worker ran" in said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="which signals are handled is read in /proc")
def test_a_stop_while_it_waits_for_other_nodes_ends_it(started):
    """Within PyTorch, which hears no handler: the first node takes its call, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = str(first.getsockname()[1])
        where = ("--nnodes=2", "--node-rank=1", "--master-addr=127.0.0.1", f"--master-port={port}")
        process = started(*where)
        first.settimeout(300)
        with first.accept()[0]:
            process.terminate()
            _, said = process.communicate(timeout=600)
    assert process.returncode == 75 and "before any worker ran" in said


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
