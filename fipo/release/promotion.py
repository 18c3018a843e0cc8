"""The steps `gate` and `register`: judge what was trained, and make it a version of the registry's model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from fipo.evaluation.tables import read_results
from fipo.records import Decision, Evaluated, Registration
from fipo.release.gate import decide
from fipo.release.registry import RegisteredModel, champion, fetch_answers, patiently, register

if TYPE_CHECKING:
    from fipo.run.workspace import Attempt, Workspace


def judge(attempt: Attempt) -> None:
    """Publish the output `decision`, and record it (`Decision`)."""
    workspace, config = attempt.workspace, attempt.workspace.config
    results = workspace.input("evaluate", "results")
    present = _to_beat(workspace)
    answers = fetch_answers(present, config.run_directory) if present else None
    decision = decide(
        config.gate,
        config.gate_benchmark,
        candidate=read_results(results / "trained", config.data.benchmarks),
        warmup=read_results(results / "warmup", config.data.benchmarks),
        champion=read_results(answers, config.data.benchmarks) if answers else None,
        champion_version=present.version if present else "",
    )
    print(f"[gate] {'passed' if decision.passed else 'not passed'}: {decision.reason}", flush=True)
    folder = workspace.directory / "decision"
    folder.mkdir(exist_ok=True)
    (folder / "decision.json").write_text(json.dumps(asdict(decision), indent=1) + "\n", encoding="utf-8")
    attempt.publish("decision", folder)
    attempt.tracker.artifact(folder / "decision.json")
    attempt.record(decision)
    attempt.metrics |= {"gate/passed": float(decision.passed), "gate/value": decision.value}
    attempt.tracker.log(attempt.metrics, step=0)


def register_model(attempt: Attempt) -> None:
    """Make the trained model a version, champion if the gate says so, and record it (`Registration`)."""
    workspace = attempt.workspace
    config, upstream = workspace.config, workspace.upstream
    decision = upstream["gate"].read(Decision)
    model = upstream["train"].outputs["model"]
    refused = _no_longer_holds(decision, workspace)
    registered = patiently(
        register,
        config.tracking_uri,
        name=config.registry.model_name,
        model_uri=model.uri,
        sha256=model.sha256,
        run_id=attempt.tracker.parent_run_id or attempt.tracker.run_id,  # the page where people look first
        provenance=_provenance(workspace) | {"gate": refused or decision.reason},
        metrics={
            f"eval/{benchmark}/{metric}": value
            for benchmark, scores in upstream["evaluate"].read(Evaluated).trained.items()
            for metric, value in scores.values().items()
        },
        settings=config.to_yaml(),
        promote=decision.passed and not refused,
    )
    role = "champion" if decision.passed and not refused else f"candidate; not promoted: {refused or decision.reason}"
    print(f"[register] {registered.name} version {registered.version}: {role}", flush=True)
    attempt.record(Registration(registered.name, registered.version, registered.uri, registered.sha256))


def _to_beat(workspace: Workspace) -> RegisteredModel | None:
    """The present champion, unless it is the candidate itself, which a repeated run has registered before."""
    config = workspace.config
    present = patiently(champion, config.tracking_uri, config.registry.model_name)
    return None if present and present.sha256 == workspace.upstream["train"].outputs["model"].sha256 else present


def _no_longer_holds(decision: Decision, workspace: Workspace) -> str:
    """Why a decision to promote is void, in one sentence; empty where it was held against the present champion."""
    present = _to_beat(workspace)
    if not decision.passed or present is None or present.version == decision.champion_version:
        return ""
    against = f"version {decision.champion_version}" if decision.champion_version else "no champion"
    return (
        f"the gate compared with {against}, and version {present.version} is champion now: "
        "run `fipo gate --fresh`, then register again"
    )


def _provenance(workspace: Workspace) -> dict[str, str]:
    """Where the model comes from: what each step that made it recorded, not what the settings say now."""
    config, upstream = workspace.config, workspace.upstream
    trained, evaluated, prepared = upstream["train"], upstream["evaluate"], upstream["prepare"]
    results = evaluated.outputs["results"]
    return {
        "run": config.run.name,
        "data_uri": prepared.outputs["dataset"].uri,
        "data_sha256": trained.inputs["prepare/dataset:problems"],
        "data_read": json.dumps(prepared.inputs),
        "train_read": json.dumps(trained.inputs),
        "config_sha256": config.digest(),
        "code_sha256": trained.code,
        "versions": json.dumps(trained.versions),
        "fipo_version": trained.versions.get("fipo", ""),
        "evaluation_uri": results.uri,
        "evaluation_sha256": results.sha256,
        "training_mlflow_run_id": trained.mlflow_run_id,
        "training_mlflow_url": trained.mlflow_url,
        "evaluation_mlflow_run_id": evaluated.mlflow_run_id,
        "evaluation_mlflow_url": evaluated.mlflow_url,
        "gate_evidence_uri": upstream["gate"].outputs["decision"].uri,
    }
