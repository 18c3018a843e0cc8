"""Is everything installed that fipo builds on, and does it answer?"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from fipo.findings import Finding
from fipo.launch.check.finding import Look
from fipo.launch.cluster import Manifest
from fipo.launch.reader import Forbidden

TRAINER = 'kubectl apply --server-side --kustomize "https://github.com/kubeflow/trainer/manifests/overlays/manager?ref=v2.3.0"'
WAIT = "kubectl --namespace {namespace} wait --for=condition=Available deployment --all --timeout=300s"
PIPELINES = "install Kubeflow Pipelines 2.17, see docs/deploy.md"
COSCHEDULING = (
    "install the scheduler plugin coscheduling, or leave k8s/components/coscheduling out of the overlay (Kueue admits "
    "a job as a whole too)"
)
WEBHOOKS = ("trainer.kubeflow.org", "jobset.x-k8s.io")


def server(look: Look) -> Iterator[Finding]:
    """The API server, and its version."""
    version = look.reader.get("/version") or {}
    yield Finding("Kubernetes", "ok", f"{version.get('gitVersion', 'no version')}, namespace {look.namespace}")


def definitions(look: Look) -> Iterator[Finding]:
    """Kinds of Kubeflow, in the versions that fipo writes."""
    yield _served(look, "trainer.kubeflow.org", "v1alpha1", {"trainjobs", "trainingruntimes"}, TRAINER, _trainer(look))
    yield _served(look, "jobset.x-k8s.io", "v1alpha2", {"jobsets"}, TRAINER)
    yield _served(look, "argoproj.io", "v1alpha1", {"workflows"}, PIPELINES)
    policies = {policy for runtime in look.runtimes.values() if runtime for policy in _pod_group(runtime)}
    if "coscheduling" in policies:
        yield _served(look, "scheduling.x-k8s.io", "v1alpha1", {"podgroups"}, COSCHEDULING)


def queue(look: Look) -> Iterator[Finding]:
    """Kueue's queue, where the settings name one."""
    name = look.config.trainjob.queue if look.config else ""
    if not name:
        return
    group = look.reader.get("/apis/kueue.x-k8s.io")
    if group is None:
        yield Finding(
            "queue",
            "failed",
            f"trainjob.queue is {name}, but Kueue is not installed",
            "install Kueue, or --set trainjob.queue=",
        )
        return
    found = look.get(group["preferredVersion"]["groupVersion"], "localqueues", name)
    if found is None:
        yield Finding(
            "queue", "failed", f"no LocalQueue {name}", "kubectl get localqueues; set trainjob.queue to one of them"
        )
        return
    inactive = [entry for entry in found.get("status", {}).get("conditions", []) if entry["status"] == "False"]
    if inactive:
        yield Finding(
            "queue",
            "failed",
            f"{name}: {inactive[0].get('message', 'not active')}",
            f"kubectl describe localqueue {name}",
        )
        return
    yield Finding("queue", "ok", f"LocalQueue {name}")


