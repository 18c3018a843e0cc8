"""What `fipo deploy` and `fipo rollback` make, against a real API server, by the account of the tasks."""

import copy
import json
from dataclasses import replace

import pytest

from fipo.config import Deploy
from fipo.errors import LaunchError
from fipo.launch.serving import ServingCluster
from fipo.release.manifests import Served
from tests.apiserver.control_plane import Refused
from tests.apiserver.platform import make_namespace, moved
from tests.k8s.test_manifests import load
from tests.waiting import wait_until

FIRST = Served("fipo", "1", "ab" * 32, "s3://fipo/runs/demo/1", "ghcr.io/fipo-rl/fipo:0.2.0", Deploy(replicas=2))
SECOND = replace(FIRST, version="2", sha256="cd" * 32, uri="s3://fipo/runs/demo/2", settings=Deploy(gpus=1))


@pytest.fixture(scope="module")
def place(plane, fresh_name):
    name = fresh_name("serving")
    plane.apply(moved(load("gpu+serving"), name))
    make_namespace(plane, name, "default-editor")
    return name


@pytest.fixture
def cluster(plane, place, as_client):
    as_client(plane.acting_as(place, "default-editor"))
    return ServingCluster(place)


def apply(cluster, served, kind):
    for manifest in served.manifests(kind):
        cluster.apply(manifest)


@pytest.mark.parametrize("kind", ["Deployment", "InferenceService"])
def test_a_version_is_served_another_and_the_first_again(cluster, kind):
    assert cluster.has_kserve()
    assert cluster.find(kind, FIRST.name) is None
    for served in (FIRST, FIRST, SECOND, FIRST):
        before = cluster.find(kind, FIRST.name)
        apply(cluster, served, kind)
        found = cluster.find(kind, FIRST.name)
        assert Served.recorded(found) == served and served.is_at(found)
        if before and served.is_at(before):
            assert found["metadata"]["generation"] == before["metadata"]["generation"], "the same is left alone"
    limits = containers(found)[0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in limits, "what is no longer named is gone"


def containers(found):
    spec = found["spec"]
    pod = spec["template"]["spec"] if found["kind"] == "Deployment" else spec["predictor"]
    return pod["containers"]


def test_another_s_change_of_the_size_is_taken_back(plane, cluster, place):
    """Whoever scales it by hand has it until the next version."""
    apply(cluster, FIRST, "Deployment")
    plane.kubectl("--namespace", place, "scale", "deployment", FIRST.name, "--replicas=5")
    apply(cluster, FIRST, "Deployment")
    assert cluster.find("Deployment", FIRST.name)["spec"]["replicas"] == 2


def test_warnings_about_what_is_served_are_read(plane, cluster, place):
    about = {"kind": "ReplicaSet", "name": f"{FIRST.name}-7d4b9c8f6d", "namespace": place, "apiVersion": "apps/v1"}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "refused", "namespace": place},
        "type": "Warning",
        "reason": "FailedCreate",
        "message": "exceeded quota: fipo",
        "lastTimestamp": "2026-11-26T12:00:00Z",
        "involvedObject": about,
    }
    plane.kubectl("create", "--filename", "-", text=json.dumps(event))
    assert cluster.warnings_about(FIRST.name, "2026-11-26T11:59:59Z") == [
        "FailedCreate: exceeded quota: fipo (ReplicaSet)"
    ]
    assert cluster.warnings_about(FIRST.name, "2026-11-26T12:00:01Z") == []


def test_without_the_component_it_is_not_allowed(plane, fresh_name, as_client):
    name = fresh_name("serving")
    plane.apply(moved(load("gpu"), name))
    make_namespace(plane, name, "default-editor")
    as_client(plane.acting_as(name, "default-editor"))
    cluster = ServingCluster(name)
    with pytest.raises(LaunchError, match="is the role from k8s/base bound"):
        apply(cluster, FIRST, "Deployment")


SECRET = [{"name": "URI", "valueFrom": {"secretKeyRef": {"name": "mlflow", "key": "backend_store_uri"}}}]
REFUSED = {
    "another account": (("serviceAccountName",), "fipo-reaper", "must run as fipo-server"),
    "its token": (("automountServiceAccountToken",), True, "without its token"),
    "a secret as a volume": (
        ("volumes",),
        [
            {"name": "shm", "secret": {"secretName": "mlflow"}},
            *({"name": n, "emptyDir": {}} for n in ("tmp", "models")),
        ],
        "no volume but an emptyDir",
    ),
    "a secret's value": (("containers", 0, "env"), SECRET, "from the secret fipo alone"),
    "a whole secret": (("containers", 0, "envFrom"), [{"secretRef": {"name": "mlflow"}}], "from the secret fipo alone"),
    "a container before": (("initContainers",), [{"name": "i", "image": "i"}], "no initContainers"),
    "pull secrets": (("imagePullSecrets",), [{"name": "mlflow"}], "no initContainers or imagePullSecrets"),
}


OTHER_CONTAINERS = {
    "model": {"modelFormat": {"name": "huggingface"}, "env": SECRET},
    "sklearn": {"envFrom": [{"secretRef": {"name": "mlflow"}}]},
    "workerSpec": {"containers": [{"name": "worker", "image": "i", "env": SECRET}]},
}
"""What KServe makes pods of besides the containers that are named."""
CASES = [(kind, *case) for kind in ("Deployment", "InferenceService") for case in REFUSED.values()]
CASES += [("InferenceService", (key,), value, "may say of its predictor") for key, value in OTHER_CONTAINERS.items()]


@pytest.mark.parametrize(("kind", "path", "value", "said"), CASES)
def test_what_reaches_further_is_refused(plane, place, kind, path, value, said):
    *_, manifest = replace(FIRST, settings=Deploy(name="other")).manifests(kind)
    task = plane.acting_as(place, "default-editor")
    create = ["--namespace", place, "create", "--dry-run=server", "--validate=ignore", "--filename", "-"]
    wait_until(
        lambda: (
            "no initContainers"
            in task.kubectl(
                *create,
                text=changed(manifest, *REFUSED["a container before"][0], [{"name": "i", "image": "i"}]),
                check=False,
            )
        )
    )
    task.kubectl(*create, text=json.dumps(manifest))
    with pytest.raises(Refused, match=said):
        task.kubectl(*create, text=changed(manifest, *path, value))


def changed(manifest, *path):
    """The manifest with another value, the last of `path`, in its pods."""
    manifest = copy.deepcopy(manifest)
    spec = manifest["spec"]
    place = spec["template"]["spec"] if manifest["kind"] == "Deployment" else spec["predictor"]
    *parents, last, value = path
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(manifest)


def test_kubeflow_s_own_services_are_left_alone(plane, place):
    """An account that starts no jobs makes what its role allows."""
    plane.kubectl("--namespace", place, "create", "serviceaccount", "viewers")
    rule = ["--verb=create", "--resource=deployments.apps"]
    plane.kubectl("--namespace", place, "create", "role", "viewers", *rule)
    plane.kubectl(
        "--namespace", place, "create", "rolebinding", "viewers", "--role=viewers", f"--serviceaccount={place}:viewers"
    )
    *_, manifest = replace(FIRST, settings=Deploy(name="viewer")).manifests("Deployment")
    viewers = plane.acting_as(place, "viewers")
    viewers.kubectl(
        "create", "--dry-run=server", "--filename", "-", text=changed(manifest, "serviceAccountName", "default")
    )
