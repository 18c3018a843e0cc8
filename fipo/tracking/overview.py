"""What MLflow knows of some runs, for who looks at them from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fipo.errors import TrackingError
from fipo.tracking.client import PIPELINE_RUN, RUN_KEY, connect, find_runs, page_of

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class RunState:
    """A run in MLflow."""

    status: str
    """RUNNING, FINISHED, FAILED, KILLED or SCHEDULED."""
    page: str
    """For browsers; empty for a database."""
    pipeline_run: str
    """Id of Kubeflow's run; empty without one."""
    metrics: Mapping[str, float]
    """The newest value of each."""


def run_states(tracking_uri: str, keys: Iterable[str], *, public_uri: str = "") -> dict[str, RunState]:
    """The runs of these keys that MLflow has, by key.

    Args:
        tracking_uri: a database or a server.
        keys: as given to `Tracker.open` and `parent_run`.
        public_uri: the server's address for browsers; empty where it is `tracking_uri`.

    Raises:
        TrackingError: it does not answer, or there is no such database.
    """
    if tracking_uri.startswith(_SQLITE) and not Path(tracking_uri.removeprefix(_SQLITE)).is_file():
        raise TrackingError(f"{tracking_uri} is not on this machine")
    client = connect(tracking_uri)
    from mlflow.exceptions import MlflowException

    try:
        found = {key: find_runs(client, RUN_KEY, key) for key in keys}
    except MlflowException as error:
        raise TrackingError(f"{tracking_uri} does not answer: {error.message}") from error
    return {
        key: RunState(
            run.info.status,
            page_of(public_uri or tracking_uri, run.info.experiment_id, run.info.run_id),
            run.data.tags.get(PIPELINE_RUN, ""),
            run.data.metrics,
        )
        for key, runs in found.items()
        for run in runs[:1]
    }
