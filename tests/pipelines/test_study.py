"""A study as a pipeline run: the same trials as on one machine."""

import json
from pathlib import Path

import pytest

from fipo.config import load_config
from fipo.study.registration import registered
from fipo.study.study import load_study
from fipo_kfp.components.form import Form
from fipo_kfp.pipelines.__main__ import _parameters, _parser, _pipeline
from fipo_kfp.pipelines.package import arguments
from fipo_kfp.pipelines.study import parameters

TINY = Path(__file__).parent / "tiny.yaml"
STUDY = f"""\
name: kept
tasks:
  sums: {{recipe: {TINY}}}
  hard: {{recipe: demo-16, settings: ['data.train=[{{generator: {{digits: 3, seed: 4}}, limit: 100}}]']}}
settings: [train.checkpoint_every=2, "registry={{model_name: fipo-kept}}"]
arms:
  dapo: [algorithm.loss=dapo]
  long: [algorithm.half_life=128, "evaluation={{samples: 2, top_p: 1.0}}"]
baseline: dapo
seeds: [3, 5]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def test_its_runs_are_the_trials_of_the_study(file):
    given = arguments("fipo_study", parameters(file), [])
    trials = {trial.name: trial for trial in load_study(file).trials()}
    for asked in given["trials"]:
        form = Form(asked["recipe"])
        config, shared = (
            load_config(form.recipe, ["run.directory=here", *form.overrides(asked[name])]) for name in ("arm", "warmup")
        )
        trial = trials.pop(config.run.name)
        assert config == trial.config(Path("here"))
        assert shared == trial.config(Path("here"), warmup=True)
        assert {"recipe": asked["recipe"], "arm": asked["warmup"]} in given["warmups"]
    assert not trials, "each of them is run"
    assert len(given["warmups"]) == 4, "once a seed and task"
    assert registered(file)


def test_a_study_is_an_option_of_the_pipelines(file):
    for command in (["run"], ["submit"], ["schedule", "--name", "weekly", "--cron", "0 0 3 * * 0"]):
        options = _parser().parse_args([*command, "--study", str(file), "--parameter", "run_nodes=2"])
        given = _parameters(options)
        assert _pipeline(options) == "fipo_study" and given["run_nodes"] == "2"
        assert len(json.loads(given["trials"])) == 8
