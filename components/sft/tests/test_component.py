from pathlib import Path

from kfp import dsl

from fipo_kfp.components.sft.component import sft


def test_points_at_the_warmed_up_model(common, artifact, page, stored):
    model, dataset = artifact("model", dsl.Model), artifact("dataset", dsl.Dataset)
    sft.python_func(**common, dataset=dataset, warmup_model=model, warmup_summary=page, task_config=dsl.TaskConfig())
    assert "model.safetensors" in stored(model)["model"]
    assert "**Warmed up to a loss of 0.5" in Path(page.path).read_text()
