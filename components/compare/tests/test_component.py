import json
from pathlib import Path

import pytest
from kfp import dsl

from fipo.study.results import CURVES, SCORES, TOKENS
from fipo.study.study import Outcome, Study
from fipo.tracking import Tracker
from fipo.tracking.client import connect
from fipo_kfp.components.compare.component import compare


def test_shows_the_runs_side_by_side(tiny_copy, start_pipeline):
    """One arm is the run that is there, so that only the other is trained."""
    arms = json.dumps(["tiny", "other run.seed=1"])
    ran = start_pipeline(tiny_copy, options=["--pipeline", "fipo_comparison", "--parameter", f"arms={arms}"])
    assert ran.output.count("reused") == 4
    assert ran.tasks == {"configure", "doctor", "prepare", "sft", "train", "evaluate", "compare", "finish"}
    artifacts = ran.result("compare")["artifacts"]
    scores = artifacts["comparison_scores"]["artifacts"][0]["metadata"]
    assert scores.keys() == {"tiny/avg_at_k", "other/avg_at_k"}
    page = Path(artifacts["comparison"]["artifacts"][0]["uri"]).read_text()
    assert "other against tiny" in page and "<svg" in page


def test_a_study_is_judged_over_its_seeds(artifact, tmp_path):
    """From MLflow, where its trials are: the settings of the cluster say where that is."""
    study = Study(
        name="kept",
        tasks={"easy": {"recipe": "demo"}},
        arms={"dapo": ["algorithm.loss=dapo"], "fipo": []},
        baseline="dapo",
        seeds=(1, 2, 3),
        outcome=Outcome(score="avg_at_k", smallest_effect=0.05),
    )
    trials = list(study.trials())
    connect(trials[0].config(tmp_path).tracking_uri).search_experiments()  # makes the database, for all of them
    for trial in trials:
        accuracy = 0.1 * trial.seed + (0.101 + 0.001 * trial.seed) * (trial.arm == "fipo")
        for step, values in (("train", {TOKENS: 9.0, **dict.fromkeys(CURVES, accuracy)}), ("evaluate", {})):
            name = f"{trial.name}-{step}"
            with Tracker.open(
                trial.config(tmp_path).tracking_uri,
                experiment=f"{study.name}/{step}",
                run_name=name,
                run_key=name,
                journal=tmp_path / f"{name}.jsonl",
            ) as tracker:
                tracker.params({"run.name": trial.name})
                tracker.log(values or {f"eval/running-sums/{score}": accuracy for score in SCORES}, 1)
    page, scores = artifact("page", dsl.HTML), artifact("scores", dsl.Metrics)
    changes = [f"run.directory={tmp_path}"]
    compare.python_func("demo", changes, [], page, scores, study=study.model_dump_json())
    assert scores.metadata == pytest.approx({"easy/dapo/avg_at_k": 0.2, "easy/fipo/avg_at_k": 0.303})
    text = Path(page.path).read_text()
    assert "6 finished trials" in text and "higher" in text and "+10.3" in text and "<svg" in text


def test_one_run_is_no_comparison(artifact, tiny_pipeline, capsys):
    uri = tiny_pipeline.outputs("evaluate")["results"]["uri"]
    results = [dsl.Dataset(name="results", uri="", metadata={"run": "tiny", "results.uri": uri})]
    with pytest.raises(SystemExit):
        compare.python_func(
            recipe=tiny_pipeline.recipe,
            recipe_changes=tiny_pipeline.overrides,
            results=results,
            comparison=artifact("page", dsl.HTML),
            comparison_scores=artifact("scores", dsl.Metrics),
        )
    assert "at least two runs" in capsys.readouterr().err
