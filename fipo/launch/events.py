"""What the cluster itself complains about: the Warning events of a TrainJob and of all that is made of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fipo.launch.cluster import Cluster, Manifest


@dataclass(frozen=True, slots=True)
class Complaint:
    """A Warning event."""

    kind: str
    """Of the object: `TrainJob`, `JobSet`, `Job`, `Pod`."""
    name: str
    """Of the object."""
    reason: str
    message: str
    count: int
    """How often it happened."""
    time: str
    """When it happened last, UTC to the second."""

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.kind} {self.name}: {self.reason}{times}: {self.message}"


def complaints(cluster: Cluster, job: Manifest) -> list[Complaint]:
    """The warnings about a TrainJob, its JobSet, Jobs and pods since it was created, the newest last.

    All of them bear the TrainJob's name, and an earlier job of this name may have left events behind.
    """
    name, created = job["metadata"]["name"], job["metadata"]["creationTimestamp"]
    found = [read_event(event) for event in cluster.warnings()]
    ours = [entry for entry in found if entry.name == name or entry.name.startswith(f"{name}-")]
    return sorted((entry for entry in ours if entry.time >= _second(created)), key=lambda entry: entry.time)


class Teller:
    """Says each complaint once, however many objects repeat it."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str, str]] = set()

    def new(self, found: Iterable[Complaint]) -> list[str]:
        """Lines for what was not told before, each in its newest wording."""
        latest = {_same(entry): entry for entry in found}
        fresh = {key: entry for key, entry in latest.items() if key not in self._told}
        self._told |= fresh.keys()
        return [str(entry) for entry in fresh.values()]


def _same(entry: Complaint) -> tuple[str, str, str]:
    """Equal for complaints that differ in names, numbers and the random endings of pods' names only."""
    return entry.kind, entry.reason, re.sub(r'"[^"]*"|\S*\d\S*', "", entry.message)


def read_event(event: Manifest) -> Complaint:
    """From either kind of event: kubelet's and the job controller's have `count`, Trainer's and JobSet's `series`."""
    series, about = event.get("series") or {}, event["involvedObject"]
    times = [series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")]
    time = next((stamp for stamp in times if stamp), event["metadata"]["creationTimestamp"])
    count = series.get("count") or event.get("count") or 1
    message = " ".join(event.get("message", "").split())
    return Complaint(about["kind"], about["name"], event.get("reason", ""), message, count, _second(time))


def _second(timestamp: str) -> str:
    """Some have microseconds, and `.` sorts before `Z`."""
    return timestamp[:19]
