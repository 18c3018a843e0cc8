"""How a pipeline run and its steps ended, as its workflow says.

What Kubeflow hands its exit handler is ML Metadata's state of the group of steps, which only a launcher that ends
updates. It stays RUNNING where the last to happen was a condition that did not hold, a pod that was lost, or a driver
that failed: a run that reused everything looks like one that was terminated.
"""

from __future__ import annotations

import base64
import gzip
import json

from fipo.launch.cluster import Cluster, Manifest
from fipo.launch.trainjob import owner_of

PHASES = {"Succeeded": "SUCCEEDED", "Skipped": "SUCCEEDED", "Failed": "FAILED", "Error": "FAILED"}
"""Argo's word for the end of a node, and Kubeflow's for a run's."""


def ended_as(pod: str, task: str) -> str:
    """State of the task (a group of steps) in the pipeline run of a pod; empty where its workflow does not say."""
    cluster = Cluster()
    owner = owner_of(cluster.pod(pod))
    workflow = cluster.workflow(owner["name"]) if owner else None
    if workflow is None:
        return ""
    if terminated(workflow):
        return "CANCELED"
    phases = {node["displayName"]: node.get("phase", "") for node in _nodes(workflow).values()}
    return PHASES.get(phases.get(task, ""), "")


def state_of(workflow: Manifest) -> str:
    """State of a pipeline run, by its workflow; empty while it goes on. One that is terminated goes on no more."""
    if terminated(workflow):
        return "CANCELED"
    status = workflow.get("status", {})
    return PHASES.get(status.get("phase", ""), "FAILED") if status.get("finishedAt") else ""


def terminated(workflow: Manifest) -> bool:
    """Whether somebody has terminated the run: so Kubeflow does it. Argo may not come to run the exit handler then."""
    return bool(workflow.get("spec", {}).get("activeDeadlineSeconds") == 0)


def _nodes(workflow: Manifest) -> Manifest:
    """Argo packs the nodes of a workflow that would be larger than 1 MiB, which a run of all steps nearly is."""
    status = workflow.get("status", {})
    if packed := status.get("compressedNodes"):
        unpacked: Manifest = json.loads(gzip.decompress(base64.b64decode(packed)))
        return unpacked
    return status.get("nodes") or {}
