"""The report of a run: gather what its steps left in the object store, draw it, and write summary.json beside it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fipo.errors import ConfigError
from fipo.evaluation.tables import read_result
from fipo.figures import to_png
from fipo.files import private_folder
from fipo.records import Decision, Evaluated, Registration, Scores
from fipo.report import wording
from fipo.report.data import Comparison, ReportData, SetAside
from fipo.report.gathered import most_telling, set_aside, told_apart, warnings_in
from fipo.report.html import build_report
from fipo.report.training_figures import hero
from fipo.run.result import StepResult
from fipo.run.workspace import Attempt, Workspace
from fipo.tracking import read_journal, read_said

if TYPE_CHECKING:
    from rich.console import Console

    from fipo.run.run import Run

FILES = ("report.html", "summary.json")


def write_report(attempt: Attempt) -> None:
    """Publish the output `report`: report.html and summary.json."""
    workspace, folder = attempt.workspace, attempt.workspace.directory / "report"
    data = _write_files(workspace, folder, mlflow_run_id=attempt.tracker.parent_run_id)
    attempt.publish("report", folder)
    for name in FILES:
        attempt.tracker.artifact(folder / name)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    attempt.tracker.artifact(folder / "report.html", to_parent=True)
    attempt.tracker.describe(_in_mlflow(data, summary), to_parent=True)
    attempt.tracker.tags({"model": f"{summary['model']['name']} version {summary['model']['version']}"}, to_parent=True)
    attempt.tracker.figure(hero(data.benchmarks[0], data.history), "figures/result.png")


def write_here(workspace: Workspace) -> None:
    """Write the files of the report to the run's folder on this machine, and nothing to the store or to MLflow."""
    _write_files(workspace, workspace.config.run_directory, mlflow_run_id="")


