import json
from pathlib import Path

import pytest
from kfp import dsl

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


def test_one_run_is_no_comparison(artifact, tiny_pipeline, capsys):
    uri = tiny_pipeline.outputs("evaluate")["results"]["uri"]
    results = [dsl.Dataset(name="results", uri="", metadata={"run": "tiny", "results": {"uri": uri}})]
    with pytest.raises(SystemExit):
        compare.python_func(
            recipe=tiny_pipeline.recipe,
            recipe_changes=tiny_pipeline.overrides,
            results=results,
            comparison=artifact("page", dsl.HTML),
            comparison_scores=artifact("scores", dsl.Metrics),
        )
    assert "at least two runs" in capsys.readouterr().err
