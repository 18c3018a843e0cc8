"""Registration of the trained model."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def register(
    recipe: str,
    overrides: list,
    trained_model: dsl.Input[dsl.Model],
    decision: str,
    registered_model: dsl.Output[dsl.Model],
):
    """Register the trained model with its provenance.

    The new version gets the alias `candidate`, and `champion` too when the gate said so.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        trained_model: The trained model.
        decision: The gate's: `promote` or `keep`.
        registered_model: The registered version and where its weights are.
    """
    from fipo_kfp.components import door

    result = door.run("register", recipe, overrides)
    door.write_registered(registered_model, result)
