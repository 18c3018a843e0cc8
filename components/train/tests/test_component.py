from kfp import dsl

from components.train.component import train


def test_points_at_the_trained_model(measured, artifact, stored):
    inputs = {"dataset": artifact("dataset", dsl.Dataset), "warmup": artifact("warmup", dsl.Model)}
    model = artifact("model", dsl.Model)
    train.python_func(**measured, **inputs, model=model, task_config=dsl.TaskConfig())
    assert "model.safetensors" in stored(model)["model"]
    assert 0 <= measured["metrics"].metadata["rollout/accuracy"] <= 1
