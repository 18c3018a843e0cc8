"""What a cluster adds to the tasks of every pipeline; a local run ignores all of it.

`k8s/base` makes what is named here: the config map, the secret, the volume of running work, the runtime of the jobs.
"""

from kfp import dsl, kubernetes

NAME = "fipo"
"""Of the config map with the settings of all runs in the namespace, and of the secret with the tasks' credentials."""
CONFIG = {
    "settings": "FIPO_SETTINGS",
    "s3_endpoint": "AWS_ENDPOINT_URL_S3",
    "s3_request_checksums": "AWS_REQUEST_CHECKSUM_CALCULATION",
    "s3_response_checksums": "AWS_RESPONSE_CHECKSUM_VALIDATION",
}
"""Keys of the config map, and the variables that they become; one that it lacks is not set. The address is that of S3
alone: `AWS_ENDPOINT_URL` is that of every service, STS too, which is asked for a role and is sent the pod's token."""
SECRET = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "HF_TOKEN",
)
"""Keys of the secret, which become variables of the same name; one that it lacks is not set."""
AZURE = ("azure.workload.identity/use", "true")
"""Azure gives an account's identity to pods with this label alone; elsewhere it means nothing."""
VOLUME = ("fipo-runs", "/runs")
"""Claim and mount path of work in progress, which the pods of a job share and a retried task finds again."""
RETRIES = {"num_retries": 3, "backoff_duration": "30s", "backoff_factor": 2.0, "backoff_max_duration": "720h"}
"""Of a task that was lost with its node. Which failures are repeated is for the cluster to say, and Kubeflow's workflow
defaults say `retryPolicy: OnError`: infrastructure alone. What was wrong with the settings or the data stays failed.
The maximum is no pause between two attempts: Argo counts it from the start of the first one, repeats nothing after it,
and ends the attempt that runs then. A month is longer than any task."""
LARGE = {"cpu": "250m", "memory": "2Gi", "memory_limit": "32Gi"}
"""Of a task that works on data itself, see `place`."""
USER = 10001
"""The image's. A namespace under the restricted Pod Security Standard refuses pods that do not say it: Kubeflow adds
the rest of what the standard asks for, but not this."""


def place(
    task: dsl.PipelineTask, title: str, *, cpu: str = "100m", memory: str = "1Gi", memory_limit: str = "8Gi"
) -> dsl.PipelineTask:
    """Give a task what it needs on a cluster.

    Args:
        task: the task. One that starts a TrainJob only looks on; the job's size is a setting (`trainjob`).
        title: what the UI's graph shows.
        cpu: requested; up to four are used where the node has them free.
        memory: requested.
        memory_limit: allowed at most.
    """
    kubernetes.use_config_map_as_env(task, NAME, CONFIG, optional=True)
    kubernetes.use_secret_as_env(task, NAME, {key: key for key in SECRET}, optional=True)
    kubernetes.mount_pvc(task, *VOLUME)
    kubernetes.add_pod_label(task, *AZURE)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    task.set_cpu_request(cpu).set_cpu_limit("4").set_memory_request(memory).set_memory_limit(memory_limit)
    # Kubeflow knows a task again by its parameters; fipo does by what its inputs hold, and says so in seconds.
    return task.set_display_name(title).set_retry(**RETRIES).set_caching_options(False)
