"""What concerns a pipeline's runs as a whole: their parent, and closing what a killed step left open."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fipo.errors import TrackingError
from fipo.tracking.client import (
    NOTE,
    PARENT,
    PIPELINE_RUN,
    RUN_KEY,
    RunIdentity,
    connect,
    find_parent,
    find_runs,
    page_of,
)
from fipo.tracking.drain import Drain
from fipo.tracking.journal import Journal, sent_until
from fipo.tracking.words import KUBEFLOW

ENDS = {
    "COMPLETE": "FINISHED", "CACHED": "FINISHED", "SUCCEEDED": "FINISHED", "SUCCESS": "FINISHED", "SKIPPED": "FINISHED",
    "RUNNING": "KILLED", "CANCELED": "KILLED", "CANCELLED": "KILLED", "CANCELING": "KILLED", "PAUSED": "KILLED",
    "NEW": "KILLED", "PENDING": "KILLED",
    "FAILED": "FAILED", "FAILURE": "FAILED",
}  # fmt: skip
"""MLflow's word for each state in which Kubeflow says that a pipeline ended.

On a cluster it hands over ML Metadata's states, where `fipo.launch.ending` does not know better; of those RUNNING is
what the exit handler of a terminated run sees. `kfp.local` and the API of runs have words of their own.
"""
STATE = "fipo.pipeline_state"
"""Tag of the pipeline's run: the state in Kubeflow's own word."""

_log = logging.getLogger(__name__)


def parent_run(
    tracking_uri: str, *, experiment: str, run_name: str, run_key: str, artifact_root: str = ""
) -> RunIdentity:
    """The pipeline's run, for `Tracker.open(parent=…)`. It is made in MLflow by the first step that reaches it."""
    return RunIdentity(tracking_uri, experiment, run_name, run_key, artifact_root)


def link_pipeline_run(parent: RunIdentity, *, run_id: str, page: str, public_uri: str = "") -> str:
    """Note Kubeflow's run on the pipeline's run in MLflow, which is made or open again; steps that begin later copy it.

    Args:
        parent: from `parent_run`.
        run_id: of Kubeflow's run; the newest counts where several have continued one another.
        page: its page for browsers, a link in the run's description; empty leaves that as it is.
        public_uri: MLflow's address for browsers; empty where it is `parent.tracking_uri`.

    Returns:
        Page of the run in MLflow; empty for a database and, with a warning, while MLflow cannot be reached.
    """
    client = connect(parent.tracking_uri)
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(find_parent(client, parent))
        client.update_run(run.info.run_id, "RUNNING")  # again, where a run of before has ended
        client.set_tag(run.info.run_id, PIPELINE_RUN, run_id)
        if page:
            own = [line for line in run.data.tags.get(NOTE, "").splitlines() if not line.startswith(KUBEFLOW)]
            client.set_tag(run.info.run_id, NOTE, "\n".join([f"{KUBEFLOW}[{run_id}]({page})", *own]))
    except (MlflowException, TrackingError) as error:
        _log.warning("MLflow cannot be told that %s is Kubeflow's run %s: %s", parent.name, run_id, error)
        return ""
    return page_of(public_uri or parent.tracking_uri, run.info.experiment_id, run.info.run_id)


def open_pipeline_runs(tracking_uri: str) -> dict[str, str]:
    """Ids of Kubeflow's runs whose run here counts as running, by its key; none, with a warning, without MLflow."""
    client = connect(tracking_uri)
    from mlflow.exceptions import MlflowException

    try:
        open_ = [run.data.tags for run in find_runs(client, status="RUNNING") if PARENT not in run.data.tags]
    except MlflowException as error:
        _log.warning("MLflow cannot be asked which pipeline runs are open: %s", error)
        return {}
    return {tags[RUN_KEY]: tags[PIPELINE_RUN] for tags in open_ if {RUN_KEY, PIPELINE_RUN} <= tags.keys()}


def reconcile(tracking_uri: str, *, run_key: str, status: str, pipeline_run: str = "") -> list[str]:
    """Close the pipeline's run with its final state, and its steps that still count as running as KILLED.

    A step that closes itself leaves no such run; what is left was killed before it could.

    Args:
        tracking_uri: a database or a server.
        run_key: of the pipeline's run, as given to `parent_run`.
        status: as Kubeflow says it, see `ENDS`; a word that is not there closes the run as FAILED, with a warning.

    Returns:
        Ids of the steps' runs that were closed. Nothing is closed, and a warning given, while MLflow cannot be reached.
    """
    client = connect(tracking_uri)
    from mlflow.exceptions import MlflowException

    now, end = int(time.time() * 1000), ENDS.get(status, "FAILED")
    if status not in ENDS:
        _log.warning("%s: Kubeflow says that it ended as %r, a state that fipo does not know: FAILED", run_key, status)
    try:
        parents = find_runs(client, RUN_KEY, run_key)
        linked = find_runs(client, PIPELINE_RUN, pipeline_run) if pipeline_run else []
        known = {parent.info.run_id for parent in parents}
        parents += [run for run in linked if PARENT not in run.data.tags and run.info.run_id not in known]
        left = [run for parent in parents for run in find_runs(client, PARENT, parent.info.run_id, status="RUNNING")]
        for run in left:
            client.set_terminated(run.info.run_id, "KILLED", end_time=now)
        for parent in parents:
            client.set_tag(parent.info.run_id, STATE, status or "UNKNOWN")
            client.set_terminated(parent.info.run_id, end, end_time=now)
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
        if path.with_suffix(".offset").exists() and sent_until(path) < path.stat().st_size:
            left.append(path)
            if not replay(path, timeout_seconds):
                _log.warning("MLflow still has only part of what %s holds", path)
    return left
