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
