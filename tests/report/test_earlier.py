"""`fipo report` on a run that has begun anew under other settings."""

import json
from pathlib import Path

import pytest

from fipo.cli import main
from fipo.config import load_config
from fipo.run.run import Run
from fipo.run.step import steps_to
from tests.finished import finish

SUMMARY = {
    "model": {"name": "adder", "version": "3"},
    "gate": {"passed": False, "reason": "avg_at_k on sums is 41.00%, below 90%"},
}


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Runs of these settings in `runs`: the steps up to one are done, and the folder is as the last of them left it."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "made"
    made.mkdir()
    (made / "report.html").write_text("the finished page")
    (made / "summary.json").write_text(json.dumps(SUMMARY))

    def begun(last, *overrides):
        config = load_config("demo", overrides)
        Run(config).write_settings()
        (config.run_directory / "report.html").write_text("the page of what is under way")
        for step in steps_to(last):
            outputs = dict.fromkeys(("report", "results", "model", "dataset", "records"), made)
            finish(config, step, outputs, finished="2026-03-04T05:06:07+00:00")
        return config

    return begun


def test_the_last_report_is_shown_while_other_settings_are_under_way(begun, capsys):
    begun("report")
    config = begun("prepare", "train.steps=5")
    main(["report", "demo"])
    printed = capsys.readouterr().out
    assert "run 'demo' has not finished with the settings that it has now" in printed
    assert "2026-03-04 05:06 UTC, with other settings" in printed
    assert "adder version 3 (candidate): avg_at_k on sums is 41.00%, below 90%" in printed
    [report] = [line.split()[1] for line in printed.splitlines() if line.startswith("report ")]
    assert Path(report).read_text() == "the finished page"
    assert (config.run_directory / "report.html").read_text() == "the page of what is under way"


def test_a_run_without_a_report_says_what_is_missing(begun, capsys):
    begun("prepare")
    with pytest.raises(SystemExit) as ended:
        main(["report", "demo"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "needs the result of 'sft'" in told and "What there is so far: runs/demo/report.html" in told


def test_a_picture_is_not_drawn_of_other_settings(begun, capsys):
    begun("report")
    begun("prepare", "train.steps=5")
    with pytest.raises(SystemExit) as ended:
        main(["report", "demo", "--figure", "demo.png"])
    assert ended.value.code == 2
    assert "needs the result of 'train'" in capsys.readouterr().err
