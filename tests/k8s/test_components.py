"""The components, each in an overlay of its own; test_manifests.py holds them to what holds for all."""

import re

import pytest
import yaml

import fipo
from tests.k8s.test_manifests import COMPONENTS, K8S, OVERLAYS, build, containers, load, needs_kustomize, pod_specs

OURS = "ghcr.io/fipo-rl/"
IMAGES = {*(f"{OURS}{name}" for name in ("fipo", "fipo-cuda", "fipo-vllm"))}
IMAGES |= {"docker.io/library/postgres", "docker.io/rclone/rclone"}
DIGEST = "sha256:" + "0" * 64
pytestmark = needs_kustomize


def trainers(manifests):
    for item in manifests:
        if item["kind"] == "TrainingRuntime":
            for job in item["spec"]["template"]["spec"]["replicatedJobs"]:
                if job["name"] == "node":
                    yield item, job["template"]["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_says_what_it_is_for(component):
    text = (K8S / "components" / component / "kustomization.yaml").read_text()
    assert text.startswith("# ") and "kind: Component" in text


@pytest.mark.parametrize("cloud", ["eks", "gke", "aks"])
def test_their_order_changes_nothing(cloud):
    named = ["rdma", "pull-secret", "pre-pull", "serving", f"identity-{cloud}"]
    one, other = (in_order(build("gpu", components)) for components in (named, named[::-1]))
    assert one == other


def in_order(value):
    """With every list sorted."""
    if isinstance(value, dict):
        return {key: in_order(child) for key, child in value.items()}
    return sorted(map(in_order, value), key=str) if isinstance(value, list) else value


def test_coscheduling_is_for_those_who_have_it():
    for runtime, _ in trainers(load("gpu+coscheduling")):
        assert runtime["spec"]["podGroupPolicy"] == {"coscheduling": {"scheduleTimeoutSeconds": 600}}
    for overlay in ("gpu", "local", "prod"):
        for runtime, _ in trainers(load(overlay)):
            assert "podGroupPolicy" not in runtime["spec"], "no matches for kind PodGroup"


def test_rdma_is_for_every_trainer():
    found = list(trainers(load("gpu+rdma")))
    assert len(found) == 3
    for _, container in found:
        for kind in ("requests", "limits"):
            assert container["resources"][kind]["rdma/rdma_shared_device_a"] == "1"
            assert container["resources"][kind]["hugepages-2Mi"] == "1Gi"
        assert "NCCL_IB_HCA" in {variable["name"] for variable in container["env"]}


def test_the_pull_secret_reaches_every_pod():
    manifests = load("gpu+pull-secret")
    accounts = {
        item["metadata"]["name"]: item.get("imagePullSecrets") for item in manifests if item["kind"] == "ServiceAccount"
    }
    for where, _, spec in pod_specs(manifests):
        assert accounts[spec["serviceAccountName"]] == [{"name": "fipo-registry"}], where


def test_the_images_of_jobs_are_pulled_before_them():
    manifests = load("gpu+pre-pull")
    held, used = (
        {container["image"] for where, container in containers(manifests) if where.startswith(kind)}
        for kind in ("DaemonSet", "TrainingRuntime")
    )
    assert held == used


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_runs_the_image_that_the_pages_say(overlay):
    version = fipo.__version__
    plain = f"TrainingRuntime fipo-{version.replace('.', '-')}: "
    trainer = "fipo" if overlay == "local" else "fipo-cuda"
    for where, container in containers(load(overlay)):
        others = "fipo-vllm" if where.startswith("TrainingRuntime") else "fipo"
        if not container["image"].startswith("docker.io/"):
            assert container["image"] == f"{OURS}{trainer if where.startswith(plain) else others}:{version}", where


@pytest.mark.parametrize("page", ["deploy.md", "images.md"])
def test_the_documented_overlay_gives_each_pod_your_copy_of_its_image(page):
    blocks = re.findall(r"^```yaml\n(.*?)^```", (K8S.parent / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    (images,) = [found["images"] for block in blocks if "images" in (found := yaml.safe_load(block))]
    assert len({one["digest"] for one in images}) == len(images), "each has a digest of its own"
    digests = {one["name"].removeprefix(OURS): one["digest"] for one in images}
    shipped, yours = (dict(containers(build("prod", ("pre-pull",), **more))) for more in ({}, {"images": images}))
    for where, container in shipped.items():
        name = container["image"].removeprefix(OURS).partition(":")[0]
        assert yours[where]["image"] == f"registry.example.com/{name}@{digests[name]}", where


@pytest.mark.parametrize(("overlay", "components"), [("local", ()), ("prod", ()), ("gpu", ("pre-pull",))])
def test_an_overlay_pins_every_image_by_digest(overlay, components):
    images = [{"name": name, "newName": f"registry.example.com/{name}", "digest": DIGEST} for name in IMAGES]
    for where, container in containers(build(overlay, components, images=images)):
        assert container["image"].startswith("registry.example.com/"), where
        assert container["image"].endswith(f"@{DIGEST}"), where


@pytest.mark.parametrize(
    ("cloud", "annotation"),
    [
        ("eks", "eks.amazonaws.com/role-arn"),
        ("gke", "iam.gke.io/gcp-service-account"),
        ("aks", "azure.workload.identity/client-id"),
    ],
)
def test_a_cloud_s_identity_is_for_those_who_read_and_write_the_store(cloud, annotation):
    manifests = load(f"gpu+serving+identity-{cloud}")
    having = {
        item["metadata"]["name"]
        for item in manifests
        if item["kind"] == "ServiceAccount" and annotation in item["metadata"].get("annotations", {})
    }
    assert having == {"fipo-trainer", "fipo-mlflow", "fipo-server"}, "the reaper asks the API server alone"
    label = {"eks": None, "gke": None, "aks": "azure.workload.identity/use"}[cloud]
    if label:  # Azure's webhook looks at the pods; servers of vLLM read from the volume
        asking = {where for where, labels, _ in pod_specs(manifests) if labels.get(label) == "true"}
        assert {where.split()[0] for where in asking} == {"Deployment", "TrainingRuntime"}


@pytest.mark.parametrize("overlay", ["gpu", "local", "prod"])
def test_mlflow_starts_without_keys_of_the_store(overlay):
    """Where the pod has an identity of its own, the secret has none."""
    (server,) = [container for where, container in containers(load(overlay)) if where == "Deployment mlflow: mlflow"]
    sources = {
        one["name"]: one["valueFrom"]["secretKeyRef"]
        for one in server["env"]
        if one["name"].startswith("AWS_") and "secretKeyRef" in one.get("valueFrom", {})
    }
    assert sources.keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert all(source.get("optional") is True for source in sources.values())
