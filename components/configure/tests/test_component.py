from pathlib import Path

import pytest
from kfp import dsl, local

from components.configure.component import configure
from fipo.config import load_config

NOTHING = {
    "run_name": "",
    "data_uri": "",
    "model_uri": "",
    "gate_minimum": "",
    "storage_uri": "",
    "tracking_uri": "",
    "nodes": 1,
    "queue": "",
}


def call(artifact, **arguments):
    page = artifact("settings", dsl.Markdown)
    given = {"recipe": "demo", "overrides": [], **NOTHING, **arguments}
    overrides = configure.python_func(**given, settings=page)
    return load_config("demo", overrides), Path(page.path).read_text()


def test_empty_parameters_leave_the_recipe(artifact):
    config, page = call(artifact)
    assert config == load_config("demo")
    assert "learning_rate: 0.002" in page


def test_parameters_stand_over_the_cluster_and_overrides_over_both(artifact, monkeypatch):
    monkeypatch.setenv("FIPO_SETTINGS", "run.name=cluster\n\nstorage.uri=s3://cluster\ntrain.steps=1\n")
    config, _ = call(artifact, run_name="2026", overrides=["train.steps=3"], nodes=2, queue="research")
    assert (config.run.name, config.storage.uri, config.train.steps) == ("2026", "s3://cluster", 3)
    assert (config.trainjob.nodes, config.trainjob.queue) == (2, "research")


def test_data_model_and_gate(artifact):
    config, _ = call(artifact, data_uri="s3://b/problems.jsonl", model_uri="Qwen/Qwen2.5-7B", gate_minimum="0.25")
    assert [source.uri for source in config.data.train] == ["s3://b/problems.jsonl"]
    assert (config.model.name_or_path, config.model.architecture) == ("Qwen/Qwen2.5-7B", None)
    assert config.gate.minimum == 0.25


def test_an_arm_of_an_experiment_stands_over_everything(artifact):
    config, _ = call(
        artifact, run_name="shared", overrides=["run.seed=1"], arm="dapo-s2 algorithm.loss=dapo run.seed=2"
    )
    assert (config.run.name, config.algorithm.loss, config.run.seed) == ("dapo-s2", "dapo", 2)


def test_a_mistake_ends_the_task_with_its_message(artifact, capsys):
    with pytest.raises(SystemExit) as ended:
        call(artifact, gate_minimum="high")
    assert ended.value.code == 2
    assert "gate.minimum" in capsys.readouterr().err


def test_on_the_local_runner(tmp_path):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    task = configure(recipe="demo", overrides=["run.seed=7"], **NOTHING)
    assert task.outputs["Output"] == ["trainjob.nodes=1", "run.seed=7"]
    assert "seed: 7" in Path(task.outputs["settings"].path).read_text()
