"""Supervised warm-up."""

from kfp import dsl

from components.base import job_component


@job_component
def sft(
    recipe: str,
    overrides: list,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
    task_config: dsl.TaskConfig,
):
    """Warm the model up on demonstrations.

    Loads the model, or builds it from the recipe's architecture, and trains it on the responses. With `sft.steps=0` the
    model passes through as it is. A retried task continues from the last checkpoint.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        dataset: The prepared data.
        model: Where the warmed-up model is.
        metrics: Training and held-out loss.
        summary: The same as a page, with links.
        task_config: What is set on the task, for the pods of its TrainJob; Kubeflow fills it in.
    """
    from components import door

    result = door.run("sft", recipe, overrides, task_config)
    door.write_outputs(model, result)
    door.write_metrics(metrics, result)
    door.write_summary(summary, result)
