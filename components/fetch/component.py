"""A registered model, brought to where it is used."""

from kfp import dsl

from components.base import component


@component
def fetch(recipe: str, overrides: list, model: str, registered: dsl.Output[dsl.Model]) -> list:
    """Bring a registered model to the run's volume.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        model: The version, as `name@alias` or `name/version`.
        registered: The version and where its weights are.

    Returns:
        The overrides of the tasks that use the model as it is.
    """
    from components import door

    return door.fetch(recipe, overrides, model, registered)
