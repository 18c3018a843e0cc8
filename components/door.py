"""What the doors share: run a step of fipo, and show its result as KFP artifacts.

Weights and data sets stay in the object store. A KFP artifact holds where they are and their digests, so that the
cluster never copies them and the UI shows what a task read and made.
"""

import gc
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kfp import dsl

from fipo.config import Config, load_config
from fipo.errors import ConfigError, FipoError, LaunchError
from fipo.records import Registration
from fipo.redaction import guard_output
from fipo.report.sentences import describe
from fipo.run.result import StepResult
from fipo.run.run import Run
from fipo.run.step import steps_to
from fipo_kfp.components.form import NO, NOTHING, YES, Form

EXIT_CODE_FILE = "FIPO_EXIT_CODE_FILE"
"""Names a file that a task leaves its exit code in where it fails: kfp.local tells nobody."""


def configure(
    form: Form, page: dsl.Markdown, *, goal: str, arm: str, warmup: str, registered: str
) -> tuple[list[str], str, str]:
    """Check the settings of a run, and find what of it is done already; `page` shows both.

    Args:
        form: what was asked for.
        page: where it is shown.
        goal: the pipeline's last step.
        arm: of a comparison.
        warmup: of a study: the run from which it takes what has finished with its settings.
        registered: a registered model to take as it is, in place of the recipe's; empty takes the recipe's.

    Returns:
        The overrides of all later tasks; the steps that they still have to do, separated by blanks, or `NOTHING`; and
        `YES` where the champion shall be served at the end, else `NO`.
    """
    with _explained("configure"):
        overrides = form.overrides(arm)
        config = load_config(form.recipe, overrides)
        fetched = _fetched(config, registered)
        if fetched:
            overrides = [*overrides, *fetched]
            config = load_config(form.recipe, overrides)
        this = Run(config)
        if warmup:
            shared = Run(load_config(form.recipe, form.overrides(warmup)))
            this.adopt(shared, list(shared.finished("sft")))
        done = this.finished(goal)
        left = [step for step in steps_to(goal) if step not in done]
        # Importing mlflow takes seconds: it is asked for where there is a page to link to, it was needed anyway, or the
        # reaper will want to know whose run it is that begins here.
        begins = left and "KFP_POD_NAME" in os.environ
        mlflow_page = this.link(form.run_id) if config.links.pipelines or fetched or begins else ""
        if left:
            from fipo.check import require  # what reads data and tokenizers takes seconds to import

            require(config, left)
    Path(page.path).write_text(_settings_page(config, done, left, mlflow_page), encoding="utf-8")
    serve = config.deploy.enabled and goal == "report"
    return overrides, " ".join([*left, *(["deploy"] if serve else [])]) or NOTHING, YES if serve else NO


def run(step: str, recipe: str, overrides: list[str], task: dsl.TaskConfig | None = None) -> StepResult:
    """Run one step of the run that recipe and overrides describe; `task` is for the pods of its TrainJob."""
    with _explained(step):
        return Run(load_config(recipe, overrides)).step(step).run(task=asdict(task) if task else None)


def doctor(recipe: str, overrides: list[str], todo: str, page: dsl.Markdown, task: dsl.TaskConfig) -> None:
    """Look at the devices that the steps still to do ask for; ends the task where something is wrong."""
    from fipo.doctor import devices

    with _explained("doctor"):
        findings = devices.examine_devices(load_config(recipe, overrides), todo.split(), asdict(task))
    Path(page.path).write_text(devices.page(findings), encoding="utf-8")


def ended_as(status: dsl.PipelineTaskFinalStatus) -> str:
    """State of the steps that the exit handler follows: by their workflow, or where that is silent by Kubeflow."""
    state: str = status.state
    if "KFP_POD_NAME" not in os.environ:
        return state
    from fipo.launch import ending

    try:
        return ending.ended_as(os.environ["KFP_POD_NAME"], status.pipeline_task_name) or state
    except LaunchError as error:
        print(f"[finish] the workflow cannot be asked how it ended: {error}", file=sys.stderr, flush=True)
        return state


def finish(form: Form, status: str, arm: str) -> None:
    """Close the run; `status` is the state of its steps in Kubeflow's words."""
    with _explained("finish"):
        try:
            config = load_config(form.recipe, form.overrides(arm))
        except ConfigError:
            return  # `configure` has said why, and nothing has begun
        Run(config).close(status, form.run_id)


def deploy(recipe: str, overrides: list[str], page: dsl.Markdown) -> str:
    """Serve the champion, where the settings say so; returns its address in the cluster, or an empty text."""
    from fipo.release import deploy

    with _explained("deploy"):
        config = load_config(recipe, overrides)
        deployed = deploy.deploy(config) if config.deploy.enabled else None
    Path(page.path).write_text(deploy.page(config, deployed), encoding="utf-8")
    return f"{deployed.url}/v1" if deployed else ""


def compare(form: Form, results: list[dsl.Dataset], page: dsl.HTML, scores: dsl.Metrics, *, study: str) -> None:
    """Show the runs of a comparison side by side, in the order of their results, or the arms of a study."""
    if study:
        _compare_arms(form, study, page, scores)
        return
    import rich  # what draws takes seconds to import, and the other tasks do without

    from fipo.report.side_by_side import comparison_page, load_runs
    from fipo.report.terminal import comparison_table

    with _explained("compare"), tempfile.TemporaryDirectory() as folder:
        config = load_config(form.recipe, form.overrides())
        uris = {artifact.metadata["run"]: artifact.metadata["results.uri"] for artifact in results}
        runs = load_runs(uris, config.gate_benchmark, Path(folder))
        rich.print(comparison_table(runs))
        Path(page.path).write_text(comparison_page(runs), encoding="utf-8")
    for run, result in runs.items():
        scores.log_metric(f"{run}/{config.gate.metric}", float(result.by_problem(config.gate.metric).mean()))


