"""The cluster under test: kubectl, Kubeflow Pipelines, MLflow, and waiting with a limit."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "pipelines" / "tiny.yaml"
EXPERIMENT = "fipo-test-cluster"
ENDED = {"SUCCEEDED", "FAILED", "CANCELED"}
FORWARD_SECONDS = 30.0


class ClusterError(AssertionError):
    """The cluster did not do in time what it should."""


@dataclass(frozen=True)
class Target:
    """Where the tests run; all of it comes from the environment, see `make test-cluster`."""

    host: str
    """URL of Kubeflow Pipelines' UI."""
    namespace: str
    """Of the runs."""
    multi_user: bool
    overlay: Path
    """What is applied; empty path: nothing is."""
    settings: tuple[str, ...] = ()
    """More settings for every run."""
    limit_seconds: float = 1800.0
    """For one run."""

    def kubectl(self, *arguments: str, timeout: float = 300, check: bool = True) -> str:
        """Standard output of kubectl in the namespace."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise ClusterError(f"{' '.join(command)}\n{done.stderr.strip()}")
        return done.stdout

    def create(self, manifest: dict[str, Any]) -> str:
        """Make an object; returns it as JSON."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(manifest, file)
            file.flush()
            return self.kubectl("create", "--filename", file.name, "--output", "json")

    def serves(self, resource: str) -> bool:
        """Whether the cluster knows this kind of object."""
        return resource in self.kubectl("api-resources", "--output", "name").split()

    def account(self) -> str:
        """The service account of the tasks, by the overlay."""
        binding = ["get", "rolebinding", "fipo-launcher", "--output", "jsonpath={.subjects[0].name}"]
        return self.kubectl(*binding)

    def phase(self, pod: str) -> str:
        """Of a pod; `Gone` where there is none."""
        read = ["get", "pod", pod, "--ignore-not-found", "--output", "jsonpath={.status.phase}"]
        return self.kubectl(*read) or "Gone"

    def evict(self, pod: str) -> None:
        """Ask a pod to leave as a drained node does."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(body, file)
            file.flush()
            self.kubectl("create", "--raw", path, "--filename", file.name)

    def objects(self, resource: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of the namespace."""
        labels = ["--selector", selector] if selector else []
        return list(json.loads(self.kubectl("get", resource, *labels, "--output", "json"))["items"])

    def pipelines(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`python -m pipelines ...` at this cluster."""
        where = ["--host", self.host, "--experiment", EXPERIMENT]
        where += ["--namespace", self.namespace] if self.multi_user else []
        command = [sys.executable, "-m", "pipelines", arguments[0], *where, *arguments[1:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        if check and done.returncode:
            raise ClusterError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done

    def client(self) -> Any:
        """KFP's client, as the product makes it."""
        from fipo_kfp.pipelines.remote import Endpoint

        return Endpoint(self.host, self.namespace if self.multi_user else "", EXPERIMENT).connect()

    def experiment(self) -> str:
        """Id of the experiment of these tests, made where it is not there."""
        namespace = self.namespace if self.multi_user else None
        made: str = self.client().create_experiment(EXPERIMENT, namespace=namespace).experiment_id
        return made

    def submit(self, name: str, *settings: str, recipe: str = "demo") -> str:
        """Start a run of the smallest size; returns its id."""
        done = self.pipelines("submit", *self.run_arguments(name, *settings, recipe=recipe))
        # KFP's client prints links to the pipeline and the experiment before the one to the run.
        found = re.search(r"(?<=/runs/details/)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", done.stdout)
        if not found:
            raise ClusterError(f"submit printed no run id: {done.stdout}")
        return found.group()

    def run_arguments(self, name: str, *settings: str, recipe: str = "demo") -> list[str]:
        """Recipe, name and settings of a run, for `submit` and `schedule`."""
        given = [*(tiny_settings() if recipe == "demo" else []), *self.settings, *settings]
        changes = [argument for setting in given for argument in ("--set", setting)]
        return ["--recipe", recipe, "--parameter", f"run_name={name}", *changes]

    def wait_for_run(self, run: str) -> str:
        """The state in which the run ended."""
        client = self.client()
        state = {"state": ""}

        def ended() -> bool:
            try:
                state["state"] = client.get_run(run).state or ""
            except urllib3.exceptions.HTTPError as error:  # a port-forward that is being made anew
                state["state"] = str(error)
            return state["state"] in ENDED

        eventually(ended, self.limit_seconds, f"run {run} did not end", lambda: state["state"])
        return state["state"]

    def task_pods(self, run: str) -> list[dict[str, Any]]:
        """Pods of the tasks of a run: those with KFP's launcher, which drivers do without."""
        pods = self.objects("pods", f"pipeline/runid={run}")
        launchers = [[entry["name"] for entry in pod["spec"].get("initContainers", [])] for pod in pods]
        return [pod for pod, names in zip(pods, launchers, strict=True) if "kfp-launcher" in names]

    def train_jobs(self, run: str) -> list[dict[str, Any]]:
        """TrainJobs that belong to a run."""
        flows = {item["metadata"]["uid"] for item in self.objects("workflows.argoproj.io", f"pipeline/runid={run}")}
        jobs = self.objects("trainjobs.trainer.kubeflow.org")
        return [job for job in jobs if flows & {owner["uid"] for owner in job["metadata"].get("ownerReferences", [])}]

    def running_job_pod(self, run: str) -> str:
        """The first running pod of a TrainJob of a run, once there is one."""
        found: list[str] = []

        def runs() -> bool:
            for job in self.train_jobs(run):
                label = f"jobset.sigs.k8s.io/jobset-name={job['metadata']['name']}"
                pods = self.objects("pods", label)
                living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
                found.extend(pod["metadata"]["name"] for pod in living if pod["status"].get("phase") == "Running")
            return bool(found)

        eventually(runs, self.limit_seconds, f"no TrainJob of run {run} has a running pod", lambda: "")
        return found[0]

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """URL of a service of the namespace, on this machine."""
        with forward(self.namespace, service, port) as url:
            yield url


@contextmanager
def forward(namespace: str, service: str, port: int) -> Iterator[str]:
    """`kubectl port-forward` to a free port, as long as the context lasts; made anew when its pod goes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = probe.getsockname()[1]
    command = ["kubectl", "--namespace", namespace, "port-forward", f"service/{service}", f"{local}:{port}"]
    for_ever = ["sh", "-c", 'while :; do "$@"; sleep 1; done', "sh", *command]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(for_ever, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)

        def complaint() -> str:
            said.seek(0)
            return said.read()[-500:]

        try:
            eventually(lambda: _listens(local), FORWARD_SECONDS, f"{' '.join(command)} does not listen", complaint)
            yield f"http://localhost:{local}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def eventually(
    holds: Callable[[], bool],
    seconds: float,
    otherwise: str,
    last: Callable[[], str] = lambda: "",
    every: float = 2.0,
) -> float:
    """Wait until it holds; returns how long that took.

    Raises:
        ClusterError: it did not hold in time; the message has what was seen last.
    """
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise ClusterError(f"{otherwise} within {seconds:g} s {last()}".rstrip())
        time.sleep(min(every, seconds))
    return time.monotonic() - began


def tiny_settings() -> list[str]:
    """The recipe `demo` as small as `tests/pipelines/tiny.yaml`, which the image does not hold."""
    tree = yaml.safe_load(TINY.read_text())
    del tree["run"]
    return [f"{section}.{key}={json.dumps(value)}" for section, fields in tree.items() for key, value in fields.items()]


def artifact_uris(pods: list[dict[str, Any]]) -> list[str]:
    """Where the tasks of a run were told to write their artifacts, without their logs.

    Scores are left out: Kubeflow keeps their numbers as metadata, and no file.
    """
    found = []
    for pod in pods:
        (main,) = [entry for entry in pod["spec"]["containers"] if entry["name"] == "main"]
        arguments = [*main.get("command", []), *main.get("args", [])]
        told = json.loads(arguments[arguments.index("--executor_input") + 1])
        for name, one in told["outputs"].get("artifacts", {}).items():
            if name != "executor-logs":
                found += [a["uri"] for a in one["artifacts"] if a["type"]["schemaTitle"] != "system.Metrics"]
    return sorted(found)


def open_artifact(host: str, namespace: str, uri: str, token: str = "") -> bytes:
    """What Kubeflow's UI shows of an artifact."""
    source, _, place = uri.partition("://")
    bucket, _, key = place.partition("/")
    query = urllib.parse.urlencode(
        {"source": {"gs": "gcs"}.get(source, source), "bucket": bucket, "key": key, "namespace": namespace}
    )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{host.rstrip('/')}/artifacts/get?{query}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def mlflow_parents(url: str, name: str) -> dict[str, str]:
    """Status of the pipeline runs in MLflow whose names begin like this, by name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name("fipo")
    runs = client.search_runs([experiment.experiment_id], f"attributes.run_name LIKE '{name}%'") if experiment else []
    return {run.info.run_name: run.info.status for run in runs}


def from_environment(host: str, multi_user: bool) -> Target:
    """The target that the environment describes."""
    overlay = os.environ.get("CLUSTER_OVERLAY", "k8s/overlays/local")
    return Target(
        host=host,
        namespace=os.environ.get("CLUSTER_NAMESPACE", "kubeflow"),
        multi_user=multi_user,
        overlay=ROOT / overlay if overlay != "none" else Path(),
        settings=tuple(os.environ.get("CLUSTER_SETTINGS", "").split()),
        limit_seconds=float(os.environ.get("CLUSTER_RUN_SECONDS", "1800")),
    )
