"""A cluster with Kubeflow and an applied overlay, as objects of a fake API server."""

import copy
from pathlib import Path

import yaml

RENDERED = Path(__file__).parents[2] / "k8s" / "rendered"
PLURALS = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ResourceQuota": "resourcequotas",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ServiceAccount": "serviceaccounts",
    "TrainingRuntime": "trainingruntimes",
}
KINDS = {
    "trainer.kubeflow.org/v1alpha1": ["trainjobs", "trainingruntimes", "clustertrainingruntimes"],
    "jobset.x-k8s.io/v1alpha2": ["jobsets"],
    "argoproj.io/v1alpha1": ["workflows", "cronworkflows"],
    "scheduling.x-k8s.io/v1alpha1": ["podgroups"],
}
HOOKS = {
    "trainer.kubeflow.org": ("kubeflow-system", "kubeflow-trainer-controller-manager"),
    "jobset.x-k8s.io": ("kubeflow-system", "jobset-webhook-service"),
}


class Objects:
    """Puts objects into the cluster and finds them again."""

    def __init__(self, server, namespace):
        self.server, self.namespace = server, namespace

    def put(self, path, manifest):
        self.server.objects[path] = manifest

    def path(self, group, resource, name):
        return f"/{'apis' if '/' in group else 'api'}/{group}/namespaces/{self.namespace}/{resource}/{name}"

    def find(self, resource, name):
        (path,) = [path for path in self.server.objects if path.endswith(f"/{resource}/{name}")]
        return path

    def get(self, resource, name):
        return self.server.objects[self.find(resource, name)]

    def drop(self, resource, name):
        del self.server.objects[self.find(resource, name)]


def apply(objects, overlay):
    """As `kubectl apply` of the rendered overlay, with the state that controllers would write."""
    for item in yaml.safe_load_all((RENDERED / f"{overlay}.yaml").read_text()):
        if item["kind"] in PLURALS:
            objects.put(objects.path(item["apiVersion"], PLURALS[item["kind"]], item["metadata"]["name"]), item)
        if item["kind"] == "Deployment":
            item["status"] = {"availableReplicas": item["spec"].get("replicas", 1)}
        if item["kind"] == "PersistentVolumeClaim":
            item["status"] = {"phase": "Bound"}
        if item["kind"] == "ResourceQuota":
            item["status"] = {"hard": item["spec"]["hard"], "used": dict.fromkeys(item["spec"]["hard"], "0")}


def install_kubeflow(objects, *, multi_user):
    objects.put("/version", {"gitVersion": "v1.36.1"})
    for version, kinds in KINDS.items():
        objects.put(f"/apis/{version}", {"resources": [{"name": kind} for kind in kinds]})
        group, _, name = version.partition("/")
        objects.put(f"/apis/{group}", {"versions": [{"version": name}]})
    for group, (namespace, service) in HOOKS.items():
        client = {"service": {"namespace": namespace, "name": service}, "caBundle": "Y2E="}
        hook = {"name": f"v.{group}", "clientConfig": client, "rules": [{"apiGroups": [group]}]}
        for kind in ("validating", "mutating"):
            root = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
            objects.put(f"{root}/{group}", {"metadata": {"name": group}, "webhooks": [copy.deepcopy(hook)]})
        metadata = {"name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}}
        ready = {"metadata": metadata, "endpoints": [{"conditions": {"ready": True}}]}
        objects.put(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{service}-x", ready)
    public = {"data": {"kubeflow_trainer_version": "v2.3.0"}}
    objects.put("/api/v1/namespaces/kubeflow-system/configmaps/kubeflow-trainer-public", public)
    health = {"multi_user": multi_user, "apiServerReady": True, "frontendTagName": "2.17.0"}
    objects.put("/pipeline/apis/v2beta1/healthz", health)
    objects.put("/apis/storage.k8s.io/v1/storageclasses/shared", {"metadata": {"name": "shared"}})


def install_ours(objects, account, secrets):
    for name, keys in secrets.items():
        secret = {"metadata": {"name": name}, "data": dict.fromkeys(keys, "aGlkZGVu")}
        objects.put(objects.path("v1", "secrets", name), secret)
    objects.put(objects.path("v1", "serviceaccounts", account), {"metadata": {"name": account}})


STORE = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
