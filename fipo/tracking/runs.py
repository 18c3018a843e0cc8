"""What concerns a pipeline's runs as a whole: their parent, and closing what a killed step left open."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fipo.tracking.client import PARENT, RUN_KEY, RunIdentity, connect, find_runs
from fipo.tracking.drain import Drain
from fipo.tracking.journal import Journal

_ENDS = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}

_log = logging.getLogger(__name__)


def parent_run(
    tracking_uri: str, *, experiment: str, run_name: str, run_key: str, artifact_root: str = ""
) -> RunIdentity:
    """The pipeline's run, for `Tracker.open(parent=…)`. It is made in MLflow by the first step that reaches it."""
    return RunIdentity(tracking_uri, experiment, run_name, run_key, artifact_root)


def reconcile(tracking_uri: str, *, run_key: str, status: str) -> list[str]:
    """Close the pipeline's run with its final state, and its steps that still count as running as KILLED.

    A step that closes itself leaves no such run; what is left was killed before it could.

    Args:
        tracking_uri: a database or a server.
        run_key: of the pipeline's run, as given to `parent_run`.
        status: `SUCCEEDED`, `FAILED` or `CANCELLED`.

    Returns:
        Ids of the steps' runs that were closed. Nothing is closed, and a warning given, while MLflow cannot be reached.
    """
    client = connect(tracking_uri)
    from mlflow.exceptions import MlflowException

    now = int(time.time() * 1000)
    try:
        parents = find_runs(client, RUN_KEY, run_key)
        left = [run for parent in parents for run in find_runs(client, PARENT, parent.info.run_id, status="RUNNING")]
        for run in left:
            client.set_terminated(run.info.run_id, "KILLED", end_time=now)
        for parent in parents:
            client.set_terminated(parent.info.run_id, _ENDS[status], end_time=now)
    except MlflowException as error:
        _log.warning("MLflow cannot be reached to close the runs of %s: %s", run_key, error)
        return []
    return [run.info.run_id for run in left]


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What MLflow has of a run that ended well."""

    id: str
    metrics: Mapping[str, float]
    """The newest value of each."""
    history: Mapping[str, Mapping[int, float]]
    """Values by metric and step, of the metrics that were asked for; empty for one that was never logged."""


def finished_runs(tracking_uri: str, experiment: str, history: Sequence[str] = ()) -> dict[str, FinishedRun]:
    """The finished runs of an experiment by the setting `run.name`; of those with the same name the newest.

    Args:
        tracking_uri: a database or a server.
        experiment: such as `fipo/train`; one that does not exist has no runs.
        history: metrics whose values at every step are wanted.
    """
    client = connect(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    runs = {}
    token = None
    while found:
        page = client.search_runs(
            [found.experiment_id],
            "attributes.status = 'FINISHED'",
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        for run in page:
            points = {name: client.get_metric_history(run.info.run_id, name) for name in history}
            runs[run.data.params.get("run.name", "")] = FinishedRun(
                run.info.run_id,
                run.data.metrics,
                {name: {point.step: point.value for point in series} for name, series in points.items()},
            )
        token = page.token
        if not token:
            break
    return runs


def replay(journal: Path, timeout_seconds: float = 600.0) -> bool:
    """Send what a journal still holds to MLflow, for a step that will not be run again; whether all of it is there."""
    opened = Journal(journal)
    drain = Drain(opened)
    drain.start()
    drain.finish(timeout_seconds)
    opened.close()
    return opened.drained


def replay_left(folder: Path, timeout_seconds: float = 30.0) -> list[Path]:
    """Send what the journals below `folder` still hold, of steps that have ended; those that had something left.

    A warning names what cannot be sent in time; it stays where it is.
    """
    left = []
    for path in sorted(folder.rglob("journal.jsonl")):
        if path.with_suffix(".offset").exists() and int(path.with_suffix(".offset").read_text()) < path.stat().st_size:
            left.append(path)
            if not replay(path, timeout_seconds):
                _log.warning("MLflow still has only part of what %s holds", path)
    return left
