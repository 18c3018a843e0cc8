import json
from pathlib import Path

from kfp import dsl

from fipo_kfp.components.evaluate.component import evaluate


def test_points_at_the_results_of_both_models(common, artifact, page, stored, tiny_pipeline):
    inputs = {
        "dataset": artifact("dataset", dsl.Dataset),
        "warmup_model": artifact("warmup", dsl.Model),
        "trained_model": artifact("model", dsl.Model),
    }
    results, scores = artifact("results", dsl.Dataset), artifact("scores", dsl.Metrics)
    evaluate.python_func(
        **common, **inputs, results=results, scores=scores, evaluation_summary=page, task_config=dsl.TaskConfig()
    )
    files = stored(results)["results"]
    assert {"warmup/sums-responses.parquet", "trained/sums-responses.parquet"} <= files
    summary = json.loads((tiny_pipeline.config.run_directory / "summary.json").read_text())
    before, after = summary["warmup"], summary["trained"]
    assert scores.metadata == {
        "sums/avg_at_k": after["avg_at_k"],
        "sums/mean_response_tokens": after["mean_response_tokens"],
        "sums/warmup/avg_at_k": before["avg_at_k"],
        "sums/warmup/mean_response_tokens": before["mean_response_tokens"],
    }
    assert "right, from" in Path(page.path).read_text()
