"""What a cluster does not let change in a manifest that it has: another value needs another name.

`immutable.yaml` holds it for every name that was ever rendered. `python -m tests.k8s.immutable` adds new names to it,
and leaves those alone that it has.
"""

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
KEPT = HERE / "immutable.yaml"
RENDERED = HERE.parents[1] / "k8s" / "rendered"
RUNTIME = json.loads((HERE / "schemas" / "trainingruntime.json").read_text())["schema"]
SET_CAN_CHANGE = {"replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "minReadySeconds"}
SET_CAN_CHANGE |= {"persistentVolumeClaimRetentionPolicy"}


def immutable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Its parts that cannot be changed, by path."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "TrainingRuntime":
            return dict(_ruled(RUNTIME, manifest, ""))
        case "Deployment" | "DaemonSet":
            return {"spec.selector": spec["selector"]}
        case "StatefulSet":
            return {f"spec.{key}": value for key, value in spec.items() if key not in SET_CAN_CHANGE}
        case "PersistentVolumeClaim":
            return {f"spec.{key}": value for key, value in spec.items() if key != "resources"}  # it may grow
        case "Service":
            return {"spec.clusterIP": spec["clusterIP"]} if "clusterIP" in spec else {}
        case "RoleBinding":
            return {"roleRef": manifest["roleRef"]}
        case "PriorityClass":
            return {key: manifest[key] for key in ("value", "preemptionPolicy")}
    return {}


def _ruled(schema: dict[str, Any], value: Any, path: str):
    """Where the published schema has the rule that a new value equals the old one."""
    if any(rule["rule"] == "self == oldSelf" for rule in schema.get("x-kubernetes-validations", [])):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            if key in schema.get("properties", {}):
                yield from _ruled(schema["properties"][key], child, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _ruled(schema["items"], child, f"{path}[{index}]")


def rendered() -> dict[str, Any]:
    """The immutable parts of all manifests, by overlay, kind and name."""
    found = {}
    for path in sorted(RENDERED.glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if parts := immutable(manifest):
                found[f"{path.stem} {manifest['kind']} {manifest['metadata']['name']}"] = parts
    return found


def kept() -> dict[str, Any]:
    """The same, of all that was ever rendered."""
    return yaml.safe_load(KEPT.read_text()) if KEPT.exists() else {}


if __name__ == "__main__":
    KEPT.write_text(yaml.safe_dump({**rendered(), **kept()}, width=120))
