"""The report of a run."""

from kfp import dsl

from components.base import component


@component
def report(
    recipe: str,
    overrides: list,
    results: dsl.Input[dsl.Dataset],
    registered: dsl.Input[dsl.Model],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
):
    """Write the report of the run.

    One self-contained page with the curves of training, the scores before and after, the lengths of the responses, the
    influence weights, and a response with its tokens coloured by weight.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        results: The evaluation's results.
        registered: The registered version.
        page: The report.
        summary: A page with links.
    """
    from components import door

    result = door.run("report", recipe, overrides)
    door.write_report(page, recipe, overrides)
    door.write_summary(summary, result)
