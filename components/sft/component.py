"""Supervised warm-up."""

from kfp import dsl

from fipo_kfp.components.base import job_component


@job_component
def sft(
    recipe: str,
    overrides: list,
    dataset: dsl.Input[dsl.Dataset],
    warmup_model: dsl.Output[dsl.Model],
    warmup_summary: dsl.Output[dsl.Markdown],
    task_config: dsl.TaskConfig,
):
    """Warm the model up on demonstrations.

    Loads the model, or builds it from the recipe's architecture, and trains it on the responses. With `sft.steps=0` the
    model passes through as it is. A retried task continues from the last checkpoint.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        dataset: The prepared data.
        warmup_model: Where the warmed-up model is.
        warmup_summary: Training and held-out loss, and links.
        task_config: Environment and volumes of the task, for the pods of its TrainJob; Kubeflow fills it in.
    """
    from fipo_kfp.components import door

    result = door.run("sft", recipe, overrides, task_config)
    door.write_outputs(warmup_model, result)
    door.write_summary(warmup_summary, result)
