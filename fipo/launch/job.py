"""A step's distributed job: torchrun on this machine, or a TrainJob in the cluster, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fipo.config import Config


def asks_for_gpus(config: Config, step: str) -> bool:
    """Whether a step's job takes GPUs, by the settings or, in the cluster, by its TrainingRuntime.

    Raises:
        ConfigError: there is no such runtime.
    """
    if config.trainjob.gpus_per_node or not config.trainjob.runtime:
        return config.trainjob.gpus_per_node > 0
    from fipo.launch.cluster import Cluster
    from fipo.launch.runtimes import DEVICE, NODE, container_resources, runtime_of

    runtime, _ = runtime_of(config, step, Cluster())
    return DEVICE in container_resources(runtime, NODE).get("limits", {})


def run_job(
    module: str, arguments: Sequence[str], config: Config, *, step: str, fingerprint: str, task: Mapping[str, Any]
) -> None:
    """Run `python -m module arguments` on all devices and wait for the end.

    Args:
        module: what every rank runs.
        arguments: its command line.
        config: says where (`trainjob.runtime`), and on how many devices.
        step: for the name of a TrainJob, which a repeated call finds again.
        fingerprint: likewise.
        task: what the pipeline set on its task, for the pods of a TrainJob.

    Raises:
        LaunchError: it failed; what it printed stands above.
        Interrupted: stopped on request; the same call continues.
    """
    if config.trainjob.runtime:
        from fipo.launch.trainjob import train_job

        train_job(module, arguments, config=config, step=step, fingerprint=fingerprint, task=task)
    else:
        from fipo.launch.local import torchrun

        settings = config.distributed
        torchrun(module, arguments, processes=settings.processes, max_restarts=settings.max_restarts)
