"""What happens when the pipeline has ended."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def finish(
    recipe: str,
    recipe_changes: list,
    run_name: str,
    created: str,
    run_id: str,
    status: dsl.PipelineTaskFinalStatus,
    arms: list = [],  # noqa: B006 - kfp reads the default; nothing changes it
    runs: list = [],  # noqa: B006
):
    """Close the MLflow runs with the pipeline's own status.

    The exit handler of the pipelines: it runs after success, failure and cancellation alike, so that no run stays
    RUNNING for ever.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        recipe_changes: Settings that replace the recipe's, each `key.path=value`.
        run_name: Names the run (`run.name`), with `{time}` and `{id}` filled in.
        created: When the run was made; Kubeflow fills it in.
        run_id: Kubeflow's id of the run.
        status: How the steps ended; Kubeflow fills it in.
        arms: Of a comparison: what `configure` was given for each run.
        runs: Of a study: the same with each run's recipe and its warm-up, which is closed too.
    """
    from fipo_kfp.components import door
    from fipo_kfp.components.form import Form

    asked = runs or [{"recipe": recipe, "arm": arm} for arm in arms or [""]]
    state = door.ended_as(status)
    warmups = {(run["recipe"], run["warmup"]) for run in asked if run.get("warmup")}
    for where, arm in [*sorted(warmups), *((run["recipe"], run["arm"]) for run in asked)]:
        form = Form(where, recipe_changes, run_name=run_name, created=created, run_id=run_id)
        door.finish(form, state, arm)
