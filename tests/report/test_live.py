"""The report while the run lives: what it shows at each moment, over HTTP too, and that it never fails a run."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest

from fipo.report.data import Live, ReportData, Said, SameProblem, SetAside
from fipo.report.gathered import told_apart, warnings_in
from fipo.report.html import build_report
from fipo.report.live import LivePage, live_page
from fipo.report.pages import listed, serve_reports
from fipo.report.training_figures import learning_curves
from fipo.run.stages import Pace, Stage, at_work, read_pace, read_stages, write_pace, write_stage
from fipo.run.step import steps_to

AT = 1_795_700_527.0
"""2026-11-26 13:42:07 UTC."""
HOSTILE = '</title><script>alert("x")</script>'


def live(name: str, state: str = "running", *, why: str = "", paces=(), refresh: float | None = 5.0) -> Live:
    order = steps_to("report")
    before = order[: order.index(name)]
    stages = {step: Stage("done", "", "", 0.0, 3.1) if step in before else None for step in order}
    stages[name] = Stage(state, "", "", 0.0, why=why)
    return Live(stages, {pace.what: pace for pace in paces}, AT, refresh)


def page(live: Live, **fields) -> str:
    return build_report(ReportData(run="demo", recipe="demo", loss="fipo", benchmarks=(), live=live, **fields))


def test_before_the_first_metric_the_page_says_what_is_done():
    html = page(live("prepare"))
    assert "<h1>Preparing the problems …</h1>" in html
    assert '<meta http-equiv="refresh" content="5">' in html and "as of 13:42:07 UTC" in html
    assert html.count("<svg") == 0


def test_time_left_follows_rate_and_clock():
    # 12 of 40 steps at a fifth a second: 140 s from then, and then was 20 s ago.
    pace = Pace("steps", 12, 40, 0.2, AT - 20)
    assert pace.left_at(AT) == pytest.approx(120)
    assert "Training: step 12 of 40, 2 min 00 s left." in page(live("train", paces=[pace]))


def test_curves_and_numbers_are_there_from_the_first_steps(data):
    html = page(live("train"), history=data.history[:2], steps=16)
    assert html.count("<svg role") == 3 + 3 + 3, "learning, influence and stability, a figure for each panel"
    first, second = (100 * metrics["rollout/accuracy"] for _, metrics in data.history[:2])
    assert f"<small>{first:.1f}% →</small>" in html and f"<span>{second:.1f}%</span>" in html


def test_each_reward_function_of_the_users_own_has_a_panel(data):
    said = {"reward/accuracy": 0.5, "reward/overlong": 0.0, "reward/my.rewards.steps": 3.0}
    history = [(step, metrics | said) for step, metrics in data.history[:2]]
    assert page(live("train"), history=history, steps=16).count("<svg role") == 3 + 3 + 3 + 1
    assert learning_curves(history)[-1].axes[0].get_title(loc="left") == "Steps, mean"


def test_a_run_that_has_stopped_says_why_and_is_not_looked_for_again():
    html = page(live("train", "failed", why=HOSTILE, refresh=None))
    assert "<h1>Training has failed.</h1>" in html and "&lt;script&gt;" in html
    assert "<script" not in html and "refresh" not in html


def test_the_newest_answer_stands_beside_the_warm_ups():
    before, after = Said("0 1 \\boxed{3}", "wrong", 5), Said(HOSTILE, "correct", 4)
    html = page(live("train"), answers=[SameProblem("Add 1 0", "1", before, after)], answers_of="RL step 12")
    assert html.index("0 1 \\boxed{3}") < html.index("alert(")
    assert '<span class="outcome wrong">wrong</span>' in html and '<span class="outcome correct">correct</span>' in html
    assert "<script" not in html


def test_rows_that_were_set_aside_are_counted_and_shown():
    rows = SetAside(
        {"not JSON": 1200, "exact duplicate": 3}, [{"where": "a.jsonl, line 7", "reason": "no", "excerpt": HOSTILE}]
    )
    html = page(live("sft"), set_aside=rows)
    assert "1,200 not JSON, 3 exact duplicate" in html and "a.jsonl, line 7" in html and "<script" not in html


def test_warnings_that_differ_by_numbers_are_one():
    said = [
        "step 1/3",
        "warning: step 1: none of 8 is correct",
        "warning: disk",
        "warning: step 2: none of 8 is correct",
    ]
    assert warnings_in(said) == ["disk", "step 2: none of 8 is correct (the newest of 2)"]


def test_the_last_report_shows_three_problems_before_and_after(data):
    first = data.benchmarks[0]
    shown = told_apart(first)
    change = first.candidate.by_problem("avg_at_k") - first.baseline.by_problem("avg_at_k")
    by_text = {problem.problem: gain for problem, gain in zip(first.candidate.problems, change)}
    gains = [by_text[same.problem] for same in shown]
    assert gains[0] == max(change) and gains[2] == min(change) and len(shown) == 3
    html = build_report(replace(data, answers=shown, answers_of="the trained model"))
    assert "The same problems, before and after" in html and html.count('<p class="side"><b>warm-up</b>') == 3


def test_stages_are_those_of_this_pass(tmp_path):
    for step in ("prepare", "sft", "train"):
        with at_work(tmp_path, step, folder=tmp_path / step, fingerprint=step):
            assert read_stages(tmp_path)[step].state == "running"
    with pytest.raises(RuntimeError), at_work(tmp_path, "sft", folder=tmp_path, fingerprint="other"):
        raise RuntimeError("lost")
    assert {step: stage.state for step, stage in read_stages(tmp_path).items()} == {"prepare": "done", "sft": "failed"}
    assert read_stages(tmp_path)["sft"].why == "RuntimeError('lost')"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"train": 3}', '{"train": {"no": 1}}'])
def test_a_damaged_note_is_none(tmp_path, text):
    for name in ("stages.json", "pace.json"):
        (tmp_path / name).write_text(text)
    assert read_stages(tmp_path) == {} and read_pace(tmp_path) == {}


def test_a_page_that_cannot_be_written_is_told_once_and_fails_nothing(tmp_path, capsys):
    broken: Any = SimpleNamespace(of_run=SimpleNamespace(directory=tmp_path))
    thread = LivePage(broken)
    thread._write(5.0)
    thread._write(5.0)
    assert capsys.readouterr().err.count("cannot be written") == 1


@pytest.mark.parametrize(
    ("step", "state", "written"), [("train", "done", True), ("gate", "done", False), ("gate", "failed", True)]
)
def test_a_quick_step_draws_the_page_only_if_it_fails(tmp_path, monkeypatch, step, state, written):
    monkeypatch.setattr("fipo.report.live.page_of", lambda *_: "page")
    monkeypatch.setattr("fipo.report.live.SHORTEST_SECONDS", 0.01)
    workspace: Any = SimpleNamespace(of_run=SimpleNamespace(directory=tmp_path), step=step)
    with live_page(workspace):
        time.sleep(0.2)  # also where a busy machine makes it long
        write_stage(tmp_path, step, Stage(state, "", "", 0.0))
    assert (tmp_path / "report.html").is_file() == written


def test_a_page_that_is_late_does_not_replace_the_last_report(tmp_path, monkeypatch):
    slow: Any = SimpleNamespace(of_run=SimpleNamespace(directory=tmp_path), step="train")
    ready = threading.Event()
    monkeypatch.setattr("fipo.report.live.LAST_SECONDS", 0.01)
    monkeypatch.setattr("fipo.report.live.page_of", lambda *_: ready.wait(600) and "late")
    with live_page(slow):
        pass
    (tmp_path / "report.html").write_text("last")
    ready.set()
    for thread in threading.enumerate():
        if thread.name == "live-page":
            thread.join(60)
    assert (tmp_path / "report.html").read_text() == "last"


AT_ITS_END = """
import pathlib, sys, threading, time
from types import SimpleNamespace
from fipo.report import live
drawing = threading.Event()
def draw(*_):
    drawing.set()
    time.sleep(1)
    print("drawn", flush=True)
