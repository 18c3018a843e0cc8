"""How a run ended, by workflows as Argo 4.0 leaves them when the exit handler of Kubeflow's pipelines runs."""

import base64
import gzip
import json
from types import SimpleNamespace

import pytest

from fipo.launch.ending import ended_as
from fipo_kfp.components import door

STEPS = "exit-handler-1"
WORKFLOW = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "this", "uid": "this-run"}


@pytest.fixture(autouse=True)
def pod(api, monkeypatch):
    """Of the exit handler."""
    api.act_as("fipo-launcher")
    monkeypatch.setenv("KFP_POD_NAME", "finish")
    metadata = {"name": "finish", "uid": "f", "ownerReferences": [{**WORKFLOW, "controller": True}]}
    api.pods["finish"] = {"metadata": metadata, "status": {"phase": "Running"}}


def workflow(*steps, spec=None):
    """Nodes of a run: the groups around the steps, given as (display name, type, phase), and the handler that runs."""
    around = [("run-x", "Retry", "Running"), ("root", "Retry", "Running"), ("root(0)", "DAG", "Running")]
    handler = [
        (f"{STEPS}.onExit", "Retry", "Running"),
        ("finish", "Retry", "Running"),
        ("executor(0)", "Pod", "Running"),
    ]
    nodes = {
        f"run-x-{number}": {"id": f"run-x-{number}", "displayName": name, "type": kind, "phase": phase}
        for number, (name, kind, phase) in enumerate([*handler, *around, *steps])
    }
    status = {"phase": "Running", "startedAt": "2026-11-27T01:08:43Z", "finishedAt": None, "nodes": nodes}
    return {"metadata": {"name": "this", "uid": "this-run"}, "spec": spec or {"entrypoint": "run"}, "status": status}


def group(phase):
    return [(f"{STEPS}-driver", "Retry", "Succeeded"), (STEPS, "Retry", phase), (f"{STEPS}(0)", "DAG", phase)]


def pods(*phases):
    """The attempts of one task."""
    *_, last = phases
    attempts = [(f"executor({number})", "Pod", phase) for number, phase in enumerate(phases)]
    return [("configure", "Retry", last), ("configure(0)", "DAG", last), ("executor", "Retry", last), *attempts]


ENDINGS = {
    "all steps": (
        workflow(*group("Succeeded"), *pods("Succeeded"), ("condition-2", "Retry", "Succeeded")),
        "SUCCEEDED",
    ),
    "all reused": (
        workflow(*group("Succeeded"), *pods("Succeeded"), ("condition-2", "Skipped", "Skipped")),
        "SUCCEEDED",
    ),
    "a lost pod": (workflow(*group("Succeeded"), *pods("Error", "Succeeded")), "SUCCEEDED"),
    "a step failed": (workflow(*group("Failed"), *pods("Failed")), "FAILED"),
    "pods lost for good": (workflow(*group("Failed"), *pods("Error", "Error", "Error")), "FAILED"),
    "a driver failed": (workflow(*group("Error"), ("sft-driver", "Pod", "Error")), "FAILED"),
    "terminated": (workflow(*group("Failed"), *pods("Failed"), spec={"activeDeadlineSeconds": 0}), "CANCELED"),
    "a limit of time": (workflow(*group("Failed"), *pods("Failed"), spec={"activeDeadlineSeconds": 60}), "FAILED"),
    "not begun": (workflow(), ""),
    "a state of tomorrow": (workflow(*group("Hibernating")), ""),
}


@pytest.mark.parametrize(("this", "state"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("packed", [False, True], ids=["", "larger than an object may be"])
def test_the_workflow_says_how_its_steps_ended(api, this, state, packed):
    status = dict(this["status"])
    if packed:
        status["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(status.pop("nodes")).encode())).decode()
    api.workflows["this"] = {**this, "status": status}
    assert ended_as("finish", STEPS) == state


def of_kubeflow(state="RUNNING"):
    return SimpleNamespace(state=state, pipeline_task_name=STEPS)


def test_a_run_that_reused_everything_is_not_one_that_was_terminated(api):
    """Kubeflow hands over RUNNING for both."""
    api.workflows["this"] = ENDINGS["all reused"][0]
    assert door.ended_as(of_kubeflow()) == "SUCCEEDED"
    api.workflows["this"] = ENDINGS["terminated"][0]
    assert door.ended_as(of_kubeflow()) == "CANCELED"


def test_without_the_right_to_ask_kubeflow_s_word_counts(api, capsys):
    api.workflows["this"] = ENDINGS["all reused"][0]
    api.granted -= {("get", "workflows")}
    assert door.ended_as(of_kubeflow("COMPLETE")) == "COMPLETE"
    assert "cannot get workflows" in capsys.readouterr().err


def test_where_the_workflow_does_not_say_kubeflow_s_word_counts(api):
    assert door.ended_as(of_kubeflow("FAILED")) == "FAILED", "a workflow that is gone"
    api.workflows["this"] = ENDINGS["not begun"][0]
    assert door.ended_as(of_kubeflow()) == "RUNNING"
    del api.pods["finish"]["metadata"]["ownerReferences"]
    assert door.ended_as(of_kubeflow("CANCELED")) == "CANCELED", "a pod that no workflow made"


def test_a_local_run_has_no_workflow(monkeypatch):
    monkeypatch.delenv("KFP_POD_NAME")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert door.ended_as(of_kubeflow("FAILURE")) == "FAILURE"
