"""`make test-cluster` as far as it goes without a cluster: collecting, the preflight, and its helpers."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import yaml

from fipo.config import load_config
from tests.cluster import conftest, target
from tests.cluster.target import ClusterError, Target, artifact_uris, eventually, open_artifact, tiny_settings
from tests.k8s.whole_cluster import Objects, install_kubeflow
from tests.pipelines.conftest import PipelinesServer

ROOT = Path(__file__).parents[2]


def suite(*arguments, **environment):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/cluster", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def test_make_test_leaves_it_out_and_make_test_cluster_takes_it():
    left_out = suite("--collect-only", "-q", FIPO_TEST_CLUSTER="")
    assert left_out.returncode == 5, "no test is collected"
    taken = suite("--collect-only", "-q", FIPO_TEST_CLUSTER="1")
    assert taken.returncode == 0 and "test_terminate_leaves_nothing_within_a_minute" in taken.stdout
    recipe = (ROOT / "Makefile").read_text().partition("test-cluster: ")[2].partition("\n\n")[0]
    assert "FIPO_TEST_CLUSTER=1" in recipe and "tests/cluster" in recipe


def test_without_a_cluster_it_says_so():
    ended = suite(FIPO_TEST_CLUSTER="1", KUBECONFIG="/nowhere", CLUSTER_HOST="http://localhost:1")
    assert ended.returncode == 1
    assert "no cluster to test: no access to a cluster" in ended.stdout


def test_a_cluster_without_trainer_ends_it_with_the_table(whole):
    objects = Objects(whole, "kubeflow")
    install_kubeflow(objects, multi_user=False)
    for path in ("/apis/trainer.kubeflow.org/v1alpha1", "/apis/trainer.kubeflow.org"):
        del whole.objects[path]
    ended = suite(FIPO_TEST_CLUSTER="1", CLUSTER_HOST=f"{whole.url}/pipeline", COLUMNS="200")
    assert ended.returncode == 1
    assert "the preflight failed" in ended.stdout and "overlays/manager?ref=v2.3.0" in ended.stdout


def test_its_runs_are_as_small_as_the_tests():
    small, made = yaml.safe_load(target.TINY.read_text()), load_config("demo", tiny_settings())
    tiny = load_config(target.TINY)
    assert (
        made.model == tiny.model and made.data.train == tiny.data.train and made.data.benchmarks == tiny.data.benchmarks
    )
    for section in small.keys() - {"run", "data", "model"}:
        for key in small[section]:
            assert getattr(getattr(made, section), key) == getattr(getattr(tiny, section), key)


@pytest.fixture
def pipelines():
    class Ending(PipelinesServer):
        states: list[str]

        def answer(self, method, url, body):
            if method == "GET" and url.endswith("/runs/the-run"):
                state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                return {"run_id": "the-run", "state": state}
            return super().answer(method, url, body)

    server = Ending()
    server.states = ["PENDING", "RUNNING", "FAILED"]
    yield server
    server.close()


@pytest.fixture
def here(pipelines, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    wait = target.eventually
    monkeypatch.setattr(target, "eventually", partial(wait, every=0.01))
    return Target(pipelines.url, "kubeflow", False, Path(), limit_seconds=0.5)


def test_a_run_is_waited_for(here):
    assert here.wait_for_run("the-run") == "FAILED"


def test_a_run_that_does_not_end_is_given_up(here, pipelines):
    pipelines.states = ["RUNNING"]
    with pytest.raises(ClusterError, match=r"run the-run did not end within 0.5 s RUNNING"):
        here.wait_for_run("the-run")


def test_what_kubectl_says_is_told(here, tmp_path, monkeypatch):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "$@"\ncase "$*" in *nothing*) echo "not found" >&2; exit 1;; esac\n')
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert here.kubectl("get", "pods").split() == ["--namespace", "kubeflow", "get", "pods"]
    with pytest.raises(ClusterError, match="kubectl --namespace kubeflow get nothing\nnot found"):
        here.kubectl("get", "nothing")
    monkeypatch.setattr(target, "FORWARD_SECONDS", 0.5)
    refused = r"port-forward service/mlflow nothing .* does not listen within 0.5 s (.*\n)*not found"
    with pytest.raises(ClusterError, match=refused), here.forwarded("mlflow nothing", 5000):
        pass


def test_without_kubeflow_pipelines_their_half_is_left_out(here, tmp_path, monkeypatch):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "services \\"ml-pipeline-ui\\" not found" >&2; exit 1\n')
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(pytest.skip.Exception, match="no Kubeflow Pipelines"):
        conftest.ui(here)
    kubectl.write_text("#!/bin/sh\n")
    monkeypatch.setattr(conftest, "forward", lambda *way: nullcontext("the way"))
    with conftest.ui(here) as url:
        assert url == "the way"


def test_a_runs_jobs_and_pods_are_found(here, monkeypatch):
    """A pod that is being deleted still counts as running."""
    jobs = [
        {"metadata": {"name": "ours", "ownerReferences": [{"uid": "flow"}]}},
        {"metadata": {"name": "theirs", "ownerReferences": [{"uid": "another"}]}},
    ]
    pods = [
        {"metadata": {"name": "leaves", "deletionTimestamp": "2026-11-23T12:00:00Z"}, "status": {"phase": "Running"}},
        {"metadata": {"name": "runs"}, "status": {"phase": "Running"}},
    ]
    answers = {
        ("workflows.argoproj.io", "pipeline/runid=r"): [{"metadata": {"uid": "flow"}}],
        ("trainjobs.trainer.kubeflow.org", ""): jobs,
        ("pods", "pipeline/runid=r"): [
            {"metadata": {"name": "driver"}, "spec": {"initContainers": [{"name": "init"}]}},
            {"metadata": {"name": "task"}, "spec": {"initContainers": [{"name": "kfp-launcher"}, {"name": "init"}]}},
        ],
        ("pods", "jobset.sigs.k8s.io/jobset-name=ours"): pods,
    }
    monkeypatch.setattr(Target, "objects", lambda _, resource, selector="": answers[resource, selector])
    assert [job["metadata"]["name"] for job in here.train_jobs("r")] == ["ours"]
    assert here.running_job_pod("r") == "runs"
    assert [pod["metadata"]["name"] for pod in here.task_pods("r")] == ["task"]


def test_artifacts_are_found_in_the_arguments_of_the_pods():
    root = "minio://mlpipeline/v2/artifacts/fipo-training/run-1/evaluate/0f"
    titles = {"summary": "system.Markdown", "scores": "system.Metrics", "executor-logs": "system.Artifact"}
    artifacts = {
        name: {"artifacts": [{"type": {"schemaTitle": title}, "uri": f"{root}/{name}"}]}
        for name, title in titles.items()
    }
    told = json.dumps({"inputs": {"artifacts": {"dataset": {}}}, "outputs": {"artifacts": artifacts}})
    silent = json.dumps({"outputs": {"outputFile": "x"}})  # the exit handler's
    mains = [{"name": "main", "command": ["launcher", "--executor_input", text]} for text in (told, silent)]
    pods = [{"spec": {"containers": [{"name": "wait"}, main]}} for main in mains]
    assert artifact_uris(pods) == [f"{root}/summary"]


def test_an_artifact_is_asked_of_the_ui(whole):
    whole.objects["/artifacts/get"] = {"title": "a report"}
    assert b"a report" in open_artifact(whole.url, "fipo", "minio://mlpipeline/v2/artifacts/x")


def test_waiting_tells_how_long_it_took():
    left = iter([False, False, True])
    assert eventually(lambda: next(left), 10, "never", every=0.01) < 5


def test_the_workflow_runs_the_suite_on_kind():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "cluster.yaml").read_text())
    assert {"workflow_dispatch", "schedule"} == workflow[True].keys(), "YAML reads `on` as true"
    (job,) = workflow["jobs"].values()
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    order = ["kind create cluster", "pipelines/manifests", "ref=v2.3.0", "wait --for=condition=Available", "kind load"]
    places = [commands.index(words) for words in [*order, "make test-cluster"]]
    assert places == sorted(places)
    pinned = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(len(action.partition("@")[2]) == 40 or action.startswith("actions/") for action in pinned)
