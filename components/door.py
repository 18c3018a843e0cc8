"""What the doors share: run a step of fipo, and show its result as KFP artifacts.

Weights and data sets stay in the object store. A KFP artifact holds where they are and their digests, so that the
cluster never copies them and the UI shows what a task read and made.
"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kfp import dsl

from fipo.config import load_config
from fipo.errors import FipoError
from fipo.steps import StepResult, run_step
from fipo.steps import finish as finish_run


def run(step: str, recipe: str, overrides: list[str]) -> StepResult:
    """Run one step of the run that recipe and overrides describe."""
    with _explained(step):
        return run_step(step, load_config(recipe, overrides))


def finish(recipe: str, overrides: list[str], status: str) -> None:
    """Close the run; `status` is the pipeline's final state (`SUCCEEDED`, `FAILED`, `CANCELLED`)."""
    with _explained("finish"):
        finish_run(load_config(recipe, overrides), status=status)


def write_outputs(artifact: dsl.Artifact, result: StepResult) -> None:
    """Point `artifact` at what the step left in the object store: URI and SHA-256 of each output."""
    outputs = {name: {"uri": output.uri, "sha256": output.sha256} for name, output in result.outputs.items()}
    artifact.metadata.update(outputs, fingerprint=result.fingerprint, mlflow_run_id=result.mlflow_run_id)
    Path(artifact.path).write_text(json.dumps(artifact.metadata, indent=2), encoding="utf-8")


def write_metrics(artifact: dsl.Metrics, result: StepResult) -> None:
    """Log the step's scalars for the UI's comparison page, which refuses NaN and infinities."""
    for name, value in result.metrics.items():
        if math.isfinite(value):
            artifact.log_metric(name, value)


def write_summary(artifact: dsl.Markdown, result: StepResult) -> None:
    """Write the page that the UI shows for a task: its MLflow run, its numbers, and where its outputs are."""
    reused = ", reused" if result.reused else ""
    lines = [f"# {result.step}", "", f"{result.seconds:.1f} s{reused} · [MLflow run]({result.mlflow_url})", ""]
    lines += _table("metric", "value", [(name, f"{value:.6g}") for name, value in sorted(result.metrics.items())])
    lines += _table("output", "where", [(name, f"`{output.uri}`") for name, output in result.outputs.items()])
    Path(artifact.path).write_text("\n".join(lines), encoding="utf-8")


def _table(key: str, value: str, rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {key} | {value} |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows), ""] if rows else []


@contextmanager
def _explained(step: str) -> Iterator[None]:
    """End the task with the message of an error that is the user's to mend, instead of a traceback."""
    try:
        yield
    except FipoError as error:
        print(f"{step}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None
