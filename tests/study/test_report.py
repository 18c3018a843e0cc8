"""From MLflow to the document: means, intervals, paired differences, figures."""

from dataclasses import replace
from pathlib import Path

import pytest
from jinja2.exceptions import SecurityError

from fipo.errors import DataError
from fipo.study.report import DEFAULT_TEXT, score_table, write_report
from fipo.study.results import CURVES, SCORES, TOKENS, compare_results, read_results, store_results, stored_results
from fipo.study.study import Outcome, Study
from fipo.tracking import Tracker
from tests.tracking.found import PATIENT

TINY = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"
STUDY = Study(
    name="demo-study",
    tasks={"sums": {"recipe": str(TINY)}},
    arms={"dapo": ("algorithm.loss=dapo",), "fipo": ()},
    baseline="dapo",
    seeds=(1, 2, 3),
    questions={"losses": {"title": "Losses", "arms": ("fipo",)}},
)
ACCURACY = {("dapo", 1): 0.5, ("dapo", 2): 0.6, ("dapo", 3): 0.7, ("fipo", 1): 0.6, ("fipo", 2): 0.7, ("fipo", 3): 0.8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A study's runs in a real MLflow database, with known numbers."""
    folder = tmp_path_factory.mktemp("study")
    for trial in STUDY.trials():
        uri = trial.config(folder).tracking_uri
        accuracy = ACCURACY[trial.arm, trial.seed]
        for step in ("train", "evaluate"):
            name = f"{trial.name}-{step}"
            with Tracker.open(
                uri,
                experiment=f"{STUDY.name}/{step}",
                run_name=name,
                run_key=name,
                journal=folder / f"{name}.jsonl",
                **PATIENT,
            ) as tracker:
                tracker.params({"run.name": trial.name})
                if step == "train":
                    for rl_step in (1, 2, 3):
                        tracker.log({TOKENS: 100.0, **dict.fromkeys(CURVES, accuracy * rl_step)}, rl_step)
                else:
                    tracker.log({f"eval/sums/{score}": accuracy for score in SCORES}, 0)
    return folder


@pytest.mark.slow
def test_the_table_pairs_arms_by_seed(runs):
    results = read_results(STUDY, runs)
    assert [result.tokens.tolist() for result in results] == [[100.0, 200.0, 300.0]] * 6
    dapo, fipo = score_table(STUDY, STUDY.questions["losses"], results).splitlines()[2:]
    # 60 ± 4.3027 * 10 / sqrt(3); every seed gains exactly 10 points: no spread, and no interval.
    assert "| sums | `dapo` | 60.0 ± 24.8 |" in dapo
    assert "| sums | `fipo` | 70.0 ± 24.8 |" in fipo
    assert "| +10.0 |" in fipo
    # The curve is 1, 2 and 3 times the accuracy at 100, 200 and 300 tokens: twice it over all of them.
    assert "| 120.0 ± 49.7 |" in dapo
    assert "| +20.0 |" in fipo
    assert "| +0.10 |" in fipo


@pytest.mark.slow
def test_the_document_and_its_figures_are_written(runs, tmp_path):
    def write(text, name="study", study=STUDY):
        document = tmp_path / "docs" / f"{name}.md"
        return write_report(study, read_results(STUDY, runs), document, text=text, standing="Registered.")

    document, figure = write("{{ trials }} trials: {{ value('sums', 'fipo') }}\n{{ figure('losses') }}\n")
    assert document.read_text() == "6 trials: 70.0 ± 24.8\n![Losses](images/study-losses.png)\n"
    assert figure.read_bytes().startswith(b"\x89PNG")
    document, figure = write("{{ overview() }}", "other")
    assert document.read_text() == "![Every arm against dapo](images/other-overview.png)"
    assert figure.read_bytes().startswith(b"\x89PNG")

    with pytest.raises(DataError, match="'colours'; questions are losses"):
        write("{{ table('colours') }}")
    decided = STUDY.model_copy(update={"outcome": Outcome(score="avg_at_k", smallest_effect=0.05), "questions": {}})
    document, *_ = write(DEFAULT_TEXT.read_text(), "any", decided)
    # Every seed gains exactly 10 points: three on one side are chance once in four times.
    assert "| sums | `fipo` | +10.0 | 0.25 | 1 | 3 | **undecided** |" in document.read_text()
    assert "## All arms" in document.read_text() and "Registered." in document.read_text()
    with pytest.raises(SecurityError):
        write("{{ study.__class__.__mro__ }}")


def test_a_study_without_runs_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="fipo study run"):
        read_results(STUDY, tmp_path)


@pytest.mark.slow
def test_stored_results_make_the_same_table(runs, tmp_path):
    results = read_results(STUDY, runs)
    store_results(results, tmp_path / "study.jsonl")
    stored = stored_results(STUDY, tmp_path / "study.jsonl")
    assert score_table(STUDY, STUDY.questions["losses"], stored) == score_table(
        STUDY, STUDY.questions["losses"], results
    )
    assert stored[0].curves.keys() == CURVES.keys()
    assert stored[0].tokens.tolist() == [100.0, 200.0, 300.0]


def test_stored_results_of_another_study_are_refused(tmp_path):
    path = tmp_path / "study.jsonl"
    with pytest.raises(DataError, match="does not exist"):
        stored_results(STUDY, path)
    path.write_text('{"run": "other-s1-dapo", "scores": {}, "tokens": [], "curves": {}}\n')
    with pytest.raises(DataError, match="'other-s1-dapo' is no trial of study demo-study"):
        stored_results(STUDY, path)


@pytest.mark.slow
def test_a_rerun_is_held_against_the_kept_results(runs, tmp_path):
    results = read_results(STUDY, runs)
    store_results(results[:5], tmp_path / "kept.jsonl")
    kept = stored_results(STUDY, tmp_path / "kept.jsonl")
    kept[1] = replace(kept[1], scores={**kept[1].scores, "avg_at_k": 0.25})
    kept[2].curves["train/entropy"][1] += 1e-4
    same, score, curve, *_, new = compare_results(results, kept)
    assert same == f"{results[0].trial.name:44} avg@k 50.00  every score and curve as kept"
    assert score.endswith("avg@k 60.00  differs from the kept run's 25.00")
    assert curve.endswith("avg@k 60.00  differs from the kept run's 60.00")
    assert new.endswith("not among the kept results")
