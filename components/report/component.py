"""The report of a run."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def report(
    recipe: str,
    overrides: list,
    results: dsl.Input[dsl.Dataset],
    registered_model: dsl.Input[dsl.Model],
    report_page: dsl.Output[dsl.HTML],
):
    """Write the report of the run.

    One self-contained page with the curves of training, the scores before and after, the lengths of the responses, the
    influence weights, and a response with its tokens coloured by weight.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        results: The evaluation's results.
        registered_model: The registered version.
        report_page: The report.
    """
    from fipo_kfp.components import door

    door.run("report", recipe, overrides)
    door.write_report(report_page, recipe, overrides)
