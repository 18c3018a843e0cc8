"""Benchmarks before and after RL."""

from kfp import dsl

from fipo_kfp.components.base import job_component


@job_component
def evaluate(
    recipe: str,
    overrides: list,
    dataset: dsl.Input[dsl.Dataset],
    warmup_model: dsl.Input[dsl.Model],
    trained_model: dsl.Input[dsl.Model],
    results: dsl.Output[dsl.Dataset],
    scores: dsl.Output[dsl.Metrics],
    evaluation_summary: dsl.Output[dsl.Markdown],
    task_config: dsl.TaskConfig,
):
    """Measure the warmed-up and the trained model on the held-out benchmarks.

    Samples k responses to every problem and reports avg@k, cons@k and pass@k with their intervals, and how long the
    responses are.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        dataset: The prepared data, the benchmarks among them.
        warmup_model: The model before RL.
        trained_model: The model after RL.
        results: Where the responses and scores of every problem are.
        scores: Accuracy and response length of both models on each benchmark, for Kubeflow's page that compares runs.
        evaluation_summary: All scores, and links.
        task_config: Environment and volumes of the task, for the pods of its TrainJob; Kubeflow fills it in.
    """
    from fipo_kfp.components import door

    result = door.run("evaluate", recipe, overrides, task_config)
    door.write_outputs(results, result)
    door.write_scores(scores, result)
    door.write_summary(evaluation_summary, result)
