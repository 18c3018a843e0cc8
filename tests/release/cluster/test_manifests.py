"""What is asked of the cluster, against the published schemas, Pod Security and the manifests beside it."""

import copy

import jsonschema
import kubernetes_validate
import pytest

from fipo.config import Deploy, load_config
from fipo.errors import ConfigError
from fipo.release.manifests import CONFIG, CONFIG_MAP, SECRET, SECRETS, Served, kubernetes_name
from fipo.release.registry import RegisteredModel
from fipo_kfp.pipelines import tasks
from tests.present import present

from .conftest import check_object, pod_of

MODEL = RegisteredModel("sums", "3", "s3://fipo/run/model", "ab" * 32, (), {}, {})
KINDS = ["Deployment", "InferenceService"]


def built(kind, **settings):
    manifests = Served.of(MODEL, Deploy(**settings), "ghcr.io/fipo-rl/fipo:1").manifests(kind)
    for manifest in manifests:
        check_object(manifest)
    return manifests[-1]


FULL = {
    "name": "mine", "engine": "vllm", "replicas": 2, "gpus": 4, "cpus": 16, "memory": "128Gi",
    "node_selector": {"gpu": "h200"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, FULL], ids=["defaults", "everything"])
def test_every_object_obeys_its_schema(kind, settings):
    assert built(kind, **settings)["kind"] == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_check_can_fail(kind):
    manifest = copy.deepcopy(built(kind))
    pod_of(manifest)[1]["containers"][0]["gpus"] = 1
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check_object(manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_pods_obey_the_restricted_standard(kind):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, field by field."""
    _, pod = pod_of(built(kind))
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert {key for volume in pod["volumes"] for key in volume} == {"name", "emptyDir"}
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False and context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
    assert {"/tmp", "/models"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    assert all("hostPort" not in port for port in container["ports"])
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"])
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("fipo-server", False)


@pytest.mark.parametrize("kind", KINDS)
def test_each_setting_reaches_the_pods(kind):
    manifest = built(kind, **FULL)
    _, pod = pod_of(manifest)
    (container,) = pod["containers"]
    assert manifest["metadata"]["name"] == "mine"
    assert container["command"][container["command"].index("--engine") + 1] == "vllm"
    assert container["resources"] == {
        "requests": {"cpu": "16", "memory": "128Gi"},
        "limits": {"cpu": "16", "memory": "128Gi", "nvidia.com/gpu": "4"},
    }
    assert (pod["nodeSelector"], pod["tolerations"]) == (FULL["node_selector"], FULL["tolerations"])
    replicas = manifest["spec"]["replicas"] if kind == "Deployment" else pod["minReplicas"]
    assert replicas == 2
    patient = pod_of(built(kind, patience_seconds=600))[1]["containers"][0]["startupProbe"]
    assert patient["periodSeconds"] * patient["failureThreshold"] == 600


@pytest.mark.parametrize("kind", KINDS)
def test_the_version_before_stays_until_the_new_one_is_ready(kind):
    spec = built(kind)["spec"]
    strategy = spec["strategy"] if kind == "Deployment" else spec["predictor"]["deploymentStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


@pytest.mark.parametrize("kind", KINDS)
def test_people_read_on_the_object_what_is_served(kind):
    annotations = built(kind)["metadata"]["annotations"]
    assert annotations["fipo.dev/model"] == "sums"
    assert annotations["fipo.dev/version"] == "3"
    assert annotations["fipo.dev/sha256"] == "ab" * 32


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_makes_the_same_objects_again(kind):
    manifest = built(kind, **FULL)
    again = present(Served.recorded(manifest))
    assert again.manifests(kind)[-1] == manifest
    other = again.at(RegisteredModel("sums", "2", "s3://fipo/old/model", "cd" * 32, (), {}, {}))
    assert f"s3://fipo/old/model@sha256:{'cd' * 32}" in pod_of(other.manifests(kind)[-1])[1]["containers"][0]["command"]
    assert other.revision != again.revision
    assert Served.recorded({"metadata": {}}) is None


def test_no_secret_is_in_a_manifest_and_names_are_those_of_the_namespace():
    _, pod = pod_of(built("Deployment"))
    sources = [one["valueFrom"] for one in pod["containers"][0]["env"] if "valueFrom" in one]
    assert {next(iter(one.values()))["name"] for one in sources} == {CONFIG_MAP, SECRET} == {"fipo"}
    assert tasks.NAME == CONFIG_MAP == SECRET
    assert CONFIG.items() <= {variable: key for key, variable in tasks.CONFIG.items()}.items()
    assert not [one for one in pod["containers"][0]["env"] if one["name"] in SECRETS and "value" in one]


@pytest.mark.parametrize(
    ("model", "name"),
    [("fipo", "fipo"), ("fipo-7b.v2_math", "fipo-7b-v2-math"), ("7b", "fipo-7b"), ("x" * 63, "x" * 50)],
)
def test_names_are_those_that_services_may_have(model, name):
    assert kubernetes_name(model) == name


def test_impossible_names_are_refused():
    with pytest.raises(ConfigError, match=r"deploy\.name"):
        load_config("demo", ["deploy.name=7B_model"])
