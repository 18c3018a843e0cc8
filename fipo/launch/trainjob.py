"""A distributed job as a Kubeflow TrainJob: created or found again, followed to its end, cleaned up.

The job's name follows from the run, the step and its settings, so a retried step finds the job that it started before
instead of starting another. Logs and status are polled: there is no stream or watch that can be lost.
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
from datetime import datetime
from typing import Any

from fipo.config import Config
from fipo.errors import Interrupted, LaunchError
from fipo.launch.cluster import Cluster, Conflict, Manifest, Unavailable

LABELS = {"app.kubernetes.io/managed-by": "fipo", "app.kubernetes.io/component": "training"}
CONTAINER = "node"
POLL_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
"""How long the API may be away before a step gives up following its job."""
TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What is asked of Kubeflow Trainer."""

    run: str
    step: str
    fingerprint: str
    """Of the step's settings and inputs: another fingerprint is another job."""
    command: Sequence[str]
    """What every node starts; torchrun reads nodes, rank and address from the environment that Trainer sets."""
    runtime: str
    """Name of the TrainingRuntime."""
    nodes: int = 1
    processes: int = 0
    """On each node; 0 is one a GPU, or one a requested CPU."""
    time_limit_seconds: int | None = None
    queue: str = ""
    """Kueue LocalQueue; empty starts at once."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """`dsl.TaskConfig` of the pipeline's task: resources, env, volumes, volume_mounts, node_selector, tolerations,
    affinity."""

    @property
    def name(self) -> str:
        """A DNS label: readable, unique to the fingerprint, short enough for the names of the pods."""
        readable = re.sub(r"[^a-z0-9]+", "-", f"{self.run}-{self.step}".lower()).strip("-")[:30].rstrip("-")
        unique = hashlib.sha256(f"{self.run}/{self.step}/{self.fingerprint}".encode()).hexdigest()[:8]
        return f"fipo-{readable}-{unique}"

    def manifest(self, owner: Manifest | None = None, image: str = "") -> Manifest:
        """As sent to the API server; `owner` takes the job along when it is deleted."""
        labels = {**LABELS, **({"kueue.x-k8s.io/queue-name": self.queue} if self.queue else {})}
        trainer = {
            "command": list(self.command),
            "numNodes": self.nodes,
            "numProcPerNode": self.processes or None,
            "image": image,
            "resourcesPerNode": self.task.get("resources"),
            "env": self.task.get("env"),
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
        """What the pipeline set on the task, laid over the runtime's pods."""
        pod = _given(
            {
                "nodeSelector": self.task.get("node_selector"),
                "tolerations": self.task.get("tolerations"),
                "affinity": self.task.get("affinity"),
                "volumes": self.task.get("volumes"),
            }
        )
        if mounts := self.task.get("volume_mounts"):
            pod["containers"] = [{"name": CONTAINER, "volumeMounts": mounts}]
        node = {"name": CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}
        runtime = {"template": {"spec": {"replicatedJobs": [node]}}}
        return [{"manager": "fipo.dev/pipeline", "trainingRuntimeSpec": runtime}] if pod else []


def train_job(
    module: str, arguments: Sequence[str], *, config: Config, step: str, fingerprint: str, task: Mapping[str, Any]
) -> None:
    """Run `python -m module arguments` under torchrun in a TrainJob, as `config.trainjob` says; see `run_train_job`."""
    job = TrainJob(
        run=config.run.name,
        step=step,
        fingerprint=fingerprint,
        command=["torchrun", "--module", module, *arguments],
        runtime=config.trainjob.runtime,
        nodes=config.trainjob.nodes,
        processes=config.distributed.processes,
        time_limit_seconds=config.trainjob.time_limit_seconds,
        queue=config.trainjob.queue,
        task=task,
    )
    run_train_job(job, Cluster())


def run_train_job(job: TrainJob, cluster: Cluster) -> None:
    """Start the job, or find it again, and follow it to its end, rank 0's log on standard output.

    Raises:
        LaunchError: the job failed; the message has the failing pod's last lines.
        Interrupted: asked to stop; the job was deleted after its grace period to save, unless only this pod is being
            moved off its node: then the job goes on, and the retried step finds it.
    """
    task_pod = cluster.pod(os.environ["KFP_POD_NAME"]) if "KFP_POD_NAME" in os.environ else None
    manifest = job.manifest(owner=_owner(task_pod), image=_image(task_pod))
    with _stop_is_interrupt():
        try:
            _create_or_attach(cluster, manifest)
            _follow(cluster, job.name)
        except KeyboardInterrupt:
            if task_pod and _evicted(cluster.pod(task_pod["metadata"]["name"])):
                raise Interrupted(f"this pod is evicted; TrainJob {job.name} goes on and is found again") from None
            cluster.delete_job(job.name)
            raise Interrupted(f"TrainJob {job.name} was stopped; the same step continues where it saved") from None


def _create_or_attach(cluster: Cluster, manifest: Manifest) -> None:
    name, deadline = manifest["metadata"]["name"], time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            cluster.create_job(manifest)
            return _say(f"TrainJob {cluster.namespace}/{name} created")
        except Conflict:
            existing = cluster.job(name)
        except Unavailable as error:
            _say(f"{error}; trying again")
            time.sleep(POLL_SECONDS)
            continue
        if existing and not existing["metadata"].get("deletionTimestamp"):
            if not condition(existing, "Failed"):
                return _say(f"TrainJob {cluster.namespace}/{name} found again")
            _say(f"TrainJob {name} failed before; starting it anew")
            cluster.delete_job(name)
        time.sleep(POLL_SECONDS)
    raise LaunchError(f"TrainJob {cluster.namespace}/{name} could not be created in {PATIENCE_SECONDS:.0f} s")


