"""Compile the pipelines into the packages that a cluster runs."""

from pathlib import Path

from kfp import compiler

from pipelines.fipo_training.pipeline import fipo_training


def compile_pipeline(output: Path) -> None:
    """Write the training pipeline as YAML; the same source gives the same bytes."""
    output.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(fipo_training, str(output))
