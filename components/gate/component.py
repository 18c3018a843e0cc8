"""The decision whether a model is promoted."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def gate(
    recipe: str,
    overrides: list,
    results: dsl.Input[dsl.Dataset],
    decision: dsl.Output[dsl.Markdown],
) -> str:
    """Decide whether the trained model becomes champion.

    It does when it reaches `gate.minimum` and meets `gate.rules`, which compare it with the present champion. A model
    that does not is kept as a candidate; the pipeline ends well and the summary says why.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        results: The evaluation's results.
        decision: Whether it does and why, and links.

    Returns:
        `promote` or `keep`.
    """
    from fipo_kfp.components import door

    result = door.run("gate", recipe, overrides)
    door.write_summary(decision, result)
    return "promote" if result.metrics["gate/passed"] else "keep"
