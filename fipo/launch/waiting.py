"""Why a TrainJob's pods do not run yet, and whether waiting can mend it.

Room comes free, queues move, nodes are added: for that a job waits as long as it may run. A pod that cannot be made, or
cannot start, waits for a person. So does one that only a quota keeps back while others of its job hold what they have:
two such jobs would wait for each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from fipo.launch.cluster import Manifest
from fipo.launch.events import Complaint
from fipo.launch.reader import quantity
from fipo.launch.runtimes import NODE, ROLLOUT, SERVERS_VARIABLE

NOT_MADE = {
    "TrainJobResourcesCreationFailed",
    "JobCreationFailed",
    "HeadlessServiceCreationFailed",
    "PVCCreationFailed",
    "FailedCreate",
}
"""Reasons of events: Trainer, JobSet or the job controller could not make something."""
NOT_STARTED = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
"""Reasons of waiting containers: kubelet tries again, with the same result."""
NOT_MOUNTED = {"FailedMount", "FailedAttachVolume"}
"""Reasons of events of a pod that waits for its volumes."""
NO_VOLUME = re.compile(r"(?i)persistentvolumeclaim.*not found|unbound immediate PersistentVolumeClaims")
"""The scheduler's words for a pod that no free node would help."""

QUOTA = re.compile(r"exceeded quota: \S+, requested: (\S+), used: \S+, limited: (\S+)")
"""The API server's words: what one object asks for, and the most that the namespace may have, as `cpu=2,pods=1`."""


def waiting_for(job: Manifest, pods: Sequence[Manifest]) -> str:
    """Why not all pods run, in the cluster's own words; empty when all do."""
    if suspended := condition(job, "Suspended"):
        return f"suspended: {suspended.get('message') or 'waits in its queue'}"
    reasons = {f"{reason}: {message}" if message else reason for reason, message in _reasons(pods)}
    return "; ".join([*_missing(job, pods), *sorted(reasons)])


def hopeless(job: Manifest, pods: Sequence[Manifest], complaints: Sequence[Complaint]) -> str:
    """What no waiting mends, in the cluster's own words; empty when something may still change by itself."""
    if condition(job, "Suspended") or job["spec"].get("suspend"):
        return ""
    if missing := _missing(job, pods):
        failed = [entry for entry in complaints if entry.reason in NOT_MADE]
        if failed and not pods and _fits(job, failed[-1]):
            return ""
        if failed:
            return "; ".join([*missing, str(failed[-1])])
        return "" if pods else f"{missing[0]}, and no event says why: is Kubeflow Trainer running?"
    for reason, message in _reasons(pods):
        if reason in NOT_STARTED or (reason == "Unschedulable" and NO_VOLUME.search(message)):
            return f"{reason}: {message}"
    pending = {pod["metadata"]["name"] for pod in pods if _pending(pod)}
    unmounted = [entry for entry in complaints if entry.reason in NOT_MOUNTED and entry.name in pending]
    return str(unmounted[-1]) if unmounted else ""


def pods_of(name: str, job: str = "") -> str:
    """Selector of a TrainJob's pods, or of those of one replicated job."""
    return f"jobset.sigs.k8s.io/jobset-name={name}" + (f",jobset.sigs.k8s.io/replicatedjob-name={job}" if job else "")


def condition(job: Manifest, kind: str) -> Manifest | None:
    """The condition of this type, when it holds: `Complete`, `Failed`, `Suspended`."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind and entry["status"] == "True"), None)


def container_states(pods: Iterable[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each pod with the state of each of its containers."""
    for pod in pods:
        status = pod.get("status", {})
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            yield pod, container.get("state", {})


def _missing(job: Manifest, pods: Sequence[Manifest]) -> list[str]:
    """How many of the trainer's pods and of the rollout servers there are, where that is not all."""
    made = Counter(_replicated_job(pod) for pod in pods if "deletionTimestamp" not in pod["metadata"])
    names = {NODE[0]: "pods", ROLLOUT[0]: "rollout servers"}
    return [f"{made[kind]} of {count} {names[kind]} made" for kind, count in _wanted(job).items() if made[kind] < count]


def _wanted(job: Manifest) -> dict[str, int]:
    """Pods by replicated job."""
    trainer = job["spec"]["trainer"]
    servers = [entry["value"] for entry in trainer.get("env", []) if entry["name"] == SERVERS_VARIABLE]
    return {NODE[0]: trainer.get("numNodes", 1), ROLLOUT[0]: len(servers[0].split(",")) if servers else 0}


def _fits(job: Manifest, refused: Complaint) -> bool:
    """Whether a quota refused something for what others use, who may end: alone the job would fit."""
    if not (words := QUOTA.search(refused.message)):
        return False
    asked, limit = (dict(pair.split("=") for pair in text.split(",")) for text in words.groups())
    pods = {f"{job['metadata']['name']}-{kind}-0": count for kind, count in _wanted(job).items()}
    return all(quantity(asked[what]) * pods.get(refused.name, 1) <= quantity(limit[what]) for what in asked)


def _reasons(pods: Iterable[Manifest]) -> Iterator[tuple[str, str]]:
    """Reason and message of everything that a pending pod waits for."""
    pending = [pod for pod in pods if _pending(pod)]
    for _, state in container_states(pending):
        if why := state.get("waiting"):
            yield why["reason"], why.get("message", "")
    for pod in pending:
        for why in pod["status"].get("conditions", []):
            if why.get("reason") == "Unschedulable":
                yield why["reason"], why.get("message", "")


def _pending(pod: Manifest) -> bool:
    phase: str = pod.get("status", {}).get("phase", "")
    return phase == "Pending"


def _replicated_job(pod: Manifest) -> str:
    name: str = pod["metadata"]["labels"]["jobset.sigs.k8s.io/replicatedjob-name"]
    return name
