"""The components, each in an overlay of its own; test_manifests.py holds them to what holds for all."""

import pytest

from tests.k8s.test_manifests import COMPONENTS, K8S, build, containers, load, needs_kustomize, pod_specs

IMAGES = {"ghcr.io/fipo-rl/fipo", "ghcr.io/fipo-rl/fipo-vllm", "docker.io/library/postgres", "docker.io/rclone/rclone"}
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


def test_coscheduling_is_for_those_who_have_it():
    for runtime, _ in trainers(load("gpu+coscheduling")):
        assert runtime["spec"]["podGroupPolicy"] == {"coscheduling": {"scheduleTimeoutSeconds": 600}}
    for overlay in ("gpu", "local", "prod"):
        for runtime, _ in trainers(load(overlay)):
            assert "podGroupPolicy" not in runtime["spec"], "no matches for kind PodGroup"


def test_rdma_is_for_every_trainer():
    found = list(trainers(load("gpu+rdma")))
    assert len(found) == 2
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


@pytest.mark.parametrize(("overlay", "components"), [("local", ()), ("prod", ()), ("gpu", ("pre-pull",))])
def test_an_overlay_pins_every_image_by_digest(overlay, components):
    images = [{"name": name, "newName": f"registry.example.com/{name}", "digest": DIGEST} for name in IMAGES]
    for where, container in containers(build(overlay, components, images=images)):
        assert container["image"].startswith("registry.example.com/"), where
        assert container["image"].endswith(f"@{DIGEST}"), where
