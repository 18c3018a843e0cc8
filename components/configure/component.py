"""The settings of a run, checked before anything is started."""

from typing import NamedTuple

from kfp import dsl

from fipo_kfp.components.base import component


@component
def configure(
    recipe: str,
    recipe_changes: list,
    created: str,
    run_id: str,
    settings: dsl.Output[dsl.Markdown],
    recipe_data: str = "",
    recipe_model: str = "",
    run_gpus_per_node: int = 0,
    run_name: str = "",
    run_nodes: int = 0,
    arm: str = "",
    warmup: str = "",
    registered: str = "",
    goal: str = "report",
) -> NamedTuple("Settings", [("overrides", list), ("todo", str), ("serve", str)]):
    """Resolve and check the settings of a run, and find what of it is done already.

    From weak to strong: recipe, settings of the cluster (config map `fipo`), parameters that are filled in, changes.
    A mistake ends the run in seconds, before a GPU is asked for.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        recipe_changes: Settings that replace the recipe's, each `key.path=value`.
        created: When the run was made; Kubeflow fills it in.
        run_id: Kubeflow's id of the run.
        settings: Every setting of the run, and which steps are to be done.
        recipe_data: JSONL, CSV or parquet of problems to train on, with `prompt` and `answer` (`data.train`).
        recipe_model: The model to start from: a name, a path, or a registered version as `models:/fipo@champion`.
        run_gpus_per_node: GPUs of each machine (`trainjob.gpus_per_node`); 0 is what the recipe says.
        run_name: Names the run in the object store and in MLflow (`run.name`), with `{time}` and `{id}` filled in.
        run_nodes: Machines of the training job (`trainjob.nodes`); 0 is what the recipe says.
        arm: Of a comparison: the name of the run, and settings over the changes, separated by blanks.
        warmup: Of a study: the same of the run that shares its warm-up.
        registered: A registered model to take as it is, as `name@alias` or `name/version`.
        goal: The pipeline's last step.

    Returns:
        Overrides of later tasks (`overrides`), steps to do or `nothing` (`todo`), `yes` to serving or `no` (`serve`).
    """
    from collections import namedtuple

    from fipo_kfp.components import door
    from fipo_kfp.components.form import Form

    form = Form(
        recipe, recipe_changes, recipe_data, recipe_model, run_gpus_per_node, run_name, run_nodes, created, run_id
    )
    found = door.configure(form, settings, goal=goal, arm=arm, warmup=warmup, registered=registered)
    return namedtuple("Settings", ["overrides", "todo", "serve"])(*found)
