"""What happens when the pipeline has ended."""

from kfp import dsl

from components.base import component


@component
def finish(recipe: str, overrides: list, status: dsl.PipelineTaskFinalStatus):
    """Close the MLflow runs with the pipeline's own status.

    The exit handler of the pipelines: it runs after success, failure and cancellation alike, so that no run stays
    RUNNING for ever.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: Settings that replace the recipe's, each `key.path=value`.
        status: How the steps ended; Kubeflow fills it in.
    """
    from components import door

    door.finish(recipe, overrides, status.state)
