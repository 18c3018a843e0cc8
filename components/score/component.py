"""Benchmarks of one model."""

from kfp import dsl

from components.base import job_component


@job_component
def score(
    recipe: str,
    overrides: list,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    results: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
    task_config: dsl.TaskConfig,
):
    """Measure one model, as it is, on the benchmarks.

    Samples k responses to every problem and reports avg@k, cons@k and pass@k, and how long the responses are.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        dataset: The prepared data, the benchmarks among them.
        model: The model.
        results: Where the responses and scores of every problem are.
        metrics: The scores on each benchmark.
        summary: The same as a page, with links.
        task_config: What is set on the task, for the pods of its TrainJob; Kubeflow fills it in.
    """
    from components import door

    result = door.run("score", recipe, overrides, task_config)
    door.write_outputs(results, result)
    door.write_metrics(metrics, result)
    door.write_summary(summary, result)
