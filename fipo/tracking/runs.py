"""What concerns a pipeline's runs as a whole: their parent, and closing what a killed step left open."""

from __future__ import annotations

import logging
import time
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


def replay(journal: Path, timeout_seconds: float = 600.0) -> bool:
    """Send what a journal still holds to MLflow, for a step that will not be run again; whether all of it is there."""
    opened = Journal(journal)
    drain = Drain(opened)
    drain.start()
    drain.finish(timeout_seconds)
    opened.close()
    return opened.drained
