"""The TrainingRuntimes of the cluster: which one a step takes, and what the settings change in it."""

from __future__ import annotations

from fipo.config import Config, TrainJobs
from fipo.errors import ConfigError
from fipo.launch.cluster import Cluster, Manifest

NODE = ("node", "node")
"""Replicated job and container that train; Trainer fixes the names."""
ROLLOUT = ("rollout", "server")
"""Replicated job and container of the rollout servers, in a runtime that has them."""
SERVERS_VARIABLE = "FIPO_ROLLOUT_SERVERS"
"""In the trainer's environment: where `fipo.rollout` looks for the servers of a job."""
DEVICE = "nvidia.com/gpu"


def wanted_runtime(config: Config, step: str) -> tuple[str, str]:
    """The setting that names the runtime of a step's TrainJob, and the name.

    The doctor looks at the nodes that train: servers would be started before there is a model that they could serve.
    """
    jobs, engine = config.trainjob, "transformers" if step == "sft" else config.rollout.engine
    if step == "doctor" and engine == "served":
        return ("trainjob.runtime", jobs.runtime) if jobs.runtime else ("trainjob.vllm_runtime", jobs.vllm_runtime)
    if engine == "transformers":
        return "trainjob.runtime", jobs.runtime
    if engine == "served" and jobs.rollout_runtime:
        return "trainjob.rollout_runtime", jobs.rollout_runtime
    return "trainjob.vllm_runtime", jobs.vllm_runtime


def runtime_of(config: Config, step: str, cluster: Cluster) -> tuple[Manifest, int]:
    """The TrainingRuntime of a step's TrainJob, and its number of rollout servers.

    Raises:
        ConfigError: it does not exist, or should have rollout servers and has none.
    """
    setting, name = wanted_runtime(config, step)
    runtime = cluster.runtime(name)
    problem = f"{setting}: must name a TrainingRuntime in namespace {cluster.namespace}"
    if runtime is None:
        raise ConfigError(f"{problem}; got {name!r}, which does not exist: apply the overlay in k8s/overlays")
    if setting != "trainjob.rollout_runtime":
        return runtime, 0
    servers = rollout_servers(runtime)
    if not servers:
        raise ConfigError(f"{problem} with a replicated job {ROLLOUT[0]!r}; got {name!r}, which has none")
    return runtime, servers


def needs_its_image(config: Config, step: str, runtime: Manifest) -> bool:
    """Whether a job must run the runtime's image: the task's own holds neither CUDA nor vLLM."""
    asked = config.trainjob.gpus_per_node or DEVICE in container_resources(runtime, NODE).get("limits", {})
    return bool(asked) or wanted_runtime(config, step)[0] != "trainjob.runtime"


def rollout_servers(runtime: Manifest) -> int:
    """How many there are in a job: the runtime says, so that people set it in one place."""
    jobs = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return sum(job["template"]["spec"].get("parallelism", 1) for job in jobs if job["name"] == ROLLOUT[0])


def resources_per_node(settings: TrainJobs, runtime: Manifest) -> Manifest:
    """Requests and limits of a node: what the settings give, else the runtime's; empty where they give nothing.

    They are complete: Trainer counts a node's processes by them alone, and would find no GPU where only the runtime
    asks for one.
    """
    wanted = {"cpu": settings.cpus_per_node, "memory": settings.memory_per_node, DEVICE: settings.gpus_per_node}
    given = {name: str(amount) for name, amount in wanted.items() if amount}
    own = container_resources(runtime, NODE)
    return {kind: {**own.get(kind, {}), **given} for kind in ("requests", "limits")} if given else {}


def container_resources(runtime: Manifest, where: tuple[str, str]) -> Manifest:
    """Requests and limits of a runtime's replicated job and container; empty where it has neither."""
    found: Manifest = {}
    for job in runtime["spec"]["template"]["spec"]["replicatedJobs"]:
        for container in job["template"]["spec"]["template"]["spec"]["containers"]:
            if (job["name"], container["name"]) == where:
                found = container.get("resources", {})
    return found
