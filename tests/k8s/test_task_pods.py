"""The pods that Kubeflow Pipelines makes of the compiled packages, as a real one was seen to make them.

What a task says of itself is laid over a pod of Kubeflow's own (see `pod`); whether a namespace takes the result is for
Pod Security to say, https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted.
"""

import re
from pathlib import Path

import pytest
import yaml

from fipo.config import Deploy
from fipo.release.manifests import Served
from fipo.release.registry import RegisteredModel
from fipo_kfp.pipelines.package import COMPILED, PIPELINES
from fipo_kfp.pipelines.tasks import USER
from tests.present import present

RENDERED = Path(__file__).parents[2] / "k8s" / "rendered"
SCRATCH = ("/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config")
"""Where Kubeflow mounts empty folders."""
UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What Kubeflow sets on every container; it says nothing of the user."""


def pod(executor, platform):
    """The pod of one task: `executor` from the pipeline, `platform` what kfp.kubernetes adds."""
    container, context = executor["container"], platform.get("securityContext", {})
    asked = container["resources"]
    main = {
        "name": "main",
        "image": container["image"],
        "securityContext": {**UNPRIVILEGED, **{key: _number(value) for key, value in context.items()}},
        "resources": {
            "requests": {"cpu": asked.get("resourceCpuRequest"), "memory": asked.get("resourceMemoryRequest")},
            "limits": {"cpu": asked.get("resourceCpuLimit"), "memory": asked.get("resourceMemoryLimit")},
        },
        "volumeMounts": [{"mountPath": path} for path in SCRATCH]
        + [{"mountPath": mount["mountPath"]} for mount in platform.get("pvcMount", [])],
    }
    return {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}, "containers": [main]}


def _number(value):
    return int(value) if isinstance(value, str) and value.isdigit() else value


def violations(spec):
    """What the restricted standard finds wrong with a pod, in the words of the admission controller."""
    of_pod = spec["securityContext"]
    for container in spec["containers"]:
        context = container["securityContext"]
        if context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
            yield f"runAsNonRoot != true ({container['name']})"
        if context.get("runAsUser", of_pod.get("runAsUser")) == 0:
            yield f"runAsUser=0 ({container['name']})"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"allowPrivilegeEscalation != false ({container['name']})"
        if context.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"unrestricted capabilities ({container['name']})"
        if context.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type") != "RuntimeDefault":
            yield f"seccompProfile ({container['name']})"


@pytest.fixture(params=PIPELINES)
def pods(request):
    """The pods of a pipeline's tasks, by executor."""
    pipeline, platform = yaml.safe_load_all((COMPILED / f"{request.param}.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        label: pod(executor, executors.get(label, {}))
        for label, executor in pipeline["deploymentSpec"]["executors"].items()
    }


def test_a_restricted_namespace_takes_every_task(pods):
    assert {label: list(violations(spec)) for label, spec in pods.items()} == {label: [] for label in pods}


def test_kubeflow_alone_would_be_refused():
    """As was seen: without a word from the task, nobody says that it is not root."""
    executor = {"container": {"image": "i", "resources": {}}}
    assert list(violations(pod(executor, {}))) == ["runAsNonRoot != true (main)"]


def test_tasks_and_the_pods_of_their_jobs_are_one_user(pods):
    """They share files on the volume."""
    for label, spec in pods.items():
        context = spec["containers"][0]["securityContext"]
        assert context["runAsUser"] == context["runAsGroup"] == USER, label
    runtimes = [item for item in rendered("gpu") if item["kind"] == "TrainingRuntime"]
    for runtime in runtimes:
        for job in runtime["spec"]["template"]["spec"]["replicatedJobs"]:
            assert job["template"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == USER


@pytest.mark.parametrize("package", PIPELINES)
def test_who_has_an_identity_of_azure_is_given_its_token(package):
    """Azure's webhook looks at pods with this label alone; k8s/components/identity-aks puts it on the others."""
    pipeline, platform = yaml.safe_load_all((COMPILED / f"{package}.yaml").read_text())
    own = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for label in pipeline["deploymentSpec"]["executors"]:
        assert own[label]["podMetadata"]["labels"] == {"azure.workload.identity/use": "true"}, label
    for kind in ("Deployment", "InferenceService"):
        model = RegisteredModel("sums", "3", "s3://fipo/model", "ab" * 32, (), {}, {})
        spec = Served.of(model, Deploy(), "image").manifests(kind)[-1]["spec"]
        labels = spec["template"]["metadata"]["labels"] if kind == "Deployment" else spec["predictor"]["labels"]
        assert labels["azure.workload.identity/use"] == "true", kind


def test_a_small_cluster_has_room(pods):
    """On a machine with two CPUs most of one is taken by Kubeflow itself; tasks run one after the other."""
    for label, spec in pods.items():
        resources = spec["containers"][0]["resources"]
        assert all(resources["requests"].values()) and all(resources["limits"].values()), label
        assert int(present(re.fullmatch(r"(\d+)m", resources["requests"]["cpu"]))[1]) <= 250, label


def rendered(overlay):
    return yaml.safe_load_all((RENDERED / f"{overlay}.yaml").read_text())
