"""Studies: what is refused, what a trial is, and that its settings are recipes of their own."""

from pathlib import Path

import pytest
import yaml

from experiments.study import FOLDER, load_study
from fipo.errors import ConfigError

TINY = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_load_and_their_questions_cover_all_arms(path):
    study = load_study(path.stem)
    asked = {study.baseline, *(arm for question in study.questions.values() for arm in question.arms)}
    assert asked == study.arms.keys()
    assert len(study.seeds) >= (2 if study.name == "pilot" else 5)
    assert len({trial.name for trial in study.trials()}) == len(study.tasks) * len(study.arms) * len(study.seeds)


def write(tmp_path, **changes):
    study = {
        "name": "s",
        "tasks": {"sums": {"recipe": str(TINY)}},
        "arms": {"dapo": ["algorithm.loss=dapo"], "fipo": ["algorithm.half_life=8"]},
        "baseline": "dapo",
        "seeds": [3, 4],
        "questions": {"losses": {"title": "Losses", "arms": ["fipo"]}},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study | changes))
    return str(path)


def test_arms_of_a_seed_share_a_warm_up_and_differ_in_their_settings(tmp_path):
    study = load_study(write(tmp_path))
    trials = {trial.name: trial for trial in study.trials()}
    assert list(trials) == ["s-sums-s3-dapo", "s-sums-s3-fipo", "s-sums-s4-dapo", "s-sums-s4-fipo"]
    dapo, fipo = trials["s-sums-s3-dapo"], trials["s-sums-s3-fipo"]
    assert dapo.warmup == fipo.warmup == "s-sums-s3"
    config = fipo.config(tmp_path)
    assert (config.run.seed, config.algorithm.half_life, config.algorithm.loss) == (3, 8.0, "fipo")
    assert fipo.config(tmp_path, warmup=True).algorithm.half_life == 32.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "grpo"}, "must name arms; got grpo"),
        ({"arms": {"dapo": ["algorithm.lost=dapo"], "fipo": []}}, r"algorithm\.lost: no such setting"),
        ({"seeds": [1]}, "seeds"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_study(write(tmp_path, **changes))


def test_an_unknown_study_names_the_known_ones():
    with pytest.raises(ConfigError, match="demo-study"):
        load_study("no-such")
