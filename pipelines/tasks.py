"""What a cluster adds to the tasks of every pipeline; a local run ignores all of it.

`k8s/base` makes what is named here: the config map, the volume of running work, the runtime of the training jobs.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes

CONFIG_MAP = "fipo"
"""Holds the settings of all runs on the cluster, and where its services are."""
CONFIG = {
    "settings": "FIPO_SETTINGS",
    "s3_endpoint": "AWS_ENDPOINT_URL",
    "s3_response_checksums": "AWS_RESPONSE_CHECKSUM_VALIDATION",
}
"""Its keys, and the variables that they become; one that it lacks is not set."""
SECRETS = {
    "storage_secret": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "tracking_secret": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "hub_secret": ("HF_TOKEN",),
}
"""Pipeline parameter that names a secret: the keys that are taken from it; one that it lacks is not set."""
VOLUME = ("fipo-runs", "/runs")
"""Claim and mount path of work in progress, which the pods of a job share and a retried task finds again."""
DEVICE = "nvidia.com/gpu"
RETRIES = {"num_retries": 3, "backoff_duration": "30s", "backoff_factor": 2.0, "backoff_max_duration": "600s"}
"""Of a task that was lost with its node. Which failures are repeated is for the cluster to say, and Kubeflow's workflow
defaults say `retryPolicy: OnError`: infrastructure alone. What was wrong with the settings or the data stays failed."""


def place(
    task: dsl.PipelineTask, secrets: Mapping[str, Any], *, memory: str = "8Gi", cache: bool = False
) -> dsl.PipelineTask:
    """Give a task what it needs on a cluster.

    Args:
        task: the task.
        secrets: names of the secrets with the credentials, by pipeline parameter; see `SECRETS`.
        memory: allowed at most.
        cache: let Kubeflow reuse the outputs of an earlier task with the same inputs.
    """
    kubernetes.use_config_map_as_env(task, CONFIG_MAP, CONFIG, optional=True)
    for parameter, keys in SECRETS.items():
        kubernetes.use_secret_as_env(task, secrets[parameter], {key: key for key in keys}, optional=True)
    kubernetes.mount_pvc(task, *VOLUME)
    task.set_cpu_request("500m").set_cpu_limit("4").set_memory_request("1Gi").set_memory_limit(memory)
    return task.set_retry(**RETRIES).set_caching_options(cache)


def place_job(
    task: dsl.PipelineTask,
    secrets: Mapping[str, Any],
    *,
    cpu: str,
    memory: str,
    gpus: str,
    node_selector: dict[str, str],
    tolerations: list[dict[str, str]],
) -> dsl.PipelineTask:
    """The same for a task that starts a TrainJob: all of it, pipeline parameters, is for the job's pods."""
    place(task, secrets)
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    # kfp 2.17 forgets to hand the parameters of resources into an exit handler; the cluster then does not find them.
    task.register_pipeline_channels([cpu, memory, gpus])
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)
    return task.set_accelerator_type(DEVICE).set_accelerator_limit(gpus)
