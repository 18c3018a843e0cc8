"""Every overlay and component, as kustomize builds it, against schemas, Pod Security and what the code calls."""

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

import fipo
from fipo.config import load_config
from fipo.errors import PERMANENT
from fipo.launch.agent import SAVE_SECONDS
from fipo_kfp.pipelines.tasks import CONFIG
from tests.k8s.immutable import kept, rendered

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
COMPOSED = [f"gpu+{component}" for component in COMPONENTS]
CUSTOM = {"TrainingRuntime", "ExternalSecret"}
BUILT_IN = {"admissionregistration.k8s.io/v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1"}
BUILT_IN |= {"rbac.authorization.k8s.io/v1"}
BUILT_IN |= {"scheduling.k8s.io/v1", "v1"}
KUBERNETES = "1.34"
CLUSTER_WIDE = {"Namespace", "PriorityClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
KUSTOMIZE = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
needs_kustomize = pytest.mark.skipif(not shutil.which(KUSTOMIZE[0]), reason="neither kubectl nor kustomize")


@functools.cache
def load(overlay):
    """What is rendered of an overlay, or of `overlay+component`."""
    name, *components = overlay.split("+")
    if components:
        return build(name, components)
    return list(yaml.safe_load_all((K8S / "rendered" / f"{overlay}.yaml").read_text()))


def build(overlay, components=(), **more):
    """An overlay of somebody's own: one of ours, components, and whatever else a kustomization may say."""
    with tempfile.TemporaryDirectory() as folder:
        ours = os.path.relpath(K8S, Path(folder).resolve())
        kustomization = {
            "namespace": "kubeflow" if overlay == "local" else "fipo",
            "resources": [f"{ours}/overlays/{overlay}"],
            "components": [f"{ours}/components/{component}" for component in components],
            **more,
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        built = subprocess.run([*KUSTOMIZE, folder], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(built.stdout))


@pytest.fixture(params=[*OVERLAYS, *(pytest.param(name, marks=needs_kustomize) for name in COMPOSED)])
def manifests(request):
    return load(request.param)


def pod_specs(manifests):
    """Every pod template: where, its labels, its spec."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Deployment" | "StatefulSet" | "DaemonSet":
                templates = [spec["template"]]
            case "TrainingRuntime":
                jobs = spec["template"]["spec"]["replicatedJobs"]
                templates = [job["template"]["spec"]["template"] for job in jobs]
            case _:
                assert "template" not in spec, f"the pods of a {manifest['kind']} are not looked at"
                templates = []
        for template in templates:
            yield f"{manifest['kind']} {manifest['metadata']['name']}", template["metadata"]["labels"], template["spec"]


def containers(manifests):
    for where, _, spec in pod_specs(manifests):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield f"{where}: {container['name']}", container


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rendered_manifests_are_current(overlay):
    command = [*KUSTOMIZE, str(K8S / "overlays" / overlay)]
    built = subprocess.run(command, check=True, capture_output=True, text=True)
    assert list(yaml.safe_load_all(built.stdout)) == load(overlay), "run: make -C k8s"


def test_every_manifest_obeys_its_schema(manifests, check):
    for manifest in manifests:
        if manifest["kind"] in CUSTOM:
            check(manifest)
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_everything_is_in_one_namespace(manifests):
    (namespace,) = {item["metadata"]["namespace"] for item in manifests if item["kind"] not in CLUSTER_WIDE}
    for manifest in manifests:
        for subject in manifest.get("subjects", []):
            assert subject["namespace"] == namespace, manifest["metadata"]["name"]


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_names_another_namespace_binds_its_accounts(overlay):
    for manifest in build(overlay, ("serving",), namespace="team-a"):
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        assert manifest["metadata"].get("namespace", "team-a") == "team-a", where
        assert {subject["namespace"] for subject in manifest.get("subjects", [])} <= {"team-a"}, where


def test_everything_carries_the_label_by_which_it_is_removed(manifests):
    """See docs/uninstall.md; an overlay does not label what a component brings, so that does it itself."""
    for item in manifests:
        labels = item["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/part-of") == "fipo", f"{item['kind']} {item['metadata']['name']}"


def test_the_page_on_uninstalling_names_every_kind(manifests):
    commands = re.findall(r"^```sh\n(.*?)^```", (K8S.parent / "docs" / "uninstall.md").read_text(), re.M | re.DOTALL)[1]
    named = set(re.findall(r"[a-z]+", commands))
    for kind in {item["kind"].lower() for item in manifests} - {"namespace"}:
        assert {f"{kind}s", f"{kind}es", f"{kind.removesuffix('y')}ies"} & named, kind


def test_pods_obey_the_restricted_standard(manifests):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, field by field."""
    allowed_volumes = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for where, _, spec in pod_specs(manifests):
        for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
            assert not spec.get(field), f"{where}: {field}"
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, where
        assert context["runAsUser"] > 0, where
        assert context["seccompProfile"]["type"] == "RuntimeDefault", where
        assert not context.get("sysctls"), where
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= allowed_volumes, f"{where}: {volume['name']}"
    for where, container in containers(manifests):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
        assert not context.get("privileged"), where
        assert context.get("runAsNonRoot", True) and context.get("runAsUser", 1) > 0, where
        assert all("hostPort" not in port for port in container.get("ports", [])), where


def test_containers_have_a_read_only_root_and_a_place_to_write(manifests):
    for where, container in containers(manifests):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, where
        if where.startswith("DaemonSet"):  # it sleeps
            continue
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, where


def test_requests_and_limits_everywhere(manifests):
    for where, container in containers(manifests):
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), f"{where}: {kind}"
    for where, _, spec in pod_specs(manifests):
        for volume in spec.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"].get("sizeLimit"), f"{where}: {volume['name']}"


def test_images_are_pinned(manifests):
    for where, container in containers(manifests):
        registry, _, rest = container["image"].partition("/")
        assert "." in registry, f"{where}: {container['image']} names no registry"
        assert ":" in rest and not rest.endswith(":latest"), f"{where}: {container['image']}"


def test_only_those_who_ask_the_api_get_a_token(manifests):
    asking = {where for where, _, spec in pod_specs(manifests) if spec["automountServiceAccountToken"]}
    assert asking == {"Deployment fipo-reaper"}


def test_pods_join_no_service_mesh(manifests):
    """Where a Kubeflow profile injects Istio's proxy, a job would not end and NCCL not connect."""
    ours = [(where, labels) for where, labels, _ in pod_specs(manifests) if not where.startswith("StatefulSet")]
    assert ours
    for where, labels in ours:
        assert labels["sidecar.istio.io/inject"] == "false", where


def test_no_secrets_in_the_tree(manifests):
    assert not [item for item in manifests if item["kind"] == "Secret"]
    for where, container in containers(manifests):
        for variable in container.get("env", []):
            secret = any(
                word in variable["name"] for word in ("SECRET", "PASSWORD", "TOKEN", "STORE_URI", "ACCESS_KEY")
            )
            assert not (secret and "value" in variable), f"{where}: {variable['name']}"


@pytest.mark.parametrize("overlay", ["gpu", "prod"])
def test_the_namespace_is_closed(overlay):
    manifests = load(overlay)
    (namespace,) = [item for item in manifests if item["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    policies = {item["metadata"]["name"]: item["spec"] for item in manifests if item["kind"] == "NetworkPolicy"}
    assert policies["fipo-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_locally_the_network_of_kubeflows_pods_is_left_alone():
    for item in load("local"):
        assert item["kind"] not in {"Namespace", "ResourceQuota", "LimitRange"}
        if item["kind"] == "NetworkPolicy":
            assert item["spec"]["podSelector"], item["metadata"]["name"]


def test_every_pod_has_the_network_it_needs(manifests):
    """Each pod is selected by a policy of its own besides the one for everybody."""
    policies = [item["spec"]["podSelector"].get("matchLabels") for item in manifests if item["kind"] == "NetworkPolicy"]
    own = [labels for labels in policies if labels and labels != {"app.kubernetes.io/part-of": "fipo"}]
    for where, labels, _ in pod_specs(manifests):
        if where.startswith("DaemonSet"):  # it sleeps
            continue
        assert any(selector.items() <= labels.items() for selector in own), where


def test_a_job_is_started_again_unless_that_cannot_help(manifests):
    for runtime in (item for item in manifests if item["kind"] == "TrainingRuntime"):
        (node,) = [job for job in runtime["spec"]["template"]["spec"]["replicatedJobs"] if job["name"] == "node"]
        (rule,) = node["template"]["spec"]["podFailurePolicy"]["rules"]
        assert rule["action"] == "FailJob"
        assert set(rule["onExitCodes"]["values"]) == PERMANENT
        assert runtime["spec"]["template"]["spec"]["failurePolicy"]["maxRestarts"] > 0
        assert node["template"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > SAVE_SECONDS


def test_the_config_map_has_what_tasks_and_mlflow_read(manifests):
    (data,) = [item["data"] for item in manifests if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", "fipo")]
    assert data.keys() == CONFIG.keys()
    for _, container in containers(manifests):
        for variable in container.get("env", []):
            key = variable.get("valueFrom", {}).get("configMapKeyRef", {"key": "settings"})["key"]
            assert key in data, variable["name"]


def test_the_settings_name_the_runtimes_of_this_version(manifests):
    """Jobs that run keep the runtime of the version that started them."""
    (data,) = [item["data"] for item in manifests if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", "fipo")]
    settings = load_config("demo", data["settings"].split()).trainjob
    runtimes = {item["metadata"]["name"] for item in manifests if item["kind"] == "TrainingRuntime"}
    version = fipo.__version__.replace(".", "-")
    named = {settings.runtime, settings.rollout_runtime, settings.vllm_runtime}
    assert named == {f"fipo-{version}", f"fipo-rollouts-{version}", f"fipo-vllm-{version}"}
    assert runtimes == (named if len(runtimes) > 1 else {settings.runtime})


def test_what_cannot_be_changed_is_not_changed():
    """`kubectl apply` of a new version would fail with "field is immutable"."""
    before, now = kept(), rendered()
    for name in now.keys() & before.keys():
        assert now[name] == before[name], (
            f"{name}: a cluster that has it refuses the change. Give it another name (a runtime: nameSuffix in "
            "k8s/base/runtime and k8s/overlays/gpu/rollouts, and the settings that name it); only if no release has "
            "had it, take the new value into tests/k8s/immutable.yaml"
        )
    assert now.keys() <= before.keys(), f"run: python -m tests.k8s.immutable  # {sorted(now.keys() - before.keys())}"


@pytest.mark.parametrize(
    ("overlay", "presupposed"),
    [
        ("local", {"trainer.kubeflow.org"}),
        ("gpu", {"trainer.kubeflow.org"}),
        ("prod", {"trainer.kubeflow.org", "external-secrets.io"}),
    ],
)
def test_what_an_overlay_presupposes_is_known(overlay, presupposed):
    """Where a custom resource is missing, nothing of what needs it is made, without a word from whoever waits."""
    assert overlay in OVERLAYS
    needed = {item["apiVersion"] for item in load(overlay)} - BUILT_IN
    groups = {"coscheduling": "scheduling.x-k8s.io", "volcano": "scheduling.volcano.sh"}
    for item in load(overlay):
        needed |= {groups[policy] for policy in item.get("spec", {}).get("podGroupPolicy", {})}
    assert {name.partition("/")[0] for name in needed} == presupposed


def test_patches_are_files_and_hit_what_they_name():
    """A patch by position hits another container when somebody puts one before it; where it must, it looks first."""
    for path in K8S.rglob("kustomization.yaml"):
        for patch in yaml.safe_load(path.read_text()).get("patches", []):
            assert patch.keys() <= {"path", "target"}, f"{path}: a patch is a file"
            operations = yaml.safe_load_all((path.parent / patch["path"]).read_text())
            for operation in [one for document in operations if isinstance(document, list) for one in document]:
                for place in re.finditer(r"/(?:replicatedJobs|containers|volumes)/\d+(?=/)", operation["path"]):
                    named = operation["path"][: place.end()] + "/name"
                    looked = (path.parent / patch["path"]).read_text()
                    assert f"- op: test\n  path: {named}\n" in looked, f"{patch['path']}: {operation['path']}"
