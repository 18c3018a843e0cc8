"""The settings of a run, checked before anything is started."""

from kfp import dsl

from components.base import component


@component
def configure(
    recipe: str,
    overrides: list,
    run_name: str,
    data_uri: str,
    model_uri: str,
    gate_minimum: str,
    storage_uri: str,
    tracking_uri: str,
    nodes: int,
    queue: str,
    settings: dsl.Output[dsl.Markdown],
    arm: str = "",
) -> list:
    """Resolve and check the settings of a run.

    From weak to strong: the recipe, the settings of the cluster (its config map `fipo`), the parameters here that are
    not empty, the overrides. A mistake ends the run in seconds, before a GPU is asked for.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        run_name: Names the run in the object store and in MLflow (`run.name`).
        data_uri: JSONL or parquet of problems to train on, with `prompt` and `answer` (`data.train`).
        model_uri: The model to start from, a name or a path (`model.name_or_path`).
        gate_minimum: Least value of the gate metric (`gate.minimum`).
        storage_uri: Object store (`storage.uri`).
        tracking_uri: MLflow (`tracking.uri`).
        nodes: Machines of the training job (`trainjob.nodes`).
        queue: Kueue LocalQueue of the training job (`trainjob.queue`).
        settings: Every setting of the run.
        arm: Of an experiment: the name of the run, and settings over the overrides, separated by blanks.

    Returns:
        The overrides of all later tasks.
    """
    from components import door

    parameters = door.Parameters(run_name, data_uri, model_uri, gate_minimum, storage_uri, tracking_uri, nodes, queue)
    return door.configure(recipe, overrides, parameters, settings, arm)
