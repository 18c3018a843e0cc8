"""A distributed job as a Kubeflow TrainJob: created or found again, followed to its end, cleaned up.

The job's name follows from the run, the step and its settings, so a retried step finds the job that it started before
instead of starting another.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fipo.config import Config
from fipo.errors import Interrupted, LaunchError
from fipo.launch import cluster as api
from fipo.launch.cluster import Cluster, Conflict, Manifest
from fipo.launch.lifecycle import follow, say
from fipo.launch.runtimes import (
    NODE,
    ROLLOUT,
    SERVERS_VARIABLE,
    needs_its_image,
    resources_per_node,
    runtime_of,
)
from fipo.launch.waiting import condition, pods_of
from fipo.waits import Wait

ROLLOUT_PORT = 8000
LABELS = {"app.kubernetes.io/managed-by": "fipo", "app.kubernetes.io/component": "training"}


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What is asked of Kubeflow Trainer."""

    run: str
    step: str
    fingerprint: str
    """Of the step's settings and inputs: another fingerprint is another job."""
    command: Sequence[str]
    """What every node starts; it finds the number of nodes, its rank and the address in what Trainer sets (`PET_*`)."""
    runtime: str
    """Name of the TrainingRuntime."""
    nodes: int = 1
    processes: int = 0
    """On each node; 0 is one a GPU, or one a requested CPU."""
    rollout_servers: int = 0
    """Pods of the runtime's replicated job `rollout`."""
    runtime_image: bool = False
    """Run the runtime's image; otherwise the task's own, which holds the very code that asks for the job."""
    settings: str = ""
    """File of the run's settings, for the rollout servers."""
    time_limit_seconds: int | None = None
    patience_seconds: float = 900.0
    """How long pods that cannot be made or started are waited for."""
    queue: str = ""
    """Kueue LocalQueue; empty starts at once."""
    resources: Manifest = field(default_factory=dict)
    """Requests and limits of a node's container; empty leaves the runtime's."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes; the runtime's count too."""
    tolerations: Sequence[Mapping[Any, Any]] = ()
    """Taints that the pods tolerate; empty leaves the runtime's."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """`dsl.TaskConfig` of the pipeline's task: env, volumes and volume_mounts. Nothing else of it is used: Kubeflow
    hands resources over with placeholders that nobody fills in."""

    @property
    def name(self) -> str:
        """A DNS label: readable, unique to the fingerprint, short enough for the names of the pods."""
        readable = re.sub(r"[^a-z0-9]+", "-", f"{self.run}-{self.step}".lower()).strip("-")[:30].rstrip("-")
        unique = hashlib.sha256(f"{self.run}/{self.step}/{self.fingerprint}".encode()).hexdigest()[:8]
        return f"fipo-{readable}-{unique}"

    @property
    def server_urls(self) -> list[str]:
        """Of the rollout servers, by the names that JobSet gives to pods."""
        host = f"{self.name}-{ROLLOUT[0]}-0-{{}}.{self.name}"
        return [f"http://{host.format(index)}:{ROLLOUT_PORT}" for index in range(self.rollout_servers)]

    def manifest(self, owner: Manifest | None = None, image: str = "") -> Manifest:
        """As sent to the API server; `owner` takes the job along when it is deleted."""
        labels = {**LABELS, **({"kueue.x-k8s.io/queue-name": self.queue} if self.queue else {})}
        servers = [{"name": SERVERS_VARIABLE, "value": ",".join(self.server_urls)}] if self.rollout_servers else []
        trainer = {
            "command": list(self.command),
            "numNodes": self.nodes,
            "numProcPerNode": self.processes or None,
            "image": image,
            "resourcesPerNode": self.resources,
            "env": [*self._env(), *servers],
        }
        spec = {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": self.runtime},
            "trainer": _given(trainer),
            "activeDeadlineSeconds": self.time_limit_seconds,
            "runtimePatches": self._patches(),
        }
        metadata = {"name": self.name, "labels": labels, "ownerReferences": [owner] if owner else None}
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": _given(metadata),
            "spec": _given(spec),
        }

    def _patches(self) -> list[Manifest]:
        """Where the pods run, and what the pipeline set on the task, laid over the runtime's pods."""
        jobs = [self._patch(*NODE)]
        if self.rollout_servers:
            settings = {"name": "FIPO_CONFIG", "value": self.settings}
            jobs.append(self._patch(*ROLLOUT, env=[*self._env(), settings]))
        runtime = {"template": {"spec": {"replicatedJobs": [job for job in jobs if job]}}}
        return [{"manager": "fipo.dev/pipeline", "trainingRuntimeSpec": runtime}] if any(jobs) else []

    def _patch(self, job: str, container: str, env: Sequence[Manifest] = ()) -> Manifest:
        settings = _given({"volumeMounts": self.task.get("volume_mounts"), "env": list(env)})
        pod = _given(
            {
                "nodeSelector": dict(self.node_selector),
                "tolerations": [dict(toleration) for toleration in self.tolerations],
                "volumes": self.task.get("volumes"),
                "containers": [{"name": container, **settings}] if settings else None,
            }
        )
        return {"name": job, "template": {"spec": {"template": {"spec": pod}}}} if pod else {}

    def _env(self) -> list[Manifest]:
        return list(self.task.get("env") or [])


