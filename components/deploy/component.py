"""The champion served in the cluster."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def deploy(
    recipe: str,
    overrides: list,
    registered_model: dsl.Input[dsl.Model],
    serving_summary: dsl.Output[dsl.Markdown],
) -> str:
    """Serve the registry's champion, and wait until it answers a problem of the gate's benchmark.

    Off unless `deploy.enabled` is set. Makes or updates a KServe InferenceService, or a Deployment and a Service where
    KServe is absent. The version that is served already is left alone; one that does not answer within
    `deploy.patience_seconds` is taken back, and the one before is served again.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        registered_model: The version that this run registered: the champion may be another one.
        serving_summary: What is served, where, and what it answered.

    Returns:
        Address in the cluster, for clients that speak OpenAI's protocol; empty where nothing is served.
    """
    from fipo_kfp.components import door

    return door.deploy(recipe, overrides, serving_summary)
