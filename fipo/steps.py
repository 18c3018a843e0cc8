"""The steps of a run, each behind one door: `run_step("train", config)`. Command line and pipeline both enter here.

A step imports what it works with when it works: most tasks of a pipeline only find that there is nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import fipo
from fipo.config import Config
from fipo.run.result import StepResult
from fipo.run.step import STEPS, steps_to
from fipo.run.workspace import SETTINGS, Attempt, Workspace, parent_of, run_key
from fipo.tracking import replay_left


def run_step(step: str, config: Config, *, fresh: bool = False, task: Mapping[str, Any] | None = None) -> StepResult:
    """Run one step of the run `config.run.name`, or return its result when it has finished with these inputs before.

    Args:
        step: one of `fipo.run.step.STEPS`.
        config: the same for all steps of a run.
        fresh: start the step anew even if it has finished or was interrupted.
        task: what the pipeline set on its task (resources, env, volumes, ...), for the pods of a TrainJob.

    Raises:
        FipoError: see `fipo.errors`; after any of them the same call continues from what was saved.
    """
    settings = write_config(config)
    workspace = Workspace(config, step)
    workspace.record_settings()
    if fresh:
        workspace.discard()
    done = workspace.finished()
    if done:
        print(f"[{step}] reused: {_compared(done)}", flush=True)
        workspace.commit(done)  # the newest again, where other settings have come between
        replay_left(workspace.directory)  # what an outage at its end has kept from MLflow
    result = done or _run(workspace, settings, task or {})
    if result.mlflow_url:
        print(f"[{step}] MLflow: {result.mlflow_url}", flush=True)
    if step == "report":
        from fipo.report.run import copy_to_run_directory

        copy_to_run_directory(workspace)
        if not done:
            finish(config, status="SUCCEEDED")  # nothing comes after it
    return result


def finished_steps(config: Config, goal: str) -> dict[str, StepResult]:
    """Results of the steps to `goal`, in order, up to the first that is still to be done with these settings."""
    results: dict[str, StepResult] = {}
    for step in steps_to(goal):
        result = Workspace(config, step).finished()
        if result is None:
            break
        results[step] = result
    return results


def _run(workspace: Workspace, settings: Path, task: Mapping[str, Any]) -> StepResult:
    started = time.monotonic()
    if STEPS[workspace.step].job:
        identity = workspace.directory / "identity.json"
        workspace.identity.write(identity)
        _launch(workspace, ["--config", str(settings), "--identity", str(identity)], task)
    else:
        with workspace.attempt() as attempt:
            LOCAL_STEPS[workspace.step](attempt)
    # The time that people wait: start-up included.
    return workspace.commit(replace(workspace.result(), seconds=round(time.monotonic() - started, 1)))


def _compared(result: StepResult) -> str:
    """What was found the same, and since when."""
    when = result.finished[:16].replace("T", " ")
    inputs = ", ".join(f"{name} {sha.removeprefix('sha256:')[:8]}" for name, sha in result.inputs.items())
    return f"finished {when} UTC with the same settings and inputs ({inputs or 'none'})"


def _launch(workspace: Workspace, arguments: list[str], task: Mapping[str, Any]) -> None:
    step, config, job = workspace.step, workspace.config, STEPS[workspace.step].job
    if config.trainjob.runtime:
        from fipo.launch.trainjob import train_job

        train_job(job, arguments, config=config, step=step, fingerprint=workspace.fingerprint, task=task)
    else:
        from fipo.launch.local import torchrun

        settings = config.distributed
        torchrun(job, arguments, processes=settings.processes, max_restarts=settings.max_restarts)


def write_config(config: Config) -> Path:
    """Write the resolved settings to the run's folder; `load_config` reads them back."""
    path = config.run_directory / SETTINGS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config.to_yaml(), encoding="utf-8")
    return path


def finish(config: Config, *, status: str, pipeline_run: str = "") -> None:
    """Close what the run left open in MLflow, truthfully: by the pipeline's exit handler, or after the last step.

    Args:
        config: of the run.
        status: the pipeline's final state, in Kubeflow's word (`fipo.tracking.runs.ENDS`).
        pipeline_run: id of Kubeflow's run; a run in MLflow that is linked to it is closed too, though `configure` gave
            it settings, such as a registered model's folder, that `config` lacks.
    """
    from fipo.tracking import reconcile

    replay_left(config.run_directory)
    reconcile(config.tracking_uri, run_key=run_key(config), status=status, pipeline_run=pipeline_run)


def link_pipeline_run(config: Config, run_id: str) -> str:
    """Let the run's pages in MLflow and Kubeflow's run point at each other; never fails for MLflow's sake.

    Args:
        config: of the run.
        run_id: of Kubeflow's run.

    Returns:
        The run's page in MLflow, for a link on Kubeflow's pages; empty if there is none or MLflow cannot be reached.
    """
    from fipo.tracking import link_pipeline_run

    page, public_uri = config.pipeline_page(run_id), config.links.mlflow
    return link_pipeline_run(parent_of(config), run_id=run_id, page=page, public_uri=public_uri)


