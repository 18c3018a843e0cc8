from kfp import dsl

from fipo_kfp.components.finish.component import finish


def test_closes_the_run_with_the_pipelines_status(tiny_pipeline):
    import mlflow

    config = tiny_pipeline.config
    client = mlflow.MlflowClient(config.tracking_uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == config.tracking.experiment_prefix]

    def statuses():
        found = client.search_runs([experiment.experiment_id])
        return [run.info.status for run in found if run.info.run_name.startswith(f"{config.run.name}-fipo-")]

    assert set(statuses()) == {"FINISHED"}
    for state, status in (("FAILED", "FAILED"), ("SUCCEEDED", "FINISHED")):
        ended = dsl.PipelineTaskFinalStatus(state, "run", "exit-handler-1", None, None)
        unnamed = {"run_name": "", "created": "2026-11-26T03:00:00Z", "run_id": "run"}
        finish.python_func(tiny_pipeline.recipe, tiny_pipeline.overrides, **unnamed, status=ended)
        assert status in statuses()
    assert set(statuses()) == {"FINISHED"}


def test_closes_the_warm_ups_of_a_study_too(monkeypatch):
    closed = []
    monkeypatch.setattr("fipo_kfp.components.door.finish", lambda form, state, arm: closed.append((form.recipe, arm)))
    trials = [
        {"recipe": "demo", "arm": f"arm-{arm}-{seed}", "warmup": f"warm-{seed}"} for seed in (1, 2) for arm in "ab"
    ]
    ended = dsl.PipelineTaskFinalStatus("SUCCEEDED", "run", "study", None, None)
    finish.python_func("demo", [], run_name="", created="", run_id="run", status=ended, runs=trials)
    arms = [f"arm-{arm}-{seed}" for seed in (1, 2) for arm in "ab"]
    assert closed == [("demo", name) for name in ("warm-1", "warm-2", *arms)]
