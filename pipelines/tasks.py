"""What the pipelines set on their tasks."""

from kfp import dsl


def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Keep Kubeflow from reusing an earlier task's outputs: fipo's own steps know better what has changed."""
    return task.set_caching_options(enable_caching=False)
