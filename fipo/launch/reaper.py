"""Delete TrainJobs that nobody waits for: their pipeline run has ended, or is gone.

A terminated run is killed too quickly to delete its job, and Kubernetes collects that only when the run is deleted.
"""

from __future__ import annotations

from fipo.launch.cluster import Cluster, Manifest
from fipo.launch.lifecycle import condition
from fipo.launch.trainjob import LABELS


def reap(cluster: Cluster) -> dict[str, str]:
    """Delete the orphans; returns the reason by name."""
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    orphans = {}
    for job in cluster.jobs(selector):
        if reason := _orphaned(cluster, job):
            cluster.delete_job(job["metadata"]["name"])
            orphans[job["metadata"]["name"]] = reason
    return orphans


def _orphaned(cluster: Cluster, job: Manifest) -> str:
    """Why nobody waits for the job; empty when it has ended itself, or someone may still come back to it."""
    if condition(job, "Complete") or condition(job, "Failed"):
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
