"""Gate and registry together: a second run against the champion that the first one made."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fipo.cli import main
from fipo.config import Architecture, Model, load_config
from fipo.evaluation.results import BenchmarkResult, GradedResponse, ProblemResult
from fipo.evaluation.tables import write_result
from fipo.models import load_model, load_tokenizer, save_model
from fipo.outcome import Outcome
from fipo.records import Decision, Evaluated
from fipo.release.registry import champion
from fipo.run.run import Run
from fipo.storage import open_store
from tests.finished import finish
from tests.present import present

MODEL = Model(
    architecture=Architecture(
        vocabulary=tuple("0123+="), hidden_size=16, intermediate_size=16, layers=1, attention_heads=2,
        key_value_heads=1, max_position_embeddings=32,
    )
)  # fmt: skip


def result(right):
    """So many of ten responses to each problem are right."""
    outcomes = [Outcome.CORRECT] * right + [Outcome.WRONG] * (10 - right)
    responses = tuple(GradedResponse("", str(n), outcome, 1, False, str(n)) for n, outcome in enumerate(outcomes))
    return BenchmarkResult("aime", tuple(ProblemResult(str(index), "", "1", responses) for index in range(20)))


@pytest.fixture
def promote(tmp_path):
    """Gate and register a run whose model gave so many right answers of ten; returns the gate's result."""

    def promote(name, correct, seed):
        settings = [
            f"run.directory={tmp_path}",
            f"run.name={name}",
            "data.benchmarks={aime: {generator: {digits: 4}, limit: 20}}",
        ]
        config = load_config("demo", [*settings, "gate.minimum=0.1", "registry.model_name=race"])
        folder = tmp_path / "made" / name
        save_model(load_model(MODEL, seed=seed), load_tokenizer(MODEL), folder / "model")
        write_result(result(correct), folder / "results" / "trained")
        write_result(result(4), folder / "results" / "warmup")
        (folder / "dataset").mkdir()
        (folder / "dataset" / "train.parquet").write_bytes(b"data of " + name.encode())
        record = asdict(Evaluated({"aime": result(correct).scores()}))
        for step, output in {"prepare": "dataset", "sft": "model", "train": "model", "evaluate": "results"}.items():
            about: dict[str, Any] = {"mlflow_url": f"http://mlflow/{step}", "code": "c" * 64}
            about |= {"record": record} if step == "evaluate" else {}
            finish(config, step, {output: folder / output}, **about)
        decision = Run(config).step("gate").run()
        Run(config).step("register").run()
        return config, decision

    return promote


def test_the_champion_is_beaten_by_more_than_the_interval_or_stays(promote, capsys):
    config, first = promote("first", 5, seed=0)
    assert first.metrics["gate/passed"] == 1.0
    assert "no champion to beat" in first.read(Decision).reason
    _, equal = promote("equal", 5, seed=1)
    assert equal.metrics["gate/passed"] == 0.0
    assert present(champion(config.tracking_uri, "race")).version == "1"
    _, better = promote("better", 7, seed=2)
    decision = better.read(Decision)
    assert (decision.champion, decision.value) == pytest.approx((0.5, 0.7))
    assert decision.champion_version == "1"
    (check,) = (check for check in decision.checks if check.rule == "improves")
    assert check.interval == pytest.approx((0.2, 0.2))

    new = present(champion(config.tracking_uri, "race"))
    assert new.version == "3"
    evidence = open_store(new.provenance["gate_evidence_uri"]).get("decision.json")
    assert json.loads(evidence) == better.record
    for name in ("data_sha256", "config_sha256", "code_sha256", "evaluation_sha256"):
        assert len(new.provenance[name]) == 64, name
    card = open_store(new.uri).get("README.md").decode()
    assert "[http://mlflow/train](http://mlflow/train)" in card
    assert new.provenance["gate"] in card
    assert "run:" in open_store(new.uri).get("fipo.yaml").decode()

    main(["rollback", "race", "--set", f"run.directory={config.run.directory}"])
    assert "race: version 1 is champion" in capsys.readouterr().out
    assert present(champion(config.tracking_uri, "race")).version == "1"


def test_a_champion_that_came_after_the_gate_had_decided_is_not_replaced(promote, capsys):
    """The gate compared with the first; meanwhile another run has won."""
    config, _ = promote("first", 5, seed=0)
    beaten, _ = promote("beaten", 7, seed=1)
    promote("winner", 9, seed=2)
    capsys.readouterr()
    Run(beaten).step("register").run(fresh=True)
    assert "not promoted: the gate compared with version 1, and version 3 is champion now" in capsys.readouterr().out
    assert present(champion(config.tracking_uri, "race")).version == "3"
    Run(config).step("gate").run(fresh=True)
    Run(config).step("register").run(fresh=True)
    assert present(champion(config.tracking_uri, "race")).version == "3"


def test_the_champion_itself_passes_again(promote):
    config, _ = promote("again", 5, seed=0)
    repeated = Run(config).step("gate").run(fresh=True)
    assert repeated.metrics["gate/passed"] == 1.0


def test_an_evaluation_that_was_changed_is_no_evidence(promote):
    config, _ = promote("first", 5, seed=0)
    stored = present(champion(config.tracking_uri, "race")).provenance["evaluation_uri"].removeprefix("file://")
    for path in Path(stored).rglob("*-responses.parquet"):
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Exception, match=r"responses\.parquet"):
        promote("second", 9, seed=1)


def test_gate_and_registration_wait_for_mlflow(promote, mlflow_restarts, capsys):
    config, _ = promote("first", 5, seed=0)
    assert present(champion(config.tracking_uri, "race")).version == "1"
    assert {"search_registered_models", "create_registered_model", "create_model_version"} <= mlflow_restarts
    assert "trying again: waiting for MLflow since" in capsys.readouterr().out
