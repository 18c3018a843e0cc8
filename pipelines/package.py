"""Compile the pipelines into the packages that a cluster runs."""

from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from pipelines.fipo_training.pipeline import fipo_training

PIPELINES: dict[str, GraphComponent] = {"fipo_training": fipo_training}
COMPILED = Path(__file__).parent / "compiled"
"""The packages of the shipped image; a test holds them against the source."""


def compile_pipeline(name: str, folder: Path = COMPILED) -> Path:
    """Write a pipeline as `folder/name.yaml`; the same source gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    compiler.Compiler().compile(PIPELINES[name], str(path))
    return path
