from kfp import dsl

from components.sft.component import sft


def test_points_at_the_warmed_up_model(measured, artifact, stored):
    model = artifact("model", dsl.Model)
    sft.python_func(**measured, dataset=artifact("dataset", dsl.Dataset), model=model, task_config=dsl.TaskConfig())
    assert "model.safetensors" in stored(model)["model"]
    assert measured["metrics"].metadata["sft/loss"] > 0
