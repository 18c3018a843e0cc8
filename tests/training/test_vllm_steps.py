"""RL and evaluation with real vLLM, beside the trainer and as a server of the run. `make test-vllm` runs this."""

import os
import signal
import socket
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from fipo.records import Evaluated

pytest.importorskip("vllm")
pytestmark = pytest.mark.timeout(1800)


def weight_versions(run):
    """By step: the versions of the weights that sampled its responses."""
    [folder] = {path.parent for path in run.folder.glob("objects/tiny/train/rollouts/*/*.parquet")}
    return [set(pq.read_table(path)["weight_version"].to_pylist()) for path in sorted(folder.iterdir())]


def forget(run):
    for path in run.folder.glob("objects/tiny/train/rollouts/*/*.parquet"):
        path.unlink()


def test_vllm_beside_the_trainer(vllm_run):
    for step in ("train", "evaluate"):
        code, output = vllm_run(step, "--fresh", "--set", "rollout.engine=vllm")
        assert code == 0, output
    # Two updates a step, each followed by the new weights.
    assert weight_versions(vllm_run) == [{0}, {2}]
    assert vllm_run.result("evaluate").read(Evaluated).warmup
    forget(vllm_run)


def test_a_vllm_server_of_the_run(vllm_run, monkeypatch):
    monkeypatch.setenv("FIPO_ROLLOUT_TOKEN", "a secret of these tests")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    config = vllm_run.folder / "tiny" / "config.yaml"
    server = subprocess.Popen([sys.executable, "-m", "fipo.training.serve", "--config", config, "--port", port])
    # As a launcher tells the trainer's pods; the server is waited for.
    monkeypatch.setenv("FIPO_ROLLOUT_SERVERS", f"http://127.0.0.1:{port}")
    try:
        for step in ("train", "evaluate"):
            code, output = vllm_run(
                step, "--fresh", "--set", "rollout.engine=served", "--set", "distributed.processes=2"
            )
            assert code == 0, output
    finally:
        os.kill(server.pid, signal.SIGTERM)
        server.wait(600)
    assert weight_versions(vllm_run) == [{0}, {2}]


def test_two_ranks_that_share_a_model_take_part_in_every_call(vllm_run):
    # One problem: the second rank has none of its own, and the first needs it for each token.
    forget(vllm_run)
    one = "data.benchmarks={one: {generator: {digits: 3, seed: 9}, limit: 1}}"
    shared = ["rollout.engine=vllm", "rollout.tensor_parallel=2", "distributed.processes=2"]
    for step in ("prepare", "sft", "train", "evaluate"):
        engine = shared if step in ("train", "evaluate") else []
        code, output = vllm_run(step, "--fresh", *(word for setting in (one, *engine) for word in ("--set", setting)))
        assert code == 0, output
    assert weight_versions(vllm_run) == [{0}, {2}]
    assert vllm_run.result("evaluate").read(Evaluated).trained["one"].problems == 1
