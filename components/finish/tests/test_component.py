from kfp import dsl

from components.finish.component import finish


def test_closes_the_run_with_the_pipelines_status(tiny_pipeline):
    import mlflow

    config = tiny_pipeline.config
    client = mlflow.MlflowClient(config.tracking_uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == config.tracking.experiment_prefix]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    for state, status in (("FAILED", "FAILED"), ("SUCCEEDED", "FINISHED")):
        ended = dsl.PipelineTaskFinalStatus(state, "run", "exit-handler-1", None, None)
        nothing = {"run_name": "", "storage_uri": "", "tracking_uri": ""}
        finish.python_func(tiny_pipeline.recipe, tiny_pipeline.overrides, **nothing, status=ended)
        assert client.get_run(run.info.run_id).info.status == status
