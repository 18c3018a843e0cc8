"""Delete TrainJobs that nobody waits for: their pipeline run has ended, or is gone.

A terminated run's tasks are killed too quickly to delete their jobs, and Kubernetes collects those only when the run is
deleted. The run's exit handler deletes them, or else the reaper does.
"""

from __future__ import annotations

import os

from fipo.launch.cluster import Cluster, Manifest
from fipo.launch.trainjob import LABELS, owner_of
from fipo.launch.waiting import condition

_OURS = ",".join(f"{key}={value}" for key, value in LABELS.items())


def delete_jobs_of_this_run() -> list[str]:
    """Delete the TrainJobs that the pipeline run of this pod has left running; returns their names.

    For the exit handler: when that runs, no task follows them any more. Outside a pod of a pipeline nothing is done.
    """
    if "KFP_POD_NAME" not in os.environ:
        return []
    cluster = Cluster()
    run = owner_of(cluster.pod(os.environ["KFP_POD_NAME"]))
    left = [job for job in cluster.jobs(_OURS) if not _ended(job) and run and _belongs_to(job, run["uid"])]
    for job in left:
        cluster.delete_job(job["metadata"]["name"])
    return [job["metadata"]["name"] for job in left]


def reap(cluster: Cluster) -> dict[str, str]:
    """Delete the orphans; returns the reason by name."""
    orphans = {}
    for job in cluster.jobs(_OURS):
        if reason := _orphaned(cluster, job):
            cluster.delete_job(job["metadata"]["name"])
            orphans[job["metadata"]["name"]] = reason
    return orphans


def _orphaned(cluster: Cluster, job: Manifest) -> str:
    """Why nobody waits for the job; empty when it has ended itself, or someone may still come back to it."""
    if _ended(job):
        return ""
    for owner in job["metadata"].get("ownerReferences", []):
        kind, name = owner["kind"], owner["name"]
        found = cluster.workflow(name) if kind == "Workflow" else cluster.pod(name)
        if found is None or found["metadata"]["uid"] != owner["uid"]:
            return f"{kind} {name} is gone"
        status = found.get("status", {})
        if status.get("finishedAt") or status.get("phase") in ("Succeeded", "Failed", "Error"):
            return f"{kind} {name} has ended: {status.get('phase', '')}"
    return ""


def _ended(job: Manifest) -> bool:
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def _belongs_to(job: Manifest, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in job["metadata"].get("ownerReferences", []))
