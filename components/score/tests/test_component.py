import json


def test_a_registered_model_scores_as_it_did_in_its_run(tiny_pipeline, start_pipeline):
    options = ["--pipeline", "fipo_evaluation", "--parameter", "model=fipo-tiny@champion"]
    ran = start_pipeline(*tiny_pipeline.overrides, options=options)
    assert ran.tasks >= {"configure", "prepare", "sft", "score", "finish"}
    (output,) = ran.config.run_directory.glob("kfp/fipo-evaluation-*/score/executor_output.json")
    artifacts = json.loads(output.read_text())["artifacts"]
    measured = artifacts["scores"]["artifacts"][0]["metadata"]
    summary = json.loads((tiny_pipeline.config.run_directory / "summary.json").read_text())
    assert measured["sums/avg_at_k"] == summary["trained"]["avg_at_k"]
    assert "file://" in artifacts["results"]["artifacts"][0]["metadata"]["results.uri"]