def webhooks(look: Look) -> Iterator[Finding]:
    """Webhooks of Trainer and JobSet: nothing can be made while one does not answer."""
    hooks = [
        hook
        for kind in ("validating", "mutating")
        for item in look.reader.items(f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations")
        for hook in item.get("webhooks", [])
    ]
    for group in WEBHOOKS:
        ours = [hook for hook in hooks if any(group in rule.get("apiGroups", []) for rule in hook.get("rules", []))]
        yield _webhook(look, group, ours)


def _webhook(look: Look, group: str, hooks: list[Manifest]) -> Finding:
    check = f"webhooks of {group}"
    if not hooks:
        return Finding(check, "failed", "none is registered", TRAINER)
    services = {(to["namespace"], to["name"]) for hook in hooks if (to := hook["clientConfig"].get("service"))}
    if not services:
        return Finding(check, "warning", f"not looked at: outside the cluster, {hooks[0]['clientConfig']['url']}")
    for namespace, name in sorted(services):
        remedy = WAIT.format(namespace=namespace)
        if not _ready(look, namespace, name):
            return Finding(check, "failed", f"service {namespace}/{name} has no ready endpoint", remedy)
    if not all(hook["clientConfig"].get("caBundle") for hook in hooks):
        return Finding(check, "failed", "the certificate is not there yet", remedy)
    return Finding(check, "ok", ", ".join(f"{namespace}/{name} is ready" for namespace, name in sorted(services)))


def _ready(look: Look, namespace: str, service: str) -> bool:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = look.reader.items(path, labelSelector=f"kubernetes.io/service-name={service}")
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    return any(endpoint.get("conditions", {}).get("ready") is not False for endpoint in endpoints)


def pipelines(look: Look) -> Iterator[Finding]:
    """Kubeflow Pipelines, and whether the namespace fits to how it keeps its users apart."""
    if not look.host:
        yield Finding("Kubeflow Pipelines", "warning", "not looked at", "give --host URL, or set KF_PIPELINES_ENDPOINT")
        return
    try:
        health = _health(look)
    except (OSError, ValueError) as error:
        remedy = "is the URL right, and port-forward running? Behind a login set KFP_TOKEN"
        yield Finding("Kubeflow Pipelines", "failed", f"{look.host}: {error}", remedy)
        return
    if health.get("apiServerReady") is False:
        yield Finding(
            "Kubeflow Pipelines", "failed", "its API server does not answer its UI", WAIT.format(namespace="kubeflow")
        )
        return
    several = bool(health.get("multi_user"))
    version = health.get("frontendTagName") or health.get("tag_name") or "version unknown"
    yield Finding("Kubeflow Pipelines", "ok", f"{version}, {'several users' if several else 'one user'}")
    yield _namespace_fits(look, several)


def _health(look: Look) -> Manifest:
    headers = {"Authorization": f"Bearer {look.token}"} if look.token else {}
    request = urllib.request.Request(f"{look.host.rstrip('/')}/apis/v2beta1/healthz", headers=headers)
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=15) as answer:
            health: Manifest = json.load(answer)
    except urllib.error.HTTPError as error:
        if to := error.headers.get("Location"):
            where = to.partition("?")[0]
            raise ValueError(f"answers {error.code} and leads to {where}: behind a login, or at that address") from None
        raise
    return health


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for the host that was named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """Not followed: the answer is an error."""


def _namespace_fits(look: Look, several: bool) -> Finding:
    check, here = "runs' namespace", look.get("v1", "services", "ml-pipeline") is not None
    if several and here:
        return Finding(
            check, "failed", f"{look.namespace} is Kubeflow's own", "--namespace PROFILE, the profile of the runs"
        )
    if several and not look.named:
        return Finding(
            check,
            "warning",
            f"{look.namespace}, from the kubeconfig",
            "several users: give --namespace PROFILE, here and to submit",
        )
    if not several and not here:
        remedy = (
            "--namespace kubeflow, with an overlay like k8s/overlays/local: a Kubeflow with one user ignores namespaces"
        )
        return Finding(check, "failed", f"no run will be in {look.namespace}", remedy)
    return Finding(check, "ok", look.namespace)


def _served(look: Look, group: str, version: str, wanted: set[str], remedy: str, release: str = "") -> Finding:
    found = look.reader.get(f"/apis/{group}/{version}")
    served = {resource["name"] for resource in found["resources"]} if found else set()
    if wanted <= served:
        return Finding(group, "ok", f"{version}: {', '.join(sorted(wanted))}{release}")
    other = look.reader.get(f"/apis/{group}") or {}
    versions = ", ".join(entry["version"] for entry in other.get("versions", []))
    lacks = (
        f"{version} lacks {', '.join(sorted(wanted - served))}"
        if found
        else f"served: {versions or 'nothing'}; needed: {version}"
    )
    return Finding(group, "failed", lacks, remedy)


def _trainer(look: Look) -> str:
    try:
        public = look.reader.get("/api/v1/namespaces/kubeflow-system/configmaps/kubeflow-trainer-public")
    except Forbidden:
        return ""
    return f" ({public['data']['kubeflow_trainer_version']})" if public else ""


def _pod_group(runtime: Manifest) -> list[str]:
    return list(runtime["spec"].get("podGroupPolicy") or {})
