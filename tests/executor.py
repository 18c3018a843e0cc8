"""A task of a compiled pipeline as Kubeflow's launcher starts it: the pod's command, with its inputs for `{{$}}`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

COMPILED = Path(__file__).parents[1] / "pipelines" / "compiled"
EMPTY = {"STRING": "", "NUMBER_INTEGER": 1, "NUMBER_DOUBLE": 0.0, "BOOLEAN": False, "LIST": [], "STRUCT": {}}


def tasks(package: str = "fipo_training") -> list[str]:
    """Names of a package's components that run code."""
    return sorted(name.removeprefix("exec-") for name in _pipeline(package)["deploymentSpec"]["executors"])


def command(
    task: str, recipe: str, settings: Sequence[str], folder: str, package: str = "fipo_training", **given: Any
) -> list[str]:
    """The command of one task; its artifacts and its output file `TASK.json` go to `folder`.

    Args:
        task: name of the component.
        recipe: as `--recipe`.
        settings: as `--set`, for every list that the component asks for without having a default.
        folder: as the task sees it.
        package: whose component.
        given: parameters by name; of the others each has its default, or is empty.
    """
    pipeline = _pipeline(package)
    component = pipeline["components"][f"comp-{task}"]
    container = pipeline["deploymentSpec"]["executors"][f"exec-{task}"]["container"]
    inputs, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
    known = {"recipe": recipe, **given}
    parameters = {
        name: known[name] if name in known else _value(definition, list(settings))
        for name, definition in inputs.get("parameters", {}).items()
        if name in known or definition["parameterType"] in EMPTY
    }
    launcher = {
        "inputs": {"parameterValues": parameters, "artifacts": _artifacts(inputs, folder)},
        "outputs": {"outputFile": f"{folder}/{task}.json", "artifacts": _artifacts(outputs, f"{folder}/{task}")},
    }
    filled = [json.dumps(launcher) if argument == "{{$}}" else argument for argument in container["args"]]
    return [*container["command"], *filled]


def _pipeline(package: str) -> Mapping[str, Any]:
    return next(yaml.safe_load_all((COMPILED / f"{package}.yaml").read_text(encoding="utf-8")))


def _value(definition: Mapping[str, Any], settings: list[str]) -> Any:
    if "defaultValue" in definition:
        return definition["defaultValue"]
    return settings if definition["parameterType"] == "LIST" else EMPTY[definition["parameterType"]]


def _artifacts(definitions: Mapping[str, Any], folder: str) -> dict[str, Any]:
    return {
        name: {
            "artifacts": [{"name": name, "type": artifact["artifactType"], "uri": f"{folder}/{name}", "metadata": {}}]
        }
        for name, artifact in definitions.get("artifacts", {}).items()
    }
