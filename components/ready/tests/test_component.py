"""The study's pipeline on this machine: a warm-up, a trial that takes it, and the page over what there is."""

import json
from pathlib import Path

import pytest

from fipo_kfp.pipelines.study import parameters
from tests.pipelines.test_study import STUDY

pytestmark = pytest.mark.slow


def test_a_trial_starts_when_its_warm_up_is_there(start_pipeline, tmp_path):
    """One of the four trials: each task takes seconds to start. The page says what is missing."""
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    given = {name: json.loads(value) for name, value in parameters(file).items() if name in ("warmups", "trials")}
    one = [f"{name}={json.dumps(values[:1])}" for name, values in given.items()]
    options = ["--study", str(file), *(word for text in one for word in ("--parameter", text))]
    ran = start_pipeline(f"run.directory={tmp_path}/runs", options=options)
    assert "1 warmed-up models" in ran.output
    assert ran.output.count("reused") == 2, "data and warm-up are the seed's"
    artifacts = ran.result("compare")["artifacts"]
    page = Path(artifacts["comparison"]["artifacts"][0]["uri"]).read_text()
    assert "1 finished trials" in page and "<svg" in page
    (name,) = artifacts["comparison_scores"]["artifacts"][0]["metadata"]
    assert name == "sums/dapo/avg_at_k"
