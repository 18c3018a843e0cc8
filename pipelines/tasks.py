"""What a cluster adds to the tasks of every pipeline; a local run ignores all of it.

`k8s/base` makes what is named here: the config map, the volume of running work, the runtime of the training jobs.

No task sets a retry policy: Kubeflow's workflow defaults repeat a task that was lost with its node, and only that. A
policy on the task would repeat mistakes as well.
"""

from kfp import dsl, kubernetes

CONFIG_MAP = "fipo"
"""Holds the settings of all runs on the cluster, and where its services are."""
SECRET_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "HF_TOKEN",
)
VOLUME = ("fipo-runs", "/runs")
"""Claim and mount path of work in progress, which the pods of a job share and a retried task finds again."""
DEVICE = "nvidia.com/gpu"


def place(
    task: dsl.PipelineTask, secret: str, *, cpu: str = "1", memory: str = "4Gi", cache: bool = False
) -> dsl.PipelineTask:
    """Give a task what it needs on a cluster.

    Args:
        task: the task.
        secret: name of the secret with the credentials; a key that it lacks is not set.
        cpu: requested and allowed at most.
        memory: requested and allowed at most.
        cache: let Kubeflow reuse the outputs of an earlier task with the same inputs.
    """
    kubernetes.use_config_map_as_env(
        task, CONFIG_MAP, {"settings": "FIPO_SETTINGS", "s3_endpoint": "AWS_ENDPOINT_URL"}, optional=True
    )
    kubernetes.use_secret_as_env(task, secret, {key: key for key in SECRET_KEYS}, optional=True)
    kubernetes.mount_pvc(task, *VOLUME)
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    return task.set_caching_options(cache)


def place_job(task: dsl.PipelineTask, secret: str, *, cpu: str, memory: str, gpus: str) -> dsl.PipelineTask:
    """The same for a task that starts a TrainJob: CPU, memory and GPUs, pipeline parameters, are each of its pods'."""
    place(task, secret, cpu=cpu, memory=memory)
    # kfp 2.17 forgets to hand the parameters of resources into an exit handler; the cluster then does not find them.
    task.register_pipeline_channels([cpu, memory, gpus])
    return task.set_accelerator_type(DEVICE).set_accelerator_limit(gpus)