def _write_files(workspace: Workspace, folder: Path, *, mlflow_run_id: str) -> ReportData:
    private_folder(folder)
    data, summary = gather(workspace), summarise(workspace, mlflow_run_id=mlflow_run_id)
    (folder / "report.html").write_text(build_report(data), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return data


def gather(workspace: Workspace) -> ReportData:
    """What the report shows, from the results of the run's steps."""
    config, upstream = workspace.config, workspace.upstream
    results, records = workspace.input("evaluate", "results"), workspace.input("train", "records")
    benchmarks = [config.gate_benchmark, *(name for name in config.data.benchmarks if name != config.gate_benchmark)]
    compared = tuple(
        Comparison(*(read_result(results / label / f"{name}-responses.parquet") for label in ("warmup", "trained")))
        for name in benchmarks
    )
    return ReportData(
        run=config.run.name,
        recipe=config.run.recipe,
        loss=config.algorithm.loss,
        benchmarks=compared,
        history=read_journal(records / "journal.jsonl"),
        tokens=most_telling(records / "influence.jsonl") if config.algorithm.loss == "fipo" else None,
        answers=told_apart(compared[0]),
        answers_of="the trained model",
        set_aside=_set_aside(workspace),
        warnings=warnings_in(read_said(records / "journal.jsonl")),
        gate=upstream["gate"].read(Decision),
        model=upstream["register"].read(Registration),
        seconds={name: result.seconds for name, result in upstream.items()},
        links=_links(workspace),
        facts={
            "settings": config.digest(),
            "seed": str(config.run.seed),
            "data": upstream["prepare"].outputs["dataset"].sha256,
            "warmed-up model": upstream["sft"].outputs["model"].sha256,
            "trained model": upstream["train"].outputs["model"].sha256,
        }
        | upstream["train"].versions,
    )


def _in_mlflow(data: ReportData, summary: dict[str, Any]) -> str:
    """The run's description in MLflow: the result, the model, and where to go on."""
    model, gate = summary["model"], summary["gate"]
    verdict = "champion" if gate["passed"] else "candidate"
    links = [f"[{name}]({address})" for name, address in data.links.items() if address.startswith("http")]
    lines = [
        f"**{wording.headline(data)}**",
        f"Model {model['name']} version {model['version']}, {verdict}: {gate['reason']}.",
        "The report is `report.html` among the artifacts.",
        *([" · ".join(links)] if links else []),
    ]
    return "\n\n".join(lines)


def summarise(workspace: Workspace, *, mlflow_run_id: str) -> dict[str, Any]:
    """The contents of summary.json: `warmup` and `trained` are the scores on the gate's benchmark."""
    config, upstream = workspace.config, workspace.upstream
    evaluated, decision = upstream["evaluate"].read(Evaluated), upstream["gate"].read(Decision)
    scores = {"warmup": evaluated.warmup, "trained": evaluated.trained}
    seconds = {name: result.seconds for name, result in upstream.items()}
    return {
        **{label: _plain(summaries[config.gate_benchmark]) for label, summaries in scores.items()},
        "benchmark": config.gate_benchmark,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
        "gate": {key: getattr(decision, key) for key in ("passed", "metric", "value", "champion", "reason")},
        "model": asdict(upstream["register"].read(Registration)),
        "mlflow": {"tracking_uri": config.tracking_uri, "run_id": mlflow_run_id},
    }


def write_figure(workspace: Workspace, path: Path) -> None:
    """Draw accuracy and response length over the RL steps as one wide PNG."""
    data = gather(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(hero(data.benchmarks[0], data.history)))


def bring_here(workspace: Workspace, result: StepResult) -> None:
    """Put the published report where people look for it: `<run.directory>/<run>/report.html` and `summary.json`.

    Nothing comes after it: the run in MLflow ends with the report that was computed.
    """
    folder = workspace.fetch(result.outputs["report"], "report")
    for name in FILES:
        (workspace.of_run.directory / name).write_bytes((folder / name).read_bytes())
    if not result.reused:
        workspace.of_run.close("SUCCEEDED")


def _plain(summary: Scores) -> dict[str, Any]:
    return {**summary.values(), "k": summary.k, "problems": summary.problems}


def print_summary(workspace: Workspace) -> None:
    """The result as tables, and where everything is.

    Raises:
        ConfigError: the run has no report yet.
    """
    from rich.console import Console

    from fipo.report.terminal import terminal_table

    path = workspace.config.run_directory / "summary.json"
    if not path.is_file():
        raise ConfigError(
            f"run {workspace.config.run.name!r}: no {path}; run `fipo report` once its steps have finished"
        )
    console = Console()
    console.print(terminal_table(gather(workspace)))
    _print_places(console, path.parent, workspace.upstream["train"].mlflow_url)


def print_earlier(run: Run, earlier: StepResult) -> None:
    """Where the last finished report of a run is that has not finished with the settings it has now.

    It is read where it was fetched to: the run's own report.html is the page of what is under way.
    """
    from rich.console import Console

    console, now = Console(), run.directory / "report.html"
    here = f", and grows in {now}" if now.is_file() else ""
    console.print(
        f"run {run.name!r} has not finished with the settings that it has now (`fipo status {run.name}`){here}. "
        f"Its last report is of {earlier.finished[:16].replace('T', ' ')} UTC, with other settings:",
        soft_wrap=True,
    )
    folder = run.step_as_left("report").fetch(earlier.outputs["report"], "report")
    _print_places(console, folder, earlier.mlflow_url)


def _print_places(console: Console, folder: Path, mlflow_url: str) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    model, gate = summary["model"], summary["gate"]
    verdict = "champion" if gate["passed"] else "candidate"
    console.print(f"model    {model['name']} version {model['version']} ({verdict}): {gate['reason']}", soft_wrap=True)
    for name in FILES:
        console.print(f"{Path(name).stem:<7}  {folder / name}", soft_wrap=True)
    console.print(f"MLflow   {mlflow_url or 'fipo ui'}", soft_wrap=True)


def _links(workspace: Workspace) -> dict[str, str]:
    """Pages by what they show: the runs of Kubeflow that computed the steps, and each step in MLflow."""
    upstream, steps = workspace.upstream, dict[str, list[str]]()
    for step, result in upstream.items():
        steps.setdefault(workspace.config.pipeline_page(result.pipeline_run), []).append(step)
    links = {f"Kubeflow: {', '.join(computed)}": page for page, computed in steps.items() if page}
    return links | {f"MLflow: {step}": result.mlflow_url for step, result in upstream.items() if result.mlflow_url}


def _set_aside(workspace: Workspace) -> SetAside:
    """From the two small files of a data set that say it; the rest of it is not brought here."""
    place = workspace.upstream["prepare"].outputs["dataset"].uri.removeprefix(workspace.store.uri).strip("/")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("manifest.json", "quarantine.jsonl"):
            Path(folder, name).write_bytes(workspace.store.get(f"{place}/{name}"))
        return set_aside(Path(folder))
