"""The pipelines, their parameters, and the packages that a cluster runs."""

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from fipo.errors import ConfigError
from fipo_kfp.components.form import check_arms, refuse_unfilled


class _Pipelines(Mapping[str, GraphComponent]):
    """By name, each built when it is asked for: kfp takes a second for one."""

    _names = ("fipo_training", "fipo_comparison", "fipo_evaluation", "fipo_study")

    def __getitem__(self, name: str) -> GraphComponent:
        if name not in self._names:
            raise KeyError(name)
        return getattr(import_module(f"fipo_kfp.pipelines.{name}.pipeline"), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


PIPELINES = _Pipelines()
COMPILED = Path(__file__).parent / "compiled"
"""The packages of the shipped image; a test holds them against the source."""
KINDS = {"String": str, "Integer": int, "List": list}
"""Of a parameter, and what its value must be; Kubeflow takes 2.5 for an integer, and its tasks do not."""
DOCS = "https://github.com/fipo-rl/fipo/blob/main/docs/deploy.md"


def compile_pipeline(name: str, folder: Path = COMPILED) -> Path:
    """Write a pipeline as `folder/name.yaml`; the same source gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    compiler.Compiler().compile(PIPELINES[name], str(path))
    return path


def description(pipeline: str) -> str:
    """What Kubeflow's UI shows of the pipeline, its parameters explained: Markdown."""
    return f"{PIPELINES[pipeline].description}\n\n[Documentation]({DOCS})"


def arguments(pipeline: str, parameters: Mapping[str, str], changes: list[str]) -> dict[str, Any]:
    """The pipeline's arguments; texts become what the parameter's type asks for.

    Args:
        pipeline: name in `PIPELINES`.
        parameters: texts by the name of the parameter.
        changes: settings that replace the recipe's (`recipe_changes`).

    Raises:
        ConfigError: there is no such pipeline or parameter, a text is not of its type, or holds a placeholder that
            nobody fills in, or arms cannot be told apart.
    """
    if pipeline not in PIPELINES:
        raise ConfigError(f"pipeline {pipeline!r}: expected one of {', '.join(PIPELINES)}")
    inputs = PIPELINES[pipeline].component_spec.inputs or {}
    given: dict[str, Any] = {}
    for name, text in parameters.items():
        if name not in inputs:
            raise ConfigError(f"{pipeline} has no parameter {name!r}; it has {', '.join(inputs)}")
        refuse_unfilled(name, text)
        try:
            given[name] = text if inputs[name].type == "String" else json.loads(text)
        except json.JSONDecodeError:
            given[name] = None
        if type(given[name]) is not KINDS[inputs[name].type]:  # not isinstance: `true` is no number of machines
            raise ConfigError(f"parameter {name}: expected {inputs[name].type} as JSON, got {text!r}") from None
    check_arms(given.get("arms", []))
    for change in changes:
        refuse_unfilled("setting", change)
    return {**given, **({"recipe_changes": changes} if changes else {})}
