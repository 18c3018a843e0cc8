from kfp import dsl

from components.evaluate.component import evaluate


def test_points_at_the_results_of_both_models(measured, artifact, stored):
    inputs = {
        "dataset": artifact("dataset", dsl.Dataset),
        "warmup": artifact("warmup", dsl.Model),
        "model": artifact("model", dsl.Model),
    }
    results = artifact("results", dsl.Dataset)
    evaluate.python_func(**measured, **inputs, results=results, task_config=dsl.TaskConfig())
    files = stored(results)["results"]
    assert {"warmup/sums-responses.parquet", "trained/sums-responses.parquet"} <= files
