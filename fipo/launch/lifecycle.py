"""Follow a TrainJob: its log, why its pods wait, how it ended. Everything is polled: no stream or watch can be lost."""

from __future__ import annotations

import time
from datetime import datetime

from fipo.errors import LaunchError
from fipo.launch import cluster as api
from fipo.launch.cluster import Cluster, Manifest
from fipo.launch.events import Teller, complaints
from fipo.launch.remedies import remedy
from fipo.launch.runtimes import NODE
from fipo.launch.waiting import condition, container_states, hopeless, pods_of, waiting_for

TAIL_LINES = 40
"""Of a failing pod's log."""


def follow(cluster: Cluster, name: str, patience_seconds: float) -> None:
    """Print rank 0's log, progress, warnings and why pods wait, until the job has ended.

    A job whose pods cannot be made or started is deleted once that has lasted `patience_seconds`.

    Raises:
        LaunchError: the job failed (the message has the failing pod's last lines), could not start, was deleted, or the
            API stayed away.
    """
    log, teller, patience, said = _Log(cluster, name), Teller(), _Patience(patience_seconds), ""
    while True:
        job = cluster.job(name)
        log.print_new()
        if job is None:
            raise LaunchError(f"TrainJob {cluster.namespace}/{name} was deleted by someone else")
        if condition(job, "Complete"):
            return say(f"TrainJob {name} complete")
        pods, warnings = cluster.pods(pods_of(name)), complaints(cluster, job)
        for line in teller.new(warnings):
            say(f"Warning: {line}")
        if failed := condition(job, "Failed"):
            raise _failure(cluster, name, failed)
        state = waiting_for(job, pods) or _progress(job)
        if state != said:
            said = state
            say(f"TrainJob {name}: {state or 'all pods run'}")
        if patience.exhausted(problem := hopeless(job, pods, warnings)):
            cluster.delete_job(name)
            raise LaunchError(_gave_up(cluster.namespace, name, patience_seconds, problem))
        time.sleep(api.POLL_SECONDS)


def _gave_up(namespace: str, name: str, seconds: float, problem: str) -> str:
    return (
        f"TrainJob {namespace}/{name} could not start for {seconds:g} s (trainjob.patience_seconds) and was deleted: "
        f"{problem}\nremedy: {remedy(problem, namespace)}"
    )


class _Patience:
    """How long a problem has lasted without a break."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def exhausted(self, problem: str) -> bool:
        now = time.monotonic()
        self._since = (self._since or now) if problem else None
        return self._since is not None and now - self._since >= self._seconds


class _Log:
    """Rank 0's log, printed as it grows, over restarts of its pod."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._selector = f"{pods_of(name, NODE[0])},batch.kubernetes.io/job-completion-index=0"
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


def _progress(job: Manifest) -> str:
    """What the trainer reported, where Kubeflow Trainer's feature gate `TrainJobStatus` is on."""
    status = job.get("status", {}).get("trainerStatus", {})
    if "progressPercentage" not in status:
        return ""
    return f"{status['progressPercentage']} % done, {status.get('estimatedRemainingSeconds', 0)} s left"


def _failure(cluster: Cluster, name: str, failed: Manifest) -> LaunchError:
    """Why the job failed, with the last lines and the exit code of the first pod that did."""
    lines = [f"TrainJob {cluster.namespace}/{name} failed: {failed.get('message') or failed.get('reason', '')}"]
    ended = [
        (state["terminated"].get("finishedAt", ""), pod["metadata"]["name"], state["terminated"])
        for pod, state in container_states(cluster.pods(pods_of(name, NODE[0])))
        if state.get("terminated", {}).get("exitCode")
    ]
    code = 1
    if ended:
        _, pod, end = min(ended, key=lambda entry: entry[:2])
        code = int(end["exitCode"])
        lines.append(f"pod {pod}: exit code {code} ({end.get('reason', 'Error')}); its last lines:")
        lines += [f"  {line}" for line in cluster.log(pod, NODE[1], tail_lines=TAIL_LINES)]
    return LaunchError("\n".join(lines), code)


def say(line: str) -> None:
    """Tell the user what becomes of the job."""
    print(f"[launch] {line}", flush=True)
