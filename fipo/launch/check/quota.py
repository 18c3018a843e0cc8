"""Does the recipe's job fit into what the namespace may still take?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from fipo.findings import Finding
from fipo.launch.check.finding import Look
from fipo.launch.cluster import Manifest
from fipo.launch.reader import quantity
from fipo.launch.runtimes import NODE, ROLLOUT, container_resources, resources_per_node, rollout_servers, wanted_runtime

BYTES = ("memory", "storage")


def quota(look: Look) -> Iterator[Finding]:
    """What the largest job of a run asks for, against each ResourceQuota."""
    quotas = [item for item in look.reader.items(look.path("v1", "resourcequotas")) if not _scoped(item)]
    if not quotas:
        yield Finding("quota", "ok", "none")
        return
    needed = _needed(look)
    if not needed:
        yield Finding("quota", "warning", "what a job needs is not known", "mend the config map and the runtimes first")
        return
    for item in quotas:
        yield _compare(item, needed)


def _compare(item: Manifest, needed: Mapping[str, float]) -> Finding:
    hard, used = item["status"].get("hard", {}), item["status"].get("used", {})
    short, fits = [], []
    for name, limit in hard.items():
        key = name if "." in name or name == "pods" else f"requests.{name}"  # `cpu` is `requests.cpu`
        if key not in needed:
            continue
        left = quantity(limit) - quantity(used.get(name, "0"))
        line = f"{name}: the job needs {_text(name, needed[key])}, {_text(name, left)} of {limit} are left"
        fits.append(f"{name} {_text(name, needed[key])} of {_text(name, left)}")
        if needed[key] > left:
            short.append(f"{line}: {_text(name, needed[key] - left)} too little")
    check = f"quota {item['metadata']['name']}"
    if short:
        remedy = (
            "raise it (quota.yaml of the overlay), or ask for less: trainjob.nodes, gpus_, cpus_ and memory_per_node"
        )
        return Finding(check, "failed", "; ".join(short), remedy)
    return Finding(check, "ok", ", ".join(fits) or "limits nothing that a job takes")


def _needed(look: Look) -> Mapping[str, float]:
    """Requests, limits and pods of the job of the step `train`."""
    setting, name = wanted_runtime(look.config, "train") if look.config else ("", "")
    runtime = look.runtimes.get(name)
    if not (look.config and runtime):
        return {}
    servers = rollout_servers(runtime) if setting == "trainjob.rollout_runtime" else 0
    node = resources_per_node(look.config.trainjob, runtime) or container_resources(runtime, NODE)
    total: dict[str, float] = defaultdict(float)
    for count, resources in [
        (look.config.trainjob.nodes, node),
        (servers, container_resources(runtime, ROLLOUT)),
    ]:
        total["pods"] += count
        limits = resources.get("limits", {})
        for kind, amounts in {"requests": {**limits, **resources.get("requests", {})}, "limits": limits}.items():
            for name, amount in amounts.items():
                total[f"{kind}.{name}"] += count * quantity(amount)
    return total


def _scoped(item: Manifest) -> bool:
    return bool(item["spec"].get("scopes") or item["spec"].get("scopeSelector"))


def _text(name: str, amount: float) -> str:
    if not name.endswith(BYTES):
        return f"{amount:g}"
    return f"{amount / 2**40:.4g}Ti" if abs(amount) >= 2**40 else f"{amount / 2**30:.4g}Gi"
