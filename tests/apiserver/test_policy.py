"""k8s/base/policy.yaml as a real API server applies it: which TrainJobs a task's account may make.

Everything is a dry run on the server: admission is asked, and nothing is stored.
"""

import copy
import json

import pytest

from tests.apiserver.control_plane import Refused
from tests.apiserver.jobs import OWNER, train_job
from tests.apiserver.platform import make_namespace, moved
from tests.k8s.test_manifests import load
from tests.waiting import wait_until

ACCOUNT = "default-editor"
PATCH = ("spec", "runtimePatches", 0)
JOB = (*PATCH, "trainingRuntimeSpec", "template", "spec", "replicatedJobs", 0)
POD = (*JOB, "template", "spec", "template", "spec")


@pytest.fixture(scope="module")
def place(plane, fresh_name):
    """A namespace with the overlay gpu, once its policy is in force."""
    name = fresh_name("policy")
    plane.apply(moved(load("gpu"), name))
    make_namespace(plane, name, ACCOUNT)
    mine = plane.acting_as(name, ACCOUNT)
    # The API server takes a moment to take up a policy.
    wait_until(lambda: "fipo-" in refusal(mine, changed(job(), ("spec", "runtimeRef", "name"), "torch-distributed")))
    return name


@pytest.fixture(scope="module")
def task(plane, place):
    """The cluster as a task sees it."""
    return plane.acting_as(place, ACCOUNT)


def job(**more):
    return train_job(**more).manifest(owner=OWNER, image="ghcr.io/fipo-rl/fipo:0.2.0")


def changed(manifest, path, value):
    manifest = copy.deepcopy(manifest)
    *parents, last = path
    place = manifest
    for key in parents:
        place = place[key]
    place[last] = value
    return manifest


def refusal(cluster, manifest, *options):
    """Why it is not taken; empty when it is."""
    try:
        cluster.kubectl("create", "--dry-run=server", "--filename", "-", *options, text=json.dumps(manifest))
    except Refused as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize(
    "manifest",
    [
        job(),
        job(runtime="fipo-rollouts-0-2-0", servers=2),
        job(task={}, node_selector={}, tolerations=[], resources={}, queue=""),
    ],
    ids=["everything", "rollout servers", "nothing"],
)
def test_what_the_launcher_makes_is_taken(task, manifest):
    assert refusal(task, manifest) == ""


def env(name, source):
    return [{"name": name, "valueFrom": source}]


