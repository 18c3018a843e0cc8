"""Studies: what is refused, what a trial is, and that its settings are recipes of their own."""

from pathlib import Path

import pytest
import yaml

from fipo.errors import ConfigError
from fipo.study.registration import register, standing
from fipo.study.study import load_study

STUDIES = Path(__file__).parents[2] / "studies"
TINY = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_load_and_their_questions_cover_all_arms(path):
    study = load_study(path)
    asked = {study.baseline, *(arm for question in study.asked.values() for arm in question.arms)}
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
    return path


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
        ({"seeds": [1]}, r"study .*study\.yaml: seeds: .*; got \[1\]$"),
        ({"seed": [1, 2]}, r"study .*study\.yaml: seed: no such setting; did you mean 'seeds'\?; got \[1, 2\]$"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_study(write(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "a: [", "3", "name: s"])
def test_what_is_no_study_is_refused(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load_study(path)
    path.write_text(yaml.safe_dump({"name": "s"}) + "arms: {a: [], a: []}")
    with pytest.raises(ConfigError, match="'a' stands twice"):
        load_study(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    with pytest.raises(ConfigError, match=r"study\.yaml: not YAML"):
        load_study(path)
    with pytest.raises(ConfigError, match=r"no-such\.yaml: no such file"):
        load_study(tmp_path / "no-such.yaml")


def test_a_recipe_beside_the_study_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text(TINY.read_text())
    path = write(tmp_path, tasks={"sums": {"recipe": "own.yaml"}, "shipped": {"recipe": "demo"}})
    monkeypatch.chdir("/")
    recipes = {name: task.recipe for name, task in load_study(path).tasks.items()}
    assert recipes == {"sums": str(tmp_path / "own.yaml"), "shipped": "demo"}


def test_a_study_without_questions_shows_all_arms(tmp_path):
    assert load_study(write(tmp_path, questions={})).asked["arms"].arms == ("fipo",)


def test_what_is_registered_after_a_look_says_so_and_so_does_a_recipe_that_was_changed(tmp_path):
    (tmp_path / "mine.yaml").write_text(TINY.read_text())
    path = write(tmp_path, tasks={"sums": {"recipe": "mine.yaml"}})
    assert "not registered" in standing(path)
    register(path)
    assert "before the first trial" in standing(path) and standing(path).endswith("the file is unchanged.")
    assert register(path, begun=3).begun == 0, "the first counts"
    (tmp_path / "mine.yaml").write_text(TINY.read_text() + "# another\n")
    assert "**the recipe of sums was changed since**" in standing(path)
    path.write_text(path.read_text() + "# another\n")
    assert "**the file and the recipe of sums were changed since**" in standing(path)
    path.with_suffix(".registered.json").unlink()
    register(path, begun=3)
    assert "**after 3 of its trials had begun**" in standing(path)
