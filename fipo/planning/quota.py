"""The ResourceQuota under which a recipe's largest job runs, with room for what stands and runs beside it."""

from __future__ import annotations

import math

import yaml

from fipo.config import Config
from fipo.errors import ConfigError

BESIDE = 16
"""Pods beside the job: tasks of several runs or of one with many arms, MLflow, the reaper."""
BESIDE_CPU, BESIDE_GIB = 1, 4
"""Requests of each of them with its helpers, rounded up."""
SERVER_CPU, SERVER_GIB, SERVER_GPUS = 16, 256, 8
"""Requests of a rollout server, as k8s/overlays/gpu/rollouts/servers.yaml has them."""
SERVERS = 2
"""Likewise, their number."""
UNITS: dict[str, int] = {"": 1, **{unit: 1000**power for power, unit in enumerate("kMGTPE", 1)}}
UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)}
"""Bytes, by what Kubernetes writes behind a number."""


def quota_manifest(config: Config, nodes: int | None, gpus: int | None, servers: int | None) -> str:
    """The manifest in YAML: a patch of the overlay's, as its quota.yaml; what that says of storage stays.

    Args:
        config: its `trainjob` says what a node requests, for the runtime in the cluster is not looked at.
        nodes: of the job, in place of `trainjob.nodes`.
        gpus: of each, in place of `trainjob.gpus_per_node`.
        servers: rollout servers beside it with `rollout.engine = served`, in place of `SERVERS`.

    Raises:
        ConfigError: the settings do not say what a node requests.
    """
    size = config.trainjob
    if not (size.cpus_per_node and size.memory_per_node):
        raise ConfigError(
            "trainjob.cpus_per_node, trainjob.memory_per_node: must be set for a quota; got "
            f"{size.cpus_per_node}, {size.memory_per_node!r}: --set trainjob.cpus_per_node=64 "
            "--set trainjob.memory_per_node=1500Gi"
        )
    nodes, gpus = nodes or size.nodes, size.gpus_per_node if gpus is None else gpus
    servers = (servers or SERVERS) if config.rollout.engine == "served" else 0
    gib = nodes * _gib(size.memory_per_node) + servers * SERVER_GIB + BESIDE * BESIDE_GIB
    hard = {
        "requests.cpu": str(nodes * size.cpus_per_node + servers * SERVER_CPU + BESIDE * BESIDE_CPU),
        "requests.memory": f"{math.ceil(gib)}Gi",
        "requests.nvidia.com/gpu": str(nodes * gpus + servers * SERVER_GPUS),
        "pods": str(nodes + servers + BESIDE),
    }
    manifest = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "fipo"}, "spec": {"hard": hard}}
    return yaml.safe_dump(manifest, sort_keys=False)


def _gib(quantity: str) -> float:
    number = quantity.rstrip("kKMGTPEi")
    return float(number) * UNITS[quantity.removeprefix(number)] / 1024**3
