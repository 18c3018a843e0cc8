"""What works on the devices that a run asks for."""

from kfp import dsl

from fipo_kfp.components.base import job_component


@job_component
def doctor(
    recipe: str,
    overrides: list,
    todo: str,
    findings: dsl.Output[dsl.Markdown],
    task_config: dsl.TaskConfig,
):
    """Look at the machines and GPUs of a run before it begins there.

    Runs `fipo doctor` on every machine, and collectives over all ranks, by a job like those that train: on this
    machine, or as a TrainJob in the same image, on the same nodes. Where something is wrong the run ends here, after
    about a minute. Without GPUs it looks at nothing.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        todo: The steps that are still to do, from `configure`.
        findings: What works, what is not there, and what mends it.
        task_config: Environment and volumes of the task, for the pods of its TrainJob; Kubeflow fills it in.
    """
    from fipo_kfp.components import door

    door.doctor(recipe, overrides, todo, findings, task_config)
