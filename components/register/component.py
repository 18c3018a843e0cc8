"""Registration of the trained model."""

from kfp import dsl

from components.base import component


@component
def register(
    recipe: str,
    overrides: list,
    model: dsl.Input[dsl.Model],
    decision: str,
    registered: dsl.Output[dsl.Model],
    summary: dsl.Output[dsl.Markdown],
):
    """Register the trained model with its provenance.

    The new version gets the alias `candidate`, and `champion` too when the gate said so.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        model: The trained model.
        decision: The gate's: `promote` or `keep`.
        registered: The registered version and where its weights are.
        summary: A page with links.
    """
    from components import door

    result = door.run("register", recipe, overrides)
    door.write_registered(registered, result)
    door.write_summary(summary, result)
