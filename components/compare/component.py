"""The runs of an experiment side by side."""

from kfp import dsl

from components.base import component


@component
def compare(
    recipe: str,
    overrides: list,
    results: dsl.Input[list[dsl.Dataset]],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Compare the trained models of several runs on the gate's benchmark.

    Every run against the first, paired by problem, with intervals.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that all runs share, each `key.path=value`.
        results: The evaluations' results, one a run.
        page: Scores, lengths and differences, as a figure and a table.
        metrics: The gate metric of each run.
    """
    from components import door

    door.compare(recipe, overrides, results, page, metrics)
