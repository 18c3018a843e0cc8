"""What a check looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fipo.config import Config, load_config
from fipo.errors import ConfigError
from fipo.launch.cluster import Manifest
from fipo.launch.reader import Reader
from fipo.launch.runtimes import wanted_runtime

CONFIG_MAP, SECRET, VOLUME = "fipo", "fipo", "fipo-runs"
"""Names that `k8s/base` gives."""
APPLY = "kubectl apply --kustomize k8s/overlays/OVERLAY (local, gpu, prod, or your own)"


@dataclass(frozen=True)
class Look:
    """What is checked: one namespace of a cluster, for one recipe."""

    reader: Reader
    namespace: str
    named: bool
    """The user named the namespace; else it is the kubeconfig's."""
    recipe: str
    overrides: Sequence[str] = ()
    host: str = ""
    """URL of Kubeflow Pipelines; empty where it is not known."""
    token: str = ""
    """For Kubeflow Pipelines."""

    def path(self, group: str, resource: str, name: str = "") -> str:
        """Of something in the namespace; `group` is `v1` or `apps/v1`."""
        root = "/api/" if "/" not in group else "/apis/"
        return f"{root}{group}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    def get(self, group: str, resource: str, name: str) -> Manifest | None:
        """An object of the namespace, or None."""
        return self.reader.get(self.path(group, resource, name))

    @cached_property
    def config_map(self) -> Manifest | None:
        """The settings of the cluster."""
        return self.get("v1", "configmaps", CONFIG_MAP)

    @cached_property
    def config(self) -> Config | None:
        """The settings of a run here; None where they are refused, which a check of its own says."""
        try:
            return self.load()
        except ConfigError:
            return None

    def load(self) -> Config:
        """The settings of a run here, as the pipeline makes them.

        Raises:
            ConfigError: they are refused.
        """
        data = (self.config_map or {}).get("data") or {}
        lines = [line for line in data.get("settings", "").splitlines() if line.strip()]
        return load_config(self.recipe, [*lines, *self.overrides])

    @cached_property
    def runtimes(self) -> dict[str, Manifest | None]:
        """The TrainingRuntimes that the settings name, by name."""
        if self.config is None or not self.config.trainjob.runtime:
            return {}
        names = {wanted_runtime(self.config, step)[1] for step in ("sft", "train")}
        group = "trainer.kubeflow.org/v1alpha1"
        return {name: self.get(group, "trainingruntimes", name) for name in sorted(names)}


def pod_specs(runtime: Manifest) -> list[Manifest]:
    """Of the pods of a TrainingRuntime."""
    jobs = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return [job["template"]["spec"]["template"]["spec"] for job in jobs]