def _prepare(attempt: Attempt) -> None:
    from fipo.data.audit import Audit
    from fipo.data.prepare import SETS, prepare
    from fipo.models import load_tokenizer
    from fipo.rewards.pool import VerifierPool

    config, folder = attempt.workspace.config, attempt.workspace.directory / "dataset"
    # In a process that can be killed: a hostile reference answer keeps the parser busy for ever.
    with VerifierPool(1, config.reward.timeout_seconds) as verifier:
        manifest = prepare(config, load_tokenizer(config.model), folder, accepts_answer=Audit(verifier.verify))
    attempt.publish("dataset", folder, {"problems": SETS["train"], "demonstrations": SETS["sft"]})
    for name, count in manifest.counts.items():
        attempt.metrics[f"data/{name}"] = float(count)
    attempt.tracker.log(attempt.metrics, step=0)
    attempt.tracker.dataset(config.run.name, attempt.outputs["dataset"].sha256, attempt.outputs["dataset"].uri)


def _gate(attempt: Attempt) -> None:
    from fipo.evaluation.tables import read_results
    from fipo.gate import decide
    from fipo.registry import champion, fetch_answers

    workspace, config = attempt.workspace, attempt.workspace.config
    candidate = read_results(workspace.input("evaluate", "results") / "trained", config.data.benchmarks)
    present = champion(config.tracking_uri, config.registry.model_name)
    if present and present.sha256 == workspace.upstream["train"].outputs["model"].sha256:
        present = None  # the candidate itself, which a repeated run has registered before
    decision = decide(
        config.gate,
        config.gate_benchmark,
        candidate=candidate,
        champion=present and read_results(fetch_answers(present, config.run_directory), config.data.benchmarks),
        champion_version=present.version if present else "",
    )
    print(f"[gate] {'passed' if decision.passed else 'not passed'}: {decision.reason}", flush=True)
    record = asdict(decision)
    folder = workspace.directory / "decision"
    folder.mkdir(exist_ok=True)
    (folder / "decision.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    attempt.publish("decision", folder)
    attempt.tracker.artifact(folder / "decision.json")
    attempt.details |= {"decision": record}
    attempt.metrics |= {"gate/passed": float(decision.passed), "gate/value": decision.value}
    attempt.tracker.log(attempt.metrics, step=0)


def _register(attempt: Attempt) -> None:
    from fipo.gate import Decision
    from fipo.registry import register

    workspace = attempt.workspace
    config, upstream = workspace.config, workspace.upstream
    decision = Decision.from_record(upstream["gate"].details["decision"])
    model, results = upstream["train"].outputs["model"], upstream["evaluate"].outputs["results"]
    data, evidence = upstream["prepare"].outputs["dataset"], upstream["gate"].outputs["decision"]
    trained: Mapping[str, Mapping[str, Any]] = upstream["evaluate"].details["trained"]
    registered = register(
        config.tracking_uri,
        name=config.registry.model_name,
        model_uri=model.uri,
        sha256=model.sha256,
        run_id=attempt.tracker.run_id,
        provenance={
            "run": config.run.name,
            "data_uri": data.uri,
            "data_sha256": upstream["train"].inputs["prepare/dataset:problems"],
            "data_read": json.dumps({name: upstream["prepare"].inputs[name] for name in upstream["prepare"].inputs}),
            "config_sha256": config.digest(),
            "code_sha256": code_digest(),
            "fipo_version": fipo.__version__,
            "evaluation_uri": results.uri,
            "evaluation_sha256": results.sha256,
            "training_mlflow_run_id": upstream["train"].mlflow_run_id,
            "training_mlflow_url": upstream["train"].mlflow_url,
            "evaluation_mlflow_run_id": upstream["evaluate"].mlflow_run_id,
            "evaluation_mlflow_url": upstream["evaluate"].mlflow_url,
            "gate": decision.reason,
            "gate_evidence_uri": evidence.uri,
        },
        metrics={
            f"eval/{benchmark}/{metric}": summary[metric]
            for benchmark, summary in trained.items()
            for metric in ("avg_at_k", "cons_at_k", "pass_at_k", "mean_response_tokens")
        },
        settings=config.to_yaml(),
        promote=decision.passed,
    )
    role = "champion" if decision.passed else f"candidate; not promoted: {decision.reason}"
    print(f"[register] {registered.name} version {registered.version}: {role}", flush=True)
    attempt.details["model"] = {key: getattr(registered, key) for key in ("name", "version", "uri", "sha256")}
    attempt.details["versions"] = versions()


def _report(attempt: Attempt) -> None:
    from fipo.report.run import write_report

    write_report(attempt)


LOCAL_STEPS: Mapping[str, Callable[[Attempt], None]] = {
    "prepare": _prepare,
    "gate": _gate,
    "register": _register,
    "report": _report,
}
"""Steps that run in this process."""


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    names = ("fipo", "torch", "transformers", "deepspeed", "mlflow", "kfp")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def code_digest() -> str:
    """SHA-256 (hex) over the package's Python sources, by path: what produced a result."""
    root = Path(fipo.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
