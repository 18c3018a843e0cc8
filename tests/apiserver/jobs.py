"""TrainJobs as the launcher makes them of what Kubeflow hands to a task."""

from typing import Any

from fipo.launch.trainjob import TrainJob
from fipo_kfp.pipelines.tasks import CONFIG, NAME, SECRET, VOLUME

Manifest = dict[str, Any]
CLAIM, PATH = VOLUME
TASK = {
    # As `dsl.TaskConfig` arrives: `place` in fipo_kfp/pipelines/tasks.py, and what a user's own task may add.
    "env": [
        {"name": "NCCL_DEBUG", "value": "WARN"},
        *(
            {"name": name, "valueFrom": {"configMapKeyRef": {"name": NAME, "key": key, "optional": True}}}
            for key, name in CONFIG.items()
        ),
        *({"name": key, "valueFrom": {"secretKeyRef": {"name": NAME, "key": key, "optional": True}}} for key in SECRET),
    ],
    "volumes": [{"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}}],
    "volume_mounts": [{"name": CLAIM, "mountPath": PATH}],
}
OWNER = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "name": "run",
    "uid": "8c1f3f1c-0000-4000-8000-000000000001",
}


def train_job(runtime: str = "fipo-0-2-0", *, servers: int = 0, **more: Any) -> TrainJob:
    """A job with everything that a task can give it."""
    command = ["python", "-m", "fipo.launch.node", "--module", "fipo.training.rl", "--config", "/runs/demo/config.yaml"]
    settings: dict[str, Any] = {
        "nodes": 2,
        "rollout_servers": servers,
        "settings": "/runs/demo/config.yaml" if servers else "",
        "time_limit_seconds": 3600,
        "queue": "research",
        "resources": {"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}},
        "node_selector": {"accelerator": "h200"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "task": TASK,
        **more,
    }
    return TrainJob("demo", "train", "ab" * 32, command, runtime=runtime, **settings)
