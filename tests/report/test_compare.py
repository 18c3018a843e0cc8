"""`fipo compare` on runs as their evaluations left them in the object store."""

import re

import pytest

from fipo.cli import main
from fipo.config import load_config
from fipo.evaluation.tables import write_result
from fipo.report.compare import figure_name
from fipo.run.result import StepResult
from fipo.run.run import Run
from fipo.run.step import steps_to
from tests.finished import finish


@pytest.fixture
def finished(tmp_path, data):
    """A run whose trained model gave these answers; returns its folder."""

    def finish(name, result):
        config = load_config("demo", [f"run.directory={tmp_path}", f"run.name={name}"])
        Run(config).write_settings()
        workspace = Run(config).step("prepare")
        write_result(result, tmp_path / name / "results" / "trained")
        output = workspace.publish("results", tmp_path / name / "results")
        workspace.step = "evaluate"
        workspace.commit(StepResult("evaluate", "0" * 64, 1.0, {"results": output}))
        return str(tmp_path / name)

    return finish


def test_runs_are_compared_with_paired_intervals(finished, data, tmp_path, capsys):
    before, after = data.benchmarks[0].baseline, data.benchmarks[0].candidate
    main(["compare", finished("dapo", before), finished("fipo", after), "--figure", str(tmp_path / "figure.png")])
    printed = capsys.readouterr().out
    change = data.benchmarks[0].differences["avg_at_k"]
    expected = f"{100 * change.value:+.1f} [{100 * change.low:.1f}, {100 * change.high:.1f}]"
    assert expected in re.sub(r"\s+", " ", printed)
    assert "dapo" in printed and "fipo" in printed
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_answers_of_other_settings_are_told(data, tmp_path, capsys):
    """The second run has been trained, measured, and begun anew with another learning rate."""
    write_result(data.benchmarks[0].baseline, tmp_path / "answers" / "trained")
    configs = [load_config("demo", [f"run.directory={tmp_path}", f"run.name={name}"]) for name in ("one", "two")]
    for config in configs:
        for step in steps_to("evaluate"):
            output = {"prepare": "dataset", "evaluate": "results"}.get(step, "model")
            finish(config, step, {output: tmp_path / "answers"})
        Run(config).write_settings()
    command = ["compare", str(tmp_path / "one"), str(tmp_path / "two")]
    main(command)
    assert "outdated" not in capsys.readouterr().out
    Run(load_config("demo", [f"run.directory={tmp_path}", "run.name=two", "train.learning_rate=1e-3"])).write_settings()
    main(command)
    assert [line for line in capsys.readouterr().out.splitlines() if "outdated" in line] == [
        "two: these answers are outdated, of other settings than the run has now: see `fipo status`"
    ]


def test_a_picture_that_cannot_be_written_is_told(finished, data, tmp_path, capsys):
    runs = [finished(name, data.benchmarks[0].baseline) for name in ("one", "two")]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *runs, "--figure", str(tmp_path)])
    assert ended.value.code == 2
    assert f"fipo: {tmp_path}: Is a directory: name another place" in capsys.readouterr().err


def test_a_picture_of_many_runs_has_a_name_that_a_file_can_have(tmp_path):
    runs = [Run(load_config("demo", [f"run.name=half-life-task-s{seed}-fipo"])) for seed in range(20)]
    name, other = figure_name(runs), figure_name(runs[:-1])
    assert name.startswith("compare-half-life-task-s0-fipo-") and name != other
    (tmp_path / name).touch()


def test_long_names_are_not_folded_in_a_pipe(finished, data, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    names = [f"half-life-my-own-task-s1-{arm}" for arm in ("dapo-baseline", "fipo-half-life-128")]
    main(["compare", *(finished(name, data.benchmarks[0].baseline) for name in names)])
    lines = capsys.readouterr().out.splitlines()
    assert all(sum(f"{name} " in line for line in lines if "compare-" not in line) >= 4 for name in names)


@pytest.mark.parametrize("names", [["one"], ["one", "one"]])
def test_a_comparison_needs_two_runs(finished, data, names, capsys):
    runs = [finished(name, data.benchmarks[0].baseline) for name in names]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *runs])
    assert ended.value.code == 2
    assert "at least two different runs" in capsys.readouterr().err


def test_a_run_that_is_not_evaluated_is_named(finished, data, tmp_path, capsys):
    Run(load_config("demo", [f"run.directory={tmp_path}", "run.name=early"])).write_settings()
    with pytest.raises(SystemExit):
        main(["compare", finished("done", data.benchmarks[0].baseline), str(tmp_path / "early")])
    assert "run 'early': not evaluated yet" in capsys.readouterr().err
