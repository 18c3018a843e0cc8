"""What the doors share: run a step of fipo, and show its result as KFP artifacts.

Weights and data sets stay in the object store. A KFP artifact holds where they are and their digests, so that the
cluster never copies them and the UI shows what a task read and made.
"""

import json
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kfp import dsl

from fipo.config import load_config
from fipo.errors import ConfigError, FipoError
from fipo.steps import finish as finish_run
from fipo.steps import run_step
from fipo.workspace import StepResult


@dataclass(frozen=True)
class Parameters:
    """The pipeline's parameters besides recipe and overrides; an empty one leaves what recipe and cluster say."""

    run_name: str = ""
    data_uri: str = ""
    model_uri: str = ""
    gate_minimum: str = ""
    storage_uri: str = ""
    tracking_uri: str = ""
    nodes: int = 1
    queue: str = ""

    def overrides(self) -> list[str]:
        """As `key.path=value`; JSON is YAML, and keeps a name like `2026` a text."""
        settings = {
            "run.name": self.run_name and json.dumps(self.run_name),
            "data.train": self.data_uri and json.dumps([{"uri": self.data_uri}]),
            "model": self.model_uri and json.dumps({"name_or_path": self.model_uri}),
            "gate.minimum": self.gate_minimum,
            "storage.uri": self.storage_uri,
            "tracking.uri": self.tracking_uri,
            "trainjob.nodes": self.nodes,
            "trainjob.queue": self.queue,
        }
        return [f"{key}={value}" for key, value in settings.items() if value != ""]


def configure(recipe: str, overrides: list[str], parameters: Parameters, page: dsl.Markdown, arm: str) -> list[str]:
    """The overrides of the whole run, checked; `page` shows the settings that they make."""
    with _explained("configure"):
        resolved = _resolve(overrides, parameters, arm)
        config = load_config(recipe, resolved)
    Path(page.path).write_text(f"# {config.run.name}\n\n```yaml\n{config.to_yaml()}```\n", encoding="utf-8")
    return resolved


def fetch(recipe: str, overrides: list[str], model: str, artifact: dsl.Model) -> list[str]:
    """Bring a registered model to the run's volume; returns the overrides with which it is taken as it is."""
    from fipo.registry import fetch, find  # mlflow takes seconds to import

    with _explained("fetch"):
        config = load_config(recipe, overrides)
        found = find(config.tracking_uri, model)
        folder = fetch(found, config.run.directory.absolute())
    _point(artifact, {"name": found.name, "version": found.version, "uri": found.uri, "sha256": found.sha256})
    return [*overrides, f"model={json.dumps({'name_or_path': str(folder)})}", "sft.steps=0", "data.sft=[]"]


def run(step: str, recipe: str, overrides: list[str], task: dsl.TaskConfig | None = None) -> StepResult:
    """Run one step of the run that recipe and overrides describe; `task` is for the pods of its TrainJob."""
    with _explained(step):
        return run_step(step, load_config(recipe, overrides), task=asdict(task) if task else None)


def finish(recipe: str, overrides: list[str], parameters: Parameters, status: str, arm: str) -> None:
    """Close the run; `status` is the pipeline's final state (`SUCCEEDED`, `FAILED`, `CANCELLED`)."""
    try:
        config = load_config(recipe, _resolve(overrides, parameters, arm))
    except ConfigError:
        return  # `configure` has said why, and nothing has begun
    with _explained("finish"):
        finish_run(config, status=status)


def compare(
    recipe: str, overrides: list[str], results: list[dsl.Dataset], page: dsl.HTML, metrics: dsl.Metrics
) -> None:
    """Show the runs of an experiment side by side, in the order of their results."""
    import rich  # what draws takes seconds to import, and the other tasks do without

    from fipo.report.experiment import experiment_page, load_runs
    from fipo.report.terminal import comparison_table

    with _explained("compare"), tempfile.TemporaryDirectory() as folder:
        config = load_config(recipe, _resolve(overrides, Parameters(), arm=""))
        uris = [artifact.metadata["results"]["uri"] for artifact in results]
        # <store>/<run>/evaluate/<fingerprint>/results, see fipo.workspace
        runs = load_runs({PurePosixPath(uri).parts[-4]: uri for uri in uris}, config.gate_benchmark, Path(folder))
        rich.print(comparison_table(runs))
        Path(page.path).write_text(experiment_page(runs), encoding="utf-8")
    for run, result in runs.items():
        metrics.log_metric(f"{run}/{config.gate.metric}", float(result.scores(config.gate.metric).mean()))


def write_outputs(artifact: dsl.Artifact, result: StepResult) -> None:
    """Point `artifact` at what the step left in the object store: URI and SHA-256 of each output."""
    outputs = {name: asdict(output) for name, output in result.outputs.items()}
    _point(artifact, {**outputs, "fingerprint": result.fingerprint, "mlflow_run_id": result.mlflow_run_id})


def write_registered(artifact: dsl.Model, result: StepResult) -> None:
    """Point `artifact` at the registered version: its name and number, the URI and SHA-256 of its weights."""
    _point(artifact, result.details["model"])


def write_metrics(artifact: dsl.Metrics, result: StepResult) -> None:
    """Log the step's scalars for the UI's comparison page, which refuses NaN and infinities."""
    for name, value in result.metrics.items():
        if math.isfinite(value):
            artifact.log_metric(name, value)


def write_summary(artifact: dsl.Markdown, result: StepResult) -> None:
    """Write the page that the UI shows for a task: its MLflow run, its numbers, and where its outputs are."""
    facts = [f"{result.seconds:.1f} s", *(["reused"] if result.reused else [])]
    facts += [f"[MLflow run]({result.mlflow_url})" if result.mlflow_url else f"MLflow run {result.mlflow_run_id}"]
    lines = [f"# {result.step}", "", " · ".join(facts), ""]
    lines += _table("metric", "value", [(name, f"{value:.6g}") for name, value in sorted(result.metrics.items())])
    lines += _table("output", "where", [(name, f"`{output.uri}`") for name, output in result.outputs.items()])
    Path(artifact.path).write_text("\n".join(lines), encoding="utf-8")


def write_report(artifact: dsl.HTML, recipe: str, overrides: list[str]) -> None:
    """Show the run's report in the UI."""
    shutil.copyfile(load_config(recipe, overrides).run_directory / "report.html", artifact.path)


def _point(artifact: dsl.Artifact, where: dict[str, Any]) -> None:
    artifact.metadata.update(where)
    Path(artifact.path).write_text(json.dumps(where, indent=2), encoding="utf-8")


def _resolve(overrides: list[str], parameters: Parameters, arm: str) -> list[str]:
    """What the cluster sets for all runs (its config map `fipo`), the pipeline's parameters, the overrides, the arm."""
    cluster = [line for line in os.environ.get("FIPO_SETTINGS", "").splitlines() if line.strip()]
    name, *settings = shlex.split(arm) or [""]
    own = [f"run.name={json.dumps(name)}", *settings] if name else []
    return [*cluster, *parameters.overrides(), *overrides, *own]


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
