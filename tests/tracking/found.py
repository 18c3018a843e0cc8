"""What MLflow has, however long its database takes."""

from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

PATIENT: dict[str, Any] = {"close_timeout_seconds": 600.0}
"""For `Tracker.open`: on a busy machine half a minute may not be enough for a few points."""


def runs_of(client: MlflowClient, experiment: str) -> list[Run]:
    """The runs of the experiment of this name."""
    found = client.get_experiment_by_name(experiment)
    assert found
    return list(client.search_runs([found.experiment_id]))
