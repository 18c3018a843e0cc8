"""`fipo cluster check`: is all there that a run needs, and what mends it if not. Nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from fipo.findings import Finding
from fipo.launch.check import access, namespace, platform, pods, quota
from fipo.launch.check.finding import Look
from fipo.launch.reader import Forbidden, Reader, Unreachable

CHECKS: dict[str, Callable[[Look], Iterator[Finding]]] = {
    "Kubernetes": platform.server,
    "Kubeflow's kinds": platform.definitions,
    "webhooks": platform.webhooks,
    "Kubeflow Pipelines": platform.pipelines,
    "queue": platform.queue,
    "namespace": namespace.namespace,
    "config map": namespace.settings,
    "runtimes": namespace.runtimes,
    "secrets": namespace.secrets,
    "volume": namespace.volume,
    "quota": quota.quota,
    "permissions": access.permissions,
    "MLflow": pods.mlflow,
    "pods": pods.pods,
}


def check_cluster(
    *, namespace: str = "", recipe: str = "demo", overrides: Sequence[str] = (), host: str = ""
) -> list[Finding]:
    """Look at everything that a run of this recipe needs; one finding or more for each check.

    Args:
        namespace: of the runs; empty is the kubeconfig's.
        recipe: whose job must fit.
        overrides: settings that replace the recipe's.
        host: URL of Kubeflow Pipelines; empty is `KF_PIPELINES_ENDPOINT`.

    Raises:
        LaunchError: there is no access to any cluster.
    """
    reader = Reader()
    look = Look(
        reader,
        namespace or reader.namespace,
        named=bool(namespace),
        recipe=recipe,
        overrides=overrides,
        host=host or os.environ.get("KF_PIPELINES_ENDPOINT", ""),
        token=os.environ.get("KFP_TOKEN", ""),
    )
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            findings.extend(check(look))
        except Forbidden as error:
            findings.append(Finding(name, "warning", str(error), "have someone look who may, such as an administrator"))
        except Unreachable as error:
            findings.append(Finding(name, "failed", str(error), "is the cluster up, and KUBECONFIG the right one?"))
            break
    return findings