OTHER_SECRET = {"secretKeyRef": {"name": "mlflow", "key": "backend_store_uri"}}
REFUSED = {
    "another runtime": (("spec", "runtimeRef", "name"), "torch-distributed", "spec.runtimeRef"),
    "a runtime of the cluster's": (("spec", "runtimeRef", "kind"), "ClusterTrainingRuntime", "spec.runtimeRef"),
    "another service account": ((*POD, "serviceAccountName"), "fipo-reaper", "the service account and all else"),
    "pull secrets": ((*POD, "imagePullSecrets"), [{"name": "mlflow"}], "all else are the runtime's"),
    "a container before the others": ((*POD, "initContainers"), [{"name": "i"}], "all else are the runtime's"),
    "another user": ((*POD, "securityContext"), {"runAsUser": 0}, "all else are the runtime's"),
    "a secret as a volume": (
        (*POD, "volumes"),
        [{"name": "s", "secret": {"secretName": "mlflow"}}],
        "no volume but the claim fipo-runs",
    ),
    "a secret beside the claim": (
        (*POD, "volumes"),
        [
            {"name": "r", "persistentVolumeClaim": {"claimName": "fipo-runs"}},
            {"name": "s", "projected": {"sources": [{"secret": {"name": "mlflow"}}]}},
        ],
        "no volume but the claim fipo-runs",
    ),
    "a secret in the claim's entry": (
        (*POD, "volumes"),
        [
            {
                "name": "r",
                "persistentVolumeClaim": {"claimName": "fipo-runs"},
                "secret": {"secretName": "mlflow"},
            }
        ],
        "no volume but the claim fipo-runs",
    ),
    "a token of the service account": (
        (*POD, "volumes"),
        [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        "no volume but the claim fipo-runs",
    ),
    "the node's disk": ((*POD, "volumes"), [{"name": "h", "hostPath": {"path": "/"}}], "no volume but the claim"),
    "another claim": (
        (*POD, "volumes"),
        [{"name": "d", "persistentVolumeClaim": {"claimName": "data-postgres-0"}}],
        "no volume but the claim fipo-runs",
    ),
    "a secret in the trainer's variables": (
        ("spec", "trainer", "env"),
        env("URI", OTHER_SECRET),
        "spec.trainer.env: may take values from the secret fipo alone",
    ),
    "a secret in a container's variables": (
        (*POD, "containers"),
        [{"name": "node", "env": env("URI", OTHER_SECRET)}],
        "containers may take values from the secret fipo alone",
    ),
    "labels of the pods": (
        (*POD[:-1], "metadata"),
        {"labels": {"pipelines.kubeflow.org/v2_component": "true"}},
        "may not set labels or annotations",
    ),
    "labels of the job": ((*JOB, "template", "metadata"), {"labels": {"a": "b"}}, "may not set labels or annotations"),
    "annotations of the set": (
        (*PATCH, "trainingRuntimeSpec", "template", "metadata"),
        {"annotations": {"a": "b"}},
        "may not set labels or annotations",
    ),
    "an initializer": (
        ("spec", "initializer"),
        {"dataset": {"storageUri": "hf://a/b", "secretRef": {"name": "mlflow"}}},
        "spec.initializer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_reaches_further_is_refused(plane, place, task, case):
    path, value, said = REFUSED[case]
    manifest = changed(job(), path, value)
    assert said in refusal(task, manifest)
    # For the policy alone: the kind itself allows it, and people may.
    assert refusal(plane, manifest, "--namespace", place) == ""


def test_a_secret_among_the_rollout_servers_variables_is_refused(task):
    manifest = job(runtime="fipo-rollouts-0-2-0", servers=2)
    (server,) = [
        one
        for one in manifest["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        if one["name"] == "rollout"
    ]
    server["template"]["spec"]["template"]["spec"]["containers"][0]["env"] += env("URI", OTHER_SECRET)
    assert "containers may take values" in refusal(task, manifest)


def test_a_second_patch_is_looked_at_too(task):
    manifest = job()
    first = manifest["spec"]["runtimePatches"][0]
    second = changed({"spec": {"runtimePatches": [copy.deepcopy(first)]}}, (*POD, "serviceAccountName"), "fipo-reaper")
    manifest["spec"]["runtimePatches"].append(second["spec"]["runtimePatches"][0] | {"manager": "example.com/other"})
    assert "the service account and all else" in refusal(task, manifest)


def test_a_job_s_owner_may_change_and_nothing_that_it_is(plane, place, task):
    manifest = job(queue="")
    manifest["metadata"].pop("ownerReferences")
    task.kubectl("create", "--filename", "-", text=json.dumps(manifest))
    name = f"trainjob/{manifest['metadata']['name']}"
    try:
        adopt = {"metadata": {"ownerReferences": [OWNER]}}
        task.kubectl("patch", name, "--type=merge", "--patch", json.dumps(adopt))
        added = {"manager": "example.com/other", "trainingRuntimeSpec": {"template": {"spec": {}}}}
        more = [{"op": "add", "path": "/spec/runtimePatches/-", "value": added}]
        with pytest.raises(Refused, match="may not be changed by a service account of this namespace"):
            task.kubectl("patch", name, "--type=json", "--patch", json.dumps(more))
        plane.kubectl("--namespace", place, "patch", name, "--type=json", "--patch", json.dumps(more))
    finally:
        task.kubectl("delete", name)


def test_another_namespace_is_left_alone(plane, fresh_name):
    """Jobs of other people, of other runtimes."""
    name = fresh_name("others")
    make_namespace(plane, name, ACCOUNT)
    role = [item for item in moved(load("gpu"), name) if item["kind"] in ("Role", "RoleBinding")]
    plane.apply(role)
    other = changed(job(), ("spec", "runtimeRef", "name"), "torch-distributed")
    assert refusal(plane.acting_as(name, ACCOUNT), other) == ""
