"""The runs of a comparison side by side."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def compare(
    recipe: str,
    recipe_changes: list,
    results: dsl.Input[list[dsl.Dataset]],
    comparison: dsl.Output[dsl.HTML],
    comparison_scores: dsl.Output[dsl.Metrics],
    study: str = "",
):
    """Compare the trained models of several runs on the gate's benchmark.

    Every run against the first, paired by problem, with intervals; of a study every arm against its baseline, paired by
    seed, and what may be concluded.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        recipe_changes: Settings that all runs share, each `key.path=value`.
        results: The evaluations' results, one a run.
        comparison: Scores, lengths and differences, as a figure and a table.
        comparison_scores: The gate metric of each run; of a study its outcome, for each arm.
        study: A study's file as text, where the runs are its trials.
    """
    from fipo_kfp.components import door
    from fipo_kfp.components.form import Form

    door.compare(Form(recipe, recipe_changes), results, comparison, comparison_scores, study=study)
