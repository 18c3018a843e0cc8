"""FIPO reinforcement learning."""

from kfp import dsl

from fipo_kfp.components.base import job_component


@job_component
def train(
    recipe: str,
    overrides: list,
    dataset: dsl.Input[dsl.Dataset],
    warmup_model: dsl.Input[dsl.Model],
    trained_model: dsl.Output[dsl.Model],
    training_summary: dsl.Output[dsl.Markdown],
    task_config: dsl.TaskConfig,
):
    """Train the model with Future-KL Influenced Policy Optimization.

    Runs the RL loop under torchrun on every rank: on this machine, or as a TrainJob. A retried task continues from the
    last checkpoint.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        dataset: The prepared data.
        warmup_model: The model to start from.
        trained_model: Where the trained model is.
        training_summary: The last step's accuracy, response length and throughput, and links.
        task_config: Environment and volumes of the task, for the pods of its TrainJob; Kubeflow fills it in.
    """
    from fipo_kfp.components import door

    result = door.run("train", recipe, overrides, task_config)
    door.write_outputs(trained_model, result)
    door.write_summary(training_summary, result)
