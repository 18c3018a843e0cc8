"""End what pipeline runs left behind that have ended: TrainJobs that nobody waits for, runs in MLflow that stay open.

A run that is terminated cannot do it itself: its tasks are killed before they can delete a job, and Argo may end the
exit handler too. Kubernetes collects a run's jobs only when the run is deleted.
"""

from __future__ import annotations

from contextlib import suppress

from fipo.launch.cluster import Cluster, Conflict, Manifest
from fipo.launch.ending import state_of, terminated
from fipo.launch.trainjob import LABELS
from fipo.launch.waiting import condition
from fipo.tracking.runs import open_pipeline_runs, reconcile

ROUND_SECONDS = 15.0
_OURS = ",".join(f"{key}={value}" for key, value in LABELS.items())


def reap(cluster: Cluster) -> dict[str, str]:
    """Delete the orphans; returns the reason by name."""
    orphans = {}
    for job in cluster.jobs(_OURS):
        if reason := _orphaned(cluster, job):
            with suppress(Conflict):  # another run may have taken it over meanwhile: the next round looks again
                cluster.delete_job(job["metadata"]["name"], seen=job)
                orphans[job["metadata"]["name"]] = reason
    return orphans


def close(cluster: Cluster, tracking_uri: str) -> dict[str, str]:
    """Close the runs in MLflow whose pipeline run has ended, as what it ended; returns Kubeflow's state by their keys.

    A pipeline run that this namespace does not know, or no longer, is left alone: MLflow may serve other namespaces.
    """
    closed = {}
    for key, run_id in open_pipeline_runs(tracking_uri).items():
        workflow = cluster.workflow_of(run_id)
        if state := state_of(workflow) if workflow else "":
            reconcile(tracking_uri, run_key=key, status=state, pipeline_run=run_id)
            closed[key] = state
    return closed


def _orphaned(cluster: Cluster, job: Manifest) -> str:
    """Why nobody waits for the job; empty when it has ended itself, or someone may still come back to it."""
    if condition(job, "Complete") or condition(job, "Failed"):
        return ""
    for owner in job["metadata"].get("ownerReferences", []):
        kind, name = owner["kind"], owner["name"]
        found = cluster.workflow(name) if kind == "Workflow" else cluster.pod(name)
        if found is None or found["metadata"]["uid"] != owner["uid"]:
            return f"{kind} {name} is gone"
        if terminated(found):
            return f"{kind} {name} is terminated"
        status = found.get("status", {})
        if status.get("finishedAt") or status.get("phase") in ("Succeeded", "Failed", "Error"):
            return f"{kind} {name} has ended: {status.get('phase', '')}"
    return ""
