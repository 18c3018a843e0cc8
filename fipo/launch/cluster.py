"""The Kubernetes API as the launcher needs it; `reader` has it for those who only look, `serving` for those who serve.

Objects are the API's own JSON, so that what is sent can be held against the published schemas.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from fipo.errors import LaunchError
from fipo.waits import Wait

Manifest = dict[str, Any]

TRAINER = {"group": "trainer.kubeflow.org", "version": "v1alpha1", "plural": "trainjobs"}
RUNTIME = {**TRAINER, "plural": "trainingruntimes"}
WORKFLOW = {"group": "argoproj.io", "version": "v1alpha1", "plural": "workflows"}
RUN_LABEL = "pipeline/runid"
"""On a workflow: the id of Kubeflow's run."""
TIMEOUT_SECONDS = (5.0, 30.0)
"""To connect, and to answer: without them a lost connection waits for ever."""
POLL_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
"""How long the API server may be away before a step gives up."""


class Conflict(LaunchError):
    """An object of that name exists already, or has changed."""


class Unavailable(LaunchError):
    """The API server could not be reached, or could not answer, for `PATIENCE_SECONDS`."""


class Cluster:
    """One namespace: the pod's own, or the kubeconfig's.

    Raises:
        LaunchError: neither a service account nor a kubeconfig is at hand.
    """

    def __init__(self) -> None:
        self.namespace = connect()
        self._core = client.CoreV1Api()
        self._objects = client.CustomObjectsApi()

    def create_job(self, manifest: Manifest) -> Manifest:
        """Create a TrainJob; `Conflict` when its name is taken."""
        return self._call(self._objects.create_namespaced_custom_object, **TRAINER, body=manifest)

    def job(self, name: str) -> Manifest | None:
        """A TrainJob, or None."""
        return _or_none(lambda: self._call(self._objects.get_namespaced_custom_object, **TRAINER, name=name))

    def jobs(self, selector: str) -> list[Manifest]:
        """TrainJobs with these labels."""
        found = self._call(self._objects.list_namespaced_custom_object, **TRAINER, label_selector=selector)
        return list(found["items"])

    def adopt_job(self, name: str, owner: Manifest) -> None:
        """Make `owner` the one with which the TrainJob is deleted."""
        patch = {"metadata": {"ownerReferences": [owner]}}
        self._call(self._objects.patch_namespaced_custom_object, **TRAINER, name=name, body=patch)

    def delete_job(self, name: str, seen: Manifest | None = None) -> None:
        """Delete a TrainJob and wait for nothing: its pods get their grace period to save, and outlive it.

        A TrainJob that waited for its pods (`Foreground`) could stay for ever: Trainer makes its JobSet again, and
        that its pods, until the TrainJob itself is gone.

        Raises:
            Conflict: it is not any more what was `seen`.
        """
        delete = self._objects.delete_namespaced_custom_object
        options: Manifest = {"propagationPolicy": "Background"}
        if seen:
            options["preconditions"] = {key: seen["metadata"][key] for key in ("uid", "resourceVersion")}
        _or_none(lambda: self._call(delete, **TRAINER, name=name, body=options))

    def runtime(self, name: str) -> Manifest | None:
        """A TrainingRuntime, or None."""
        return _or_none(lambda: self._call(self._objects.get_namespaced_custom_object, **RUNTIME, name=name))

    def workflow(self, name: str) -> Manifest | None:
        """The Argo workflow of a pipeline run, or None."""
        return _or_none(lambda: self._call(self._objects.get_namespaced_custom_object, **WORKFLOW, name=name))

    def workflow_of(self, run_id: str) -> Manifest | None:
        """The workflow of Kubeflow's run of this id, or None."""
        read, label = self._objects.list_namespaced_custom_object, f"{RUN_LABEL}={run_id}"
        found: list[Manifest] = self._call(read, **WORKFLOW, label_selector=label)["items"]
        return found[0] if found else None

    def pod(self, name: str) -> Manifest | None:
        """A pod, or None."""
        return _or_none(lambda: self._call(self._core.read_namespaced_pod, name=name))

    def pods(self, selector: str) -> list[Manifest]:
        """Pods with these labels, oldest first."""
        found = self._call(self._core.list_namespaced_pod, label_selector=selector)
        return sorted(found["items"], key=lambda pod: pod["metadata"]["creationTimestamp"])

    def warnings(self) -> list[Manifest]:
        """All events of type Warning."""
        found = self._call(self._core.list_namespaced_event, field_selector="type=Warning")
        return list(found["items"])

    def log(self, pod: str, container: str, **options: Any) -> list[str]:
        """Lines of a container's log; none while it cannot be had: nothing of a job's fate hangs on it."""
        try:
            read = self._core.read_namespaced_pod_log
            text = self._ask(read, name=pod, container=container, **options).decode(errors="replace")
        except Unavailable:  # a lost node does not answer, however well the API server does
            return []
        except _Refused as refused:
            if refused.status in (400, 404):  # the container is waiting, or the pod has just been deleted
                return []
            raise
        return text.splitlines()

    def _call(self, call: Callable[..., Any], **arguments: Any) -> Manifest:
        wait = Wait("the Kubernetes API", PATIENCE_SECONDS)
        while True:
            try:
                answer: Manifest = json.loads(self._ask(call, **arguments))
                return answer
            except Unavailable as problem:
                if wait.over:
                    raise
                print(f"[launch] {problem}; trying again: {wait}", flush=True)
            time.sleep(POLL_SECONDS)

    def _ask(self, call: Callable[..., Any], **arguments: Any) -> bytes:
        try:  # an answer may break off in its body, which is read here alone
            answer = call(
                namespace=self.namespace, _request_timeout=TIMEOUT_SECONDS, _preload_content=False, **arguments
            )
            body: bytes = answer.data
            return body
        except client.ApiException as error:
            raise _translated(error, self.namespace) from None
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"the Kubernetes API cannot be reached: {error}") from None


class _Refused(LaunchError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def connect() -> str:
    """Have the client use this pod's service account or the kubeconfig; returns the namespace of either.

    Raises:
        LaunchError: there is neither.
    """
    namespace = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and namespace.exists():
            config.load_incluster_config()
            return namespace.read_text(encoding="utf-8").strip()
        config.load_kube_config()
        return str(config.list_kube_config_contexts()[1]["context"].get("namespace", "default"))
    except config.ConfigException as error:
        raise LaunchError(f"no access to a cluster: {error} Run inside one, or point KUBECONFIG to its file.") from None


def _translated(error: client.ApiException, namespace: str) -> LaunchError:
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason
    if error.status == 409:
        return Conflict(message)
    if error.status == 429 or error.status >= 500:
        return Unavailable(f"the Kubernetes API answered {error.status}: {message}")
    if error.status in (401, 403):
        message = f"{message} (namespace {namespace}: is the role from k8s/base bound to this service account?)"
    return _Refused(error.status, f"Kubernetes refused: {message}")


def _or_none(call: Callable[[], Manifest]) -> Manifest | None:
    try:
        return call()
    except _Refused as refused:
        if refused.status == 404:
            return None
        raise
