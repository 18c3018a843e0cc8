"""Supervised warm-up."""

from kfp import dsl

from components.base import component


@component
def sft(
    recipe: str,
    overrides: list,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
):
    """Warm the model up on demonstrations.

    Loads the model, or builds it from the recipe's architecture, and trains it on the responses. With `sft.steps=0` the
    model passes through as it is. A retried task continues from the last checkpoint.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        dataset: The prepared data.
        model: Where the warmed-up model is.
        metrics: Training and held-out loss.
        summary: The same as a page, with links.
    """
    from components import door

    result = door.run("sft", recipe, overrides)
    door.write_outputs(model, result)
    door.write_metrics(metrics, result)
    door.write_summary(summary, result)
