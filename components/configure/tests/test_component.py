from pathlib import Path

import pytest
from kfp import dsl, local

from fipo.config import load_config
from fipo.tracking.runs import open_pipeline_runs
from fipo_kfp.components.configure.component import configure
from tests.instruct_model import make

MADE = {"created": "2026-11-26T03:04:05Z", "run_id": "0f2b6c1e-5a0d-4d3e-9a52-6a2f6f0f7c11"}


def call(artifact, recipe="demo", **arguments):
    page = artifact("settings", dsl.Markdown)
    given = {"recipe": recipe, "recipe_changes": [], **MADE, **arguments}
    found = configure.python_func(**given, settings=page)
    return load_config(recipe, found.overrides), Path(page.path).read_text(), found


def test_empty_parameters_leave_the_recipe(artifact, tmp_path):
    config, page, _ = call(artifact, recipe_changes=[f"storage.uri={tmp_path.as_uri()}"])
    assert config == load_config("demo", [f"storage.uri={tmp_path.as_uri()}"])
    assert "learning_rate: 0.002" in page


def test_parameters_stand_over_the_cluster_and_changes_over_both(artifact, monkeypatch, tmp_path):
    monkeypatch.setenv("FIPO_SETTINGS", f"run.name=cluster\n\nstorage.uri={tmp_path.as_uri()}\ntrain.steps=1\n")
    config, *_ = call(artifact, run_name="2026", recipe_changes=["train.steps=3"], run_nodes=2, run_gpus_per_node=8)
    assert (config.run.name, config.storage.uri, config.train.steps) == ("2026", tmp_path.as_uri(), 3)
    assert (config.trainjob.nodes, config.trainjob.gpus_per_node) == (2, 8)


@pytest.fixture
def own(tmp_path):
    """Problems and a model's folder."""
    data = tmp_path / "problems.jsonl"
    data.write_text('{"prompt": "1 + 1", "answer": "2"}\n')
    return str(data), str(make(tmp_path / "model"))


def test_data_and_model(artifact, own):
    data, model = own
    config, *_ = call(artifact, recipe_data=data, recipe_model=model)
    assert [source.uri for source in config.data.train] == [data]
    assert (config.model.name_or_path, config.model.architecture) == (model, None)


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("reward.functions={acuracy: 1}", 2, "no reward function 'acuracy'"),
        ("data.train=[{generator: {digits: 12}, limit: 9, prompt_column: question}]", 2, "did you mean 'prompt'?"),
    ],
)
def test_what_would_end_a_later_task_ends_this_one(artifact, capsys, tmp_path, fault, code, said):
    """The checks of `fipo check`."""
    with pytest.raises(SystemExit) as ended:
        call(artifact, recipe_changes=[f"storage.uri={tmp_path.as_uri()}", fault])
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def test_what_is_not_there_is_said_before_anything_is_started(artifact, capsys):
    with pytest.raises(SystemExit) as ended:
        call(artifact, recipe_data="/nowhere/problems.jsonl")
    assert ended.value.code == 65
    assert "data.train[0].uri: " in (said := capsys.readouterr().err) and "/nowhere/problems.jsonl" in said


def test_a_trial_takes_the_warm_up_that_fits(tiny_pipeline, tiny_copy, artifact):
    given = {"recipe_changes": [tiny_copy], "goal": "evaluate", "warmup": "tiny"}
    _, page, found = call(artifact, tiny_pipeline.recipe, **given, arm="half algorithm.half_life=8")
    assert found.todo == "train evaluate" and "- sft, finished before" in page
    _, _, found = call(artifact, tiny_pipeline.recipe, **given, arm="longer sft.steps=61")
    assert found.todo == "sft train evaluate"


