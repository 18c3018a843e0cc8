"""Where the trials of a study wait for their warm-ups."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def ready(models: dsl.Input[list[dsl.Model]]):
    """Wait for every warm-up of a study: a loop cannot wait for another one.

    Args:
        models: The warmed-up models.
    """
    print(f"{len(models)} warmed-up models", flush=True)
