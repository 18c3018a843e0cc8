"""Follow a TrainJob: its log, why its pods wait, how it ended. Everything is polled: no stream or watch can be lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from fipo.errors import LaunchError
from fipo.launch import cluster as api
from fipo.launch.cluster import Cluster, Manifest
from fipo.launch.runtimes import NODE

TAIL_LINES = 40
"""Of a failing pod's log."""


def follow(cluster: Cluster, name: str) -> None:
    """Print rank 0's log, progress and why pods wait, until the job has ended.

    Raises:
        LaunchError: the job failed (the message has the failing pod's last lines), was deleted, or the API stayed away.
    """
    log, said = _Log(cluster, name), ""
    while True:
        job = cluster.job(name)
        log.print_new()
        if job is None:
            raise LaunchError(f"TrainJob {cluster.namespace}/{name} was deleted by someone else")
        if condition(job, "Complete"):
            return say(f"TrainJob {name} complete")
        if failed := condition(job, "Failed"):
            raise LaunchError(_post_mortem(cluster, name, failed))
        state = _waiting_for(cluster, job) or _progress(job)
        if state != said:
            said = state
            say(f"TrainJob {name}: {state or 'all pods run'}")
        time.sleep(api.POLL_SECONDS)


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
        for line in self._cluster.log(self._pod, NODE[1], timestamps=True, **window):
            stamp, _, text = line.partition(" ")
            if stamp > self._printed_until:
                print(text, flush=True)
                self._printed_until = stamp
                self._asked = now


def _waiting_for(cluster: Cluster, job: Manifest) -> str:
    """Why pods do not run yet, in the cluster's own words; empty when all do."""
    if suspended := condition(job, "Suspended"):
        return f"suspended: {suspended.get('message') or 'waits in its queue'}"
    reasons = set()
    for pod in cluster.pods(_pods_of(job["metadata"]["name"])):
        status = pod.get("status", {})
        if status.get("phase") != "Pending":
            continue
        waiting = [state["waiting"] for state in _states(status) if "waiting" in state]
        unscheduled = [entry for entry in status.get("conditions", []) if entry.get("reason") == "Unschedulable"]
        for why in waiting + unscheduled:
            reasons.add(f"{why['reason']}: {why['message']}" if why.get("message") else why["reason"])
    return "; ".join(sorted(reasons))


def _progress(job: Manifest) -> str:
    """What the trainer reported, where Kubeflow Trainer's feature gate `TrainJobStatus` is on."""
    status = job.get("status", {}).get("trainerStatus", {})
    if "progressPercentage" not in status:
        return ""
    return f"{status['progressPercentage']} % done, {status.get('estimatedRemainingSeconds', 0)} s left"


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
        lines += [f"  {line}" for line in cluster.log(pod, NODE[1], tail_lines=TAIL_LINES)]
    return "\n".join(lines)


def _states(status: Manifest) -> Iterator[Manifest]:
    return (container.get("state", {}) for container in status.get("containerStatuses", []))


def _pods_of(name: str) -> str:
    return f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={NODE[0]}"


def condition(job: Manifest, kind: str) -> Manifest | None:
    """The condition of this type, when it holds: `Complete`, `Failed`, `Suspended`."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind and entry["status"] == "True"), None)


def say(line: str) -> None:
    """Tell the user what becomes of the job."""
    print(f"[launch] {line}", flush=True)