def train_job(
    module: str, arguments: Sequence[str], *, config: Config, step: str, fingerprint: str, task: Mapping[str, Any]
) -> None:
    """Run `python -m module arguments` under torchrun in a TrainJob, as `config.trainjob` says; see `run_train_job`."""
    settings, cluster = config.trainjob, Cluster()
    runtime, servers = runtime_of(config, step, cluster)
    job = TrainJob(
        run=config.run.name,
        step=step,
        fingerprint=fingerprint,
        command=["python", "-m", "fipo.launch.node", "--module", module, *arguments],
        runtime=runtime["metadata"]["name"],
        nodes=settings.nodes,
        processes=config.distributed.processes,
        rollout_servers=servers,
        runtime_image=needs_its_image(config, step, runtime),
        settings=arguments[arguments.index("--config") + 1],
        time_limit_seconds=settings.time_limit_seconds,
        patience_seconds=settings.patience_seconds,
        queue=settings.queue,
        resources=resources_per_node(settings, runtime),
        node_selector=settings.node_selector,
        tolerations=settings.tolerations,
        task=task,
    )
    run_train_job(job, cluster)


def run_train_job(job: TrainJob, cluster: Cluster) -> None:
    """Start the job, or find it again, and follow it to its end, rank 0's log on standard output.

    Raises:
        LaunchError: the job failed, and the message has the failing pod's last lines; or it could not start.
        Interrupted: asked to stop; the job was deleted after its grace period to save, unless only this pod is being
            moved off its node: then the job goes on, and the retried step finds it.
    """
    task_pod = cluster.pod(os.environ["KFP_POD_NAME"]) if "KFP_POD_NAME" in os.environ else None
    manifest = job.manifest(owner=owner_of(task_pod), image="" if job.runtime_image else _image(task_pod))
    with _stop_is_interrupt():
        try:
            _create_or_attach(cluster, manifest)
            follow(cluster, job.name, job.patience_seconds)
        except KeyboardInterrupt:
            if task_pod and _evicted(cluster.pod(task_pod["metadata"]["name"])):
                raise Interrupted(f"this pod is evicted; TrainJob {job.name} goes on and is found again") from None
            cluster.delete_job(job.name)
            raise Interrupted(f"TrainJob {job.name} was stopped; the same step continues where it saved") from None


def _create_or_attach(cluster: Cluster, manifest: Manifest) -> None:
    name, owners = manifest["metadata"]["name"], manifest["metadata"].get("ownerReferences", [])
    wait, is_told = Wait(f"TrainJob {cluster.namespace}/{name} of before to be deleted", api.PATIENCE_SECONDS), False
    while not wait.over:
        try:
            if not _saving(cluster, name):
                cluster.create_job(manifest)
                return say(f"TrainJob {cluster.namespace}/{name} created")
        except Conflict:
            pass
        if _attach(cluster, name, owners):
            return None
        if not is_told:
            is_told = True
            say(str(wait))
        time.sleep(api.POLL_SECONDS)
    since = f"since {api.PATIENCE_SECONDS:.0f} s"
    if left := [f"{pod['metadata']['name']} on {_node(pod)}" for pod in _saving(cluster, name)]:
        raise LaunchError(
            f"pods of TrainJob {cluster.namespace}/{name} of before have not ended {since}: {', '.join(left)}; "
            "if a node is lost for good, delete its pods by force (kubectl delete pod --force)"
        )
    raise LaunchError(f"TrainJob {cluster.namespace}/{name} is being deleted {since}")


def _saving(cluster: Cluster, name: str) -> list[Manifest]:
    """Pods of a deleted job of this name that have not ended: another's would write beside them."""
    return [pod for pod in cluster.pods(pods_of(name)) if pod["status"].get("phase") not in ("Succeeded", "Failed")]


def _node(pod: Manifest) -> str:
    return f"node {pod['spec']['nodeName']}" if "nodeName" in pod["spec"] else "no node"


def _attach(cluster: Cluster, name: str, owners: list[Manifest]) -> bool:
    """Take the job over if following it leads to a result; otherwise delete it, so that it can be started anew."""
    job = cluster.job(name)
    if job is None or job["metadata"].get("deletionTimestamp"):
        return False
    ours = any(owner["uid"] == owners[0]["uid"] for owner in job["metadata"].get("ownerReferences", []) if owners)
    # A retry of the run that saw its job fail would only fail in the same way; a new run may have mended the cause.
    if condition(job, "Complete") or (condition(job, "Failed") and not ours):
        say(f"TrainJob {name} ended before and left no result; starting it anew")
        cluster.delete_job(name)
        return False
    if owners and not ours:
        cluster.adopt_job(name, owners[0])
    say(f"TrainJob {cluster.namespace}/{name} found again")
    return True


def owner_of(pod: Manifest | None) -> Manifest | None:
    """The workflow of the pipeline's run, which outlives the pod of one attempt; the pod where there is none."""
    if pod is None:
        return None
    metadata = pod["metadata"]
    itself = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    owner = next((entry for entry in metadata.get("ownerReferences", []) if entry["kind"] == "Workflow"), itself)
    return {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}


def _image(pod: Manifest | None) -> str:
    """The task's own image; empty where there is no task."""
    return next((entry["image"] for entry in pod["spec"]["containers"] if entry["name"] == "main"), "") if pod else ""


def _evicted(pod: Manifest | None) -> bool:
    conditions = pod.get("status", {}).get("conditions", []) if pod else []
    return any(entry["type"] == "DisruptionTarget" and entry["status"] == "True" for entry in conditions)


def _given(fields: Manifest) -> Manifest:
    return {key: value for key, value in fields.items() if value not in (None, "", 0, [], {})}


@contextmanager
def _stop_is_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
