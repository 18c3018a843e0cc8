"""What MLflow has."""

from mlflow import MlflowClient
from mlflow.entities import Run


def runs_of(client: MlflowClient, experiment: str) -> list[Run]:
    """The runs of the experiment of this name."""
    found = client.get_experiment_by_name(experiment)
    assert found
    return list(client.search_runs([found.experiment_id]))
