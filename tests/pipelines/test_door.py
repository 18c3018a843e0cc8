"""What tasks show in Kubeflow's UI."""

import gc
from dataclasses import replace
from pathlib import Path

import pytest
from kfp import dsl

from fipo.run.result import Output, StepResult
from fipo_kfp.components import door

RESULT = StepResult(
    step="train",
    fingerprint="f",
    seconds=12.34,
    outputs={"model": Output("s3://fipo/demo/train/f/model", "0" * 64)},
    metrics={
        "rollout/accuracy": 0.5,
        "rollout/response_tokens_mean": 7.25,
        "train/loss": float("nan"),
        "perf/ratio": float("inf"),
    },
    mlflow_run_id="abc",
    mlflow_url="https://mlflow.example.com/#/experiments/1/runs/abc",
)


@pytest.fixture
def page(tmp_path):
    return dsl.Markdown(name="summary", uri=str(tmp_path / "summary.md"))


def test_the_page_of_a_task_links_to_mlflow(page):
    door.write_summary(page, RESULT)
    text = Path(page.path).read_text()
    assert "12.3 s · [MLflow run](https://mlflow.example.com/#/experiments/1/runs/abc)" in text
    assert (
        text.splitlines()[2]
        == "**Trained. In the last step 50% of the responses were right, with 7.2 tokens each on average.**"
    )
    assert "| rollout/accuracy | 0.5 |" in text
    assert "| model | `s3://fipo/demo/train/f/model` |" in text


def test_accuracy_and_length_alone_are_compared(tmp_path):
    scores = dsl.Metrics(name="scores", uri=str(tmp_path / "scores"))
    measured = {
        "eval/aime/avg_at_k": 0.5,
        "eval/aime/warmup/avg_at_k": 0.25,
        "eval/aime/mean_response_tokens": float("nan"),  # Kubeflow refuses it
        "eval/aime/pass_at_k": 0.75,
        "perf/seconds": 1.0,
    }
    door.write_scores(scores, replace(RESULT, metrics=measured))
    assert scores.metadata == {"aime/avg_at_k": 0.5, "aime/warmup/avg_at_k": 0.25}


def test_an_artifact_holds_where_the_weights_are_and_their_digest(tmp_path):
    model = dsl.Model(name="model", uri=str(tmp_path / "model"))
    door.write_outputs(model, RESULT)
    assert model.metadata["model.uri"] == "s3://fipo/demo/train/f/model"
    assert model.metadata["model.sha256"] == "0" * 64
    assert model.uri == str(tmp_path / "model"), "Kubeflow's own: it uploads what is there"


def test_metadata_is_flat(tmp_path):
    """What is nested comes to the next task as `{"struct": ...}`, with Kubeflow's store of metadata in between."""
    dataset = dsl.Dataset(name="dataset", uri=str(tmp_path / "dataset"))
    parts = {"problems": "1" * 64, "demonstrations": "2" * 64}
    door.write_outputs(dataset, replace(RESULT, outputs={"dataset": Output("s3://fipo/data", "0" * 64, parts)}))
    assert dataset.metadata["dataset.parts.problems"] == "1" * 64
    assert not any(isinstance(value, dict | list) for value in dataset.metadata.values())


@pytest.fixture
def collector():
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("collector")
def test_no_garbage_is_looked_for_among_what_a_task_imports():
    with door._explained("prepare"):
        assert gc.get_threshold()[0] >= 100_000, "while it imports"
    assert gc.get_freeze_count() > 10_000, "when it ends"