live.LAST_SECONDS, live.page_of = 0.01, draw
with live.live_page(SimpleNamespace(of_run=SimpleNamespace(directory=pathlib.Path(sys.argv[1])), step="train")):
    drawing.wait()
"""


def test_a_process_ends_when_what_it_draws_is_drawn(tmp_path):
    """A daemon thread in matplotlib's or Arrow's C++ aborts a process that is at its end."""
    done = subprocess.run([sys.executable, "-c", AT_ITS_END, tmp_path], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "drawn\n"), done.stderr


def test_reports_are_served_as_they_grow(tmp_path):
    run = tmp_path / "mine"
    run.mkdir()
    (run / "report.html").write_text("first")
    (tmp_path / "secret.txt").write_text("secret")
    write_stage(run, "train", Stage("running", str(run), "f", time.time(), process=1, node="elsewhere"))
    write_pace(run, {"steps": Pace("steps", 3, 40, 0.1, time.time())})
    address = serve_reports(tmp_path, 0)
    assert "train: step 3 of 40" in get(address)
    assert get(f"{address}/mine") == "first"
    (run / "report.html").write_text("second")
    assert get(f"{address}/mine/") == "second"
    for path in ("/../secret.txt", "/secret.txt", "/mine/stages.json", "/%2e%2e/secret.txt"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(address + path)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(address, host="evil.example:80")


def test_a_run_whose_process_is_gone_is_told(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("")
    stage = Stage("running", "", "", time.time(), process=2**22 + 1, node=os.uname().nodename)
    write_stage(tmp_path / "mine", "sft", stage)
    assert "its process is gone" in listed(tmp_path)[0].state
    assert json.loads((tmp_path / "mine" / "stages.json").read_text())["sft"] == asdict(stage)


def get(address: str, host: str = "") -> str:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return bytes(answer.read()).decode()
