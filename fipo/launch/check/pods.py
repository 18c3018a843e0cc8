"""Do the services in the namespace run, and if not, what does the cluster say about it?"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from fipo.findings import Finding
from fipo.launch.check.finding import APPLY, Look
from fipo.launch.cluster import Manifest
from fipo.launch.events import Complaint, read_event
from fipo.launch.remedies import remedy
from fipo.launch.waiting import container_states


def mlflow(look: Look) -> Iterator[Finding]:
    """The tracking server, where the settings name the one in the namespace."""
    host = urlsplit(look.config.tracking.uri).hostname if look.config else ""
    if (host or "").split(".")[0] != "mlflow":
        return
    found = look.get("apps/v1", "deployments", "mlflow")
    if found is None:
        yield Finding("MLflow", "failed", "no Deployment mlflow", APPLY)
        return
    ready, wanted = found.get("status", {}).get("availableReplicas", 0), found["spec"].get("replicas", 1)
    if not ready:
        follow = f"kubectl --namespace {look.namespace} rollout status deployment/mlflow; then: logs deployment/mlflow"
        yield Finding("MLflow", "failed", f"0 of {wanted} available", follow)
        return
    yield Finding("MLflow", "ok" if ready >= wanted else "warning", f"{ready} of {wanted} available")


def pods(look: Look) -> Iterator[Finding]:
    """Pods of fipo that do not run, with the newest complaint about each."""
    found = look.reader.items(look.path("v1", "pods"), labelSelector="app.kubernetes.io/part-of=fipo")
    failing = [(pod, why) for pod in found if (why := _why(pod))]
    if not failing:
        yield Finding("pods", "ok", f"{len(found)} run or have ended")
        return
    events = [read_event(event) for event in look.reader.items(look.path("v1", "events"), fieldSelector="type=Warning")]
    for pod, why in failing:
        name = pod["metadata"]["name"]
        said = max((event for event in events if event.name == name), key=lambda event: event.time, default=None)
        text = f"{why}; {said.reason}: {said.message}" if isinstance(said, Complaint) else why
        mend = remedy(text, look.namespace)
        if mend.startswith("`fipo cluster check"):
            mend = f"kubectl --namespace {look.namespace} describe pod {name}; then: logs --previous {name}"
        yield Finding(f"pod {name}", "failed", text, mend)


def _why(pod: Manifest) -> str:
    """Why a pod does not run as it should; empty when it does, has ended, or is on its way."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed":
        return "" if pod["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "training" else "failed"
    waiting = [state["waiting"] for _, state in container_states([pod]) if "waiting" in state]
    reasons = [entry["reason"] for entry in waiting if entry["reason"] not in ("ContainerCreating", "PodInitializing")]
    reasons += [entry["reason"] for entry in status.get("conditions", []) if entry.get("reason") == "Unschedulable"]
    return ", ".join(dict.fromkeys(reasons))