def _follow(cluster: Cluster, name: str) -> None:
    log, pending, last_answer = _Log(cluster, name), "", time.monotonic()
    while True:
        try:
            job = cluster.job(name)
            log.print_new()
            waiting = _waiting_for(cluster, name)
            last_answer = time.monotonic()
        except Unavailable as error:
            if time.monotonic() - last_answer > PATIENCE_SECONDS:
                raise
            _say(f"{error}; trying again")
            time.sleep(POLL_SECONDS)
            continue
        if job is None:
            raise LaunchError(f"TrainJob {cluster.namespace}/{name} was deleted by someone else")
        if condition(job, "Complete"):
            return _say(f"TrainJob {name} complete")
        if failed := condition(job, "Failed"):
            raise LaunchError(_post_mortem(cluster, name, failed))
        if waiting != pending:
            pending = waiting
            _say(f"TrainJob {name}: {waiting or 'all pods run'}")
        time.sleep(POLL_SECONDS)


class _Log:
    """Rank 0's log, printed as it grows, over restarts of its pod."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._selector = f"{_pods_of(name)},batch.kubernetes.io/job-completion-index=0"
        self._pod = ""
        self._printed_until = datetime.min.isoformat()
        self._asked = 0.0

    def print_new(self) -> None:
        pods = self._cluster.pods(self._selector)
        if not pods:
            return
        if pods[-1]["metadata"]["name"] != self._pod:
            self._pod, self._asked = pods[-1]["metadata"]["name"], 0.0
        now = time.monotonic()
        # Seconds are all the API counts in: ask for more than is new, and leave out by time stamp what was printed.
        window = {"since_seconds": int(now - self._asked) + 10} if self._asked else {}
        for line in self._cluster.log(self._pod, CONTAINER, timestamps=True, **window):
            stamp, _, text = line.partition(" ")
            if stamp > self._printed_until:
                print(text, flush=True)
                self._printed_until = stamp
                self._asked = now


def _waiting_for(cluster: Cluster, name: str) -> str:
    """Why pods do not run yet, in the cluster's own words; empty when all do."""
    reasons = set()
    for pod in cluster.pods(_pods_of(name)):
        status = pod.get("status", {})
        if status.get("phase") != "Pending":
            continue
        waiting = [state["waiting"] for state in _states(status) if "waiting" in state]
        unscheduled = [entry for entry in status.get("conditions", []) if entry.get("reason") == "Unschedulable"]
        for why in waiting + unscheduled:
            reasons.add(f"{why['reason']}: {why['message']}" if why.get("message") else why["reason"])
    return "; ".join(sorted(reasons))


def _post_mortem(cluster: Cluster, name: str, failed: Manifest) -> str:
    """Why the job failed, and the last lines of the first pod that did."""
    lines = [f"TrainJob {cluster.namespace}/{name} failed: {failed.get('message') or failed.get('reason', '')}"]
    ended = [
        (state["terminated"].get("finishedAt", ""), pod["metadata"]["name"], state["terminated"])
        for pod in cluster.pods(_pods_of(name))
        for state in _states(pod.get("status", {}))
        if state.get("terminated", {}).get("exitCode")
    ]
    if ended:
        _, pod, end = min(ended, key=lambda entry: entry[:2])
        lines.append(f"pod {pod}: exit code {end['exitCode']} ({end.get('reason', 'Error')}); its last lines:")
        lines += [f"  {line}" for line in cluster.log(pod, CONTAINER, tail_lines=TAIL_LINES)]
    return "\n".join(lines)


def _states(status: Manifest) -> Iterator[Manifest]:
    return (container.get("state", {}) for container in status.get("containerStatuses", []))


def _pods_of(name: str) -> str:
    return f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={CONTAINER}"


def condition(job: Manifest, kind: str) -> Manifest | None:
    """The condition of this type, when it holds: `Complete`, `Failed`, `Suspended`."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind and entry["status"] == "True"), None)


def _owner(pod: Manifest | None) -> Manifest | None:
    """The workflow of the pipeline's run, which outlives the pod of one attempt; the pod where there is none."""
    if pod is None:
        return None
    metadata = pod["metadata"]
    itself = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    owner = next((entry for entry in metadata.get("ownerReferences", []) if entry["kind"] == "Workflow"), itself)
    return {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}


def _image(pod: Manifest | None) -> str:
    """The task's own image, so that both run the same code; empty leaves the runtime's."""
    return next((entry["image"] for entry in pod["spec"]["containers"] if entry["name"] == "main"), "") if pod else ""


def _evicted(pod: Manifest | None) -> bool:
    conditions = pod.get("status", {}).get("conditions", []) if pod else []
    return any(entry["type"] == "DisruptionTarget" and entry["status"] == "True" for entry in conditions)


def _given(fields: Manifest) -> Manifest:
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}


def _say(line: str) -> None:
    print(f"[launch] {line}", flush=True)


@contextmanager
def _stop_is_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
