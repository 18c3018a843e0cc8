"""The live display: what it shows of the files of a run, and that it prints nothing of its own without a terminal."""

import io
import json
import sys
import time

from rich.console import Console

from fipo.report.display import Display, live_display, newest
from fipo.run.stages import Pace, Stage, at_work, write_pace, write_stage


def shown(display: Display, width: int = 100) -> list[str]:
    file = io.StringIO()
    Console(width=width, file=file, color_system=None).print(display.render())
    return file.getvalue().splitlines()


def journal(path, *points) -> None:
    lines = [{"kind": "metrics", "time": 0, "step": step, "values": values} for step, values in points]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def test_the_checklist_has_this_pass_alone(tmp_path):
    write_stage(tmp_path, "prepare", Stage("done", "", "", time.time() - 999, 3.1))
    write_stage(tmp_path, "sft", Stage("failed", "", "", time.time() - 900))
    display = Display(tmp_path, "report")
    assert shown(display)[0].split("   ")[:2] == ["○ prepare", "○ sft"]
    write_stage(tmp_path, "prepare", Stage.reused_at(tmp_path, "f", 3.1))
    assert shown(display)[0].split("   ")[:2] == ["✓ prepare found", "○ sft"]


def test_the_present_step_shows_rate_time_left_and_newest_numbers(tmp_path, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    display, train = Display(tmp_path, "report"), tmp_path / "train"
    train.mkdir()
    with at_work(tmp_path, "train", folder=train, fingerprint="f"):
        steps, part = Pace("steps", 12, 40, 0.2, time.time()), Pace("step 13: sampling", 96, 256, 8.0, time.time())
        write_pace(train, {"steps": steps, part.what: part})
        first = {"rollout/accuracy": 0.25, "rollout/response_tokens_mean": 7.0}
        second = {"rollout/accuracy": 0.9114, "train/influence_weight_mean": 0.999, "train/influence_weight_std": 0.024}
        journal(train / "journal.jsonl", (11, first), (12, second))
        checklist, whole, sampling, numbers = shown(display)
    assert "▶ train 0." in checklist and "○ evaluate" in checklist
    assert "12 of 40" in whole and "5 s each  2 min 20 s left" in whole
    assert "step 13: sampling" in sampling and "96 of 256" in sampling and "20.0 s left" in sampling
    assert numbers.split() == ["accuracy", "0.911", "tokens", "7.0", "f", "0.999", "±", "0.024"]


def test_a_long_journal_is_read_from_its_end(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal(path, *((step, {"rollout/accuracy": step / 10_000, "perf/step_seconds": 1.0}) for step in range(10_000)))
    with path.open("a") as file:
        file.write('{"kind":"metrics","step":10000,"values":{"rollout/acc')
    assert newest(path) == {"accuracy": "1.000"}
    assert newest(tmp_path / "none.jsonl") == {}


def test_without_a_terminal_lines_stay_as_they_are(tmp_path, capsys):
    with live_display(tmp_path, "report"):
        print("[train] step 1/1")
    assert capsys.readouterr().out == "[train] step 1/1\n"


def test_in_a_terminal_lines_stand_above_the_display(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with live_display(tmp_path, "report"):
        print("[train] [bold]step[/bold] 1/1")
    text = terminal.getvalue()
    assert "[train] [bold]step[/bold] 1/1" in text, "a line is text, whatever it holds"
    assert text.rindex("report") > text.index("step")
