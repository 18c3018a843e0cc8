"""FIPO reinforcement learning."""

from kfp import dsl

from components.base import job_component


@job_component
def train(
    recipe: str,
    overrides: list,
    dataset: dsl.Input[dsl.Dataset],
    warmup: dsl.Input[dsl.Model],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
    task_config: dsl.TaskConfig,
):
    """Train the model with Future-KL Influenced Policy Optimization.

    Runs the RL loop under torchrun on every rank: on this machine, or as a TrainJob. A retried task continues from the
    last checkpoint.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        dataset: The prepared data.
        warmup: The model to start from.
        model: Where the trained model is.
        metrics: The last step's reward, accuracy, response length and throughput.
        summary: The same as a page, with links.
        task_config: What is set on the task, for the pods of its TrainJob; Kubeflow fills it in.
    """
    from components import door

    result = door.run("train", recipe, overrides, task_config)
    door.write_outputs(model, result)
    door.write_metrics(metrics, result)
    door.write_summary(summary, result)
