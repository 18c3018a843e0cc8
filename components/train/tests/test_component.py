from pathlib import Path

from kfp import dsl

from fipo_kfp.components.train.component import train


def test_points_at_the_trained_model(common, artifact, page, stored):
    inputs = {"dataset": artifact("dataset", dsl.Dataset), "warmup_model": artifact("warmup", dsl.Model)}
    model = artifact("model", dsl.Model)
    train.python_func(**common, **inputs, trained_model=model, training_summary=page, task_config=dsl.TaskConfig())
    assert "model.safetensors" in stored(model)["model"]
    assert "% of the responses were right" in Path(page.path).read_text()
