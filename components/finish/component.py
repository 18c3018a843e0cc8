"""What happens when the pipeline has ended."""

from kfp import dsl

from components.base import component


@component
def finish(
    recipe: str,
    overrides: list,
    run_name: str,
    storage_uri: str,
    tracking_uri: str,
    status: dsl.PipelineTaskFinalStatus,
    arms: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
):
    """Close the MLflow runs with the pipeline's own status.

    The exit handler of the pipelines: it runs after success, failure and cancellation alike, so that no run stays
    RUNNING for ever.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        run_name: Names the run (`run.name`).
        storage_uri: Object store (`storage.uri`).
        tracking_uri: MLflow (`tracking.uri`).
        status: How the steps ended; Kubeflow fills it in.
        arms: Of an experiment: what `configure` was given for each run.
    """
    from components import door

    parameters = door.Parameters(run_name=run_name, storage_uri=storage_uri, tracking_uri=tracking_uri)
    for arm in arms or [""]:
        door.finish(recipe, overrides, parameters, status.state, arm)