def _compare_arms(form: Form, text: str, page: dsl.HTML, scores: dsl.Metrics) -> None:
    """What a study found: read from MLflow, where `fipo study report` looks too."""
    from fipo.study.comparisons import scores_by_seed
    from fipo.study.page import study_page
    from fipo.study.report import verdict_table
    from fipo.study.results import read_results
    from fipo.study.study import parse_study

    with _explained("compare"):
        cluster, asked = form.overrides(), parse_study(text)
        study = asked.model_copy(update={"settings": (*cluster, *asked.settings)})
        results = read_results(study, load_config(form.recipe, cluster).run.directory)
        print(verdict_table(study, results), flush=True)
        Path(page.path).write_text(study_page(study, results), encoding="utf-8")
    score = study.outcome.score if study.outcome else "avg_at_k"
    for task in study.tasks:
        for arm in study.arms:
            if values := scores_by_seed(results, task, arm, score).values():
                scores.log_metric(f"{task}/{arm}/{score}", sum(values) / len(values))


def write_outputs(artifact: dsl.Artifact, result: StepResult) -> None:
    """Point `artifact` at what the step left in the object store: URI and SHA-256 of each output, as `model.uri`."""
    outputs = {name: asdict(one) for name, one in result.outputs.items()}
    facts = {"run": result.run, "fingerprint": result.fingerprint, "mlflow_run_id": result.mlflow_run_id}
    _point(artifact, {**outputs, **facts})


def write_registered(artifact: dsl.Model, result: StepResult) -> None:
    """Point `artifact` at the registered version: its name and number, the URI and SHA-256 of its weights."""
    _point(artifact, asdict(result.read(Registration)))


def write_scores(artifact: dsl.Metrics, result: StepResult) -> None:
    """Log accuracy and length on every benchmark, for the UI's page that compares runs: it shows nothing else.

    What else was measured is in MLflow, and on the task's page.
    """
    for name, value in result.metrics.items():
        if name.endswith(("/avg_at_k", "/mean_response_tokens")) and math.isfinite(value):  # the UI refuses NaN
            artifact.log_metric(name.removeprefix("eval/"), value)


def write_summary(artifact: dsl.Markdown, result: StepResult) -> None:
    """Write the page that the UI shows for a task: what came of it in words, then its numbers and outputs."""
    facts = [f"{result.seconds:.1f} s", *(["reused"] if result.reused else [])]
    facts += [f"[MLflow run]({result.mlflow_url})" if result.mlflow_url else f"MLflow run {result.mlflow_run_id}"]
    lines = [f"# {result.step}", "", f"**{describe(result)}**", "", " · ".join(facts), ""]
    lines += _table("metric", "value", [(name, f"{value:.6g}") for name, value in sorted(result.metrics.items())])
    lines += _table("output", "where", [(name, f"`{output.uri}`") for name, output in result.outputs.items()])
    Path(artifact.path).write_text("\n".join(lines), encoding="utf-8")


def write_report(artifact: dsl.HTML, recipe: str, overrides: list[str]) -> None:
    """Show the run's report in the UI."""
    shutil.copyfile(load_config(recipe, overrides).run_directory / "report.html", artifact.path)


def _fetched(config: Config, registered: str) -> list[str]:
    """Bring a registered model to the run's volume: `registered`, or a start at `models:/name@alias`."""
    start = config.model.name_or_path or ""
    reference = registered or (start if start.startswith("models:/") else "")
    if not reference:
        return []
    from fipo.release.registry import fetch, find, patiently  # mlflow takes seconds to import

    model = patiently(find, config.tracking_uri, reference)
    folder = fetch(model, config.run.directory.absolute())
    start = f"model={json.dumps({'name_or_path': str(folder)})}"
    return [start, "sft.steps=0", "data.sft=[]"] if registered else [start]


def _settings_page(config: Config, done: dict[str, StepResult], left: Sequence[str], mlflow_page: str) -> str:
    words = (
        f"To do: {', '.join(left)}." if left else "Nothing to do: every step has finished before with these settings."
    )
    lines = [f"# {config.run.name}", "", f"**{words}**", ""]
    lines += [f"[This run in MLflow]({mlflow_page})", ""] if mlflow_page else []
    lines += [f"- {step}, finished before: {describe(result)}" for step, result in done.items()]
    return "\n".join([*lines, "", "```yaml", config.to_yaml().rstrip(), "```", ""])


def _point(artifact: dsl.Artifact, where: dict[str, Any]) -> None:
    flat = dict(_flat(where))
    artifact.metadata.update(flat)
    Path(artifact.path).write_text(json.dumps(flat, indent=2), encoding="utf-8")


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names with dots: what is nested comes back from Kubeflow's metadata as `{"struct": ...}`."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _table(key: str, value: str, rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {key} | {value} |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows), ""] if rows else []


@contextmanager
def _explained(step: str) -> Iterator[None]:
    """End the task with the message of an error that is the user's to mend, instead of a traceback.

    What a task imports is most of what it does, and stays: neither imports nor its end look for garbage there.
    """
    guard_output()
    gc.set_threshold(100_000)
    try:
        yield
    except FipoError as error:
        print(f"{step}: {error}", file=sys.stderr, flush=True)
        if EXIT_CODE_FILE in os.environ:
            with suppress(OSError), Path(os.environ[EXIT_CODE_FILE]).open("x", encoding="utf-8") as first:
                first.write(str(error.exit_code))
        raise SystemExit(error.exit_code) from None
    finally:
        gc.freeze()
