"""Is everything in the namespace that `k8s/` makes, and does it fit together?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fipo.errors import ConfigError
from fipo.findings import Finding
from fipo.launch.check.finding import APPLY, CONFIG_MAP, SECRET, VOLUME, Look, pod_specs
from fipo.launch.cluster import Manifest
from fipo.launch.runtimes import ROLLOUT, rollout_servers, wanted_runtime

LEVEL = "pod-security.kubernetes.io/enforce"
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
IDENTITIES = ("eks.amazonaws.com/role-arn", "fipo.dev/identity")
"""Annotations of the trainer's account that k8s/components/identity-eks sets: its pods reach the store without keys."""


def namespace(look: Look) -> Iterator[Finding]:
    """The namespace, and what its pods may do."""
    found = look.reader.get(f"/api/v1/namespaces/{look.namespace}")
    if found is None:
        yield Finding("namespace", "failed", f"{look.namespace} does not exist", APPLY)
        return
    level = found["metadata"].get("labels", {}).get(LEVEL)
    if level is None:
        remedy = f"kubectl label namespace {look.namespace} {LEVEL}=restricted (the overlays gpu and prod do)"
        yield Finding("namespace", "warning", f"{look.namespace} enforces no Pod Security level", remedy)
        return
    yield Finding("namespace", "ok", f"{look.namespace}, Pod Security {level}")


def settings(look: Look) -> Iterator[Finding]:
    """The settings of the cluster, with those of the recipe."""
    check = f"config map {CONFIG_MAP}"
    if look.config_map is None:
        yield Finding(check, "failed", "does not exist", APPLY)
        return
    try:
        config = look.load()
    except ConfigError as error:
        yield Finding(check, "failed", str(error), f"kubectl --namespace {look.namespace} edit configmap {CONFIG_MAP}")
        return
    if not config.trainjob.runtime:
        remedy = "set trainjob.runtime in k8s/base/settings.yaml, and apply the overlay"
        yield Finding(check, "warning", "no trainjob.runtime: steps train in their own pod", remedy)
        return
    yield Finding(
        check, "ok", f"recipe {look.recipe}: nodes {config.trainjob.nodes}, runtime {config.trainjob.runtime}"
    )


def runtimes(look: Look) -> Iterator[Finding]:
    """The TrainingRuntimes that the settings name."""
    for name, runtime in look.runtimes.items():
        check = f"runtime {name}"
        if runtime is None:
            yield Finding(check, "failed", "does not exist", f"{APPLY}; its names carry fipo's version")
        elif _lacks_servers(look, name, runtime):
            remedy = "name one that has it: kubectl get trainingruntimes"
            yield Finding(
                check, "failed", f"no replicated job {ROLLOUT[0]}, which trainjob.rollout_runtime needs", remedy
            )
        else:
            yield Finding(check, "ok", f"{len(pod_specs(runtime))} kind(s) of pods")


def secrets(look: Look) -> Iterator[Finding]:
    """Secrets and their keys, by name: of the tasks, of the runtimes' pods, of MLflow. Values are not looked at."""
    wanted: dict[str, set[str]] = {}
    if look.config and look.config.storage.uri.startswith("s3://") and not _has_identity(look):
        wanted[SECRET] = set(STORE_KEYS)
    specs = [spec for runtime in look.runtimes.values() if runtime for spec in pod_specs(runtime)]
    mlflow = look.get("apps/v1", "deployments", "mlflow")
    for name, keys in _secret_keys([*specs, *([mlflow["spec"]["template"]["spec"]] if mlflow else [])]):
        wanted.setdefault(name, set()).update(keys)
    for name, keys in sorted(wanted.items()):
        found = look.get("v1", "secrets", name)
        missing = keys - set((found or {}).get("data") or {})
        literals = " ".join(f"--from-literal={key}=..." for key in sorted(missing))
        remedy = f"kubectl --namespace {look.namespace} create secret generic {name} {literals}"
        if found is None:
            yield Finding(f"secret {name}", "failed", f"does not exist; keys: {', '.join(sorted(keys))}", remedy)
        elif missing:
            remedy = f"kubectl --namespace {look.namespace} edit secret {name}"
            yield Finding(f"secret {name}", "failed", f"lacks {', '.join(sorted(missing))}", remedy)
        else:
            yield Finding(f"secret {name}", "ok", ", ".join(sorted(keys)))


def volume(look: Look) -> Iterator[Finding]:
    """The volume of running work: bound, or about to be, and writable from all nodes of a job."""
    check, claim = f"volume {VOLUME}", look.get("v1", "persistentvolumeclaims", VOLUME)
    if claim is None:
        yield Finding(check, "failed", "does not exist", APPLY)
        return
    modes, nodes = claim["spec"]["accessModes"], look.config.trainjob.nodes if look.config else 1
    if nodes > 1 and "ReadWriteMany" not in modes:
        remedy = (
            "accessModes: [ReadWriteMany] in k8s/base/storage.yaml, with a class that offers it; or trainjob.nodes=1"
        )
        yield Finding(check, "failed", f"{', '.join(modes)}, and a job has {nodes} nodes", remedy)
        return
    if claim.get("status", {}).get("phase") == "Bound":
        yield Finding(check, "ok", f"bound, {', '.join(modes)}")
        return
    yield _unbound(look, check, claim["spec"].get("storageClassName"))


def _unbound(look: Look, check: str, name: str | None) -> Finding:
    classes = {item["metadata"]["name"]: item for item in look.reader.items("/apis/storage.k8s.io/v1/storageclasses")}
    known = ", ".join(sorted(classes)) or "there is none"
    if name not in classes:
        remedy = f"name a storage class in k8s/base/storage.yaml ({known}), and delete and apply the claim"
        return Finding(
            check, "failed", f"not bound: no storage class {name!r}" if name else "not bound: no storage class", remedy
        )
    if classes[name].get("volumeBindingMode") == "WaitForFirstConsumer":
        return Finding(check, "ok", f"binds with the first pod, storage class {name}")
    remedy = f"kubectl --namespace {look.namespace} describe pvc {VOLUME}"
    return Finding(check, "failed", f"not bound, storage class {name}", remedy)


def _lacks_servers(look: Look, name: str, runtime: Manifest) -> bool:
    assert look.config, "its settings name it"
    return wanted_runtime(look.config, "train") == ("trainjob.rollout_runtime", name) and not rollout_servers(runtime)


def _has_identity(look: Look) -> bool:
    account = look.get("v1", "serviceaccounts", "fipo-trainer") or {"metadata": {}}
    return any(name in account["metadata"].get("annotations", {}) for name in IDENTITIES)


def _secret_keys(specs: Iterable[Manifest]) -> Iterator[tuple[str, set[str]]]:
    """Names and keys of secrets without which the pods do not start."""
    for spec in specs:
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {}).get("secretKeyRef")
                if source and not source.get("optional"):
                    yield source["name"], {source["key"]}
        for mounted in spec.get("volumes", []):
            source = mounted.get("secret")
            if source and not source.get("optional"):
                yield source["secretName"], {item["key"] for item in source.get("items", [])}
