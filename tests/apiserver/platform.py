"""What a cluster with Kubeflow has besides: its kinds, without the controllers that work on them.

The kinds are made of the published schemas in tests/k8s/schemas; where `FIPO_TEST_CRDS` names a folder with whole
CustomResourceDefinitions, these take their places.
"""

import copy
import json
import os
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.control_plane import ControlPlane, Manifest
from tests.k8s.conftest import SCHEMAS
from tests.waiting import wait_until

OTHERS = "FIPO_TEST_CRDS"
SCHEMA_FILES = Path(__file__).parents[1] / "k8s" / "schemas"
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CUT_OUT = ("model", "sklearn", "workerSpec")
"""Of an InferenceService's predictor (see the schemas' README): what no schema has is dropped before it is judged."""
ARGO = {"group": "argoproj.io", "version": "v1alpha1", "kind": "Workflow"}


def definitions() -> list[Manifest]:
    """All CustomResourceDefinitions, the published ones before those made of schemas."""
    found = {name: definition for definition in _published() if (name := definition["metadata"]["name"])}
    for path in sorted(SCHEMA_FILES.glob("*.json")):
        about = json.loads(path.read_text())
        schema = copy.deepcopy(SCHEMAS[path.stem])
        if about["kind"] == "InferenceService":
            schema["properties"]["spec"]["properties"]["predictor"]["properties"] |= dict.fromkeys(CUT_OUT, ANYTHING)
        made = _definition(about["group"], about["version"], about["kind"], schema)
        found.setdefault(made["metadata"]["name"], made)
    made = _definition(schema=ANYTHING, **ARGO)
    found.setdefault(made["metadata"]["name"], made)
    return list(found.values())


def _published() -> list[Manifest]:
    folder = os.environ.get(OTHERS, "")
    files = sorted(Path(folder).glob("*.yaml")) if folder else []
    return [item for path in files for item in yaml.safe_load_all(path.read_text()) if item]


def _definition(group: str, version: str, kind: str, schema: dict[str, Any]) -> Manifest:
    singular = kind.lower()
    plural = f"{singular}s"
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    if "status" in schema.get("properties", {}):
        served["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": singular, "kind": kind, "listKind": f"{kind}List"},
            "versions": [served],
        },
    }


def install_kinds(plane: ControlPlane) -> None:
    """Apply the definitions, and wait until the API server serves the kinds."""
    plane.apply(definitions(), "--server-side")
    names = [f"crd/{definition['metadata']['name']}" for definition in definitions()]
    plane.kubectl("wait", "--for=condition=established", "--timeout=60s", *names)
    wait_until(lambda: "trainjobs" in plane.kubectl("api-resources", "--output=name"))


def moved(manifests: list[Manifest], namespace: str) -> list[Manifest]:
    """The same overlay in another namespace, as an overlay of somebody's own puts it there."""
    here = {item["metadata"]["namespace"] for item in manifests if "namespace" in item["metadata"]}
    (old,) = here
    text = json.dumps(manifests)
    for key in ("namespace", "kubernetes.io/metadata.name"):
        text = text.replace(f'"{key}": "{old}"', f'"{key}": "{namespace}"')
    found: list[Manifest] = json.loads(text)
    for item in found:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = namespace
    return found


def make_namespace(plane: ControlPlane, name: str, *accounts: str) -> None:
    """A namespace with accounts: `default`, which a controller makes elsewhere, and the tasks' own."""
    plane.kubectl("create", "namespace", name, check=False)
    for account in ("default", *accounts):
        plane.kubectl("--namespace", name, "create", "serviceaccount", account, check=False)


def pretend_webhooks(plane: ControlPlane) -> None:
    """Webhooks of Trainer and JobSet as they are registered, ready, and for no namespace that there is."""
    for group, service in (("trainer.kubeflow.org", "kubeflow-trainer"), ("jobset.x-k8s.io", "jobset-webhook")):
        rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["*"]}
        hook = {
            "name": f"check.{group}",
            "clientConfig": {
                "service": {"namespace": "kubeflow-system", "name": service},
                "caBundle": _certificate(plane),
            },
            "rules": [rule],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
            "namespaceSelector": {"matchLabels": {"nobody": "here"}},
        }
        head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": group}, "webhooks": [hook]}
        ready = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": service,
                "namespace": "kubeflow-system",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        }
        kinds = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
        plane.apply([ready, *({**head, "kind": kind} for kind in kinds)])


def _certificate(plane: ControlPlane) -> str:
    context = yaml.safe_load(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    trusted: str = context["certificate-authority-data"]
    return trusted