def test_in_a_cluster_mlflow_knows_whose_run_begins(artifact, tmp_path, monkeypatch):
    """The reaper closes there what a run that is terminated leaves open."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    changes = [f"storage.uri={tmp_path.as_uri()}", f"tracking.uri={uri}"]
    call(artifact, recipe_changes=changes)
    assert open_pipeline_runs(uri) == {}
    monkeypatch.setenv("KFP_POD_NAME", "configure")
    call(artifact, recipe_changes=changes)
    assert list(open_pipeline_runs(uri).values()) == [MADE["run_id"]]


def test_a_name_is_made_when_the_run_is(artifact):
    config, *_ = call(artifact, run_name="nightly-{time}-{id}")
    assert config.run.name == "nightly-20261126-030405-0f2b6c1e"


@pytest.mark.parametrize(
    ("name", "created", "message"),
    [
        ("tick-[[ScheduledTime]]", MADE["created"], r"write {time}"),
        ("tick-{time}", "{{$.pipeline_job_create_time_utc}}", "did not say when"),
        ("tick-{date}", MADE["created"], "run.name"),
    ],
)
def test_a_name_that_nobody_fills_in_is_refused(artifact, capsys, name, created, message):
    with pytest.raises(SystemExit) as ended:
        call(artifact, run_name=name, created=created)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_arm_of_a_comparison_stands_over_everything(artifact):
    config, *_ = call(
        artifact, run_name="shared", recipe_changes=["run.seed=1"], arm="dapo-s2 algorithm.loss=dapo run.seed=2"
    )
    assert (config.run.name, config.algorithm.loss, config.run.seed) == ("dapo-s2", "dapo", 2)


def test_a_mistake_ends_the_task_with_its_message(artifact, capsys):
    with pytest.raises(SystemExit) as ended:
        call(artifact, recipe_changes=["gate.minimum=high"])
    assert ended.value.code == 2
    assert "gate.minimum" in capsys.readouterr().err


def test_what_is_done_is_found_before_anything_is_started(tiny_pipeline, artifact):
    _, page, found = call(artifact, tiny_pipeline.recipe, recipe_changes=tiny_pipeline.overrides)
    assert found.todo == "nothing"
    assert "Nothing to do" in page and "- gate, finished before: Promoted:" in page
    changed = [*tiny_pipeline.overrides, "evaluation.samples=4"]
    _, page, found = call(artifact, tiny_pipeline.recipe, recipe_changes=changed)
    assert found.todo == "evaluate gate register report"
    assert "To do: evaluate, gate, register, report." in page and "- train, finished before: Trained." in page


@pytest.mark.parametrize("reference", ["fipo-tiny", "fipo-tiny@champion", "fipo-tiny/1", "models:/fipo-tiny@candidate"])
def test_a_registered_model_is_brought_and_left_as_it_is(tiny_pipeline, artifact, reference):
    arguments = {"recipe_changes": [*tiny_pipeline.overrides, "run.name=other"], "goal": "score"}
    config, _, found = call(artifact, tiny_pipeline.recipe, **arguments, registered=reference)
    assert (config.run.directory / config.model.name_or_path / "model.safetensors").is_file()
    assert (config.sft.steps, found.todo) == (0, "prepare sft score")


def test_a_run_may_start_from_a_registered_model(tiny_pipeline, artifact):
    arguments = {"recipe_changes": [*tiny_pipeline.overrides, "run.name=other"]}
    config, *_ = call(artifact, tiny_pipeline.recipe, **arguments, recipe_model="models:/fipo-tiny@champion")
    assert (Path(config.model.name_or_path) / "model.safetensors").is_file()
    assert config.sft.steps == 60


@pytest.mark.parametrize(
    ("reference", "message"),
    [("fipo-tiny@", "expected name, name@alias"), ("fipo-tiny@best", "candidate, champion"), ("fipo-tiny/7", "7")],
)
def test_says_which_models_there_are(tiny_pipeline, artifact, reference, message, capsys):
    with pytest.raises(SystemExit):
        call(artifact, tiny_pipeline.recipe, recipe_changes=tiny_pipeline.overrides, registered=reference)
    assert message in capsys.readouterr().err


def test_on_the_local_runner(tmp_path):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    changes = ["run.seed=7", f"run.directory={tmp_path}"]
    task = configure(recipe="demo", recipe_changes=changes, **MADE)
    assert task.outputs["overrides"] == changes
    assert task.outputs["todo"] == "prepare sft train evaluate gate register report"
    assert "seed: 7" in Path(task.outputs["settings"].path).read_text()
