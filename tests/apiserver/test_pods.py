"""Pods as a real admission chain judges them: Pod Security "restricted", the limits and the quota of the namespace.

Pods are asked about in dry runs on the server.
"""

import json
import re

import pytest
import yaml

from fipo.config import Deploy
from fipo.release.manifests import Served
from fipo_kfp.pipelines.package import COMPILED, PIPELINES
from tests.apiserver.control_plane import Refused, stream
from tests.apiserver.jobs import train_job
from tests.apiserver.platform import make_namespace, moved
from tests.apiserver.pods import job_pods, pod, task_pod
from tests.k8s.test_manifests import COMPOSED, K8S, OVERLAYS, load, pod_specs

SERVED = Served(
    "fipo", "3", "ab" * 32, "s3://fipo/runs/demo/train/weights", "ghcr.io/fipo-rl/fipo:0.2.0", Deploy(gpus=1)
)


@pytest.fixture(scope="module")
def place(plane, fresh_name):
    """A namespace that enforces "restricted", with the overlay gpu and what serving needs."""
    name = fresh_name("pods")
    plane.apply(moved(load("gpu+serving"), name))
    make_namespace(plane, name, "default-editor")
    return name


def refusal(plane, place, *pods):
    """Why they are not taken; empty when they are, warnings too."""
    said = plane.kubectl(
        "--namespace", place, "create", "--dry-run=server", "--filename", "-", text=stream(pods), check=False
    )
    return "\n".join(line for line in said.splitlines() if not line.endswith("created (server dry run)"))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_task_of_the_compiled_packages_is_taken(plane, place, pipeline):
    package, platform = yaml.safe_load_all((COMPILED / f"{pipeline}.yaml").read_text())
    own = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    pods = [
        task_pod(label.removeprefix("exec-"), executor, own.get(label, {}), "default-editor")
        for label, executor in package["deploymentSpec"]["executors"].items()
    ]
    assert len(pods) >= 4
    assert refusal(plane, place, *pods) == ""


def test_a_task_that_says_nothing_of_itself_is_refused(plane, place):
    """The wall that a real Kubeflow ran into: the same words are expected of the checks without a cluster."""
    executor = {"container": {"image": "i", "command": [], "resources": {}}}
    silent = task_pod("silent", executor, {}, "default-editor")
    del silent["spec"]["containers"][1]["resources"]
    assert 'violates PodSecurity "restricted:latest": runAsNonRoot != true' in refusal(plane, place, silent)


@pytest.mark.parametrize(("runtime", "servers"), [("fipo-0-2-0", 0), ("fipo-rollouts-0-2-0", 2)])
def test_the_pods_of_a_training_job_are_taken(plane, place, runtime, servers):
    made = plane.get("--namespace", place, "trainingruntime", runtime)
    assert refusal(plane, place, *job_pods(made, train_job(runtime, servers=servers))) == ""


@pytest.mark.parametrize("overlay", [*OVERLAYS, *COMPOSED])
def test_the_pods_of_every_manifest_are_taken(plane, place, overlay):
    """`local` too, whose namespace demands less."""
    pods = [
        pod(f"p-{number}", {**spec, "restartPolicy": "Always"} if "Training" not in where else spec, labels)
        for number, (where, labels, spec) in enumerate(pod_specs(load(overlay)))
    ]
    for one in pods:  # a StatefulSet adds the volumes that it claims
        known = {volume["name"] for volume in one["spec"].get("volumes", [])}
        mounted = {
            mount["name"] for container in one["spec"]["containers"] for mount in container.get("volumeMounts", [])
        }
        one["spec"].setdefault("volumes", []).extend({"name": name, "emptyDir": {}} for name in mounted - known)
    assert pods and refusal(plane, place, *pods) == ""


@pytest.mark.parametrize("kind", ["Deployment", "InferenceService"])
def test_the_pods_that_serve_are_taken(plane, place, kind):
    *_, manifest = SERVED.manifests(kind)
    spec = manifest["spec"]["template"]["spec"] if kind == "Deployment" else dict(manifest["spec"]["predictor"])
    for key in ("labels", "minReplicas", "maxReplicas", "deploymentStrategy"):
        spec.pop(key, None)
    assert refusal(plane, place, pod("server", spec, SERVED.selector)) == ""


def test_kubeflows_helpers_get_what_the_limit_range_says(plane, place):
    helper = pod(
        "helper",
        {
            "containers": [
                {
                    "name": "h",
                    "image": "i",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsNonRoot": True,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }
            ]
        },
    )
    made = json.loads(
        plane.kubectl(
            "--namespace",
            place,
            "create",
            "--dry-run=server",
            "--output=json",
            "--filename",
            "-",
            text=stream([helper]),
        )
    )
    (container,) = made["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }


def test_the_quota_refuses_what_is_too_much_in_words_that_have_a_remedy(plane, place):
    """Its controller counts what is used; here a hand writes it, to the last GPU."""
    from fipo.launch.remedies import remedy

    quota = plane.get("--namespace", place, "resourcequota", "fipo")
    used = dict.fromkeys(quota["spec"]["hard"], "0") | {"requests.nvidia.com/gpu": "140"}
    status = {"status": {"hard": quota["spec"]["hard"], "used": used}}
    patch = ["--namespace", place, "patch", "resourcequota", "fipo", "--subresource=status", "--type=merge", "--patch"]
    plane.kubectl(*patch, json.dumps(status))
    try:
        gpus = {"limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "8"}}
        runtime = plane.get("--namespace", place, "trainingruntime", "fipo-0-2-0")
        (node,) = job_pods(runtime, train_job(resources={**gpus, "requests": gpus["limits"]}))
        said = refusal(plane, place, node)
        assert "exceeded quota: fipo, requested: requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=140" in said
        assert "kubectl describe resourcequota" in remedy(said, place)
    finally:
        status["status"]["used"] = dict.fromkeys(quota["spec"]["hard"], "0")
        plane.kubectl(*patch, json.dumps(status))


def test_refused_is_an_error(plane, place):
    """The helper above would not miss it."""
    with pytest.raises(Refused, match="PodSecurity"):
        plane.apply(
            [pod("bad", {"hostNetwork": True, "containers": [{"name": "c", "image": "i"}]})], "--namespace", place
        )


def test_the_pod_that_tidies_the_volume_is_taken(plane, place):
    page = (K8S.parent / "docs" / "deploy.md").read_text()
    (text,) = re.findall(r"<<'POD'\n(.*?)^POD$", page, re.MULTILINE | re.DOTALL)
    assert refusal(plane, place, yaml.safe_load(text)) == ""
