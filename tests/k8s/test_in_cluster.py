"""A step in a TrainJob from end to end: the launcher, the job's own command and the training are real."""

import math
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from fipo.config import Model, load_config
from fipo.errors import LaunchError
from fipo.launch import cluster
from fipo.models import load_model, load_tokenizer, save_model
from fipo.run.run import Run
from tests.present import present
from tests.waiting import free_port

TINY = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"


class Controller:
    """What Kubeflow Trainer does with a job of one node: start its command with `PET_*` set, and say how it ended."""

    def __init__(self, api, token):
        self.api, self.token = api, token
        api.on_create = lambda manifest: threading.Thread(target=self.run, args=(manifest,), daemon=True).start()

    def run(self, manifest):
        name, trainer = manifest["metadata"]["name"], manifest["spec"]["trainer"]
        pod = self.api.add_pod(name)
        environment = {
            **os.environ,
            **{variable["name"]: variable["value"] for variable in trainer.get("env", [])},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": "0",
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(free_port()),
            "KUBEFLOW_TRAINER_SERVER_URL": f"{self.api.url}/apis/x/namespaces/team/trainjobs/{name}/status",
            "KUBEFLOW_TRAINER_SERVER_TOKEN": str(self.token),
        }
        process = subprocess.Popen(
            trainer["command"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in present(process.stdout):
            self.api.logs[pod].append(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z {line.rstrip()}")
        if code := process.wait():
            ended = {"exitCode": code, "finishedAt": "2026-11-23T12:00:00Z"}
            self.api.pods[pod]["status"]["containerStatuses"] = [{"name": "node", "state": {"terminated": ended}}]
        self.api.finish(name, "Failed" if code else "Complete", "a pod failed" if code else "")


@pytest.fixture
def config(api, runtimes, tiny_copy, tmp_path, monkeypatch):
    api.runtimes = runtimes
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    api.act_as("fipo-launcher")
    token = tmp_path / "token"
    token.write_text("secret")
    Controller(api, token)
    return load_config(TINY, [tiny_copy, "trainjob.runtime=fipo", "trainjob.cpus_per_node=1", "sft.steps=2"])


def test_a_step_runs_in_a_train_job(config, api, capsys):
    task = {"env": [{"name": "OMP_NUM_THREADS", "value": "1"}]}
    result = Run(config).step("sft").run(task=task)
    assert result.outputs["model"].sha256
    (job,) = api.jobs.values()
    assert job["spec"]["trainer"]["resourcesPerNode"]["requests"]["cpu"] == "1"
    assert job["status"]["trainerStatus"]["progressPercentage"] >= 50
    assert "[sft] step 2/2" in capsys.readouterr().out
    assert Run(config).step("sft").run(task=task).reused
    assert api.created == 1


def test_a_worker_that_fails_is_shown(config, api, tmp_path):
    """The model is there when the step starts, and its numbers are none, which only loading sees."""
    folder, model = tmp_path / "model", load_model(config.model, seed=0)
    torch.nn.init.constant_(model.model.norm.weight, math.nan)
    save_model(model, load_tokenizer(config.model), folder)
    broken = config.model_copy(update={"model": Model(name_or_path=str(folder))})
    Run(broken).step("prepare").run()
    with pytest.raises(LaunchError, match=rf"exit code 2 .*\n(.*\n)*.*{folder}") as failed:
        Run(broken).step("sft").run()
    assert failed.value.exit_code == 2
