"""The pipelines, their parameters, and the packages that a cluster runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from fipo.errors import ConfigError
from pipelines.fipo_evaluation.pipeline import fipo_evaluation
from pipelines.fipo_experiment.pipeline import fipo_experiment
from pipelines.fipo_training.pipeline import fipo_training

PIPELINES: dict[str, GraphComponent] = {
    "fipo_training": fipo_training,
    "fipo_experiment": fipo_experiment,
    "fipo_evaluation": fipo_evaluation,
}
COMPILED = Path(__file__).parent / "compiled"
"""The packages of the shipped image; a test holds them against the source."""


def compile_pipeline(name: str, folder: Path = COMPILED) -> Path:
    """Write a pipeline as `folder/name.yaml`; the same source gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    compiler.Compiler().compile(PIPELINES[name], str(path))
    return path


def arguments(pipeline: str, parameters: Mapping[str, str], overrides: list[str]) -> dict[str, Any]:
    """The pipeline's arguments; texts become what the parameter's type asks for.

    Raises:
        ConfigError: there is no such pipeline or parameter, or a text is not of its type.
    """
    if pipeline not in PIPELINES:
        raise ConfigError(f"pipeline {pipeline!r}: expected one of {', '.join(PIPELINES)}")
    inputs = PIPELINES[pipeline].component_spec.inputs or {}
    given: dict[str, Any] = {}
    for name, text in parameters.items():
        if name not in inputs:
            raise ConfigError(f"{pipeline} has no parameter {name!r}; it has {', '.join(inputs)}")
        try:
            given[name] = text if inputs[name].type == "String" else json.loads(text)
        except json.JSONDecodeError:
            raise ConfigError(f"parameter {name}: expected {inputs[name].type} as JSON, got {text!r}") from None
    return {**given, **({"overrides": overrides} if overrides else {})}
