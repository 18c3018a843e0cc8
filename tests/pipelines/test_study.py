"""A study as a pipeline run: the same trials as on one machine."""

import json
from pathlib import Path

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.study.registration import registered
from fipo.study.study import load_study
from fipo_kfp.components.form import Form
from fipo_kfp.pipelines.__main__ import _parameters, _parser
from fipo_kfp.pipelines.package import arguments
from fipo_kfp.pipelines.study import parameters

STUDY = """\
name: kept
tasks:
  easy: {recipe: demo, settings: ['data.train=[{generator: {digits: 3, seed: 4}, limit: 100}]']}
  hard: {recipe: demo-16}
settings: [train.steps=2, "registry={model_name: fipo-kept}"]
arms:
  long: [algorithm.half_life=128, "evaluation={samples: 2, top_p: 1.0}"]
  dapo: [algorithm.loss=dapo]
baseline: dapo
seeds: [3, 5]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


@pytest.mark.parametrize("task", ["easy", "hard"])
def test_its_runs_are_the_trials_of_the_study(file, task):
    given = arguments("fipo_comparison", parameters(file, task), [])
    form = Form(given["recipe"], [])
    trials = {trial.name: trial for trial in load_study(file).trials() if trial.task == task}
    for warmup in given["warmups"]:
        shared = load_config(form.recipe, ["run.directory=here", *form.overrides("", warmup)])
        for arm in given["arms"]:
            config = load_config(form.recipe, ["run.directory=here", *form.overrides(arm, warmup)])
            trial = trials.pop(config.run.name)
            assert config == trial.config(Path("here"))
            assert shared == trial.config(Path("here"), warmup=True)
    assert not trials, "each of them is run"
    assert given["arms"][0].split()[0] == "dapo", "the baseline is the first"
    assert registered(file)


def test_the_task_of_several_must_be_named(file):
    for task in ("", "harder"):
        with pytest.raises(ConfigError, match=rf"one of easy, hard; got '{task}'"):
            parameters(file, task)
    assert not registered(file), "what is refused is not registered"


def test_a_study_is_an_option_of_the_pipelines(file):
    for command in (["run"], ["submit"], ["schedule", "--name", "weekly", "--cron", "0 0 3 * * 0"]):
        options = _parser().parse_args([*command, "--study", str(file), "--task", "hard", "--parameter", "run_nodes=2"])
        given = _parameters(options)
        assert options.pipeline == "fipo_comparison" and given["run_nodes"] == "2"
        assert json.loads(given["study"])["tasks"].keys() == {"hard"}
