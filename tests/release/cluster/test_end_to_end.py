"""From the registry to an answer: the objects' own command serves the model, under the pods' own environment."""

import os
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from fipo.cli import main
from fipo.config import Model, load_config
from fipo.models import load_model, load_tokenizer
from fipo.release.deploy import deploy
from fipo.release.registry import fetch, find
from tests.present import present
from tests.waiting import free_port


class Kubelet:
    """Starts the container of each pod as its manifest says, and calls it ready when its readiness probe answers.

    Every pod has a network of its own in a cluster; here it gets another port, and a folder in place of its volume.
    """

    def __init__(self, cluster, object_store, folder):
        self.cluster, self.store, self.folder = cluster, object_store, folder
        cluster.start = lambda pod: threading.Thread(target=self.run, args=(pod,), daemon=True).start()

    def environment(self, container):
        def value(variable):
            if "value" in variable:
                return variable["value"]
            (kind, reference), *_ = variable["valueFrom"].items()
            assert reference["name"] == "fipo"
            return self.store[{"configMapKeyRef": "config", "secretKeyRef": "secret"}[kind]][reference["key"]]

        ours = ("AWS_", "MLFLOW_", "FIPO_", "KUBE", "http_proxy")
        rest = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        given = {variable["name"]: value(variable) for variable in container["env"]}
        return {**rest, **given, "HOME": str(self.folder), "AWS_DEFAULT_REGION": "us-east-1"}

    def run(self, pod):
        (container,) = pod["spec"]["containers"]
        probe, port = container["readinessProbe"]["httpGet"], free_port()
        assert (container["command"][0], probe["port"]) == ("fipo", 8080)
        swapped = {"8080": str(port), "run.directory=/models": f"run.directory={self.folder}"}
        command = [swapped.get(word, word) for word in container["command"][1:]]
        name = pod["metadata"]["name"]
        log: list[str] = []
        self.cluster.logs[name] = log
        process = subprocess.Popen(
            [sys.executable, "-m", "fipo.cli", *command], env=self.environment(container), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.cluster.processes[name], self.cluster.ports[name] = process, port
        threading.Thread(target=lambda: log.extend(map(str.rstrip, present(process.stdout))), daemon=True).start()
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while process.poll() is None:
            try:
                direct.open(f"http://127.0.0.1:{port}{probe['path']}", timeout=5).close()
                return self.cluster.make_ready(pod)
            except OSError:
                time.sleep(0.1)
        terminated = {"waiting": {"reason": "CrashLoopBackOff"}}
        pod["status"]["containerStatuses"] = [{"name": container["name"], "state": terminated}]
        return None


@pytest.fixture
def config(registry, cluster, role, object_store, tmp_path):
    cluster.act_as(role)
    Kubelet(cluster, object_store, tmp_path)
    where = [f"run.directory={tmp_path}", f"tracking.uri={registry}", "registry.model_name=sums"]
    return load_config("demo", [*where, "deploy.image=fipo:1", "deploy.patience_seconds=200", "deploy.cpus=1"])


def greedy(config, version, prompt, folder):
    model = Model(name_or_path=str(fetch(find(config.tracking_uri, f"sums/{version}"), folder)))
    plain, tokenizer = load_model(model), load_tokenizer(model)
    encoded = tokenizer(prompt, return_tensors="pt")
    longest = config.rollout.max_response_tokens
    tokens = plain.generate(**encoded, do_sample=False, max_new_tokens=longest)  # type: ignore[operator]
    # Untrained models say anything: the server leaves the mark of the end out, and no other.
    return str(tokenizer.decode(tokens[0, encoded["input_ids"].shape[1] :])).removesuffix("<end>")


@pytest.mark.slow
def test_a_champion_the_next_one_and_back(config, cluster, versions, object_store, tmp_path):
    settings = config.to_yaml()
    versions(0, settings=settings)
    first = present(deploy(config))
    assert first.answer.split() == greedy(config, 1, "1 + 2 =", tmp_path / "copy").split() != []

    versions(1, settings=settings)
    second = present(deploy(config))
    assert cluster.serving() == ["2"]
    assert second.answer.split() == greedy(config, 2, "1 + 2 =", tmp_path / "copy").split() != first.answer.split()

    main(["rollback", "sums", "--set", f"tracking.uri={config.tracking_uri}"])
    assert cluster.serving() == ["1"]
    assert find(config.tracking_uri, "sums@served").version == "1"
